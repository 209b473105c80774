"""What each server generation can do, as one table of facts that the routes ask.

"9.1" is the API of 2017, "18" that of 2025, "19.5" the newest with byte windows for traces,
`trigger_jobs` and the artifacts tree. First versions are those of GitLab's API changelog and
of lib/api in its source.
"""

from __future__ import annotations

from typing import Literal

import attrs

Generation = Literal["9.1", "18", "19.5"]

_STATUSES_9_1 = ("created", "pending", "running", "failed", "success", "canceled", "skipped", "manual")
ALL_STATUSES = (
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
)
FINAL = frozenset({"success", "failed", "canceled", "skipped"})
EXECUTING = frozenset({"running", "canceling"})
CANCELABLE = frozenset(ALL_STATUSES) - FINAL - {"canceling"}
PLAYABLE = frozenset({"manual", "scheduled"})
RETRYABLE = frozenset({"success", "failed", "canceled"})


@attrs.frozen(kw_only=True)
class Rules:
    """The switches of one generation."""

    name: Generation
    version: str
    statuses: tuple[str, ...] = ALL_STATUSES
    modern: bool = True
    """Today's job shape and the routes added between 10 and 18."""
    canceling: bool = True
    """A cancel waits for the runner (17.x on)."""
    windows: bool = False
    """`byte_offset` and `byte_limit` on the trace (OpenAPI document of 19.5)."""
    trigger_jobs: bool = False
    """The new name of `bridges` (19.2)."""
    tree: bool = False
    """`artifacts/tree`."""
    file_type: bool = False
    """`file_type` on the archive route (19.4)."""
    source: bool = False
    """`source` in a job."""
    keyset: bool = True
    """Keyset pagination of project jobs and projects."""
    job_token_lists: bool = False
    """A job token may list project jobs and read pipelines."""
    ascending: bool = False
    """Pipeline jobs come oldest first (before 13.5)."""
    head_303: bool = False
    """A redirected HEAD is a 303 (newer framework)."""
    strong_etag: bool = False
    """Downloads carry the archive's SHA-256 as ETag (flag workhorse_download_etag_caching)."""


_RULES: dict[Generation, Rules] = {
    "9.1": Rules(
        name="9.1",
        version="9.1.10",
        statuses=_STATUSES_9_1,
        modern=False,
        canceling=False,
        keyset=False,
        ascending=True,
    ),
    "18": Rules(name="18", version="18.0.2-ee", job_token_lists=True),
    "19.5": Rules(
        name="19.5",
        version="19.5.0-ee",
        windows=True,
        trigger_jobs=True,
        tree=True,
        file_type=True,
        source=True,
        job_token_lists=True,
        head_303=True,
        strong_etag=True,
    ),
}


def rules_of(generation: Generation) -> Rules:
    """The switches of *generation*.

    Raises:
        ValueError: Not one of the three generations.
    """
    try:
        return _RULES[generation]
    except KeyError:
        raise ValueError(f"generation is one of {', '.join(_RULES)}, not {generation!r}") from None
