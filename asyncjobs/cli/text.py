"""Numbers and words as a person reads them: sizes, durations, ages, one safe line.

Pure functions; nothing here knows a terminal or a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncjobs import sanitize_text

if TYPE_CHECKING:
    from datetime import datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size(count: int | None) -> str:
    """Bytes as `812 B`, `3.4 MiB`; a dash when unknown."""
    if count is None:
        return "-"
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    raise AssertionError("unreachable")


def duration(seconds: float | None) -> str:
    """Seconds as `4.2s`, `42s`, `3m05s`, `2h07m`, `3d04h`; a dash when unknown."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def span(seconds: float | None) -> str:
    """Seconds as an option takes them: `60s`, `0.5s`; `no limit` for None."""
    return "no limit" if seconds is None else f"{seconds:g}s"


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in one unit: `5s`, `12m`, `3h`, `9d`; a dash when unknown."""
    if moment is None:
        return "-"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def plain(text: object) -> str:
    """Text from a server as one line that cannot drive a terminal."""
    return " ".join(sanitize_text(str(text)).split())


def shorten(text: str, width: int) -> str:
    """At most *width* characters; what goes is in the middle, since both ends of a name tell it apart."""
    if len(text) <= width:
        return text
    if width < 3:
        return text[:width]
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def shorten_path(path: str, width: int) -> str:
    """At most *width* characters; what goes is in front, since the last part of a path tells it apart."""
    return path if len(path) <= width or width < 2 else f"…{path[1 - width :]}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 job`, `1,200 jobs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
