"""A disk in memory that fails on purpose: at its k-th call it loses power, refuses, is slow, or cancels.

It keeps what a real one keeps apart: what programs see (the page cache) and what is on the platter. Bytes get
there by `fsync` of their file, names by `fsync` of their folder; when the power goes, whatever was not forced
down is there wholly, partly or not at all, in any order, as POSIX allows. Only SQLite and the lock of a root
are real, in a folder that counts as durable.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

import attrs

from asyncjobs._errors import AsyncJobsError, DestinationError
from asyncjobs._storage import BlockingFolder, FileFacts, Hops, ReadAt
from asyncjobs._storage.hops import StoppedError, translate
from tests.sim.platter import Directory, Entry, File, as_directory, as_file, facts_of, force
from tests.sim.trees import SimTree

T = TypeVar("T")
P = ParamSpec("P")

FaultKind = Literal["power", "kill", "error", "cancel", "slow"]
ERRNOS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EDQUOT)
SLOW_SECONDS = 90.0


class PowerOffError(BaseException):
    """The machine is off: no code of ours runs any more, so nothing may catch this and go on."""


@attrs.define
class Fault:
    """What goes wrong, and at which call."""

    kind: FaultKind
    at: int
    seed: int = 0
    fired: str = ""
    """The call it met, empty before."""


class SimDisk:
    """The disk of one process, as `asyncjobs._storage.Files`; the next process gets it from `reboot`."""

    def __init__(self, record: Path, top: Directory | None = None, boot: int = 0, pid: int = 1) -> None:
        self._record = record
        self.top = top or Directory()
        self._boot = boot
        self._pid = pid
        self._ticks = 0
        self.calls: list[str] = []
        """Every call so far, by name."""
        self.fault: Fault | None = None
        self.chance = random.Random(0)
        self.off = False
        self.cancel: Callable[[], object] = lambda: None
        """Cancels whoever is under test."""
        self.open_files = 0
        self.stop = False
        """Whether the work of many calls that is under way has been told to end."""

    # -- faults ---------------------------------------------------------------------------------------

    def arm(self, fault: Fault) -> None:
        """Let something go wrong."""
        self.fault, self.chance = fault, random.Random(fault.seed)

    def step(self, call: str) -> OSError | None:
        """Count one call; an error when it is to fail.

        Raises:
            PowerOffError: The machine is off, or goes off now.
        """
        if self.off:
            raise PowerOffError(call)
        self.calls.append(call)
        fault = self.fault
        if fault is None or fault.fired or len(self.calls) != fault.at:
            return None
        fault.fired = call
        if fault.kind in {"power", "kill"}:
            self.off = True
        elif fault.kind == "cancel":
            self.stop = True
            self.cancel()
        elif fault.kind == "error":
            number = ERRNOS[fault.seed % len(ERRNOS)]
            return OSError(number, os.strerror(number), call)
        return None

    async def call(self, name: str, work: Callable[[], T], partly: Callable[[], object] | None = None) -> T:
        """One call: what it does, and what it may have done when it fails.

        Cancellation: delivered after the work, as from a thread that was waited for.
        """
        error = self.step(name)
        if error is not None or self.off:
            if partly is not None:
                partly()
            if self.off:
                raise PowerOffError(name)
        try:
            if error is not None:
                raise error
            result = work()
        except OSError as failed:
            raise translate(failed) from failed
        if isinstance(result, SimFolder | SimWriter):
            await _settled(result)
            return result
        slow = self.fault is not None and self.fault.kind == "slow" and self.fault.at == len(self.calls)
        await asyncio.sleep(SLOW_SECONDS if slow else 0)
        return result

    def now(self, name: str, work: Callable[[], T], partly: Callable[[], object] | None = None) -> T:
        """One call out of many in a thread: what it does, and what it may have done when it fails."""
        error = self.step(name)
        if (error is not None or self.off) and partly is not None:
            partly()
        if self.off:
            raise PowerOffError(name)
        if error is not None:
            raise error
        return work()

    def reboot(self, record: Path, *, in_order: bool = False) -> SimDisk:
        """The disk as the next process finds it: all after a kill, less after the power went."""
        if self.fault is not None and self.fault.kind == "power":
            left = self.top.survivor(self.chance, in_order=in_order)
            return SimDisk(record, left, self._boot + 1, self._pid)
        return SimDisk(record, self.top, self._boot, self._pid + 1)

    def tick(self) -> int:
        """A time that is later with every call."""
        self._ticks += 1
        return (self._boot * 1000 + self._pid) * 1_000_000_000 + self._ticks

    # -- the seam -------------------------------------------------------------------------------------

    async def open_folder(self, path: Path, *, create: bool) -> SimFolder:
        """Open a folder by its path."""

        def work() -> SimFolder:
            here = self.top
            for part in path.parts[1:]:
                if part not in here.seen and create:
                    here.change(part, Directory())
                    here.force()  # the root of a sync is the caller's to keep
                here = as_directory(here.seen.get(part), part)
            return SimFolder(self, here, path)

        return await self.call("open_folder", work)

    async def exists(self, path: Path) -> bool:
        """Whether anything has the path."""
        return await self.call("exists", lambda: self.find(path) is not None)

    async def destination(self, path: Path) -> Path:
        """The path itself: there are no links here."""

        def work() -> Path:
            as_directory(self.find(path.parent), str(path.parent))
            return path

        return await self.call("destination", work)

    def record_folder(self, path: Path) -> Path:
        """The one real folder."""
        return self._record

    # -- for tests to look at -------------------------------------------------------------------------

    def find(self, path: Path) -> Entry | None:
        """What has a path."""
        here: Entry | None = self.top
        for part in path.parts[1:]:
            here = here.seen.get(part) if isinstance(here, Directory) else None
        return here

    def folders(self, path: Path) -> list[str]:
        """Every folder below a folder, by relative path."""
        found: list[str] = []

        def walk(entry: Entry | None, prefix: str) -> None:
            if isinstance(entry, Directory):
                found.append(prefix)
                for name, below in entry.seen.items():
                    walk(below, f"{prefix}/{name}" if prefix else name)

        walk(self.find(path), "")
        return found

    def tree(self, path: Path) -> dict[str, bytes]:
        """Every file below a folder, by relative path."""
        found: dict[str, bytes] = {}

        def walk(entry: Entry | None, prefix: str) -> None:
            if isinstance(entry, File):
                found[prefix] = entry.seen
            elif entry is not None:
                for name, below in entry.seen.items():
                    walk(below, f"{prefix}/{name}" if prefix else name)

        walk(self.find(path), "")
        return found


async def _settled(opened: SimFolder | SimWriter) -> None:
    """Wait a turn; what a cancelled caller opened is closed, as the real disk does."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        await opened.close()
        raise


