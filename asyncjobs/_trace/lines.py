r"""Bytes of a trace in, lines out: what ends a line, what a runner's marks mean, what is text.

A line ends at `\n` alone, because runners put bare `\r` into section markers and progress bars. The
raw bytes of all lines, joined, are the bytes fed in. Where the bytes come from, and who wants the
lines, is not known here.

Grammar: gitlab-runner `helpers/build_section.go` and
`common/buildlogger/internal/timestamper/timestamper.go`; GitLab `lib/gitlab/ci/trace/stream.rb` and
`lib/gitlab/ci/ansi2json/converter.rb`; https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections

Continued entries
-----------------
In a timestamped trace an entry marked `+` continues the entry before it *of the same stream*, and
entries of other streams may stand between the two. `raw` has to stay in file order and `text` has to
be joined per stream, so the pieces of one line cannot all lie in the `raw` of that line. The rule:

- a line comes out when it is complete, and its `raw` is everything read since the line that came out
  before it. So the bytes of an unfinished piece travel with the next line that comes out, and a line
  whose bytes have all travelled already has an empty `raw`;
- `timestamp` is the stamp of the first piece.

A runner cuts an entry short only after a `\r` or 8 KiB without a newline. Every other entry is known
to be complete and comes out at once; those two kinds wait for the next entry of their stream.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NamedTuple

MAX_LINE_BYTES: Final = 1 << 20
"""A line longer than this is delivered in parts that share its number."""

HEADER_BYTES: Final = 32
"""Length of the header of a timestamped entry."""

CONTINUED_BYTES: Final = 8 << 10
"""A runner flushes an unfinished entry once it holds this much."""

MAX_OPEN_SECTIONS: Final = 64
"""Deeper nesting is somebody's mistake; the outermost sections are forgotten."""

_HEADER = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]")
_STREAMS: Final = {ord("O"): "stdout", ord("E"): "stderr"}
_PLUS: Final = ord("+")
_MARKER = re.compile(
    r"section_(start|end):(\d+):([A-Za-z0-9_.\-]+)(?:\[\w+=\w+(?:, ?\w+=\w+)*\])?\r\x1b\[0K", re.ASCII
)


class TraceLine(NamedTuple):
    """One line of a trace, or one part of a line longer than `MAX_LINE_BYTES`.

    A tuple, because one is built per line and an attrs class costs twice as much.
    """

    raw: bytes
    text: str
    offset: int
    """Position of the first byte of `raw`."""
    number: int
    """Counts lines from 1; the parts of a long line share one number."""
    timestamp: datetime | None
    stream: str | None
    section: str | None


class _Open:
    """A timestamped line that may still be continued: its text so far and its first stamp."""

    __slots__ = ("number", "pieces", "size", "stamp")

    def __init__(self, stamp: datetime | None, number: int) -> None:
        self.stamp = stamp
        self.number = number
        self.pieces: list[bytes] = []
        self.size = 0


