"""Options: frozen, checked when built, durations in seconds, sizes in bytes. `None` lifts a limit.

They say what is wanted and know nobody who uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from string import Formatter
from typing import Any

import attrs

Scope = str | Iterable[str] | None
"""One status, several (at least one), or None for all; a `JobStatus` is a string."""

PATH_FIELDS = frozenset({"project", "pipeline_id", "job_id", "job_name", "ref", "stage", "status"})
"""The names a path template may use; every value is slugged before it becomes part of a path."""

DEFAULT_PATH_TEMPLATE = "{project}/{pipeline_id}/{job_id}-{job_name}.zip"
DEFAULT_TRACE_TEMPLATE = "{project}/{pipeline_id}/{job_id}-{job_name}.log"

RECORD_FOLDER = ".asyncjobs"
"""Where a synced folder keeps manifest and lock; no path of ours or of an archive may begin with it."""
MAX_PATH_BYTES = 240
"""Longest path below a destination: leaves room for the destination within 260, the old Windows limit."""
MAX_DEPTH = 32
"""Most parts of the path of a member of an archive."""


def _number(*, least: float = 0.0, above: bool = False, optional: bool = False, whole: bool = False) -> Any:
    """A validator for numbers that names the option, the value and the range."""

    def check(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
        where = f"{type(owner).__name__}.{attribute.name}"
        if value is None and optional:
            return
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise TypeError(f"{where} must be {'an int' if whole else 'a number'}, not {value!r}")
        assert isinstance(value, int | float)
        if value == math.inf:
            raise ValueError(f"{where} must be finite{'; None lifts the limit' if optional else ''}")
        # `not >=` rather than `<`, so that NaN is refused as well.
        if not (value > least if above else value >= least):
            raise ValueError(
                f"{where} must be {'more than' if above else 'at least'} {least:g}, not {value!r}"
            )

    return check


def _flag(owner: object, attribute: attrs.Attribute[bool], value: object) -> None:
    # `prune="false"`, as read from somebody's configuration, must not delete files.
    if not isinstance(value, bool):
        raise TypeError(f"{type(owner).__name__}.{attribute.name} must be a bool, not {value!r}")


def _aware(owner: object, attribute: attrs.Attribute[datetime | None], value: object) -> None:
    where = f"{type(owner).__name__}.{attribute.name}"
    if value is None:
        return
    if not isinstance(value, datetime):
        raise TypeError(f"{where} must be a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"{where} must be an aware datetime")


def _text(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{type(owner).__name__}.{attribute.name} must be text, not {value!r}")


def _extract_limits(owner: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, ExtractLimits):
        raise TypeError(f"{type(owner).__name__}.{attribute.name} must be ExtractLimits, not {value!r}")


def _globs(given: str | Iterable[str]) -> tuple[str, ...]:
    """One glob or several: the characters of a single string are not globs of their own."""
    return (given,) if isinstance(given, str) else tuple(given)


def scope_values(scope: Scope) -> tuple[str, ...]:
    """The statuses of *scope* as plain strings, in the order given, without repeats; none for None.

    Raises:
        ValueError: An empty iterable, or an empty status. GitLab takes no scope for every scope, which is
            the last thing that `scope=[s for s in ...]` means when nothing is left.
    """
    if scope is None:
        return ()
    given = [scope] if isinstance(scope, str) else scope
    values = tuple(dict.fromkeys(str(each) for each in given))
    if not all(values) or not values:
        raise ValueError("scope is empty: pass None for all statuses")
    return values


def _scope(scope: Scope) -> tuple[str, ...] | None:
    """Read once, when the options are built: an iterator would be used up by the first target."""
    return scope_values(scope) or None


@attrs.frozen(kw_only=True)
class Limits:
    """How much a client may do at once. Clients that share one `Limits` object share its budget."""

    in_flight: int | None = attrs.field(default=32, validator=_number(least=1, optional=True, whole=True))
    """Control requests under way at once (everything that is not a tail poll or an archive)."""
    downloads: int | None = attrs.field(default=8, validator=_number(least=1, optional=True, whole=True))
    """Archive bodies under way at once; each holds about 3 MiB of memory."""
    tails: int | None = attrs.field(default=100, validator=_number(least=1, optional=True, whole=True))
    """Tail polls under way at once."""
    requests_per_minute: int | None = attrs.field(
        default=None, validator=_number(least=1, optional=True, whole=True)
    )
    """Requests of every kind sent to the API per minute; None leaves it to the server's own limits."""
    jobs_index_per_minute: int | None = attrs.field(
        default=540, validator=_number(least=1, optional=True, whole=True)
    )
    """Requests to `GET /projects/:id/jobs` per minute: servers allow 600 per user and say so in no header."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long to wait. There is no limit on the time an archive may take, only on silence and slowness."""

    connect: float | None = attrs.field(default=10.0, validator=_number(above=True, optional=True))
    """Seconds to connect, TLS included."""
    idle: float | None = attrs.field(default=60.0, validator=_number(above=True, optional=True))
    """Seconds without a byte before an exchange is given up."""
    control_total: float | None = attrs.field(default=120.0, validator=_number(above=True, optional=True))
    """Seconds for one whole control request, waiting for a free slot not counted."""
    tail_idle: float | None = attrs.field(default=30.0, validator=_number(above=True, optional=True))
    """Seconds without a byte before one tail poll is given up."""
    first_byte: float | None = attrs.field(default=30.0, validator=_number(above=True, optional=True))
    """Seconds until the first byte of an archive's body."""
    min_bytes_per_second: int | None = attrs.field(
        default=1024, validator=_number(least=1, optional=True, whole=True)
    )
    """An archive slower than this on average over `speed_window` is given up and resumed."""
    speed_window: float = attrs.field(default=60.0, validator=_number(above=True))
    """Seconds over which that average is taken."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed request is sent again. One layer, full jitter, a budget over all requests."""

    attempts: int = attrs.field(default=5, validator=_number(least=1, whole=True))
    """Most times a read is sent in all; calls that change something have smaller limits of their own."""
    base: float = attrs.field(default=0.5, validator=_number(above=True))
    """Seconds; the nth wait is drawn from 0 to `min(cap, base * 2**(n-1))`."""
    cap: float = attrs.field(default=20.0, validator=_number(above=True))
    """Longest single backoff, in seconds; what a server asks for may be longer."""
    deadline: float | None = attrs.field(default=120.0, validator=_number(optional=True))
    """Most seconds one call sleeps between its attempts, all together."""
    max_rate_limit_wait: float | None = attrs.field(default=300.0, validator=_number(optional=True))
    """A server that asks for a longer wait than this raises `RateLimitedError` at once."""


