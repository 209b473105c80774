"""A list of jobs; what neighbours have in common is read once and shared.

Jobs of one pipeline stand side by side in GitLab's lists, and each repeats its commit, pipeline, user
and project word for word: most of the bytes. Where the JSON of such a value is that of the job before,
the value is the same object, which nobody can tell, as models are frozen; it takes half the time and less
memory (`python -m benchmarks fanout`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs
import msgspec

from asyncjobs._models import Commit, Job, JobProject, Pipeline, Runner, User

_NULL: Final = msgspec.Raw(b"null")


@attrs.frozen(kw_only=True)
class _Unread(Job):
    """A job some of whose values are JSON still.

    It only gives other types to fields that `Job` has, and no slot of its own; so an instance can
    become a `Job` by changing its class, where filling a second object would cost what sharing saves.
    """

    user: msgspec.Raw = _NULL  # type: ignore[assignment]  # JSON until `read_jobs` ends; so are the next
    commit: msgspec.Raw = _NULL  # type: ignore[assignment]
    pipeline: msgspec.Raw = _NULL  # type: ignore[assignment]
    project: msgspec.Raw = _NULL  # type: ignore[assignment]
    runner: msgspec.Raw = _NULL  # type: ignore[assignment]


_JOBS: Final = msgspec.json.Decoder(list[Job])
_UNREAD: Final = msgspec.json.Decoder(list[_Unread])
_SHARED: Final[dict[str, Callable[[bytes], object]]] = {
    "user": msgspec.json.Decoder(User | None).decode,
    "commit": msgspec.json.Decoder(Commit | None).decode,
    "pipeline": msgspec.json.Decoder(Pipeline | None).decode,
    "project": msgspec.json.Decoder(JobProject | None).decode,
    "runner": msgspec.json.Decoder(Runner | None).decode,
}
_set = object.__setattr__  # models are frozen; these are not yet handed out


def read_jobs(body: bytes) -> list[Job]:
    """The jobs of a list, equal to what a plain decoder gives.

    Raises:
        msgspec.MsgspecError: Not JSON, or not a list of jobs.
    """
    try:
        unread = _UNREAD.decode(body)
        for name, read in _SHARED.items():
            _share(unread, name, read)
    except msgspec.MsgspecError:
        return _JOBS.decode(body)  # its message knows the place in the whole body
    for job in unread:
        _set(job, "__class__", Job)
    return list[Job](unread)


def _share(jobs: Sequence[_Unread], name: str, read: Callable[[bytes], object]) -> None:
    last: bytes | None = None
    value: object = None
    for job in jobs:
        raw: bytes = getattr(job, name)
        if raw != last:
            last, value = raw, read(raw)
        _set(job, name, value)