class SimFolder:
    """An open folder."""

    def __init__(self, disk: SimDisk, here: Directory, path: Path) -> None:
        self._disk = disk
        self._here = here
        self._open = True
        self.path = path
        disk.open_files += 1

    async def folder(self, *names: str, create: bool, sync: bool = False) -> SimFolder:
        """Open a folder below this one, one name at a time."""
        folder = await self._disk.call("dup", lambda: SimFolder(self._disk, self._here, self.path))
        for name in names:
            try:
                below = await folder._below(name, create=create, sync=sync)
            finally:
                await folder.close()
            folder = below
        return folder

    async def _below(self, name: str, *, create: bool, sync: bool) -> SimFolder:
        if create and name not in self._here.seen:
            await self._disk.call("mkdir", lambda: self._here.change(name, Directory()))
        if sync:
            await self.sync()
        below = self._here.seen.get(name)
        return await self._disk.call(
            "open folder", lambda: SimFolder(self._disk, as_directory(below, name), self.path / name)
        )

    async def create(self, name: str, *, record: tuple[str, bytes] | None = None) -> SimWriter:
        """Make a new file, and before it the one that speaks of it."""
        if record is not None:
            await self.write_whole(*record, sync=False)
        file = File()

        def work() -> SimWriter:
            if name in self._here.seen:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._here.change(name, file)
            file.mtime_ns = self._disk.tick()
            return SimWriter(self._disk, file)

        try:
            return await self._disk.call("create", work)
        except asyncio.CancelledError:
            self._here.change(name, None)  # as the real one does when nobody takes what it opened
            raise

    async def reopen(self, name: str) -> SimWriter:
        """Go on at the end of a file."""
        return await self._disk.call(
            "reopen", lambda: SimWriter(self._disk, as_file(self._here.seen.get(name), name))
        )

    async def read(self, name: str, *, limit: int) -> bytes | None:
        """A small file."""

        def work() -> bytes | None:
            entry = self._here.seen.get(name)
            return None if entry is None else as_file(entry, name).seen[:limit]

        return await self._disk.call("read", work)

    async def write_whole(self, name: str, data: bytes, *, sync: bool) -> None:
        """Write beside, then replace: four calls, as on a real disk."""
        beside = f"{name}.new"
        file = File()

        def write() -> None:
            file.seen, file.mtime_ns = data, self._disk.tick()

        def partly() -> None:
            file.seen = data[: self._disk.chance.randint(0, len(data))]

        await self._disk.call("create small", lambda: self._here.change(beside, file))
        await self._disk.call("write small", write, partly)
        if sync:
            await self._disk.call("fsync small", lambda: force(file))
        await self._disk.call("replace small", lambda: self._here.change(beside, None, name, file))

    async def rename(self, old: str, new: str) -> bool:
        """Move a file."""

        def work() -> bool:
            entry = self._here.seen.get(old)
            if entry is None:
                return False
            self._here.change(old, None, new, entry)
            return True

        return await self._disk.call("rename", work)

    async def remove(self, name: str) -> bool:
        """Delete a file."""

        def work() -> bool:
            if name not in self._here.seen:
                return False
            as_file(self._here.seen[name], name)
            self._here.change(name, None)
            return True

        return await self._disk.call("remove", work)

    async def remove_folder(self, name: str) -> bool:
        """Delete an empty folder."""

        def work() -> bool:
            entry = self._here.seen.get(name)
            if not isinstance(entry, Directory) or entry.seen:
                return False
            self._here.change(name, None)
            return True

        return await self._disk.call("remove_folder", work)

    async def facts(self, *names: str) -> FileFacts | None:
        """What has the name."""

        def work() -> FileFacts | None:
            here: Entry | None = self._here
            for name in names:
                here = as_directory(here, name).seen.get(name)
                if here is None:
                    return None
            return facts_of(here)

        return await self._disk.call("facts", work)

    async def names(self) -> list[str]:
        """Every name."""
        return await self._disk.call("names", lambda: sorted(self._here.seen))

    async def sync(self) -> None:
        """Force the names."""
        await self._disk.call("fsync folder", self._here.force)

    async def free_bytes(self) -> int:
        """Plenty."""
        return await self._disk.call("free_bytes", lambda: 1 << 40)

    async def sha256(self, name: str) -> str:
        """The hash of a whole file."""
        return await self.examine(name, lambda read_at, size: hashlib.sha256(read_at(0, size)).hexdigest())

    async def examine(self, name: str, judge: Callable[[ReadAt, int], T]) -> T:
        """Judge a file."""

        def work() -> T:
            raw = as_file(self._here.seen.get(name), name).seen
            return judge(lambda offset, count: raw[offset : offset + count], len(raw))

        return await self._disk.call("examine", work)

    async def pour(
        self,
        name: str,
        pieces: Callable[[ReadAt, int], Iterator[bytes]],
        into: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Hand over what *pieces* makes of a file, a piece for each call."""
        raw = await self._disk.call("open", lambda: as_file(self._here.seen.get(name), name).seen)
        source = pieces(lambda offset, count: raw[offset : offset + count], len(raw))
        while piece := await self._disk.call("pour", lambda: next(source, b"")):
            await into(piece)

    async def run(self, work: Callable[[BlockingFolder], T]) -> T:
        """Work of many calls, all in one go; a caller that is cancelled hears of it afterwards."""
        self._disk.stop = False
        top = SimTree(self._disk, self._here)
        failure: Exception
        try:
            result = work(top)
        except (OSError, StoppedError, AsyncJobsError) as error:
            failure = translate(error) if isinstance(error, OSError) else error
        else:
            await asyncio.sleep(0)
            return result
        finally:
            top.close()
        await asyncio.sleep(0)
        assert not isinstance(failure, StoppedError), "stopped, and nobody was cancelled"
        raise failure

    async def me(self) -> str:
        """This process: machine, boot, process id."""
        return f"sim|boot {self._disk._boot}|ns|{self._disk._pid}|0"

    async def has_ended(self, owner: str) -> bool:
        """Every other process is over: the last one died before this one began."""
        return owner != await self.me()

    async def close(self) -> None:
        """Let go."""
        if self._open:
            self._open = False
            self._disk.open_files -= 1


class SimWriter:
    """A file being written."""

    def __init__(self, disk: SimDisk, file: File) -> None:
        self._disk = disk
        self._file = file
        self._digest = hashlib.sha256(file.seen)
        self._open = True
        self.length = len(file.seen)
        disk.open_files += 1

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append; a failing write may have written some of it."""
        data = b"".join(pieces)

        def append(count: int) -> None:
            self._file.seen += data[:count]
            self._file.mtime_ns = self._disk.tick()

        def work() -> None:
            append(len(data))
            self._digest.update(data)
            self.length += len(data)

        await self._disk.call("write", work, lambda: append(self._disk.chance.randint(0, len(data))))

    async def restart(self) -> None:
        """Cut to nothing."""

        def work() -> None:
            self._file.seen = b""

        await self._disk.call("truncate", work)
        self._digest, self.length = hashlib.sha256(), 0

    async def finish(self, pieces: Sequence[bytes] = (), *, sync: bool) -> str:
        """Append what is left, check the size, force, close."""
        if pieces:
            await self.write(pieces)
        if len(self._file.seen) != self.length:
            raise DestinationError(f"{len(self._file.seen)} bytes of {self.length}")
        if sync:
            await self._disk.call("fsync", lambda: force(self._file))
        await self.close()
        return self._digest.hexdigest()

    async def close(self) -> None:
        """Close; what it says comes too late to change anything."""
        if self._open:
            self._open = False
            self._disk.open_files -= 1


class SimHops(Hops):
    """The calls of SQLite, at once instead of in a thread, each of them one more call of the disk."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__()
        self._disk = disk

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function; SQLite's own words for what the system says."""
        name: str = function.__name__
        if name == "close":
            return function(*args, **kwargs)  # a process that ends lets go of its files, however it ends
        error = self._disk.step(f"record {name.strip('_')}")
        if self._disk.off:
            raise PowerOffError(name)
        try:
            if error is not None:
                full = error.errno in {errno.ENOSPC, errno.EDQUOT}
                raise sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
            result = function(*args, **kwargs)
        except (OSError, sqlite3.Error) as failed:
            raise translate(failed) from failed
        await asyncio.sleep(0)
        return result
