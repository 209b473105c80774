"""Every form of answer to a download, and what becomes of it: the right bytes, or an error and no file."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from asyncjobs._artifacts import download_artifacts
from asyncjobs._client import Client
from asyncjobs._errors import (
    ArtifactMissingError,
    AsyncJobsError,
    ForbiddenError,
    IntegrityError,
    NotFoundError,
    RequestError,
    ResponseError,
)
from asyncjobs._manifest import CONSTANT_ETAG
from asyncjobs._storage import Storage
from tests.functional.artifacts.disk import content, damage, listing, overwrite
from tests.functional.artifacts.scripted import Answer, Asked, Scripted, Step
from tests.unit.manifest.hostile_zips import honest

_CHANCE = random.Random(1)
TRUTH = honest({"a.bin": _CHANCE.randbytes(250_000), "b.txt": b"hello " * 1000})
OTHER = honest({"a.bin": _CHANCE.randbytes(250_000), "b.txt": b"hello " * 1000})
SIZE = len(TRUTH)
CUT = 100_000
STAMP = "Tue, 03 Nov 2026 10:00:00 GMT"
LATER = "Tue, 03 Nov 2026 11:00:00 GMT"
HTML = b"<!DOCTYPE html><html>Sign in</html>"
assert len(OTHER) == SIZE


def whole(raw: bytes = TRUTH, etag: str | None = '"v1"', **more: Any) -> Answer:
    """200 with everything."""
    headers = {"Content-Type": "application/octet-stream", **more.pop("headers", {})}
    if etag is not None:
        headers["ETag"] = etag
    return Answer(headers=headers, body=raw, **more)


def cut(answer: Answer | None = None, at: int = CUT, end: Any = "fin") -> Answer:
    """The same, broken off."""
    return attrs.evolve(answer or whole(), cut=at, end=end)


def rest(
    etag: str | None = '"v1"',
    *,
    shift: int = 0,
    total: object = SIZE,
    until: int = SIZE,
    raw: bytes = TRUTH,
    content_range: str | None = "",
    **more: Any,
) -> Callable[[Asked], Answer]:
    """206 with the rest, or a 206 that lies in one respect; 200 when no range was asked for."""

    def answer(asked: Asked) -> Answer:
        if asked.start is None:
            return whole(raw, etag)
        start = asked.start + shift
        headers = {"Content-Type": "application/octet-stream", **more.get("headers", {})}
        if etag is not None:
            headers["ETag"] = etag
        if content_range is not None:
            headers["Content-Range"] = content_range or f"bytes {start}-{until - 1}/{total}"
        return Answer(
            status=206, headers=headers, body=raw[start:until], to_store=more.get("to_store", False)
        )

    return answer


def beyond(content_range: str) -> Callable[[Asked], Answer]:
    """416 to a range, 200 to none."""

    def answer(asked: Asked) -> Answer:
        if asked.start is None:
            return whole()
        return Answer(status=416, headers={"Content-Range": content_range})

    return answer


def date_rest(asked: Asked) -> Answer:
    """A server with dates alone."""
    headers = {"Last-Modified": STAMP, "Date": LATER}
    if asked.start is None:
        return whole(etag=None, headers=headers)
    assert asked.headers["if-range"] == STAMP
    return rest(None, headers=headers)(asked)


def xml(status: int, code: str) -> Answer:
    """An object store's refusal."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()
    return Answer(status=status, headers={"Content-Type": "application/xml"}, body=body, to_store=True)


def hexed(raw: bytes) -> str:
    """The ETag of newer servers: the archive's SHA-256."""
    return f'"{hashlib.sha256(raw).hexdigest()}"'


dated = {"Last-Modified": STAMP, "Date": LATER}
fresh = {"Last-Modified": STAMP, "Date": STAMP}
no_end = TRUTH[:-30] + b"\0" * 30
gz = b"\x1f\x8b" + TRUTH[2:]
zstd = b"\x28\xb5\x2f\xfd" + TRUTH[4:]
GOOD = "good"

