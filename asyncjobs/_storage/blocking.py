"""The real disk for work of many calls in one thread: folders and files by their descriptors.

Every call is relative to an open folder and follows no link, so nothing that is planted in a folder while it
is being filled leads out of it. What is written and why is decided by `unpack`.
"""

from __future__ import annotations

import errno
import os
import stat
import threading

from asyncjobs._storage.hops import StoppedError
from asyncjobs._storage.seam import FileFacts

READ_BYTES = 1024 * 1024
_MOST_AT_ONCE = 64 * READ_BYTES
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe that somebody planted would be waited for.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Some network and FUSE file systems have no fsync of folders.
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


def sync_folder(descriptor: int) -> None:
    """Force the names in a folder to the disk (in a thread); file systems that cannot are let be."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def facts_of(name: str, folder: int) -> FileFacts | None:
    """What has a name in an open folder; a link is neither file nor folder."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return FileFacts(
        found.st_size, found.st_mtime_ns, stat.S_ISREG(found.st_mode), stat.S_ISDIR(found.st_mode)
    )


class DiskReader:
    """A file being read, by its descriptor; it looks at the event at each read."""

    def __init__(self, descriptor: int, stop: threading.Event) -> None:
        self._fd = descriptor
        self._stop = stop
        self.size = os.fstat(descriptor).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """So many bytes, fewer only at the end of the file.

        Raises:
            StoppedError: The caller was cancelled.
        """
        if self._stop.is_set():
            raise StoppedError
        pieces = []
        while count > 0:
            piece = os.pread(self._fd, min(count, _MOST_AT_ONCE), offset)
            if not piece:
                break
            pieces.append(piece)
            offset, count = offset + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class DiskFile:
    """A new file, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    def write(self, data: bytes) -> None:
        """Append all of it; a short write is gone on with."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]

    def finish(self, *, executable: bool, sync: bool) -> None:
        """Give it its mode, and force it to the disk; network file systems report a failed write here."""
        os.fchmod(self._fd, 0o755 if executable else 0o644)
        if sync:
            os.fsync(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)

    def close(self) -> None:
        """Close without asking anything."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class DiskTree:
    """An open folder, by its descriptor, which is closed with it."""

    def __init__(self, descriptor: int, stop: threading.Event) -> None:
        self._fd = descriptor
        self._stop = stop

    def folder(self, name: str) -> DiskTree:
        """Open a folder in this one."""
        return DiskTree(os.open(name, FOLDER_FLAGS, dir_fd=self._fd), self._stop)

    def make(self, name: str) -> None:
        """Make a folder."""
        os.mkdir(name, 0o755, dir_fd=self._fd)

    def create(self, name: str) -> DiskFile:
        """Make a file that nobody else may read before it is whole."""
        return DiskFile(os.open(name, _NEW_FLAGS, 0o600, dir_fd=self._fd))

    def open(self, name: str) -> DiskReader:
        """Open a file to read."""
        return DiskReader(os.open(name, READ_FLAGS, dir_fd=self._fd), self._stop)

    def entries(self) -> list[tuple[str, bool]]:
        """Every name, and whether it is a folder."""
        with os.scandir(self._fd) as found:
            return sorted((each.name, each.is_dir(follow_symlinks=False)) for each in found)

    def facts(self, name: str) -> FileFacts | None:
        """What has the name."""
        return facts_of(name, self._fd)

    def rename(self, old: str, new: str) -> None:
        """Move a file or a folder."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def replace(self, old: str, new: str) -> None:
        """Move a file, over whatever file has the name."""
        os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Delete a file or a link, never what it points at."""
        os.unlink(name, dir_fd=self._fd)

    def remove_folder(self, name: str) -> None:
        """Delete an empty folder."""
        os.rmdir(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Force the names to the disk."""
        sync_folder(self._fd)

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
