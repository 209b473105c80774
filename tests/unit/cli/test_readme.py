"""README and the guides say what is true: about flags, exit codes, and where a link leads."""

from __future__ import annotations

import re

import click
import pytest

from asyncjobs._environment import _TOKEN_VARIABLES
from asyncjobs.cli.app import app
from asyncjobs.cli.codes import ExitCode
from asyncjobs.cli.framework import help_rows
from asyncjobs.cli.settings import TOKEN_VARIABLES
from tests.unit.cli.reference import BEGIN, COMMAND, END, updated

ROOT = COMMAND.parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_flags_are_current() -> None:
    """docs/command.md lists each flag as it is now; `tests.unit.cli.reference` writes the list."""
    text = COMMAND.read_text(encoding="utf-8")
    assert BEGIN in text
    assert END in text
    assert updated(text) == text


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{each.name}" for each in ROOT.glob("docs/*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of a page names a file that is there, and a heading that is in it."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        name, _, heading = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not heading or heading in anchors, link


def test_every_guide_is_linked() -> None:
    """README leads to each page of docs/."""
    for page in ROOT.glob("docs/*.md"):
        assert f"(docs/{page.name})" in TEXT


@pytest.mark.parametrize("name", sorted(app.commands))
def test_a_help_page_is_complete(name: str) -> None:
    """It has examples that fit 80 columns as they stand, and a text for every option."""
    command = app.commands[name]
    shown = command.get_help(click.Context(command, info_name=f"asyncjobs {name}", terminal_width=80))
    examples = shown.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert all("asyncjobs" in line for line in examples)
    assert all(each.help for each in command.params if isinstance(each, click.Option))


def test_options_that_are_measured_say_their_default() -> None:
    """A time, a size or a number comes with what holds when it is not given."""
    measured = {"SPAN", "SIZE", "N"}
    for command in (app, *app.commands.values()):
        options = [each for each in command.params if isinstance(each, click.Option)]
        for option, (flag, text) in zip(options, help_rows(options, click.Context(command)), strict=True):
            if flag.rpartition(" ")[2] in measured:
                assert "[default: " in text, option.name


def test_the_exit_codes_are_current() -> None:
    """README's table has each exit code, and no other."""
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == set(ExitCode)


def test_the_variables_of_tokens_are_current() -> None:
    """The advice about a refused token names the variable that the library reads."""
    assert tuple(name for name, _ in _TOKEN_VARIABLES) == TOKEN_VARIABLES
