"""The disk of one client: its threads, and the few things features do with files.

Owns nothing but threads until something is opened; what is opened is closed by whoever opened it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from asyncjobs._errors import AsyncJobsError
from asyncjobs._storage.files import DiskFiles
from asyncjobs._storage.hops import Hops, joined, made_whole
from asyncjobs._storage.roots import Root, open_root
from asyncjobs._storage.seam import BlockingFolder, Files, Folder, ReadAt
from asyncjobs._storage.unpack import (
    Extractable,
    check_free,
    clear_left,
    fill,
    fresh_name,
    place,
    remove_tree,
    same_trees,
)

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
            ValueError: *path* is empty.
        """
        target = await self._files.destination(_named(path))
        return await self._files.open_folder(target.parent, create=False), target.name

    async def open_root(
        self, path: str | os.PathLike[str], *, durable: bool = True, read_only: bool = False
    ) -> Root:
        """Open, make and lock the root of a sync; see `asyncjobs._storage.roots`.

        Raises:
            ManifestError: In use by another process, damaged, or of a newer release.
            DestinationError: Not a folder, or not permitted.
            ValueError: *path* is empty.
        """
        opening = open_root(
            self._hops, self._record_hops, self._files, _named(path), durable=durable, read_only=read_only
        )
        return await made_whole(opening, Root.aclose)

    async def unpack(
        self,
        folder: Folder,
        archive: str,
        into: str,
        plan: Callable[[ReadAt, int], Sequence[M]],
        contents: Callable[[ReadAt, M], Iterator[bytes]],
        promise: Callable[[tuple[str, ...]], Awaitable[object]],
        *,
        sync: bool = True,
        replace: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Unpack an archive beside itself, all or nothing; see `asyncjobs._storage.unpack`.

        Args:
            folder: The folder of the archive.
            archive: Its name.
            into: The name of the folder to make, which it has once it is whole.
            plan: Checks the whole archive and gives its members, or raises.
            contents: Gives a member's bytes in pieces, or raises.
            promise: Told of the files before the folder gets its name: what a crash leaves under the name
                can then be told from somebody's own.
            sync: Force everything to the disk in the order that the above needs.
            replace: What earlier unpackings left under the name and may go; None when nothing may be there
                but the very same files.

        Returns:
            The files, below *into*.

        Raises:
            DestinationError: Something that is not ours has the name, or the disk refused.
            AsyncJobsError: Whatever *plan* and *contents* raise.

        Cancellation: the folder has its name and is whole, or nothing has changed.
        """
        fresh = fresh_name()

        def work(top: BlockingFolder) -> tuple[tuple[str, ...], Sequence[str] | None]:
            facts = top.facts(into)
            unclaimed = replace is None and facts is not None and facts.is_folder
            if not unclaimed:
                check_free(top, into, replace)  # before the work rather than after it
            files = fill(top, archive, fresh, plan, contents, sync=sync)
            if unclaimed and same_trees(top, fresh, into):
                return files, files  # the record was lost, the folder was not
            check_free(top, into, replace)
            return files, replace

        try:
            files, mine = await folder.run(work)
            await promise(files)
            await folder.run(lambda top: place(top, fresh, into, sync=sync, replace=mine))
        except BaseException:
            clearing = asyncio.ensure_future(_cleared(folder, fresh))
            await joined(clearing)
            clearing.result()
            raise
        return files

    async def remove_tree(
        self, folder: Folder, name: str, files: Sequence[str], *, sync: bool = True
    ) -> None:
        """Take away what an unpacking left, and nothing else.

        Raises:
            DestinationError: The disk refused.

        Cancellation: delivered when it is done.
        """
        await folder.run(lambda top: remove_tree(top, name, files, sync=sync))

    async def aclose(self) -> None:
        """End the threads; twice is fine."""
        self._hops.close()
        self._record_hops.close()


def _named(path: str | os.PathLike[str]) -> Path:
    """The path, unless it names nothing: to `pathlib` an empty text is the current folder.

    Raises:
        ValueError: It is empty, as an unset variable of a shell would be.
    """
    if not os.fspath(path):
        raise ValueError("the destination is empty; write . for the current folder")
    return Path(path)


async def _cleared(folder: Folder, fresh: str) -> None:
    with contextlib.suppress(AsyncJobsError):  # the next run sweeps it
        await folder.run(lambda top: clear_left(top, fresh))
