"""Hostile archives are refused whole, honest ones never."""

from __future__ import annotations

import io
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncjobs._errors import IntegrityError, UnsafeArchiveError
from asyncjobs._manifest import (
    Meter,
    ReadAt,
    check_members,
    check_zip,
    collision_key,
    find_end,
    iter_members,
    plan_extraction,
    plan_members,
    unpack,
)
from asyncjobs._options import ExtractLimits
from tests.unit.manifest.hostile_zips import Entry, build, corpus, honest, rule_of

LABELS = ["x", "ü", "日", "a b", "-"]
SIZES = [0, 1, 100, 5000]


def reader(raw: bytes) -> ReadAt:
    """A `read_at` over bytes; outside of them a file cannot always be read."""

    def read_at(offset: int, count: int) -> bytes:
        assert 0 <= offset <= len(raw)
        return raw[offset : offset + count]

    return read_at


class Sparse:
    """A file of many GiB that holds nothing but zeros between a few pieces."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[tuple[int, bytes]] = []

    def add(self, piece: bytes) -> None:
        """Write at the end."""
        self._pieces.append((self.size, piece))
        self.size += len(piece)

    def hole(self, count: int) -> None:
        """Leave out that many bytes."""
        self.size += count

    def read_at(self, offset: int, count: int) -> bytes:
        """Read as from any file."""
        assert count < 2**20, "nothing large is read at once"
        out = bytearray(max(0, min(count, self.size - offset)))
        for at, piece in self._pieces:
            first, last = max(at, offset), min(at + len(piece), offset + len(out))
            if first < last:
                out[first - offset : last - offset] = piece[first - at : last - at]
        return bytes(out)


def unpack_all(raw: bytes, limits: ExtractLimits | None = None) -> dict[str, bytes]:
    """Everything an archive unpacks to, or the error that refuses it."""
    limits = limits or ExtractLimits()
    plan = plan_extraction(reader(raw), len(raw), limits)
    meter = Meter(limits)
    return {
        "/".join(each.parts): b"".join(unpack(reader(raw), each, meter))
        for each in plan.members
        if not each.is_folder
    }


def test_the_corpus_is_large_enough() -> None:
    """At least sixty kinds of hostile archives are tried."""
    assert len(corpus()) >= 60


@pytest.mark.parametrize(("label", "raw"), corpus(), ids=[label for label, _ in corpus()])
def test_hostile_zip_is_refused(label: str, raw: bytes) -> None:
    """Not one archive of the corpus unpacks to its end, and each is refused for what is wrong with it."""
    with pytest.raises((IntegrityError, UnsafeArchiveError), match=re.escape(rule_of(label))):
        unpack_all(raw)


def test_the_builder_makes_honest_zips_too() -> None:
    """The corpus is refused for its faults: the same builder without a fault is accepted."""
    raw = build([Entry(name=b"a.txt"), Entry(name=b"d/b", data=b"xyz" * 99, method=8)], comment=b"fine")
    assert unpack_all(raw) == {"a.txt": b"hello", "d/b": b"xyz" * 99}


@pytest.mark.parametrize("mode", [0o100644, 0o177777, 0])
def test_folders_with_odd_modes_are_folders(mode: int) -> None:
    """Old Java archivers write -1, others the mode of a file; the name's slash decides."""
    raw = build([Entry(name=b"d/", data=b"", mode=mode), Entry(name=b"d/x")])
    assert unpack_all(raw) == {"d/x": b"hello"}


