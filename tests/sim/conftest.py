"""Where the manifests of simulated disks are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A real folder where SQLite's own forcing to the disk costs nothing."""
    memory = Path("/dev/shm")
    path = memory / f"asyncjobs-{os.getpid()}-{tmp_path.name}" if memory.is_dir() else tmp_path / "records"
    path.mkdir()
    yield path
    shutil.rmtree(path)
