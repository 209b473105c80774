"""The demo's folder: replaced when a demo made it, never otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.cli.codes import UsageError
from asyncjobs.cli.commands.demo import MARKER, prepare


def test_a_demo_replaces_its_own_folder(tmp_path: Path) -> None:
    """What an earlier demo left is gone, and the folder is the demo's again."""
    folder = tmp_path / "a" / "demo"
    prepare(folder)
    (folder / "old.zip").write_bytes(b"old")
    prepare(folder)
    assert [each.name for each in folder.iterdir()] == [MARKER]


def test_a_demo_touches_nobody_elses_folder(tmp_path: Path) -> None:
    """A folder with anything in it that no demo made is refused and stays as it is."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="--dest"):
        prepare(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is one clear refusal."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(tmp_path / "file" / "demo")
