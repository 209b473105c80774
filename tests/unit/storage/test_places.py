"""Destinations, roots, the manifest and unpacking: nothing foreign is touched, nothing is written outside."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import stat
from pathlib import Path

import attrs
import pytest

from asyncjobs._errors import AsyncJobsError, DestinationError, ManifestError
from asyncjobs._manifest import Meter, plan_extraction, unpack
from asyncjobs._options import ExtractLimits
from asyncjobs._storage import FileRow, Folder, Storage, TreeRow
from tests.functional.artifacts.disk import listing, tree
from tests.unit.manifest.hostile_zips import Entry, build, corpus, honest

ROW = FileRow(
    path="a/b.zip",
    target="group/app",
    project="group/app",
    job_id=8,
    file_type="archive",
    remote_size=5,
    size=5,
    mtime_ns=7,
    sha256="00",
    complete=True,
    stored_at=1.5,
)


def make(path: Path, kind: str) -> None:
    """Put something of a kind at a path."""
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        case "link to a device":
            path.symlink_to("/dev/null")
        case "link elsewhere":
            (path.parent / "sub").mkdir()
            (path.parent / "sub" / "real").write_text("x")
            path.symlink_to("sub/real")
        case "link to a link":
            (path.parent / "second").symlink_to("real")
            path.symlink_to("second")
        case "link beside":
            (path.parent / "real").write_text("x")
            path.symlink_to("real")
        case "dangling link beside":
            path.symlink_to("real")
        case "file":
            path.write_text("x")


@pytest.mark.parametrize(
    "kind", ["folder", "pipe", "socket", "link to a device", "link elsewhere", "link to a link"]
)
async def test_destinations_that_are_refused(tmp_path: Path, kind: str) -> None:
    """What is no regular file, or a link that leads away, is refused before anything is sent."""
    make(tmp_path / "dest", kind)
    storage = Storage()
    with pytest.raises(DestinationError):
        await storage.open_destination(tmp_path / "dest")
    await storage.aclose()


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full", "missing/a.zip", "..", "/"])
async def test_paths_that_are_refused(tmp_path: Path, path: str) -> None:
    """Devices, missing folders and paths without a name are refused."""
    storage = Storage()
    with pytest.raises(DestinationError):
        await storage.open_destination(tmp_path / path)
    await storage.aclose()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("nothing", "dest"), ("file", "dest"), ("link beside", "real"), ("dangling link beside", "real")],
)
async def test_destinations_that_are_accepted(tmp_path: Path, kind: str, name: str) -> None:
    """A missing or regular file is taken as it is, a link beside its target stands for the target."""
    make(tmp_path / "dest", kind)
    storage = Storage()
    folder, found = await storage.open_destination(tmp_path / "dest")
    assert (folder.path, found) == (tmp_path, name)
    await folder.close()
    await storage.aclose()


async def test_links_inside_a_root_lead_nowhere(tmp_path: Path) -> None:
    """A link planted where a folder belongs is refused, and nothing appears behind it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    root_path = tmp_path / "root"
    root_path.mkdir()
    (root_path / "a").symlink_to(outside)
    storage = Storage()
    root = await storage.open_root(root_path)
    with pytest.raises(DestinationError):
        await root.parent_of("a/b/c.zip", create=True)
    assert listing(outside) == []
    await root.aclose()
    await storage.aclose()


async def test_a_root_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    """A second sync of the same folder is told who has it; after the first is over it may go on."""
    storage = Storage()
    root = await storage.open_root(tmp_path / "root")
    with pytest.raises(ManifestError, match=f"process {os.getpid()} on"):
        await storage.open_root(tmp_path / "root")
    await root.aclose()
    await (await storage.open_root(tmp_path / "root")).aclose()
    await storage.aclose()


async def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    """Opening a root to look at it creates neither the folder nor a record."""
    storage = Storage()
    root = await storage.open_root(tmp_path / "root", read_only=True)
    assert await root.ledger.rows() == []
    await root.aclose()
    await storage.aclose()
    assert listing(tmp_path) == []


