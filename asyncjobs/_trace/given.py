"""How far each log of a tail was given to whoever takes its events, to go on from there at any time.

Counted where events are taken: what waits in a queue, or is a line that is not complete yet, was not given.
"""

from __future__ import annotations

import zlib

import attrs

from asyncjobs._models import (
    CURSOR_TAIL_BYTES,
    JobFinished,
    JobRef,
    LogLine,
    TailEvent,
    TailFailed,
    TailPaused,
    TraceCursor,
)


@attrs.frozen
class Entered:
    """A log is given from this place on. Stands in the queue before its lines, and nobody else sees it."""

    cursor: TraceCursor


@attrs.frozen
class LeftOut:
    """Bytes of a log that are not wanted as lines; they count all the same."""

    ref: JobRef
    data: bytes


@attrs.define
class _Reached:
    ref: JobRef
    offset: int
    crc: int
    tail: bytes
    proven: bool
    """The CRC is that of everything before, not only from where the log was entered."""

    def advance(self, data: bytes) -> None:
        self.offset += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self.tail = (
            data[-CURSOR_TAIL_BYTES:]
            if len(data) >= CURSOR_TAIL_BYTES
            else (self.tail + data)[-CURSOR_TAIL_BYTES:]
        )

    def cursor(self) -> TraceCursor:
        return TraceCursor(self.ref, self.offset, self.crc if self.proven else 0, self.tail)


class Given:
    """The places of the logs that were begun and have not ended: about 300 bytes for each."""

    def __init__(self) -> None:
        self._reached: dict[int, _Reached] = {}

    def take(self, item: TailEvent | Entered | LeftOut) -> TailEvent | None:
        """Count what is being given; the event, or None for what nobody else is to see."""
        match item:
            case LogLine():
                self._reached[item.ref.job_id].advance(item.raw)
            case LeftOut():
                self._reached[item.ref.job_id].advance(item.data)
                return None
            case Entered(cursor=cursor):
                proven = cursor.crc != 0 or cursor.offset == 0
                place = _Reached(cursor.ref, cursor.offset, cursor.crc, cursor.tail, proven)
                self._reached[cursor.ref.job_id] = place
                return None
            case JobFinished() | TailFailed() | TailPaused():
                self._reached.pop(item.ref.job_id, None)
        return item

    def cursors(self) -> dict[JobRef, TraceCursor]:
        """The place after the last line that was given, for each log."""
        return {place.ref: place.cursor() for place in self._reached.values()}
