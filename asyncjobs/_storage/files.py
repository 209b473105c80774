"""The real disk: the calls of `seam`, through threads.

Everything happens below an opened folder, by single names, and never through a symbolic link; so a link
planted in a destination leads nowhere. What a file should be called or contain is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from asyncjobs._errors import DestinationError
from asyncjobs._options import RECORD_FOLDER
from asyncjobs._storage.blocking import (
    FOLDER_FLAGS,
    READ_BYTES,
    READ_FLAGS,
    DiskReader,
    DiskTree,
    facts_of,
    sync_folder,
)
from asyncjobs._storage.destination import resolve
from asyncjobs._storage.hops import Hops
from asyncjobs._storage.owners import is_dead, whoami
from asyncjobs._storage.seam import BlockingFolder, FileFacts, ReadAt

T = TypeVar("T")

_WRITE_PIECES = 512
"""Most buffers of one writev; Linux takes 1024."""
_WARM_BYTES = 192 * 1024
"""About so much is written, then hashed, while it is still in the core's own cache: after 1 MiB it no longer
is, and writing and hashing take a tenth more time together."""
_POUR_BYTES = 1024 * 1024
"""So much is made in one hop when a file is poured into another."""


class DiskFiles:
    """The real disk, through a pool of threads."""

    def __init__(self, hops: Hops) -> None:
        self._hops = hops

    async def open_folder(self, path: Path, *, create: bool) -> DiskFolder:
        """Open a folder by its path.

        Raises:
            DestinationError: Missing (unless created), not a folder, not permitted.
        """
        found: list[int] = []
        try:
            return DiskFolder(self._hops, await self._hops.call(_open_folder, path, create, found), path)
        except BaseException:
            _close_all(found)
            raise

    async def exists(self, path: Path) -> bool:
        """Whether anything has the path."""
        return await self._hops.call(path.exists)

    async def destination(self, path: Path) -> Path:
        """The file to write when *path* is asked for.

        Raises:
            DestinationError: It may not be written or replaced.
        """
        return await self._hops.call(resolve, path)

    def record_folder(self, path: Path) -> Path:
        """Where the lock and the manifest of a root are."""
        return path / RECORD_FOLDER


def _close_all(descriptors: list[int]) -> None:
    """Close what a call opened whose caller is gone."""
    while descriptors:
        os.close(descriptors.pop())


def _open_folder(path: Path, create: bool, found: list[int]) -> int:
    if create:
        path.mkdir(parents=True, exist_ok=True)
    # realpath once: the caller may give a link, but nothing may swap one in between afterwards.
    found.append(os.open(os.path.realpath(path), FOLDER_FLAGS))
    return found[0]


def _descend(above: int, name: str, *, create: bool, sync: bool) -> int:
    """Open a folder in an open one (in a thread), made when *create* says so, its name on the disk."""
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
    if sync:
        sync_folder(above)
    return os.open(name, FOLDER_FLAGS, dir_fd=above)


class DiskFolder:
    """A folder by its descriptor."""

    def __init__(self, hops: Hops, descriptor: int, path: Path) -> None:
        self._hops = hops
        self._fd = descriptor
        self.path = path

    async def folder(self, *names: str, create: bool, sync: bool = False) -> DiskFolder:
        """Open a folder below this one, one name at a time; a link in the place of one is refused."""
        found: list[int] = []

        def work() -> int:
            found.append(self._open_below(names, create=create, sync=sync))
            return found[0]

        try:
            return DiskFolder(self._hops, await self._hops.call(work), self.path.joinpath(*names))
        except BaseException:
            _close_all(found)
            raise

    def _open_below(self, names: Iterable[str], *, create: bool, sync: bool) -> int:
        below = os.open(".", FOLDER_FLAGS, dir_fd=self._fd)
        for name in names:
            above = below
            try:
                below = _descend(above, name, create=create, sync=sync)
            finally:
                os.close(above)
        return below

    async def create(self, name: str, *, record: tuple[str, bytes] | None = None) -> DiskWriter:
        """Make a new file, and before it the one that speaks of it."""
        return await self._writer(name, os.O_CREAT | os.O_EXCL, record)

    async def reopen(self, name: str) -> DiskWriter:
        """Go on at the end of a file that is already there."""
        return await self._writer(name, 0)

    async def _writer(self, name: str, how: int, record: tuple[str, bytes] | None = None) -> DiskWriter:
        found: list[int] = []

        def work(stop: threading.Event) -> DiskWriter:
            if record is not None:
                self._write_whole(*record, sync=False)
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | how
            found.append(os.open(name, flags, 0o666, dir_fd=self._fd))
            if not stat.S_ISREG(os.fstat(found[0]).st_mode):
                raise DestinationError(f"{str(self.path / name)!r} is not a regular file")
            writer = DiskWriter(self._hops, found[0])
            if not how:
                writer.hash_existing(stop)
            return writer

        try:
            return await self._hops.call_stoppable(work)
        except BaseException:
            made = bool(found and how)
            _close_all(found)
            if made:
                await self.remove(name)
            raise

    async def read(self, name: str, *, limit: int) -> bytes | None:
        """A small file, at most *limit* bytes of it."""

        def work() -> bytes | None:
            try:
                fd = os.open(name, READ_FLAGS, dir_fd=self._fd)
            except FileNotFoundError:
                return None
            with os.fdopen(fd, "rb") as file:
                return file.read(limit)

        return await self._hops.call(work)

    async def write_whole(self, name: str, data: bytes, *, sync: bool) -> None:
        """Write beside, then replace."""
        await self._hops.call(self._write_whole, name, data, sync=sync)

    def _write_whole(self, name: str, data: bytes, *, sync: bool) -> None:
        beside = f"{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o666, dir_fd=self._fd), "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(beside, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    async def rename(self, old: str, new: str) -> bool:
        """Move a file within the folder, over whatever is there."""

        def work() -> bool:
            try:
                os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except FileNotFoundError:
                return False
            return True

        return await self._hops.call(work)

    async def remove(self, name: str) -> bool:
        """Delete a file or a link, never what it points at."""
        return await self._hops.call(self._remove, name)

    def _remove(self, name: str) -> bool:
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    async def remove_folder(self, name: str) -> bool:
        """Delete an empty folder."""

        def work() -> bool:
            try:
                os.rmdir(name, dir_fd=self._fd)
            except OSError:
                return False
            return True

        return await self._hops.call(work)

    async def facts(self, *names: str) -> FileFacts | None:
        """What has the name; a link is neither file nor folder."""
        *folders, name = names
        return await self._hops.call(self._facts_below, folders, name)

    def _facts_below(self, folders: list[str], name: str) -> FileFacts | None:
        if not folders:
            return facts_of(name, self._fd)
        try:
            below = self._open_below(folders, create=False, sync=False)
        except FileNotFoundError:
            return None
        try:
            return facts_of(name, below)
        finally:
            os.close(below)

    async def names(self) -> list[str]:
        """Every name in the folder."""
        return sorted(await self._hops.call(os.listdir, self._fd))

    async def sync(self) -> None:
        """Force the names to the disk; file systems that cannot are let be."""
        await self._hops.call(sync_folder, self._fd)

    async def free_bytes(self) -> int:
        """What an ordinary user may still write."""

        def work() -> int:
            found = os.fstatvfs(self._fd)
            return found.f_bavail * found.f_frsize

        return await self._hops.call(work)

    async def sha256(self, name: str) -> str:
        """Read and hash a whole file, a piece at a time."""

        def judge(read_at: ReadAt, size: int) -> str:
            digest = hashlib.sha256()
            for offset in range(0, size, READ_BYTES):
                digest.update(read_at(offset, READ_BYTES))
            return digest.hexdigest()

        return await self.examine(name, judge)

    async def examine(self, name: str, judge: Callable[[ReadAt, int], T]) -> T:
        """Judge a file in a thread; a cancelled caller stops the reading."""

        def work(here: BlockingFolder) -> T:
            reader = here.open(name)
            try:
                return judge(reader.read_at, reader.size)
            finally:
                reader.close()

        return await self.run(work)

    async def pour(
        self,
        name: str,
        pieces: Callable[[ReadAt, int], Iterator[bytes]],
        into: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Hand over what *pieces* makes of a file; nothing is made ahead of what *into* has taken."""
        found: list[DiskReader] = []

        def begin() -> Iterator[bytes]:
            found.append(DiskTree(self._fd, threading.Event()).open(name))
            return pieces(found[0].read_at, found[0].size)

        try:
            source = await self._hops.call(begin)
            while piece := await self._hops.call(_gathered, source):
                await into(piece)
        finally:
            for each in found:
                each.close()

    async def me(self) -> str:
        """This process, by machine, process id and start."""
        return whoami()

    async def has_ended(self, owner: str) -> bool:
        """Whether a process of this machine is over; of another machine nobody here can know."""
        return await self._hops.call(is_dead, owner)

    async def run(self, work: Callable[[BlockingFolder], T]) -> T:
        """Call *work* in a thread with this folder, which stays open."""
        return await self._hops.call_stoppable(lambda stop: work(DiskTree(self._fd, stop)))

    async def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)  # a descriptor of a folder: nothing to wait for


