"""What is on a simulated disk: files and folders as programs see them, and as the platter has them."""

from __future__ import annotations

import errno
import os
import random

from asyncjobs._storage import FileFacts


class File:
    """An inode: bytes as programs see them, and as the platter has them."""

    def __init__(self) -> None:
        self.seen = b""
        self.down = b""
        self.mtime_ns = 0

    def survivor(self, chance: random.Random) -> File:
        """What is left of it after the power went."""
        left = File()
        left.mtime_ns = self.mtime_ns
        if self.seen == self.down:
            left.seen = self.seen
        else:
            size = chance.randint(0, len(self.seen))
            # The size may reach the platter before the bytes do.
            zeros = bytes(len(self.seen) - size)
            left.seen = chance.choice([self.down, b"", self.seen, self.seen[:size], self.seen[:size] + zeros])
        left.down = left.seen
        return left


Change = tuple[str, "Entry | None", str, "Entry | None"]
"""Up to two names that change at once, as a rename changes them."""


class Directory:
    """A folder: names as programs see them, and as the platter has them."""

    def __init__(self) -> None:
        self.seen: dict[str, Entry] = {}
        self.down: dict[str, Entry] = {}
        self.unforced: list[Change] = []

    def change(self, name: str, entry: Entry | None, other: str = "", to: Entry | None = None) -> None:
        """Give a name to something or to nothing, and a second one at the same time."""
        change = (name, entry, other, to)
        _apply(self.seen, change)
        self.unforced.append(change)

    def force(self) -> None:
        """Every name is on the platter."""
        self.down, self.unforced = dict(self.seen), []

    def survivor(self, chance: random.Random, *, in_order: bool) -> Directory:
        """What is left after the power went: all that was forced, and any of the rest."""
        names = dict(self.down)
        kept = chance.randint(0, len(self.unforced))
        for number, change in enumerate(self.unforced):
            if number < kept if in_order else chance.random() < 0.5:
                old, _, new, entry = change
                # What was never there under its old name cannot have moved.
                if not new or names.get(old) is entry:
                    _apply(names, change)
        left = Directory()
        for name, entry in names.items():
            left.seen[name] = (
                entry.survivor(chance, in_order=in_order)
                if isinstance(entry, Directory)
                else entry.survivor(chance)
            )
        left.force()
        return left


Entry = File | Directory


def _apply(names: dict[str, Entry], change: Change) -> None:
    for name, entry in (change[:2], change[2:]):
        if entry is not None:
            names[name] = entry
        elif name:
            names.pop(name, None)


def as_directory(entry: Entry | None, name: str) -> Directory:
    """The folder that has a name, or what the system says."""
    if entry is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not isinstance(entry, Directory):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return entry


def as_file(entry: Entry | None, name: str) -> File:
    """The file that has a name, or what the system says."""
    if entry is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not isinstance(entry, File):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    return entry


def facts_of(entry: Entry | None) -> FileFacts | None:
    """What the disk says about a name."""
    if entry is None:
        return None
    if isinstance(entry, Directory):
        return FileFacts(0, 0, is_file=False, is_folder=True)
    return FileFacts(len(entry.seen), entry.mtime_ns, is_file=True, is_folder=False)


def force(file: File) -> None:
    """The bytes of a file are on the platter."""
    file.down = file.seen
