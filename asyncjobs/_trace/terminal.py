r"""Logs and names made safe for a terminal: colours pass, everything else that could drive it does not.

An allow-list: text, `\n`, `\t` and SGR colour sequences of at most 64 characters. Cursor movement,
titles, clipboard writes, hyperlinks, C0 and C1 controls (as characters and as stray bytes) and
bidirectional overrides never come out. For terminals only: a pipe or a file gets the exact bytes.

Sequences after ECMA-48 and https://invisible-island.net/xterm/ctlseqs/ctlseqs.html; the hazard is that
of GHSA-3m3g-3wcr-px46.
"""

from __future__ import annotations

import codecs
import re
from enum import Enum
from typing import Final

MAX_SGR: Final = 64
"""Longest colour sequence that passes, escape and final letter included."""

_RESET: Final = "\x1b[0m"
_RESETS: Final = frozenset({"\x1b[m", _RESET, "\x1b[0;m"})
_REPLACEMENT: Final = "\ufffd"
_BIDI: Final = "\u202a-\u202e\u2066-\u2069"
_UNSAFE = f"\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff"
_SPECIAL = re.compile(f"[{_UNSAFE}]")
_SGR = re.compile(r"\[[0-9;:]{0,61}m")
# Possessive, so that a run is found in one pass: several times faster than sequence by sequence.
_COLORED_RUN = re.compile(rf"(?:[^{_UNSAFE}]++|\x1b\[[0-9;:]{{0,61}}+m)*+")
_CSI_PLAIN = re.compile(r"[ -?]*")
_STRING_END = re.compile("[\x07\x0a\x18\x1a\x1b\x9c]")
_UNSAFE_ASCII: Final = bytes(set(range(0x20)) - {0x09, 0x0A}) + b"\x7f"
_UNSAFE_LEADS: Final = (b"\xc2", b"\xe2\x80", b"\xe2\x81")
"""How C1 controls and bidirectional overrides begin in UTF-8."""
_STRINGS_7BIT: Final = frozenset("P]X^_")
_STRINGS_8BIT: Final = frozenset("\x90\x98\x9d\x9e\x9f")


class _In(Enum):
    """Where the text stands at the end of what was fed."""

    TEXT = 0
    ESCAPE = 1
    ESCAPE_MORE = 2
    """After an intermediate character: one final character ends it."""
    CSI = 3
    STRING = 4
    STRING_ESCAPE = 5
    CR = 6


