"""Options: the defaults that are promised, and everything that is refused where it is written."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import attrs
import pytest

from asyncjobs._models import JobStatus
from asyncjobs._options import (
    ExtractLimits,
    Limits,
    RetryPolicy,
    SyncOptions,
    TailOptions,
    Timeouts,
    check_template,
    scope_values,
)

DEFAULTS: dict[type[Any], dict[str, object]] = {
    Limits: {
        "in_flight": 32,
        "downloads": 8,
        "tails": 100,
        "requests_per_minute": None,
        "jobs_index_per_minute": 540,
    },
    Timeouts: {"connect": 10.0, "idle": 60.0, "control_total": 120.0, "min_bytes_per_second": 1024},
    RetryPolicy: {"attempts": 5, "base": 0.5, "cap": 20.0, "deadline": 120.0, "max_rate_limit_wait": 300.0},
    TailOptions: {
        "min_interval": 2.0,
        "max_interval": 60.0,
        "settle": 10.0,
        "wait_for_start": False,
        "children": False,
        "tail_lines": None,
        "since": None,
        "max_open": 100,
    },
    ExtractLimits: {
        "members": 100_000,
        "total_bytes": 2 * 1024**3,
        "member_bytes": 1024**3,
        "ratio": 200,
        "ratio_after": 10 * 1024**2,
        "path_bytes": 240,
        "depth": 32,
    },
    SyncOptions: {
        "concurrency": 8,
        "scope": None,
        "ref": None,
        "name": None,
        "since": None,
        "max_bytes": None,
        "path_template": "{project}/{pipeline_id}/{job_id}-{job_name}.zip",
        "extract": False,
        "extract_limits": ExtractLimits(),
        "members": (),
        "prune": False,
        "max_delete": 100,
        "dry_run": False,
        "fsync": True,
        "bandwidth_limit": None,
    },
}
CLASSES = list(DEFAULTS)


@pytest.mark.parametrize("options", CLASSES)
def test_pinned_defaults(options: type[Any]) -> None:
    """The defaults that the documentation promises are the ones of the code."""
    made = options()
    assert {name: getattr(made, name) for name in DEFAULTS[options]} == DEFAULTS[options]


@pytest.mark.parametrize("options", CLASSES)
def test_options_are_frozen_values(options: type[Any]) -> None:
    """Options cannot change under a client, equal their equals, go through pickle and take keywords only."""
    made = options()
    assert pickle.loads(pickle.dumps(made)) == made == options()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, attrs.fields(options)[0].name, 1)
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(options).parameters.values())


NUMBERS = [
    (options, field.name, type(field.default))
    for options in CLASSES
    for field in attrs.fields(options)
    if isinstance(field.default, int | float) and not isinstance(field.default, bool)
]
WHOLE = {"requests_per_minute", "tail_lines", "max_bytes", "bandwidth_limit"}
OPTIONAL = [
    (options, field.name)
    for options in CLASSES
    for field in attrs.fields(options)
    if field.name in WHOLE or "None" in str(field.type)
]


@pytest.mark.parametrize(("options", "name", "kind"), NUMBERS)
@pytest.mark.parametrize("value", ["5", True, [], 1j, b"5", datetime(2026, 1, 1, tzinfo=UTC)], ids=repr)
def test_numbers_are_numbers(options: type[Any], name: str, kind: type[Any], value: object) -> None:
    """A text, a bool or a list where a number belongs is a TypeError that names the option."""
    with pytest.raises(TypeError, match=rf"{options.__name__}\.{name} must be"):
        options(**{name: value})


@pytest.mark.parametrize(("options", "name", "kind"), NUMBERS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf], ids=repr)
def test_numbers_have_a_range(options: type[Any], name: str, kind: type[Any], value: float) -> None:
    """Negative, infinite and NaN are refused for every number, with the option and its range."""
    with pytest.raises((ValueError, TypeError), match=rf"{options.__name__}\.{name} must be"):
        options(**{name: value})


@pytest.mark.parametrize(("options", "name", "kind"), [row for row in NUMBERS if row[2] is int])
def test_counts_are_whole(options: type[Any], name: str, kind: type[Any]) -> None:
    """A count is an int: 2.5 downloads at once is a mistake."""
    with pytest.raises(TypeError, match="must be an int"):
        options(**{name: 2.5})


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_optional_counts(name: str) -> None:
    """A count that is None by default is checked all the same once it is given."""
    options = next(cls for cls in CLASSES if name in {field.name for field in attrs.fields(cls)})
    assert getattr(options(**{name: 7}), name) == 7
    for value in (-1, 2.5, "7", True):
        with pytest.raises((ValueError, TypeError), match=name):
            options(**{name: value})


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (Limits, "in_flight"),
        (Limits, "downloads"),
        (Limits, "tails"),
        (Limits, "jobs_index_per_minute"),
        (Timeouts, "connect"),
        (Timeouts, "idle"),
        (Timeouts, "control_total"),
        (Timeouts, "min_bytes_per_second"),
        (RetryPolicy, "deadline"),
        (RetryPolicy, "max_rate_limit_wait"),
        (SyncOptions, "max_delete"),
    ],
)
def test_none_lifts_a_limit(options: type[Any], name: str) -> None:
    """None means no limit, wherever the field says so."""
    assert getattr(options(**{name: None}), name) is None
    with pytest.raises(ValueError, match=r"None lifts the limit|at least|more than"):
        options(**{name: -1})


@pytest.mark.parametrize(
    ("options", "name"), [(RetryPolicy, "attempts"), (TailOptions, "max_open"), (SyncOptions, "concurrency")]
)
def test_some_limits_stay(options: type[Any], name: str) -> None:
    """What must have a bound refuses None and zero."""
    for value in (None, 0):
        with pytest.raises((TypeError, ValueError), match=name):
            options(**{name: value})


FLAGS = [
    (options, field.name)
    for options in CLASSES
    for field in attrs.fields(options)
    if isinstance(field.default, bool)
]


@pytest.mark.parametrize(("options", "name"), FLAGS)
@pytest.mark.parametrize("value", ["false", 0, None], ids=repr)
def test_flags_are_bools(options: type[Any], name: str, value: object) -> None:
    """`prune="false"`, as read from a file, is refused and not taken for yes."""
    with pytest.raises(TypeError, match=rf"{options.__name__}\.{name} must be a bool"):
        options(**{name: value})


@pytest.mark.parametrize("options", [TailOptions, SyncOptions])
def test_moments_are_aware(options: type[Any]) -> None:
    """A moment without an offset, or a text, is refused."""
    assert options(since=datetime(2026, 1, 1, tzinfo=UTC)).since is not None
    with pytest.raises(ValueError, match="aware"):
        options(since=datetime(2026, 1, 1))
    with pytest.raises(TypeError, match="datetime"):
        options(since="2026-01-01")


def test_intervals_fit() -> None:
    """The shortest interval is not longer than the longest."""
    assert TailOptions(min_interval=5.0, max_interval=5.0).max_interval == 5.0
    with pytest.raises(ValueError, match="max_interval must not be less"):
        TailOptions(min_interval=90.0)


@pytest.mark.parametrize(
    ("scope", "values"),
    [
        (None, ()),
        ("failed", ("failed",)),
        (JobStatus.FAILED, ("failed",)),
        (["failed", JobStatus.RUNNING, "failed"], ("failed", "running")),
        ((status for status in ("a", "b")), ("a", "b")),
        ({"success"}, ("success",)),
    ],
)
def test_scopes(scope: Any, values: tuple[str, ...]) -> None:
    """One status, several in any iterable, or None for all; order kept, repeats dropped, plain strings."""
    got = scope_values(scope)
    assert got == values
    assert all(type(each) is str for each in got)


@pytest.mark.parametrize("empty", [[], (), set(), iter([]), {}, "", [""], ["failed", ""]])
def test_no_status_is_not_every_status(empty: Any) -> None:
    """A selection that came out empty is told, at once and by name; GitLab would list every job for it."""
    for read in (
        scope_values,
        lambda scope: TailOptions(scope=scope),
        lambda scope: SyncOptions(scope=scope),
    ):
        with pytest.raises(ValueError, match="scope is empty: pass None for all statuses"):
            read(empty)


@pytest.mark.parametrize("options", [TailOptions, SyncOptions])
def test_a_scope_is_read_once(options: Callable[..., TailOptions | SyncOptions]) -> None:
    """An iterator among the options holds for every target, not for the first alone."""
    built = options(scope=(status for status in ("failed", "canceled", "failed")))
    assert (built.scope, built.scope) == (("failed", "canceled"),) * 2
    assert options(scope="failed").scope == ("failed",)
    assert options().scope is None


def test_extract_limits_are_limits() -> None:
    """A mapping or None where the limits belong is refused where it is written."""
    limits = ExtractLimits(members=3)
    assert SyncOptions(extract_limits=limits).extract_limits is limits
    for wrong in (None, {"members": 3}, ExtractLimits):
        with pytest.raises(TypeError, match=r"SyncOptions\.extract_limits must be ExtractLimits"):
            SyncOptions(extract_limits=wrong)  # type: ignore[arg-type]  # what is refused


def test_one_glob_is_one_glob() -> None:
    """A single string for `members` is one pattern; its characters, a `*` among them, are not several."""
    assert SyncOptions(members="*.xml").members == ("*.xml",)
    assert SyncOptions(members=["*.xml", "a/b"]).members == ("*.xml", "a/b")


@pytest.mark.parametrize(
    "template",
    ["{job_id}", "{project}/{ref}/{stage}-{status}.zip", "all/{pipeline_id}/{job_name}/x.zip", "{{literal}}"],
)
def test_templates(template: str) -> None:
    """Known fields and plain text below the destination are fine."""
    check_template(template)
    assert SyncOptions(path_template=template).path_template == template


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "relative"),
        ("/etc/{job_id}", "relative"),
        ("../{job_id}", "relative"),
        ("a/../{job_id}", "relative"),
        ("a//{job_id}", "relative"),
        ("./{job_id}", "relative"),
        ("{job_id}/", "relative"),
        ("a\\{job_id}", "relative"),
        ("a\0{job_id}", "relative"),
        ("{token}", "token.* is not one of"),
        ("{}", "is not one of"),
        ("{0}", "is not one of"),
        ("{job_id.__class__}", "is not one of"),
        ("{job_id[0]}", "is not one of"),
        ("{job_id!r}", "is not one of"),
        ("{job_id:>99999999}", "is not one of"),
        ("{job_id:{project}}", "is not one of"),
        ("{job_id", "expected"),
        ("job_id}", "Single"),
        (".asyncjobs/{job_id}", "record of the folder"),
        ("a/.ASYNCJOBS. /{job_id}", "record of the folder"),
        ("{project}/.asyncjobs", "record of the folder"),
        (".../{job_id}", "dots and blanks"),
        ("{project}/ /{job_id}", "dots and blanks"),
        ("a\n{job_id}", "control character"),
    ],
)
def test_templates_that_climb_or_compute(template: str, says: str) -> None:
    """A template cannot leave the destination, reach into objects, pad without end, or fail every job."""
    with pytest.raises(ValueError, match=says):
        SyncOptions(path_template=template)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TailOptions(name=cast("str", 3)),
        lambda: TailOptions(stage=cast("str", b"test")),
        lambda: SyncOptions(ref=cast("str", 3)),
        lambda: SyncOptions(name=cast("str", ["a"])),
    ],
)
def test_globs_and_refs_are_text(make: Callable[[], object]) -> None:
    """What could never match is refused when the options are built, not after a silent empty run."""
    with pytest.raises(TypeError, match="must be text"):
        make()
