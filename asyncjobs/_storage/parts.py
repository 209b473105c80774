"""A partial file: gathered writes, a claim that only one process can hold, and a record to resume by.

The data is always in a file whose name belongs to one claim; a later process takes it over by renaming it,
which only one can do. Locks are not used for this: on some network file systems everybody gets them, and two
processes then append to one file (https://github.com/huggingface/huggingface_hub/pull/4228). Whether an
answer of the server may be appended is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable
from typing import TypeVar

import attrs
import msgspec

from asyncjobs._errors import AsyncJobsError, DestinationError
from asyncjobs._storage.hops import joined, made_whole
from asyncjobs._storage.owners import same_boot, same_machine
from asyncjobs._storage.seam import BlockingFolder, FileFacts, Folder, ReadAt, Writer

T = TypeVar("T")

GATHER_BYTES = 1024 * 1024
"""Network chunks are gathered to this before a hop into a thread: a hop costs about as much as
writing 64 KiB, so at 1 MiB it no longer shows. Two of these are held for each download."""

_RECORD_LIMIT = 16 * 1024
_NAME_BYTES = 160
_RECORD_END = ".part.json"
_DATA = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
_ALONE = re.compile(r"\.(.+)\.[0-9a-f]{12}\.alone\.part", re.DOTALL)
_live: set[str] = set()
"""Claims of this process: two downloads in it must not take each other for dead."""


@attrs.frozen(kw_only=True)
class PartRecord:
    """What stands beside a partial file."""

    key: str
    """What is being downloaded; a record of something else is not resumed."""
    data: str
    """The name of the data file."""
    following: str = ""
    """The name it is about to get, while it is being taken over."""
    owner: str = ""
    """Who is writing; empty when nobody is."""
    writer: str = ""
    """Who wrote last."""
    doubtful: bool = False
    """Some bytes were written before the machine last started, so the power may have taken them."""
    validator: str | None = None
    total: int | None = None


class Part:
    """The partial file of one download. Made by `claim_part`; ends by `place`, `release` or `discard`."""

    def __init__(
        self, folder: Folder, name: str, record: PartRecord | None, data: str, writer: Writer
    ) -> None:
        self._folder = folder
        self._name = name
        self._record = record
        self._data = data
        self._writer = writer
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._running: asyncio.Task[None] | None = None
        self._placed = False
        self._broken = False
        self.length = writer.length
        """Bytes accepted so far, those still on their way to the disk included."""

    @property
    def validator(self) -> str | None:
        """What the bytes that are here were sent under, or None when they cannot be resumed."""
        return self._record.validator if self._record is not None else None

    @property
    def doubtful(self) -> bool:
        """Whether bytes here may not be those that arrived: the machine was restarted since.

        What was not forced to the disk when the power went can be zeros of the right length.
        """
        return self._record is not None and self._record.doubtful

    @property
    def total(self) -> int | None:
        """Bytes of the whole file as an earlier answer gave them."""
        return self._record.total if self._record is not None else None

    async def note(self, validator: str | None, total: int | None) -> None:
        """Write down what the coming bytes are part of, before the first of them."""
        if self._record is None or (self._record.validator, self._record.total) == (validator, total):
            return
        self._record = attrs.evolve(self._record, validator=validator, total=total)
        await _write_record(self._folder, self._name, self._record)

    async def feed(self, chunk: bytes) -> None:
        """Take bytes; returns at once unless the disk is a whole gathering behind.

        Raises:
            DestinationError: An earlier write failed.
        """
        self._pieces.append(chunk)
        self._gathered += len(chunk)
        self.length += len(chunk)
        if self._gathered >= GATHER_BYTES:
            await self._settle()
            self._send()

    def _send(self) -> None:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        # After a write that failed the file ends somewhere inside it, and nothing more may follow there.
        if pieces and not self._broken:
            self._running = asyncio.ensure_future(self._writer.write(pieces))

    async def _settle(self) -> None:
        """Wait for the write that is under way."""
        if self._running is not None:
            running = self._running
            await joined(running)
            self._running = None
            try:
                running.result()
            except BaseException:
                self._broken = True
                raise

    async def drain(self) -> None:
        """Wait until everything taken is written.

        Raises:
            DestinationError: A write failed.
        """
        await self._settle()
        self._send()
        await self._settle()

    async def tail(self, count: int) -> bytes:
        """The last bytes that are here, read back from the disk; fewer when there are fewer.

        Raises:
            DestinationError: They cannot be written or read.
        """
        await self.drain()
        start = max(0, self.length - count)
        return await self._folder.examine(self._data, lambda read_at, _: read_at(start, count))

    async def restart(self) -> None:
        """Throw all bytes away and begin again."""
        self._pieces, self._gathered = [], 0
        await self._settle()
        await self._writer.restart()
        self._broken = False
        self.length = 0
        if self._record is not None:
            self._record = attrs.evolve(self._record, doubtful=False)
        await self.note(None, None)

    async def finish(self, *, sync: bool) -> str:
        """Write the rest, force it to the disk and close; the SHA-256 of the whole.

        Raises:
            DestinationError: A write failed, or the disk has another number of bytes.
        """
        await self._settle()
        if self._broken:
            raise DestinationError(f"{self._name!r} was not written whole: a write failed before")
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        try:
            return await self._writer.finish(pieces, sync=sync)
        except BaseException:
            self._broken = True
            raise

    @property
    def data_name(self) -> str:
        """The name of the data file, for reading it before it is placed."""
        return self._data

    async def place(self, name: str, *, sync: bool) -> None:
        """Give the finished file its final name, delete the record, and force both to the disk.

        Raises:
            DestinationError: The name cannot be taken, or somebody deleted the partial file.

        Cancellation: delivered once the file has its name and the record is gone.
        """
        task = asyncio.ensure_future(self._place(name, sync=sync))
        await joined(task)
        task.result()

    async def _place(self, name: str, *, sync: bool) -> None:
        def work(top: BlockingFolder) -> None:
            try:
                top.replace(self._data, name)
            except FileNotFoundError:
                path = self._folder.path / name
                raise DestinationError(
                    f"the partial file of {str(path)!r} is gone: another program deleted it"
                ) from None
            self._placed = True
            if self._record is not None:
                with contextlib.suppress(FileNotFoundError):
                    top.remove(_record_name(self._name))
            if sync:
                top.sync()

        try:
            await self._folder.run(work)
        finally:
            if self._placed:
                _live.discard(self._data)

    async def release(self) -> None:
        """Keep what is here for a later run, or nothing when it could not be resumed. Never raises ours.

        Cancellation: delivered once all is done.
        """
        task = asyncio.ensure_future(self._release())
        await joined(task)
        task.result()

    async def _release(self) -> None:
        if self._placed:
            return
        try:
            await self._flush_quietly()
            if self._record is None or not self._record.validator or not self._writer.length:
                await self._remove()
                return
            self._record = attrs.evolve(self._record, owner="")
            await _write_record(self._folder, self._name, self._record)
        except AsyncJobsError:
            return
        finally:
            _live.discard(self._data)

    async def _flush_quietly(self) -> None:
        try:
            await self.drain()
        except AsyncJobsError:
            self._pieces, self._running = [], None
        await self._writer.close()

    async def discard(self) -> None:
        """Delete the partial file and its record.

        Cancellation: delivered once all is done.
        """
        task = asyncio.ensure_future(self._discard())
        await joined(task)
        task.result()

    async def _discard(self) -> None:
        self._pieces, self._gathered = [], 0
        try:
            await self._flush_quietly()
            await self._remove()
        finally:
            _live.discard(self._data)

    async def _remove(self) -> None:
        await self._folder.remove(self._data)
        await self._forget()

    async def _forget(self) -> None:
        if self._record is not None:
            await self._folder.remove(_record_name(self._name))
        _live.discard(self._data)


async def claim_part(folder: Folder, name: str, key: str) -> Part:
    """Make or take over the partial file of the target *name*.

    Args:
        folder: Where the target will be.
        name: The target's own name.
        key: What is downloaded, so that bytes of another thing are never resumed.

    Raises:
        DestinationError: The folder cannot be written.

    Cancellation: what was claimed is released again.
    """
    return await made_whole(_claim(folder, name, key), Part.release)


async def _claim(folder: Folder, name: str, key: str) -> Part:
    data = _data_name(name)
    _live.add(data)
    try:
        return await _claim_as(data, folder, name, key)
    except BaseException:
        _live.discard(data)
        raise


async def _claim_as(data: str, folder: Folder, name: str, key: str) -> Part:
    found = await _read_record(folder, name)
    if found is not None and not await _claimable(folder, found):
        # Somebody is writing: stay out of the way, with a file that is not resumed, and that nobody sweeps
        # away because it has no record.
        alone = f"{data.removesuffix('.part')}.alone.part"
        _live.add(alone)
        try:
            writer = await folder.create(alone)
        except BaseException:
            _live.discard(alone)
            raise
        _live.discard(data)
        return Part(folder, name, None, alone, writer)
    if found is not None:
        if found.key == key and found.validator and (part := await _take_over(data, folder, name, found)):
            return part
        await folder.remove(found.data)
        if found.following:
            await folder.remove(found.following)
    me = await folder.me()
    record = PartRecord(key=key, data=data, owner=me, writer=me)
    # The record first: a data file without one could not be told from somebody's own.
    both = (_record_name(name), msgspec.json.encode(record))
    return Part(folder, name, record, data, await folder.create(data, record=both))


async def examine_beside(
    folder: Folder, data: str, name: str, judge: Callable[[ReadAt, int], T]
) -> tuple[T, FileFacts, FileFacts | None]:
    """Judge a finished partial file, and look at what has the name that it is to get, in one hop.

    Args:
        folder: The folder of both.
        data: The partial file.
        name: The name.
        judge: Called in a thread with a reader of the file and its size.

    Returns:
        What *judge* says, the facts of the partial file, and those of the name.

    Raises:
        DestinationError: It cannot be read, or somebody deleted it.
    """

    def work(top: BlockingFolder) -> tuple[T, FileFacts, FileFacts | None]:
        reader = top.open(data)
        try:
            verdict = judge(reader.read_at, reader.size)
        finally:
            reader.close()
        facts = top.facts(data)
        if facts is None:
            raise DestinationError(f"{data!r} is gone: another program deleted it")
        return verdict, facts, top.facts(name)

    return await folder.run(work)


async def sweep_parts(folder: Folder, found_names: Iterable[str], locked: bool) -> None:
    """Delete what a crash left in a folder and no record knows, or no file is left for.

    After a power failure names may be on the disk without those that were made before them: data without its
    record, a record without its data, half a record. What another process is writing is left alone.

    Of a process of an earlier boot, another machine or another container nobody can know whether it still
    writes; the lock of a root says that it does not. Its bytes are deleted rather than taken over: where a
    lock is given to everybody after all, two would write to one file, and so the other one only finds its
    file gone and says so.

    Args:
        folder: Where to look.
        found_names: What is in it.
        locked: The caller has the lock that every sync of this folder takes.

    Raises:
        DestinationError: The folder cannot be read or written.
    """
    names = set(found_names)
    records = {each for each in names if each.startswith(".") and each.endswith(_RECORD_END)}
    known: set[str] = set()
    busy: set[str] = set()
    for name in sorted(records):
        stem = name[1 : -len(_RECORD_END)]
        found = await _read_record_of(folder, stem)
        if found is not None and locked and await _is_of_nobody(folder, found):
            found = None
        abandoned = found is None or await _claimable(folder, found)
        if found is None or (abandoned and not {found.data, found.following} & names):
            await folder.remove(name)
            continue
        known |= {found.data, found.following}
        if not abandoned:
            known.add(f"{name}.new")  # it is about to replace its record
            busy.add(stem)
    for name in sorted(names - known - _live):
        alone = _ALONE.fullmatch(name)
        if (
            _DATA.fullmatch(name)
            or (name.startswith(".") and name.endswith(f"{_RECORD_END}.new"))
            # Made while another process wrote to the target; nobody does any more.
            or (locked and alone is not None and alone[1] not in busy)
        ):
            await folder.remove(name)


async def sweep_beside(folder: Folder, name: str, *, before_ns: int) -> None:
    """Delete what crashes left of earlier downloads to the target *name* and no record knows any more.

    For a folder of the user, which is never swept as a whole. Data without a record says nothing of who made
    it, so only what nobody has written to for long is taken for left over.

    Args:
        folder: Where the target will be.
        name: The target's own name.
        before_ns: Only what was last written before this moment, in nanoseconds since the epoch.

    Raises:
        DestinationError: The folder cannot be read or written.
    """
    stem = re.escape(_stem(name))
    ours = re.compile(rf"\.{stem}(\.[0-9a-f]{{12}}(\.alone)?\.part|{re.escape(_RECORD_END)}\.new)")
    found = {each for each in await folder.names() if ours.fullmatch(each)}
    if not found:
        return
    record = await _read_record(folder, name)
    known = set[str]() if record is None else {record.data, record.following}
    for each in sorted(found - known - _live):
        facts = await folder.facts(each)
        if facts is not None and facts.is_file and facts.mtime_ns < before_ns:
            await folder.remove(each)


async def drop_part(folder: Folder, name: str) -> None:
    """Delete what an earlier run left of the target *name*, when nobody will want it any more.

    Raises:
        DestinationError: The disk refused.
    """
    found = await _read_record(folder, name)
    if found is None or not await _claimable(folder, found):
        return
    for each in (found.data, found.following, _record_name(name)):
        if each:
            await folder.remove(each)


async def _take_over(data: str, folder: Folder, name: str, found: PartRecord) -> Part | None:
    old = found.data
    if await folder.facts(old) is None and found.following:
        old = found.following  # a process died between the two steps below
    await _write_record(folder, name, attrs.evolve(found, data=old, following=data))
    if not await folder.rename(old, data):
        return None
    me = await folder.me()
    doubtful = found.doubtful or not same_boot(found.writer, me)
    record = attrs.evolve(found, data=data, following="", owner=me, writer=me, doubtful=doubtful)
    await _write_record(folder, name, record)
    return Part(folder, name, record, data, await folder.reopen(data))


async def _claimable(folder: Folder, record: PartRecord) -> bool:
    """Whether nobody writes: released, of a process that ended, or of a call of this one that ended badly."""
    if record.data in _live:
        return False
    return not record.owner or record.owner == await folder.me() or await folder.has_ended(record.owner)


async def _is_of_nobody(folder: Folder, record: PartRecord) -> bool:
    """Whether only the lock of the folder can tell that its writer is over."""
    if await _claimable(folder, record) or record.data in _live:
        return False
    return not same_machine(record.owner, await folder.me())


async def _read_record(folder: Folder, name: str) -> PartRecord | None:
    return await _read_record_of(folder, _stem(name))


async def _read_record_of(folder: Folder, stem: str) -> PartRecord | None:
    raw = await folder.read(f".{stem}{_RECORD_END}", limit=_RECORD_LIMIT)
    if raw is None:
        return None
    try:
        record = msgspec.json.decode(raw, type=PartRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    # A record names files to delete and rename: only names that we make are believed.
    names = [record.data, *([record.following] if record.following else [])]
    return record if all(each.startswith(f".{stem}.") and _is_data(each) for each in names) else None


def _is_data(name: str) -> bool:
    return name.endswith(".part") and "/" not in name


async def _write_record(folder: Folder, name: str, record: PartRecord) -> None:
    await folder.write_whole(_record_name(name), msgspec.json.encode(record), sync=False)


def _stem(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) <= _NAME_BYTES:
        return name
    return f"{raw[:_NAME_BYTES].decode('utf-8', 'ignore')}-{hashlib.sha256(raw).hexdigest()[:8]}"


def _record_name(name: str) -> str:
    return f".{_stem(name)}{_RECORD_END}"


def _data_name(name: str) -> str:
    return f".{_stem(name)}.{secrets.token_hex(6)}.part"
