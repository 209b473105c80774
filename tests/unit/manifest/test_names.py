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
from asyncjobs._manifest.names import is_reserved, shorten
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


def test_long_slugs_are_cut_and_signed() -> None:
    """Up to the limit a label stays as it is; beyond it ends in eight digits that stand for the whole."""
    assert slug("x" * 80) == "x" * 80
    assert re.fullmatch("x{71}-[0-9a-f]{8}", slug("x" * 81))
    assert re.fullmatch("x{70}-[0-9a-f]{8}", slug("x" * 70 + "-." + "y" * 20))
    assert re.fullmatch("x{11}-[0-9a-f]{8}", slug("x" * 21, limit=20))


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("rspec 1/2", "rspec-1-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("build:linux [arm64]", "build-linux-arm64"),
        ("тест", "unnamed"),
        (".hidden", "hidden"),
        ("v1.2.3", "v1.2.3"),
        ("build.-", "build"),
        ("X-ray", "X-ray"),
        ("X", "X"),
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
    assert is_reserved("con .txt")
    assert all(
        is_reserved(name) for name in ("com0", "COM9.log", "lpt1", "LPT\u00b3", "clock$", "prn", "nul")
    )
    assert not is_reserved("conX")


@pytest.mark.parametrize("name", ["", " ", ".", "..", ". .", "a/b", "a\\b", "a\x1fb", "a\nb", "a\x7fb"])
def test_what_is_no_component(name: str) -> None:
    """What a disk would read as a separator, as nothing or as another folder is refused."""
    with pytest.raises(UnsafePathError):
        safe_component(name)


def test_components_of_a_template_keep_their_words() -> None:
    """Blanks inside stay; what Windows would drop from the end is dropped here already."""
    assert safe_component("my logs") == "my logs"
    assert safe_component("logs. .") == "logs"
    assert safe_component("XX") == "XX"


def test_shortened_names_keep_their_extension() -> None:
    """Cut to bytes, not inside a character, with a digest of the whole and a short extension."""
    assert shorten("x" * 20, 20) == "x" * 20
    assert re.fullmatch(r"x{17}-[0-9a-f]{8}\.zip", shorten("x" * 40 + ".zip", 30))
    assert re.fullmatch(r"[x.]{21}-[0-9a-f]{8}", shorten("x" * 20 + "." + "x" * 11, 30))
    assert re.fullmatch(r"\.x{20}-[0-9a-f]{8}", shorten("." + "x" * 40, 30))
    assert re.fullmatch("é{10}-[0-9a-f]{8}", shorten("é" * 20, 30))
    assert re.fullmatch("-[0-9a-f]{8}", shorten("\udc80" * 20, 30))
    assert shorten("x" * 40 + "1", 30) != shorten("x" * 40 + "2", 30)


def test_what_the_server_left_out_is_none() -> None:
    """A job without ref, stage or pipeline gets a path all the same."""
    template = "{ref}/{stage}/{pipeline_id}/{status}/{job_id}"
    bare = Job(id=8, status=JobStatus.SUCCESS, name="test")
    assert render(template, JobRef(1, 8), bare) == "none/none/none/success/8"
    assert render(template, JobRef(1, 8), job(ref="main", stage="build")) == "main/build/6/success/8"


def test_long_paths_lose_from_their_longest_parts() -> None:
    """A path that fits stays as it is; one that does not is cut where it is long, or refused."""
    ref = JobRef(1, 8)
    for template in ("x" * 180 + "/{job_id}", "x" * 118 + "/" + "y" * 119 + "/{job_id}"):
        assert render(template, ref, job()) == template.format(job_id=8)
    long = render("x" * 118 + "/" + "y" * 120 + "/{job_id}", ref, job()).split("/")
    assert [len(part) for part in long] == [100, 100, 1]
    longer = render("/".join(["x" * 90] * 3) + "/{job_id}", ref, job()).split("/")
    assert [len(part) for part in longer] == [60, 60, 60, 1]
    longest = render("/".join(["x" * 60] * 6) + "/{job_id}", ref, job()).split("/")
    assert [len(part) for part in longest] == [24] * 6 + [1]
    with pytest.raises(UnsafePathError, match="longer than 240 bytes"):
        render("/".join(["x" * 20] * 12) + "/{job_id}", ref, job())


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
    places.claim("p/q/r", 5)
    assert places.claim("P/Q", 6) == "P/Q-6"
    places.claim("s/t", 7)
    with pytest.raises(UnsafePathError):
        places.claim("s/t/u", 8)


def test_places_keep_the_extraction_folder_free() -> None:
    """With a folder beside the archive, that folder is claimed too."""
    places = Places()
    assert places.claim("a.zip", 1, beside=True) == "a.zip"
    assert places.claim("a", 2) == "a-2"
    assert places.claim("a.zip", 3, beside=True) == "a-3.zip"
    assert places.claim("a-3", 4) == "a-3-4"
    assert places.claim("a.zip", 5) == "a-5.zip"
    assert places.claim("a-5", 6) == "a-5", "nothing is kept free for who does not unpack"


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
    assert folder_beside("a/B.ZIP") == "a/B"
    assert folder_beside("a/logs.tar.gz") == "a/logs.tar.gz.d"
    assert with_id("a/b.zip", 7) == "a/b-7.zip"
    assert with_id("a/b", 7) == "a/b-7"
    assert with_id("a/.b", 7) == "a/.b-7"


def test_a_path_with_an_id_fits_too() -> None:
    """Two jobs of one long path: the second has another one of no more bytes, which a lock can name."""
    path = "x" * 100 + "/" + "y" * 135 + ".zip"
    assert len(path) == 240
    found = with_id(path, 7)
    assert len(found) == 240
    assert re.fullmatch(r"x{100}/y{126}-[0-9a-f]{8}\.zip", found)
    assert found != with_id(path, 8)
    assert with_id("x" * 235 + "/8.zip", 7) == "x" * 235 + "/8-7.zip", "short names are left alone"
    entry = LockedFile(path=found, project=1, job_id=7, size=1, sha256="0" * 64)
    assert load_lock(dump_lock([entry])) == (entry,)


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
    ("name", "says"),
    [
        ("", "an empty name"),
        ("/", "an empty name"),
        ("/a", "an absolute path"),
        ("C:a", "a drive letter"),
        ("a\\b", "a backslash"),
        ("\ud800", "not valid Unicode"),
        ("x" * 241, "longer than 240 bytes"),
        ("é" * 121, "longer than 240 bytes"),
        ("d/" * 33, "deeper than 32 folders"),
        ("a//b", "an empty, . or .. part"),
        ("a/../b", "an empty, . or .. part"),
        ("ab:c/d", "a colon"),
        ("a./b", "ends in a dot or blank"),
        ("a/b ", "ends in a dot or blank"),
        ("d/nul.txt", "a device name"),
        ("a\x85b", r"control character U\+0085"),
        ("a\u2028b", r"control character U\+2028"),
        ("a\u2029b", r"control character U\+2029"),
        ("a\u200fb", r"control character U\+200F"),
    ],
)
def test_members_that_mislead_are_refused(name: str, says: str) -> None:
    """The message names the rule."""
    with pytest.raises(UnsafePathError, match=says):
        check_member(name)


