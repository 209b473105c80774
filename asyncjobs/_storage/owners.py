"""Who is writing: a name for this process that another one can later prove to be over.

A process id alone says little: it is reused, and means nothing on another machine or in another container.
Linux tells the rest in /proc (https://man7.org/linux/man-pages/man5/proc.5.html); where it is missing, host
and process id have to do.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


def whoami() -> str:
    """This process, so that another one on the same machine can tell whether it still runs."""
    return _sign(os.getpid())


@cache
def _sign(pid: int) -> str:
    """Read once for each process (a child is another one): every file that is written is signed."""
    return f"{_machine()}|{pid}|{_started(pid)}"


def _machine() -> str:
    """Host, boot and process namespace: within these a process id means one process at a time."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot = namespace = ""
    return f"{socket.gethostname()}|{boot}|{namespace}"


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks: tells a reused process id."""
    try:
        # The name in parentheses may hold anything, so fields are counted behind it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def same_boot(one: str, other: str) -> bool:
    """Whether both wrote on one machine that was not restarted between them, as far as anybody can tell."""
    _, boot, *_ = [*one.split("|"), ""]
    return bool(boot) and same_machine(one, other)


def same_machine(one: str, other: str) -> bool:
    """Whether both are processes of one machine, boot and namespace, so that one can ask about the other."""
    return one.rsplit("|", 2)[0] == other.rsplit("|", 2)[0]


def is_dead(owner: str) -> bool:
    """Whether the process that wrote *owner* certainly writes no more."""
    machine, pid, started = owner.rsplit("|", 2) if owner.count("|") >= 2 else ("", "", "")
    if machine != _machine() or not pid.isdigit():
        return False  # another machine or container: nobody here can know
    if int(pid) == os.getpid():
        return started != _started(os.getpid())
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return started != _started(int(pid))
