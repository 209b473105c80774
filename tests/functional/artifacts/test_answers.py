"""Every form of answer to a download, and what becomes of it: the right bytes, or an error and no file."""

from __future__ import annotations

import gzip
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
from asyncjobs._manifest import CONSTANT_ETAG, OVERLAP_BYTES
from asyncjobs._options import RetryPolicy
from asyncjobs._storage import Storage
from tests.functional.artifacts.disk import content, damage, listing, overwrite
from tests.functional.artifacts.scripted import Answer, Asked, Scripted, Step
from tests.unit.manifest.hostile_zips import honest

_CHANCE = random.Random(1)
TRUTH = honest({"a.bin": _CHANCE.randbytes(250_000), "b.txt": b"hello " * 1000})
OTHER = honest({"a.bin": _CHANCE.randbytes(250_000), "b.txt": b"hello " * 1000})
SIZE = len(TRUTH)
CUT = 100_000
AGAIN = CUT - OVERLAP_BYTES
"""Where the range of a resume begins."""
STAMP = "Tue, 03 Nov 2026 10:00:00 GMT"
LATER = "Tue, 03 Nov 2026 11:00:00 GMT"
HTML = b"<!DOCTYPE html><html>Sign in</html>"
assert len(OTHER) == SIZE


def differing_early(chance: int) -> bytes:
    """Contents that differ only before the piece that a resume compares."""
    return random.Random(chance).randbytes(20_000) + random.Random(0).randbytes(200_000)


def gzipped(data: bytes) -> bytes:
    """A gzip file in which the contents stand as they are."""
    return gzip.compress(data, compresslevel=0, mtime=0)


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


def scant(asked: Asked) -> Answer:
    """206 whose connection ends before what it promised."""
    return attrs.evolve(rest()(asked), framing="close", cut=100)


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
ZIPS = [honest({"a.bin": differing_early(chance)}) for chance in (1, 2)]
GZIPS = [gzipped(differing_early(chance)) for chance in (1, 2)]
OTHER_GZIPS = [gzipped(random.Random(chance).randbytes(220_000)) for chance in (1, 2)]
ZSTDS = [b"\x28\xb5\x2f\xfd" + random.Random(chance).randbytes(220_000) for chance in (1, 2)]
RAWS = [random.Random(chance).randbytes(220_000) for chance in (1, 2)]
GOOD = "good"
FIVE: list[int | None] = [None] * 5
"""Every attempt of the policy, and not one more."""

