"""Where the last lines of a log begin, counted while the whole of it streams past.

Only the starts that may still be wanted are kept, each with what proves it; the bytes themselves are let go.
"""

from __future__ import annotations

import zlib
from collections import deque

from asyncjobs._models import CURSOR_TAIL_BYTES
from asyncjobs._trace.place import Place


class LineStarts:
    """Takes a log from its first byte; keeps about 250 bytes for each line wanted.

    Args:
        lines: How many of the last lines are wanted; 0 for the end alone.
    """

    def __init__(self, lines: int) -> None:
        self._most = lines + 1
        self._starts: deque[tuple[int, int, bytes]] = deque([(0, 0, b"")], maxlen=self._most)
        self._at = 0
        self._crc = 0
        self._last = b""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        ends: list[int] = []
        newline = piece.rfind(b"\n")
        # From behind: of a piece full of lines only the last ones can matter.
        while newline >= 0 and len(ends) < self._most:
            ends.append(newline + 1)
            newline = piece.rfind(b"\n", 0, newline)
        done = 0
        for end in reversed(ends):
            self._take(piece[done:end])
            self._starts.append((self._at, self._crc, self._last))
            done = end
        self._take(piece[done:])

    def _take(self, part: bytes) -> None:
        self._at += len(part)
        self._crc = zlib.crc32(part, self._crc)
        self._last = (self._last + part[-CURSOR_TAIL_BYTES:])[-CURSOR_TAIL_BYTES:]

    def place(self) -> Place:
        """The place after which the log has its last lines; one that was begun counts as a line."""
        if self._last and not self._last.endswith(b"\n"):
            self._starts.append((self._at, self._crc, self._last))
        offset, crc, tail = self._starts[0]
        return Place(offset, crc, tail)
