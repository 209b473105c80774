"""How to read on in a trace, whatever kind of server gives it, without losing or doubling a byte.

Servers answer in three ways, and the version number does not tell which: byte windows
(`byte_offset`/`byte_limit`, a plain 200), `Range` with 206 (archived logs), or always the whole log.
A `TraceReader` says what to ask next, digests each answer as it streams past, and gives out only
bytes whose past it has recognised. It knows neither requests nor time.

- Every answer has to repeat something known: a window its first bytes, a whole log all of them (by
  CRC-32, without holding any). What repeats nothing is not believed.
- A window and a whole log both come as 200. One that begins with the last known bytes is a window, one
  that begins with the first known bytes is the whole log, one longer than asked is certainly whole. The
  overlap is chosen so that the two beginnings differ.
- They never do in a log of one byte repeated. There an answer is counted until its length or another byte
  tells. One that could be an old copy of the whole is a claim about the log's length, and is believed only
  after a few bytes were asked for at the place where it says the log ends: the whole is never that short.
- One shorter, empty or different answer proves nothing: web nodes lag and archives flicker. When the
  doubt persists the whole log is compared once, and only what really changed is read again, after a `Reset`.

GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file, merge requests 257010 (windows) and
255994 (Range), issue 452097 (an archived log that differs from the live one).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

import attrs

from asyncjobs._trace.place import SAMPLE_BYTES, LeadingRun, Place, Recheck

WINDOW_BYTES: Final = 512_000
"""How much one window asks for: what GitLab's own clients of the log reader ask for."""

SHORT_BYTES: Final = 32 << 10
"""A log no longer than this is read once from its start where its beginning is not known."""

CLAIM_BYTES: Final = 31
"""Most bytes asked for to prove where a log ends."""

SLICE_BYTES: Final = 64 << 10
"""Most bytes given at once of those that were only counted."""

MIN_OVERLAP: Final = 32
"""Fewest known bytes a window repeats; more when much arrives at once, about 3 % of it."""

DOUBTS: Final = 3
"""Contradicting answers in a row before the past is checked, and answers of one length in a row before a
body whose end HTTP does not prove is believed to be whole."""


class Delivery(Enum):
    """How a server gives a log."""

    UNKNOWN = "unknown"
    WINDOW = "window"
    WHOLE = "whole"


class OriginMemory:
    """What tails of one origin have learned about it, for the next tail to begin with."""

    def __init__(self) -> None:
        self._kinds: dict[bool, Delivery] = {}

    def delivery(self, *, final: bool) -> Delivery:
        """How logs of ended (or of running) jobs came lately."""
        return self._kinds.get(final, Delivery.UNKNOWN)

    def learn(self, delivery: Delivery, *, final: bool) -> None:
        """Remember the newest evidence."""
        self._kinds[final] = delivery


@attrs.frozen
class Ask:
    """One request to make."""

    offset: int | None = None
    """`byte_offset`, or None to leave both parameters out."""
    limit: int | None = None
    range_start: int | None = None
    if_none_match: str | None = None


class Result(Enum):
    """What an answer brought."""

    SAME = "same"
    GROWN = "grown"
    MORE = "more"
    """There is more to ask for at once: the window was full, or the answer calls for another."""
    SHORTER = "shorter"
    CHANGED = "changed"
    UNPROVEN = "unproven"
    """The answer may have been cut; nothing follows from its length."""
    CHECKED = "checked"
    """A comparison of the whole log ended."""


@attrs.frozen
class _Claim:
    """Where a log ends, if an answer was a window."""

    end: int
    full: bool
    """The window was full, so there may be more."""


DOUBTFUL: Final = frozenset({Result.SHORTER, Result.CHANGED})


@attrs.frozen
class Reset:
    """The past changed: delivery goes on at an earlier place."""

    offset: int
    reason: str
    """`erased`, `rewritten` or `shrunk`."""


class _Mode(Enum):
    RECOGNISE = "recognise"
    HOLD = "hold"
    CLAIM = "claim"
    OVERLAP = "overlap"
    SKIP = "skip"
    EMIT = "emit"
    RECHECK = "recheck"
    IGNORE = "ignore"


