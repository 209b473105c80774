"""Make a folder equal to the archives of many jobs, and again tomorrow.

Jobs are listed lazily and settled a few at a time: a full set of downloads stops the listing. One failed
job or target is a line of the report; a full disk, a damaged record and cancellation end the run.

GitLab: https://docs.gitlab.com/api/job_artifacts/, https://docs.gitlab.com/api/jobs/
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable

import attrs

from asyncjobs._api import Api
from asyncjobs._artifacts.one import settle_job
from asyncjobs._artifacts.prune import listed_completely, prune
from asyncjobs._artifacts.run import OnEvent, Run, open_run, settle_all
from asyncjobs._concurrency import Emit, Fan
from asyncjobs._errors import AsyncJobsError
from asyncjobs._models import GroupRef, Job, JobRef, SyncReport, Target, TargetFailure, as_target
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Storage

Targets = Iterable[Target | str] | AsyncIterable[Target | str]

_LISTINGS = 4
"""Targets listed at once: enough to keep downloads busy over targets without archives."""

Found = tuple[str, JobRef, Job]


async def sync_artifacts(
    api: Api,
    storage: Storage,
    targets: Targets,
    dest: str | os.PathLike[str],
    *,
    options: SyncOptions | None = None,
    on_event: OnEvent | None = None,
) -> SyncReport:
    """Bring the archives of all jobs of *targets* below *dest*, downloading only what is new or damaged.

    A file under its final name is whole and verified. `dest/.asyncjobs/manifest.sqlite3` remembers which
    file came from which job with which hash; files that it does not know are never replaced or deleted.

    Args:
        api: The endpoints.
        storage: The disk.
        targets: References or their text, also lazily from an (async) iterable.
        dest: A folder, made when it is missing.
        options: What is selected, where it goes, what may be done.
        on_event: Called with a `SyncEvent` as things happen; it must return at once.

    Returns:
        Every selected job in exactly one list; targets that could not be listed in `failures`.

    Raises:
        DiskFullError: No space is left, or a known size does not fit. Finished files stay. A size that the
            whole disk could not hold fails its own job only.
        ManifestError: The folder is being synced by somebody else, or its record cannot be used.
        DestinationError: *dest* cannot be a folder; or pruning would delete more than `max_delete`.
        ValueError, TypeError: A target that is none, or a template that is not usable.

    Cancellation: finished files stay and are recorded; partial ones are kept for the next run.
    """
    options = options or SyncOptions()
    async with open_run(api, storage, dest, options, on_event) as run:
        selection = _Selection(run)
        async with Fan(selection.parts(targets), selection.list_jobs, concurrency=_LISTINGS) as found:
            await settle_all(run, found, _settle_found)
        if options.prune:
            await prune(run, selection.listed, complete=listed_completely(run))
        return run.final_report()


async def _settle_found(run: Run, found: Found) -> None:
    await settle_job(run, *found)


async def _targets(targets: Targets) -> AsyncIterator[Target]:
    if isinstance(targets, AsyncIterable):
        async for target in targets:
            yield as_target(target)
    else:
        for target in targets:
            yield as_target(target)


@attrs.define
class _Selection:
    """The jobs of the targets, each once."""

    run: Run
    targets: set[str] = attrs.field(factory=set)
    broken: set[str] = attrs.field(factory=set)
    seen: set[int] = attrs.field(factory=set)
    """Job ids, which are unique in an installation: targets may overlap."""

    @property
    def listed(self) -> set[str]:
        """Targets whose jobs were listed to the end, as text."""
        return self.targets - self.broken

    async def parts(self, targets: Targets) -> AsyncIterator[tuple[Target, Target]]:
        """Each target with what is listed of it.

        A group is its projects: they are read side by side, and one that is refused hides none of the others.
        """
        async for target in _targets(targets):
            self.targets.add(str(target))
            if not isinstance(target, GroupRef):
                yield target, target
                continue
            try:
                async for project in self.run.api.group_members(target):
                    yield target, project
            except AsyncJobsError as error:
                self._broke(target, target, error)

    async def list_jobs(self, pair: tuple[Target, Target], emit: Emit[Found]) -> None:
        """Hand over the jobs of one target; a listing that breaks is noted, and what came before is kept."""
        target, part = pair
        run, options = self.run, self.run.options
        try:
            jobs = run.api.iter_target_jobs(
                part, scope=options.scope, ref=options.ref, name=options.name, since=options.since
            )
            async for ref, job in jobs:
                if ref.job_id not in self.seen:
                    self.seen.add(ref.job_id)
                    await emit((str(target), ref, job))
        except AsyncJobsError as error:
            self._broke(target, part, error)

    def _broke(self, target: Target, part: Target, error: AsyncJobsError) -> None:
        self.broken.add(str(target))
        self.run.report.failures.append(TargetFailure(part, error))
