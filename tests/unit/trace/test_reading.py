"""Reading on: whatever the server does, what comes out is the trace, or a reset says where it is not."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncjobs._models import TraceCursor
from asyncjobs._trace.asking import WINDOW_BYTES, Ask, Delivery, OriginMemory, Reset, Result
from asyncjobs._trace.place import Place
from asyncjobs._trace.reading import TraceReader
from tests.unit.trace.servers import KINDS, REF, Server, drain, lines, read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("final", [False, True])
def test_growing_log_is_read_once(kind: str, final: bool) -> None:
    """Every byte comes out once, whatever the kind of server."""
    server, reader, out = Server(kind), TraceReader(), b""
    for step in range(12):
        server.log += lines(50 * step, step)
        out += read(reader, server, final=final)[0]
    assert out == server.log
    assert read(reader, server, final=final)[1] is Result.SAME


def test_window_server_sends_only_new_bytes() -> None:
    """Overlaps and idle polls cost at most 5 % of the log."""
    server, reader = Server("window"), TraceReader()
    for step in range(100):
        server.log += lines(100, step)
        drain(reader, server)
        drain(reader, server)
    assert server.body_bytes <= 1.05 * len(server.log)
    assert reader.delivery is Delivery.WINDOW


@pytest.mark.parametrize(
    ("push", "overlap"), [(1000, 32), (1100, 34), (3200, 100), (8192, 256), (99_999, 256)]
)
def test_how_much_a_window_repeats(push: int, overlap: int) -> None:
    """A thirty-second part of what came last, between 32 and 256 bytes."""
    server, reader = Server("window", lines(300)), TraceReader()
    drain(reader, server)
    server.log += lines(9000, 1)[-push:]
    drain(reader, server)
    ask = reader.ask()
    assert ask.offset == len(server.log) - overlap


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 100, 1000, 100_000])
def test_a_log_entered_in_its_middle_is_read_on(kind: str, chunk: int) -> None:
    """Nothing of what was left out comes out; how the log begins is learned from it all the same."""
    log = lines(3000)
    start = log.index(b"\n", len(log) // 2) + 1
    server, reader, out = (
        Server(kind, log[:-5000]),
        TraceReader(Place.inside(start, log[start - 64 : start])),
        b"",
    )
    for size in (len(log) - 5000, len(log)):
        server.log = log[:size]
        for _ in range(6):
            out += read(reader, server, chunk=chunk)[0]
        assert out == server.log[start:]
    assert reader.place.head == log[:256]
    assert not reader.in_doubt


def test_big_windows_are_asked_for_at_once() -> None:
    """A full window says that there is more."""
    server, reader = Server("window", lines(60_000)), TraceReader()
    assert read(reader, server)[1] is Result.MORE
    assert drain(reader, server) == server.log[WINDOW_BYTES:]


def test_whole_server_is_recognised_and_remembered() -> None:
    """The next tail of the origin knows, and an unchanged log costs nothing."""
    memory, server = OriginMemory(), Server("whole", lines(20_000))
    reader = TraceReader(memory=memory)
    read(reader, server)
    server.log += b"x\n"
    read(reader, server)
    assert memory.delivery(final=False) is Delivery.WHOLE
    before = server.body_bytes
    assert read(reader, server)[1] is Result.SAME
    assert server.body_bytes == before
    TraceReader(memory=memory).ask()
    assert TraceReader(memory=memory).ask().if_none_match is None


@pytest.mark.parametrize("log", [lines(2000), b"." * 40_000, b"tick tock\n" * 4000])
def test_an_unchanged_log_costs_no_byte(log: bytes) -> None:
    """A server that only gives whole logs says "unchanged" to the validator it gave, whatever is in them."""
    server, reader = Server("whole", log), TraceReader()
    drain(reader, server)
    drain(reader, server)
    before = server.body_bytes
    for _ in range(3):
        assert read(reader, server)[:2] == (b"", Result.SAME)
    assert server.body_bytes == before


def test_the_next_tail_begins_with_what_the_last_one_learned() -> None:
    """Of a server that gives whole logs nothing else is asked first; ended jobs are another matter."""
    memory = OriginMemory()
    memory.learn(Delivery.WHOLE, final=False)
    place = Place.from_cursor(TraceCursor(REF, 50_000, 7, b"x" * 64))
    assert TraceReader(place, memory).ask() == Ask()
    assert TraceReader(place, memory).ask(final=True).limit is not None


def test_when_a_range_is_tried() -> None:
    """Only for an archived log, of a server that gave the whole of it, after something was read."""
    memory = OriginMemory()
    memory.learn(Delivery.WHOLE, final=True)
    assert TraceReader(memory=memory).ask(final=True, archived=True).range_start is None
    for kind in KINDS:
        server, reader = Server(kind, lines(30_000)), TraceReader()
        read(reader, server)
        assert reader.ask(final=True).range_start is None
        assert (reader.ask(final=True, archived=True).range_start is not None) == (kind != "window")


def test_a_resumed_log_that_begins_with_a_long_rule_comes_in_windows() -> None:
    """Its beginning looks like no part near its end, however far the rule goes."""
    log = b"=" * 300 + b"\n" + lines(20_000)
    server, first = Server("window", log[:400_000]), TraceReader()
    drain(first, server)
    server = Server("window", log)
    second = TraceReader(Place.from_cursor(TraceCursor.parse(str(first.place.cursor(REF)))))
    assert drain(second, server) == log[400_000:]
    assert server.body_bytes < len(log) - 400_000 + 2000


def test_answer_longer_than_the_limit_is_whole() -> None:
    """The first answer already tells when the log is long."""
    reader, server = TraceReader(), Server("whole", lines(60_000))
    out, result, _ = read(reader, server)
    assert (out, result) == (server.log, Result.GROWN)
    assert reader.delivery is Delivery.WHOLE


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("then", KINDS)
def test_kind_may_change_on_the_way(first: str, then: str) -> None:
    """A server is upgraded, or a log is archived: nothing is lost, and the new way is found."""
    server, reader = Server(first, lines(300)), TraceReader()
    out = drain(reader, server)
    server.log += lines(100, 1)
    out += drain(reader, server)
    server.kind = then
    for step in range(3):
        server.log += lines(100, 2 + step)
        out += drain(reader, server, final=step > 0)
    assert out == server.log


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("period", [b"\n", b"same line\n", b"0123456789" * 26 + b"\n"])
def test_logs_that_repeat_themselves(kind: str, period: bytes) -> None:
    """A log whose end looks like its beginning is never spliced."""
    server, reader, out = Server(kind), TraceReader(), b""
    for step in range(40):
        server.log += period * (7 * step + 1) * (60 if step % 10 == 9 else 1)
        out += drain(reader, server)
        assert out == server.log
    server.log += b"end\n"
    assert out + drain(reader, server, final=True) == server.log


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 5000, 40_000])
@pytest.mark.parametrize("repeating", [False, True])
def test_cursor_goes_on_without_a_gap(kind: str, size: int, repeating: bool) -> None:
    """Another process goes on from the printed cursor, also with a server that knows no windows."""
    log = b"same line\n" * 8000 if repeating else lines(8000)
    server, reader = Server(kind, log[:size]), TraceReader()
    out = drain(reader, server)
    server.log = log
    cursor = TraceCursor.parse(str(reader.place.cursor(REF)))
    second = TraceReader(Place.from_cursor(cursor))
    assert out + drain(second, server) == log
    assert second.place.crc == zlib.crc32(log)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [b"", b"0 li", "half"])
def test_one_shorter_answer_changes_nothing(kind: str, fault: bytes | str) -> None:
    """An empty, short or lagging answer neither rewinds nor doubles anything."""
    server, reader = Server(kind, lines(1000)), TraceReader()
    out = drain(reader, server)
    truth = server.log
    server.log = truth[: len(truth) // 2] if isinstance(fault, str) else fault
    new, result, reset = read(reader, server)
    assert (new, result, reset) == (b"", Result.SHORTER, None)
    server.log = truth + b"more\n"
    assert out + drain(reader, server) == server.log
    assert not reader.in_doubt


def settle_doubt(reader: TraceReader, server: Server) -> tuple[bytes, Reset | None]:
    """Poll every five seconds until a reset comes, then read on."""
    out = b""
    for step in range(8):
        new, _, reset = read(reader, server, now=5.0 * step)
        out += new
        if reset:
            return drain(reader, server), reset
    return out, None


@pytest.mark.parametrize("kind", KINDS)
def test_doubt_needs_time_and_repetition(kind: str) -> None:
    """Two contradictions an hour apart, or many within a second, are not believed."""
    for moments in ([0.0, 3600.0], [0.1 * n for n in range(20)]):
        server, reader = Server(kind, lines(1000)), TraceReader()
        out = drain(reader, server)
        truth, server.log = server.log, b""
        for now in moments:
            assert read(reader, server, now=now)[2] is None
            assert not reader.wants_check
        server.log = truth + b"more\n"
        assert out + drain(reader, server) == server.log


@pytest.mark.parametrize("kind", KINDS)
def test_the_third_contradiction_is_believed_after_ten_seconds(kind: str) -> None:
    """Then the whole log is compared; until then nothing is in doubt but the last answers."""
    server, reader = Server(kind, lines(1000)), TraceReader()
    assert not reader.in_doubt
    assert reader.ask().if_none_match is None, "of nothing there is no validator"
    drain(reader, server)
    assert not reader.in_doubt
    server.log = b""
    for now, checks in ((100.0, False), (109.9, False), (110.0, True)):
        read(reader, server, now=now)
        assert (reader.in_doubt, reader.wants_check) == (True, checks)
        assert reader.conclude(Result.UNPROVEN, now) is None
        assert reader.in_doubt, "what proves nothing takes nothing back"
    server.log = lines(1000)
    assert read(reader, server, now=111.0)[2] is None
    assert not reader.in_doubt


@pytest.mark.parametrize("kind", KINDS)
def test_vanished_log_is_a_reset(kind: str) -> None:
    """A log that stays empty was erased; what comes later is delivered from its beginning."""
    server, reader = Server(kind, lines(1000)), TraceReader()
    drain(reader, server)
    server.log = b""
    assert settle_doubt(reader, server) == (b"", Reset(0, "erased"))


@pytest.mark.parametrize("kind", KINDS)
def test_erased_job_is_checked_at_once(kind: str) -> None:
    """With `erased_at` in the job's record one more read is enough."""
    server, reader = Server(kind, lines(1000)), TraceReader()
    drain(reader, server)
    server.log = b""
    ask = reader.ask()
    status, headers, _ = server.get(ask)
    result = reader.answer(ask, status, headers).end()
    assert reader.conclude(result, 0.0, erased=True) is None
    assert read(reader, server)[2] == Reset(0, "erased")