# label, answers (the last one repeats), outcome, ranges asked for (None for the whole), facts of the record
Row = tuple[str, list[Step], object, list[int | None] | None, dict[str, Any]]
ROWS: list[Row] = [
    ("200 with a length", [whole()], GOOD, [None], {}),
    ("200 chunked", [whole(framing="chunked")], GOOD, [None], {}),
    ("200 until close", [whole(framing="close")], GOOD, [None], {}),
    ("200 chunked, size unknown", [whole(framing="chunked")], GOOD, [None], {"size": None}),
    ("200 until close, size unknown", [whole(framing="close")], GOOD, [None], {"size": None}),
    ("until close, FIN, then right", [cut(whole(framing="close")), rest()], GOOD, [None, AGAIN], {}),
    ("until close, RST, then right", [cut(whole(framing="close"), end="rst"), rest()], GOOD, None, {}),
    ("until close, FIN for ever", [cut(whole(etag=None, framing="close"))], RequestError, None, {}),
    (
        "until close, FIN for ever, size unknown",
        [cut(whole(etag=None, framing="close"))],
        IntegrityError,
        [None, None],
        {"size": None},
    ),
    ("length, FIN, 206", [cut(), rest()], GOOD, [None, AGAIN], {}),
    ("length, RST, 206", [cut(end="rst"), rest()], GOOD, None, {}),
    ("chunked, FIN, 206", [cut(whole(framing="chunked")), rest()], GOOD, [None, AGAIN], {}),
    ("cut before the first byte", [cut(at=0), rest()], GOOD, [None, None], {}),
    (
        "cut thrice",
        [cut(), rest(until=150_000), rest(until=200_000), rest()],
        GOOD,
        [None, AGAIN, 150_000 - OVERLAP_BYTES, 200_000 - OVERLAP_BYTES],
        {},
    ),
    ("stalled, 206", [cut(end="stall"), rest()], GOOD, [None, AGAIN], {}),
    ("dripping, 206", [attrs.evolve(whole(), drip=1.0), rest()], GOOD, None, {}),
    ("200 to the range", [cut(), whole()], GOOD, [None, AGAIN], {}),
    ("206 starts early", [cut(), rest(shift=-1)], GOOD, [None, AGAIN, None], {}),
    ("206 starts late", [cut(), rest(shift=1)], GOOD, [None, AGAIN, None], {}),
    ("206 of another total", [cut(), rest(total=SIZE + 1)], GOOD, [None, AGAIN, None], {}),
    (
        "206 of another total, size unknown",
        [cut(), rest(total=SIZE + 1)],
        GOOD,
        [None, AGAIN, None],
        {"size": None},
    ),
    ("206 of unknown total", [cut(), rest(total="*")], GOOD, [None, AGAIN, None], {}),
    ("206 without Content-Range", [cut(), rest(content_range=None)], GOOD, [None, AGAIN, None], {}),
    ("206 with a garbled range", [cut(), rest(content_range="bytes x")], GOOD, [None, AGAIN, None], {}),
    ("206 of another ETag", [cut(), rest('"v2"')], GOOD, [None, AGAIN, None], {}),
    ("206 of a weak ETag", [cut(), rest('W/"v1"')], GOOD, [None, AGAIN, None], {}),
    ("206 without ETag", [cut(), rest(None)], GOOD, [None, AGAIN, None], {}),
    ("206 encoded", [cut(), rest(headers={"Content-Encoding": "gzip"})], GOOD, [None, AGAIN, None], {}),
    (
        "206 multipart",
        [cut(), rest(headers={"Content-Type": "multipart/byteranges; boundary=x"})],
        GOOD,
        [None, AGAIN, None],
        {},
    ),
    ("206 to no range", [Answer(status=206, headers={"ETag": '"v1"'}, body=TRUTH)], IntegrityError, FIVE, {}),
    ("416 elsewhere", [cut(), beyond(f"bytes */{CUT - 1}")], GOOD, [None, AGAIN, None], {}),
    ("416 without a range", [cut(), beyond("")], GOOD, [None, AGAIN, None], {}),
    (
        "416 at the end",
        [cut(whole(framing="chunked"), at=SIZE), beyond(f"bytes */{SIZE}")],
        GOOD,
        [None, SIZE - OVERLAP_BYTES, None],
        {},
    ),
    (
        "all of it, then lost",
        [cut(whole(framing="chunked"), at=SIZE), rest()],
        GOOD,
        [None, SIZE - OVERLAP_BYTES],
        {},
    ),
    (
        "206 ends inside what is here",
        [cut(), rest(until=AGAIN + 100), rest()],
        GOOD,
        [None, AGAIN, AGAIN],
        {},
    ),
    (
        "all of it, then less than was asked for again",
        [cut(whole(framing="chunked"), at=SIZE), scant, rest()],
        GOOD,
        [None, SIZE - OVERLAP_BYTES, SIZE - OVERLAP_BYTES],
        {},
    ),
    ("too little to go on with", [cut(at=OVERLAP_BYTES), rest()], GOOD, [None, None], {}),
    ("503 between", [cut(), Answer(status=503), rest()], GOOD, [None, AGAIN, AGAIN], {}),
    ("500 thrice", [*[Answer(status=500)] * 3, whole()], GOOD, [None] * 4, {}),
    ("500 for ever", [Answer(status=500)], ResponseError, None, {}),
    (
        "429 with Retry-After",
        [Answer(status=429, headers={"Retry-After": "7"}), whole()],
        GOOD,
        [None, None],
        {},
    ),
    ("403 of the API", [cut(), Answer(status=403)], ForbiddenError, [None, AGAIN], {}),
    ("404 of the API", [Answer(status=404)], ArtifactMissingError, [None], {}),
    ("304", [Answer(status=304)], ResponseError, [None], {}),
    ("replaced meanwhile", [cut(), whole(OTHER, '"v2"')], "other", [None, AGAIN], {}),
    ("no validator", [cut(whole(etag=None)), whole(etag=None)], GOOD, [None, None], {}),
    ("weak ETag", [cut(whole(etag='W/"v1"')), whole(etag='W/"v1"')], GOOD, [None, None], {}),
    ("GitLab's constant ETag", [cut(whole(etag=CONSTANT_ETAG)), whole()], GOOD, [None, None], {}),
    ("date", [cut(whole(etag=None, headers=dated)), date_rest], GOOD, [None, AGAIN], {}),
    ("date of this second", [cut(whole(etag=None, headers=fresh)), whole()], GOOD, [None, None], {}),
    ("page once", [whole(HTML, headers={"Content-Type": "text/html"}), whole()], GOOD, [None, None], {}),
    ("page for ever", [whole(HTML, headers={"Content-Type": "text/html"})], IntegrityError, FIVE, {}),
    ("page of the right size", [whole(HTML.ljust(SIZE))], IntegrityError, FIVE, {}),
    ("page, size unknown", [whole(HTML)], IntegrityError, FIVE, {"size": None}),
    ("JSON", [whole(b'{"message":"ok, but no zip"}')], IntegrityError, FIVE, {"size": None}),
    ("XML", [whole(b'<?xml version="1.0"?><Error/>')], IntegrityError, FIVE, {"size": None}),
    ("empty", [whole(b"")], IntegrityError, FIVE, {}),
    ("empty, size unknown", [whole(b"")], IntegrityError, [None, None], {"size": None}),
    ("encoded", [whole(headers={"Content-Encoding": "gzip"})], IntegrityError, FIVE, {}),
    ("shorter than the record", [whole(TRUTH[:-1])], IntegrityError, FIVE, {}),
    ("longer than the record", [whole(TRUTH + b"x")], IntegrityError, FIVE, {}),
    ("longer than the record, chunked", [whole(TRUTH + b"x", framing="chunked")], IntegrityError, FIVE, {}),
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
        FIVE,
        {"format": "raw", "size": len(HTML)},
    ),
    ("zip where gzip was announced", [whole()], IntegrityError, FIVE, {"format": "gzip"}),
    ("store", [whole(to_store=True)], GOOD, [None], {}),
    ("store, cut, 206", [cut(whole(to_store=True)), rest(to_store=True)], GOOD, [None, AGAIN], {}),
    ("store, expired once", [xml(403, "AccessDenied"), whole(to_store=True)], GOOD, [None, None], {}),
    (
        "store, cut, expired, 206",
        [cut(whole(to_store=True)), xml(403, "AccessDenied"), rest(to_store=True)],
        GOOD,
        [None, AGAIN, AGAIN],
        {},
    ),
    ("store, refused for ever", [xml(403, "AccessDenied")], ForbiddenError, [None, None], {}),
    ("store, object gone", [xml(404, "NoSuchKey")], NotFoundError, [None], {}),
    ("store, slow down", [xml(503, "SlowDown"), whole(to_store=True)], GOOD, [None, None], {}),
    ("store, 400", [xml(400, "InvalidArgument")], ResponseError, [None], {}),
]


