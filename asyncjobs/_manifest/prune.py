"""Which files of earlier syncs may be deleted, and when none may.

Only paths of our own manifest, only after every target was listed to its end without an error, and never
more than the caller allowed. Deleting on doubt is the one mistake a sync cannot undo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs


@attrs.frozen
class PrunePlan:
    """What to delete, or why nothing is."""

    paths: tuple[str, ...] = ()
    refused: str | None = None
    """A sentence when deleting is refused; None when `paths` may go."""


def plan_prune(
    recorded: Mapping[str, int],
    wanted: Iterable[str],
    *,
    complete: bool,
    max_delete: int | None,
) -> PrunePlan:
    """Choose the files to delete.

    Args:
        recorded: Every path of the manifest that belongs to the synced targets, with its job id.
        wanted: Every path that this run selected, whether downloaded, unchanged or failed.
        complete: Every listing ended by itself, nothing failed and nothing was cancelled.
        max_delete: Refuse when more would go; None lifts the limit.
    """
    keep = set(wanted)
    gone = tuple(sorted(path for path in recorded if path not in keep))
    if not gone:
        return PrunePlan()
    if not complete:
        return PrunePlan(refused=f"{len(gone)} files kept: this run was not complete, so nothing is deleted")
    if max_delete is not None and len(gone) > max_delete:
        return PrunePlan(refused=f"{len(gone)} files would be deleted, more than max_delete={max_delete}")
    return PrunePlan(gone)
