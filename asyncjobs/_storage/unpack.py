"""Write the members of an archive into a fresh folder, then give the folder its name.

It writes what it is told and trusts nobody: every file is new (`O_EXCL`), no link is followed, modes are 0644
or 0755, and a failure leaves nothing. Which members are harmless was decided before, by the caller's plan.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from asyncjobs._errors import DestinationError
from asyncjobs._storage.files import _reader, sync_folder
from asyncjobs._storage.seam import ReadAt

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Extractable(Protocol):
    """What is known of one member."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Its path, safe by the caller's word."""
        ...

    @property
    def is_folder(self) -> bool:
        """A folder rather than a file."""
        ...

    @property
    def executable(self) -> bool:
        """0755 instead of 0644."""
        ...


M = TypeVar("M", bound=Extractable)


def unpack_into(
    folder_fd: int,
    archive: str,
    into: str,
    plan: Callable[[ReadAt, int], Sequence[M]],
    contents: Callable[[ReadAt, M], Iterator[bytes]],
    stop: threading.Event,
    *,
    sync: bool,
    replace: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Unpack one archive (in a thread).

    Args:
        folder_fd: The folder of the archive and of the result.
        archive: Its name.
        into: The name of the folder to make.
        plan: Checks the whole archive and gives its members, or raises.
        contents: Gives a member's bytes in pieces, or raises.
        stop: Set when the caller was cancelled.
        sync: Force every file to the disk.
        replace: What an earlier unpacking left under the name and may go; None when nothing may be there.

    Returns:
        The files, below *into*.

    Raises:
        DestinationError: Something else has the name, or the disk refused.
        AsyncJobsError: Whatever *plan* and *contents* raise; nothing is left then.
    """
    # One name for each result: what a killed process left of an earlier try is cleared away by the next.
    fresh = f".asyncjobs-{hashlib.sha256(os.fsencode(into)).hexdigest()[:12]}.unpacking"
    for left in (fresh, f"{fresh}.old"):
        shutil.rmtree(left, ignore_errors=True, dir_fd=folder_fd)
    archive_fd = os.open(archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        read_at = _reader(archive_fd, stop)
        members = plan(read_at, os.fstat(archive_fd).st_size)
        os.mkdir(fresh, dir_fd=folder_fd)
        try:
            written = _write_members(folder_fd, fresh, members, lambda each: contents(read_at, each), sync)
            if sync:
                _sync_folders(folder_fd, fresh)
            _swap(folder_fd, fresh, into, replace)
            if sync:
                sync_folder(folder_fd)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True, dir_fd=folder_fd)
            raise
    finally:
        os.close(archive_fd)
    return written


def _write_members(
    folder_fd: int, fresh: str, members: Sequence[M], contents: Callable[[M], Iterator[bytes]], sync: bool
) -> tuple[str, ...]:
    root = os.open(fresh, _FOLDER_FLAGS, dir_fd=folder_fd)
    written = []
    try:
        for member in members:
            if member.is_folder:
                os.close(_descend(root, member.parts))
                continue
            folder = _descend(root, member.parts[:-1])
            try:
                _write_file(folder, member.parts[-1], contents(member), member.executable, sync)
            finally:
                os.close(folder)
            written.append("/".join(member.parts))
    finally:
        os.close(root)
    return tuple(written)


def _descend(root: int, parts: Sequence[str]) -> int:
    """Open (and make) folders one by one; a descriptor for the caller to close."""
    current = os.dup(root)
    for part in parts:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=current)
            below = os.open(part, _FOLDER_FLAGS, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _write_file(folder: int, name: str, pieces: Iterator[bytes], executable: bool, sync: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
        if sync:
            os.fsync(file.fileno())


def _sync_folders(folder_fd: int, name: str) -> None:
    """Force every name below a folder to the disk: the files were forced one by one."""
    for _, _, _, fd in os.fwalk(name, topdown=False, dir_fd=folder_fd):
        sync_folder(fd)


def _swap(folder_fd: int, fresh: str, into: str, replace: Sequence[str] | None) -> None:
    """Give the fresh folder its name; the old one goes only when all in it is ours."""
    try:
        found = os.stat(into, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(fresh, into, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        return
    del found
    if replace is None or set(list_tree(folder_fd, into)) - set(replace):
        raise DestinationError(
            f"{into!r} is there already and holds what no sync put there; nothing was unpacked"
        )
    old = f"{fresh}.old"
    os.rename(into, old, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    os.rename(fresh, into, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    shutil.rmtree(old, dir_fd=folder_fd)


def list_tree(folder_fd: int, name: str) -> list[str]:
    """Every file below a folder, links counted as files and not followed."""
    found: list[str] = []
    for path, _, files, fd in os.fwalk(name, dir_fd=folder_fd, follow_symlinks=False):
        below = path[len(name) :].lstrip("/")
        folders = [each.name for each in os.scandir(fd) if each.is_symlink()]
        found += [f"{below}/{each}" if below else each for each in {*files, *folders}]
    return found


def remove_tree(folder_fd: int, name: str, files: Sequence[str]) -> bool:
    """Delete the given files below a folder and the folders that are empty then; True when all is gone."""
    try:
        found = set(list_tree(folder_fd, name))
    except (FileNotFoundError, NotADirectoryError):
        return True
    if found <= set(files):
        shutil.rmtree(name, dir_fd=folder_fd)
        return True
    root = os.open(name, _FOLDER_FLAGS, dir_fd=folder_fd)
    try:
        for each in found & set(files):
            *parts, last = each.split("/")
            folder = _descend(root, parts)
            try:
                os.unlink(last, dir_fd=folder)
            finally:
                os.close(folder)
    finally:
        os.close(root)
    return False