def lying(label: str, pair: list[bytes], **facts: Any) -> Row:
    """A store that keeps a strong ETag while the object changes under it."""
    first, second = pair
    assert len(first) == len(second)
    steps: list[Step] = [cut(whole(first)), rest(raw=second, total=len(second), until=len(second))]
    return (f"lying store, {label}", steps, second, [None, AGAIN, None], {"size": len(first), **facts})


ROWS += [
    lying("zip", [TRUTH, OTHER]),
    lying("zip, the same where it is compared", ZIPS),
    lying("gzip", OTHER_GZIPS, format="gzip"),
    lying("gzip, the same where it is compared", GZIPS, format="gzip"),
    lying("gzip called zip, the same where it is compared", GZIPS),
    lying("zstd", ZSTDS),
    lying("raw", RAWS, format="raw"),
    (*lying("raw, size unknown", RAWS)[:4], {"size": None, "format": "raw"}),
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


@pytest.mark.parametrize("attempts", [1, 2, 5])
@pytest.mark.parametrize(
    "wrong", [whole(HTML), whole(TRUTH[:-1]), whole(b"no archive".ljust(SIZE)), whole(no_end)]
)
async def test_one_count_of_attempts(tmp_path: Path, attempts: int, wrong: Answer) -> None:
    """What is wrong for ever is asked for as often as the policy says and the error tells, never more."""
    storage, server = Storage(), Scripted(record(), [wrong])
    policy = RetryPolicy(attempts=attempts)
    async with server, Client(server.url, retry=policy) as client:
        with pytest.raises(IntegrityError) as caught:
            await download_artifacts(client._api, storage, 5, 1, tmp_path / "a.zip")
    await storage.aclose()
    whole_file = wrong.body == no_end
    assert len(server.asked) == (min(attempts, 2) if whole_file else attempts)
    assert ("after" in str(caught.value)) == (attempts > 1 and not whole_file)
    assert whole_file or attempts == 1 or f"(after {attempts} attempts)" in str(caught.value)
    assert listing(tmp_path) == []


async def test_attempts_before_and_after_a_wrong_file_are_one_count(tmp_path: Path) -> None:
    """A file that arrived whole and wrong does not begin the count anew."""
    refused = Answer(status=500)
    storage, server = Storage(), Scripted(record(), [refused, refused, whole(no_end), refused])
    async with server, Client(server.url) as client:
        with pytest.raises(ResponseError, match="after 5 attempts"):
            await download_artifacts(client._api, storage, 5, 1, tmp_path / "a.zip")
    await storage.aclose()
    assert len(server.asked) == 5


async def test_store_that_lies_again_and_again_is_given_up(tmp_path: Path) -> None:
    """An object that changes under its ETag at every attempt ends in an error, and nothing is kept."""
    objects = [honest({"a.bin": random.Random(chance).randbytes(250_000)}) for chance in range(9)]
    asked = iter(objects)

    def step(request: Asked) -> Answer:
        raw = next(asked)
        if request.start is None:
            return cut(whole(raw))
        return rest(raw=raw, total=len(raw), until=len(raw))(request)

    storage = Storage()
    async with Scripted(record(len(objects[0])), [step]) as server, Client(server.url) as client:
        with pytest.raises(IntegrityError, match="keeps changing"):
            await download_artifacts(client._api, storage, 5, 1, tmp_path / "a.zip")
    await storage.aclose()
    assert listing(tmp_path) == []


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
    assert [asked.start for asked in server.asked] == [None, AGAIN, AGAIN]
    assert listing(tmp_path) == ["a.zip"]


async def test_damaged_leftover_is_noticed_by_the_member_checksums(tmp_path: Path) -> None:
    """Bytes that changed on the disk between two runs never get the final name: all is fetched again."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        damage(tmp_path, ".part", CUT // 2)
        await _succeeds(server, dest)
    assert [asked.start for asked in server.asked] == [None, AGAIN, AGAIN, None]


@pytest.mark.parametrize("record_text", ["", "{}", "[]", '{"key":1}', '{"key":"k","data":"../x.part"}', "\0"])
async def test_damaged_record_starts_over(tmp_path: Path, record_text: str) -> None:
    """A record that cannot be read, or that names a file which is not ours, is not believed."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        overwrite(tmp_path, ".part.json", record_text)
        await _succeeds(server, dest)
    assert [asked.start for asked in server.asked] == [None, AGAIN, None]


async def test_leftover_of_another_job_is_not_gone_on_with(tmp_path: Path) -> None:
    """A partial file belongs to one job: the same destination for another job starts over."""
    dest = tmp_path / "a.zip"
    async with Scripted(record(), [cut(), Answer(status=403), rest()]) as server:
        await _fails(server, dest)
        await _succeeds(server, dest, job_id=2)
    assert [asked.start for asked in server.asked] == [None, AGAIN, None]
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