class LineParser:
    """Cuts a trace into lines, fed in pieces of any size.

    Args:
        offset: Position of the first byte that will be fed; it should begin a line.
        number: How many lines came before it.
        max_line: Bytes after which a line is delivered in parts. Memory is at most about twice this,
            and that only while such a line is incomplete.
    """

    def __init__(self, *, offset: int = 0, number: int = 0, max_line: int = MAX_LINE_BYTES) -> None:
        self._offset = offset
        self._max = max_line
        self._number = number
        self._rest = bytearray()
        self._stamped: bool | None = None
        self._part_of_line = False
        self._sections: list[str] = []
        self._open: dict[bytes, _Open] = {}
        self._held: list[bytes] = []
        self._held_size = 0

    @property
    def offset(self) -> int:
        """Position after the last byte that came out in some line's `raw`."""
        return self._offset

    @property
    def number(self) -> int:
        """The number of the newest line."""
        return self._number

    @property
    def pending_bytes(self) -> int:
        """Bytes fed that have not come out yet."""
        return len(self._rest) + self._held_size

    def feed(self, data: bytes) -> list[TraceLine]:
        """Take the next bytes and give the lines that are complete with them."""
        last = data.rfind(b"\n") + 1
        if not last:
            self._rest += data
            return self._cut_rest() if len(self._rest) > self._max else []
        whole = data if last == len(data) else data[:last]
        if self._rest:
            whole = bytes(self._rest) + whole
            self._rest.clear()
        out: list[TraceLine] = []
        self._lines(whole, out)
        if last < len(data):
            self._rest += data[last:]
            if len(self._rest) > self._max:
                out += self._cut_rest()
        return out

    def finish(self) -> list[TraceLine]:
        """Give what is left: the last line without its newline, and lines that waited to be continued."""
        out: list[TraceLine] = []
        if self._rest:
            whole = bytes(self._rest)
            self._rest.clear()
            self._decide(whole)
            self._entry(whole, out)
        for key in list(self._open):
            self._close(key, out)
        return out

    def _lines(self, whole: bytes, out: list[TraceLine]) -> None:
        """Deliver bytes that end with a newline. Plain lines pay for nothing rare."""
        self._decide(whole)
        rare = (
            self._stamped
            or self._part_of_line
            or b"\r" in whole
            or (len(whole) > self._max and _longest(whole) > self._max)
        )
        if rare:
            for raw in whole.splitlines(keepends=True) if b"\r" not in whole else _split(whole):
                self._entry(raw, out)
            return
        section = self._sections[-1] if self._sections else None
        offset, number = self._offset, self._number
        append, new = out.append, tuple.__new__
        for piece in whole[:-1].split(b"\n"):
            number += 1
            append(
                new(
                    TraceLine,
                    (piece + b"\n", piece.decode("utf-8", "replace"), offset, number, None, None, section),
                )
            )
            offset += len(piece) + 1
        self._offset, self._number = offset, number

    def _decide(self, whole: bytes) -> None:
        """The first line decides whether this trace has headers: it is on every entry or on none."""
        if self._stamped is None:
            self._stamped = _HEADER.match(whole) is not None

    def _cut_rest(self) -> list[TraceLine]:
        """Deliver parts of a line that is longer than the limit and still has no end."""
        out: list[TraceLine] = []
        whole = bytes(self._rest)
        self._decide(whole)
        start = 0
        while len(whole) - start > self._max:
            cut = _cut(whole, start, self._max)
            self._part(whole[start:cut], out)
            start = cut
        self._rest = bytearray(whole[start:])
        return out

    def _part(self, raw: bytes, out: list[TraceLine]) -> None:
        """Deliver the beginning or the middle of a line that goes on."""
        if self._part_of_line or not self._stamped or _HEADER.match(raw) is None:
            if not self._part_of_line:
                self._number += 1
            self._hold(raw)
            self._emit_text(raw, None, None, self._number, out)
        else:
            self._stamped_entry(raw, out, ends=False)
        self._part_of_line = True

    def _entry(self, raw: bytes, out: list[TraceLine]) -> None:
        """Deliver one physical line, newline included unless the trace ends without it."""
        start = 0
        while len(raw) - start > self._max:
            cut = _cut(raw, start, self._max)
            self._part(raw[start:cut], out)
            start = cut
        if start:
            raw = raw[start:]
        if self._part_of_line:
            self._part_of_line = False
            self._hold(raw)
            self._emit_text(raw, None, None, self._number, out)
        elif self._stamped and _HEADER.match(raw) is not None:
            self._stamped_entry(raw, out, ends=True)
        else:
            self._number += 1
            self._hold(raw)
            self._emit_text(raw, None, None, self._number, out)

    def _stamped_entry(self, raw: bytes, out: list[TraceLine], *, ends: bool) -> None:
        key, body = raw[28:31], raw[HEADER_BYTES:]
        if raw[31] != _PLUS:
            if key in self._open:
                self._close(key, out)
            self._number += 1
        line = self._open.pop(key, None)
        self._hold(raw)
        if line is None:
            stamp = _moment(raw[:27])
            if ends and len(body) < CONTINUED_BYTES and b"\r" not in body:
                # The usual case: a full line, and nothing of its stream waits.
                if raw[31] == _PLUS:
                    self._number += 1
                self._emit_text(body, stamp, _STREAMS[raw[30]], self._number, out)
                return
            if raw[31] == _PLUS:
                self._number += 1
            line = _Open(stamp, self._number)
        line.pieces.append(body.removesuffix(b"\n"))
        line.size += len(body)
        self._open[key] = line
        complete = ends and len(body) < CONTINUED_BYTES and b"\r" not in body
        if complete or not ends or self._held_size > self._max or line.size > self._max:
            self._close(key, out)

    def _close(self, key: bytes, out: list[TraceLine]) -> None:
        line = self._open.pop(key)
        self._emit_text(b"".join(line.pieces), line.stamp, _STREAMS[key[2]], line.number, out)

    def _hold(self, raw: bytes) -> None:
        self._held.append(raw)
        self._held_size += len(raw)

    def _emit_text(
        self, body: bytes, stamp: datetime | None, stream: str | None, number: int, out: list[TraceLine]
    ) -> None:
        text = body.decode("utf-8", "replace")
        if text.endswith("\n"):
            text = text[:-1]
        if "\r" in text:
            text, section = self._without_markers(text)
            text = text.rstrip("\r")
            text = text[text.rfind("\r") + 1 :]
            self._emit(text, stamp, stream, number, out, section)
        else:
            self._emit(text, stamp, stream, number, out, self._sections[-1] if self._sections else None)

    def _emit(
        self,
        text: str,
        stamp: datetime | None,
        stream: str | None,
        number: int,
        out: list[TraceLine],
        section: str | None,
    ) -> None:
        held = self._held
        raw = held[0] if len(held) == 1 else b"".join(held)
        held.clear()
        self._held_size = 0
        out.append(TraceLine(raw, text, self._offset, number, stamp, stream, section))
        self._offset += len(raw)

    def _without_markers(self, text: str) -> tuple[str, str | None]:
        """Cut the section markers out; the section is the one around the last visible piece."""
        if "section_" not in text:
            return text, self._sections[-1] if self._sections else None
        pieces: list[str] = []
        at, inside, seen = 0, None, False
        for marker in _MARKER.finditer(text):
            piece = text[at : marker.start()]
            if piece:
                pieces.append(piece)
                inside, seen = (self._sections[-1] if self._sections else None), True
            self._mark(marker[1], marker[3])
            at = marker.end()
        if text[at:] or not seen:
            pieces.append(text[at:])
            inside = self._sections[-1] if self._sections else None
        return "".join(pieces), inside

    def _mark(self, kind: str, name: str) -> None:
        """Open or close a section: an end without start is ignored, an outer end closes the inner ones."""
        if kind == "start":
            self._sections.append(name)
            if len(self._sections) > MAX_OPEN_SECTIONS:
                del self._sections[0]
        elif name in self._sections:
            while self._sections.pop() != name:
                pass


def _split(whole: bytes) -> list[bytes]:
    """Lines with their newline, of bytes that end with one; `splitlines` would also split at CR."""
    return [piece + b"\n" for piece in whole[:-1].split(b"\n")]


def _longest(whole: bytes) -> int:
    return max(map(len, whole.split(b"\n"))) + 1


def _cut(data: bytes, start: int, size: int) -> int:
    """Where to end a part that begins at *start*: at most *size* bytes, not inside a UTF-8 character."""
    cut = start + size
    for back in range(4):
        if cut - back <= start:
            break
        if data[cut - back] & 0xC0 != 0x80:
            return cut - back
    return cut


def _moment(stamp: bytes) -> datetime | None:
    """Read a header's time, or None when the digits are no date."""
    try:
        return datetime.fromisoformat(stamp.decode("ascii"))
    except ValueError:
        return None