def run(command: list[str], folder: Path) -> bytes:
    """What a program writes to its output."""
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "zip": lambda folder, out: run(["zip", "-r", str(out), "."], folder),
    "zip -fz": lambda folder, out: run(["zip", "-r", "-fz", str(out), "."], folder),
    "zip to a pipe": lambda folder, out: out.write_bytes(run(["zip", "-r", "-", "."], folder)),
    "7z": lambda folder, out: run(["7z", "a", "-tzip", str(out), "."], folder),
    "7z stored": lambda folder, out: run(["7z", "a", "-tzip", "-mx0", str(out), "."], folder),
    "jar": lambda folder, out: run(["jar", "cf", str(out), "."], folder),
    "jar stored": lambda folder, out: run(["jar", "cf0", str(out), "."], folder),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_zips_of_other_programs_unpack(tmp_path: Path, writer: str) -> None:
    """What Info-ZIP, 7-Zip and Java write of the same files unpacks to the same files."""
    if shutil.which(writer.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{writer.split(maxsplit=1)[0]} is not installed")
    chance = random.Random(11)
    for number in range(5):
        folder, out = tmp_path / f"{number}", tmp_path / f"{number}.zip"
        truth = {f"d{n % 3}/e/f{n} ü.bin": chance.randbytes(chance.choice(SIZES)) for n in range(8)}
        for name, data in truth.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        WRITERS[writer](folder, out)
        found = unpack_all(out.read_bytes())
        found.pop("META-INF/MANIFEST.MF", None)
        assert found == truth


def test_comment_that_holds_an_end_record_is_not_mistaken() -> None:
    """The end record is the one whose comment ends the file, wherever its signature appears besides."""
    raw = build([Entry()], comment=b"PK\x05\x06" + b"\0" * 30)
    assert unpack_all(raw) == {"a.txt": b"hello"}


def with_zip64(
    raw: bytes, *, gap: bytes = b"", locator: dict[int, int] | None = None, **record: int
) -> bytes:
    """The same zip with a zip64 end record before its end record, some fields of it changed."""
    body, end = raw[:-22], raw[-22:]
    count, length, start = struct.unpack_from("<H2L", end, 10)
    fields = {"size": 44, "made": 45, "needed": 45, "disk": 0, "start_disk": 0, "here": count, "all": count}
    fields |= {"length": length, "start": start} | record
    found = [0, len(body), 1]
    for index, value in (locator or {}).items():
        found[index] = value
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", *fields.values()) + gap
    return body + wide + struct.pack("<4sLQL", b"PK\x06\x07", *found) + end


TWO = build([Entry(name=b"a"), Entry(name=b"b")])


def test_a_zip64_end_record_is_read() -> None:
    """Archives of large files have two end records; both are read, and filler behind the first is counted."""
    for raw in (with_zip64(TWO), with_zip64(TWO, gap=b"private!", size=52)):
        end = check_zip(reader(raw), len(raw))
        assert (end.zip64, end.entries, end.end_offset) == (True, 2, len(TWO) - 22)
        assert unpack_all(raw) == {"a": b"hello", "b": b"hello"}
    end = check_zip(reader(TWO), len(TWO))
    assert (end.zip64, end.end_offset) == (False, len(TWO) - 22)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (with_zip64(TWO, size=43), "contradicts itself"),
        (with_zip64(TWO, size=45), "contradicts itself"),
        (with_zip64(TWO, gap=b"x"), "contradicts itself"),
        (with_zip64(TWO, disk=1), "contradicts itself"),
        (with_zip64(TWO, start_disk=1), "contradicts itself"),
        (with_zip64(TWO, here=1), "contradicts itself"),
        (with_zip64(TWO, here=3, all=3), "contradict each other"),
        (with_zip64(TWO, length=0), "contradict each other"),
        (with_zip64(TWO, start=0), "contradict each other"),
        (with_zip64(TWO, locator={0: 1}), "not where the zip says"),
        (with_zip64(TWO, locator={1: 0}), "not where the zip says"),
        (with_zip64(TWO, locator={1: 2**63}), "not where the zip says"),
        (with_zip64(TWO, locator={2: 2}), "not where the zip says"),
    ],
)
def test_zip64_records_that_cannot_be(raw: bytes, says: str) -> None:
    """Readers could take such an archive for two different ones: it is refused, with the reason."""
    with pytest.raises(IntegrityError, match=says):
        check_zip(reader(raw), len(raw))


