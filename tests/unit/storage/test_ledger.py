"""The record of a folder under many callers: one transaction for all who wait, no word before it holds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import attrs
import pytest
import pytest_asyncio

from asyncjobs._errors import ManifestError
from asyncjobs._storage import FileRow, Hops, Ledger
from asyncjobs._storage.ledger import open_ledger

ROW = FileRow(
    path="a/b.zip",
    target="group/app",
    project="group/app",
    job_id=8,
    file_type="archive",
    remote_size=3,
    size=3,
    mtime_ns=1,
    sha256="ab",
    complete=True,
    stored_at=1.5,
)
ROWS = [attrs.evolve(ROW, path=f"{number:03}.zip", job_id=number) for number in range(100)]


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """An empty record."""
    hops = Hops(1)
    made = await open_ledger(hops, tmp_path / "manifest.sqlite3", durable=False)
    yield made
    await made.aclose()
    hops.close()


def statements(ledger: Ledger) -> list[str]:
    """What SQLite is told from now on."""
    told: list[str] = []
    ledger._connection.set_trace_callback(told.append)
    return told


def as_others_see_it(tmp_path: Path) -> set[str]:
    """The paths that are committed."""
    connection = sqlite3.connect(tmp_path / "manifest.sqlite3")
    try:
        return {path for (path,) in connection.execute("SELECT path FROM files")}
    finally:
        connection.close()


async def test_rows_of_many_callers_are_forced_down_together(ledger: Ledger) -> None:
    """A hundred who put a row at the same moment cost one or two commits, and everybody's row is there."""
    told = statements(ledger)
    await asyncio.gather(*(ledger.put(row) for row in ROWS))
    assert told.count("COMMIT") <= 2
    assert await ledger.rows() == ROWS


async def test_nobody_hears_of_a_row_before_it_is_committed(ledger: Ledger, tmp_path: Path) -> None:
    """When a call returns, another process would find its row: what comes next may rely on it."""

    async def one(row: FileRow) -> None:
        await ledger.put(row)
        assert row.path in as_others_see_it(tmp_path)

    await asyncio.gather(*(one(row) for row in ROWS))


async def test_a_refused_row_is_everybodys_error_and_nothing_of_it_stays(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Who waits for a transaction that fails is told so: no row is believed to be there that is not."""
    wrong = attrs.evolve(ROW, path="wrong", sha256=cast(str, None))
    several = [ledger.put(ROWS[0]), ledger.put(wrong), ledger.put(ROWS[1])]
    results = await asyncio.gather(*several, return_exceptions=True)
    assert [type(each) for each in results] == [ManifestError] * 3
    assert as_others_see_it(tmp_path) == set()
    await ledger.put(ROW)
    assert as_others_see_it(tmp_path) == {ROW.path}


async def test_a_cancelled_caller_hears_of_it_when_its_row_is_there(ledger: Ledger, tmp_path: Path) -> None:
    """One of many who is cancelled takes no row of others along, and leaves its own not in the air."""
    tasks = [asyncio.ensure_future(ledger.put(row)) for row in ROWS[:3]]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results] == [type(None), asyncio.CancelledError, type(None)]
    assert as_others_see_it(tmp_path) == {row.path for row in ROWS[:3]}


async def test_rows_that_many_ask_for_cost_few_hops(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that come while the thread is busy are answered in one go, each with its own row."""
    await asyncio.gather(*(ledger.put(row) for row in ROWS))
    hops: list[int] = []
    real = ledger._transact

    def counting(calls: list[Callable[[], object]]) -> None:
        hops.append(len(calls))
        real(calls)

    monkeypatch.setattr(ledger, "_transact", counting)
    found = await asyncio.gather(*(ledger.row(row.path) for row in ROWS), ledger.row("nowhere"))
    assert found == [*ROWS, None]
    assert len(hops) <= 2
    assert sum(hops) == len(ROWS) + 1
