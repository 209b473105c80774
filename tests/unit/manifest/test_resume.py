"""The table of answers to a download request, row by row; and the piece that must come again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._manifest import (
    CONSTANT_ETAG,
    Held,
    Overlap,
    Resume,
    decide,
    parse_content_range,
    sha256_of,
    usable_validator,
)

TAG = '"v1"'
STAMP = "Tue, 03 Nov 2026 10:00:00 GMT"
FRESH = Held(expected=1000)
PART = Held(length=450, start=400, total=1000, validator=TAG, expected=1000)
BLIND = Held(length=450, start=400, total=1000, validator=TAG)
DATED = Held(length=450, start=400, total=1000, validator=STAMP)
WHOLE = Held(length=1000, start=950, total=1000, validator=TAG)
UNTOLD = Held(length=450, start=400, validator=TAG)

ROWS = [
    ("fresh 200", FRESH, 200, {"content-length": "1000"}, Resume.START),
    ("fresh 200 without a length", FRESH, 200, {}, Resume.START),
    ("fresh 200, another length than the record", FRESH, 200, {"content-length": "999"}, Resume.REFUSE),
    ("fresh 200, unknown size", Held(), 200, {"content-length": "5"}, Resume.START),
    ("fresh 200, gzip on the wire", FRESH, 200, {"content-encoding": "gzip"}, Resume.REFUSE),
    ("fresh 200, identity said aloud", FRESH, 200, {"content-encoding": "identity"}, Resume.START),
    ("fresh 206", FRESH, 206, {"content-range": "bytes 0-999/1000", "etag": TAG}, Resume.REFUSE),
    ("fresh 416", FRESH, 416, {"content-range": "bytes */1000"}, Resume.REFUSE),
    ("fresh 304", FRESH, 304, {}, Resume.REFUSE),
    ("206 right", PART, 206, {"content-range": "bytes 400-999/1000", "etag": TAG}, Resume.APPEND),
    (
        "206 by date",
        DATED,
        206,
        {"content-range": "bytes 400-999/1000", "last-modified": STAMP},
        Resume.APPEND,
    ),
    (
        "206 right, its length said aloud",
        PART,
        206,
        {"content-range": "bytes 400-999/1000", "etag": TAG, "content-length": "600"},
        Resume.APPEND,
    ),
    ("206 in part", PART, 206, {"content-range": "bytes 400-699/1000", "etag": TAG}, Resume.APPEND),
    ("206 starts early", PART, 206, {"content-range": "bytes 0-999/1000", "etag": TAG}, Resume.ASK_AGAIN),
    ("206 starts late", PART, 206, {"content-range": "bytes 401-999/1000", "etag": TAG}, Resume.ASK_AGAIN),
    (
        "206 of another total",
        PART,
        206,
        {"content-range": "bytes 400-998/999", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    (
        "206 of another total than before",
        BLIND,
        206,
        {"content-range": "bytes 400-998/999", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    (
        "206 of another total than the record",
        Held(length=450, start=400, validator=TAG, expected=1000),
        206,
        {"content-range": "bytes 400-998/999", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    (
        "206 where nothing was to vouch for it",
        Held(length=450, start=400, total=1000),
        206,
        {"content-range": "bytes 400-999/1000"},
        Resume.ASK_AGAIN,
    ),
    ("206 to the whole", Held(length=450), 206, {"content-range": "bytes 0-9/10"}, Resume.ASK_AGAIN),
    ("416 to the whole", Held(length=450), 416, {"content-range": "bytes */10"}, Resume.ASK_AGAIN),
    ("206 of unknown total", PART, 206, {"content-range": "bytes 400-999/*", "etag": TAG}, Resume.ASK_AGAIN),
    ("206 without a range", PART, 206, {"etag": TAG}, Resume.ASK_AGAIN),
    ("206 with a broken range", PART, 206, {"content-range": "400-999", "etag": TAG}, Resume.ASK_AGAIN),
    ("206 backwards", PART, 206, {"content-range": "bytes 999-400/1000", "etag": TAG}, Resume.ASK_AGAIN),
    (
        "206 past its total",
        PART,
        206,
        {"content-range": "bytes 400-1000/1000", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    (
        "206 of another ETag",
        PART,
        206,
        {"content-range": "bytes 400-999/1000", "etag": '"v2"'},
        Resume.ASK_AGAIN,
    ),
    (
        "206 of a weak ETag",
        PART,
        206,
        {"content-range": "bytes 400-999/1000", "etag": 'W/"v1"'},
        Resume.ASK_AGAIN,
    ),
    ("206 without an ETag", PART, 206, {"content-range": "bytes 400-999/1000"}, Resume.ASK_AGAIN),
    ("206 by date, other date", DATED, 206, {"content-range": "bytes 400-999/1000"}, Resume.ASK_AGAIN),
    (
        "206 with a lying length",
        PART,
        206,
        {"content-range": "bytes 400-999/1000", "etag": TAG, "content-length": "10"},
        Resume.ASK_AGAIN,
    ),
    (
        "206 encoded",
        PART,
        206,
        {"content-range": "bytes 400-999/1000", "etag": TAG, "content-encoding": "gzip"},
        Resume.ASK_AGAIN,
    ),
    (
        "206 in several parts",
        PART,
        206,
        {"content-type": "multipart/byteranges; boundary=x"},
        Resume.ASK_AGAIN,
    ),
    (
        "206 in several parts, with a range",
        PART,
        206,
        {"content-type": "Multipart/byteranges", "content-range": "bytes 400-999/1000", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    ("200 to a range", PART, 200, {"content-length": "1000", "etag": TAG}, Resume.REWRITE),
    ("200 to a range, replaced", BLIND, 200, {"content-length": "700", "etag": '"v2"'}, Resume.REWRITE),
    ("200 to a range, not the recorded size", PART, 200, {"content-length": "700"}, Resume.REFUSE),
    ("200 to a range, encoded", PART, 200, {"content-encoding": "br"}, Resume.ASK_AGAIN),
    ("206, all of it known", WHOLE, 206, {"content-range": "bytes 950-999/1000", "etag": TAG}, Resume.APPEND),
    (
        "206, less than is here",
        UNTOLD,
        206,
        {"content-range": "bytes 400-419/420", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    (
        "206 begins where ours end",
        PART,
        206,
        {"content-range": "bytes 450-999/1000", "etag": TAG},
        Resume.ASK_AGAIN,
    ),
    ("416 at the end", WHOLE, 416, {"content-range": "bytes */1000"}, Resume.ASK_AGAIN),
    ("416 elsewhere", PART, 416, {"content-range": "bytes */300"}, Resume.ASK_AGAIN),
    (
        "416 at our length, total unknown",
        UNTOLD,
        416,
        {"content-range": "bytes */400"},
        Resume.ASK_AGAIN,
    ),
    ("416 at our length, total larger", PART, 416, {"content-range": "bytes */400"}, Resume.ASK_AGAIN),
    ("416 without a range", WHOLE, 416, {}, Resume.ASK_AGAIN),
    ("416 with a body's range", WHOLE, 416, {"content-range": "bytes 0-9/1000"}, Resume.ASK_AGAIN),
    ("304 to a range", PART, 304, {}, Resume.REFUSE),
]


@pytest.mark.parametrize(
    ("held", "status", "headers", "word"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_answer_table(held: Held, status: int, headers: dict[str, str], word: Resume) -> None:
    """Each form of answer has exactly one word, and the odd ones never append."""
    assert decide(held, status, headers).word is word


@given(
    st.sampled_from([200, 206, 304, 416]),
    st.sampled_from([None, "bytes 400-999/1000", "bytes */1000", "bytes 0-5/6", "bytes 400-400/*", "x"]),
    st.sampled_from([None, TAG, '"v2"', 'W/"v1"', CONSTANT_ETAG]),
    st.sampled_from([None, "600", "1000", "-1", "x"]),
    st.sampled_from([None, "identity", "gzip"]),
)
def test_only_a_perfect_206_appends(
    status: int, content_range: str | None, etag: str | None, length: str | None, encoding: str | None
) -> None:
    """Over every mixture of headers, append means 206, our start, our total, our validator, no encoding."""
    pairs = zip(
        ("content-range", "etag", "content-length", "content-encoding"),
        (content_range, etag, length, encoding),
        strict=True,
    )
    headers = {name: value for name, value in pairs if value is not None}
    perfect = (
        status == 206
        and content_range == "bytes 400-999/1000"
        and etag == TAG
        and length != "1000"
        and encoding != "gzip"
    )
    assert (decide(PART, status, headers).word is Resume.APPEND) == perfect


def test_append_announces_the_total() -> None:
    """The decision carries the length of the whole, so a short body is noticed."""
    decision = decide(PART, 206, {"content-range": "bytes 400-699/1000", "etag": TAG})
    assert decision.total == 1000


@pytest.mark.parametrize(
    ("held", "headers", "total"),
    [
        (Held(), {}, None),
        (Held(), {"content-length": "5"}, 5),
        (FRESH, {}, 1000),
        (Held(length=5, expected=1000), {"content-length": "1000"}, 1000),
        (Held(length=5), {"content-length": "7"}, 7),
    ],
)
def test_the_whole_announces_its_length(held: Held, headers: dict[str, str], total: int | None) -> None:
    """By its own header, else by the job record: a body that ends early is noticed either way."""
    assert decide(held, 200, headers).total == total


@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(0, 80), max_size=8))
def test_overlap_is_taken_off_however_the_body_is_cut(known: bytes, rest: bytes, cuts: list[int]) -> None:
    """At any split of a body that begins with what is known, exactly the rest is new."""
    body = known + rest
    edges = [0, *sorted(min(each, len(body)) for each in cuts), len(body)]
    overlap, new = Overlap(known), b""
    for first, last in pairwise(edges):
        assert overlap.is_met is (first >= len(known))
        fresh = overlap.strip(body[first:last])
        assert fresh is not None
        new += fresh
    assert (new, overlap.is_met) == (rest, True)


@given(st.binary(min_size=1, max_size=40), st.data(), st.integers(1, 50))
def test_overlap_that_differs_in_one_bit_is_none(known: bytes, data: st.DataObject, step: int) -> None:
    """One other bit in the piece that is known already, and the body is of another file."""
    at = data.draw(st.integers(0, len(known) - 1))
    body = bytearray(known + b"rest")
    body[at] ^= 1 << data.draw(st.integers(0, 7))
    overlap = Overlap(known)
    found = [overlap.strip(bytes(body[start : start + step])) for start in range(0, at + 1, step)]
    assert found[-1] is None
    assert not overlap.is_met


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({}, None),
        ({"etag": '"abc"'}, '"abc"'),
        ({"etag": 'W/"abc"'}, None),
        ({"etag": CONSTANT_ETAG}, None),
        ({"etag": "abc"}, None),
        ({"etag": '"a", "b"'}, None),
        ({"last-modified": STAMP}, None),
        ({"last-modified": STAMP, "date": STAMP}, None),
        ({"last-modified": STAMP, "date": "Tue, 03 Nov 2026 10:00:01 GMT"}, STAMP),
        ({"last-modified": "yesterday", "date": STAMP}, None),
        ({"etag": CONSTANT_ETAG, "last-modified": STAMP, "date": "Tue, 03 Nov 2026 11:00:00 GMT"}, STAMP),
    ],
)
def test_validators(headers: dict[str, str], validator: str | None) -> None:
    """Only strong ETags and dates old enough may vouch for a resume; GitLab's constant one never."""
    assert usable_validator(headers) == validator


def test_only_the_api_may_send_a_checksum() -> None:
    """A 64-hex strong ETag is the archive's SHA-256 from the API, and just a validator from a store."""
    tag = {"etag": '"' + "ab" * 32 + '"'}
    assert sha256_of(tag, from_api=True) == "ab" * 32
    assert sha256_of(tag, from_api=False) is None
    assert sha256_of({"etag": "W/" + tag["etag"]}, from_api=True) is None
    assert sha256_of({"etag": '"' + "ab" * 16 + '"'}, from_api=True) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "bytes",
        "bytes 1-2",
        "bytes */*",
        "bytes 5-4/9",
        "bytes 0-9/9",
        "items 0-1/2",
        "bytes -1-2/3",
        "bytes 1-2/3x",
    ],
)
def test_bad_content_ranges_are_nothing(text: str | None) -> None:
    """A Content-Range that contradicts itself is treated as absent."""
    assert parse_content_range(text) is None