@pytest.mark.parametrize("field", ["disk", "start disk", "entries here"])
def test_a_part_of_several_disks_is_no_archive(field: str) -> None:
    """Each of the fields that speak of other disks is looked at."""
    raw = bytearray(TWO)
    raw[len(raw) - 22 + {"disk": 4, "start disk": 6, "entries here": 8}[field]] ^= 3
    with pytest.raises(IntegrityError, match="several disks"):
        check_zip(reader(bytes(raw)), len(raw))


@pytest.mark.parametrize(("length", "fits"), [(64 << 20, True), ((64 << 20) + 1, False)])
def test_a_directory_is_read_up_to_64_mib(length: int, fits: bool) -> None:
    """A larger one is refused before anything of it is read."""
    file = Sparse()
    file.hole(length)
    file.add(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, length, 0, 0))
    if fits:
        assert find_end(file.read_at, file.size).directory_bytes == length
        return
    with pytest.raises(IntegrityError, match="larger than 67108864 bytes"):
        find_end(file.read_at, file.size)


def test_a_directory_that_is_cut_meanwhile() -> None:
    """A file that shrinks between two reads is damaged, and no shorter archive."""
    end = check_zip(reader(TWO), len(TWO))
    with pytest.raises(IntegrityError, match="directory is cut"):
        list(iter_members(reader(TWO[: end.directory_offset + 60]), end))


@pytest.mark.parametrize(
    ("name", "flags", "made_by", "text"),
    [
        ("ü".encode(), 0x800, 0, "ü"),
        ("ü".encode(), 0, 3, "ü"),
        ("ü".encode(), 0, 0, "├╝"),
        (b"\x81", 0, 3, "ü"),
        (b"\x81", 0, 0, "ü"),
    ],
)
def test_how_names_are_read(name: bytes, flags: int, made_by: int, text: str) -> None:
    """UTF-8 where the archive says so or Unix wrote it; else, as the format has it, code page 437."""
    raw = build([Entry(name=name, flags=flags, made_by=made_by)])
    assert unpack_all(raw) == {text: b"hello"}


def test_extra_fields_of_others_are_passed_by() -> None:
    """Times, owners and padding stand beside the sizes of zip64, before or behind them."""
    times, sizes = struct.pack("<2HB", 0x5455, 1, 7), struct.pack("<2H2Q", 1, 16, 5, 5)
    for extra in (times + sizes, sizes + times, sizes + b"\0\0\0", times):
        full = None if extra == times else 0xFFFFFFFF
        raw = build([Entry(central_extra=extra, local_extra=extra, size=full, compressed=full)])
        assert unpack_all(raw) == {"a.txt": b"hello"}


def test_only_what_is_full_stands_in_the_zip64_field() -> None:
    """Size, packed size and place come in this order, and those that fit are left out."""
    first, second = Entry(name=b"a"), Entry(name=b"b", data=b"x" * 1000, method=8)
    packed, offset = len(second.packed()), len(build([first])) - 22 - 47
    local = struct.pack("<2H2Q", 1, 16, 1000, packed)
    for full in (
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, False, True),
    ):
        values = [value for value, wide in zip((1000, packed, offset), full, strict=True) if wide]
        second = Entry(name=b"b", data=b"x" * 1000, method=8, local_extra=local)
        second.central_extra = struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)
        second.size, second.compressed = (0xFFFFFFFF if wide else None for wide in full[:2])
        second.local_size = 0xFFFFFFFF if full[1] else 1000
        second.header_offset = 0xFFFFFFFF if full[2] else None
        assert unpack_all(build([first, second])) == {"a": b"hello", "b": b"x" * 1000}


