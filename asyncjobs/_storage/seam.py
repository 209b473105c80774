"""The seam between this package and a disk: every file call there is, as small protocols.

Everything happens below an opened folder and by single names. The real disk is in `files`; a simulated one
that loses power implements the same calls, so what is promised about crashes can be tried at each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import attrs

T = TypeVar("T")
ReadAt = Callable[[int, int], bytes]

RECORD_FOLDER = ".asyncjobs"
"""Holds the lock and the manifest of a root."""


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

    async def finish(self, *, sync: bool) -> str:
        """Check that the disk has as many bytes as were written, force them to it, close; the SHA-256."""
        ...

    async def close(self) -> None:
        """Close; twice is fine."""
        ...


class Folder(Protocol):
    """One open folder; every name is a single component in it."""

    path: Path
    """For messages; calls go to the folder that was opened, wherever it is now."""

    async def folder(self, name: str, *, create: bool, sync: bool = False) -> Folder:
        """Open a folder in this one, made when *create* says so, the new name forced to the disk."""
        ...

    async def create(self, name: str) -> Writer:
        """Make a new file; it must not exist."""
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

    async def facts(self, name: str) -> FileFacts | None:
        """What has the name, or None."""
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
