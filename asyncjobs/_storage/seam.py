"""The seam between this package and a disk: every file call there is, as small protocols.

Everything happens below an opened folder and by single names. The real disk is in `files` and `blocking`; a
simulated one that loses power implements the same calls, so what is promised about crashes can be tried at
each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import attrs

T = TypeVar("T")
ReadAt = Callable[[int, int], bytes]


@attrs.frozen
class FileFacts:
    """What the disk says about one name, links not followed."""

    size: int
    mtime_ns: int
    is_file: bool
    is_folder: bool


class Writer(Protocol):
    """One file being written from its start, hashed on the way."""

    length: int
    """Bytes of the file so far."""

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Append all pieces, in one hop."""
        ...

    async def restart(self) -> None:
        """Cut the file to nothing and forget the hash."""
        ...

    async def finish(self, pieces: Sequence[bytes] = (), *, sync: bool) -> str:
        """Append the last pieces, check that the disk has all bytes, force them to it, close; the SHA-256."""
        ...

    async def close(self) -> None:
        """Close; twice is fine."""
        ...


class BlockingReader(Protocol):
    """One file being read, in a thread."""

    size: int
    """Its bytes when it was opened."""

    def read_at(self, offset: int, count: int) -> bytes:
        """So many bytes, fewer only at the end of the file; ends the work when its caller was cancelled."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class BlockingFile(Protocol):
    """One new file being written, in a thread."""

    def write(self, data: bytes) -> None:
        """Append all of it."""
        ...

    def finish(self, *, executable: bool, sync: bool) -> None:
        """Make it 0755 or 0644, and force it to the disk; it is closed afterwards by `close`."""
        ...

    def close(self) -> None:
        """Let go of the file; twice is fine."""
        ...


class BlockingFolder(Protocol):
    """An open folder for work of many calls in one thread: a hop for each would cost more than the call.

    Every name is a single component, no link is followed, and refusals are `OSError`.
    """

    def folder(self, name: str) -> BlockingFolder:
        """Open a folder in this one; the caller closes it."""
        ...

    def make(self, name: str) -> None:
        """Make a folder (0755); nothing may have the name."""
        ...

    def create(self, name: str) -> BlockingFile:
        """Make a file; nothing may have the name."""
        ...

    def open(self, name: str) -> BlockingReader:
        """Open a file to read."""
        ...

    def entries(self) -> list[tuple[str, bool]]:
        """Every name in the folder, sorted, and whether it is a folder; a link is none."""
        ...

    def facts(self, name: str) -> FileFacts | None:
        """What has the name, or None."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Move a file or a folder to a free name."""
        ...

    def replace(self, old: str, new: str) -> None:
        """Move a file, over whatever file has the name."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file or a link."""
        ...

    def remove_folder(self, name: str) -> None:
        """Delete an empty folder."""
        ...

    def sync(self) -> None:
        """Force the names to the disk."""
        ...

    def close(self) -> None:
        """Let go of the folder; twice is fine."""
        ...


class Folder(Protocol):
    """One open folder; every name is a single component in it."""

    path: Path
    """For messages; calls go to the folder that was opened, wherever it is now."""

    async def folder(self, *names: str, create: bool, sync: bool = False) -> Folder:
        """Open a folder in this one, or in those in this one, in one hop.

        Each is made when *create* says so, and its name forced to the disk when *sync* does; without a name
        it is this one.
        """
        ...

    async def create(self, name: str, *, record: tuple[str, bytes] | None = None) -> Writer:
        """Make a new file, which must not exist; a small file that speaks of it is put in place first."""
        ...

    async def reopen(self, name: str) -> Writer:
        """Go on at the end of a file, its bytes hashed first."""
        ...

    async def read(self, name: str, *, limit: int) -> bytes | None:
        """A small file, whole; None when there is none."""
        ...

    async def write_whole(self, name: str, data: bytes, *, sync: bool) -> None:
        """Put a small file in place of whatever has the name, atomically."""
        ...

    async def rename(self, old: str, new: str) -> bool:
        """Move a file; False when there is none called *old*."""
        ...

    async def remove(self, name: str) -> bool:
        """Delete a file; False when there is none."""
        ...

    async def remove_folder(self, name: str) -> bool:
        """Delete an empty folder; False when there is none or it is not empty."""
        ...

    async def facts(self, *names: str) -> FileFacts | None:
        """What has the name, in this folder or in those in it that stand before, in one hop; or None."""
        ...

    async def names(self) -> list[str]:
        """Every name in the folder, sorted."""
        ...

    async def sync(self) -> None:
        """Force the names to the disk."""
        ...

    async def free_bytes(self) -> int:
        """Bytes that may still be written here."""
        ...

    async def sha256(self, name: str) -> str:
        """The hash of a whole file."""
        ...

    async def examine(self, name: str, judge: Callable[[ReadAt, int], T]) -> T:
        """Call *judge* in a thread with a reader of the file and its size."""
        ...

    async def pour(
        self,
        name: str,
        pieces: Callable[[ReadAt, int], Iterator[bytes]],
        into: Callable[[bytes], Awaitable[object]],
    ) -> None:
        """Hand *into* what *pieces* makes of a file, in threads, about a MiB at a time."""
        ...

    async def run(self, work: Callable[[BlockingFolder], T]) -> T:
        """Call *work* in a thread with this folder; its `OSError` become ours.

        Cancellation: delivered when the work is over; its next `read_at` ends it early.
        """
        ...

    async def me(self) -> str:
        """This process, as it signs what it is writing."""
        ...

    async def has_ended(self, owner: str) -> bool:
        """Whether the process that signed so certainly writes no more."""
        ...

    async def close(self) -> None:
        """Let go of the folder; twice is fine."""
        ...


class Files(Protocol):
    """The disk."""

    async def open_folder(self, path: Path, *, create: bool) -> Folder:
        """Open a folder by its path; links on the way to it are followed, as the caller gave it."""
        ...

    async def exists(self, path: Path) -> bool:
        """Whether anything has the path."""
        ...

    async def destination(self, path: Path) -> Path:
        """The file to write when *path* is asked for; see `asyncjobs._storage.destination`."""
        ...

    def record_folder(self, path: Path) -> Path:
        """Where the lock and the manifest of a root are: both need a real file system."""
        ...
