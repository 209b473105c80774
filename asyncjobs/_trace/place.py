"""A place in a trace: how far it was read, and enough of what came before to prove it again.

Beside the running CRC-32 of all bytes it keeps the last few KiB and the CRC at some line starts, so
that a trace whose past changed is taken up again near the change instead of from its beginning.
"""

from __future__ import annotations

import zlib
from typing import Final

import attrs

from asyncjobs._models import CURSOR_TAIL_BYTES, JobRef, TraceCursor

SAMPLE_BYTES: Final = 256
"""Length of the head and tail samples by which answers are recognised."""

RECENT_BYTES: Final = 4096
"""How many of the last bytes are kept to find the exact place of a change near the end."""

MAX_CHECKPOINTS: Final = 64
"""How many CRCs at line starts are kept; the longer ago, the fewer."""

CHECKPOINT_BYTES: Final = 16 << 10
"""Distance between new checkpoints, at least."""


@attrs.frozen
class Checkpoint:
    """The CRC of everything before an offset."""

    offset: int
    crc: int


class LeadingRun:
    """Counts how often the first byte of a stream is repeated before another one comes.

    A log of one byte is the only one whose every part looks like its beginning, so where this run
    ends is what tells its parts from its whole.
    """

    def __init__(self) -> None:
        self.byte = b""
        self.length = 0
        self.over = False
        """Another byte has come."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; gives those after the run."""
        if self.over or not data:
            return data
        self.byte = self.byte or data[:1]
        rest = data.lstrip(self.byte)
        self.length += len(data) - len(rest)
        self.over = bool(rest)
        return rest

    def cut(self, offset: int) -> None:
        """Forget everything from *offset* on."""
        if offset <= self.length:
            self.length, self.over = offset, False


class Place:
    """Bytes delivered so far, and what they were.

    Args:
        offset: Where reading starts.
        crc: CRC-32 of everything before it, counted from *start*.
        tail: The last bytes before it.
        start: Where the proof begins: 0, or later when the trace was entered in the middle.
    """

    def __init__(self, offset: int = 0, crc: int = 0, tail: bytes = b"", start: int = 0) -> None:
        self.start = start
        self.offset = offset
        self.crc = crc
        self.head: bytes | None = b"" if offset == 0 else None
        """First bytes of the trace, or None while they were never seen."""
        self.run: LeadingRun | None = LeadingRun() if offset == 0 else None
        """How the trace begins, or None while that is not known as far as it was delivered."""
        self._before = tail
        self._recent = b""
        self._base = Checkpoint(offset, crc)
        self._checkpoints = [Checkpoint(start, 0)]
        self._line = self._checkpoints[0]
        """The last line start before the kept bytes."""

    @classmethod
    def from_cursor(cls, cursor: TraceCursor | None) -> Place:
        """Go on where a cursor stands.

        A cursor with bytes but without a CRC comes from a tail that began in the middle: only its
        last bytes prove the place then.
        """
        if cursor is None:
            return cls()
        if cursor.offset and not cursor.crc:
            return cls.inside(cursor.offset, cursor.tail)
        return cls(cursor.offset, cursor.crc, cursor.tail)

    @classmethod
    def inside(cls, offset: int, tail: bytes) -> Place:
        """Begin in the middle, after the bytes *tail*."""
        return cls(offset, zlib.crc32(tail), tail, start=offset - len(tail))

    def cursor(self, ref: JobRef) -> TraceCursor:
        """The place as a value that can be printed; without CRC when the beginning was left out."""
        return TraceCursor(ref, self.offset, 0 if self.start else self.crc, self.sample(CURSOR_TAIL_BYTES))

    def sample(self, size: int) -> bytes:
        """The last *size* bytes delivered, fewer near the beginning."""
        if len(self._recent) >= size:
            return self._recent[-size:]
        return (self._before + self._recent)[-size:]

    def meet(self, head: bytes, run: LeadingRun) -> None:
        """Learn how a trace begins that was entered in the middle.

        Args:
            head: Its first `SAMPLE_BYTES` bytes.
            run: Of everything delivered, or of less when it is over.
        """
        self.head = head
        if run.over or run.length == self.offset:
            self.run = run

    def overlap(self, least: int) -> int | None:
        """How many of the last bytes to ask for again, so that a part cannot look like the whole.

        About *least*. When both that and one byte less look like the beginning, the end is one byte
        repeated, and only the byte before can tell; None when that is too far back, or the beginning is
        not known.
        """
        if self.head is None:
            return None
        recent = self.sample(SAMPLE_BYTES + 1)
        repeated = len(recent) - len(recent.rstrip(recent[-1:]))
        for size in (least, least - 1, repeated + 1):
            if 0 < size <= len(recent) and recent[-size:][:SAMPLE_BYTES] != self.head[:size]:
                return size
        return None

    def advance(self, data: bytes) -> None:
        """Take the next bytes."""
        if self.head is not None and len(self.head) < SAMPLE_BYTES:
            self.head += data[: SAMPLE_BYTES - len(self.head)]
        if self.run is not None:
            self.run.feed(data)
        newline = data.rfind(b"\n") + 1
        if newline and self.offset + newline - self._checkpoints[-1].offset >= CHECKPOINT_BYTES:
            crc = zlib.crc32(memoryview(data)[:newline], self.crc)
            self._checkpoints.append(Checkpoint(self.offset + newline, crc))
            self.crc = zlib.crc32(memoryview(data)[newline:], crc)
            if len(self._checkpoints) > MAX_CHECKPOINTS:
                self._thin_out()
        else:
            self.crc = zlib.crc32(data, self.crc)
        self.offset += len(data)
        self._remember(data)

    def _thin_out(self) -> None:
        """Give up the checkpoint that is missed least: gaps may be the wider, the longer ago they are."""
        marks, end = self._checkpoints, self._checkpoints[-1].offset
        least = min(
            range(1, len(marks) - 1),
            key=lambda i: (marks[i + 1].offset - marks[i - 1].offset) / (end - marks[i - 1].offset),
        )
        del marks[least]

    def _remember(self, data: bytes) -> None:
        """Keep the last bytes, and the CRC of all bytes before them."""
        recent = self._recent + data
        if len(recent) > RECENT_BYTES:
            cut = len(recent) - RECENT_BYTES // 2
            gone, recent = recent[:cut], recent[cut:]
            self._before = (self._before + gone[-SAMPLE_BYTES:])[-SAMPLE_BYTES:]
            newline, crc = gone.rfind(b"\n") + 1, self._base.crc
            if newline:
                crc = zlib.crc32(memoryview(gone)[:newline], crc)
                self._line = Checkpoint(self._base.offset + newline, crc)
            crc = zlib.crc32(memoryview(gone)[newline:], crc)
            self._base = Checkpoint(self._base.offset + len(gone), crc)
        self._recent = recent

    def recheck(self) -> Recheck:
        """Begin to compare another copy of the trace with what was delivered."""
        marks = [c for c in self._checkpoints if c.offset < self._line.offset]
        marks += [self._line, self._base] if self._line.offset < self._base.offset else [self._base]
        return Recheck(self.start, marks, self._recent)

    def rewind(self, offset: int, crc: int, tail: bytes) -> None:
        """Go back to a place that a recheck found good.

        Up to `start` nothing was proven before: the CRC of such a place counts from 0, and so does the
        proof from then on.
        """
        if offset <= self.start:
            self.start, self._checkpoints = 0, [Checkpoint(0, 0)]
        self._checkpoints = [c for c in self._checkpoints if c.offset <= offset]
        self._line = Checkpoint(offset, crc)
        if self.head is not None:
            self.head = self.head[:offset]
        if self.run is not None:
            self.run.cut(offset)
        if not offset:
            self.head, self.run = b"", LeadingRun()
        self.offset, self.crc = offset, crc
        self._before, self._recent, self._base = tail, b"", Checkpoint(offset, crc)


