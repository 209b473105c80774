"""Partial files: gathered, hashed, claimed by one, kept or deleted, never half under a final name."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncjobs._errors import DestinationError, DiskFullError
from asyncjobs._storage import GATHER_BYTES, Folder, Hops, Part, claim_part, drop_part, sweep_beside
from asyncjobs._storage.files import DiskFiles, DiskWriter
from asyncjobs._storage.owners import is_dead, whoami
from asyncjobs._storage.parts import PartRecord
from tests.functional.artifacts.disk import content, listing


async def opened(path: Path) -> tuple[Hops, Folder]:
    """A folder of the real disk."""
    hops = Hops()
    return hops, await DiskFiles(hops).open_folder(path, create=False)


async def fill(part: Part, raw: bytes, step: int = 300_000) -> None:
    """Feed bytes as a network would."""
    for start in range(0, len(raw), step):
        await part.feed(raw[start : start + step])


@settings(max_examples=25)
@given(st.lists(st.integers(1, 700_000), max_size=12), st.booleans())
def test_any_split_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], sync: bool
) -> None:
    """However the bytes are cut into chunks, the file and its hash are those of the whole."""
    path = tmp_path_factory.mktemp("part")
    raw = os.urandom(sum(sizes))

    async def work() -> None:
        hops, folder = await opened(path)
        part = await claim_part(folder, "a.zip", "key")
        start = 0
        for size in sizes:
            await part.feed(raw[start : start + size])
            start += size
        assert part.length == len(raw)
        assert await part.finish(sync=sync) == hashlib.sha256(raw).hexdigest()
        await part.place("a.zip", sync=sync)
        await folder.close()
        hops.close()

    asyncio.run(work())
    assert listing(path) == ["a.zip"]
    assert content(path / "a.zip") == raw


async def test_writes_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 KiB reach the disk in hops of about 1 MiB, hashed while the cache still has them."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    thread_calls: list[int] = []
    writes: list[int] = []
    real_write, real_writev = DiskWriter._write, os.writev

    def in_thread(writer: DiskWriter, pieces: Sequence[bytes]) -> None:
        thread_calls.append(sum(map(len, pieces)))
        real_write(writer, pieces)

    def counting(fd: int, pieces: Sequence[Any]) -> int:
        writes.append(real_writev(fd, pieces))
        return writes[-1]

    monkeypatch.setattr(DiskWriter, "_write", in_thread)
    monkeypatch.setattr(os, "writev", counting)
    await fill(part, bytes(4 * GATHER_BYTES), 16 * 1024)
    await part.finish(sync=False)
    assert thread_calls == [GATHER_BYTES] * 4
    assert sum(writes) == 4 * GATHER_BYTES
    assert max(writes) <= 256 * 1024
    await part.discard()
    await folder.close()
    hops.close()


async def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes fewer bytes than asked loses none."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    real = os.write
    monkeypatch.setattr(os, "writev", lambda fd, pieces: real(fd, bytes(b"".join(pieces))[:70_001]))
    raw = os.urandom(1_500_000)
    await fill(part, raw)
    assert await part.finish(sync=False) == hashlib.sha256(raw).hexdigest()
    await part.place("a.zip", sync=False)
    assert content(tmp_path / "a.zip") == raw
    await folder.close()
    hops.close()


@pytest.mark.parametrize("call", ["writev", "fsync", "close", "replace"])
async def test_a_failing_call_leaves_no_final_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """ENOSPC at write, fsync, close or rename is DiskFullError, and nothing gets the final name."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    await part.note('"v1"', 3_000_000)
    real = getattr(os, call)

    def failing(*args: Any, **facts: Any) -> Any:
        if call == "close":
            real(*args)
        raise OSError(errno.ENOSPC, "No space left on device")

    async def to_the_end() -> None:
        await fill(part, os.urandom(3_000_000))
        await part.finish(sync=True)
        await part.place("a.zip", sync=True)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(DiskFullError):
            await to_the_end()
    await part.release()
    assert "a.zip" not in listing(tmp_path)
    await folder.close()
    hops.close()


async def test_finish_compares_with_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has fewer bytes than were written is noticed before the name is given."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    await fill(part, bytes(2_000_000))
    await part.drain()
    os.truncate(tmp_path / part.data_name, 10)
    with pytest.raises(DestinationError, match="10 bytes of a file of 2000000"):
        await part.finish(sync=False)
    await part.discard()
    assert listing(tmp_path) == []
    await folder.close()
    hops.close()


