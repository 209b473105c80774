"""References and cursors: what names a target, what is refused, and that text and value round-trip."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._models import (
    CURSOR_TAIL_BYTES,
    GroupRef,
    JobRef,
    PipelineRef,
    ProjectRef,
    Target,
    TraceCursor,
    as_target,
    parse_target,
    refs,
)
from asyncjobs._models.refs import job_ref

CANARY = "glpat-CANARY-0123456789"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("group/app", ProjectRef("group/app")),
        ("group/sub/deeper/app", ProjectRef("group/sub/deeper/app")),
        ("Group_1/my.app-2", ProjectRef("Group_1/my.app-2")),
        ("group/-/app", None),
        ("42", ProjectRef(42)),
        ("  group/app\n", ProjectRef("group/app")),
        ("/group/app/", ProjectRef("group/app")),
        ("group/app/-/pipelines/6", PipelineRef("group/app", 6)),
        ("42/-/pipelines/6", PipelineRef(42, 6)),
        ("group/app/-/jobs/8", JobRef("group/app", 8)),
        ("group/app/-/jobs/8/", JobRef("group/app", 8)),
        ("groups/group", GroupRef("group")),
        ("groups/group/sub", GroupRef("group/sub")),
        ("groups/42", GroupRef(42)),
        ("https://gitlab.example.com/group/app", ProjectRef("group/app")),
        ("https://gitlab.example.com/group/app/", ProjectRef("group/app")),
        ("http://gitlab.example.com:8080/group/app/-/pipelines/6", PipelineRef("group/app", 6)),
        ("https://gitlab.example.com/group/app/-/jobs/8#L120", JobRef("group/app", 8)),
        ("https://gitlab.example.com/group/app/-/jobs/8?private_token=x", JobRef("group/app", 8)),
        ("https://gitlab.example.com/groups/group/sub", GroupRef("group/sub")),
        ("HTTPS://gitlab.example.com/group/app", ProjectRef("group/app")),
    ],
)
def test_forms_of_a_target(text: str, target: Target | None) -> None:
    """Every form that GitLab itself writes is read as what it names."""
    if target is None:
        with pytest.raises(ValueError, match="a target is"):
            parse_target(text)
    else:
        assert parse_target(text) == target == as_target(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/",
        "app",
        "0",
        "-5",
        "group/",
        "group//app",
        "group/../app",
        "./app",
        "group/app/-/jobs",
        "group/app/-/jobs/",
        "group/app/-/jobs/x",
        "group/app/-/jobs/0",
        "group/app/-/jobs/-8",
        "group/app/-/jobs/8/raw",
        "group/app/-/jobs/8.5",
        "group/app/-/jobs/" + "9" * 5000,
        "group/app/-/issues/3",
        "groups/",
        "groups/group/-/pipelines/6",
        "group app/x",
        "group/ap\x1b[31mp",
        "group/app?x=1",
        "gröup/app",
        "group/٣",
        "ftp://gitlab.example.com/group/app",
        "https:///group/app",
        "https://gitlab.example.com",
        "https://gitlab.example.com/app",
        "https://[::1/group/app",
        "https://gitlab.example.com/group/%2e%2e/app",
        "https://gitlab.example.com/api/v4/projects/1/jobs/8",
        "https://gitlab.example.com/dashboard/projects",
        "https://gitlab.example.com/group/app/builds/8",
        "https://gitlab.example.com/group/app/blob/main/README.md",
        "groups/admin",
        "group%2Fapp/x",
    ],
)
def test_odd_targets_are_refused(text: str) -> None:
    """Anything else is a ValueError that says what is accepted, on one line, and is not endless."""
    with pytest.raises(ValueError, match="a target is group/app") as caught:
        parse_target(text)
    message = str(caught.value)
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{CANARY}@gitlab.example.com/app",
        f"https://user:a@{CANARY}@gitlab.example.com/app",
        f"https://user:a/{CANARY}@gitlab.example.com/app",
        f"https://user:{CANARY}?x@gitlab.example.com/app",
        f"user:{CANARY}@gitlab.example.com/app/x",
        f"https://gitlab.example.com/app?private_token={CANARY}",
        f"https://gitlab.example.com/app?private_token=a@{CANARY}",
        f"https://gitlab.example.com/app#{CANARY}",
    ],
)
def test_a_refused_address_shows_no_secret(text: str) -> None:
    """A password or token in an address is not repeated, wherever it stands."""
    with pytest.raises(ValueError, match="a target is") as caught:
        parse_target(text)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "''"), ("# c", "what begins with '#'"), ("app?x", "'app'"), ("?", "begins with '?'")],
)
def test_a_refusal_shows_as_much_as_is_harmless(text: str, says: str) -> None:
    """What stands behind a ? or # may be a token, so of such a text only the beginning is named."""
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_target(text)


