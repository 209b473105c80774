"""Names and paths: harmless on every disk, never two jobs in one place."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import ManifestError, UnsafePathError
from asyncjobs._manifest import (
    LockedFile,
    Places,
    check_member,
    collision_key,
    dump_lock,
    folder_beside,
    load_lock,
    plan_prune,
    render,
    safe_component,
    slug,
    with_id,
)
from asyncjobs._manifest.names import is_reserved
from asyncjobs._models import Job, JobRef, JobStatus, Pipeline

TEMPLATE = "{project}/{pipeline_id}/{job_id}-{job_name}.zip"


def job(name: str = "test", **facts: Any) -> Job:
    """A finished job."""
    pipeline = Pipeline(id=6, status=JobStatus.SUCCESS)
    return Job(id=8, status=JobStatus.SUCCESS, name=name, pipeline=pipeline, **facts)


@given(st.text())
def test_slug_is_always_one_harmless_word(label: str) -> None:
    """Whatever a job is called, its slug is short ASCII without separators or dots in front."""
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", slug(label))
    assert slug(label)[-1] not in "."


def test_slug_keeps_long_labels_apart() -> None:
    """Two labels that differ only past the limit get different slugs."""
    assert slug("x" * 200 + "a") != slug("x" * 200 + "b")


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("rspec 1/2", "rspec-1-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("build:linux [arm64]", "build-linux-arm64"),
        ("тест", "unnamed"),
        (".hidden", "hidden"),
        ("v1.2.3", "v1.2.3"),
        ("", "unnamed"),
    ],
)
def test_slugs(label: str, word: str) -> None:
    """Slugs stay readable."""
    assert slug(label) == word


@given(st.text(max_size=300), st.text(max_size=300))
def test_rendered_paths_stay_below_and_fit(name: str, ref: str) -> None:
    """Any job name and ref render to a relative path of safe parts within the length."""
    path = render("{project}/{ref}/{job_name}", JobRef("group/app", 8), job(name, ref=ref))
    assert len(path.encode()) <= 240
    assert check_member(path)
    assert all(not is_reserved(part) for part in path.split("/"))


def test_default_template() -> None:
    """The default layout is project, pipeline, job id and name."""
    assert render(TEMPLATE, JobRef("group/app", 8), job("rspec 1/2")) == "group-app/6/8-rspec-1-2.zip"


def test_template_cannot_reach_our_own_folder() -> None:
    """A template that renders into the manifest's folder for one job is refused for it, in any letters."""
    for name in ("asyncjobs", "ASYNCJOBS"):
        with pytest.raises(UnsafePathError):
            render(".{job_name}/{job_id}", JobRef(1, 8), job(name))


def test_reserved_names_are_made_harmless() -> None:
    """A job called `con` or `nul.zip` gets a name that is no device."""
    assert safe_component("con") == "con_"
    assert safe_component("NUL.zip") == "NUL_.zip"
    assert not is_reserved(safe_component("aux.tar.gz"))


def test_two_jobs_never_share_a_place() -> None:
    """A template without ids gives the second job a path with its id, stable when asked again."""
    places = Places()
    assert places.claim("a/test.zip", 1) == "a/test.zip"
    assert places.claim("A/TEST.zip", 2) == "A/TEST-2.zip"
    assert places.claim("a/test.zip", 1) == "a/test.zip"
    assert places.claim("A/TEST.zip", 2) == "A/TEST-2.zip"


def test_places_see_files_in_the_way_of_folders() -> None:
    """A file of one job where another needs a folder is a collision too."""
    places = Places()
    places.claim("a", 1)
    with pytest.raises(UnsafePathError):
        places.claim("a/b", 2)
    assert places.claim("x/y", 3) == "x/y"
    assert places.claim("x", 4) == "x-4"


def test_places_keep_the_extraction_folder_free() -> None:
    """With a folder beside the archive, that folder is claimed too."""
    places = Places()
    assert places.claim("a.zip", 1, extra=[folder_beside("a.zip")]) == "a.zip"
    assert places.claim("a", 2) == "a-2"


