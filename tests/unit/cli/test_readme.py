"""README says what is true: its flags are the command's, its exit codes are the code's."""

from __future__ import annotations

import re

from asyncjobs._environment import _TOKEN_VARIABLES
from asyncjobs.cli.codes import ExitCode
from asyncjobs.cli.settings import TOKEN_VARIABLES
from tests.unit.cli.reference import BEGIN, END, README, updated

TEXT = README.read_text(encoding="utf-8")


def test_the_flags_are_current() -> None:
    """README lists each flag as the command has it now; `tests.unit.cli.reference` writes the list."""
    assert BEGIN in TEXT
    assert END in TEXT
    assert updated(TEXT) == TEXT


def test_the_exit_codes_are_current() -> None:
    """README's table has each exit code, and no other."""
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == set(ExitCode)


def test_the_variables_of_tokens_are_current() -> None:
    """The advice about a refused token names the variable that the library reads."""
    assert tuple(name for name, _ in _TOKEN_VARIABLES) == TOKEN_VARIABLES
