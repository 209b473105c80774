"""The simulated disk in work of many calls: each of them is counted and may fail, and none gives way."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from asyncjobs._storage import FileFacts
from asyncjobs._storage.hops import StoppedError
from tests.sim.platter import Directory, Entry, File, as_directory, as_file, facts_of, force

if TYPE_CHECKING:
    from tests.sim.disk import SimDisk


class SimTree:
    """An open folder, for work of many calls."""

    def __init__(self, disk: SimDisk, here: Directory) -> None:
        self._disk = disk
        self._here = here
        self._open = True
        disk.open_files += 1

    def folder(self, name: str) -> SimTree:
        """Open a folder in this one."""
        return self._disk.now(
            "tree open folder", lambda: SimTree(self._disk, as_directory(self._here.seen.get(name), name))
        )

    def make(self, name: str) -> None:
        """Make a folder."""
        self._disk.now("tree mkdir", lambda: self._new(name, Directory()))

    def _new(self, name: str, entry: Entry) -> None:
        if name in self._here.seen:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._here.change(name, entry)

    def create(self, name: str) -> SimFile:
        """Make a file."""
        file = File()
        self._disk.now("tree create", lambda: self._new(name, file))
        return SimFile(self._disk, file)

    def open(self, name: str) -> SimReader:
        """Open a file to read."""
        return self._disk.now(
            "tree open", lambda: SimReader(self._disk, as_file(self._here.seen.get(name), name))
        )

    def entries(self) -> list[tuple[str, bool]]:
        """Every name, and whether it is a folder."""
        return self._disk.now(
            "tree list",
            lambda: sorted((name, isinstance(each, Directory)) for name, each in self._here.seen.items()),
        )

    def facts(self, name: str) -> FileFacts | None:
        """What has the name."""
        return self._disk.now("tree facts", lambda: facts_of(self._here.seen.get(name)))

    def rename(self, old: str, new: str) -> None:
        """Move a file or a folder to a free name."""

        def work() -> None:
            if old not in self._here.seen:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
            if new in self._here.seen:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), new)
            self._here.change(old, None, new, self._here.seen[old])

        self._disk.now("tree rename", work)

    def replace(self, old: str, new: str) -> None:
        """Move a file, over whatever file has the name."""

        def work() -> None:
            entry = as_file(self._here.seen.get(old), old)
            if new in self._here.seen:
                as_file(self._here.seen[new], new)
            self._here.change(old, None, new, entry)

        self._disk.now("tree replace", work)

    def remove(self, name: str) -> None:
        """Delete a file."""

        def work() -> None:
            as_file(self._here.seen.get(name), name)
            self._here.change(name, None)

        self._disk.now("tree remove", work)

    def remove_folder(self, name: str) -> None:
        """Delete an empty folder."""

        def work() -> None:
            if as_directory(self._here.seen.get(name), name).seen:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
            self._here.change(name, None)

        self._disk.now("tree rmdir", work)

    def sync(self) -> None:
        """Force the names."""
        self._disk.now("tree fsync folder", self._here.force)

    def close(self) -> None:
        """Let go."""
        if self._open:
            self._open = False
            self._disk.open_files -= 1


class SimReader:
    """A file being read, in work of many calls."""

    def __init__(self, disk: SimDisk, file: File) -> None:
        self._disk = disk
        self._file = file
        self._open = True
        self.size = len(file.seen)
        disk.open_files += 1

    def read_at(self, offset: int, count: int) -> bytes:
        """So many bytes."""
        if self._disk.stop:
            raise StoppedError
        return self._disk.now("tree read", lambda: self._file.seen[offset : offset + count])

    def close(self) -> None:
        """Let go."""
        if self._open:
            self._open = False
            self._disk.open_files -= 1


class SimFile:
    """A file being written, in work of many calls."""

    def __init__(self, disk: SimDisk, file: File) -> None:
        self._disk = disk
        self._file = file
        self._open = True
        disk.open_files += 1

    def write(self, data: bytes) -> None:
        """Append; a failing write may have written some of it."""

        def append(count: int) -> None:
            self._file.seen += data[:count]
            self._file.mtime_ns = self._disk.tick()

        self._disk.now(
            "tree write",
            lambda: append(len(data)),
            lambda: append(self._disk.chance.randint(0, len(data))),
        )

    def finish(self, *, executable: bool, sync: bool) -> None:
        """Set the mode, and force it down."""
        self._disk.now("tree chmod", lambda: None)
        if sync:
            self._disk.now("tree fsync", lambda: force(self._file))
        self.close()

    def close(self) -> None:
        """Let go."""
        if self._open:
            self._open = False
            self._disk.open_files -= 1