_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class TraceReader:
    """Reads one trace from a place on: `ask`, then one `Answer` per request, then `conclude`.

    Args:
        place: Where to begin.
        memory: What is known of the origin; shared by the tails of one client.
    """

    def __init__(self, place: Place | None = None, memory: OriginMemory | None = None) -> None:
        self.place = place or Place()
        self._memory = memory or OriginMemory()
        self._delivery = Delivery.UNKNOWN
        self._etag: str | None = None
        self._overlap = MIN_OVERLAP
        self._range_works = True
        self._plain = False
        self._doubts = 0
        self._doubted_at = 0.0
        self._unproven = 0
        self._length = -1
        self._agreeing = 0
        self._claim: _Claim | None = None
        self._recheck: Recheck | None = None

    @property
    def delivery(self) -> Delivery:
        """How this log came lately."""
        return self._delivery

    @property
    def in_doubt(self) -> bool:
        """The last answers contradicted what was delivered."""
        return self._doubts > 0 or self._recheck is not None

    @property
    def wants_check(self) -> bool:
        """The next ask compares the whole log; it need not wait for a push."""
        return self._recheck is not None

    def ask(self, *, final: bool = False, archived: bool = False) -> Ask:
        """Say what to request next.

        Args:
            final: The job is over, so its log may come in another way than before.
            archived: The job's record names its archived log: only then is `Range` worth a try.
        """
        if self._recheck is not None:
            return Ask()
        if self._plain:
            return Ask(if_none_match=self._etag)
        if self._delivery is Delivery.UNKNOWN:
            self._delivery = self._memory.delivery(final=final)
        place = self.place
        if self._claim is not None:
            # So few bytes before the claimed end that the whole log is longer.
            size = 1 + place.offset % min(CLAIM_BYTES, place.offset - 1)
            return Ask(self._claim.end - size, size)
        least = len(place.sample(SAMPLE_BYTES if final else self._overlap))
        if self._delivery is Delivery.WHOLE and archived and place.offset and self._range_works:
            return Ask(range_start=place.offset - least, if_none_match=self._etag)
        tells = place.overlap(least)
        if self._delivery is Delivery.WHOLE:
            if tells is None:
                return Ask(if_none_match=self._etag)
            # Old servers ignore the parameters; one that was upgraded shows itself by obeying.
            return Ask(place.offset - tells, WINDOW_BYTES, None, self._etag)
        if place.offset == least:
            return Ask(0, WINDOW_BYTES, None, self._etag or _expected_etag(place.sample(least)))
        if place.head is None:
            # First the beginning: without it no window can be told from the whole.
            short = place.offset <= SHORT_BYTES
            return Ask(0, WINDOW_BYTES, None, self._etag) if short else Ask(0, SAMPLE_BYTES)
        if tells is None and place.run is None:
            return Ask(if_none_match=self._etag)
        sample = place.sample(tells or least)
        # Where only lengths tell, the limit is one that the whole log certainly exceeds.
        limit = WINDOW_BYTES if tells else min(WINDOW_BYTES, place.offset - 1)
        return Ask(place.offset - len(sample), limit, None, _expected_etag(sample))

    def answer(self, ask: Ask, status: int, headers: Mapping[str, str], *, final: bool = False) -> Answer:
        """Begin to digest the answer to *ask*. Header names are in lower case."""
        return Answer(self, ask, status, headers, final=final)

    def conclude(
        self, result: Result, now: float, *, persist: float = 10.0, erased: bool = False
    ) -> Reset | None:
        """Draw the consequence of an answer that ended.

        Args:
            result: What `Answer.end` gave.
            now: Seconds on any monotonic clock.
            persist: Seconds a contradiction has to last before the past is checked.
            erased: The job's record says that its log was erased.

        Returns:
            The reset to report, or None. Afterwards `place` is where delivery goes on.
        """
        if result is Result.UNPROVEN:
            return None
        if result is Result.CHECKED:
            return self._checked(erased=erased)
        if result not in DOUBTFUL:
            self._doubts = 0
            return None
        if not self._doubts:
            self._doubted_at = now
        self._doubts += 1
        if erased or (self._doubts >= DOUBTS and now - self._doubted_at >= persist):
            self._recheck = self.place.recheck()
        return None

    def _checked(self, *, erased: bool) -> Reset | None:
        recheck, self._recheck = self._recheck, None
        self._doubts = self._unproven = 0
        # Whatever way of reading led to the doubt, find the kind of server anew.
        self._delivery, self._etag = Delivery.UNKNOWN, None
        assert recheck is not None
        if recheck.complete:
            # Parts of this log contradict the whole of it: read nothing but the whole from here on.
            self._plain = True
            return None
        self.place.rewind(recheck.good_offset, recheck.good_crc, recheck.good_tail)
        if recheck.seen == 0 or erased:
            return Reset(recheck.good_offset, "erased")
        return Reset(recheck.good_offset, "rewritten" if recheck.differs else "shrunk")

    def _whole(self, size: int, *, proven: bool) -> bool:
        """Whether a body of *size* bytes is whole: HTTP proves it, or it keeps coming as long as that."""
        self._agreeing = self._agreeing + 1 if size == self._length else 1
        self._length = size
        return proven or self._agreeing >= DOUBTS

    def _learn(self, delivery: Delivery, *, final: bool) -> None:
        self._delivery = delivery
        self._memory.learn(delivery, final=final)

    def _grew(self, size: int) -> None:
        self._overlap = max(MIN_OVERLAP, min(SAMPLE_BYTES, size // 32))


class Answer:
    """One answer on its way: `feed` gives the new bytes in it, `end` what it meant."""

    def __init__(
        self, reader: TraceReader, ask: Ask, status: int, headers: Mapping[str, str], *, final: bool
    ) -> None:
        self._reader = reader
        self._place = reader.place
        self._ask = ask
        self._final = final
        self._status = status
        self._etag = headers.get("etag")
        self._received = 0
        self._new = 0
        self._held = b""
        self._skipped = 0
        self._skip_crc = 0
        self._skip_head = b""
        self._skip_run = LeadingRun()
        self._run = LeadingRun()
        self._counted = 0
        self._claim, reader._claim = reader._claim, None
        self._result: Result | None = None
        self._window_from: int | None = None
        self._limited = ask.offset is not None and status == 200
        self._mode = self._first_mode(headers)

    def settled(self) -> bool:
        """Whether the rest of the body cannot matter, so that the exchange may be closed."""
        return self._mode is _Mode.IGNORE

    @property
    def new_bytes(self) -> int:
        """How many bytes `feed` gave."""
        return self._new

    def _first_mode(self, headers: Mapping[str, str]) -> _Mode:
        place, ask = self._place, self._ask
        if self._status == 304:
            return self._ignore(Result.SAME if ask.if_none_match else Result.UNPROVEN)
        if self._status == 416:
            self._reader._range_works = False
            return self._ignore(Result.SHORTER)
        if self._status == 206:
            found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            encoded = headers.get("content-encoding", "identity") != "identity"
            if found is None or encoded or ask.range_start is None or int(found[1]) != ask.range_start:
                # A part of something else. Nothing is spliced; the next read asks for the whole.
                self._reader._range_works = False
                return self._ignore(Result.UNPROVEN)
            self._window_from = ask.range_start
            return _Mode.OVERLAP
        if self._reader._recheck is not None:
            return _Mode.RECHECK
        if self._claim is not None:
            return _Mode.CLAIM
        if not ask.offset:
            return _Mode.SKIP if place.offset else _Mode.EMIT
        return _Mode.RECOGNISE

    def _ignore(self, result: Result) -> _Mode:
        self._result = result
        self._mode = _Mode.IGNORE
        return self._mode

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body and give those that are new; the place moves with them."""
        self._received += len(data)
        return self._digest(data)

    def _digest(self, data: bytes) -> bytes:
        if self._mode is _Mode.EMIT:
            return self._emit(data)
        if self._mode is _Mode.SKIP:
            return self._skip(data)
        if self._mode is _Mode.RECHECK:
            assert self._reader._recheck is not None
            self._reader._recheck.feed(data)
            if self._reader._recheck.differs or self._reader._recheck.complete:
                self._ignore(Result.CHECKED)
            return b""
        if self._mode is _Mode.IGNORE:
            return b""
        if self._mode is _Mode.HOLD:
            return self._count(data)
        self._held += data
        return self._look()

    def _look(self) -> bytes:
        """Decide about the first bytes as soon as there are enough of them."""
        if self._mode is _Mode.CLAIM:
            assert self._ask.limit is not None
            return self._as_whole() if len(self._held) > self._ask.limit else b""
        sample = self._sample()
        if len(self._held) < len(sample):
            return b""
        is_window = self._held.startswith(sample)
        if self._mode is _Mode.OVERLAP:
            return self._as_window() if is_window else self._differs()
        head = self._place.head
        assert head is not None
        known = min(len(head), len(self._held))
        may_be_whole = self._held[:known] == head[:known]
        if is_window and may_be_whole:
            self._mode = _Mode.HOLD
            held, self._held = self._held, b""
            return self._count(held)
        if is_window:
            return self._as_window()
        return self._as_whole() if may_be_whole else self._differs()

    def _count(self, data: bytes) -> bytes:
        """Count a byte that is repeated, because nothing tells yet whether it is known or new."""
        limit, known = self._ask.limit, self._place.run
        assert limit is not None
        assert known is not None
        rest = self._run.feed(data)
        if self._received > limit or (rest and known.over and self._run.length == known.length):
            self._limited, self._mode = False, _Mode.SKIP
            out = b"".join(self._digest(piece) for piece in _repeated(self._run.byte, self._run.length))
            return out + self._digest(rest)
        if not rest:
            return b""
        out = b"".join(_repeated(self._run.byte, self._run.length))
        self._held = out + rest
        return self._as_window()

    def _end_count(self) -> None:
        """The whole answer was one byte repeated: new, nothing new, or a claim still to be proved."""
        known, overlap = self._place.run, len(self._sample())
        assert known is not None
        size = self._run.length
        full = size == WINDOW_BYTES
        if full or size == overlap or size > known.length:
            self._counted = size - overlap
            if self._counted:
                self._reader._learn(Delivery.WINDOW, final=self._final)
            self._mode = _Mode.EMIT
            return
        assert self._ask.offset is not None
        self._reader._claim = _Claim(self._ask.offset + size, size == self._ask.limit)
        self._result = Result.MORE

    def _end_claim(self) -> None:
        """A few bytes before the claimed end were asked for; just those prove it."""
        known, limit = self._place.run, self._ask.limit
        assert known is not None
        assert limit is not None
        assert self._claim is not None
        if self._held != known.byte * limit:
            self._result = Result.SHORTER if len(self._held) < limit else Result.CHANGED
            return
        self._counted = self._claim.end - self._place.offset
        self._reader._learn(Delivery.WINDOW, final=self._final)
        self._reader._grew(self._counted)
        self._result = Result.MORE if self._claim.full else Result.GROWN

    def rest(self) -> Iterator[bytes]:
        """New bytes that `end` found in what was only counted; the place moves with each piece."""
        if self._counted and self._place.run is not None:
            for piece in _repeated(self._place.run.byte, self._counted):
                yield self._emit(piece)
            self._counted = 0

    def _sample(self) -> bytes:
        start = self._ask.offset if self._window_from is None else self._window_from
        assert start is not None
        return self._place.sample(self._place.offset - start)

    def _differs(self) -> bytes:
        self._ignore(Result.CHANGED)
        self._held = b""
        return b""

    def _as_window(self) -> bytes:
        held, self._held = self._held, b""
        if self._window_from is None:
            self._reader._learn(Delivery.WINDOW, final=self._final)
        self._mode = _Mode.EMIT
        return self._emit(held[len(self._sample()) :])

    def _as_whole(self) -> bytes:
        held, self._held = self._held, b""
        self._limited = False
        self._mode = _Mode.SKIP
        return self._skip(held)

    def _skip(self, data: bytes) -> bytes:
        """Let the known prefix stream past, and give what follows once its CRC has proved it."""
        here, place = self._skipped, self._place
        known = data[: place.offset - here]
        self._skipped += len(known)
        self._skip_crc = zlib.crc32(known[max(0, place.start - here) :], self._skip_crc)
        self._skip_run.feed(known)
        if here < SAMPLE_BYTES:
            self._skip_head += known[: SAMPLE_BYTES - here]
        if self._skipped < place.offset:
            return b""
        if self._skip_crc != place.crc:
            return self._differs()
        if place.head is None or place.run is None:
            place.meet(self._skip_head, self._skip_run)
        if self._ask.offset:
            self._limited = False
            self._reader._learn(Delivery.WHOLE, final=self._final)
        self._mode = _Mode.EMIT
        return self._emit(data[len(known) :])

    def _emit(self, data: bytes) -> bytes:
        if data:
            self._place.advance(data)
            self._new += len(data)
        if self._limited and self._ask.offset == 0 and self._received > (self._ask.limit or 0):
            # Longer than asked for: this server does not know windows.
            self._limited = False
            self._reader._learn(Delivery.WHOLE, final=self._final)
        return data

    def end(self, *, proven: bool = True) -> Result:
        """The body ended well; `rest` has new bytes that were held back until now.

        Args:
            proven: HTTP itself says that the body is complete (a length or chunks). A body that just
                stopped may have been cut, so its shortness means nothing until it keeps to it.
        """
        if self._mode is _Mode.RECHECK:
            return self._end_recheck(proven=proven)
        if self._mode is _Mode.HOLD:
            self._end_count()
        elif self._mode is _Mode.CLAIM:
            self._end_claim()
        if self._result is not None:
            return self._result
        whole = self._reader._whole(self._received, proven=proven)
        if self._mode is not _Mode.EMIT:
            return self._end_early(whole=whole)
        new = self._new + self._counted
        if new:
            self._reader._grew(new)
        full = self._limited and self._ask.limit is not None and self._received >= self._ask.limit
        self._remember_etag(valid=whole and not full)
        if full:
            return Result.MORE
        return Result.GROWN if new else Result.SAME if whole else Result.UNPROVEN

    def _end_early(self, *, whole: bool) -> Result:
        """The answer ended before the known bytes did."""
        beginning = self._mode is _Mode.SKIP and self._limited and self._ask.limit == SAMPLE_BYTES
        if beginning and self._received == SAMPLE_BYTES:
            # Just the beginning that was asked for: from here on windows can be told.
            self._place.meet(self._skip_head, self._skip_run)
            return Result.MORE
        return Result.SHORTER if whole else Result.UNPROVEN

    def _end_recheck(self, *, proven: bool) -> Result:
        reader = self._reader
        reader._unproven += 1
        if proven or reader._unproven >= DOUBTS:
            return Result.CHECKED
        self.broken()
        return Result.UNPROVEN

    def broken(self) -> None:
        """The body broke off. What was given stays given; the next ask goes on after it."""
        if self._reader._recheck is not None:
            self._reader._recheck = self._place.recheck()

    def _remember_etag(self, *, valid: bool) -> None:
        """Keep the validator of a body that was exactly the trace as far as it is known now.

        Of a full window or a cut body it may stand for more than arrived, and would hide that for ever.
        """
        whole = self._status == 200 and (not self._limited or self._ask.offset == 0)
        exact = valid and whole and self._received == self._place.offset
        self._reader._etag = self._etag if exact else None


def _expected_etag(body: bytes) -> str | None:
    """The ETag Rack gives a body, so that an unchanged window costs no byte; none for an empty one."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"' if body else None


def _repeated(byte: bytes, count: int) -> Iterator[bytes]:
    """*byte* *count* times, in pieces."""
    for at in range(0, count, SLICE_BYTES):
        yield byte * min(SLICE_BYTES, count - at)
