"""Canaries: secrets planted everywhere, and every place that text can reach searched for them.

The frames of this file hold the secrets on purpose, so tracebacks begin below it: each call is made
by `attempt`, which knows none, and its own frame is the first that a traceback shows.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncjobs import AsyncJobsError, Client, JobRef, ProjectRef, RetryPolicy, Timeouts
from tests.support.clients import open_client
from tests.support.forwardproxy import ForwardProxy
from tests.support.rawserver import RawServer, Received, Wire, end, http
from tests.support.sinks import Records, found_in, of_error, of_object

SECRETS = {
    "private token": "glpat-CANARY-private-0001",
    "job token": "glcbt-CANARY-job-0002",
    "oauth token": "gloas-CANARY-oauth-0003",
    "rotated token": "glpat-CANARY-rotated-0004",
    "proxy password": "CANARYproxypassword0005",
    "presigned signature": "CANARYsignature0006",
    "password in a Location": "CANARYlocationpass0007",
    "cookie": "CANARYcookie0008",
    "netrc password": "CANARYnetrc0009",
    "token in a query": "CANARYquerytoken0010",
    "job variable": "CANARYvariable0011",
    "password in the configured URL": "CANARYurlpass0012",
    "token with a line end": "CANARY control\r\n0013",
    "client key password": "CANARYkeypass0014",
}
JOB = {"id": 8, "name": "test", "status": "success"}
KINDS = {
    "private_token": SECRETS["private token"],
    "job_token": SECRETS["job token"],
    "oauth_token": SECRETS["oauth token"],
}
FAST = RetryPolicy(attempts=2, base=0.01)
Call = Callable[[Client], Awaitable[object]]


class Hostile:
    """A server that repeats everything it was told, wherever an error could pick it up."""

    def __init__(self) -> None:
        self.mood = "message"
        self.elsewhere = ""

    async def __call__(self, request: Received, wire: Wire) -> None:
        """Answer one request in the mood of the moment."""
        told = " ".join(value for name, value in request.headers if name.lower() in _TELLING)
        cookie = {"Set-Cookie": f"_gitlab_session={SECRETS['cookie']}"}
        query = f"private_token={SECRETS['token in a query']}"
        match self.mood:
            case "message":
                await wire.write(http(403, {"message": f"no {told}"}, cookie))
            case "error":
                text = {"error": f"bad {told}", "error_description": f"because {told}"}
                await wire.write(http(401, text, cookie))
            case "server error":
                await wire.write(http(500, f"<html><title>{told}</title></html>".encode(), cookie))
            case "header":
                await wire.write(http(404, {"message": "x"}, {"X-Request-Id": told, **cookie}))
            case "html":
                await wire.write(http(200, f"<html>Sign in {told}</html>".encode(), cookie))
            case "wrong json":
                await wire.write(http(200, {"id": told, "name": [told], "status": "x"}, cookie))
            case "encoding":
                await wire.write(http(200, b"x", {"Content-Encoding": told}))
            case "retry after":
                await wire.write(http(429, told.encode(), {"Retry-After": "9" * 9}))
            case "redirect":
                secret = SECRETS["password in a Location"]
                location = f"http://u:{secret}@{self.elsewhere}?X-Sig={SECRETS['presigned signature']}"
                await wire.write(http(302, told.encode(), {"Location": f"{location}&{query}", **cookie}))
            case "bad redirect":
                await wire.write(http(302, b"", {"Location": f"ftp://u:{told}@h/{told}?{query}"}))
            case "odd redirect":
                await wire.write(http(302, b"", {"Location": f"http://u:{told}@[/x?{query}"}))
            case "token in a path":
                await wire.write(http(302, b"", {"Location": f"/elsewhere/{told}?{query}"}))
            case "link":
                job = {"id": request.number, "name": "a", "status": "x"}
                link = f'<http://x/?{query}&{told}>; rel="next"'
                await wire.write(http(200, [job], {"Link": link}))
            case "cut":
                await wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + told.encode())
                await asyncio.sleep(1.0)
                wire.fin()
            case "garbage":
                await wire.write(told.encode() + b"\r\n\r\n")
                wire.fin()
            case "bad header":
                await wire.write(b"HTTP/1.1 200 OK\r\nX\0" + told.encode() + b": 1\r\n\r\n")
                wire.fin()
            case how:
                await end(wire, how)


_TELLING = {"private-token", "job-token", "authorization"}
MOODS = [
    "message", "error", "server error", "header", "html", "wrong json", "encoding", "retry after", "redirect",
    "bad redirect", "odd redirect", "token in a path", "link", "cut", "garbage", "bad header", "fin", "reset",
    "hang",
]  # fmt: skip


async def list_jobs(client: Client) -> None:
    """Two pages of a listing."""
    async for _ in client.iter_pipeline_jobs(3, 4):
        pass


async def fan_out(client: Client) -> None:
    """Several targets at once, all of which fail."""
    async with client.stream_jobs([ProjectRef(3), JobRef(3, 8), "group/app/-/pipelines/6"]) as jobs:
        async for _ in jobs:
            pass


async def download(client: Client) -> None:
    """An archive, of which the caller keeps nothing."""
    async with client._api.open_artifacts(JobRef(3, 8)) as body:
        async for piece in body:
            del piece


async def play(client: Client) -> object:
    """A write with a secret in its body."""
    return await client.play_job(3, 8, variables=_Variables())


class _Variables(dict[str, str]):
    """The caller's own mapping, which hides itself; what we make of it must hide as well."""

    def __init__(self) -> None:
        super().__init__({"DEPLOY_KEY": SECRETS["job variable"]})

    def __repr__(self) -> str:
        return "<the caller's>"


