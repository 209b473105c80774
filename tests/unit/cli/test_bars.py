"""What a sync says while it runs, and when it is over."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import asyncjobs
from asyncjobs.cli.bars import SyncBars, summary
from asyncjobs.cli.output import News
from tests.unit.cli.samples import REF, outcome

PATH = Path("out/shop-web/1042.zip")


def test_without_a_terminal_each_file_is_a_line() -> None:
    """Downloaded and failed files are named, below the folder; progress and unchanged files are not."""
    stream = io.StringIO()
    with SyncBars(News(no_color=True, stream=stream), root="out") as bars:
        bars.on_event(asyncjobs.SyncPlanned(REF, PATH, 2048))
        bars.on_event(asyncjobs.DownloadProgress(REF, PATH, 1024, 2048))
        bars.on_event(asyncjobs.SyncFinished("downloaded", outcome(path=PATH)))
        bars.on_event(asyncjobs.SyncFinished("unchanged", outcome(path=PATH)))
        bars.on_event(
            asyncjobs.SyncFinished("failed", outcome(error=asyncjobs.IntegrityError("3 of 9 bytes")))
        )
    assert stream.getvalue() == (
        "+ shop-web/1042.zip  2.0 KiB\nasyncjobs: shop/web/-/jobs/1042: 3 of 9 bytes\n"
    )


def test_files_that_are_data_are_no_news() -> None:
    """Where standard output names each file, standard error names those that failed."""
    stream = io.StringIO()
    with SyncBars(News(no_color=True, stream=stream), root="out", files=False) as bars:
        bars.on_event(asyncjobs.SyncFinished("downloaded", outcome(path=PATH)))
        bars.on_event(asyncjobs.SyncFinished("failed", outcome(error=asyncjobs.IntegrityError("short"))))
    assert stream.getvalue() == "asyncjobs: shop/web/-/jobs/1042: short\n"


def test_a_download_that_starts_over_is_no_error() -> None:
    """Progress may go back; a download without a job and one that was never planned are fine."""
    with SyncBars(News(no_color=True, quiet=True, stream=io.StringIO()), root="out") as bars:
        for received in (10, 2048, 0, 512):
            bars.on_event(asyncjobs.DownloadProgress(REF, PATH, received, None))
        bars.on_event(asyncjobs.DownloadProgress(None, PATH, 5, 10))
        bars.on_event(asyncjobs.SyncFinished("downloaded", outcome(size=None)))


@pytest.mark.parametrize(
    ("report", "dry_run", "text"),
    [
        (asyncjobs.SyncReport(), False, "0 downloaded (0 B), 0 unchanged"),
        (
            asyncjobs.SyncReport(
                downloaded=[outcome(), outcome()],
                unchanged=[outcome()],
                skipped=[
                    outcome(reason="expired"),
                    outcome(reason="not_finished"),
                    outcome(reason="expired"),
                ],
                failed=[outcome(reason="error")],
                removed=[PATH],
                failures=[
                    asyncjobs.TargetFailure(asyncjobs.ProjectRef("a/b"), asyncjobs.ConnectError("refused"))
                ],
            ),
            False,
            (
                "2 downloaded (4.0 KiB), 1 unchanged, 3 skipped (2 expired, 1 not finished),"
                " removed 1 file, 1 failed, 1 target not listed"
            ),
        ),
        (
            asyncjobs.SyncReport(downloaded=[outcome(size=4096)], bytes_received=1024),
            False,
            "1 downloaded (4.0 KiB, 1.0 KiB received), 0 unchanged",
        ),
        (
            asyncjobs.SyncReport(skipped=[outcome(reason="dry_run"), outcome(reason="none")]),
            True,
            "would download 1 archive (2.0 KiB), 0 unchanged, 1 skipped (1 none)",
        ),
    ],
)
def test_the_summary_names_everything(report: asyncjobs.SyncReport, dry_run: bool, text: str) -> None:
    """Each list of the report has its number, reasons are counted, and zeros of trouble are left out."""
    assert summary(report, dry_run=dry_run) == text