class TerminalFilter:
    r"""Makes a stream of text or bytes safe to show, fed in pieces of any size.

    Whatever the pieces, the joined output is the same, and no more than one colour sequence
    (`MAX_SGR` characters) is ever held back. An unterminated control string ends at the end of its
    line, so it cannot hide the rest of a log.

    Args:
        color: Let SGR colour sequences through; otherwise drop them too.
        redraw: Show a lone CR as a redrawn line (`\r` and "erase line"); otherwise it is a newline.
    """

    def __init__(self, *, color: bool = True, redraw: bool = False) -> None:
        self._color = color
        self._cr = "\r\x1b[K" if redraw else "\n"
        # Stray bytes become lone surrogates, by which C1 controls outside of UTF-8 are recognised.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._state = _In.TEXT
        self._held = ""
        self._colored = False

    def feed(self, data: str | bytes) -> str:
        """Take the next piece and give what may be shown of it."""
        if isinstance(data, str):
            text = data
        elif self._state is _In.TEXT and not self._pending() and _is_plain(data):
            return data.decode("ascii")
        else:
            text = self._decoder.decode(data)
        if self._state is _In.TEXT and _is_safe(text):
            return text
        return self._parse(text)

    def finish(self) -> str:
        """End the stream: an unfinished sequence is dropped, and colours are reset if any were set."""
        rest = self._decoder.decode(b"", final=True)
        out = self._parse(rest) if rest else ""
        if self._state is _In.CR:
            out += self._cr
        self._state, self._held = _In.TEXT, ""
        if self._colored:
            self._colored = False
            out += _RESET
        return out

    def _pending(self) -> bool:
        return bool(self._decoder.getstate()[0])

    def _parse(self, text: str) -> str:
        out: list[str] = []
        at, size = 0, len(text)
        while at < size:
            at = self._step(text, at, out)
        return "".join(out)

    def _step(self, text: str, at: int, out: list[str]) -> int:
        """Take one run of plain text or one piece of a sequence; give where the next begins."""
        state = self._state
        if state is _In.TEXT:
            return self._text(text, at, out)
        if state is _In.CSI:
            return self._csi(text, at, out)
        if state is _In.STRING:
            return self._string(text, at, out)
        if state is _In.CR:
            self._state = _In.TEXT
            if text[at] != "\n":
                out.append(self._cr)
            return at
        return self._escape(text, at)

    def _text(self, text: str, at: int, out: list[str]) -> int:
        """Copy a run that may pass as it is, then deal with what ended it."""
        found = (_COLORED_RUN.match if self._color else _SPECIAL.search)(text, at)
        end = len(text) if found is None else found.end() if self._color else found.start()
        run = text[at:end]
        out.append(run)
        color = run.rfind("\x1b") if self._color else -1
        if color >= 0:
            self._colored = run[color : run.index("m", color) + 1] not in _RESETS
        return end if end == len(text) else self._special(text, end, out)

    def _special(self, text: str, at: int, out: list[str]) -> int:
        """Begin a sequence, or drop or replace one character."""
        char = text[at]
        if char == "\x1b":
            self._state = _In.ESCAPE
        elif char == "\r":
            self._state = _In.CR
        elif char >= "\u2000":
            c1 = chr(ord(char) - 0xDC00) if "\udc80" <= char <= "\udc9f" else ""
            if c1:
                self._c1(c1)
            else:
                out.append(_REPLACEMENT)
        elif char >= "\x80":
            self._c1(char)
        return at + 1

    def _c1(self, char: str) -> None:
        if char == "\x9b":
            # Dropped whole, colours too: nobody writes them in eight bits, except to slip through.
            self._state, self._held = _In.CSI, "x"
        elif char in _STRINGS_8BIT:
            self._state = _In.STRING

    def _escape(self, text: str, at: int) -> int:
        """After ESC: the kind of the sequence is decided by the next character."""
        char, state = text[at], self._state
        self._state = _In.TEXT
        if state is _In.STRING_ESCAPE:
            if char == "\\":
                return at + 1
            # Not a terminator: the escape ends the string and begins something of its own.
            self._state = _In.ESCAPE
            return at
        if state is _In.ESCAPE and char == "[":
            self._state, self._held = _In.CSI, "\x1b["
        elif state is _In.ESCAPE and char in _STRINGS_7BIT:
            self._state = _In.STRING
        elif " " <= char <= "/":
            self._state = _In.ESCAPE_MORE
        elif not "0" <= char <= "~":
            return at
        return at + 1

    def _csi(self, text: str, at: int, out: list[str]) -> int:
        """Inside ESC [ : hold back what may become a colour, forget what cannot."""
        match = _CSI_PLAIN.match(text, at)
        assert match is not None
        end = match.end()
        if self._held != "x":
            self._held = self._held + text[at:end] if len(self._held) + end - at <= MAX_SGR else "x"
        if end == len(text):
            return end
        self._state = _In.TEXT
        if not "@" <= text[end] <= "~":
            return end
        held = self._held + text[end]
        if held[0] == "\x1b" and len(held) <= MAX_SGR and _SGR.fullmatch(held, 1):
            self._pass_color(held, out)
        return end + 1

    def _string(self, text: str, at: int, out: list[str]) -> int:
        """Inside OSC, DCS, APC, PM or SOS: nothing passes and nothing is held."""
        del out
        found = _STRING_END.search(text, at)
        if found is None:
            return len(text)
        end = found.start()
        self._state = _In.STRING_ESCAPE if text[end] == "\x1b" else _In.TEXT
        return end if text[end] == "\n" else end + 1

    def _pass_color(self, sequence: str, out: list[str]) -> None:
        if self._color:
            out.append(sequence)
            self._colored = sequence not in _RESETS


def _is_plain(data: bytes) -> bool:
    """Only ASCII text, newlines and tabs. `translate` reads several times faster than a pattern does."""
    return data.isascii() and len(data.translate(None, _UNSAFE_ASCII)) == len(data)


def _is_safe(text: str) -> bool:
    """Nothing to parse in *text*; False may also mean that looking closer costs as much as parsing."""
    if text.isascii():
        return _is_plain(text.encode("ascii"))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return False
    return len(data.translate(None, _UNSAFE_ASCII)) == len(data) and not any(
        lead in data for lead in _UNSAFE_LEADS
    )


def sanitize_line(text: str, *, color: bool = True) -> str:
    """Make one line of a log safe for a terminal; colours end with the line.

    Args:
        text: A line without its newline, such as `LogLine.text`.
        color: Let colour sequences through.
    """
    if text.isascii() and text.isprintable():
        return text
    terminal = TerminalFilter(color=color)
    return terminal.feed(text) + terminal.finish()


def sanitize_text(text: str) -> str:
    """Make a name, a title or a message safe to print: one line, no escape sequence, no control character."""
    if text.isprintable():
        return text
    terminal = TerminalFilter(color=False)
    return (terminal.feed(text) + terminal.finish()).translate(_ONE_LINE)


_ONE_LINE: Final = {ord("\n"): " ", ord("\t"): " ", 0x2028: " ", 0x2029: " "}