@given(
    st.lists(
        st.sampled_from(
            ["a", "A", "a.zip", "A.zip", "b/a", "B/a", "stra\u00dfe", "strasse", "caf\u00e9", "cafe\u0301"]
        )
    )
)
def test_claimed_places_differ_on_every_disk(paths: list[str]) -> None:
    """However the paths meet, what is handed out never collides after casefold and NFC."""
    places, given_out = Places(), []
    for job_id, path in enumerate(paths, 1):
        try:
            given_out.append(collision_key(places.claim(path, job_id)))
        except UnsafePathError:
            continue
    assert len(set(given_out)) == len(given_out)


def test_paths_beside() -> None:
    """The folder of an archive and the path with an id, with and without an extension."""
    assert folder_beside("a/b.zip") == "a/b"
    assert folder_beside("a/b") == "a/b.d"
    assert folder_beside("a/.zip") == "a/.zip.d"
    assert with_id("a/b.zip", 7) == "a/b-7.zip"
    assert with_id("a/b", 7) == "a/b-7"


@given(st.text())
def test_accepted_members_are_plain(name: str) -> None:
    """A member name that passes has no separator trick, control character or dot part, and fits."""
    try:
        parts = check_member(name)
    except UnsafePathError:
        return
    assert all(part not in {"", ".", ".."} and "\\" not in part and ":" not in part for part in parts)
    assert not any(unicodedata.category(c) == "Cc" for c in name)


@pytest.mark.parametrize(
    "name", ["a", "a/b", "d/", "ü/日本", "a b", "-x", ".git/config", "con-sole", "x.con"]
)
def test_ordinary_members_pass(name: str) -> None:
    """Names that people really use are accepted."""
    assert check_member(name)


def test_lock_round_trip() -> None:
    """What `dump_lock` writes `load_lock` reads, in path order, the same bytes for any order."""
    one = LockedFile(path="a/1.zip", project="group/app", job_id=1, size=5, sha256="0" * 64)
    two = LockedFile(path="b/2.zip", project=7, job_id=2, size=6, sha256="1" * 64)
    assert dump_lock([two, one]) == dump_lock([one, two])
    assert load_lock(dump_lock([two, one])) == (one, two)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../x"},
        {"path": "/x"},
        {"path": "a//x"},
        {"path": "con"},
        {"path": ".asyncjobs/manifest.sqlite3"},
        {"path": "x" * 250},
        {"sha256": "xyz"},
        {"size": -1},
        {"job_id": 0},
    ],
)
def test_lock_refuses_what_cannot_be(change: dict[str, Any]) -> None:
    """A lock file of a stranger cannot write outside or claim impossible facts."""
    facts: dict[str, Any] = {
        "path": "a.zip",
        "project": 1,
        "job_id": 1,
        "size": 1,
        "sha256": "0" * 64,
    } | change
    with pytest.raises(ManifestError):
        load_lock(dump_lock([LockedFile(**facts)]))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"asyncjobs_lock":2,"files":[]}', b"[" * 100_000])
def test_lock_refuses_other_documents(raw: bytes) -> None:
    """Anything but a lock file of this version is an error that says so."""
    with pytest.raises(ManifestError):
        load_lock(raw)


def test_prune_only_after_a_complete_run() -> None:
    """Nothing is deleted on doubt, nothing beyond the limit, and only what is recorded."""
    recorded = {"a": 1, "b": 2, "c": 3}
    assert plan_prune(recorded, ["a"], complete=True, max_delete=2).paths == ("b", "c")
    assert plan_prune(recorded, ["a"], complete=True, max_delete=None).paths == ("b", "c")
    assert plan_prune(recorded, ["a"], complete=False, max_delete=None).paths == ()
    assert plan_prune(recorded, ["a"], complete=True, max_delete=1).paths == ()
    assert plan_prune(recorded, ["a"], complete=True, max_delete=1).refused
    assert plan_prune(recorded, ["a", "b", "c", "d"], complete=True, max_delete=0).refused is None
