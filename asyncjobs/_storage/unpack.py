"""Write the members of an archive into a fresh folder, then give the folder its name; and take it away again.

It writes what it is told and trusts nobody: every file is new, no link is followed, modes are 0644 or 0755.
A folder has its name only while it is whole: it is filled under another name and renamed last, and what goes
is renamed first. Which members are harmless was decided before, by the caller's plan.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from asyncjobs._errors import DestinationError
from asyncjobs._storage.seam import BlockingFolder, BlockingReader, Folder, ReadAt

_DEEPEST = 500
"""Folders within folders that are walked; no archive within the limits comes near it."""

_COMPARED_BYTES = 1024 * 1024
_LEFT = re.compile(r"\.asyncjobs-[0-9a-f]{12}\.(unpacking|removing)")


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


def fresh_name() -> str:
    """A name for a folder that is being filled; what a crash leaves under it is swept by the next run."""
    return f".asyncjobs-{secrets.token_hex(6)}.unpacking"


def _doomed_name() -> str:
    return f".asyncjobs-{secrets.token_hex(6)}.removing"


def fill(
    top: BlockingFolder,
    archive: str,
    fresh: str,
    plan: Callable[[ReadAt, int], Sequence[M]],
    contents: Callable[[ReadAt, M], Iterator[bytes]],
    *,
    sync: bool,
) -> tuple[str, ...]:
    """Unpack an archive into a new folder beside it.

    Args:
        top: The folder of the archive.
        archive: Its name.
        fresh: The name of the folder to make; what a failure leaves in it is the caller's to clear.
        plan: Checks the whole archive and gives its members, or raises.
        contents: Gives a member's bytes in pieces, or raises.
        sync: Force every file and every name below to the disk.

    Returns:
        The files, below the new folder.
    """
    reader = top.open(archive)
    try:
        members = plan(reader.read_at, reader.size)
        top.make(fresh)
        root = top.folder(fresh)
        try:
            _write_members(root, members, lambda each: contents(reader.read_at, each), sync)
            if sync:
                _sync_below(root)
        finally:
            root.close()
    finally:
        reader.close()
    return tuple("/".join(each.parts) for each in members if not each.is_folder)


def _write_members(
    root: BlockingFolder, members: Sequence[M], contents: Callable[[M], Iterator[bytes]], sync: bool
) -> None:
    made: set[tuple[str, ...]] = set()
    for member in members:
        *above, name = member.parts
        with _descended(root, member.parts if member.is_folder else above, made) as folder:
            if not member.is_folder:
                _write_file(folder, name, contents(member), member.executable, sync)


@contextlib.contextmanager
def _descended(
    root: BlockingFolder, parts: Sequence[str], made: set[tuple[str, ...]]
) -> Iterator[BlockingFolder]:
    """Open folders one by one, making those that are not in *made* yet."""
    with contextlib.ExitStack() as opened:
        current = root
        for depth, part in enumerate(parts, 1):
            path = tuple(parts[:depth])
            if path not in made:
                current.make(part)
                made.add(path)
            current = current.folder(part)
            opened.callback(current.close)
        yield current


def _write_file(
    folder: BlockingFolder, name: str, pieces: Iterator[bytes], executable: bool, sync: bool
) -> None:
    file = folder.create(name)
    try:
        for piece in pieces:
            file.write(piece)
        file.finish(executable=executable, sync=sync)
    finally:
        file.close()


def _sync_below(folder: BlockingFolder) -> None:
    """Force every name below a folder to the disk, the deepest first: the files were forced one by one."""
    for name, is_folder in folder.entries():
        if is_folder:
            below = folder.folder(name)
            try:
                _sync_below(below)
            finally:
                below.close()
    folder.sync()


def check_free(top: BlockingFolder, into: str, replace: Sequence[str] | None) -> None:
    """Make sure that giving a folder the name *into* destroys nothing but our own.

    Args:
        top: The folder of it.
        into: The name.
        replace: Files that an earlier unpacking put there and that may go; None when nothing may be there.

    Raises:
        DestinationError: It would.
    """
    facts = top.facts(into)
    if facts is None:
        return
    if replace is None or not facts.is_folder or set(list_tree(top, into)) - set(replace):
        raise DestinationError(
            f"{into!r} is there already and holds what no sync put there; nothing was unpacked"
        )


def same_trees(top: BlockingFolder, one: str, other: str) -> bool:
    """Whether two folders have the same files with the same bytes."""
    files = sorted(list_tree(top, one))
    if files != sorted(list_tree(top, other)):
        return False
    for each in files:
        with contextlib.ExitStack() as opened:
            ours = _reader(top, [one, *each.split("/")], opened)
            theirs = _reader(top, [other, *each.split("/")], opened)
            if ours is None or theirs is None or not _same_bytes(ours, theirs):
                return False
    return True


def _reader(top: BlockingFolder, parts: Sequence[str], opened: contextlib.ExitStack) -> BlockingReader | None:
    """Open a regular file below a folder; None for anything else."""
    for part in parts[:-1]:
        top = top.folder(part)
        opened.callback(top.close)
    facts = top.facts(parts[-1])
    if facts is None or not facts.is_file:
        return None
    reader = top.open(parts[-1])
    opened.callback(reader.close)
    return reader


def _same_bytes(one: BlockingReader, other: BlockingReader) -> bool:
    return one.size == other.size and all(
        one.read_at(offset, _COMPARED_BYTES) == other.read_at(offset, _COMPARED_BYTES)
        for offset in range(0, one.size, _COMPARED_BYTES)
    )


def place(
    top: BlockingFolder, fresh: str, into: str, *, sync: bool, replace: Sequence[str] | None = None
) -> None:
    """Give a filled folder its name; what was there goes when all in it is ours.

    Raises:
        DestinationError: Something else has the name; the filled folder is where it was.
    """
    check_free(top, into, replace)
    old = None if top.facts(into) is None else _set_aside(top, into)
    try:
        top.rename(fresh, into)
    except BaseException:
        if old is not None:
            top.rename(old, into)
        raise
    if sync:
        # Before anything of the old one goes: it may still have the name on the disk.
        top.sync()
    if old is not None:
        with contextlib.suppress(OSError):  # the new one stands; the next run sweeps what is left of the old
            clear(top, old)


def _set_aside(top: BlockingFolder, name: str) -> str:
    doomed = _doomed_name()
    top.rename(name, doomed)
    return doomed


def list_tree(top: BlockingFolder, name: str) -> list[str]:
    """Every file below a folder, links counted as files and not followed.

    Raises:
        DestinationError: Deeper than anything that was ever unpacked.
    """
    found: list[str] = []
    _list_into(found, top, name, "", 0)
    return found


def _list_into(found: list[str], above: BlockingFolder, name: str, prefix: str, depth: int) -> None:
    folder = _below(above, name, depth)
    try:
        for each, is_folder in folder.entries():
            if is_folder:
                _list_into(found, folder, each, f"{prefix}{each}/", depth + 1)
            else:
                found.append(f"{prefix}{each}")
    finally:
        folder.close()


def _below(above: BlockingFolder, name: str, depth: int) -> BlockingFolder:
    if depth > _DEEPEST:
        raise DestinationError(f"a folder lies more than {_DEEPEST} folders deep; move it away")
    return above.folder(name)


def clear(top: BlockingFolder, name: str, depth: int = 0) -> None:
    """Delete a folder with all that is in it; it must not have a final name any more."""
    folder = _below(top, name, depth)
    try:
        for each, is_folder in folder.entries():
            if is_folder:
                clear(folder, each, depth + 1)
            else:
                folder.remove(each)
    finally:
        folder.close()
    top.remove_folder(name)


def clear_left(top: BlockingFolder, name: str) -> None:
    """Delete what a failed unpacking left, if anything.

    Renamed first: should another process be filling it after all, it fails at its own rename, and never gives
    its name to half a folder.
    """
    facts = top.facts(name)
    if facts is not None and facts.is_folder:
        clear(top, _set_aside(top, name))


async def sweep_trees(folder: Folder, names: Sequence[str]) -> None:
    """Delete folders that an earlier run was filling or taking away when it died.

    Args:
        folder: Where to look.
        names: What is in it.

    Raises:
        DestinationError: The disk refused.
    """
    for name in names:
        if _LEFT.fullmatch(name):
            await folder.run(partial(clear_left, name=name))


def remove_tree(top: BlockingFolder, name: str, files: Sequence[str], *, sync: bool) -> None:
    """Take away what an unpacking left: the whole folder at once, or our files one by one beside others.

    Args:
        top: The folder of it.
        name: Its name.
        files: What was unpacked, below it.
        sync: Force the change of the name to the disk before anything is deleted.
    """
    facts = top.facts(name)
    if facts is None or not facts.is_folder:
        return
    found = set(list_tree(top, name))
    if found <= set(files):
        doomed = _set_aside(top, name)
        if sync:
            top.sync()
        clear(top, doomed)
        return
    for each in sorted(found & set(files)):
        _remove_below(top, [name, *each.split("/")])


def _remove_below(top: BlockingFolder, parts: Sequence[str]) -> None:
    with contextlib.ExitStack() as opened:
        for part in parts[:-1]:
            top = top.folder(part)
            opened.callback(top.close)
        top.remove(parts[-1])