def test_every_cut_of_a_zip_is_noticed() -> None:
    """A zip cut at any byte fails the check of its structure."""
    raw = honest({"a.txt": b"hello" * 50, "d/b.bin": bytes(range(256))})
    check_zip(reader(raw), len(raw))
    for length in range(len(raw)):
        with pytest.raises(IntegrityError):
            check_zip(reader(raw[:length]), length)


def test_every_flipped_data_byte_is_noticed_by_the_crcs() -> None:
    """`check_members` sees any changed byte of any member's data."""
    raw = honest({"a.txt": b"hello world, " * 20}, compression=zipfile.ZIP_STORED)
    check_members(reader(raw), len(raw))
    start = raw.index(b"hello")
    for position in range(start, start + 260):
        bad = bytearray(raw)
        bad[position] ^= 1
        with pytest.raises(IntegrityError):
            check_members(reader(bytes(bad)), len(bad))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_mutated_zips_never_unpack_to_something_else(seed: int, changes: int) -> None:
    """Whatever bytes are changed, the result is the same files, or an error of ours, and never a crash."""
    chance = random.Random(seed)
    truth = {"a.txt": b"hello" * 50, "d/b.bin": bytes(range(256)) * 3}
    raw = bytearray(honest(truth))
    for _ in range(changes):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    try:
        found = unpack_all(bytes(raw))
    except (IntegrityError, UnsafeArchiveError):
        return
    assert sorted(found.values()) == sorted(truth.values())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_generated_zips_are_never_refused(compression: int, streamed: bool) -> None:
    """Two hundred and sixty random honest zips per writer mode unpack to exactly what went in."""
    chance = random.Random(7)
    for _ in range(260):
        truth = {
            f"{'d/' * chance.randrange(4)}f{number}-{chance.choice(LABELS)}": chance.randbytes(
                chance.choice(SIZES)
            )
            for number in range(chance.randrange(6))
        }
        out = io.BytesIO()
        # A writer that cannot seek puts sizes behind the data (descriptors), as Go's does.
        target = _Pipe(out) if streamed else out
        with zipfile.ZipFile(target, "w", compression) as archive:
            for name, data in truth.items():
                with archive.open(name, "w", force_zip64=chance.random() < 0.3) as member:
                    member.write(data)
        assert unpack_all(out.getvalue()) == truth


class _Pipe(io.RawIOBase):
    def __init__(self, out: io.BytesIO) -> None:
        self.out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.out.write(data)


def machine_zips() -> list[Path]:
    """The zips that other programs left on this machine: wheels, jars, eggs."""
    roots = {Path(sys.prefix), Path(sys.base_prefix) / "lib", Path("/usr/share/java"), Path("/usr/lib/jvm")}
    roots.add(Path(sysconfig.get_paths()["purelib"]))
    found: set[Path] = set()
    for root in roots:
        for pattern in ("*.whl", "*.jar", "*.zip", "*.egg"):
            found |= {path.resolve() for path in root.rglob(pattern) if path.is_file()}
    return sorted(found)[:400]


def test_zips_of_this_machine_pass_the_check_of_a_download() -> None:
    """Wheels and jars made by other writers are whole by our check, every member's CRC included."""
    paths = [path for path in machine_zips() if zipfile.is_zipfile(path)]
    if not paths:
        pytest.skip("no wheels, jars or zips on this machine")
    for path in paths:
        with path.open("rb") as file:

            def read_at(offset: int, count: int) -> bytes:
                file.seek(offset)
                return file.read(count)

            # Some test data of Python is damaged on purpose; zipfile tells which.
            if "test" in path.parts:
                continue
            check_members(read_at, path.stat().st_size)


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (ExtractLimits(members=1), "members"),
        (ExtractLimits(total_bytes=9), "unpack to 10 bytes"),
        (ExtractLimits(member_bytes=4), "more than 4"),
        (ExtractLimits(path_bytes=4), "longer than 4"),
        (ExtractLimits(depth=1), "deeper than 1"),
    ],
)
def test_limits_refuse_and_name_themselves(limits: ExtractLimits, rule: str) -> None:
    """Each limit refuses the archive and says which one it was."""
    raw = build([Entry(name=b"a.txt"), Entry(name=b"d/b.txt", data=b"world")])
    with pytest.raises(UnsafeArchiveError, match=rule):
        plan_extraction(reader(raw), len(raw), limits)


