"""`download` and `sync`: one archive to a file or a pipe, many to a folder that stays equal to GitLab's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import click
from click.shell_completion import CompletionItem

import asyncjobs
from asyncjobs.cli import records
from asyncjobs.cli.bars import SyncBars
from asyncjobs.cli.codes import ExitCode, UsageError, exit_code, explain
from asyncjobs.cli.framework import (
    Session,
    allow_empty_option,
    command,
    filter_options,
    json_option,
)
from asyncjobs.cli.params import FOLDER, MOMENT, SIZE
from asyncjobs.cli.syncing import OnEvent, show_sync, sync_result
from asyncjobs.cli.targets import Filters
from asyncjobs.cli.text import plain, size

_OPTIONS = asyncjobs.SyncOptions()

_COPY_BYTES = 1024 * 1024

KEPT = "Partial files are kept; run the same command again to go on."


@command("download", short_help="Download one archive, or one file out of it.")
@click.argument("target", metavar="TARGET")
@click.option(
    "--ref",
    metavar="REF",
    help="For a project: take its latest successful pipeline of this branch or tag ...",
)
@click.option("--job", "job_name", metavar="NAME", help="... and the job of this name in it.")
@click.option(
    "--output",
    "-o",
    metavar="PATH",
    show_default="JOB_ID.zip, or the member's name, in this folder",
    help="File to write; - is standard output.",
)
@click.option("--member", metavar="PATH", help="Only this file out of the archive.")
@click.option("--list", "listing", is_flag=True, help="Only say what is in the archive; downloads nothing.")
@json_option
async def download(
    session: Session,
    target: str,
    ref: str | None,
    job_name: str | None,
    output: str | None,
    member: str | None,
    listing: bool,
    as_json: bool,
) -> int:
    """Download the artifacts of one job: a job by its number, or by branch and name in a project.

    The file is checked before it gets its name. With `-o -` it is checked before its first byte
    goes to standard output. Prints the SHA-256 in the form that `sha256sum -c` reads.

    Examples:
        asyncjobs download group/app/-/jobs/8 -o app.zip
        asyncjobs download group/app --ref main --job build -o - | bsdtar -xf -
        asyncjobs download group/app/-/jobs/8 --member report/junit.xml -o -
    """
    if listing and (member is not None or output is not None):
        raise UsageError("--list shows a whole archive and writes no file; leave out --member and --output")
    if output == "-" and as_json:
        raise UsageError("with -o - standard output is the file itself; leave out --json")
    async with session.client() as client:
        (asked,) = session.targets((target,), client)
        source = Source(asked, ref, job_name)
        try:
            if listing:
                return await _list_members(session, client, source.job(), as_json=as_json)
            if output == "-":
                return await _to_stdout(session, client, source, member)
            path = _output_path(source.file_name(member) if output is None else output)
            if member is None:
                session.advice = KEPT  # a single file, or what was on its way into a pipe, cannot be resumed
            file = await source.fetch(client, path, member, session)
        except asyncjobs.AsyncJobsError as error:
            session.news.error(f"{source}: {explain(error, missing=source.advice(member))}")
            return exit_code(error)
    if as_json:
        await session.record(
            {"target": str(asked), "path": str(file.path), "size": file.size, "sha256": file.sha256}
        )
    else:
        await session.out.write(f"{file.sha256}  {file.path}\n".encode())
    session.news.say(f"{plain(file.path)}: {size(file.size)}")
    return ExitCode.OK


def _output_path(text: str) -> Path:
    """Where one file goes.

    Raises:
        UsageError: That is no name of a file.
    """
    if text.endswith("/") or Path(text).name in {"", ".."} or Path(text).is_dir():
        raise UsageError(f"{text!r} names no file; say -o FILE, or -o - for standard output")
    return Path(text)


@attrs.frozen
class Source:
    """Where one archive comes from: a job, or a name on a branch."""

    target: asyncjobs.Target
    ref: str | None
    job_name: str | None

    def __attrs_post_init__(self) -> None:
        by_name = self.ref is not None or self.job_name is not None
        if isinstance(self.target, asyncjobs.JobRef) and by_name:
            raise UsageError("--ref and --job choose a job of a project; a job was given already")
        if isinstance(self.target, asyncjobs.ProjectRef) and (self.ref is None or self.job_name is None):
            raise UsageError("of a project, say which archive: --ref BRANCH --job NAME")
        if not isinstance(self.target, asyncjobs.JobRef | asyncjobs.ProjectRef):
            raise UsageError(f"{self.target} stands for many archives: use `asyncjobs sync`, or name a job")

    def __str__(self) -> str:
        if self.job_name is None:
            return str(self.target)
        return f"{self.target}, job {self.job_name!r} on {self.ref!r}"

    def advice(self, member: str | None) -> str:
        """What to do when the server did not find it; nothing special for a job by its number."""
        if self.job_name is not None:
            return (
                f"only the latest successful pipeline of {self.ref!r} counts, and the job needs an archive:"
                f" see `asyncjobs jobs {self.target} --ref {shlex.quote(self.ref or '')}`"
            )
        return "" if member is None else f"see `asyncjobs download {self.target} --list`"

    def job(self) -> asyncjobs.JobRef:
        """The job, where it was named.

        Raises:
            UsageError: It was not.
        """
        if not isinstance(self.target, asyncjobs.JobRef):
            raise UsageError("this needs a job: give group/app/-/jobs/8")
        return self.target

    def file_name(self, member: str | None) -> str:
        """A name in the current folder; never one that a server chose."""
        if member is not None:
            if not Path(member).name:
                raise UsageError(f"--member: {member!r} names no file in an archive")
            return Path(member).name
        if isinstance(self.target, asyncjobs.JobRef):
            return f"{self.target.job_id}.zip"
        raise UsageError("say where to put it with -o FILE, or -o - for standard output")

    async def fetch(
        self, client: asyncjobs.Client, path: Path, member: str | None, session: Session
    ) -> asyncjobs.ArtifactFile:
        """Download to *path*, with a bar on a terminal."""
        if member is not None:
            job = self.job()
            try:
                return await client.download_artifact_member(job.project, job.job_id, member, path)
            except ValueError as error:  # not a path inside an archive: nothing was sent
                raise UsageError(str(error)) from None
        with SyncBars(session.news, root=str(path.parent)) as bars:
            if isinstance(self.target, asyncjobs.JobRef):
                return await client.download_artifacts(
                    self.target.project, self.target.job_id, path, on_progress=bars.on_event
                )
            assert isinstance(self.target, asyncjobs.ProjectRef)
            assert self.ref is not None
            assert self.job_name is not None
            return await client.download_ref_artifacts(
                self.target.project, self.ref, self.job_name, path, on_progress=bars.on_event
            )


async def _to_stdout(session: Session, client: asyncjobs.Client, source: Source, member: str | None) -> int:
    """Give the archive to whoever reads standard output, after it was found whole.

    Through a temporary file: a reader such as `tar` acts on what it gets at once, and a download
    that breaks in the middle could not be taken back.
    """
    if session.out.is_terminal:
        raise UsageError("an archive is nothing for a terminal; send standard output to a file or program")
    with tempfile.TemporaryDirectory(prefix="asyncjobs-") as folder:
        file = await source.fetch(client, Path(folder) / "archive", member, session)
        with file.path.open("rb") as stream:
            while data := await _read(stream):
                await session.out.write(data)
    return ExitCode.OK


async def _read(stream: BinaryIO) -> bytes:
    return await asyncio.to_thread(stream.read, _COPY_BYTES)


async def _list_members(
    session: Session, client: asyncjobs.Client, job: asyncjobs.JobRef, *, as_json: bool
) -> int:
    found = 0
    async for entry in client.iter_artifact_members(job.project, job.job_id):
        found += 1
        if as_json:
            await session.record(records.entry(entry))
        elif entry.type != "directory":
            name = plain(entry.path) if session.out.is_terminal else entry.path
            await session.out.write(f"{'' if entry.size is None else entry.size}\t{name}\n".encode())
    return session.result((), done=found, allow_empty=False, what="file in the archive")


def _lock_to_write(ctx: click.Context, param: click.Parameter, value: BinaryIO | None) -> BinaryIO | None:
    """Opened when the sync is done, so that an old lock stays until then; a bad name is found now."""
    if value is not None and value.name != "-":
        path = Path(value.name)
        folder = path.absolute().parent
        if not path.name or path.is_dir() or not folder.is_dir():
            raise click.BadParameter(f"{value.name!r} is no file, or its folder is not there", ctx, param)
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise click.BadParameter(f"{value.name!r} may not be written", ctx, param)
    return value


def _folders(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Targets are not known to a shell, and folders are: the last word is one."""
    return [CompletionItem(incomplete, type="dir")]


