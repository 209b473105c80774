"""What tests look at and damage on the disk; plain calls, because a test may block."""

from __future__ import annotations

from pathlib import Path


def listing(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but our own record, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".asyncjobs" not in path.parts
    }


def content(file: Path) -> bytes:
    """The bytes of a file."""
    return file.read_bytes()


def damage(folder: Path, ending: str, position: int) -> None:
    """Flip a bit in the one file whose name ends so."""
    (path,) = [each for each in folder.rglob("*") if each.name.endswith(ending)]
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)


def overwrite(folder: Path, ending: str, text: str) -> None:
    """Replace the text of the one file whose name ends so."""
    (path,) = [each for each in folder.rglob("*") if each.name.endswith(ending)]
    path.write_text(text)