def test_what_just_fits_is_unpacked() -> None:
    """A limit is the most that is allowed, and is not passed by reaching it."""
    raw = build([Entry(name=b"a.txt"), Entry(name=b"d/b.txt", data=b"world")])
    limits = ExtractLimits(members=2, total_bytes=10, member_bytes=5, path_bytes=7, depth=2)
    assert unpack_all(raw, limits) == {"a.txt": b"hello", "d/b.txt": b"world"}
    assert pick(raw, "a.txt", "d/b.txt", limits=limits) == {"a.txt": b"hello", "d/b.txt": b"world"}


def test_only_what_is_large_and_grows_much_is_a_bomb() -> None:
    """A small file may shrink to nothing, and a large one may be large, if it was that in the archive too."""
    limits = ExtractLimits(ratio=10, ratio_after=1000)
    noise = random.Random(5).randbytes(5000)
    for data in (bytes(1000), noise, noise[:500] * 10):
        for method in (0, 8):
            assert unpack_all(build([Entry(data=data, method=method)]), limits) == {"a.txt": data}
    raw = build([Entry(data=bytes(1001), method=8)])
    with pytest.raises(UnsafeArchiveError, match="would grow more than 10 times"):
        plan_extraction(reader(raw), len(raw), limits)


def test_what_comes_out_is_counted_over_all_members() -> None:
    """However small each is, the limits end it where the sum passes them, and no earlier."""
    meter = Meter(ExtractLimits(total_bytes=2000, ratio=10, ratio_after=1000))
    meter.count(1, 500)
    meter.count(0, 500)
    meter.count(199, 1000)
    with pytest.raises(UnsafeArchiveError, match="more than 2000 bytes"):
        meter.count(1, 1)
    meter = Meter(ExtractLimits(ratio=10, ratio_after=1000))
    meter.count(1, 1000)
    with pytest.raises(UnsafeArchiveError, match="more than 10 times"):
        meter.count(1, 1)


def test_a_folder_may_be_listed_twice() -> None:
    """Some writers name a folder again for each file in it; there is only one meaning to that."""
    raw = build([Entry(name=b"d/", data=b""), Entry(name=b"d/a"), Entry(name=b"d/", data=b"")])
    assert unpack_all(raw) == {"d/a": b"hello"}


@pytest.mark.parametrize("method", [0, 8])
def test_an_archive_that_is_cut_after_it_was_planned(method: int) -> None:
    """A file that shrinks under our hands ends the unpacking with an error, not in an endless read."""
    raw = build([Entry(data=bytes(range(256)) * 9, method=method)])
    (member,) = plan_extraction(reader(raw), len(raw)).members
    with pytest.raises(IntegrityError, match="ends inside a member"):
        list(unpack(reader(raw[: member.data_offset + 20]), member, Meter(ExtractLimits())))


@pytest.mark.parametrize("last", [0, 1, 2, 100, 257, 258, 259, 5000])
def test_pieces_are_small_and_lack_nothing(last: int) -> None:
    """However much a member grows, 256 KiB are read and given at a time, and the last bytes come too."""
    step = 256 * 1024
    for data in (bytes(3 * step + last), random.Random(last).randbytes(step + last)):
        for method in (0, 8):
            raw = build([Entry(data=data, method=method)])

            def read_at(offset: int, count: int, raw: bytes = raw) -> bytes:
                assert count <= step
                return raw[offset : offset + count]

            (member,) = plan_extraction(reader(raw), len(raw)).members
            pieces = list(unpack(read_at, member, Meter(ExtractLimits())))
            assert b"".join(pieces) == data
            assert max(map(len, pieces)) <= step