async def test_the_manifest_keeps_what_it_was_given(tmp_path: Path) -> None:
    """Rows and trees come back as they were, also after closing; forgetting is for good."""
    storage = Storage()
    root = await storage.open_root(tmp_path)
    await root.ledger.put(ROW)
    await root.ledger.put_tree(TreeRow("a/b", "00", ("x", "y/z")))
    await root.aclose()
    root = await storage.open_root(tmp_path)
    assert await root.ledger.row("a/b.zip") == ROW
    assert await root.ledger.rows() == [ROW]
    assert await root.ledger.tree("a/b") == TreeRow("a/b", "00", ("x", "y/z"))
    assert await root.ledger.owners() == [("a/b.zip", 8)]
    await root.ledger.forget(["a/b.zip"])
    await root.ledger.forget_tree("a/b")
    assert await root.ledger.row("a/b.zip") is None
    assert await root.ledger.tree("a/b") is None
    await root.aclose()
    await storage.aclose()


@pytest.mark.parametrize("state", ["newer", "foreign", "damaged", "garbage", "link"])
async def test_a_manifest_that_cannot_be_used_is_an_error(tmp_path: Path, state: str) -> None:
    """A record of a newer release, of another program, damaged or a link is refused with a reason."""
    storage = Storage()
    root = await storage.open_root(tmp_path)
    for number in range(200):
        await root.ledger.put(attrs.evolve(ROW, path=f"{number}"))
    await root.aclose()
    spoil(tmp_path / ".asyncjobs" / "manifest.sqlite3", state)
    with pytest.raises(ManifestError):
        await storage.open_root(tmp_path)
    await storage.aclose()


def spoil(path: Path, state: str) -> None:
    """Make a manifest unusable."""
    if state == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    elif state == "foreign":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE x (y)")
        connection.close()
    elif state == "damaged":
        raw = bytearray(path.read_bytes())
        raw[5000:9000] = os.urandom(4000)
        path.write_bytes(raw)
    elif state == "garbage":
        path.write_bytes(b"this is no database" * 100)
    else:
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")


# -- unpacking ------------------------------------------------------------------------------------------


async def promised(_: object) -> None:
    """Nothing is written down."""


async def unpack_zip(
    storage: Storage, folder: Folder, replace: tuple[str, ...] | None = None, *, sync: bool = False
) -> tuple[str, ...]:
    """Unpack a.zip into a, with the real plan."""
    limits = ExtractLimits()
    meter = Meter(limits)
    return await storage.unpack(
        folder,
        "a.zip",
        "a",
        lambda read_at, size: plan_extraction(read_at, size, limits).members,
        lambda read_at, member: unpack(read_at, member, meter),
        promised,
        sync=sync,
        replace=replace,
    )


async def folder_with(path: Path, raw: bytes) -> tuple[Storage, Folder]:
    """A folder three levels below *path* with a.zip in it."""
    deep = path / "one" / "two" / "dest"
    deep.mkdir(parents=True)
    (deep / "a.zip").write_bytes(raw)
    storage = Storage()
    folder, _ = await storage.open_destination(deep / "a.zip")
    return storage, folder


@pytest.mark.parametrize(("label", "raw"), corpus(), ids=[label for label, _ in corpus()])
async def test_hostile_zips_write_nothing_anywhere(tmp_path: Path, label: str, raw: bytes) -> None:
    """Not one of the corpus is unpacked: beside the archive, above it and below it nothing appears."""
    storage, folder = await folder_with(tmp_path, raw)
    with pytest.raises(AsyncJobsError):
        await unpack_zip(storage, folder)
    await folder.close()
    await storage.aclose()
    assert tree(tmp_path) == {"one/two/dest/a.zip": raw}
    assert listing(tmp_path / "one" / "two" / "dest") == ["a.zip"]


