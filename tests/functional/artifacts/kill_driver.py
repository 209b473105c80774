"""Syncs a folder again and again and kills itself with SIGKILL at random moments; a program of its own.

Everything is imported once; each try is a fork, so that a moment is anywhere in a sync and not in an import.
After each kill every file under a final name is compared with the hashes it may have.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from asyncjobs._artifacts import sync_artifacts
from asyncjobs._client import Client
from asyncjobs._options import SyncOptions
from asyncjobs._storage import Storage


async def sync(job: dict[str, Any], dest: Path) -> dict[str, Any]:
    """One whole sync."""
    storage = Storage()
    try:
        async with Client(job["url"], private_token=job["token"]) as client:
            options = SyncOptions(concurrency=4, fsync=job["fsync"])
            report = await sync_artifacts(client._api, storage, [job["target"]], dest, options=options)
    finally:
        await storage.aclose()
    counts = {name: len(getattr(report, name)) for name in ("downloaded", "unchanged", "failed", "failures")}
    return counts | {"bytes": report.bytes_received}


def wrong_files(job: dict[str, Any], dest: Path) -> list[str]:
    """Final files whose bytes are not those of the server."""
    return [
        path.name
        for path in dest.rglob("*.zip")
        if hashlib.sha256(path.read_bytes()).hexdigest() != job["truth"].get(path.name)
    ]


def one_try(job: dict[str, Any], dest: Path, delay: float) -> bool:
    """Fork a sync and kill it after *delay* seconds; True when it was faster."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(sync(job, dest))
            code = 0
        finally:
            os._exit(code)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFEXITED(status)


def main() -> None:
    """Read the job from standard input, write what was seen to standard output."""
    job = json.load(sys.stdin)
    chance = random.Random(job["seed"])
    base = Path(job["dest"])
    kills = completed = folders = 0
    wrong: list[str] = []
    dest = base / "0"
    longest = 0.05
    while kills < job["kills"]:
        if one_try(job, dest, chance.uniform(0.0, longest)):
            completed += 1
            shutil.rmtree(dest)
            folders += 1
            dest = base / str(folders)
        else:
            kills += 1
            # Longer and longer, so that each folder is also killed close to its end.
            longest = 0.05 + (kills % 10) * 0.03
        wrong += wrong_files(job, dest)
    first = asyncio.run(sync(job, dest))
    second = asyncio.run(sync(job, dest))
    litter = [path.name for path in dest.rglob(".*") if path.name != ".asyncjobs"]
    seen = {"kills": kills, "completed": completed, "wrong": wrong, "first": first, "second": second}
    json.dump(seen | {"final": wrong_files(job, dest), "litter": litter}, sys.stdout)


if __name__ == "__main__":
    main()
