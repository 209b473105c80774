"""A FakeGitLab for other programs to play with: fixed address, the machine's time, a filled world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from asyncjobs.testing._generations import Generation
from asyncjobs.testing._server import FakeGitLab
from asyncjobs.testing._settings import Delivery
from asyncjobs.testing._time import ScaledClock
from asyncjobs.testing.worlds import demo_world


@asynccontextmanager
async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    storage_port: int = 0,
    generation: Generation = "19.5",
    delivery: Delivery = "local",
    speed: float = 1.0,
    token: str | None = None,
    world: Callable[[FakeGitLab], object] = demo_world,
) -> AsyncIterator[FakeGitLab]:
    """Serve a FakeGitLab while the block runs; nothing is printed.

    Args:
        host: Address to listen on.
        port: Port of the API; 0 takes a free one, see `gitlab.url`.
        storage_port: Port of the second origin.
        generation: "9.1", "18" or "19.5".
        delivery: How archives come: "local", "direct" or "proxy".
        speed: Fake seconds per real one.
        token: A private token to accept besides `gitlab.token`.
        world: Fills the world before serving begins.

    Raises:
        OSError: A port is taken or the address is not ours.

    Cancellation: both servers are closed.
    """
    gitlab = FakeGitLab(
        generation,
        clock=ScaledClock(speed),
        delivery=delivery,
        host=host,
        port=port,
        storage_port=storage_port,
    )
    if token is not None:
        gitlab.add_token("private", value=token)
    world(gitlab)
    async with gitlab:
        yield gitlab
