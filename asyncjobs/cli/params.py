"""What people type: targets, sizes, moments, rates. Text in, checked values out, or one clear refusal.

Only click is met here. Whether a web address belongs to the configured GitLab is decided when the
client is known, in `session`.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asyncjobs import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_size(text: str) -> int:
    """Bytes from `1500`, `10k`, `2.5MiB`; every unit counts in 1024s.

    Raises:
        ValueError: Not a size; the message says what is accepted.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r}; say bytes, or 500k, 20M, 1.5G")
    power = ("", "k", "m", "g", "t").index(match[2].lower())
    return int(float(match[1]) * 1024**power)


def parse_span(text: str) -> float:
    """Seconds from `90`, `90s`, `15m`, `2h`, `3d`, `1w`, or several together as `1h30m`.

    Raises:
        ValueError: Not a span; the message says what is accepted.
    """
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        parts = _SPAN.findall(text)
        if not parts or _SPAN.sub("", text).strip():
            raise ValueError(f"not a span of time: {text!r}; say 90s, 15m, 2h, 3d or 1h30m") from None
        seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"not a span of time: {text!r}; say 90s, 15m, 2h, 3d or 1h30m")
    return seconds


def parse_interval(text: str) -> float:
    """Seconds as `parse_span` reads them, and more than none: what is done so often must leave time between.

    Raises:
        ValueError: Not a span, or an empty one.
    """
    seconds = parse_span(text)
    if not seconds:
        raise ValueError(f"must be more than 0, not {text!r}")
    return seconds


def parse_factor(text: str) -> float:
    """A number above 0 that is finite.

    Raises:
        ValueError: Anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"not a number above 0: {text!r}")
    return number


def parse_moment(text: str, now: datetime) -> datetime:
    """An aware moment from an ISO 8601 date or time, or from a span before *now*.

    A time without an offset is taken as local, as everybody who types one means it.

    Raises:
        ValueError: Neither; the message says what is accepted.
    """
    try:
        return now - timedelta(seconds=parse_span(text))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"not a moment: {text!r}; say 2h, 3d, 2026-05-01 or 2026-05-01T12:00:00Z") from None
    return moment if moment.tzinfo else moment.astimezone()


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic in older releases


class _Parsed(_ParamType):
    """A parameter read by a plain function that raises ValueError."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE = _Parsed("size", parse_size)
SPAN = _Parsed("span", parse_span)
INTERVAL = _Parsed("span", parse_interval)
FACTOR = _Parsed("number", parse_factor)
MOMENT = _Parsed("when", lambda text: parse_moment(text, datetime.now(UTC)))


class _Folder(click.Path):
    """A folder that may be made. No name is not this folder: it is a shell variable that was never set."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name; say . for the folder you are in", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Folder()


class _Status(_ParamType):
    """A job status; unknown words are let through with the server as judge, typos are not."""

    name = "status"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        status = JobStatus(str(value).strip().lower())
        if not status.is_known:
            near = get_close_matches(status, JobStatus, n=1)
            hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(JobStatus)}"
            self.fail(f"{value!r} is no job status; {hint}", param, ctx)
        return str(status)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[click.shell_completion.CompletionItem]:
        return [
            click.shell_completion.CompletionItem(each) for each in JobStatus if each.startswith(incomplete)
        ]


STATUS = _Status()
