"""Gzip files: whole ones pass, everything else is found out."""

from __future__ import annotations

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import IntegrityError
from asyncjobs._manifest import check_gzip

NOISE = random.Random(1).randbytes(600_000)
LARGE = gzip.compress(bytes(3_000_000) + NOISE)


def check(raw: bytes) -> None:
    """Check these bytes as a file."""
    check_gzip(lambda offset, count: raw[offset : offset + count])


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(0, 600))
def test_whole_files_pass(contents: list[bytes], padding: int) -> None:
    """One member or several, empty ones too, with zeros after the last."""
    check(b"".join(gzip.compress(each) for each in contents) + bytes(padding))


def test_a_large_file_passes() -> None:
    """More than is read at once, and much more that comes out."""
    check(LARGE)
    check(LARGE * 2 + bytes(700_000))


@given(st.data())
def test_a_cut_is_found(data: st.DataObject) -> None:
    """Whatever is missing at the end."""
    raw = gzip.compress(b"hello " * 50)
    with pytest.raises(IntegrityError):
        check(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize("at", [10, 1000, 300_000, len(LARGE) - 8, len(LARGE) - 1])
def test_damage_is_found(at: int) -> None:
    """In the data, in the checksum, in the length."""
    raw = bytearray(LARGE)
    raw[at] ^= 4
    with pytest.raises(IntegrityError):
        check(bytes(raw))


@pytest.mark.parametrize("tail", [b"x", b"\0x", b"\x1f\x8b", gzip.compress(b"x")[:-1]])
def test_something_else_behind_it_is_found(tail: bytes) -> None:
    """Neither text nor half a member follows a whole file."""
    with pytest.raises(IntegrityError):
        check(gzip.compress(b"hello") + tail)


def test_two_files_spliced_are_found() -> None:
    """The beginning of one and the end of another of the same length."""
    other = gzip.compress(random.Random(2).randbytes(600_000))
    mine = gzip.compress(NOISE)
    assert len(other) == len(mine)
    with pytest.raises(IntegrityError):
        check(mine[:200_000] + other[200_000:])
