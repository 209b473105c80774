"""One word for each archive, one reason for each that is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asyncjobs._errors import IntegrityError
from asyncjobs._manifest import (
    Action,
    Kind,
    OnDisk,
    Remembered,
    check_kind,
    choose_action,
    lost_reason,
    missing_reason,
    recognise,
    remote_size,
)
from asyncjobs._models import ArtifactsFile, Job, JobArtifact, JobStatus

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROW = Remembered(job_id=1, remote_size=100, size=100, mtime_ns=5, sha256="aa")
PLACING = Remembered(job_id=1, remote_size=100, size=100, mtime_ns=5, sha256="aa", complete=False)


@pytest.mark.parametrize(
    ("remembered", "on_disk", "size", "verify", "action"),
    [
        (None, None, 100, False, Action.DOWNLOAD),
        (None, OnDisk(100, 5), 100, False, Action.DOWNLOAD),
        (ROW, OnDisk(100, 5), 100, False, Action.KEEP),
        (ROW, OnDisk(100, 5), None, False, Action.KEEP),
        (ROW, OnDisk(100, 6), 100, False, Action.REHASH),
        (ROW, OnDisk(100, 5), 100, True, Action.REHASH),
        (ROW, OnDisk(100, 6, "aa"), 100, True, Action.RECORD),
        (ROW, OnDisk(100, 5, "aa"), 100, True, Action.KEEP),
        (ROW, OnDisk(100, 5, "bb"), 100, True, Action.REPAIR),
        (ROW, OnDisk(99, 5), 100, False, Action.REPAIR),
        (ROW, None, 100, False, Action.REPAIR),
        (ROW, OnDisk(100, 5), 200, False, Action.UPDATE),
        (PLACING, OnDisk(100, 5), 100, False, Action.REHASH),
        (PLACING, OnDisk(100, 5, "aa"), 100, False, Action.RECORD),
        (PLACING, None, 100, False, Action.DOWNLOAD),
        (PLACING, OnDisk(3, 5), 100, False, Action.DOWNLOAD),
    ],
)
def test_actions(
    remembered: Remembered | None, on_disk: OnDisk | None, size: int | None, verify: bool, action: Action
) -> None:
    """Each mixture of record, disk and server has one action."""
    assert choose_action(job_id=1, size=size, remembered=remembered, on_disk=on_disk, verify=verify) is action


def test_row_of_another_job_counts_for_nothing() -> None:
    """A path that another job had before is downloaded anew; only what is asked for is hashed."""
    assert choose_action(job_id=1, size=100, remembered=ROW, on_disk=OnDisk(100, 5)) is Action.KEEP
    assert choose_action(job_id=2, size=100, remembered=ROW, on_disk=OnDisk(100, 5)) is Action.DOWNLOAD


def job(**facts: Any) -> Job:
    """A successful job."""
    known: dict[str, Any] = {"id": 1, "status": JobStatus.SUCCESS, "name": "test"}
    return Job(**known | facts)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "none"),
        ({"status": JobStatus.RUNNING}, "not_finished"),
        ({"status": JobStatus("brand_new")}, "not_finished"),
        ({"erased_at": NOW}, "erased"),
        ({"artifacts_expire_at": NOW - timedelta(days=1)}, "expired"),
        ({"artifacts_expire_at": NOW + timedelta(days=1)}, "none"),
        ({"artifacts_file": ArtifactsFile(filename="a.zip", size=50)}, None),
        ({"artifacts_file": ArtifactsFile(filename="a.zip", size=51)}, "too_large"),
        ({"artifacts_file": ArtifactsFile(filename="a.zip")}, None),
        ({"artifacts_file": ArtifactsFile(filename="a.zip", size=9), "artifacts_expire_at": NOW}, None),
        (
            {"status": JobStatus.RUNNING, "artifacts_file": ArtifactsFile(filename="a", size=1)},
            "not_finished",
        ),
    ],
)
def test_reasons(facts: dict[str, Any], reason: str | None) -> None:
    """What is not there has a reason of one word; an archive past its date is still tried."""
    assert missing_reason(job(**facts), now=NOW, max_bytes=50) == reason


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"artifacts_expire_at": None}, "lost"),
        ({"artifacts_expire_at": NOW + timedelta(seconds=1)}, "lost"),
        ({"artifacts_expire_at": NOW}, "expired"),
        ({"erased_at": NOW}, "erased"),
        ({"status": JobStatus.RUNNING}, "not_finished"),
        ({"artifacts_file": None}, "none"),
        ({"artifacts_file": None, "artifacts_expire_at": NOW}, "expired"),
    ],
)
def test_reasons_of_a_404(facts: dict[str, Any], reason: str) -> None:
    """Only its own date or its erasing makes a listed archive's absence harmless."""
    listed = {"artifacts_file": ArtifactsFile(filename="a.zip", size=50)}
    assert lost_reason(job(**(listed | facts)), now=NOW) == reason


