"""Jobs as tables and as tab-separated lines."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console

import asyncjobs
from asyncjobs.cli.details import job_details
from asyncjobs.cli.tables import COLUMNS, job_line, jobs_table
from tests.unit.cli.samples import NOW, REF, job

LONG = asyncjobs.JobRef("organisation/department/team/application-with-a-name", 1234567890)


def shown(renderable: object, width: int) -> str:
    """What a terminal of that width would show, without colours."""
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_fits_its_terminal(width: int) -> None:
    """No row is wider than the terminal and none takes two lines, however long the names."""
    rows = [
        (REF, job(created_at=NOW - timedelta(hours=2), ref="main", stage="test", duration=3.0)),
        (
            LONG,
            job(
                "a job with a name as long as a line of poetry",
                ref="feature/very-long-branch-name",
                stage="s" * 40,
            ),
        ),
    ]
    lines = shown(jobs_table(rows, width=width, now=NOW), width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert sum("failed" in line for line in lines) == len(rows)


def test_a_wide_terminal_is_told_why() -> None:
    """Stage, duration and reason appear where there is room for them."""
    rows = [(REF, job(failure_reason="runner_system_failure", stage="deploy", duration=75.0))]
    wide, narrow = (shown(jobs_table(rows, width=width, now=NOW), width) for width in (130, 80))
    assert "runner_system_failure" in wide
    assert "1m15s" in wide
    assert "runner_system_failure" not in narrow


def test_a_table_row_can_be_typed_again() -> None:
    """The target is whole at 80 columns for names of ordinary length, even beside long ones."""
    ref = asyncjobs.JobRef("orchard/billing", 1002)
    row = ref, job("integration tests with invoices", ref="feature/very-long-branch-name", created_at=NOW)
    assert str(ref) in shown(jobs_table([row], width=80, now=NOW), 80)


def test_a_narrow_table_keeps_the_number() -> None:
    """Where a target has no room the ref goes first; then the target loses its middle, never its number."""
    for project, target in (
        ("orchard/mobile/app", "orchard/mobile/app/-/jobs/1002 "),
        ("organisation/department/team/application", "tion/-/jobs/1002 "),
    ):
        row = asyncjobs.JobRef(project, 1002), job("integration tests", ref="main", created_at=NOW)
        text = shown(jobs_table([row], width=60, now=NOW), 60)
        assert target in text
        assert "main" not in text


def test_names_in_tables_are_harmless() -> None:
    """Neither markup nor an escape sequence in a name has an effect."""
    text = shown(jobs_table([(REF, job("[red]x[/red]\x1b[2J"))], width=120, now=NOW), 120)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_lines_have_one_field_for_each_column() -> None:
    """A tab or a line break in a name does not make a field; what is unknown is empty."""
    line = job_line(REF, job("a\tb\nc", created_at=NOW, duration=1.5))
    assert line.endswith("\n")
    fields = line[:-1].split("\t")
    assert dict(zip(COLUMNS, fields, strict=True)) == {
        "target": "shop/web/-/jobs/1042",
        "status": "failed",
        "name": "a b c",
        "stage": "",
        "ref": "",
        "created_at": "2026-05-01T12:00:00+00:00",
        "duration": "1.500",
        "failure_reason": "",
    }


def test_details_leave_out_what_nobody_said() -> None:
    """The page of a job has a line for each known fact, and none for the others."""
    text = shown(
        job_details(
            REF,
            job(
                failure_reason="script_failure",
                allow_failure=True,
                artifacts_file=asyncjobs.ArtifactsFile(filename="artifacts.zip", size=2048),
                artifacts_expire_at=NOW + timedelta(days=3),
            ),
            now=NOW,
        ),
        100,
    )
    assert "script_failure (allowed to fail)" in text
    assert "artifacts.zip, 2.0 KiB, expires in 3d00h" in text
    assert "runner" not in text