# label, answers (the last one repeats), outcome, ranges asked for (None for the whole), facts of the record
Row = tuple[str, list[Step], object, list[int | None] | None, dict[str, Any]]
ROWS: list[Row] = [
    ("200 with a length", [whole()], GOOD, [None], {}),
    ("200 chunked", [whole(framing="chunked")], GOOD, [None], {}),
    ("200 until close", [whole(framing="close")], GOOD, [None], {}),
    ("200 chunked, size unknown", [whole(framing="chunked")], GOOD, [None], {"size": None}),
    ("200 until close, size unknown", [whole(framing="close")], GOOD, [None], {"size": None}),
    ("until close, FIN, then right", [cut(whole(framing="close")), rest()], GOOD, [None, CUT], {}),
    ("until close, RST, then right", [cut(whole(framing="close"), end="rst"), rest()], GOOD, None, {}),
    ("until close, FIN for ever", [cut(whole(etag=None, framing="close"))], RequestError, None, {}),
    (
        "until close, FIN for ever, size unknown",
        [cut(whole(etag=None, framing="close"))],
        IntegrityError,
        [None, None],
        {"size": None},
    ),
    ("length, FIN, 206", [cut(), rest()], GOOD, [None, CUT], {}),
    ("length, RST, 206", [cut(end="rst"), rest()], GOOD, None, {}),
    ("chunked, FIN, 206", [cut(whole(framing="chunked")), rest()], GOOD, [None, CUT], {}),
    ("cut before the first byte", [cut(at=0), rest()], GOOD, [None, None], {}),
    (
        "cut thrice",
        [cut(), rest(until=150_000), rest(until=200_000), rest()],
        GOOD,
        [None, CUT, 150_000, 200_000],
        {},
    ),
    ("stalled, 206", [cut(end="stall"), rest()], GOOD, [None, CUT], {}),
    ("dripping, 206", [attrs.evolve(whole(), drip=1.0), rest()], GOOD, None, {}),
    ("200 to the range", [cut(), whole()], GOOD, [None, CUT], {}),
    ("206 starts early", [cut(), rest(shift=-1)], GOOD, [None, CUT, None], {}),
    ("206 starts late", [cut(), rest(shift=1)], GOOD, [None, CUT, None], {}),
    ("206 of another total", [cut(), rest(total=SIZE + 1)], GOOD, [None, CUT, None], {}),
    (
        "206 of another total, size unknown",
        [cut(), rest(total=SIZE + 1)],
        GOOD,
        [None, CUT, None],
        {"size": None},
    ),
    ("206 of unknown total", [cut(), rest(total="*")], GOOD, [None, CUT, None], {}),
    ("206 without Content-Range", [cut(), rest(content_range=None)], GOOD, [None, CUT, None], {}),
    ("206 with a garbled range", [cut(), rest(content_range="bytes x")], GOOD, [None, CUT, None], {}),
    ("206 of another ETag", [cut(), rest('"v2"')], GOOD, [None, CUT, None], {}),
    ("206 of a weak ETag", [cut(), rest('W/"v1"')], GOOD, [None, CUT, None], {}),
    ("206 without ETag", [cut(), rest(None)], GOOD, [None, CUT, None], {}),
    ("206 encoded", [cut(), rest(headers={"Content-Encoding": "gzip"})], GOOD, [None, CUT, None], {}),
    (
        "206 multipart",
        [cut(), rest(headers={"Content-Type": "multipart/byteranges; boundary=x"})],
        GOOD,
        [None, CUT, None],
        {},
    ),
    ("206 to no range", [Answer(status=206, headers={"ETag": '"v1"'}, body=TRUTH)], IntegrityError, None, {}),
    ("416 elsewhere", [cut(), beyond(f"bytes */{CUT - 1}")], GOOD, [None, CUT, None], {}),
    ("416 without a range", [cut(), beyond("")], GOOD, [None, CUT, None], {}),
    (
        "416 at the end",
        [cut(whole(framing="chunked"), at=SIZE), beyond(f"bytes */{SIZE}")],
        GOOD,
        [None, SIZE],
        {},
    ),
    ("503 between", [cut(), Answer(status=503), rest()], GOOD, [None, CUT, CUT], {}),
    ("500 thrice", [*[Answer(status=500)] * 3, whole()], GOOD, [None] * 4, {}),
    ("500 for ever", [Answer(status=500)], ResponseError, None, {}),
    (
        "429 with Retry-After",
        [Answer(status=429, headers={"Retry-After": "7"}), whole()],
        GOOD,
        [None, None],
        {},
    ),
    ("403 of the API", [cut(), Answer(status=403)], ForbiddenError, [None, CUT], {}),
    ("404 of the API", [Answer(status=404)], NotFoundError, [None], {}),
    ("304", [Answer(status=304)], ResponseError, [None], {}),
    ("replaced meanwhile", [cut(), whole(OTHER, '"v2"')], "other", [None, CUT], {}),
    ("no validator", [cut(whole(etag=None)), whole(etag=None)], GOOD, [None, None], {}),
    ("weak ETag", [cut(whole(etag='W/"v1"')), whole(etag='W/"v1"')], GOOD, [None, None], {}),
    ("GitLab's constant ETag", [cut(whole(etag=CONSTANT_ETAG)), whole()], GOOD, [None, None], {}),
    ("date", [cut(whole(etag=None, headers=dated)), date_rest], GOOD, [None, CUT], {}),
    ("date of this second", [cut(whole(etag=None, headers=fresh)), whole()], GOOD, [None, None], {}),
    ("page once", [whole(HTML, headers={"Content-Type": "text/html"}), whole()], GOOD, [None, None], {}),
    ("page for ever", [whole(HTML, headers={"Content-Type": "text/html"})], IntegrityError, None, {}),
    ("page of the right size", [whole(HTML.ljust(SIZE))], IntegrityError, None, {}),
    ("page, size unknown", [whole(HTML)], IntegrityError, None, {"size": None}),
    ("JSON", [whole(b'{"message":"ok, but no zip"}')], IntegrityError, None, {"size": None}),
    ("XML", [whole(b'<?xml version="1.0"?><Error/>')], IntegrityError, None, {"size": None}),
    ("empty", [whole(b"")], IntegrityError, None, {}),
    ("empty, size unknown", [whole(b"")], IntegrityError, None, {"size": None}),
    ("encoded", [whole(headers={"Content-Encoding": "gzip"})], IntegrityError, None, {}),
    ("shorter than the record", [whole(TRUTH[:-1])], IntegrityError, None, {}),
    ("longer than the record", [whole(TRUTH + b"x")], IntegrityError, None, {}),
    ("longer than the record, chunked", [whole(TRUTH + b"x", framing="chunked")], IntegrityError, None, {}),
    ("a zip without its end", [whole(no_end)], IntegrityError, [None, None], {}),
    ("a zip without its end, size unknown", [whole(no_end)], IntegrityError, [None, None], {"size": None}),
    ("SHA-256 as ETag", [whole(etag=hexed(TRUTH))], GOOD, [None], {}),
    ("another SHA-256 as ETag", [whole(etag=hexed(OTHER))], IntegrityError, [None, None], {}),
    (
        "another SHA-256 once",
        [whole(OTHER, etag=hexed(TRUTH)), whole(etag=hexed(TRUTH))],
        GOOD,
        [None, None],
        {},
    ),
    ("gzip archive", [whole(gz)], gz, [None], {"format": "gzip"}),
    ("zstd archive called zip", [whole(zstd)], zstd, [None], {"format": "zip"}),
    ("raw file", [whole(HTML)], HTML, [None], {"format": "raw", "size": len(HTML)}),
    (
        "raw file, longer than the record, chunked",
        [whole(HTML + b"x", framing="chunked")],
        IntegrityError,
        None,
        {"format": "raw", "size": len(HTML)},
    ),
    ("zip where gzip was announced", [whole()], IntegrityError, None, {"format": "gzip"}),
    ("store", [whole(to_store=True)], GOOD, [None], {}),
    ("store, cut, 206", [cut(whole(to_store=True)), rest(to_store=True)], GOOD, [None, CUT], {}),
    ("store, expired once", [xml(403, "AccessDenied"), whole(to_store=True)], GOOD, [None, None], {}),
    (
        "store, cut, expired, 206",
        [cut(whole(to_store=True)), xml(403, "AccessDenied"), rest(to_store=True)],
        GOOD,
        [None, CUT, CUT],
        {},
    ),
    ("store, refused for ever", [xml(403, "AccessDenied")], ForbiddenError, [None, None], {}),
    ("store, object gone", [xml(404, "NoSuchKey")], NotFoundError, [None], {}),
    ("store, slow down", [xml(503, "SlowDown"), whole(to_store=True)], GOOD, [None, None], {}),
    ("store, 400", [xml(400, "InvalidArgument")], ResponseError, [None], {}),
]


