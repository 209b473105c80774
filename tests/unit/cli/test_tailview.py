"""How the logs of many jobs look as one stream."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncjobs
from asyncjobs.cli.tailview import PALETTE, WIDEST_PREFIX, Colours, TailView, safe_line
from tests.unit.cli.samples import REF, job, log_line

OTHER = asyncjobs.JobRef("shop/api", 7)


def view(**more: bool) -> TailView:
    """A view for a terminal without colours, unless told."""
    return TailView(**({"terminal": True, "colour": False} | more), zone=lambda moment: moment)


def test_a_colour_is_stable() -> None:
    """The same names get the same colours in every run."""
    names = ["web:unit tests", "api:lint", "docs:pages"]
    assert [Colours()[name] for name in names] == [Colours()[name] for name in names]
    colours = Colours()
    assert [colours[name] for name in names] == [colours[name] for name in names]


@given(st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=len(PALETTE)))
def test_no_two_open_jobs_share_a_colour(names: list[str]) -> None:
    """As long as there are colours left, each open job has its own."""
    colours = Colours()
    assert len({colours[name] for name in names}) == len(names)


def test_colours_run_out_and_come_back() -> None:
    """More jobs than colours is fine; a colour given back is used again."""
    colours = Colours(2)
    assert {colours[str(number)] for number in range(10)} == {0, 1}
    only = Colours(1)
    assert only["a"] == 0
    only.release("a")
    only.release("a")
    assert only["b"] == 0


def test_lines_have_their_job_in_front() -> None:
    """Project and job stand before each line, aligned with the widest so far."""
    shown = view()
    assert shown.line(log_line("first", name="unit tests")) == "web unit tests │ first\n"
    assert shown.line(log_line("second", ref=OTHER, name="lint")) == "api lint       │ second\n"


def test_one_project_needs_no_name() -> None:
    """The project is left out where there is only one."""
    assert view(show_projects=False).line(log_line("x", name="lint")) == "lint │ x\n"


def test_a_long_name_leaves_room_for_the_log() -> None:
    """A prefix never takes more than its share of the line."""
    line = view().line(log_line("x", name="integration tests with everything 11/12"))
    assert len(line.partition("│")[0]) == WIDEST_PREFIX + 1


def test_a_terminal_gets_colours_and_nothing_else_that_drives_it() -> None:
    """Colours of a log stay within their line; titles, cursor movements and clipboard writes go."""
    text = "\x1b[31mred\x1b]52;c;ZXZpbA==\x07\x1b[2J tail"
    line = view(colour=True).line(log_line(text))
    assert "\x1b[31mred" in line
    assert "]52" not in line
    assert "\x1b[2J" not in line
    assert line.endswith("\x1b[0m\n")
    assert "\x1b" not in view(colour=False).line(log_line(text))


def test_a_pipe_gets_the_text_of_the_log() -> None:
    """Without a terminal nothing is taken out of a line."""
    text = "\x1b[31mred\x1b[2J"
    assert view(terminal=False).line(log_line(text)) == f"web unit tests │ {text}\n"


def test_timestamps() -> None:
    """Stamps have milliseconds; a line without one keeps its column."""
    shown = view(timestamps=True)
    stamped = log_line("x", timestamp=datetime(2026, 5, 1, 12, 0, 1, 234567, tzinfo=UTC))
    assert shown.line(stamped) == "web unit tests │ 12:00:01.234 x\n"
    assert shown.line(log_line("x")) == "web unit tests │              x\n"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (asyncjobs.JobStarted(REF, job("lint", "running")), "+ shop/web/-/jobs/1042 · lint running"),
        (
            asyncjobs.JobFinished(
                REF,
                job("lint", "failed", duration=75.0, failure_reason="script_failure"),
                asyncjobs.TraceCursor(REF),
            ),
            "- shop/web/-/jobs/1042 · lint failed in 1m15s (script_failure)",
        ),
        (asyncjobs.JobRetried(REF, OTHER), "~ shop/web/-/jobs/1042 retried as shop/api/-/jobs/7"),
        (
            asyncjobs.TraceReset(REF, 0, "erased"),
            "~ shop/web/-/jobs/1042 log erased; going on at byte 0",
        ),
        (
            asyncjobs.TailPaused(REF, job("lint", "running"), asyncjobs.TraceCursor(REF)),
            "- shop/web/-/jobs/1042 · lint running, shown as far as it is now",
        ),
        (
            asyncjobs.TailFailed(REF, asyncjobs.TraceError("gone"), None),
            "! shop/web/-/jobs/1042: gone",
        ),
        (log_line("x"), None),
    ],
)
def test_news(event: asyncjobs.TailEvent, text: str | None) -> None:
    """Whatever happens to a job is one line with a sign, the job's target and what happened."""
    assert view().news(event) == text


def test_a_job_keeps_one_colour_in_both_streams() -> None:
    """Its news and its lines are painted alike."""
    shown = view(colour=True)
    line = shown.line(log_line("x"))
    news = shown.news(asyncjobs.JobFinished(REF, job("unit tests", "success"), asyncjobs.TraceCursor(REF)))
    assert news is not None
    assert line.split("m")[0] == news.split("m")[0]


def test_a_broken_tail_is_red() -> None:
    """What failed is seen among all the coming and going."""
    news = view(colour=True).news(asyncjobs.TailFailed(REF, asyncjobs.TraceError("gone"), None))
    assert news == "\x1b[1;31m! shop/web/-/jobs/1042: gone\x1b[0m"


def test_news_have_their_own_colour_switch() -> None:
    """Lines in a pipe are plain while the news on a terminal are coloured."""
    shown = view(terminal=False, colour=False, news_colour=True)
    assert "\x1b" in (shown.news(asyncjobs.JobStarted(REF, job("lint", "running"))) or "")
    assert "\x1b" not in shown.line(log_line("x", name="lint"))


def test_a_hostile_name_is_harmless() -> None:
    """A job's name drives the terminal neither in prefixes nor in news."""
    name = "x\x1b[2J\ny"
    shown = view()
    assert "\x1b" not in shown.line(log_line("x", name=name))
    news = shown.news(asyncjobs.JobStarted(REF, job(name, "running")))
    assert news is not None
    assert "\x1b" not in news
    assert "\n" not in news


@given(st.text(max_size=100))
def test_safe_lines_hold_no_control_character(text: str) -> None:
    """Without colours, no escape comes out of any text."""
    assert not set(safe_line(text, colour=False)) & {"\x1b", "\x07", "\x9b", "\x08", "\r"}
