"""Whether a destination may be written to, asked before anything is sent.

A finished download is renamed over its destination, so a destination that is a device would be replaced by a
file, for every program of the machine. Only what is missing or a regular file may be replaced.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from asyncjobs._errors import DestinationError

_KINDS = (
    (stat.S_ISDIR, "a folder; name the file"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def resolve(path: Path) -> Path:
    """The file to be written when *path* is asked for, once it may be (in a thread).

    A symbolic link is followed once, and only to a file in the same folder: the link stays, its target
    is replaced.

    Raises:
        DestinationError: It is a folder, a device, a pipe or a socket, a link that leads elsewhere, or its
            folder is missing or may not be written.
    """
    if not path.name or path.name == "..":
        raise DestinationError(f"{str(path)!r} names no file")
    folder = path.parent
    if not folder.is_dir():
        raise DestinationError(f"the folder {str(folder)!r} does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DestinationError(f"the folder {str(folder)!r} may not be written")
    if path.is_symlink():
        path = _follow(path)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    for test, what in _KINDS:
        if test(mode):
            raise DestinationError(f"{str(path)!r} is {what}")
    if not stat.S_ISREG(mode):
        raise DestinationError(f"{str(path)!r} is not a regular file")
    return path


def _follow(path: Path) -> Path:
    target = path.parent / path.readlink()
    if target.is_symlink() or os.path.realpath(target.parent) != os.path.realpath(path.parent):
        raise DestinationError(
            f"{str(path)!r} is a link that leads out of its folder; name the file it should be"
        )
    return target
