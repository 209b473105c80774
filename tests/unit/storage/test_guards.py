"""Guards that only show when somebody plants a link, or when the power goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncjobs._errors import DestinationError
from asyncjobs._storage import BlockingFolder, Folder, Hops, Storage
from asyncjobs._storage.files import DiskFiles
from tests.functional.artifacts.disk import content, listing

SECRET = b"somebody else's"


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    """A folder with a link to a file outside of it, under a name that we read or write."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    inside.mkdir()
    outside.write_bytes(SECRET)
    (inside / "planted").symlink_to(outside)
    (inside / "planted.new").symlink_to(outside)
    hops = Hops()
    opened = await DiskFiles(hops).open_folder(inside, create=False)
    yield opened
    await opened.close()
    hops.close()


async def _poured(folder: Folder) -> None:
    async def into(piece: bytes) -> None:
        pytest.fail(f"{len(piece)} bytes of a planted link were read")

    await folder.pour("planted", lambda read_at, size: iter([read_at(0, size)]), into)


def _opened(folder: BlockingFolder) -> None:
    folder.open("planted").close()


def _created(folder: BlockingFolder) -> None:
    folder.create("planted").close()


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: folder.read("planted", limit=100),
        lambda folder: folder.sha256("planted"),
        lambda folder: folder.examine("planted", lambda read_at, size: read_at(0, size)),
        lambda folder: folder.run(_opened),
        _poured,
        lambda folder: folder.reopen("planted"),
        lambda folder: folder.create("planted"),
        lambda folder: folder.run(_created),
        lambda folder: folder.write_whole("planted", b"ours", sync=False),
        lambda folder: folder.folder("planted", create=True),
    ],
    ids=[
        "read",
        "sha256",
        "examine",
        "open",
        "pour",
        "reopen",
        "create",
        "create in a thread",
        "write_whole",
        "folder",
    ],
)
async def test_no_call_reads_or_writes_through_a_planted_link(
    folder: Folder, tmp_path: Path, call: Callable[[Folder], Any]
) -> None:
    """A link where a file of ours should be is an error, and its target is neither read nor changed."""
    with pytest.raises(DestinationError):
        await call(folder)
    assert content(tmp_path / "outside") == SECRET
    assert (tmp_path / "inside" / "planted").is_symlink()


@pytest.mark.parametrize("target", ["outside", "missing"])
async def test_a_planted_lock_is_not_taken(tmp_path: Path, target: str) -> None:
    """A link in place of the lock file is an error; its target is neither emptied nor made."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / ".asyncjobs").mkdir(parents=True)
    outside.write_bytes(SECRET)
    (root / ".asyncjobs" / "lock").symlink_to(tmp_path / target)
    storage = Storage()
    with pytest.raises(DestinationError):
        await storage.open_root(root)
    await storage.aclose()
    assert content(outside) == SECRET
    assert listing(tmp_path) == ["outside", "root"]


@pytest.mark.parametrize(("asked", "synchronous"), [({}, 2), ({"durable": True}, 2), ({"durable": False}, 0)])
async def test_a_record_is_forced_to_the_disk_unless_the_caller_is_hasty(
    tmp_path: Path, asked: dict[str, bool], synchronous: int
) -> None:
    """With a WAL only FULL (2) outlives a power failure: NORMAL forces nothing at a commit.

    https://www.sqlite.org/pragma.html#pragma_synchronous
    """
    storage = Storage()
    root = await storage.open_root(tmp_path, **asked)
    connection = root.ledger._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await root.aclose()
    await storage.aclose()