class Recheck:
    """Compares a trace, fed from its first byte, with what was delivered, and finds where it differs.

    What stood before *start* was never delivered, so the line there is where going on is right when all
    after it differs; a copy that does not even reach so far is another log, and is read from its first byte.
    """

    def __init__(self, start: int, marks: list[Checkpoint], recent: bytes) -> None:
        self._skip = start
        self._marks = [mark for mark in marks if mark.offset > start]
        self._recent = recent
        self._matched = 0
        self._crc = 0
        self._last = b""
        self._entry = 0, 0, b""
        self.seen = 0
        """Bytes fed."""
        self.differs = False
        self.good_offset = 0
        """The last line start up to which everything was the same, or else where the copy is entered anew."""
        self.good_crc = 0
        self.good_tail = b""

    @property
    def complete(self) -> bool:
        """Every delivered byte is still there."""
        return not self.differs and not self._marks and not self._skip and self._matched == len(self._recent)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the other copy."""
        self.seen += len(data)
        if self._skip:
            data = self._to_start(data)
        while data and not self.differs and not self.complete:
            data = self._to_mark(data) if self._marks else self._in_recent(data)

    def _to_start(self, data: bytes) -> bytes:
        """Pass by what was never delivered; the last line start in it is kept."""
        here = self.seen - len(data)
        piece, rest = data[: self._skip], data[self._skip :]
        self._skip -= len(piece)
        newline = piece.rfind(b"\n") + 1
        self._take(piece[:newline])
        if newline:
            self._entry = here + newline, self._crc, self._last
        self._take(piece[newline:])
        if not self._skip:
            self.good_offset, self.good_crc, self.good_tail = self._entry
            self._crc = 0
        return rest

    def _to_mark(self, data: bytes) -> bytes:
        mark = self._marks[0]
        here = self.seen - len(data)
        piece, rest = data[: mark.offset - here], data[mark.offset - here :]
        self._take(piece)
        if here + len(piece) == mark.offset:
            if self._crc != mark.crc:
                self.differs = True
            else:
                del self._marks[0]
                # The last mark stands wherever the kept bytes begin, and lines are cut anew after a reset.
                if self._last.endswith(b"\n"):
                    self._good(mark.offset)
        return rest

    def _in_recent(self, data: bytes) -> bytes:
        here = self.seen - len(data)
        wanted = self._recent[self._matched : self._matched + len(data)]
        same = _common(wanted, data)
        newline = wanted.rfind(b"\n", 0, same) + 1
        self._take(data[:newline])
        if newline:
            self._good(here + newline)
        self._take(data[newline:same])
        self._matched += same
        self.differs = same < len(wanted)
        return data[len(wanted) :]

    def _take(self, piece: bytes) -> None:
        self._crc = zlib.crc32(piece, self._crc)
        self._last = (self._last + piece[-SAMPLE_BYTES:])[-SAMPLE_BYTES:]

    def _good(self, offset: int) -> None:
        self.good_offset, self.good_crc, self.good_tail = offset, self._crc, self._last


def _common(a: bytes, b: bytes) -> int:
    """How many first bytes are the same."""
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    return next(i for i in range(size) if a[i] != b[i])
