"""Words of the command line to targets; no address leads to another server."""

from __future__ import annotations

import pytest

import asyncjobs
from asyncjobs.cli import targets
from asyncjobs.cli.codes import UsageError
from asyncjobs.cli.framework import expand_stdin
from asyncjobs.cli.targets import Once, read_target

HOME = "https://gitlab.example.com"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("group/app", asyncjobs.ProjectRef("group/app")),
        ("group/app/-/jobs/8", asyncjobs.JobRef("group/app", 8)),
        (f"{HOME}/group/app/-/pipelines/6", asyncjobs.PipelineRef("group/app", 6)),
        ("HTTPS://GitLab.Example.COM:443/group/app/-/jobs/8?x=1#L5", asyncjobs.JobRef("group/app", 8)),
        ("groups/group", asyncjobs.GroupRef("group")),
    ],
)
def test_targets_of_the_configured_server(text: str, target: asyncjobs.Target) -> None:
    """GitLab's own forms are taken, and web addresses on the configured server."""
    assert read_target(text, HOME) == target


@pytest.mark.parametrize(
    "text",
    [
        "https://gitlab.com/group/app",
        "https://gitlab.example.com.evil.test/group/app",
        "https://gitlab.example.com@evil.test/group/app",
        "https://gitlab.example.com:8443/group/app",
        "http://gitlab.example.com/group/app",
    ],
)
def test_addresses_elsewhere_are_refused(text: str) -> None:
    """Another host, port or scheme is refused, and the refusal says how to choose a server."""
    with pytest.raises(UsageError, match="--url"):
        read_target(text, HOME)


def test_a_refusal_repeats_no_secret() -> None:
    """What stands in a pasted address beside its host is not repeated."""
    with pytest.raises(UsageError) as caught:
        read_target("https://me:glpat-secret@evil.test/group/app?private_token=glpat-secret", HOME)
    assert "glpat" not in str(caught.value)
    assert "evil.test" in str(caught.value)


def test_a_gitlab_below_a_path() -> None:
    """The path a GitLab lives under is no part of a project's name."""
    home = "https://example.com/gitlab/"
    assert read_target("https://example.com/gitlab/group/app/-/jobs/8", home) == asyncjobs.JobRef(
        "group/app", 8
    )


@pytest.mark.parametrize(
    "text", ["", "app", "group/app/-/issues/8", "https://[", "ftp://gitlab.example.com/a/b"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    """Anything else is one clear refusal."""
    with pytest.raises(UsageError):
        read_target(text, HOME)


def test_a_job_is_new_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's number tells, whatever its project is called; what is remembered has a bound."""
    monkeypatch.setattr(targets, "MOST_REMEMBERED", 2)
    first, same, second, third = (
        asyncjobs.JobRef(project, number) for project, number in (("a/b", 1), (7, 1), ("a/b", 2), ("a/b", 3))
    )
    once = Once(2)
    assert [once.is_new(each) for each in (first, same, second, second)] == [True, False, True, False]
    assert [once.is_new(each) for each in (third, third)] == [True, True]
    assert all(Once(1).is_new(first) for _ in range(2))


def test_a_dash_stands_for_standard_input() -> None:
    """Targets may come from another command, blank lines between them or not."""
    assert list(expand_stdin(("a/b", "-", "e/f"), ["c/d\n", "\n", "c/e"])) == ["a/b", "c/d", "c/e", "e/f"]
