"""The disk of one client: its threads, and the few things features do with files.

Owns nothing but threads until something is opened; what is opened is closed by whoever opened it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from asyncjobs._storage.files import DiskFiles, DiskFolder
from asyncjobs._storage.hops import Hops, made_whole
from asyncjobs._storage.roots import Root, open_root
from asyncjobs._storage.seam import Files, Folder, ReadAt
from asyncjobs._storage.unpack import Extractable, remove_tree, unpack_into

M = TypeVar("M", bound=Extractable)


class Storage:
    """Files, folders and manifests, through threads of its own.

    Args:
        files: Another disk, for simulations; None for the real one.
    """

    def __init__(self, files: Files | None = None) -> None:
        self._hops = Hops()
        # SQLite connections are used by one thread at a time.
        self._record_hops = Hops(1, name="asyncjobs-manifest")
        self._files = files or DiskFiles(self._hops)

    async def open_destination(self, path: str | os.PathLike[str]) -> tuple[Folder, str]:
        """Open the folder of a single file to be written, once the file itself may be.

        Returns:
            The open folder and the name in it; a link was followed, see `asyncjobs._storage.destination`.

        Raises:
            DestinationError: The file may not be written or replaced.
        """
        target = await self._files.destination(Path(path))
        return await self._files.open_folder(target.parent, create=False), target.name

    async def open_root(
        self, path: str | os.PathLike[str], *, durable: bool = True, read_only: bool = False
    ) -> Root:
        """Open, make and lock the root of a sync; see `asyncjobs._storage.roots`.

        Raises:
            ManifestError: In use by another process, damaged, or of a newer release.
            DestinationError: Not a folder, or not permitted.
        """
        opening = open_root(
            self._hops, self._record_hops, self._files, Path(path), durable=durable, read_only=read_only
        )
        return await made_whole(opening, Root.aclose)

    async def unpack(
        self,
        folder: Folder,
        archive: str,
        into: str,
        plan: Callable[[ReadAt, int], Sequence[M]],
        contents: Callable[[ReadAt, M], Iterator[bytes]],
        *,
        sync: bool = True,
        replace: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Unpack an archive beside itself, all or nothing; see `asyncjobs._storage.unpack`.

        Raises:
            DestinationError: Something that is not ours has the name, or the disk refused.
        """
        assert isinstance(folder, DiskFolder), "unpacking needs the real disk"

        def work(fd: int, stop: threading.Event) -> tuple[str, ...]:
            return unpack_into(fd, archive, into, plan, contents, stop, sync=sync, replace=replace)

        return await folder.run(work)

    async def remove_tree(self, folder: Folder, name: str, files: Sequence[str]) -> bool:
        """Delete what an unpacking left; True when nothing else was there and all is gone.

        Raises:
            DestinationError: The disk refused.
        """
        assert isinstance(folder, DiskFolder), "unpacking needs the real disk"
        return await folder.run(lambda fd, _: remove_tree(fd, name, files))

    async def aclose(self) -> None:
        """End the threads; twice is fine."""
        self._hops.close()
        self._record_hops.close()