def test_a_file_that_shrinks_while_it_is_looked_at() -> None:
    """What was there a moment ago and is not any more is damage or danger, in our own words."""

    def read_at(offset: int, count: int) -> bytes:
        header_bytes = 30
        return TWO[offset : offset + (20 if count == header_bytes else count)]

    for look in (plan_extraction, check_members):
        with pytest.raises((IntegrityError, UnsafeArchiveError), match="local header"):
            look(read_at, len(TWO))
    with pytest.raises(UnsafeArchiveError, match="local header"):
        plan_members(read_at, len(TWO), lambda _: True)


def test_a_chosen_file_ends_before_the_directory() -> None:
    """What reaches further is refused before a byte of the directory is given out as its own."""
    raw = dict(corpus())["data beyond the last member"]
    with pytest.raises(UnsafeArchiveError, match="reaches into the directory"):
        plan_members(reader(raw), len(raw), lambda _: True)


def test_members_that_cannot_be_undone_are_left_at_their_word() -> None:
    """What is encrypted, or compressed in a way Python does not know, damages no download."""
    for entry in (Entry(method=12, payload=b"hello", crc=1), Entry(flags=0x801, crc=1)):
        raw = build([entry, Entry(name=b"b")])
        check_members(reader(raw), len(raw))


def test_looking_for_damage_is_no_judgement_of_growth() -> None:
    """An archive that is kept and not unpacked may hold whatever it likes, as long as it is whole."""
    raw = honest({"zeros": bytes(20 << 20)})
    check_members(reader(raw), len(raw))
    with pytest.raises(UnsafeArchiveError, match="would grow"):
        unpack_all(raw)


def test_a_member_without_a_local_header_is_damage() -> None:
    """Where the directory points, a member has to begin."""
    raw = build([Entry(), Entry(name=b"b")]).replace(b"PK\x03\x04", b"PK\x03\x05", 1)
    with pytest.raises(IntegrityError, match=r"'a.txt' has no local header"):
        check_members(reader(raw), len(raw))


@pytest.mark.parametrize("signature", [b"PK\x07\x08", b""])
@pytest.mark.parametrize("gib", [1, 3, 5])
@pytest.mark.parametrize("wide", [True, False])
def test_a_large_streamed_member_is_planned(gib: int, wide: bool, signature: bytes) -> None:
    """Sizes behind the data are short or long below 4 GiB, and long from there on."""
    size, name, file = gib << 30, b"image.bin", Sparse()
    file.add(struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0x808, 0, 0, 0x21, 0, 0, 0, len(name), 0) + name)
    file.hole(size)
    if not wide and size >= 2**32:
        descriptor = struct.pack("<LLL", 7, size - 2**32, size - 2**32)
    else:
        descriptor = struct.pack("<LQQ" if wide else "<LLL", 7, size, size)
    file.add(signature + descriptor)
    start = file.size
    extra = struct.pack("<2H2Q", 1, 16, size, size)
    fields = 45, 45, 0x808, 0, 0, 0x21, 7, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0
    file.add(struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields) + name + extra)
    length = file.size - start
    file.add(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, length, start))
    file.add(struct.pack("<4sLQL", b"PK\x06\x07", 0, start + length, 1))
    file.add(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, length, 0xFFFFFFFF, 0))
    limits = ExtractLimits(total_bytes=1 << 40, member_bytes=1 << 40)
    if not wide and size >= 2**32:
        with pytest.raises(UnsafeArchiveError, match="descriptor differs"):
            plan_extraction(file.read_at, file.size, limits)
        return
    (member,) = plan_extraction(file.read_at, file.size, limits).members
    assert (member.size, member.data_offset) == (size, 30 + len(name))


