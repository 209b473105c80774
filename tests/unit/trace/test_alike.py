"""Logs that look the same everywhere: a part is never taken for the whole, nor an old whole for a part."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncjobs._models import TraceCursor
from asyncjobs._trace.asking import WINDOW_BYTES, Ask, OriginMemory, Result
from asyncjobs._trace.place import LeadingRun, Place
from asyncjobs._trace.reading import TraceReader
from tests.unit.trace.servers import KINDS, REF, Server, drain, lines, read

MIB = 1 << 20

STYLES: dict[str, Callable[[int], bytes]] = {
    "dots": lambda size: b"." * size,
    "newlines": lambda size: b"\n" * size,
    "one line": lambda size: (b"tick tock\n" * (size // 10 + 1))[:size],
    "long line": lambda size: ((b"." * 79 + b"\n") * (size // 80 + 1))[:size],
    "banner": lambda size: (b"=" * 300 + b"\n" + b"=" * size)[:size],
}
styles = pytest.mark.parametrize("style", STYLES)

ONE_BYTE = {"dots", "newlines"}
"""New bytes of these come twice when they are no full window: nothing else proves them."""


@styles
def test_long_log_takes_few_requests(style: str) -> None:
    """Eight MiB come in full windows, whatever is in them, and these are sent once."""
    server, reader = Server("window", STYLES[style](8 * MIB)), TraceReader()
    assert drain(reader, server) == server.log
    assert len(server.asks) <= 8 * MIB / WINDOW_BYTES + 6
    assert server.body_bytes <= 1.01 * len(server.log) + (2 * WINDOW_BYTES if style in ONE_BYTE else 0)


@styles
@pytest.mark.parametrize("push", [700, 7000])
def test_small_pushes_cost_little_more_than_they_are(style: str, push: int) -> None:
    """Overlaps and proofs are small beside what a runner sends."""
    server, reader, out = Server("window"), TraceReader(), b""
    whole = STYLES[style](80 * push)
    for step in range(1, 81):
        server.log = whole[: step * push]
        out += drain(reader, server)
    assert out == whole
    times = 2 if style in ONE_BYTE else 1
    assert server.body_bytes <= times * (1.1 if push < 1000 else 1.05) * len(whole)
    assert len(server.asks) <= 4 * 80


@styles
def test_resumed_tail_is_as_quick(style: str) -> None:
    """A cursor knows no beginning; one small request brings it, and windows are full after that."""
    whole = STYLES[style](8 * MIB)
    first = TraceReader()
    drain(first, Server("window", whole[:MIB]))
    server = Server("window", whole)
    second = TraceReader(Place.from_cursor(TraceCursor.parse(str(first.place.cursor(REF)))))
    assert drain(second, server) == whole[MIB:]
    assert len(server.asks) <= 7 * MIB / WINDOW_BYTES + 8
    # Of one byte repeated even the first part must come again, to know how far back that goes.
    assert server.body_bytes <= (1.01 if style in {"dots", "newlines", "banner"} else 0.88) * len(whole)


@pytest.mark.parametrize("style", ["banner", "dots"])
def test_resumed_short_log_is_read_once_to_its_end(style: str) -> None:
    """How a short log of one byte begins is learned for good: from then on windows can be told."""
    whole = STYLES[style](100_000)
    first = TraceReader()
    drain(first, Server("window", whole[:10_000]))
    reader = TraceReader(Place.from_cursor(first.place.cursor(REF)))
    server, out = Server("window"), b""
    for size in range(10_000, 100_000, 5_000):
        server.log = whole[:size]
        out += drain(reader, server)
    assert out == server.log[10_000:]
    assert server.body_bytes <= 1.1 * len(whole) * (2 if style in ONE_BYTE else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [300, 40_000, 600_000])
@pytest.mark.parametrize("old", [40, 299, 20_000, 35_000])
def test_an_old_copy_of_the_whole_is_no_window(kind: str, first: int, old: int) -> None:
    """Of a log of dots a lagging replica may send any beginning: nothing of it is new."""
    for others in (b"", b"\ndone\n"):
        server, reader = Server(kind, b"." * first + others), TraceReader()
        out = drain(reader, server)
        truth = server.log
        server.kind, server.log = "whole", truth[: min(old, first - 1)]
        for step in range(3):
            new, result, _ = read(reader, server, now=float(step))
            assert new == b""
            assert result is not Result.GROWN
        server.kind, server.log = kind, truth + b"....more\n"
        assert out + drain(reader, server) == server.log


@pytest.mark.parametrize("tail", [b"x", b"done\n", b"." * 600 + b"x", b"." * 255, b"." * 5000])
@pytest.mark.parametrize("size", [33, 300, 5000, 600_000])
def test_dots_that_end(tail: bytes, size: int) -> None:
    """When something else follows at last, it arrives at its place, on any kind of server."""
    for kind in KINDS:
        server, reader = Server(kind, b"." * size), TraceReader()
        out = drain(reader, server)
        server.log += tail
        out += drain(reader, server)
        server.log += lines(20)
        assert out + drain(reader, server, final=True) == server.log


@pytest.mark.parametrize("size", [300, 5000, 200_000])
@pytest.mark.parametrize("tail", [b"", b"x", b"done\n"])
def test_dots_that_come_whole_at_last(size: int, tail: bytes) -> None:
    """A server that gave windows of dots and gives the whole log from now on is believed by its length."""
    server, reader = Server("window", b"." * size), TraceReader()
    out = drain(reader, server)
    server.kind = "whole"
    server.log += b"." * 10 + tail
    assert out + drain(reader, server) == server.log


def test_nodes_that_lag_differently_are_not_asked_for_ever() -> None:
    """What an old copy of dots seems to say is asked for once more; another copy ends it for this poll."""
    server, reader = Server("whole", b"." * 300), TraceReader()
    read(reader, server)
    server.log = b"." * 85
    assert read(reader, server)[:2] == (b"", Result.MORE)
    server.log = b"." * 40
    assert read(reader, server)[:2] == (b"", Result.UNPROVEN)
    assert not reader.in_doubt


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 10, 300, 32_000])
@pytest.mark.parametrize("met", [True, False], ids=["kind known", "kind unknown"])
def test_dots_that_are_lost_are_noticed(kind: str, left: int, met: bool) -> None:
    """A log of dots that stays shorter is a reset, as of any other log, though no two parts of it differ."""
    server, reader = Server(kind, b"." * 37_000), TraceReader()
    out = drain(reader, server) if met else read(reader, server)[0]
    server.log = b"." * left
    resets = []
    for step in range(24):
        new, _, reset = read(reader, server, now=2.0 * step)
        out += new
        if reset is not None:
            resets.append(reset.offset)
            out = out[: reset.offset]
    assert (out, len(resets)) == (server.log, 1)


@attrs.define
class Fleet(Server):
    """Nodes of several kinds, some of which lag behind: each request may reach another."""

    source: random.Random = attrs.field(factory=random.Random)
    kinds: tuple[str, ...] = ("window",)
    versions: list[bytes] = attrs.field(factory=list)
    lag: float = 0.2

    def get(self, ask: Ask) -> tuple[int, dict[str, str], bytes]:
        """Answer as some node does."""
        now, self.kind = self.log, self.source.choice(self.kinds)
        if self.versions and self.source.random() < self.lag:
            self.log = self.source.choice(self.versions)
        answer = super().get(ask)
        self.log = now
        return answer


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    alphabet=st.sampled_from([(b".",), (b".", b"\n"), (b"aa\n", b"ab\n"), (b"tick tock\n",)]),
    kinds=st.sampled_from([("window",), ("whole",), ("range",), tuple(KINDS)]),
    etags=st.booleans(),
    restarts=st.booleans(),
)
def test_lagging_nodes_neither_lose_nor_double(
    seed: int, alphabet: tuple[bytes, ...], kinds: tuple[str, ...], etags: bool, restarts: bool
) -> None:
    """One or two bytes are all there is to tell by: what comes out is the log, or a reset says where not."""
    source = random.Random(seed)
    memory = OriginMemory()
    server, reader, out = (
        Fleet("window", etags=etags, source=source, kinds=kinds),
        TraceReader(memory=memory),
        b"",
    )
    for step in range(source.randrange(4, 12)):
        # Shorter pushes would let a copy from the very beginning be as short as a proof.
        size = source.randrange(300, source.choice([1000, 10_000, 40_000]))
        server.versions = [*server.versions[-2:], server.log]
        server.log += b"".join(source.choices(alphabet, k=size))
        if restarts and source.random() < 0.3:
            reader = TraceReader(Place.from_cursor(reader.place.cursor(REF)), source.choice([memory, None]))
        for _ in range(40):
            new, result, reset = read(reader, server, chunk=5000, now=4.0 * step)
            out += new
            if reset is not None:
                out = out[: reset.offset]
            assert server.log.startswith(out)
            assert len(out) == reader.place.offset
            if result is not Result.MORE:
                break
        else:
            pytest.fail("asks again and again at once")
    server.lag = 0.0
    for step in range(20):
        new, _, reset = read(reader, server, final=True, now=100.0 + 5.0 * step)
        out = (out + new)[: reset.offset if reset is not None else None]
    assert out == server.log


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", [*STYLES, "lines"])
def test_bodies_without_framing_come_to_an_end(kind: str, style: str) -> None:
    """Where HTTP proves no end and no validator comes, an answer that keeps its length is believed."""
    whole = lines(3000) if style == "lines" else STYLES[style](60_000)
    server, reader, out = Server(kind, whole[:20_000], etags=False), TraceReader(), b""
    for size in (20_000, 40_000, len(whole)):
        server.log = whole[:size]
        results = []
        for _ in range(8):
            new, result, _ = read(reader, server, proven=False)
            out += new
            results.append(result)
        assert out == server.log
        assert results[-1] is Result.SAME


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize(("size", "cut"), [(60, 30), (20_000, 9000), (700_000, 600_000)])
def test_validator_of_a_cut_body_is_forgotten(windows: bool, size: int, cut: int) -> None:
    """A server whose ETag names the whole log cannot hide, behind a 304, what was cut off."""
    log = STYLES["one line"](size)

    def exchange(reader: TraceReader, cut: int | None) -> bytes:
        ask = reader.ask()
        answer = reader.answer(ask, 304 if ask.if_none_match == '"the log"' else 200, {"etag": '"the log"'})
        out = b""
        if not answer.settled():
            part = windows and ask.offset is not None
            out = answer.feed((log[ask.offset :][: ask.limit] if part else log)[:cut])
        reader.conclude(answer.end(proven=False), 0.0)
        return out + b"".join(answer.rest())

    reader = TraceReader()
    out = exchange(reader, cut)
    for _ in range(5):
        out += exchange(reader, None)
    assert out == log


@given(st.lists(st.sampled_from([b"", b".", b"...", b"..x", b"x."])))
def test_leading_run(pieces: list[bytes]) -> None:
    """Fed in any pieces, the run is that of the whole, and what follows it comes out."""
    run, whole = LeadingRun(), b"".join(pieces)
    rest = b"".join(run.feed(piece) for piece in pieces)
    assert rest == whole.lstrip(whole[:1])
    assert run.length == len(whole) - len(rest)
    assert run.over is bool(rest)
