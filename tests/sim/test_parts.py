"""A partial file on the simulated disk: whatever call fails, what is kept is the beginning of the file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from asyncjobs._errors import AsyncJobsError
from asyncjobs._storage import Part, claim_part, parts
from tests.sim.disk import Fault, SimDisk

RAW = random.Random(7).randbytes(100_000)
STEP = 5_000


async def fill(part: Part) -> None:
    """Feed the whole file in small chunks, and finish it."""
    for start in range(0, len(RAW), STEP):
        await part.feed(RAW[start : start + STEP])
    await part.finish(sync=True)


@pytest.mark.parametrize("at", range(1, 40))
async def test_after_a_failed_call_the_beginning_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A write that fails may leave some of its bytes, and nothing that came later ever follows them."""
    monkeypatch.setattr(parts, "GATHER_BYTES", 2 * STEP)
    disk = SimDisk(tmp_path)
    folder = await disk.open_folder(Path("/dest"), create=True)
    failed = False
    try:
        disk.arm(Fault("error", at + len(disk.calls), seed=at))
        part = await claim_part(folder, "a.gz", "key")
    except AsyncJobsError:
        return
    try:
        await part.note('"v1"', len(RAW))
        await fill(part)
    except AsyncJobsError:
        failed = True
        await part.release()
    await folder.close()
    assert failed == bool(disk.fault is not None and disk.fault.fired)
    assert disk.open_files == 0
    for name, raw in disk.tree(Path("/dest")).items():
        if name.endswith(".part"):
            assert RAW.startswith(raw)
