"""Which names may become file names, and which must not.

Two directions: `slug` turns a label of the server (a job name, a ref) into a component that is safe
on every file system, and `check_member` refuses a member name of an archive that a file system could
read differently from how it looks. Nothing here touches a disk. The reserved names are those of
https://learn.microsoft.com/windows/win32/fileio/naming-a-file and are refused on every system, because
a synced folder is often shared.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from asyncjobs._errors import UnsafePathError
from asyncjobs._options import MAX_DEPTH, MAX_PATH_BYTES, RECORD_FOLDER

MAX_COMPONENT_BYTES = 200
"""Longest single name we make; file systems allow 255 and our temporary names add to it."""

_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³"]
)
_NOT_SLUG = re.compile(r"[^A-Za-z0-9._]+")
_DRIVE = re.compile(r"[A-Za-z]:")


def collision_key(path: str) -> str:
    """What two paths have in common when a disk without case or with NFC would take them for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def is_reserved(name: str) -> bool:
    """Whether Windows takes *name* for a device, with or without an extension."""
    return name.split(".", 1)[0].rstrip(" ").casefold() in _RESERVED


def slug(label: str, *, limit: int = 80) -> str:
    """Make one harmless word of a label: ASCII letters, digits, dot, underscore and single dashes.

    A label that loses more than its slashes and blanks may meet another one: callers put an id beside it.
    The result is never empty, begins with neither dot nor dash, and is at most *limit* characters.
    """
    word = _NOT_SLUG.sub("-", label).lstrip(".-").rstrip(".-")
    if len(word) > limit:
        # The digest keeps two long labels apart that differ only in what is cut off.
        digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        word = f"{word[: limit - 9].rstrip('.-')}-{digest}"
    return word or "unnamed"


def safe_component(name: str) -> str:
    """Make a part of a rendered template usable on every disk; it was slugged or written by the user.

    Raises:
        UnsafePathError: The part is empty, `.` or `..`, holds a separator or a control character,
            or is the name of our own folder.
    """
    name = name.rstrip(" .")
    if not name or "/" in name or "\\" in name or any(ord(c) < 0x20 or c == "\x7f" for c in name):
        raise UnsafePathError(f"not usable as a file name: {name!r}")
    if collision_key(name) == RECORD_FOLDER:
        raise UnsafePathError(f"{RECORD_FOLDER} belongs to the record of the folder")
    if is_reserved(name):
        stem, dot, rest = name.partition(".")
        name = f"{stem}_{dot}{rest}"
    return shorten(name, MAX_COMPONENT_BYTES)


def shorten(name: str, limit: int) -> str:
    """Cut *name* to *limit* bytes of UTF-8, keeping a short extension and a digest of the whole."""
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) <= limit:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = f".{extension}" if dot and stem and len(extension) <= 10 else ""
    tail = f"-{hashlib.sha256(raw).hexdigest()[:8]}{suffix}"
    room = limit - len(tail.encode("utf-8", "surrogatepass"))
    return raw[:room].decode("utf-8", "ignore") + tail


def check_member(
    name: str, *, max_bytes: int = MAX_PATH_BYTES, max_depth: int = MAX_DEPTH
) -> tuple[str, ...]:
    """Take the name of an archive's member apart, or refuse it.

    Args:
        name: As the archive has it; `/` separates, and one at the end (a folder) is allowed.
        max_bytes: Longest name in bytes of UTF-8.
        max_depth: Most parts.

    Returns:
        The parts below the folder it is unpacked into.

    Raises:
        UnsafePathError: It would leave its folder, mislead a reader, or mean something else on
            another system. The message names the rule.
    """
    problem = _member_problem(name, max_bytes, max_depth)
    if problem is not None:
        raise UnsafePathError(f"member {name[:120]!r}: {problem}")
    return tuple(name.removesuffix("/").split("/"))


def _member_problem(name: str, max_bytes: int, max_depth: int) -> str | None:
    if not name or name == "/":
        return "an empty name"
    if "\\" in name:
        return "a backslash, which is a separator on Windows"
    if name.startswith("/"):
        return "an absolute path"
    if _DRIVE.match(name):
        return "a drive letter"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "not valid Unicode"
    if length > max_bytes:
        return f"longer than {max_bytes} bytes"
    parts = name.removesuffix("/").split("/")
    if len(parts) > max_depth:
        return f"deeper than {max_depth} folders"
    for part in parts:
        if (problem := _part_problem(part)) is not None:
            return problem
    return None


def _part_problem(part: str) -> str | None:
    if part in {"", ".", ".."}:
        return "an empty, . or .. part"
    if ":" in part:
        return "a colon, which opens a stream or drive on Windows"
    if part[-1] in " .":
        return "a part that ends in a dot or blank, which Windows drops"
    if is_reserved(part):
        return "a device name of Windows"
    if len(part.encode()) > 255:
        return "a part longer than 255 bytes"
    for character in part:
        category = unicodedata.category(character)
        # Cc: C0, C1, DEL. Zl/Zp: line breaks. Bidi controls are Cf, as is the harmless soft hyphen.
        if category in {"Cc", "Zl", "Zp"} or character in _BIDI:
            return f"the control character U+{ord(character):04X}"
    return None


_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