CALLS: dict[str, Call] = {
    "get": lambda client: client.get_job(3, 8),
    "list": list_jobs,
    "archive": download,
    "retry": lambda client: client.retry_job(3, 8),
    "play": play,
    "fan out": fan_out,
    "given up": lambda client: asyncio.wait_for(client.get_job(3, 8), 1e-9),
    "given up later": lambda client: asyncio.wait_for(client.get_job(3, 8), 0.005),
}


async def attempt(call: Call, client: Client) -> BaseException | None:
    """The error of a call, with a traceback that begins here."""
    try:
        await call(client)
    except (AsyncJobsError, TimeoutError) as error:
        return error
    return None


@asynccontextmanager
async def hostile_world(records: Records, **options: object) -> AsyncIterator[tuple[Hostile, Client]]:
    """A hostile server and a client of it, everything logged at the lowest level."""
    hostile = Hostile()
    loggers = [logging.getLogger(name) for name in ("", "asyncjobs", "aiohttp.client", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    loggers[0].addHandler(records)
    timeouts = Timeouts(idle=5.0, control_total=9.0, first_byte=5.0)
    try:
        async with (
            RawServer(hostile) as server,
            open_client(server.url, retry=FAST, timeouts=timeouts, **options) as client,
        ):
            hostile.elsewhere = f"127.0.0.1:{server.port}/elsewhere/archive.zip"
            yield hostile, client
    finally:
        loggers[0].removeHandler(records)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_secret_in_any_sink(
    kind: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In no mood of a hostile server does any secret reach any text that we or asyncio or aiohttp make."""
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login u password {SECRETS['netrc password']}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    asyncio.get_running_loop().set_debug(True)
    records, texts, failures = Records(), [], 0
    async with hostile_world(records, **{kind: KINDS[kind]}) as (hostile, client):
        for mood in MOODS:
            hostile.mood = mood
            error = await attempt(CALLS[call], client)
            if error is not None:
                failures += 1
                texts += [(f"{mood}: {sink}", text) for sink, text in of_error(error)]
                del error
        texts += of_object(client)
        texts += of_object(client.statistics())
        texts += of_object(client.stream_jobs([ProjectRef(3)]))
        texts.append(("tasks", repr(asyncio.all_tasks())))
    assert failures >= len(MOODS) - 3
    assert found_in(SECRETS, texts + records.texts) == []
    assert any(sink == "log asyncjobs" for sink, _ in records.texts)
    assert len({sink.rpartition(": ")[2] for sink, _ in texts}) >= 15


async def test_nothing_in_asyncios_own_log() -> None:
    """A failed task that nobody awaits is logged by asyncio with its repr: no secret in it."""
    records = Records()
    async with hostile_world(records, private_token=SECRETS["private token"]) as (hostile, client):
        for mood in MOODS:
            hostile.mood = mood
            task = asyncio.create_task(attempt_badly(client))
            await asyncio.wait([task])
            del task
            gc.collect()
    assert sum("never retrieved" in text for _, text in records.texts) >= len(MOODS) - 3
    assert found_in(SECRETS, records.texts) == []


async def attempt_badly(client: Client) -> None:
    """Let the error out."""
    await client.get_job(3, 8)


async def test_a_rotated_token_is_hidden_after_its_rotation() -> None:
    """The token that was refused is scrubbed from answers as well as the new one."""
    tokens = [SECRETS["private token"], SECRETS["rotated token"]]

    async def source() -> str:
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    async def script(request: Received, wire: Wire) -> None:
        status = 401 if request.number == 1 else 403
        both = f"{SECRETS['private token']} {SECRETS['rotated token']}"
        await wire.write(http(status, {"message": f"not with {both}"}))

    async with RawServer(script) as server, open_client(server.url, private_token=source) as client:
        error = await attempt(CALLS["get"], client)
        assert error is not None
        assert "not with" in str(error)
        assert found_in(SECRETS, list(of_error(error))) == []


async def test_the_proxys_password() -> None:
    """Neither a failing nor a working proxy makes its password appear."""
    records, texts = Records(), list[tuple[str, str]]()
    for refuse in (None, 407, 502):
        async with ForwardProxy(refuse=refuse) as proxy:
            url = proxy.url(f"robot:{SECRETS['proxy password']}@")
            async with hostile_world(records, proxy=url) as (_, client):
                texts += of_object(client)
                for call in ("get", "archive", "play", "given up later"):
                    error = await attempt(CALLS[call], client)
                    assert error is not None
                    texts += of_error(error)
    assert found_in(SECRETS, texts + records.texts) == []


def test_settings_that_are_refused_are_not_repeated() -> None:
    """A wrong URL, token or proxy with a secret in it is refused without showing it."""
    wrong: list[Callable[[], object]] = [
        lambda: Client(f"https://u:{SECRETS['password in the configured URL']}@gitlab.example"),
        lambda: Client(f"https://gitlab.example/?private_token={SECRETS['token in a query']}"),
        lambda: Client(f"{SECRETS['password in the configured URL']}://gitlab.example"),
        lambda: Client("https://gitlab.example", private_token=SECRETS["token with a line end"]),
        lambda: Client("https://gitlab.example", proxy=f"ftp://u:{SECRETS['proxy password']}@h"),
        lambda: Client("https://gitlab.example", proxy=f"http://u:{SECRETS['proxy password']}@h:x"),
    ]
    for make in wrong:
        with pytest.raises(AsyncJobsError) as caught:
            make()
        texts = [(name, text) for name, text in of_error(caught.value) if "traceback" not in name]
        assert found_in(SECRETS, texts) == []


async def test_warnings_say_nothing() -> None:
    """What Python warns about (unclosed things, never awaited calls) holds no secret."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = Client("http://127.0.0.1:9", private_token=SECRETS["private token"])
        await client.__aenter__()
        await attempt(CALLS["get"], client)
        coroutine = client.get_job(3, 8)
        del coroutine
        await client.aclose()
        del client
        gc.collect()
    assert found_in(SECRETS, [("warning", str(each.message)) for each in caught]) == []


@pytest.mark.parametrize("name", SECRETS)
def test_the_search_finds_what_is_there(name: str) -> None:
    """A leak in any of the sinks would be found: the search itself is tested."""
    secret = SECRETS[name]

    def leak(value: str) -> None:
        raise ValueError(f"wrong: {value}")

    try:
        leak(secret)
    except ValueError as error:
        leaking = error
    found = found_in({name: secret}, list(of_error(leaking)))
    clean = ["str", "args", "format_exception", "traceback with locals", "pickle"]
    if secret.isprintable():
        assert all(any(f" in {sink}:" in each for each in found) for sink in clean)
    else:
        assert found