@attrs.frozen(kw_only=True)
class TailOptions:
    """How `tail` and `follow_trace` poll and what they follow."""

    follow: bool = attrs.field(default=True, validator=_flag)
    """False: read what is there now and stop; nothing is waited for, no new job or attempt is looked for."""
    min_interval: float = attrs.field(default=2.0, validator=_number(above=True))
    """Seconds between two polls of one job at the least."""
    max_interval: float = attrs.field(default=60.0, validator=_number(above=True))
    """Seconds between two polls of one job at the most."""
    settle: float = attrs.field(default=10.0, validator=_number())
    """Seconds after the end of a job in which its trace is read again until its size is stable."""
    wait_for_start: bool = attrs.field(default=False, validator=_flag)
    """Wait for `manual` and `scheduled` jobs instead of reporting and leaving them."""
    children: bool = attrs.field(default=False, validator=_flag)
    """Follow child and downstream pipelines too."""
    max_depth: int = attrs.field(default=5, validator=_number(least=1, whole=True))
    """How many levels of downstream pipelines are followed."""
    tail_lines: int | None = attrs.field(default=None, validator=_number(optional=True, whole=True))
    """Begin with the last so many lines of each log; None begins at the start."""
    since: datetime | None = attrs.field(default=None, validator=_aware)
    """Leave out lines stamped before this moment (an aware datetime); lines without a stamp are kept."""
    max_open: int = attrs.field(default=100, validator=_number(least=1, whole=True))
    """Jobs followed at once; the others wait in a queue. Memory is at most 256 KiB for each, and up to 1 MiB
    while the consumer pauses in a long log of a server that only sends whole logs."""
    name: str | None = attrs.field(default=None, validator=_text)
    """Only jobs whose name matches this glob."""
    stage: str | None = attrs.field(default=None, validator=_text)
    """Only jobs whose stage matches this glob."""
    scope: tuple[str, ...] | None = attrs.field(default=None, converter=_scope)
    """Only jobs that have one of these statuses when they are first seen."""
    ordered: bool = attrs.field(default=False, validator=_flag)
    """One job at a time, in the order found, instead of all merged."""
    join: bool = attrs.field(default=True, validator=_flag)
    """Go on looking for new jobs of pipelines and projects while any job is followed."""

    def __attrs_post_init__(self) -> None:
        if self.max_interval < self.min_interval:
            raise ValueError("TailOptions.max_interval must not be less than min_interval")