@pytest.mark.parametrize("kind", KINDS)
def test_changed_end_is_taken_up_near_the_change(kind: str) -> None:
    """An archived log that differs in its last lines is not delivered from the start again."""
    server, reader = Server(kind, lines(20_000)), TraceReader()
    out = drain(reader, server)
    server.log = server.log[:-30] + b"archived ending\nJob succeeded\n"
    new, reset = settle_doubt(reader, server)
    if reset is None:
        # A window far from the change shows nothing; only the whole could.
        assert kind == "window"
        return
    assert reset.reason == "rewritten"
    assert len(out) - 4096 <= reset.offset < len(out)
    assert out[: reset.offset] + new == server.log
    assert out[reset.offset - 1 : reset.offset] == b"\n"


@pytest.mark.parametrize("kind", ["whole", "range"])
def test_rewritten_prefix_is_found(kind: str) -> None:
    """A change in the middle goes back to the last place that is still the same."""
    server, reader = Server(kind, lines(20_000)), TraceReader()
    out = drain(reader, server)
    at = len(out) // 2
    server.log = out[:at] + b"XXX" + out[at:]
    new, reset = settle_doubt(reader, server)
    assert reset is not None
    assert at - (100 << 10) <= reset.offset <= at
    assert out[: reset.offset] + new == server.log


