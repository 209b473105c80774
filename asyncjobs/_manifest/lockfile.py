"""A lock file: which archives, by job id and hash, make up a synced folder.

A small JSON document, sorted and indented so that it can be kept in git and read in a diff. Replaying it
gives the same bytes in the same places, or an error; the server is asked for the files and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
import msgspec

from asyncjobs._errors import ManifestError, UnsafePathError
from asyncjobs._manifest.names import collision_key, safe_component
from asyncjobs._options import MAX_PATH_BYTES

LOCK_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


@attrs.frozen(kw_only=True)
class LockedFile:
    """One archive of a lock file."""

    path: str
    """Below the destination, with `/` between its parts."""
    project: int | str
    job_id: int
    size: int
    """Bytes."""
    sha256: str
    file_type: str = "archive"


@attrs.frozen(kw_only=True)
class Lock:
    """A whole lock file."""

    asyncjobs_lock: int
    """The version of the format."""
    files: tuple[LockedFile, ...]


def dump_lock(files: Iterable[LockedFile]) -> bytes:
    """Write a lock file; the same files in any order give the same bytes."""
    ordered = tuple(sorted(files, key=lambda each: each.path))
    raw = msgspec.json.encode(Lock(asyncjobs_lock=LOCK_VERSION, files=ordered))
    return msgspec.json.format(raw, indent=2) + b"\n"


def load_lock(raw: bytes) -> tuple[LockedFile, ...]:
    """Read a lock file and check everything a stranger could have put into it.

    Raises:
        ManifestError: Not a lock file, from a newer release, or with a path, hash or size that cannot be.
    """
    try:
        lock = msgspec.json.decode(raw, type=Lock)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestError(f"not a lock file: {error}") from None
    if lock.asyncjobs_lock != LOCK_VERSION:
        raise ManifestError(
            f"the lock file has version {lock.asyncjobs_lock}; this release reads {LOCK_VERSION}"
        )
    seen: set[str] = set()
    for each in lock.files:
        _check(each)
        if (key := collision_key(each.path)) in seen:
            raise ManifestError(f"the lock file has {each.path!r} twice")
        seen.add(key)
    return lock.files


def _check(entry: LockedFile) -> None:
    try:
        parts = [safe_component(part) for part in entry.path.split("/")]
    except UnsafePathError as error:
        raise ManifestError(f"the lock file has an unsafe path: {error}") from None
    if "/".join(parts) != entry.path:
        raise ManifestError(f"the lock file has an unsafe path: {entry.path!r}")
    if len(entry.path.encode()) > MAX_PATH_BYTES:
        raise ManifestError(f"the lock file has a path that is too long: {entry.path[:120]!r}")
    if not _SHA256.fullmatch(entry.sha256) or entry.size < 0 or entry.job_id <= 0:
        raise ManifestError(f"the lock file has an impossible size, hash or job id for {entry.path!r}")