def _gathered(source: Iterator[bytes]) -> bytes:
    """The next pieces of an iterator, together about a MiB (in a thread); empty at its end."""
    pieces: list[bytes] = []
    size = 0
    while size < _POUR_BYTES and (piece := next(source, b"")):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _batches(pieces: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _WARM_BYTES or len(batch) == _WRITE_PIECES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class DiskWriter:
    """A file by its descriptor; one call at a time."""

    def __init__(self, hops: Hops, descriptor: int) -> None:
        self._hops = hops
        self._fd = descriptor
        self._digest = hashlib.sha256()
        self.length = 0

    def hash_existing(self, stop: threading.Event) -> None:
        """Read what is there (in a thread) and stand at its end."""
        read_at = DiskReader(self._fd, stop).read_at
        while piece := read_at(self.length, READ_BYTES):
            self._digest.update(piece)
            self.length += len(piece)
        os.lseek(self._fd, 0, os.SEEK_END)

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append and hash in one hop; a short write is gone on with."""
        await self._hops.call(self._write, pieces)

    def _write(self, pieces: Sequence[bytes]) -> None:
        for batch in _batches(pieces):
            self._write_some(batch)

    def _write_some(self, pieces: Sequence[bytes]) -> None:
        left: list[bytes | memoryview] = list(pieces)
        while left:
            written = os.writev(self._fd, left)
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if left and written:
                left[0] = memoryview(left[0])[written:]
        for piece in pieces:
            self._digest.update(piece)
            self.length += len(piece)

    async def restart(self) -> None:
        """Cut to nothing."""

        def work() -> None:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)

        await self._hops.call(work)
        self._digest, self.length = hashlib.sha256(), 0

    async def finish(self, pieces: Sequence[bytes] = (), *, sync: bool) -> str:
        """Append what is left, check the size, force to the disk, close, and give the hash.

        Raises:
            DestinationError: The disk has another number of bytes, or one of the calls failed; network
                file systems report a failed write only here.
        """

        def work() -> None:
            if pieces:
                self._write(pieces)
            if (size := os.fstat(self._fd).st_size) != self.length:
                raise DestinationError(f"the disk has {size} bytes of a file of {self.length}")
            if sync:
                os.fsync(self._fd)
            fd, self._fd = self._fd, -1
            os.close(fd)

        await self._hops.call(work)
        return self._digest.hexdigest()

    async def close(self) -> None:
        """Close without asking anything; an error that comes this late changes nothing."""

        def work() -> None:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

        await self._hops.call(work)