async def test_honest_zip_is_unpacked_with_plain_modes(tmp_path: Path) -> None:
    """Files and folders appear with their bytes, 0644 or 0755 and nothing else."""
    entries = [
        Entry(name=b"d/", data=b"", mode=stat.S_IFDIR | 0o700),
        Entry(name=b"d/run", data=b"#!/bin/sh", mode=stat.S_IFREG | 0o777),
        Entry(name=b"x/y/z", data=b"z" * 500_000, method=8, mode=stat.S_IFREG | 0o600),
        Entry(name=b"empty/", data=b"", mode=stat.S_IFDIR | 0o755),
    ]
    storage, folder = await folder_with(tmp_path, build(entries))
    assert await unpack_zip(storage, folder) == ("d/run", "x/y/z")
    await folder.close()
    await storage.aclose()
    deep = tmp_path / "one" / "two" / "dest"
    assert listing(deep) == ["a", "a.zip"]
    assert tree(deep / "a") == {"d/run": b"#!/bin/sh", "x/y/z": b"z" * 500_000}
    assert stat.S_IMODE((deep / "a" / "d" / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((deep / "a" / "x" / "y" / "z").stat().st_mode) == 0o644
    assert listing(deep / "a" / "empty") == []


async def test_an_unpacked_folder_is_forced_down_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `sync` each file, each folder and the name of the whole are on the disk before it counts."""
    storage, folder = await folder_with(tmp_path, honest({"x": b"1", "d/e/y": b"2"}))
    forced: set[int] = set()
    real = os.fsync

    def recording(descriptor: int) -> None:
        forced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    await unpack_zip(storage, folder, sync=True)
    deep = tmp_path / "one" / "two" / "dest"
    wanted = ["", "a", "a/x", "a/d", "a/d/e", "a/d/e/y"]
    assert forced == {(deep / path).stat().st_ino for path in wanted}
    await folder.close()
    await storage.aclose()


async def test_unpacking_replaces_only_its_own(tmp_path: Path) -> None:
    """A second unpacking takes the place of the first; a file of the user in it stops that."""
    storage, folder = await folder_with(tmp_path, honest({"x": b"1", "d/y": b"2"}))
    deep = tmp_path / "one" / "two" / "dest"
    files = await unpack_zip(storage, folder)
    assert await unpack_zip(storage, folder) == files  # unclaimed, and the very same
    (deep / "a" / "x").write_bytes(b"?")
    with pytest.raises(DestinationError, match="no sync put there"):
        await unpack_zip(storage, folder)
    (deep / "a.zip").write_bytes(honest({"x": b"3"}))
    assert await unpack_zip(storage, folder, replace=files) == ("x",)
    assert tree(deep / "a") == {"x": b"3"}
    (deep / "a" / "mine").write_text("precious")
    with pytest.raises(DestinationError):
        await unpack_zip(storage, folder, replace=("x",))
    assert tree(deep / "a") == {"x": b"3", "mine": b"precious"}
    await storage.remove_tree(folder, "a", ("x",))
    assert tree(deep / "a") == {"mine": b"precious"}
    (deep / "a" / "mine").unlink()
    await storage.remove_tree(folder, "a", ())
    await storage.remove_tree(folder, "a", ())
    assert listing(deep) == ["a.zip"]
    await folder.close()
    await storage.aclose()


@pytest.mark.parametrize("kind", ["file", "link beside", "dangling link beside", "pipe", "folder"])
async def test_what_stands_in_the_way_of_a_folder_stays(tmp_path: Path, kind: str) -> None:
    """A file, a link or a pipe under the name is never ours to replace, even when the record has the name."""
    storage, folder = await folder_with(tmp_path, honest({"x": b"1"}))
    deep = tmp_path / "one" / "two" / "dest"
    make(deep / "a", kind)
    if kind == "folder":
        (deep / "a" / "y").write_text("mine")
    before = listing(deep)
    with pytest.raises(DestinationError):
        await unpack_zip(storage, folder, replace=("x",))
    await storage.remove_tree(folder, "a", ("x",))
    assert listing(deep) == before
    await folder.close()
    await storage.aclose()


async def test_links_below_a_folder_lead_nowhere(tmp_path: Path) -> None:
    """Taking a folder away deletes links in it and nothing behind them."""
    storage, folder = await folder_with(tmp_path, honest({"d/x": b"1"}))
    deep = tmp_path / "one" / "two" / "dest"
    files = await unpack_zip(storage, folder)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("mine")
    (deep / "a" / "link").symlink_to(tmp_path / "outside")
    await storage.remove_tree(folder, "a", files)
    assert listing(deep / "a") == ["d", "link"]
    await storage.remove_tree(folder, "a", (*files, "link"))
    assert listing(deep) == ["a.zip"]
    assert listing(tmp_path / "outside") == ["precious"]
    await folder.close()
    await storage.aclose()


async def test_an_old_folder_comes_back_when_the_new_one_cannot_be_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that fails leaves what was there, and nothing of the new one."""
    storage, folder = await folder_with(tmp_path, honest({"x": b"1"}))
    deep = tmp_path / "one" / "two" / "dest"
    files = await unpack_zip(storage, folder)
    real = os.rename

    def failing(old: str, new: str, **facts: int) -> None:
        if old.endswith(".unpacking") and new == "a":
            raise OSError(errno.EIO, "broken")
        real(old, new, **facts)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(DestinationError):
        await unpack_zip(storage, folder, replace=files)
    assert listing(deep) == ["a", "a.zip"]
    assert tree(deep / "a") == {"x": b"1"}
    await folder.close()
    await storage.aclose()


async def test_half_folders_of_a_dead_run_are_swept(tmp_path: Path) -> None:
    """Only folders under names that we make go when a root is used again, with all that is in them."""
    root_path = tmp_path / "root"
    ours = [".asyncjobs-0123456789ab.unpacking", ".asyncjobs-ba9876543210.removing"]
    others = [".asyncjobs-0123.unpacking", "asyncjobs-0123456789ab.unpacking", ".asyncjobs-0123456789ab.mine"]
    for name in ours + others:
        (root_path / "sub" / name / "deep").mkdir(parents=True)
        (root_path / "sub" / name / "deep" / "file").write_text("x")
    (root_path / "sub" / ".asyncjobs-0123456789ac.unpacking").write_text("a file")
    storage = Storage()
    root = await storage.open_root(root_path)
    folder, _ = await root.parent_of("sub/a.zip", create=True)
    assert listing(root_path / "sub") == sorted([*others, ".asyncjobs-0123456789ac.unpacking"])
    await folder.close()
    await root.aclose()
    await storage.aclose()


async def test_a_folder_of_absurd_depth_is_an_error_of_ours(tmp_path: Path) -> None:
    """Folders nested deeper than anything that is ever unpacked are refused, and left."""
    storage, folder = await folder_with(tmp_path, honest({"x": b"1"}))
    deep = tmp_path / "one" / "two" / "dest"
    current = os.open(deep, os.O_RDONLY)
    for name in ["a"] * 510:
        os.mkdir(name, dir_fd=current)
        below = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    with pytest.raises(DestinationError, match="folders deep"):
        await unpack_zip(storage, folder, replace=("x",))
    with pytest.raises(DestinationError, match="folders deep"):
        await storage.remove_tree(folder, "a", ("x",))
    assert listing(deep) == ["a", "a.zip"]
    shutil.rmtree(deep / "a")
    await folder.close()
    await storage.aclose()


@pytest.mark.parametrize("change", ["byte", "longer", "more", "less", "link", "pipe"])
async def test_an_unclaimed_folder_that_differs_is_somebody_elses(tmp_path: Path, change: str) -> None:
    """Without a record only the very same files are taken for ours; anything else stays as it is."""
    storage, folder = await folder_with(tmp_path, honest({"x": b"1", "d/y": b"2" * 100}))
    deep = tmp_path / "one" / "two" / "dest"
    await unpack_zip(storage, folder)
    target = deep / "a" / "d" / "y"
    if change == "byte":
        target.write_bytes(b"2" * 99 + b"3")
    elif change == "longer":
        target.write_bytes(b"2" * 101)
    elif change == "more":
        (deep / "a" / "z").write_bytes(b"")
    else:
        target.unlink()
    if change == "link":
        (deep / "y").write_bytes(b"2" * 100)
        target.symlink_to(deep / "y")
    elif change == "pipe":
        os.mkfifo(target)
    before = listing(deep), listing(deep / "a"), listing(deep / "a" / "d")
    with pytest.raises(DestinationError, match="no sync put there"):
        await unpack_zip(storage, folder)
    assert (listing(deep), listing(deep / "a"), listing(deep / "a" / "d")) == before
    await folder.close()
    await storage.aclose()