@command(
    "sync",
    short_help="Make a folder equal to the archives of many jobs.",
    advice=KEPT,
)
@click.argument("targets", metavar="[TARGET...]", nargs=-1, shell_complete=_folders)
@click.argument("dest", metavar="DEST", type=FOLDER)
@filter_options
@click.option("--since", type=MOMENT, help="Only jobs created after this: 2h, 3d, or a date.")
@click.option(
    "--max-bytes", type=SIZE, show_default="any", help="Leave out archives larger than this, such as 500M."
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="GLOB",
    help="Only these files out of each archive, such as 'report/*.xml'; may be repeated.",
)
@click.option("--extract", is_flag=True, help="Unpack each archive into a folder beside it, carefully.")
@click.option(
    "--path-template",
    metavar="TEXT",
    show_default=_OPTIONS.path_template,
    help="Where an archive goes, below DEST.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be done, with totals.")
@click.option("--prune", is_flag=True, help="Delete files of earlier syncs whose archives are gone.")
@click.option(
    "--max-delete",
    metavar="N",
    type=click.IntRange(min=0),
    show_default=str(_OPTIONS.max_delete),
    help="Refuse to prune more files than this.",
)
@click.option(
    "--verify", is_flag=True, help="Hash what is there already again instead of trusting size and time."
)
@click.option("--verify-members", is_flag=True, help="Check the CRC of every file inside each archive too.")
@click.option(
    "--concurrency",
    "-j",
    metavar="N",
    type=click.IntRange(min=1),
    show_default=str(_OPTIONS.concurrency),
    help="Archives at once.",
)
@click.option(
    "--bandwidth",
    type=SIZE,
    metavar="SIZE",
    show_default="no limit",
    help="Bytes per second over all downloads, such as 5M.",
)
@click.option(
    "--write-lock",
    type=click.File("wb", lazy=True),
    callback=_lock_to_write,
    metavar="FILE",
    help="Write down job ids and hashes of all files.",
)
@click.option(
    "--from-lock",
    type=click.File("rb"),
    metavar="FILE",
    help="Fetch exactly the files of a lock, and no TARGET.",
)
@click.option("--no-fsync", is_flag=True, help="Faster; a power cut may leave damaged files.")
@json_option
@allow_empty_option
async def sync(
    session: Session,
    targets: tuple[str, ...],
    dest: Path,
    filters: Filters,
    since: datetime | None,
    max_bytes: int | None,
    members: tuple[str, ...],
    extract: bool,
    path_template: str | None,
    dry_run: bool,
    prune: bool,
    max_delete: int | None,
    verify: bool,
    verify_members: bool,
    concurrency: int | None,
    bandwidth: int | None,
    write_lock: BinaryIO | None,
    from_lock: BinaryIO | None,
    no_fsync: bool,
    as_json: bool,
    allow_empty: bool,
) -> int:
    """Bring the archives of every job of TARGET to the folder DEST.

    Files appear whole and checked or not at all. A second run downloads only what is new or
    damaged; a run that was stopped goes on where it was. Into a pipe goes one line for each job:
    what became of it, target, path, bytes.

    Examples:
        asyncjobs sync group/app group/web artifacts/ --name 'build*' --since 7d
        asyncjobs sync groups/group artifacts/ --prune --dry-run
        asyncjobs sync group/app artifacts/ --write-lock artifacts.lock
        asyncjobs sync copy/ --from-lock artifacts.lock
    """
    if bool(targets) == bool(from_lock):
        raise UsageError("say which jobs: one TARGET or more, or --from-lock FILE")
    chosen: dict[str, Any] = {
        "members": members,
        "path_template": path_template,
        "max_delete": max_delete,
        "concurrency": concurrency,
    }
    try:
        options = asyncjobs.SyncOptions(
            scope=filters.scope or None,
            ref=filters.ref,
            name=filters.name,
            since=since,
            max_bytes=max_bytes,
            extract=extract,
            dry_run=dry_run,
            prune=prune,
            verify=verify,
            verify_members=verify_members,
            bandwidth_limit=bandwidth,
            fsync=not no_fsync,
            **{key: value for key, value in chosen.items() if value is not None},
        )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None
    async with session.client() as client:
        asked = session.targets(targets, client)

        async def run(on_event: OnEvent) -> asyncjobs.SyncReport:
            if from_lock is not None:
                return await client.sync_locked(from_lock.read(), dest, options=options, on_event=on_event)
            return await client.sync_artifacts(asked, dest, options=options, on_event=on_event)

        report = await show_sync(session, run, dest, dry_run=dry_run, as_json=as_json)
        if write_lock is not None and not dry_run:
            lock = await client.write_lock(dest)
            try:
                write_lock.write(lock)
                write_lock.flush()
            except click.FileError as error:
                raise error.__cause__ or error from None
            except OSError as error:
                error.filename = error.filename or write_lock.name
                with contextlib.suppress(OSError):
                    write_lock.close()  # what it still holds would be an error once more, without a name
                raise
    return sync_result(session, report, allow_empty=allow_empty)
