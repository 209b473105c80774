"""The map of the package is true: imports only go down, and the outside world has one door each.

Reads the source, never imports it. The map itself stands in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "asyncjobs"

WORDS = {"_errors", "_models", "_options", "_secrets", "_version"}
CLOCK = {"_clock"}
DECIDERS = {"_protocol", "_trace", "_manifest", "_retry"}
EDGES = {"_transport", "_storage", "_concurrency", "_environment"}
ENDPOINTS = {"_api"}
FEATURES = {"_fanout", "_tail", "_artifacts"}
CLIENT = {"_client"}
BELOW_PUBLIC = WORDS | CLOCK | DECIDERS | EDGES | ENDPOINTS | FEATURES | CLIENT

ALLOWED = {
    **dict.fromkeys(WORDS, WORDS),
    **dict.fromkeys(CLOCK, WORDS),
    **dict.fromkeys(DECIDERS, WORDS),
    **dict.fromkeys(EDGES, WORDS | CLOCK),
    **dict.fromkeys(ENDPOINTS, WORDS | CLOCK | DECIDERS | EDGES),
    **dict.fromkeys(FEATURES, WORDS | CLOCK | DECIDERS | EDGES | ENDPOINTS),
    **dict.fromkeys(CLIENT, BELOW_PUBLIC),
    # The public names of pure helpers may come from any room; nothing below ever asks the package itself.
    "": BELOW_PUBLIC,
    "testing": set[str](),
    "cli": {"", "testing"},
    "__main__": {"", "cli"},
}
"""For each room: which other rooms it may import. `""` is the public package."""

DOORS = {
    "aiohttp": {"_transport", "testing"},
    "yarl": {"_transport", "testing"},
    "aiofiles": {"_storage"},
    "click": {"cli"},
    "rich": {"cli"},
    "sqlite3": {"_storage"},
    "subprocess": {"_environment"},
}
"""Modules of the outside world, and the rooms that may know them."""


def sources() -> list[Path]:
    """Every source file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a file: `asyncjobs._retry.gate`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room a dotted name of ours belongs to; `""` for the package itself."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0]


NAMES = {module_name(path) for path in sources()}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module a file imports, wherever in the file, with its line."""
    yield from _imports_of(ast.parse(path.read_text("utf-8")), path)


def _imports_of(tree: ast.AST, path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in NAMES else node.module, node.lineno


def ours(module: str) -> bool:
    """Whether a dotted name is in this package."""
    return module.partition(".")[0] == "asyncjobs"


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_arrows_only_go_down(path: Path) -> None:
    """A room imports itself and what the map draws below it, and nothing else."""
    room = room_of(module_name(path))
    assert room in ALLOWED, f"{room} has no place on the map"
    wrong = [
        f"{path.name}:{line} imports {module}"
        for module, line in imports(path)
        if ours(module) and room_of(module) not in ALLOWED[room] | {room}
    ]
    assert wrong == []


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_outside_things_have_one_door(path: Path) -> None:
    """The network, files and the terminal are each met in the one room that is made for them."""
    room = room_of(module_name(path))
    wrong = [
        f"{path.name}:{line} imports {module}"
        for module, line in imports(path)
        if room not in DOORS.get(module.partition(".")[0], {room})
    ]
    assert wrong == []


def test_no_circles() -> None:
    """No module imports itself by way of others, whichever is loaded first."""
    graph: dict[str, set[str]] = {}
    for path in sources():
        name = module_name(path)
        tree = ast.parse(path.read_text("utf-8"))
        # What only the type checker sees, or a function loads when called, makes no circle while loading.
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        graph[name] = {module for module, _ in _imports_of(tree, path) if ours(module)} - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", sorted((PACKAGE / "_transport").glob("*.py")), ids=module_name)
def test_no_answer_is_read_whole_by_the_library(path: Path) -> None:
    """A `read()`, `text()` or `json()` of aiohttp has no bound, so the wire never calls them."""
    calls = [
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert not {"read", "text", "json"} & set(calls)


@pytest.mark.parametrize("room", sorted(DECIDERS))
def test_deciders_neither_wait_nor_look_at_a_clock(room: str) -> None:
    """A decider has no `await`, no clock, no chance and no file: it is tested with literals."""
    for path in sorted((PACKAGE / room).glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        awaits = [n for n in ast.walk(tree) if isinstance(n, ast.Await | ast.AsyncFor | ast.AsyncFunctionDef)]
        assert not awaits, path.name
        banned = {"asyncio", "time", "os", "pathlib", "threading"}
        met = {module for module, _ in imports(path)} & banned
        assert not met, f"{path.name} imports {met}"
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        # A source of chance or a moment is passed in; `random.Random` may be named, never asked for a number.
        impure = {
            "open",
            "datetime.now",
            "socket.socket",
            *(name for name in called if name.startswith("random.")),
        }
        assert not called & impure, path.name


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_every_file_says_what_it_is(path: Path) -> None:
    """Each file opens with a docstring and stays small enough to be read at once."""
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), path.name
    assert len(text.splitlines()) <= 520, f"{path.name} holds more than one idea"
