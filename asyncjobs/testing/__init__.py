"""A fake GitLab to test against and to play with: real HTTP on loopback, a scripted world, named faults.

It stands alone: nothing here uses the client, so one misreading cannot hide another. Names are
imported when first used, so that loading the pytest plugin costs nothing.

Start with `FakeGitLab`; README.md beside this file has a program to copy, the generations, the
switches and the table of faults.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncjobs.testing._archives import Archive, GeneratedArchive, StoredArchive, make_zip
    from asyncjobs.testing._call import RecordedRequest
    from asyncjobs.testing._faults import Fault, FaultBoard
    from asyncjobs.testing._jobs import FakeBridge, FakeJob
    from asyncjobs.testing._limits import EndpointLimit, Throttle
    from asyncjobs.testing._log import RequestLog
    from asyncjobs.testing._logs import RunnerLog
    from asyncjobs.testing._people import FakeGroup, FakeToken, FakeUser
    from asyncjobs.testing._projects import FakePipeline, FakeProject
    from asyncjobs.testing._serve import serve
    from asyncjobs.testing._server import FakeGitLab
    from asyncjobs.testing._settings import Settings
    from asyncjobs.testing._thread import serve_in_thread
    from asyncjobs.testing._time import FakeClock, LoopClock, ManualClock, ScaledClock
    from asyncjobs.testing.worlds import demo_files, demo_log, demo_world

_HOMES = {
    "Archive": "_archives",
    "EndpointLimit": "_limits",
    "Fault": "_faults",
    "FaultBoard": "_faults",
    "FakeBridge": "_jobs",
    "FakeClock": "_time",
    "FakeGitLab": "_server",
    "FakeGroup": "_people",
    "FakeJob": "_jobs",
    "FakePipeline": "_projects",
    "FakeProject": "_projects",
    "FakeToken": "_people",
    "FakeUser": "_people",
    "GeneratedArchive": "_archives",
    "LoopClock": "_time",
    "ManualClock": "_time",
    "RecordedRequest": "_call",
    "RequestLog": "_log",
    "ScaledClock": "_time",
    "Settings": "_settings",
    "StoredArchive": "_archives",
    "Throttle": "_limits",
    "RunnerLog": "_logs",
    "demo_files": "worlds",
    "demo_log": "worlds",
    "demo_world": "worlds",
    "make_zip": "_archives",
    "serve": "_serve",
    "serve_in_thread": "_thread",
}

__all__ = [
    "Archive",
    "EndpointLimit",
    "FakeBridge",
    "FakeClock",
    "FakeGitLab",
    "FakeGroup",
    "FakeJob",
    "FakePipeline",
    "FakeProject",
    "FakeToken",
    "FakeUser",
    "Fault",
    "FaultBoard",
    "GeneratedArchive",
    "LoopClock",
    "ManualClock",
    "RecordedRequest",
    "RequestLog",
    "RunnerLog",
    "ScaledClock",
    "Settings",
    "StoredArchive",
    "Throttle",
    "demo_files",
    "demo_log",
    "demo_world",
    "make_zip",
    "serve",
    "serve_in_thread",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
