"""The manifest of a synced folder: which file came from which job, with which hash. SQLite, off the loop.

One row for each path. A row is written twice: as a promise before a file gets its name, and as done after
it has it; so a crash between the two is told from a stranger's file. It stores what it is given and judges
nothing.

What many callers ask for while the thread is busy is done in one hop and one transaction: a disk forces it
down once for all of them, and each hears of it only then.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import attrs
import msgspec

from asyncjobs._errors import ManifestError
from asyncjobs._storage.hops import Hops, joined

T = TypeVar("T")

SCHEMA_VERSION = 1
UNFINISHED = ""
"""Stands in a `TreeRow` where a hash of an archive would be, and is none."""
_APPLICATION_ID = 0x61736A62  # "asjb"

_SCHEMA = f"""
CREATE TABLE files (
  path        TEXT PRIMARY KEY,
  target      TEXT NOT NULL,
  project     TEXT NOT NULL,
  job_id      INTEGER NOT NULL,
  file_type   TEXT NOT NULL,
  member      TEXT NOT NULL,
  remote_size INTEGER,
  size        INTEGER NOT NULL,
  mtime_ns    INTEGER NOT NULL,
  sha256      TEXT NOT NULL,
  complete    INTEGER NOT NULL,
  stored_at   REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE trees (
  path   TEXT PRIMARY KEY,
  sha256 TEXT NOT NULL,
  files  BLOB NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
PRAGMA application_id = {_APPLICATION_ID};
"""


@attrs.frozen(kw_only=True)
class FileRow:
    """One file of a synced folder."""

    path: str
    """Below the root, with `/` between its parts."""
    target: str
    """The sync target it was selected by, in its text form; prune touches only those it has listed."""
    project: str
    job_id: int
    file_type: str
    member: str = ""
    """The member of the archive this file is, empty for the archive itself."""
    remote_size: int | None
    size: int
    mtime_ns: int
    sha256: str
    complete: bool
    """False from the promise to place the file until it stands."""
    stored_at: float
    """Seconds since the epoch."""


_COLUMNS = tuple(field.name for field in attrs.fields(FileRow))


@attrs.frozen
class TreeRow:
    """One folder that an archive was unpacked into."""

    path: str
    sha256: str
    """Of the archive; `UNFINISHED` while the folder is being replaced or taken away."""
    files: tuple[str, ...]
    """What was unpacked, below the folder; while it is replaced, what was and what will be."""


@attrs.frozen
class _Batch:
    """What is done together, in this order."""

    calls: list[Callable[[], object]]
    done: asyncio.Task[None]


class Ledger:
    """The manifest of one root. Opened by `open_ledger`, closed with `aclose`."""

    def __init__(self, hops: Hops, connection: sqlite3.Connection) -> None:
        self._hops = hops
        self._connection = connection
        self._turn = asyncio.Lock()
        self._gathering: _Batch | None = None

    async def _together(self, work: Callable[[], T]) -> T:
        """Do something in the thread, with what others ask for until it is free.

        Raises:
            DiskFullError, ManifestError: Nothing of all that was done.

        Cancellation: delivered once it is done.
        """
        found: list[T] = []
        if self._gathering is None:
            calls: list[Callable[[], object]] = []
            self._gathering = _Batch(calls, asyncio.ensure_future(self._work_off(calls)))
        batch = self._gathering
        batch.calls.append(lambda: found.append(work()))
        await joined(batch.done)
        batch.done.result()
        return found[0]

    async def _work_off(self, calls: list[Callable[[], object]]) -> None:
        try:
            await self._turn.acquire()
        finally:
            self._gathering = None  # from here on others begin a new one
        try:
            await self._hops.call(self._transact, calls)
        finally:
            self._turn.release()

    def _transact(self, calls: list[Callable[[], object]]) -> None:
        with self._connection:
            for each in calls:
                each()

    async def row(self, path: str) -> FileRow | None:
        """The row of one path."""
        return await self._together(lambda: self._row(path))

    def _row(self, path: str) -> FileRow | None:
        found = self._connection.execute("SELECT * FROM files WHERE path = ?", (path,)).fetchone()
        return _file_row(found) if found is not None else None

    async def rows(self) -> list[FileRow]:
        """Every row, by path. About 1 kB of memory for each."""
        return await self._hops.call(self._rows)

    def _rows(self) -> list[FileRow]:
        return [_file_row(each) for each in self._connection.execute("SELECT * FROM files ORDER BY path")]

    async def owners(self) -> list[tuple[str, int]]:
        """Each path with the job it belongs to; files out of one archive as the folder they share."""
        return await self._hops.call(self._owners)

    def _owners(self) -> list[tuple[str, int]]:
        # A member's path is its folder, a slash, and its name in the archive.
        folder = "CASE WHEN member = '' THEN path ELSE substr(path, 1, length(path) - length(member) - 1) END"
        return list(self._connection.execute(f"SELECT DISTINCT {folder}, job_id FROM files"))  # noqa: S608 -- constant

    async def put(self, row: FileRow) -> None:
        """Insert or replace one row, durably."""
        await self._together(lambda: self._put(row))

    def _put(self, row: FileRow) -> None:
        values = [getattr(row, name) for name in _COLUMNS]
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT OR REPLACE INTO files VALUES ({marks})", values)  # noqa: S608 -- marks

    async def forget(self, paths: Iterable[str]) -> None:
        """Delete rows, durably."""
        gone = [(each,) for each in paths]
        await self._together(lambda: self._connection.executemany("DELETE FROM files WHERE path = ?", gone))

    async def tree(self, path: str) -> TreeRow | None:
        """What was unpacked into a folder."""
        return await self._together(lambda: self._tree(path))

    def _tree(self, path: str) -> TreeRow | None:
        found = self._connection.execute("SELECT * FROM trees WHERE path = ?", (path,)).fetchone()
        if found is None:
            return None
        return TreeRow(found[0], found[1], msgspec.json.decode(found[2], type=tuple[str, ...]))

    async def put_tree(self, row: TreeRow) -> None:
        """Insert or replace what was unpacked into a folder, durably."""
        values = (row.path, row.sha256, msgspec.json.encode(row.files))
        await self._together(
            lambda: self._connection.execute("INSERT OR REPLACE INTO trees VALUES (?, ?, ?)", values)
        )

    async def forget_tree(self, path: str) -> None:
        """Delete the record of an unpacked folder."""
        await self._together(lambda: self._connection.execute("DELETE FROM trees WHERE path = ?", (path,)))

    async def aclose(self) -> None:
        """Close the file; twice is fine."""
        await self._hops.call(self._connection.close)


def _file_row(values: tuple[object, ...]) -> FileRow:
    facts = dict(zip(_COLUMNS, values, strict=True))
    facts["complete"] = bool(facts["complete"])
    return FileRow(**facts)  # type: ignore[arg-type]  # sqlite gives object; the schema fixes the types


async def open_ledger(hops: Hops, path: Path, *, durable: bool, read_only: bool = False) -> Ledger:
    """Open the manifest at *path*, made when it is missing.

    Args:
        hops: One thread of its own: SQLite connections are used by one at a time.
        path: The file; its folder exists.
        durable: Force each record to the disk.
        read_only: Look only; a missing file reads as an empty one.

    Raises:
        ManifestError: Damaged, from a newer release, or not a manifest at all.
    """
    return Ledger(hops, await hops.call(_connect, path, durable, read_only))


def _connect(path: Path, durable: bool, read_only: bool) -> sqlite3.Connection:
    if path.is_symlink():
        raise ManifestError(f"{str(path)!r} is a symbolic link; it must be a file of its own")
    name = ":memory:" if read_only and not path.exists() else str(path)
    connection = sqlite3.connect(name, timeout=10.0, check_same_thread=False)
    try:
        _prepare(connection, path, durable)
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise ManifestError(_damaged(path, str(error))) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, durable: bool) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise ManifestError(
            f"{str(path)!r} was written by a newer asyncjobs (schema {version}, this release knows"
            f" {SCHEMA_VERSION}); update asyncjobs, or use another folder"
        )
    if version == 0:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise ManifestError(f"{str(path)!r} is a database of another program")
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise ManifestError(_damaged(path, found))


def _damaged(path: Path, why: str) -> str:
    return (
        f"{str(path)!r} is damaged ({why}); move it away and sync again: files are compared by hash and"
        " recorded anew"
    )