@pytest.mark.parametrize("value", [None, 5, b"group/app", ["group/app"]])
def test_what_is_no_text_is_no_target(value: Any) -> None:
    """As promised: whatever is no target is a ValueError that says what is accepted."""
    with pytest.raises(ValueError, match=f"not a target: {type(value).__name__}; a target is"):
        parse_target(value)


def test_as_target_takes_values() -> None:
    """References pass as they are; anything that is neither reference nor text is a TypeError."""
    ref = JobRef("group/app", 8)
    assert as_target(ref) is ref
    with pytest.raises(TypeError, match="a target is"):
        as_target(8)  # type: ignore[arg-type]  # that it may not is the point


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ProjectRef(0), ValueError),
        (lambda: ProjectRef(-1), ValueError),
        (lambda: ProjectRef(True), TypeError),
        (lambda: ProjectRef(None), TypeError),  # type: ignore[arg-type]
        (lambda: ProjectRef(1.0), TypeError),  # type: ignore[arg-type]
        (lambda: ProjectRef(""), ValueError),
        (lambda: ProjectRef("group/../app"), ValueError),
        (lambda: ProjectRef("group//app"), ValueError),
        (lambda: ProjectRef("group/app\n"), ValueError),
        (lambda: JobRef("group/app", 0), ValueError),
        (lambda: JobRef("group/app", True), TypeError),
        (lambda: JobRef("group/app", "8"), TypeError),  # type: ignore[arg-type]
        (lambda: PipelineRef("group/app", -6), ValueError),
        (lambda: PipelineRef("group/app", None), TypeError),  # type: ignore[arg-type]
        (lambda: GroupRef(0), ValueError),
        (lambda: GroupRef(True), TypeError),
        (lambda: GroupRef(None), TypeError),  # type: ignore[arg-type]
        (lambda: GroupRef("a/./b"), ValueError),
    ],
)
def test_references_are_checked(make: object, error: type[Exception]) -> None:
    """A reference that cannot name anything is refused where it is made."""
    assert callable(make)
    with pytest.raises(error):
        make()


def test_an_id_as_text_is_the_id() -> None:
    """`CI_PROJECT_ID` is text in the environment and names the same project as the number."""
    assert ProjectRef("42") == ProjectRef(42)
    assert JobRef("42", 8) == JobRef(42, 8)
    assert GroupRef("42") == GroupRef(42)


def test_a_listed_job_equals_a_named_one() -> None:
    """The quick way of making references makes the same value: equal, same hash, same text."""
    assert job_ref("group/app", 8) == JobRef("group/app", 8)
    assert hash(job_ref(42, 8)) == hash(JobRef(42, 8))
    assert str(job_ref(42, 8)) == "42/-/jobs/8"


PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,20}", fullmatch=True)


def reserved(path: str) -> bool:
    """Whether a part of it is GitLab's own word."""
    words = f"({refs._RESERVED_FIRST.pattern}|{refs._RESERVED_LATER.pattern})"
    return any(re.fullmatch(words, part) for part in path.split("/"))


PATH = st.lists(PART, min_size=2, max_size=4).map("/".join).filter(lambda p: not reserved(p))
PROJECT = st.integers(1, 2**62) | PATH
ID = st.integers(1, 2**53)