@attrs.frozen(kw_only=True)
class ExtractLimits:
    """How much one archive may unpack to before it is refused; bytes are counted as they come out.

    An archive over a limit stays on the disk as it is, and nothing of it is unpacked.
    """

    members: int = attrs.field(default=100_000, validator=_number(least=1, whole=True))
    """Files and folders together."""
    total_bytes: int = attrs.field(default=2 * 1024**3, validator=_number(least=1, whole=True))
    """Bytes of all files together."""
    member_bytes: int = attrs.field(default=1024**3, validator=_number(least=1, whole=True))
    """Bytes of one file."""
    ratio: int = attrs.field(default=200, validator=_number(least=1, whole=True))
    """Most bytes out for each byte in, judged once more than `ratio_after` came out."""
    ratio_after: int = attrs.field(default=10 * 1024**2, validator=_number(whole=True))
    """Bytes that a small archive may unpack to whatever its ratio."""
    path_bytes: int = attrs.field(default=MAX_PATH_BYTES, validator=_number(least=1, whole=True))
    """Bytes of the longest path in the archive."""
    depth: int = attrs.field(default=MAX_DEPTH, validator=_number(least=1, whole=True))
    """Most parts of one path."""


@attrs.frozen(kw_only=True)
class SyncOptions:
    """What `sync_artifacts` selects, where it puts it and what it may do."""

    concurrency: int = attrs.field(default=8, validator=_number(least=1, whole=True))
    """Archives downloaded at once (`Limits.downloads` bounds them too)."""
    scope: tuple[str, ...] | None = attrs.field(default=None, converter=_scope)
    """Only jobs with one of these statuses; None means every finished job."""
    ref: str | None = attrs.field(default=None, validator=_text)
    """Only jobs of this branch or tag."""
    name: str | None = attrs.field(default=None, validator=_text)
    """Only jobs whose name matches this glob."""
    since: datetime | None = attrs.field(default=None, validator=_aware)
    """Only jobs created at or after this moment (an aware datetime)."""
    max_bytes: int | None = attrs.field(default=None, validator=_number(optional=True, whole=True))
    """Leave out archives larger than this."""
    path_template: str = DEFAULT_PATH_TEMPLATE
    """Where an archive goes below the destination; fields: those of `PATH_FIELDS`."""
    extract: bool = attrs.field(default=False, validator=_flag)
    """Also unpack each zip into a folder beside it."""
    extract_limits: ExtractLimits = attrs.field(factory=ExtractLimits, validator=_extract_limits)
    """How much one archive may unpack to; nothing is unpacked without `extract`."""
    members: tuple[str, ...] = attrs.field(default=(), converter=_globs)
    """Fetch only the members that match one of these globs, instead of whole archives."""
    prune: bool = attrs.field(default=False, validator=_flag)
    """Delete files of earlier syncs whose jobs or archives are gone, after a complete listing only."""
    max_delete: int | None = attrs.field(default=100, validator=_number(optional=True, whole=True))
    """Refuse to prune when more files than this would go."""
    dry_run: bool = attrs.field(default=False, validator=_flag)
    """Make the plan, download and delete nothing."""
    fsync: bool = attrs.field(default=True, validator=_flag)
    """Force files to the disk before they get their name; off is faster and unsafe on power loss."""
    bandwidth_limit: int | None = attrs.field(
        default=None, validator=_number(least=1, optional=True, whole=True)
    )
    """Bytes per second over all downloads of this sync."""
    verify_members: bool = attrs.field(default=False, validator=_flag)
    """Also read every member of each zip and check its CRC."""
    verify: bool = attrs.field(default=False, validator=_flag)
    """Hash every file that is already there again instead of trusting size and time."""
    file_type: str = "archive"
    """Which stored file of a job to fetch; others than `archive` need GitLab 19.4."""

    def __attrs_post_init__(self) -> None:
        check_template(self.path_template)


def check_template(template: str) -> None:
    """Refuse a path template that uses unknown fields, is absolute or climbs, or names what no job may have.

    Raises:
        ValueError: The message names the field or the part.
    """
    for _, field, spec, conversion in Formatter().parse(template):
        if field is not None and (field not in PATH_FIELDS or spec or conversion):
            known = ", ".join(sorted(PATH_FIELDS))
            raise ValueError(f"path template field {{{field}}} is not one of: {known}")
    parts = template.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\\" in template or "\0" in template:
        raise ValueError(f"path template must be relative, without empty, . or .. parts: {template!r}")
    # What stands between the fields is the same for every job, so it is refused here and not once for each.
    for part in parts:
        if not part.rstrip(" ."):
            raise ValueError(f"path template has a part that is nothing but dots and blanks: {template!r}")
        if part.rstrip(" .").casefold() == RECORD_FOLDER:
            raise ValueError(
                f"path template leads into {RECORD_FOLDER}, the record of the folder: {template!r}"
            )
    if any(character < " " or character == "\x7f" for character in template):
        raise ValueError(f"path template has a control character: {template!r}")