@pytest.mark.parametrize("kind", KINDS)
def test_log_that_lost_its_end_is_a_reset(kind: str) -> None:
    """A log that stays shorter is taken up where it is still the same."""
    server, reader = Server(kind, lines(20_000)), TraceReader()
    out = drain(reader, server)
    server.log = out[: len(out) - 1000]
    new, reset = settle_doubt(reader, server)
    assert reset is not None
    assert reset.reason == "shrunk"
    assert out[: reset.offset] + new == server.log


def test_false_alarm_ends_in_plain_reading() -> None:
    """Windows that contradict a log that is unchanged are given up; the whole is read instead."""

    class Broken(Server):
        def get(self, ask: Ask) -> tuple[int, dict[str, str], bytes]:
            if ask.offset:
                self.asks.append(ask)
                return 200, {}, b"nonsense " * 100
            return super().get(ask)

    server, reader = Broken("whole", lines(1000)), TraceReader()
    out = read(reader, server)[0]
    server.log += b"new\n"
    for step in range(8):
        new, _, reset = read(reader, server, now=5.0 * step)
        assert reset is None
        out += new
    assert out == server.log
    assert reader.ask().offset is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes 7-20/21"},
        {"content-range": "nonsense"},
        {"content-range": "bytes 0-20/21", "content-encoding": "gzip"},
    ],
)
def test_odd_partial_answers_are_not_spliced(headers: dict[str, str]) -> None:
    """A 206 that is not the part asked for gives nothing, and ranges are given up."""
    reader = TraceReader(memory=OriginMemory())
    reader._known.learn(Delivery.WHOLE, final=True)
    read(reader, Server("whole", lines(100)), final=True)
    ask = reader.ask(final=True, archived=True)
    assert ask.range_start is not None
    answer = reader.answer(ask, 206, headers, final=True)
    assert answer.feed(b"some other part") == b""
    assert answer.end() is Result.UNPROVEN
    assert reader.ask(final=True, archived=True).range_start is None