def test_no_limit_lifts_that_of_one_name() -> None:
    """Longer paths may be allowed, but no file system takes a part of more than 255 bytes."""
    assert check_member("x" * 255, max_bytes=1000) == ("x" * 255,)
    with pytest.raises(UnsafePathError, match="longer than 255"):
        check_member("x" * 256, max_bytes=1000)
    assert len(check_member("d/" * 40, max_depth=40)) == 40


@pytest.mark.parametrize(
    "name",
    [
        "x" * 240,
        "d/" * 32,
        "X/aX",
        "soft\u00adhyphen",
        "a\u00a0b",
        "a",
        "a/b",
        "d/",
        "ü/日本",
        "a b",
        "-x",
        ".git/config",
        "con-sole",
        "x.con",
    ],
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
    empty = LockedFile(path="x" * 120 + "/" + "y" * 119, project=1, job_id=1, size=0, sha256="f" * 64)
    assert load_lock(dump_lock([empty])) == (empty,)


def test_lock_is_made_for_a_diff() -> None:
    """One fact on a line and a newline at the end; what an older release left out has its default."""
    one = LockedFile(path="a/1.zip", project="group/app", job_id=1, size=5, sha256="0" * 64)
    text = f"""{{
  "asyncjobs_lock": 1,
  "files": [
    {{
      "file_type": "archive",
      "job_id": 1,
      "path": "a/1.zip",
      "project": "group/app",
      "sha256": "{"0" * 64}",
      "size": 5
    }}
  ]
}}
"""
    assert dump_lock([one]).decode() == text
    assert load_lock(text.replace('"file_type": "archive",', "").encode()) == (one,)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../x"},
        {"path": ".."},
        {"path": "a/../x"},
        {"path": "/x"},
        {"path": "a//x"},
        {"path": "con"},
        {"path": ".asyncjobs/manifest.sqlite3"},
        {"path": "x" * 250},
        {"path": "/".join(["x" * 80] * 3)},
        {"path": "a "},
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


def test_lock_refuses_two_files_in_one_place() -> None:
    """Two archives at one path would overwrite each other, on a disk without case as well."""
    one = LockedFile(path="a/1.zip", project=1, job_id=1, size=5, sha256="0" * 64)
    other = LockedFile(path="A/1.ZIP", project=1, job_id=2, size=5, sha256="1" * 64)
    for pair in ([one, one], [one, other]):
        with pytest.raises(ManifestError, match="twice"):
            load_lock(dump_lock(pair))


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
    assert plan_prune(recorded, ["a", "b", "c"], complete=False, max_delete=0).refused is None
    assert "2 files kept" in (plan_prune(recorded, ["a"], complete=False, max_delete=None).refused or "")