def test_other_file_types_are_found_among_the_artifacts() -> None:
    """A wanted report is there when the job lists it, whether or not there is an archive."""
    found = job(artifacts=(JobArtifact(file_type="junit", size=7, file_format="gzip"),))
    assert missing_reason(found, now=NOW, file_type="junit") is None
    assert remote_size(found, "junit") == 7
    assert remote_size(found) is None
    assert remote_size(job(artifacts_file=ArtifactsFile(filename="a.zip", size=50))) == 50
    assert missing_reason(found, now=NOW, file_type="dotenv") == "none"
    assert lost_reason(found, now=NOW, file_type="junit") == "lost"
    assert lost_reason(found, now=NOW, file_type="dotenv") == "none"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PK\x03\x04rest", Kind.ZIP),
        (b"PK\x05\x06" + b"\0" * 18, Kind.ZIP),
        (b"\x1f\x8b\x08\0", Kind.GZIP),
        (b"\x28\xb5\x2f\xfd", Kind.ZSTD),
        (b"<!DOCTYPE html>", Kind.PAGE),
        (b"\xef\xbb\xbf <?xml", Kind.PAGE),
        (b'{"message":"404"}', Kind.PAGE),
        (b'\r\n\t["a"]', Kind.PAGE),
        (b"hello", Kind.RAW),
        (b"", Kind.RAW),
    ],
)
def test_magic(head: bytes, kind: Kind) -> None:
    """The first bytes tell the kind."""
    assert recognise(head) is kind


@pytest.mark.parametrize(
    ("head", "file_format", "accepted"),
    [
        (b"PK\x03\x04", "zip", True),
        (b"\x28\xb5\x2f\xfd", "zip", True),
        (b"\x1f\x8b", "zip", True),
        (b"hello", "zip", False),
        (b"<html>", "zip", False),
        (b"<html>", None, False),
        (b"hello", None, True),
        (b"<testsuites>", "raw", True),
        (b"hello", "gzip", False),
        (b"\x1f\x8b", "gzip", True),
        (b'{"message":"x"}', "gzip", False),
    ],
)
def test_formats(head: bytes, file_format: str | None, accepted: bool) -> None:
    """A page never passes for an archive; a raw file may look like anything."""
    if accepted:
        check_kind(head, file_format=file_format)
    else:
        with pytest.raises(IntegrityError):
            check_kind(head, file_format=file_format)


def test_what_arrived_instead_is_shown_safely() -> None:
    """The first words of a page tell a person what it is, on one line, and cannot drive a terminal."""
    with pytest.raises(IntegrityError) as caught:
        check_kind(b"<html>\r\n<title>Sign in \x1b[31m\xff</title>" + b"x" * 500, file_format="zip")
    text = str(caught.value)
    assert text.isprintable()
    assert "<title>Sign in" in text
    assert len(text) < 200