def record(size: int | None = SIZE, format: str = "zip") -> dict[str, Any]:  # noqa: A002 -- the API's word
    """The job's record."""
    named = {} if size is None else {"size": size}
    return {
        "id": 1,
        "status": "success",
        "name": "test",
        "artifacts_file": {"filename": "artifacts.zip", **named},
        "artifacts": [{"file_type": "archive", "file_format": format, **named}],
    }


@pytest.mark.parametrize(
    ("steps", "outcome", "ranges", "facts"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
async def test_answer(
    tmp_path: Path, steps: list[Step], outcome: object, ranges: list[int | None] | None, facts: dict[str, Any]
) -> None:
    """The file is exactly what the server has, or there is no file and an error of the right kind."""
    dest = tmp_path / "a.zip"
    storage = Storage()
    async with (
        Scripted(record(**facts), steps) as server,
        Client(server.url, private_token="canary-token") as client,
    ):
        found: AsyncJobsError | None = None
        try:
            file = await download_artifacts(client._api, storage, 5, 1, dest)
        except AsyncJobsError as error:
            found = error
    await storage.aclose()
    if isinstance(outcome, type):
        assert isinstance(found, outcome), found
        assert not dest.exists()
    else:
        assert found is None, found
        expected = (
            {GOOD: TRUTH, "other": OTHER}.get(outcome, outcome) if isinstance(outcome, str) else outcome
        )
        assert content(dest) == expected
        assert file.sha256 == hashlib.sha256(content(dest)).hexdigest()
        assert listing(tmp_path) == ["a.zip"]
    if ranges is not None:
        assert [asked.start for asked in server.asked] == ranges
    for asked in server.asked:
        assert asked.headers["accept-encoding"] == "identity"
        assert ("if-range" in asked.headers) == (asked.start is not None)
    for asked in server.stored:
        assert "canary-token" not in repr(asked)


def test_the_matrix_is_large_enough() -> None:
    """At least forty forms of answers are tried, each under its own name."""
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 40


async def test_file_that_keeps_changing_is_given_up(tmp_path: Path) -> None:
    """An object rewritten under every attempt ends in an error instead of a chase."""
    versions = [cut(whole(OTHER, f'"v{number}"')) for number in range(9)]
    storage = Storage()
    async with Scripted(record(), versions) as server, Client(server.url) as client:
        with pytest.raises(IntegrityError, match="keeps changing"):
            await download_artifacts(client._api, storage, 5, 1, tmp_path / "a.zip")
    await storage.aclose()
    assert listing(tmp_path) == []


@pytest.mark.parametrize(("erased", "reason"), [(True, "erased"), (False, "none")])
async def test_missing_archive_says_why(tmp_path: Path, erased: bool, reason: str) -> None:
    """A job without an archive is an error with its reason, and the archive is not even asked for."""
    job: dict[str, Any] = {"id": 1, "status": "success", "name": "test"}
    if erased:
        job["erased_at"] = "2026-11-01T00:00:00.000Z"
    storage = Storage()
    async with Scripted(job, [whole()]) as server, Client(server.url) as client:
        with pytest.raises(ArtifactMissingError) as caught:
            await download_artifacts(client._api, storage, 5, 1, tmp_path / "a.zip")
    await storage.aclose()
    assert caught.value.reason == reason
    assert server.asked == []


async def test_next_call_goes_on_where_the_last_one_failed(tmp_path: Path) -> None:
    """A download that was given up leaves a partial file, and the next call asks only for the rest."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        assert not dest.exists()
        assert len(listing(tmp_path)) == 2
        await _succeeds(server, dest)
    assert [asked.start for asked in server.asked] == [None, CUT, CUT]
    assert listing(tmp_path) == ["a.zip"]


async def test_damaged_leftover_is_noticed_by_the_member_checksums(tmp_path: Path) -> None:
    """Bytes that changed on the disk between two runs never get the final name: all is fetched again."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        damage(tmp_path, ".part", CUT // 2)
        await _succeeds(server, dest)
    assert [asked.start for asked in server.asked] == [None, CUT, CUT, None]


@pytest.mark.parametrize("record_text", ["", "{}", "[]", '{"key":1}', '{"key":"k","data":"../x.part"}', "\0"])
async def test_damaged_record_starts_over(tmp_path: Path, record_text: str) -> None:
    """A record that cannot be read, or that names a file which is not ours, is not believed."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        overwrite(tmp_path, ".part.json", record_text)
        await _succeeds(server, dest)
    assert [asked.start for asked in server.asked] == [None, CUT, None]


async def test_leftover_of_another_job_is_not_gone_on_with(tmp_path: Path) -> None:
    """A partial file belongs to one job: the same destination for another job starts over."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        await _succeeds(server, dest, job_id=2)
    assert [asked.start for asked in server.asked] == [None, CUT, None]
    assert listing(tmp_path) == ["a.zip"]


async def _fails(server: Scripted, dest: Path) -> None:
    storage = Storage()
    async with Client(server.url) as client:
        with pytest.raises(ForbiddenError):
            await download_artifacts(client._api, storage, 5, 1, dest)
    await storage.aclose()


async def _succeeds(server: Scripted, dest: Path, job_id: int = 1) -> None:
    storage = Storage()
    async with Client(server.url) as client:
        await download_artifacts(client._api, storage, 5, job_id, dest)
    await storage.aclose()
    assert content(dest) == TRUTH
