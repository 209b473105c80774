"""`fake-server`: the fake GitLab as a program, for trying things and for tests in any language."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Literal, get_args

import click

from asyncjobs.cli.codes import ExitCode, UsageError
from asyncjobs.cli.framework import Session, command, json_option, quiet_server_log
from asyncjobs.cli.params import FACTOR

Delivery = Literal["local", "direct", "proxy"]
Generation = Literal["9.1", "18", "19.5"]


@command("fake-server", short_help="Serve a fake GitLab with a small busy world.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=0,
    metavar="N",
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
    show_default=True,
)
@click.option(
    "--generation",
    type=click.Choice(get_args(Generation)),
    default="19.5",
    show_default=True,
    help="Which GitLab to be.",
)
@click.option(
    "--delivery",
    type=click.Choice(get_args(Delivery)),
    default="local",
    show_default=True,
    help="How archives come: by the API, by redirect to a second origin, or from there through the API.",
)
@click.option(
    "--speed",
    type=FACTOR,
    default=1.0,
    show_default=True,
    metavar="N",
    help="Its seconds per real one.",
)
@json_option
async def fake_server(
    session: Session,
    host: str,
    port: int,
    generation: Generation,
    delivery: Delivery,
    speed: float,
    as_json: bool,
) -> int:
    """Serve a fake GitLab until Ctrl-C, with projects, running jobs and archives.

    Standard output gets what a shell needs to use it. Its tokens open nothing else.

    Examples:
        asyncjobs fake-server --port 8929 > fake.env &
        . ./fake.env; asyncjobs jobs groups/shop
    """
    # No other command needs a web server.
    from asyncjobs.testing import serve  # noqa: PLC0415
    from asyncjobs.testing.worlds import GROUP  # noqa: PLC0415

    quiet_server_log(session.settings)
    async with contextlib.AsyncExitStack() as stack:
        try:
            gitlab = await stack.enter_async_context(
                serve(host=host, port=port, generation=generation, delivery=delivery, speed=speed)
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(f"{host}:{port} cannot be used: {why}; choose --host and --port") from None
        values = {"GITLAB_URL": gitlab.url, "GITLAB_TOKEN": gitlab.token}
        if as_json:
            await session.record(values)
        else:
            lines = "".join(f"export {key}={value}\n" for key, value in values.items())
            await session.out.write(lines.encode())
        session.news.say(f"a fake GitLab {generation} is at {gitlab.url} until Ctrl-C", style="bold")
        session.news.say(
            f"look at it with `asyncjobs jobs groups/{GROUP}`; what runs is over in a quarter of a minute,"
            f" and `asyncjobs retry groups/{GROUP} --yes` starts more"
        )
        await asyncio.Event().wait()
    return ExitCode.OK
