"""Delete files of earlier syncs whose jobs or archives are gone, each asked about before it goes.

A file is a candidate only when a sync put it there (a saved log never is one), its target was listed to the
end without an error, and this run did not select it. That alone may also mean a changed filter or a lost
permission, so the server is asked about each candidate, and on any doubt the file stays.
"""

from __future__ import annotations

import attrs

from asyncjobs._artifacts.run import Run
from asyncjobs._artifacts.sources import now
from asyncjobs._errors import AsyncJobsError, DestinationError, NotFoundError
from asyncjobs._manifest import LOG_FILE_TYPE, folder_beside, missing_reason, plan_prune
from asyncjobs._models import JobRef
from asyncjobs._storage import UNFINISHED, FileRow

_GONE = frozenset({"none", "expired", "erased"})


async def prune(run: Run, targets: set[str], *, complete: bool) -> None:
    """Delete what is gone, or tell why nothing is deleted.

    Args:
        run: The run that has just ended.
        targets: The targets that were listed.
        complete: Every listing ended by itself and nothing failed.

    Raises:
        DestinationError: More files than `max_delete` would go; nothing was deleted.
    """
    if not complete:
        return
    candidates = await _gone(run, targets)
    plan = plan_prune(
        {each.path: each.job_id for each in candidates},
        (),
        complete=complete,
        max_delete=run.options.max_delete,
    )
    if plan.refused is not None:
        raise DestinationError(f"nothing was deleted: {plan.refused}")
    for each in candidates:
        if not run.options.dry_run:
            await _remove(run, each)
        run.report.removed.append(run.root.path / each.path)


async def _gone(run: Run, targets: set[str]) -> list[FileRow]:
    gone: dict[tuple[str, int], bool] = {}
    visible: dict[str, bool] = {}
    found = []
    for row in await run.root.ledger.rows():
        if row.file_type == LOG_FILE_TYPE:
            continue  # the archives of a job may go while its log stays
        if row.target not in targets or row.path in run.wanted_paths or row.job_id in run.undecided_jobs:
            continue
        key = (row.project, row.job_id)
        if key not in gone:
            gone[key] = await _is_gone(run, row, visible)
        if gone[key]:
            found.append(row)
        if run.options.max_delete is not None and len(found) > run.options.max_delete:
            break  # refused anyway: no need to ask about the rest
    return found


async def _is_gone(run: Run, row: FileRow, visible: dict[str, bool]) -> bool:
    """Whether the server says that a job or its archive is gone, rather than out of sight."""
    project = int(row.project) if row.project.isdigit() else row.project
    ref = JobRef(project, row.job_id)
    try:
        job = await run.api.get_job(ref.project, ref.job_id)
    except NotFoundError:
        # 404 also stands for a project this token may no longer see, whose jobs may well be there.
        if row.project not in visible:
            visible[row.project] = await _is_visible(run, project)
        return visible[row.project]
    except AsyncJobsError:
        return False
    file_type = "archive" if row.file_type == "member" else row.file_type
    return missing_reason(job, now=now(run.api), file_type=file_type) in _GONE


async def _is_visible(run: Run, project: int | str) -> bool:
    try:
        await run.api.get_project(project)
    except AsyncJobsError:
        return False
    return True


async def _remove(run: Run, row: FileRow) -> None:
    """Delete one file, what was unpacked from it, and the folders that are empty then.

    The row says that the file is no longer sure to be there, then the file goes, then the row: a crash leaves
    neither a claim without its file nor a file without its row.
    """
    await run.root.ledger.put(attrs.evolve(row, complete=False))
    into_path = row.path.removesuffix(f"/{row.member}") if row.member else folder_beside(row.path)
    tree = await run.root.ledger.tree(into_path)
    if tree is not None:
        await run.root.ledger.put_tree(attrs.evolve(tree, sha256=UNFINISHED))
    try:
        folder, name = await run.root.parent_of(row.path, create=False)
    except DestinationError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        folder = None  # somebody deleted the whole folder
    if folder is not None:
        try:
            await folder.remove(name)
            if tree is not None and not row.member:
                into = into_path.rpartition("/")[2]
                await run.storage.remove_tree(folder, into, tree.files, sync=run.options.fsync)
            if run.options.fsync:
                await folder.sync()
        finally:
            await folder.close()
    if tree is not None:
        await run.root.ledger.forget_tree(into_path)
    await run.root.ledger.forget([row.path])
    if folder is not None:
        await _remove_empty(run, row.path)


async def _remove_empty(run: Run, path: str) -> None:
    while "/" in path:
        path = path.rpartition("/")[0]
        folder, name = await run.root.parent_of(path, create=False)
        try:
            if not await folder.remove_folder(name):
                return
        finally:
            await folder.close()


def listed_completely(run: Run) -> bool:
    """Whether nothing failed in the run, so that what it did not find may be gone."""
    return not run.report.failures and not run.report.failed