def test_modes_become_plain_or_executable() -> None:
    """Nothing of a mode survives but the owner's execute bit."""
    raw = build([Entry(name=b"run", mode=0o100777), Entry(name=b"data", mode=0o100666)])
    plan = plan_extraction(reader(raw), len(raw))
    assert [(each.parts, each.executable) for each in plan.members] == [(("run",), True), (("data",), False)]


# -- some files of an archive -----------------------------------------------------------------------------


def pick(raw: bytes, *names: str, limits: ExtractLimits | None = None) -> dict[str, bytes]:
    """The files of these names, or the error that refuses them."""
    limits = limits or ExtractLimits()
    meter = Meter(limits)
    planned = plan_members(reader(raw), len(raw), lambda name: name in names, limits)
    return {"/".join(each.parts): b"".join(unpack(reader(raw), each, meter)) for each in planned}


@given(st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "e/f/g"]), st.binary(max_size=300)), st.data())
def test_some_files_are_those_of_the_whole(files: dict[str, bytes], data: st.DataObject) -> None:
    """Whatever is chosen has the bytes that unpacking all would give it; what is not there is not made up."""
    raw = honest(files)
    names = data.draw(st.sets(st.sampled_from(["a", "b/c", "b/d", "e/f/g", "b", "b/"])))
    assert pick(raw, *names) == {name: each for name, each in files.items() if name in names}
    assert unpack_all(raw) == files


@pytest.mark.parametrize(("label", "raw"), corpus(), ids=[label for label, _ in corpus()])
def test_a_hostile_zip_gives_up_only_what_it_says(label: str, raw: bytes) -> None:
    """Out of a hostile archive comes an error, or a file under a harmless name, within the limits."""
    try:
        found = plan_members(reader(raw), len(raw), lambda _: True)
        meter = Meter(ExtractLimits())
        for member in found:
            assert not member.is_folder
            assert not {"", ".", ".."} & set(member.parts)
            assert sum(len(piece) for piece in unpack(reader(raw), member, meter)) == member.size
    except (IntegrityError, UnsafeArchiveError):
        return
    keys = [collision_key("/".join(each.parts)) for each in found]
    assert len(keys) == len(set(keys))
    spans = sorted(
        (each.data_offset, each.data_offset + each.compressed) for each in found if each.compressed
    )
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_hostile_neighbour_is_nobodys_concern() -> None:
    """A link or a climbing name elsewhere does not keep a harmless file back; chosen themselves they do."""
    raw = build(
        [
            Entry(name=b"../evil", data=b"x"),
            Entry(name=b"link", data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
            Entry(name=b"good", data=b"fine"),
        ]
    )
    assert pick(raw, "good") == {"good": b"fine"}
    for name in ("../evil", "link"):
        with pytest.raises(UnsafeArchiveError):
            pick(raw, "good", name)


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (ExtractLimits(members=1), ("a", "b")),
        (ExtractLimits(total_bytes=19), ("a", "b")),
        (ExtractLimits(member_bytes=9), ("a",)),
        (ExtractLimits(path_bytes=2), ("long",)),
    ],
)
def test_limits_count_for_what_is_chosen(limits: ExtractLimits, names: tuple[str, ...]) -> None:
    """A limit that is passed refuses the choice; the rest of the archive does not count."""
    raw = honest({"a": bytes(10), "b": bytes(10), "long": b"x", "other": bytes(5000)})
    with pytest.raises(UnsafeArchiveError):
        plan_members(reader(raw), len(raw), lambda name: name in names, limits)
    assert pick(raw, *names).keys() == set(names)


def test_two_files_of_one_name_are_refused_when_chosen() -> None:
    """Readers differ on which of the two they show, so neither is shown."""
    raw = build([Entry(name=b"m", data=b"1"), Entry(name=b"m", data=b"2"), Entry(name=b"n", data=b"3")])
    with pytest.raises(UnsafeArchiveError, match="twice"):
        pick(raw, "m")
    assert pick(raw, "n") == {"n": b"3"}
