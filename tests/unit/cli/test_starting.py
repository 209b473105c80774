"""Which processes are the command, so that Ctrl-C may end them while they load."""

from __future__ import annotations

import pytest

from asyncjobs._starting import is_command


@pytest.mark.parametrize(
    ("arguments", "original", "command"),
    [
        (["-m", "jobs"], ["python", "-X", "dev", "-m", "asyncjobs", "jobs"], True),
        (["-m"], ["python", "-Im", "asyncjobs"], True),
        (["-m"], ["python", "-masyncjobs"], True),
        (["/usr/bin/asyncjobs", "jobs"], ["python", "/usr/bin/asyncjobs", "jobs"], True),
        (["-m", "asyncjobs"], ["python", "-m", "service", "asyncjobs"], False),
        (["-c"], ["python", "-c", "import asyncjobs"], False),
        (["service.py", "asyncjobs"], ["python", "service.py", "asyncjobs"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_the_command_is_told_from_programs(arguments: list[str], original: list[str], command: bool) -> None:
    """Both ways to start the command are known, and no program that only imports the package is one."""
    assert is_command(arguments, original) is command
