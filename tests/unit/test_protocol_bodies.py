"""Bodies: a gzip stream is whole or an error, a bomb ends early, and JSON is GitLab's or refused by name."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._models import Bridge, Job
from asyncjobs._protocol.bodies import (
    JOB,
    JOBS,
    PIPELINE,
    PROJECTS,
    BodyError,
    CutBodyError,
    GzipDecoder,
    content_encoding,
    excerpt,
    read_played,
)

STEP = 256 * 1024
TEXT = b"$ make test\r\nok \xe2\x9c\x93 " * 20 + bytes(range(256))


def decode(pieces: Iterable[bytes], *, ratio_limit: bool = True) -> bytes:
    """Feed every piece and finish."""
    decoder = GzipDecoder(ratio_limit=ratio_limit)
    made = b"".join(part for piece in pieces for part in decoder.feed(piece))
    decoder.finish()
    return made


def cut_anywhere(data: bytes, seed: int) -> list[bytes]:
    """*data* in pieces of random length, empty ones among them."""
    source = random.Random(seed)
    places = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def test_whole_and_byte_by_byte() -> None:
    """A stream decodes to the same bytes however it was cut: whole, by single bytes, with nothing between."""
    packed = gzip.compress(TEXT, mtime=0)
    assert decode([packed]) == TEXT
    assert decode(packed[i : i + 1] for i in range(len(packed))) == TEXT
    assert decode([b"", packed, b""]) == TEXT


@given(st.binary(max_size=2000), st.integers(0, 9), st.integers())
def test_any_split(data: bytes, level: int, seed: int) -> None:
    """Any bytes at any compression level, split anywhere, come out as they were."""
    assert decode(cut_anywhere(gzip.compress(data, level), seed)) == data


def test_a_cut_at_every_byte_is_noticed() -> None:
    """Ending after any number of bytes short of the whole is an error, though HTTP framed it correctly."""
    packed = gzip.compress(TEXT, mtime=0)
    for length in range(len(packed)):
        with pytest.raises(CutBodyError, match="cut"):
            decode([packed[:length]])


def test_a_changed_byte_is_noticed() -> None:
    """No flipped bit in data or checksum ever passes as another text."""
    packed = gzip.compress(TEXT, mtime=0)
    for place in range(10, len(packed)):
        damaged = bytearray(packed)
        damaged[place] ^= 0x40
        with contextlib.suppress(BodyError):
            # The last byte of deflate data has bits that mean nothing.
            assert decode([bytes(damaged)]) == TEXT


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers())
def test_members_in_a_row(parts: list[bytes], seed: int) -> None:
    """Several gzip members after each other are one body (RFC 1952), wherever the cuts fall."""
    packed = b"".join(gzip.compress(part) for part in parts)
    assert decode(cut_anywhere(packed, seed)) == b"".join(parts)


@pytest.mark.parametrize("junk", [b"x", b"\0" * 8, b"\x1f", b"\x1f\x8b", b"<html>", b"\n"])
def test_junk_after_the_end(junk: bytes) -> None:
    """Bytes after the last member are an error, in the same piece or in the next."""
    packed = gzip.compress(TEXT)
    for pieces in ([packed + junk], [packed, junk]):
        with pytest.raises(BodyError):
            decode(pieces)


@pytest.mark.parametrize("body", [b"", b"{}", b"PK\3\4", zlib.compress(TEXT), b"\x1f\x8b\x08"])
def test_what_is_no_gzip(body: bytes) -> None:
    """An empty body, plain JSON, a zip or deflate under the name of gzip is an error."""
    with pytest.raises(BodyError):
        decode([body])


@pytest.mark.parametrize("size", [STEP - 1, STEP, STEP + 1, 2 * STEP, 3 * STEP + 7])
def test_steps_are_bounded(size: int) -> None:
    """No more than 256 KiB is made at a time, and lengths around that bound lose nothing."""
    data = random.Random(size).randbytes(size // 64) * 64
    data += b"." * (size - len(data))
    decoder = GzipDecoder(ratio_limit=False)
    parts = list(decoder.feed(gzip.compress(data)))
    decoder.finish()
    assert max(map(len, parts)) <= STEP
    assert b"".join(parts) == data


def test_a_bomb_ends_early() -> None:
    """128 MiB of zeros in 130 KB are refused after about a hundred times what came, never made whole."""
    packed = gzip.compress(bytes(128 * 1024 * 1024), 9)
    decoder = GzipDecoder(ratio_limit=True)
    made = 0
    pieces = (packed[start : start + 1024] for start in range(0, len(packed), 1024))
    parts = (part for piece in pieces for part in decoder.feed(piece))
    with pytest.raises(BodyError, match="hundredfold"):  # noqa: PT012 -- what was made before it counts
        for part in parts:
            made += len(part)
    assert made <= 2 * 1024 * 1024


def test_a_log_of_equal_lines_is_no_bomb() -> None:
    """Without the ratio limit, as for traces, the same body streams in bounded steps."""
    packed = gzip.compress(bytes(8 * 1024 * 1024), 9)
    assert len(decode([packed], ratio_limit=False)) == 8 * 1024 * 1024


def test_a_large_body_may_shrink_well() -> None:
    """A list of jobs repeats itself, and is read to its end though it grew sixtyfold, from 30 kB back."""
    data = random.Random(3).randbytes(30_000) * 110
    packed = gzip.compress(data, 9)
    assert 50 * len(packed) < len(data) < 100 * len(packed)
    assert decode([packed]) == data
    assert decode(cut_anywhere(packed, 5)) == data


def test_small_bodies_may_shrink_well() -> None:
    """Below one MiB no ratio is too good."""
    data = bytes(1024 * 1024)
    assert decode([gzip.compress(data, 9)]) == data


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        (" GZIP ", "gzip"),
        ("x-gzip", "gzip"),
    ],
)
def test_encodings(header: str | None, encoding: str) -> None:
    """Plain and gzip are read."""
    assert content_encoding({} if header is None else {"content-encoding": header}) == encoding


@pytest.mark.parametrize("header", ["br", "zstd", "deflate", "gzip, gzip", "\x1b[2J"])
def test_other_encodings(header: str) -> None:
    """Another encoding than asked for is an error that names it safely."""
    with pytest.raises(BodyError, match="not asked for") as caught:
        content_encoding({"content-encoding": header})
    assert str(caught.value).isprintable()


# -- JSON -----------------------------------------------------------------------------------------

MINIMAL = b'{"id": 1, "status": "created", "name": "a"}'


def test_json_of_the_right_shape() -> None:
    """Bytes become models, in one pass."""
    assert JOB.read(MINIMAL).id == 1
    assert [job.name for job in JOBS.read(b"[" + MINIMAL + b"]")] == ["a"]
    assert JOBS.read(b" [] ") == []
    assert PROJECTS.read(b'[{"id": 1, "path_with_namespace": "g/a", "x": 1}]')[0].path_with_namespace == "g/a"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{}",
        b'{"id": "1", "status": "created", "name": "a"}',
        b'{"id": 1, "status": 5, "name": "a"}',
        b'{"id": 1, "status": "created", "name": null}',
        b'{"id": 1, "status": "created", "name": "a", "artifacts": {"a": 1}}',
        b'{"id": 1, "status": "created", "name": "a", "duration": "long"}',
        b'{"id": 1, "status": "created", "name": "a", "created_at": "yesterday"}',
        b'{"id": 1.5, "status": "created", "name": "a"}',
        b'{"id": ' + b"9" * 5000 + b', "status": "created", "name": "a"}',
        b'{"id": 1e400, "status": "created", "name": "a"}',
        MINIMAL[:-1],
        MINIMAL + b"x",
        b'{"id": 1, "status": "created", "name": "\xff"}',
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"message":"404 Not found"}',
        b"<!DOCTYPE html><html><head><title>Sign in</title>",
        b"\x1f\x8b\x08\x00",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_json_of_another_shape(body: bytes) -> None:
    """Wrong types, HTML, half documents, endless nesting and huge numbers are one kind of error."""
    with pytest.raises(BodyError, match="not the JSON of a job") as caught:
        JOB.read(body)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 700
    assert excerpt(body) in text or repr(excerpt(body)) in text


def test_json_without_a_bottom() -> None:
    """What is nested too deeply to be read is said to be that, and not a body that was cut."""
    with pytest.raises(BodyError, match="a job: nested too deeply") as caught:
        JOB.read(b'{"a":' * 100_000)
    assert not isinstance(caught.value, CutBodyError)


def test_json_that_breaks_off() -> None:
    """Half a document is a cut body, which may be asked for again; a whole wrong one is not."""
    for length in range(len(MINIMAL)):
        with pytest.raises(CutBodyError, match="not the JSON of a job"):
            JOB.read(MINIMAL[:length])
    with pytest.raises(BodyError) as caught:
        JOB.read(b"<html>")
    assert not isinstance(caught.value, CutBodyError)


def test_where_the_shape_is_wrong() -> None:
    """The message has the place of the first thing that does not fit."""
    with pytest.raises(BodyError, match=r"`\$\[1\]\.status`"):
        JOBS.read(b"[" + MINIMAL + b', {"id": 1, "name": "a", "status": null}]')


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_is_a_pipeline_or_refused(value: object) -> None:
    """No JSON document fails in another way."""
    body = json.dumps(value).encode()
    try:
        PIPELINE.read(body)
    except BodyError:
        return
    assert isinstance(value, dict)
    assert {"id", "status"} <= set(value)


def test_what_playing_answers() -> None:
    """A bridge is known by its key for the downstream pipeline, even a null one; anything else is a job."""
    assert type(read_played(MINIMAL)) is Job
    assert type(read_played(MINIMAL[:-1] + b', "downstream_pipeline": null}')) is Bridge
    assert (
        type(read_played(MINIMAL[:-1] + b', "downstream_pipeline": {"id": 1, "status": "created"}}'))
        is Bridge
    )
    for body in (b"[]", b"null", b"<html>", b'{"downstream_pipeline": null}'):
        with pytest.raises(BodyError):
            read_played(body)