def test_shortness_of_a_cut_body_proves_nothing() -> None:
    """A body that just stopped is no evidence that the log is shorter."""
    server, reader = Server("whole", lines(1000)), TraceReader()
    drain(reader, server)
    server.log = server.log[:100]
    assert read(reader, server, proven=False)[1] is Result.UNPROVEN
    assert not reader.in_doubt


def test_memory_does_not_grow_with_the_log() -> None:
    """The place keeps a few KiB however long the log is."""
    place = Place()
    for step in range(3000):
        place.advance(lines(300, step))
    assert len(place._checkpoints) <= 65
    assert len(place._recent) + len(place._before) <= 4096 + 256


def grow(log: bytes, random_source: random.Random) -> bytes:
    """The next push of a runner."""
    piece = random_source.choice([b"line\n", b"\n", b"x" * 100, lines(40, random_source.randrange(9))])
    return log + piece * random_source.randrange(4)


FAULTS: list[Callable[[bytes, random.Random], bytes]] = [
    lambda log, r: b"",
    lambda log, r: log[: r.randrange(len(log) + 1)],
    lambda log, r: log[: max(0, len(log) - 40)],
]


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.sampled_from(KINDS))
def test_random_lives_of_a_log(seed: int, kind: str) -> None:
    """Growth, cuts, lagging answers, changes of kind and restarts: no byte is lost or doubled."""
    source = random.Random(seed)
    server, reader, out = Server(kind), TraceReader(), b""
    for step in range(40):
        server.log = grow(server.log, source)
        truth, chance = server.log, source.random()
        if chance < 0.15:
            server.log = source.choice(FAULTS)(truth, source)
            new = read(reader, server, now=step * 0.1)[0]
            server.log = truth
        elif chance < 0.3:
            new = read(reader, server, break_after=source.randrange(3000), chunk=source.randrange(1, 500))[0]
        elif chance < 0.35:
            server.kind = source.choice(KINDS)
            new = b""
        elif chance < 0.45:
            reader, new = TraceReader(Place.from_cursor(reader.place.cursor(REF))), b""
        else:
            new = read(reader, server, chunk=source.randrange(1, 2000), now=step * 0.1)[0]
        out += new
        assert server.log.startswith(out)
    out += drain(reader, server, final=True)
    assert out == server.log
    assert reader.place.crc == zlib.crc32(server.log)


def test_an_old_whole_is_not_proved_by_a_window_after_it() -> None:
    """A lagging node, then an upgraded server: what the first said of dots, the second has to repeat."""
    server, reader = Server("whole", b"." * 300), TraceReader()
    out = read(reader, server)[0]
    truth, server.log = server.log + b"line\n" * 3 + b"." * 300, server.log[:85]
    assert read(reader, server)[:2] == (b"", Result.MORE)
    server.kind, server.log = "window", truth
    assert out + drain(reader, server) == truth


def test_comparison_with_a_cut_body_is_repeated() -> None:
    """A whole log that just stopped short does not convict a trace of having shrunk, until it keeps to it."""
    server, reader = Server("whole", lines(1000)), TraceReader()
    out = drain(reader, server)
    truth, server.log = server.log, b"short\n"
    for now in (0.0, 6.0, 12.0):
        read(reader, server, now=now)
    assert reader.wants_check
    server.log = truth[:500]
    assert read(reader, server, proven=False)[1:] == (Result.UNPROVEN, None)
    assert reader.wants_check
    server.log = truth + b"more\n"
    assert read(reader, server, proven=False)[1:] == (Result.CHECKED, None)
    assert out + drain(reader, server) == server.log
