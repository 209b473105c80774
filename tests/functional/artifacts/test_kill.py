"""kill -9 at random moments on real files: never a wrong final file, and the next complete run settles it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.testing import FakeGitLab

KILLS = int(os.environ.get("ASYNCJOBS_KILLS", "40"))
"""The whole proof is 500: `ASYNCJOBS_KILLS=500 pytest tests/functional/artifacts/test_kill.py`."""


@pytest.mark.real_time
@pytest.mark.parametrize("delivery", ["local", "direct"])
async def test_kill_9_at_random_moments(tmp_path: Path, delivery: Any) -> None:
    """After every kill each final file is whole; then one run completes and the next receives nothing."""
    async with FakeGitLab(delivery=delivery, jobs_index_limit=None) as gitlab:
        pipeline = gitlab.add_project("group/app").add_pipeline("main")
        truth = {}
        for number in range(6):
            job = pipeline.add_job(f"build {number}")
            job.start()
            job.set_artifacts({"x.bin": os.urandom(2_500_000)})
            job.finish("success")
            truth[f"{job.id}-build-{number}.zip"] = job.archive_sha256
        asked = {
            "url": gitlab.url,
            "token": gitlab.token,
            "target": "group/app",
            "dest": str(tmp_path),
            "kills": KILLS // 2,
            "seed": 1,
            "fsync": delivery == "local",
            "truth": truth,
        }
        driver = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.functional.artifacts.kill_driver",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await driver.communicate(json.dumps(asked).encode())
    seen = json.loads(output)
    assert seen["kills"] == KILLS // 2
    assert seen["wrong"] == seen["final"] == seen["litter"] == []
    assert seen["first"]["downloaded"] + seen["first"]["unchanged"] == 6
    assert seen["second"] == {"downloaded": 0, "unchanged": 6, "failed": 0, "failures": 0, "bytes": 0}
