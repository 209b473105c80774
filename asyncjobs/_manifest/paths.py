"""Where each archive goes below a destination: a template, slugged fields, and no two in one place.

The layout is ours alone: nothing the server sends becomes a path without `slug`, and the file name
in `Content-Disposition` is never looked at. `Places` hands out each path once, also on disks that
do not tell upper from lower case.
"""

from __future__ import annotations

import attrs

from asyncjobs._errors import UnsafePathError
from asyncjobs._manifest.names import (
    collision_key,
    safe_component,
    shorten,
    slug,
)
from asyncjobs._models import Job, JobRef
from asyncjobs._options import MAX_PATH_BYTES, PATH_FIELDS, check_template

_LEAST_PART_BYTES = 24
"""Nothing is shortened to less than this."""


def template_fields(ref: JobRef, job: Job) -> dict[str, str]:
    """The values of `PATH_FIELDS` for one job, slugged; what the server left out is `none`."""
    values = {
        "project": str(ref.project),
        "pipeline_id": str(job.pipeline.id) if job.pipeline is not None else "none",
        "job_id": str(ref.job_id),
        "job_name": job.name,
        "ref": job.ref or "none",
        "stage": job.stage or "none",
        "status": str(job.status),
    }
    assert values.keys() == PATH_FIELDS
    return {name: slug(value) for name, value in values.items()}


def render(template: str, ref: JobRef, job: Job) -> str:
    """The path of one job's archive, relative, with `/` between its parts.

    Raises:
        ValueError: The template itself is not usable.
        UnsafePathError: It renders to a name that no disk should get.
    """
    check_template(template)
    text = template.format(**template_fields(ref, job))
    parts = [safe_component(part) for part in text.split("/")]
    return "/".join(_fit(parts))


def _fit(parts: list[str]) -> list[str]:
    """Shorten the longest parts until the whole path fits, the last one last."""
    for limit in (100, 60, 40, _LEAST_PART_BYTES):
        if len("/".join(parts).encode()) <= MAX_PATH_BYTES:
            return parts
        parts = [shorten(part, limit) for part in parts]
    if len("/".join(parts).encode()) > MAX_PATH_BYTES:
        raise UnsafePathError(f"the path is longer than {MAX_PATH_BYTES} bytes: {'/'.join(parts)[:200]}...")
    return parts


def folder_beside(path: str) -> str:
    """The folder an archive is unpacked into: its path without `.zip`, or with `.d` where it has none."""
    stem = path[:-4] if path.casefold().endswith(".zip") else ""
    return stem if stem and not stem.endswith("/") else f"{path}.d"


def with_id(path: str, job_id: int) -> str:
    """The same path made unique by a job id before its extension."""
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.rpartition(".")
    named = f"{stem}-{job_id}.{extension}" if stem else f"{name}-{job_id}"
    # The id may be what no longer fits; a digest of all of the name then stands for it.
    room = max(_LEAST_PART_BYTES, MAX_PATH_BYTES - len(f"{folder}{slash}".encode()))
    return f"{folder}{slash}{shorten(named, room)}"


@attrs.define
class Places:
    """Which job owns which path; memory is one small entry for each path handed out."""

    _owners: dict[str, int] = attrs.field(factory=dict)
    """Collision key of a path or of one of its folders: the job id that owns it, 0 for a shared folder."""

    def remember(self, path: str, job_id: int) -> None:
        """Note that an earlier run gave *path* to a job."""
        for key in self._folders(path):
            self._owners.setdefault(key, 0)
        self._owners[collision_key(path)] = job_id

    def claim(self, path: str, job_id: int, *, beside: bool = False) -> str:
        """Give *path* to a job, or the path with the id in its name when another one has it.

        Args:
            path: As `render` made it.
            job_id: Who asks; asking again gives the same answer.
            beside: The folder beside it is claimed with it.

        Raises:
            UnsafePathError: Both are taken, or a file of another job stands where a folder is needed.
        """
        for candidate in (path, with_id(path, job_id)):
            wanted = [candidate, folder_beside(candidate)] if beside else [candidate]
            if all(self._free(each, job_id) for each in wanted):
                for each in wanted:
                    self.remember(each, job_id)
                return candidate
        raise UnsafePathError(f"{path!r} is taken by another job; put {{job_id}} into the path template")

    def _free(self, path: str, job_id: int) -> bool:
        if self._owners.get(collision_key(path), job_id) != job_id:
            return False
        # A folder on the way must not be somebody's file.
        return all(self._owners.get(key, 0) == 0 for key in self._folders(path))

    @staticmethod
    def _folders(path: str) -> list[str]:
        parts = collision_key(path).split("/")
        return ["/".join(parts[:count]) for count in range(1, len(parts))]