async def test_released_bytes_are_taken_over_and_hashed(tmp_path: Path) -> None:
    """The next claim for the same thing begins where the last one ended, with the hash of all bytes."""
    raw = os.urandom(1_800_000)
    hops, folder = await opened(tmp_path)
    first = await claim_part(folder, "a.zip", "key")
    await first.note('"v1"', len(raw))
    await fill(first, raw[:1_000_001])
    await first.release()
    second = await claim_part(folder, "a.zip", "key")
    assert (second.length, second.validator, second.total) == (1_000_001, '"v1"', len(raw))
    assert await second.tail(1000) == raw[999_001:1_000_001]
    await fill(second, raw[1_000_001:])
    assert await second.finish(sync=False) == hashlib.sha256(raw).hexdigest()
    await second.place("a.zip", sync=False)
    assert content(tmp_path / "a.zip") == raw
    assert listing(tmp_path) == ["a.zip"]
    await folder.close()
    hops.close()


async def test_releasing_a_placed_file_leaves_it_alone(tmp_path: Path) -> None:
    """After the file has its name a release does nothing, and no record appears again."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    await part.note('"v1"', 5)
    await fill(part, b"bytes")
    await part.finish(sync=False)
    await part.place("a.zip", sync=False)
    await part.release()
    assert listing(tmp_path) == ["a.zip"]
    await folder.close()
    hops.close()


async def test_a_claim_cancelled_while_it_is_made_is_given_back(tmp_path: Path) -> None:
    """A caller that goes away during the claim leaves neither a file nor a claim that lives on."""
    hops, folder = await opened(tmp_path)
    for turns in range(0, 400, 8):
        task = asyncio.ensure_future(claim_part(folder, "a.zip", "key"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await task.result().release()
        assert listing(tmp_path) == []
    await folder.close()
    hops.close()


async def test_bytes_that_cannot_be_resumed_are_not_kept(tmp_path: Path) -> None:
    """Without a validator, or without bytes, a release leaves nothing."""
    hops, folder = await opened(tmp_path)
    for validator, raw in ((None, b"x"), ('"v1"', b"")):
        part = await claim_part(folder, "a.zip", "key")
        await part.note(validator, 10)
        await fill(part, raw)
        await part.release()
        assert listing(tmp_path) == []
    await folder.close()
    hops.close()


async def test_two_claims_never_share_a_file(tmp_path: Path) -> None:
    """While one writes, another download of the same target goes into a file of its own."""
    hops, folder = await opened(tmp_path)
    first = await claim_part(folder, "a.zip", "key")
    await first.note('"v1"', 100)
    await fill(first, b"first")
    second = await claim_part(folder, "a.zip", "key")
    assert second.data_name != first.data_name
    assert second.length == 0
    await fill(second, b"second")
    await second.finish(sync=False)
    await second.place("a.zip", sync=False)
    await first.finish(sync=False)
    assert content(tmp_path / first.data_name) == b"first"
    assert content(tmp_path / "a.zip") == b"second"
    await first.discard()
    assert listing(tmp_path) == ["a.zip"]
    await folder.close()
    hops.close()


def left_by(path: Path, owner: str, **facts: Any) -> None:
    """What a process with the name *owner* left behind."""
    (path / ".a.zip.0123456789ab.part").write_bytes(b"half")
    known: dict[str, Any] = {
        "key": "key",
        "data": ".a.zip.0123456789ab.part",
        "owner": owner,
        "validator": '"v1"',
        "total": 8,
    }
    record = PartRecord(**known | facts)
    (path / ".a.zip.part.json").write_bytes(msgspec.json.encode(record))


@pytest.mark.parametrize("state", ["data", "following"])
async def test_a_dead_process_is_inherited_from(tmp_path: Path, state: str) -> None:
    """After kill -9 the bytes are taken over, also when it died in the middle of taking over itself."""
    machine = whoami().rsplit("|", 2)[0]
    owner = f"{machine}|{2**22 - 1}|1"
    if state == "data":
        left_by(tmp_path, owner)
    else:
        left_by(tmp_path, owner, data=".a.zip.ffffffffffff.part", following=".a.zip.0123456789ab.part")
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    assert part.length == 4
    await part.discard()
    assert listing(tmp_path) == []
    await folder.close()
    hops.close()


async def test_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """A record of a process that runs, or of another machine, is not touched."""
    machine = whoami().rsplit("|", 2)[0]
    started = content(Path(f"/proc/{os.getppid()}/stat")).decode().rpartition(")")[2].split()[19]
    hops, folder = await opened(tmp_path)
    for owner in (f"{machine}|{os.getppid()}|{started}", "elsewhere|boot|ns|1|1"):
        left_by(tmp_path, owner)
        before = listing(tmp_path)
        part = await claim_part(folder, "a.zip", "key")
        assert part.length == 0
        await part.discard()
        assert listing(tmp_path) == before
    await folder.close()
    hops.close()


def test_owners_are_judged_by_machine_process_and_start() -> None:
    """Only a process that certainly ended is dead; a reused process id is not mistaken for it."""
    machine, pid, started = whoami().rsplit("|", 2)
    assert not is_dead(whoami())
    assert is_dead(f"{machine}|{pid}|{int(started) - 1}")
    assert is_dead(f"{machine}|{2**22 - 1}|1")
    assert not is_dead(f"x{machine}|{2**22 - 1}|1")
    assert not is_dead("garbage")


@pytest.mark.real_time
async def test_cancelled_write_never_touches_the_file_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release after a cancel in the middle of a write waits for it: the file does not grow afterwards."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    await part.note('"v1"', 10_000_000)
    real, entered, go = os.writev, threading.Event(), threading.Event()

    def slow(fd: int, pieces: Sequence[Any]) -> int:
        entered.set()
        go.wait(10)
        return real(fd, pieces)

    monkeypatch.setattr(os, "writev", slow)

    async def download() -> None:
        try:
            await fill(part, os.urandom(5_000_000))
        finally:
            await part.release()

    task = asyncio.ensure_future(download())
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    await asyncio.sleep(0.001)
    task.cancel()
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    size = len(content(tmp_path / part.data_name))
    record = msgspec.json.decode(content(tmp_path / ".a.zip.part.json"), type=PartRecord)
    assert record.owner == ""
    hops.close()
    assert len(content(tmp_path / part.data_name)) == size
    await folder.close()


@pytest.mark.parametrize("age", ["old", "young"])
async def test_what_a_crash_left_beside_a_target_goes_when_it_is_old(tmp_path: Path, age: str) -> None:
    """Only files that we make for this very target, unknown to its record, and long untouched."""
    token = "0123456789ab"
    left = [f".a.zip.{token}.part", f".a.zip.{token}.alone.part", ".a.zip.part.json.new"]
    others = [
        f".b.zip.{token}.part",
        ".a.zip.part",
        f"a.zip.{token}.part",
        f".a.zip.{token}.part.mine",
        "a.zip",
    ]
    hops, folder = await opened(tmp_path)
    alive = await claim_part(folder, "a.zip", "key")
    alone = await claim_part(folder, "a.zip", "key")
    ours = [".a.zip.part.json", alive.data_name, alone.data_name]
    for name in left + others:
        (tmp_path / name).write_bytes(b"x")
    for name in left + others + ours:
        os.utime(tmp_path / name, (1000, 1000 if age == "old" else 3000))
    await sweep_beside(folder, "a.zip", before_ns=2_000_000_000_000)
    assert listing(tmp_path) == sorted(others + ours + (left if age == "young" else []))
    await alone.discard()
    await alive.discard()
    assert listing(tmp_path) == sorted(others + (left if age == "young" else []))
    await folder.close()
    hops.close()


async def test_what_nobody_wants_any_more_is_dropped(tmp_path: Path) -> None:
    """A partial file that was released goes with its record; one that is being written stays."""
    hops, folder = await opened(tmp_path)
    part = await claim_part(folder, "a.zip", "key")
    await part.note('"v1"', 100)
    await fill(part, b"half")
    await drop_part(folder, "a.zip")
    assert part.data_name in listing(tmp_path)
    await part.release()
    assert len(listing(tmp_path)) == 2
    await drop_part(folder, "a.zip")
    await drop_part(folder, "a.zip")
    assert listing(tmp_path) == []
    await folder.close()
    hops.close()
