"""The root of a sync: opened once, used by one process at a time, everything below it by descriptor.

The lock is `flock` on a file that stays; it goes when its process does, however that dies.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from pathlib import Path

from asyncjobs._errors import DestinationError, ManifestError
from asyncjobs._options import RECORD_FOLDER
from asyncjobs._storage.hops import Hops
from asyncjobs._storage.ledger import Ledger, open_ledger
from asyncjobs._storage.parts import sweep_parts
from asyncjobs._storage.seam import FileFacts, Files, Folder
from asyncjobs._storage.unpack import sweep_trees

LEDGER_NAME = "manifest.sqlite3"
LOCK_NAME = "lock"

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


class Root:
    """An open root with its manifest. Closed with `aclose`."""

    def __init__(
        self,
        folder: Folder | None,
        path: Path,
        ledger: Ledger,
        lock: int | None,
        *,
        durable: bool,
        ours: bool,
        disk_bytes: int = 0,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._durable = durable
        self._ours = ours
        self._forced: set[str] = set()
        self._swept: set[str] = set()
        self._sweeping = asyncio.Lock()
        self.path = path
        self.ledger = ledger
        self.disk_bytes = disk_bytes
        """Bytes of the whole disk, used ones included; 0 when it does not say."""

    async def parent_of(self, path: str, *, create: bool) -> tuple[Folder, str]:
        """Open the folder of a path below the root, one part at a time, through no link.

        What a crash left in it is cleared away when it is first opened for writing.

        Returns:
            The folder, to be closed by the caller, and the last part.

        Raises:
            DestinationError: A part is missing (unless created), a link, or not a folder.
        """
        *parts, name = path.split("/")
        if self._folder is None:
            raise DestinationError(f"the folder {str(self.path)!r} does not exist")
        where = "/".join(parts)
        # Once in a run, also when it is there: a run that was killed may have made it and not forced it down.
        force = create and self._durable and where not in self._forced
        folder = await self._folder.folder(*parts, create=create, sync=force)
        if force:
            self._forced.add(where)
        try:
            await self._sweep(folder, where)
        except BaseException:
            await folder.close()
            raise
        return folder, name

    async def _sweep(self, folder: Folder, path: str) -> None:
        if not self._ours or path in self._swept:
            return
        # Nobody may begin to write in a folder that is being swept.
        async with self._sweeping:
            if path not in self._swept:
                names = await folder.names()
                await sweep_parts(folder, names, self._lock is not None)
                await sweep_trees(folder, names)
                self._swept.add(path)

    async def facts(self, path: str) -> FileFacts | None:
        """What has a path below the root, or None; what a crash left beside it is cleared away.

        Raises:
            DestinationError: A part is a link, or not a folder; or a part is missing.
        """
        *parts, name = path.split("/")
        if self._folder is None:
            return None
        if not self._ours or "/".join(parts) in self._swept:
            return await self._folder.facts(*parts, name)
        folder, _ = await self.parent_of(path, create=False)
        try:
            return await folder.facts(name)
        finally:
            await folder.close()

    async def free_bytes(self) -> int:
        """Bytes that may still be written below the root."""
        if self._folder is None:
            return 0
        return await self._folder.free_bytes()

    async def aclose(self) -> None:
        """Close the manifest, the folder and the lock, in this order; twice is fine."""
        await self.ledger.aclose()
        if self._folder is not None:
            await self._folder.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


async def open_root(
    hops: Hops, record_hops: Hops, files: Files, path: Path, *, durable: bool, read_only: bool
) -> Root:
    """Open (and make) the root of a sync, and lock it.

    Args:
        hops: Threads for files.
        record_hops: One thread for SQLite.
        files: The disk.
        path: The root; a symbolic link to a folder is followed, because the caller gave it.
        durable: Force records to the disk.
        read_only: Make nothing and lock nothing, as for a dry run.

    Raises:
        ManifestError: Another process syncs the same folder, or the manifest cannot be used.
        DestinationError: Not a folder, or not permitted.
    """
    record = files.record_folder(path)
    if read_only and not await files.exists(path):
        ledger = await open_ledger(record_hops, record / LEDGER_NAME, durable=False, read_only=True)
        return Root(None, path, ledger, None, durable=False, ours=False)
    folder = await files.open_folder(path, create=not read_only)
    lock: int | None = None
    disk_bytes = 0
    try:
        if not read_only:
            await (await folder.folder(RECORD_FOLDER, create=True, sync=durable)).close()
            lock = await hops.call(_take_lock, path, record / LOCK_NAME)
            disk_bytes = await hops.call(_disk_bytes, record)
        ledger = await open_ledger(record_hops, record / LEDGER_NAME, durable=durable, read_only=read_only)
    except BaseException:
        await folder.close()
        if lock is not None:
            os.close(lock)
        raise
    return Root(folder, path, ledger, lock, durable=durable, ours=not read_only, disk_bytes=disk_bytes)


def _disk_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def _take_lock(path: Path, lock: Path) -> int | None:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BlockingIOError:
        who = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
        os.close(fd)
        raise ManifestError(
            f"{str(path)!r} is being synced by {who}; wait until it is done, or choose another folder"
        ) from None
    except OSError as error:
        os.close(fd)
        if error.errno not in _NO_LOCKS:
            raise
        return None  # a file system without locks: unique partial files and SQLite still keep data whole
    return fd
