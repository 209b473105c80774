"""A body that ends with its connection may be anything of the right length: its checksums are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs._artifacts import download_artifacts
from asyncjobs._client import Client
from asyncjobs._errors import IntegrityError
from asyncjobs._manifest import check_zip
from asyncjobs._storage import Storage
from tests.functional.artifacts.disk import content, listing
from tests.functional.artifacts.scripted import Scripted
from tests.functional.artifacts.test_answers import TRUTH, gzipped, record, whole

GZIP = gzipped(bytes(range(256)) * 400)


def flipped(raw: bytes) -> bytes:
    """The same with one bit of its contents changed: only a checksum can tell."""
    changed = bytearray(raw)
    changed[50_000] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(("truth", "file_format"), [(TRUTH, "zip"), (GZIP, "gzip")])
@pytest.mark.parametrize("then", ["wrong for ever", "right"])
async def test_a_body_without_a_proven_end_is_checked_before_it_gets_its_name(
    tmp_path: Path, truth: bytes, file_format: str, then: str
) -> None:
    """Bytes that only their checksum tells from the file never get its name, whatever their number."""
    wrong = flipped(truth)
    if file_format == "zip":
        check_zip(lambda offset, count: wrong[offset : offset + count], len(wrong))  # whole by its structure
    steps = [whole(wrong, etag=None, framing="close")]
    if then == "right":
        steps.append(whole(truth, etag=None, framing="close"))
    storage = Storage()
    server = Scripted(record(size=len(truth), format=file_format), steps)
    async with server, Client(server.url) as client:
        if then == "right":
            await download_artifacts(client._api, storage, 5, 1, tmp_path / "a")
            assert content(tmp_path / "a") == truth
            assert listing(tmp_path) == ["a"]
        else:
            with pytest.raises(IntegrityError):
                await download_artifacts(client._api, storage, 5, 1, tmp_path / "a")
            assert listing(tmp_path) == []
    await storage.aclose()
