"""What a command works on: words of the command line to targets, targets and filters to jobs.

A web address is accepted only when it is on the configured GitLab: a token must never follow an
address that somebody pasted. The rest of the grammar is `asyncjobs.parse_target`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

import attrs

import asyncjobs
from asyncjobs.cli.codes import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def read_target(text: str, url: str) -> asyncjobs.Target:
    """One target, as `parse_target` reads it, with web addresses held against the GitLab at *url*.

    A GitLab below a path (`https://host/gitlab`) has that path cut off its addresses.

    Raises:
        UsageError: Not a target, or an address on another host.
    """
    text = text.strip()
    if "://" in text:
        text = _local_part(text, url)
    try:
        return asyncjobs.parse_target(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _local_part(text: str, url: str) -> str:
    try:
        address, home = urlsplit(text), urlsplit(url)
        same = _place(address) == _place(home)
    except ValueError:
        raise UsageError("not a web address that can be read; give group/app/-/jobs/8 instead") from None
    if not same:
        # Only the host is repeated: what else stands in a pasted address may be a secret.
        raise UsageError(
            f"that address is on {address.hostname or 'no host'}, but the configured GitLab is"
            f" {home.hostname}; choose the server with --url or GITLAB_URL"
        )
    root = home.path.rstrip("/")
    path = address.path
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{path}"


def _place(address: SplitResult) -> tuple[str, int | None]:
    return (address.hostname or "").lower(), address.port or _DEFAULT_PORTS.get(address.scheme)


@attrs.frozen(kw_only=True)
class Filters:
    """Which jobs of the targets are meant."""

    scope: tuple[str, ...] = ()
    ref: str | None = None
    name: str | None = None

    @property
    def given(self) -> bool:
        """Whether any was set."""
        return bool(self.scope or self.ref or self.name)


MOST_REMEMBERED = 1_000_000
"""Jobs remembered at most, for about 70 bytes each."""


@attrs.define
class Once:
    """Tells whether a job was there before: targets may overlap, and a job is meant once.

    A job's number is its own on the whole server, however its project was named. One target gives
    no job twice, so nothing is remembered for it; of several, the first `MOST_REMEMBERED` jobs are.
    """

    targets: int
    """How many targets there are."""
    _seen: set[int] = attrs.field(factory=set, init=False)

    def is_new(self, ref: asyncjobs.JobRef) -> bool:
        """Whether *ref* was not asked about before."""
        if self.targets < 2:
            return True
        if ref.job_id in self._seen:
            return False
        if len(self._seen) < MOST_REMEMBERED:
            self._seen.add(ref.job_id)
        return True


@attrs.define
class Selection:
    """The jobs found, and the targets that could not be read."""

    jobs: list[tuple[asyncjobs.JobRef, asyncjobs.Job]] = attrs.field(factory=list)
    failures: list[asyncjobs.TargetFailure] = attrs.field(factory=list)
    passed_over: int = 0
    """Jobs that passed the filters and were not accepted."""


def _any_job(_: asyncjobs.Job) -> bool:
    return True


async def select_jobs(
    client: asyncjobs.Client,
    targets: list[asyncjobs.Target],
    filters: Filters,
    *,
    most: int,
    accept: Callable[[asyncjobs.Job], bool] = _any_job,
) -> Selection:
    """All jobs of *targets* that pass *filters*, each once, held in a list because the caller acts on each.

    Args:
        client: Where to ask.
        targets: May overlap.
        filters: What the server or the library chooses by.
        most: How many may be found.
        accept: The caller's own choice among them; those refused are counted.

    Raises:
        UsageError: More than *most* were found, which is taken for a mistake.
    """
    found = Selection()
    once = Once(len(targets))
    async with client.stream_jobs(
        targets, scope=filters.scope or None, ref=filters.ref, name=filters.name, on_error="collect"
    ) as stream:
        async for ref, job in stream:
            if not once.is_new(ref):
                continue
            if not accept(job):
                found.passed_over += 1
                continue
            if len(found.jobs) >= most:
                raise UsageError(f"more than {most:,} jobs match; narrow it with --scope, --name or --ref")
            found.jobs.append((ref, job))
    found.failures.extend(stream.failures)
    return found
