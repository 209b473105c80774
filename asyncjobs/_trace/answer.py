"""One answer of a server that gives a log, while it streams past: which of its bytes are new.

Gives out only bytes whose past it has recognised, and holds no more than the overlap: the rest is
compared by CRC-32, or counted where the log is one byte repeated. How the kinds of answers are told
apart is in `asyncjobs._trace.reading`, which asks.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file, merge requests 257010 and 255994
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from asyncjobs._trace.asking import DOUBTS, WINDOW_BYTES, Ask, Claim, Delivery, Knowledge, Result
from asyncjobs._trace.place import SAMPLE_BYTES, LeadingRun, Place

SLICE_BYTES: Final = 64 << 10
"""Most bytes given at once of those that were only counted."""


class _Mode(Enum):
    RECOGNISE = "recognise"
    HOLD = "hold"
    OVERLAP = "overlap"
    SKIP = "skip"
    EMIT = "emit"
    RECHECK = "recheck"
    IGNORE = "ignore"


_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Answer:
    """One answer on its way: `feed` gives the new bytes in it, `end` what it meant."""

    def __init__(
        self,
        known: Knowledge,
        place: Place,
        ask: Ask,
        status: int,
        headers: Mapping[str, str],
        *,
        final: bool,
    ) -> None:
        self._known = known
        self._place = place
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
        self._claim, known.claim = known.claim, None
        self._result: Result | None = None
        self._window_from: int | None = None
        self._due: int | None = None
        self._certain = False
        self._limited = ask.offset is not None and status == 200
        self._mode = self._first_mode(headers)

    def settled(self) -> bool:
        """Whether the rest of the body cannot matter, so that the exchange may be closed."""
        return self._mode is _Mode.IGNORE

    @property
    def new_bytes(self) -> int:
        """How many bytes `feed` gave."""
        return self._new

    @property
    def certain(self) -> bool:
        """Whether it is proven, once it has ended, that the log had nothing more at that moment.

        No window proves it, because a server may give less than it was asked for; nor does a body that
        ended with its connection.
        """
        return self._certain

    def _first_mode(self, headers: Mapping[str, str]) -> _Mode:
        place, ask = self._place, self._ask
        if self._status == 304:
            return self._ignore(Result.SAME if ask.if_none_match else Result.UNPROVEN)
        if self._status == 416:
            self._known.range_works = False
            return self._ignore(Result.SHORTER)
        if self._status == 206:
            found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            encoded = headers.get("content-encoding", "identity") != "identity"
            if found is None or encoded or ask.range_start is None or int(found[1]) != ask.range_start:
                # A part of something else. Nothing is spliced; the next read asks for the whole.
                self._known.range_works = False
                return self._ignore(Result.UNPROVEN)
            self._window_from = ask.range_start
            end = int(found[2]) + 1 if found[3] == "*" else int(found[3])
            self._due = end - ask.range_start
            return _Mode.OVERLAP
        if self._known.recheck is not None:
            return _Mode.RECHECK
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
            assert self._known.recheck is not None
            self._known.recheck.feed(data)
            if self._known.recheck.differs or self._known.recheck.complete:
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
        limit, run = self._ask.limit, self._place.run
        assert limit is not None
        assert run is not None
        rest = self._run.feed(data)
        if self._received > limit or (rest and run.over and self._run.length == run.length):
            if self._received > limit:
                self._known.learn(Delivery.WHOLE, final=self._final)
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
        known, offset, limit = self._place.run, self._ask.offset, self._ask.limit
        assert known is not None
        assert offset is not None
        size, overlap = self._run.length, len(self._sample())
        if size < overlap:
            # Whatever it was, it is shorter than what was delivered.
            self._mode = _Mode.OVERLAP
            return
        proves = self._claim is not None and size == limit
        if proves or size in (overlap, WINDOW_BYTES) or size > known.length:
            self._counted = size - overlap
            if self._counted:
                self._known.learn(Delivery.WINDOW, final=self._final)
            self._mode = _Mode.EMIT
            return
        if self._claim is not None:
            # It says something else again. What was delivered is not in doubt; the next poll begins anew.
            self._result = Result.UNPROVEN
            return
        # Up to all of the overlap but one byte is left out, so that every new byte comes again.
        less = 1 + offset % (overlap - 1)
        self._known.claim = Claim(offset + less, size - less, size == limit)
        self._result = Result.MORE

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
            self._known.learn(Delivery.WINDOW, final=self._final)
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
            self._known.learn(Delivery.WHOLE, final=self._final)
        self._mode = _Mode.EMIT
        return self._emit(data[len(known) :])

    def _emit(self, data: bytes) -> bytes:
        if data:
            self._place.advance(data)
            self._new += len(data)
            # It stood for what was delivered before; a node that lags would say "unchanged" to it.
            self._known.etag = None
        if self._limited and self._ask.offset == 0 and self._received > (self._ask.limit or 0):
            # Longer than asked for: this server does not know windows.
            self._limited = False
            self._known.learn(Delivery.WHOLE, final=self._final)
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
        if self._result is not None:
            return self._result
        if self._due is not None:
            # A part says itself how much is left of the log; nothing else can prove that it is whole.
            proven = self._received == self._due
        self._certain = proven and not self._limited
        if self._mode is not _Mode.EMIT:
            return self._end_early(whole=self._known.shorter(self._received, proven=proven))
        new = self._new + self._counted
        if new:
            self._known.grew(new)
        whole = self._known.reached(proven=proven) and (proven or self._due is None)
        full = self._limited and self._ask.limit is not None and self._received >= self._ask.limit
        self._remember_etag(valid=proven and not full)
        if full and (self._claim is None or self._claim.full):
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
        self._known.unproven += 1
        if proven or self._known.unproven >= DOUBTS:
            return Result.CHECKED
        self.broken()
        return Result.UNPROVEN

    def broken(self) -> None:
        """The body broke off. What was given stays given; the next ask goes on after it."""
        if self._known.recheck is not None:
            self._known.recheck = self._place.recheck()

    def _remember_etag(self, *, valid: bool) -> None:
        """Keep the validator of a body that was exactly the trace as far as it is known now.

        Of a full window or a cut body it may stand for more than arrived, and would hide that for ever.
        """
        whole = self._status == 200 and (not self._limited or self._ask.offset == 0)
        exact = valid and whole and self._received == self._place.offset
        self._known.etag = self._etag if exact else None


def _repeated(byte: bytes, count: int) -> Iterator[bytes]:
    """*byte* *count* times, in pieces."""
    for at in range(0, count, SLICE_BYTES):
        yield byte * min(SLICE_BYTES, count - at)