@given(
    st.builds(ProjectRef, PROJECT)
    | st.builds(PipelineRef, PROJECT, ID)
    | st.builds(JobRef, PROJECT, ID)
    | st.builds(GroupRef, PROJECT)
)
def test_references_round_trip(ref: Target) -> None:
    """The text of a reference, alone or behind a host, is read as the same reference."""
    assert parse_target(str(ref)) == ref
    assert parse_target(f"https://gitlab.example.com/{ref}") == ref


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_a_value_error(text: str) -> None:
    """No text whatever makes `parse_target` fail in another way."""
    with contextlib.suppress(ValueError):
        assert parse_target(str(target := parse_target(text))) == target


# -- cursors --------------------------------------------------------------------------------------

ANY_PROJECT = st.integers(1, 2**62) | st.text(
    st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=30
).filter(lambda p: not any(part in {"", ".", ".."} for part in p.split("/")) and "%" not in p)


@given(
    st.builds(JobRef, ANY_PROJECT, ID),
    st.integers(0, 2**50),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=CURSOR_TAIL_BYTES, max_size=CURSOR_TAIL_BYTES),
)
def test_cursors_round_trip(ref: JobRef, offset: int, crc: int, data: bytes) -> None:
    """A cursor of any job at any place is the same after printing and parsing, space around it or not."""
    cursor = TraceCursor(ref, offset, crc, data[: min(offset, CURSOR_TAIL_BYTES)])
    assert TraceCursor.parse(str(cursor)) == cursor
    assert TraceCursor.parse(f"  {cursor}\n") == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "asyncjobs-trace:1:0:00000000::",
        "asyncjobs-trace:1:0:00000000::group/app",
        "asyncjobs-trace:2:0:00000000::group/app/-/jobs/8",
        "asyncjobs-trace:1:-1:00000000::group/app/-/jobs/8",
        "asyncjobs-trace:1:٣:00000000:616161:group/app/-/jobs/8",
        "asyncjobs-trace:1:0:0000000::group/app/-/jobs/8",
        "asyncjobs-trace:1:0:00000000:61:group/app/-/jobs/8",
        "asyncjobs-trace:1:2:00000000:61:group/app/-/jobs/8",
        "asyncjobs-trace:1:1:00000000:6:group/app/-/jobs/8",
        "asyncjobs-trace:1:1:00000000:zz:group/app/-/jobs/8",
        "asyncjobs-trace:1:0:00000000::group/../app/-/jobs/8",
        "asyncjobs-trace:1:0:00000000::group/app/-/jobs/0",
        "asyncjobs-trace:1:0:00000000::group/app/-/jobs/" + "9" * 5000,
        "asyncjobs-trace:1:" + "9" * 5000 + ":00000000::group/app/-/jobs/8",
    ],
)
def test_broken_cursors_are_refused(text: str) -> None:
    """A cursor that is cut, edited or of another version is refused, and nothing of it is repeated."""
    with pytest.raises(ValueError, match="not a trace cursor") as caught:
        TraceCursor.parse(text)
    assert "group" not in str(caught.value)


@given(st.text(max_size=80))
def test_any_text_is_a_cursor_or_a_value_error(text: str) -> None:
    """No text whatever makes parsing fail in another way."""
    with pytest.raises(ValueError, match="not a trace cursor"):
        TraceCursor.parse(text)


@pytest.mark.parametrize("values", [{"offset": -1}, {"tail": b"x" * (CURSOR_TAIL_BYTES + 1)}])
def test_cursors_are_checked(values: dict[str, int]) -> None:
    """A cursor holds a place and a few bytes, not less and not more."""
    with pytest.raises(ValueError):
        TraceCursor(JobRef(1, 1), **values)  # type: ignore[arg-type]  # wrong values are the point


@pytest.mark.parametrize("value", [None, 5, b"", JobRef(1, 2)])
def test_what_is_no_text_is_no_cursor(value: Any) -> None:
    """A cursor read back from somebody's database as something else is named as that."""
    with pytest.raises(ValueError, match="not a trace cursor"):
        TraceCursor.parse(value)
