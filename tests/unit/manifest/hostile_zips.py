"""A corpus of zips that no careful reader should unpack, each with the rule it breaks.

Built byte by byte, because no honest writer makes them: every header field can be set apart from the data.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator

import attrs

UNIX = 3


@attrs.define(kw_only=True)
class Entry:
    """One member; whatever is None follows from the data."""

    name: bytes = b"a.txt"
    data: bytes = b"hello"
    method: int = 0
    flags: int = 0x800
    mode: int = stat.S_IFREG | 0o644
    made_by: int = UNIX
    disk: int = 0
    crc: int | None = None
    size: int | None = None
    compressed: int | None = None
    header_offset: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_extra: bytes = b""
    central_extra: bytes = b""
    payload: bytes | None = None
    """The bytes in the archive, when they are not what `method` makes of `data`."""
    descriptor: bytes = b""
    in_directory: bool = True
    has_local: bool = True
    before: bytes = b""

    def packed(self) -> bytes:
        """What stands in the archive."""
        if self.payload is not None:
            return self.payload
        if self.method == 8:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            return packer.compress(self.data) + packer.flush()
        return self.data


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def build(
    entries: list[Entry],
    *,
    prefix: bytes = b"",
    suffix: bytes = b"",
    gap: bytes = b"",
    end_gap: bytes = b"",
    count: int | None = None,
    directory_offset: int | None = None,
    directory_bytes: int | None = None,
    comment: bytes = b"",
    disk: int = 0,
    zip64: bytes | None = None,
) -> bytes:
    """Write a zip exactly as told."""
    out = bytearray(prefix)
    central = bytearray()
    listed = 0
    for entry in entries:
        out += entry.before
        packed = entry.packed()
        crc = _or(entry.crc, zlib.crc32(entry.data))
        size, compressed = _or(entry.size, len(entry.data)), _or(entry.compressed, len(packed))
        offset = _or(entry.header_offset, len(out))
        if entry.has_local:
            name = entry.name if entry.local_name is None else entry.local_name
            out += struct.pack(
                "<4s5H3L2H",
                b"PK\x03\x04",
                20,
                _or(entry.local_flags, entry.flags),
                _or(entry.local_method, entry.method),
                0,
                0x21,
                _or(entry.local_crc, crc),
                compressed,
                _or(entry.local_size, size),
                len(name),
                len(entry.local_extra),
            )
            out += name + entry.local_extra + packed + entry.descriptor
        if entry.in_directory:
            listed += 1
            central += struct.pack(
                "<4s6H3L5H2L",
                b"PK\x01\x02",
                entry.made_by << 8 | 20,
                20,
                entry.flags,
                entry.method,
                0,
                0x21,
                crc,
                compressed,
                size,
                len(entry.name),
                len(entry.central_extra),
                0,
                entry.disk,
                0,
                (entry.mode << 16) & 0xFFFFFFFF,
                offset,
            )
            central += entry.name + entry.central_extra
    out += gap
    start = len(out)
    out += central + end_gap
    if zip64 is not None:
        out += zip64
    out += struct.pack(
        "<4s4H2LH",
        b"PK\x05\x06",
        disk,
        disk,
        _or(count, listed),
        _or(count, listed),
        _or(directory_bytes, len(central)),
        _or(directory_offset, start),
        len(comment),
    )
    return bytes(out + comment + suffix)


def _named(label: str, name: bytes, flags: int = 0x800) -> tuple[str, bytes]:
    return label, build([Entry(name=name, flags=flags)])


def _names() -> Iterator[tuple[str, bytes]]:
    yield _named("dotdot", b"../evil")
    yield _named("dotdot inside", b"a/../../evil")
    yield _named("dotdot at end", b"a/..")
    yield _named("dot part", b"./a")
    yield _named("empty part", b"a//b")
    yield _named("absolute", b"/etc/passwd")
    yield _named("absolute twice", b"//etc/passwd")
    yield _named("slash alone", b"/")
    yield _named("empty name", b"")
    yield _named("drive", b"C:/evil")
    yield _named("drive relative", b"C:evil")
    yield _named("backslash", b"..\\evil")
    yield _named("backslash inside", b"a\\b")
    yield _named("UNC", b"\\\\server\\share\\evil")
    yield _named("NUL", b"a.txt\x00.exe")
    yield _named("newline", b"a\nb")
    yield _named("escape", b"a\x1b[2Jb")
    yield _named("DEL", b"a\x7fb")
    yield _named("C1", "a\x9bb".encode())
    yield _named("bidi override", "a\u202etxt.exe".encode())
    yield _named("bidi isolate", "a\u2066b".encode())
    yield _named("line separator", "a\u2028b".encode())
    yield _named("byte order mark", "\ufeffa".encode())
    yield _named("trailing dot", b"a./b")
    yield _named("trailing blank", b"a /b")
    yield _named("dots alone", b".../b")
    for reserved in (
        b"CON",
        b"prn.txt",
        b"a/AUX",
        b"nul.tar.gz",
        b"COM1",
        b"lpt9.x",
        b"CONIN$",
        "COM¹".encode(),
    ):
        yield _named(f"reserved {reserved!r}", reserved)
    yield _named("stream", b"a.txt:hidden")
    yield _named("too long", b"d/" * 10 + b"x" * 230)
    yield _named("long part", b"x" * 256)
    yield _named("too deep", b"/".join([b"d"] * 40))
    yield _named("bad utf-8", b"a\xff\xfe")
    yield _named("cp437 control", b"a\x01b", 0)


def _pairs() -> Iterator[tuple[str, bytes]]:
    def pair(label: str, first: bytes, second: bytes) -> tuple[str, bytes]:
        return label, build([Entry(name=first), Entry(name=second, data=b"other")])

    yield pair("duplicate", b"a", b"a")
    yield pair("case collision", b"README", b"readme")
    yield pair("case collision of folders", b"Dir/a", b"dir/b")
    yield pair("NFC collision", "caf\u00e9".encode(), "cafe\u0301".encode())
    yield pair("sharp s collision", "stra\u00dfe".encode(), b"strasse")
    yield pair("file as folder", b"a", b"a/b")
    yield pair("folder as file", b"a/b", b"a")
    yield pair("file as folder further down", b"a/b", b"a/b/c")


def _kinds() -> Iterator[tuple[str, bytes]]:
    link = stat.S_IFLNK | 0o777
    yield "symlink", build([Entry(name=b"link", data=b"/etc", mode=link)])
    yield (
        "write through symlink",
        build([Entry(name=b"link", data=b"..", mode=link), Entry(name=b"link/evil")]),
    )
    yield "device", build([Entry(mode=stat.S_IFCHR | 0o666)])
    yield "block device", build([Entry(mode=stat.S_IFBLK | 0o666)])
    yield "fifo", build([Entry(mode=stat.S_IFIFO | 0o666)])
    yield "socket", build([Entry(mode=stat.S_IFSOCK | 0o666)])
    yield "setuid", build([Entry(mode=stat.S_IFREG | 0o4755)])
    yield "setgid", build([Entry(mode=stat.S_IFREG | 0o2755)])
    yield "folder mode on a file", build([Entry(mode=stat.S_IFDIR | 0o755)])
    yield "link mode on a folder", build([Entry(name=b"d/", data=b"", mode=stat.S_IFLNK | 0o777)])
    yield "folder with contents", build([Entry(name=b"d/", mode=stat.S_IFDIR | 0o755)])
    yield "encrypted", build([Entry(flags=0x801)])
    yield "strong encryption", build([Entry(flags=0x840)])
    yield "hidden headers", build([Entry(flags=0x2800)])
    yield "patch data", build([Entry(flags=0x820)])
    yield "unknown method", build([Entry(method=99, payload=b"hello")])
    yield "method bzip2", build([Entry(method=12, payload=b"hello")])


def _layouts() -> Iterator[tuple[str, bytes]]:
    shared = Entry(name=b"0", data=b"x" * 1000)
    copies = [
        Entry(name=b"%c" % (ord("A") + n), data=shared.data, has_local=False, header_offset=0)
        for n in range(50)
    ]
    yield "fifty over one header", build([shared, *copies])
    inner = build([Entry(name=b"inner")])
    whole = build([Entry(name=b"outer", data=inner), Entry(name=b"inner", has_local=False, header_offset=35)])
    yield "quoted overlap", whole
    lone = build([Entry(name=b"inner")])[:40]
    yield (
        "exact overlap",
        build([Entry(name=b"outer", data=lone), Entry(name=b"inner", has_local=False, header_offset=35)]),
    )
    yield (
        "hidden local entry",
        build([Entry(name=b"a"), Entry(name=b"b", in_directory=False), Entry(name=b"c")]),
    )
    yield "hidden at the end", build([Entry(name=b"a"), Entry(name=b"b", in_directory=False)])
    yield "directory entry without local", build([Entry(name=b"a"), Entry(name=b"b", has_local=False)])
    yield "prefix data", build([Entry()], prefix=b"#!/bin/sh\n")
    yield "prefix not counted", b"MZ" + build([Entry()])
    yield "suffix data", build([Entry()], suffix=b"more")
    yield "second zip after", build([Entry()]) + build([Entry(name=b"b")])
    yield "gap before the directory", build([Entry()], gap=b"\0" * 7)
    yield "gap after the directory", build([Entry()], end_gap=b"\0" * 7)
    yield "gap between members", build([Entry(name=b"a"), Entry(name=b"b", before=b"\0" * 9)])
    yield "local name differs", build([Entry(name=b"good.txt", local_name=b"evil.exe")])
    yield "local method differs", build([Entry(local_method=8)])
    yield "local flags differ", build([Entry(local_flags=0x801)])
    yield "local crc differs", build([Entry(local_crc=1)])
    yield "local size differs", build([Entry(local_size=4)])
    yield "directory says another disk", build([Entry(disk=3)])
    yield "several disks", build([Entry()], disk=1)
    descriptor = struct.pack("<4sLLL", b"PK\x07\x08", 1, 2, 3)
    yield "lying descriptor", build([Entry(flags=0x808, descriptor=descriptor)])
    yield "descriptor missing", build([Entry(flags=0x808)])


def _sizes() -> Iterator[tuple[str, bytes]]:
    zeros = b"\0" * (12 * 1024 * 1024)
    yield "ratio", build([Entry(data=zeros, method=8)])
    yield (
        "many small bombs",
        build([Entry(name=str(n).encode(), data=zeros[: 3 << 20], method=8) for n in range(4)]),
    )
    packed = Entry(data=b"abc" * 1000, method=8).packed()
    yield "longer than announced", build([Entry(data=b"abc" * 1000, method=8, size=10, local_size=10)])
    yield "shorter than announced", build([Entry(data=b"abc", method=8, size=99, local_size=99)])
    yield "wrong crc", build([Entry(crc=1)])
    yield "damaged deflate", build([Entry(method=8, payload=b"\xff" * 20)])
    yield "cut deflate", build([Entry(data=b"abc" * 1000, method=8, payload=packed[:-3])])
    yield "junk after deflate", build([Entry(data=b"abc" * 1000, method=8, payload=packed + b"junk")])
    yield "stored with two sizes", build([Entry(compressed=5, size=6, local_size=6)])
    yield "too big announced", build([Entry(method=8, data=b"x", size=0xFFFFFFF0, local_size=0xFFFFFFF0)])
    yield "one byte into the directory", build([Entry(size=6, compressed=6, payload=b"hello")])
    yield "compressed beyond the file", build([Entry(compressed=0x7FFFFFF0)])
    yield "offset beyond the file", build([Entry(header_offset=0x7FFFFFF0)])
    yield "count too high", build([Entry()], count=9)
    yield "count too low", build([Entry(name=b"a"), Entry(name=b"b")], count=1)
    yield "directory offset wrong", build([Entry()], directory_offset=1)
    yield "directory too long", build([Entry()], directory_bytes=4000)
    yield "directory too short", build([Entry()], directory_bytes=20)
    yield "zip64 promised", build([Entry()], directory_offset=0xFFFFFFFF)
    yield "zip64 size promised", build([Entry(size=0xFFFFFFFF, local_size=0xFFFFFFFF)])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 7, 7, 51, 40)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 91, 1)
    yield "zip64 mismatch", build([Entry()], zip64=record + locator)
    yield (
        "zip64 field cut",
        build([Entry(size=0xFFFFFFFF, central_extra=struct.pack("<2HL", 1, 4, 5))]),
    )
    yield (
        "zip64 field longer than there is",
        build([Entry(size=0xFFFFFFFF, central_extra=struct.pack("<2H2Q", 1, 99, 5, 5))]),
    )
    yield (
        "zip64 field a byte longer than there is",
        build([Entry(size=0xFFFFFFFF, central_extra=struct.pack("<2H2Q", 1, 17, 5, 5))]),
    )
    yield "zip64 size in the local header alone", build([Entry(local_size=0xFFFFFFFF)])
    yield (
        "data beyond the last member",
        build([Entry(local_extra=bytes(20), size=15, compressed=15, payload=b"hello")]),
    )
    yield "zip64 locator astray", build([Entry()], zip64=struct.pack("<4sLQL", b"PK\x06\x07", 0, 1 << 40, 1))


def _broken() -> Iterator[tuple[str, bytes]]:
    honest = build([Entry(name=b"a" * 9, data=b"x" * 200), Entry(name=b"b")])
    yield "cut in the data", honest[:100]
    yield "cut in the directory", honest[:-40]
    yield "cut in the end record", honest[:-1]
    yield "head alone", honest[:30]
    yield "empty file", b""
    yield "not a zip", b"this is no archive at all" * 10
    yield "html page", b"<!DOCTYPE html><html><body>Sign in</body></html>"
    yield "end record alone, lying", build([], count=3)


RULES: dict[str, str] = {
    "an empty, . or .. part": "dotdot; dotdot inside; dotdot at end; dot part; empty part",
    "an absolute path": "absolute; absolute twice",
    "an empty name": "slash alone; empty name",
    "a drive letter": "drive; drive relative",
    "a backslash": "backslash; backslash inside; UNC",
    "a NUL": "NUL",
    "control character U+000A": "newline",
    "control character U+001B": "escape",
    "control character U+007F": "DEL",
    "control character U+009B": "C1",
    "control character U+202E": "bidi override",
    "control character U+2066": "bidi isolate",
    "control character U+2028": "line separator",
    "control character U+FEFF": "byte order mark",
    "control character U+0001": "cp437 control",
    "ends in a dot or blank": "trailing dot; trailing blank; dots alone",
    "a device name": (
        "reserved b'CON'; reserved b'prn.txt'; reserved b'a/AUX'; reserved b'nul.tar.gz'; reserved b'COM1'; "
        "reserved b'lpt9.x'; reserved b'CONIN$'; reserved b'COM\\xc2\\xb9'"
    ),
    "a colon": "stream",
    "longer than 240 bytes": "too long; long part",
    "deeper than 32": "too deep",
    "not valid UTF-8": "bad utf-8",
    "twice in the archive": "duplicate",
    "only in case or form": ("case collision; case collision of folders; NFC collision; sharp s collision"),
    "both a file and a folder": "file as folder; folder as file; file as folder further down",
    "a link, a device": (
        "symlink; write through symlink; device; block device; fifo; socket; folder mode on a file; "
        "link mode on a folder"
    ),
    "run as another user": "setuid; setgid",
    "a folder with contents": "folder with contents",
    "encrypted or a patch": "encrypted; strong encryption; hidden headers; patch data",
    "method 99 is not supported": "unknown method",
    "method 12 is not supported": "method bzip2",
    "its local header has another name": "fifty over one header; local name differs",
    "overlaps another member": "quoted overlap; exact overlap",
    "no member stands before it": "hidden local entry; prefix data; gap between members",
    "no member stands before the directory": (
        "hidden at the end; gap before the directory; data beyond the last member"
    ),
    "between the directory and the end": "gap after the directory",
    "would begin after the last one": "directory entry without local; offset beyond the file",
    "the central directory is damaged": (
        "prefix not counted; second zip after; directory offset wrong; directory too short"
    ),
    "no end record": (
        "suffix data; cut in the data; cut in the directory; cut in the end record; head alone; empty file; "
        "not a zip; html page"
    ),
    "local header differs": "local method differs; local flags differ",
    "its local header has another size or checksum": "local crc differs; local size differs",
    "another disk": "directory says another disk",
    "several disks": "several disks",
    "its data descriptor differs": "lying descriptor; descriptor missing",
    "would grow more than 200": "ratio",
    "it grows more than 200": "many small bombs",
    "longer than announced": "longer than announced",
    "wrong size or checksum": "shorter than announced; wrong crc",
    "'a.txt' is damaged": "damaged deflate",
    "'a.txt' is cut": "cut deflate",
    "ends before its data does": "junk after deflate",
    "two different sizes": "stored with two sizes",
    "it would unpack to 4294967280 bytes": "too big announced",
    "would reach into the directory": "compressed beyond the file; one byte into the directory",
    "announces 9 members and lists 1": "count too high",
    "announces 1 members and lists 2": "count too low",
    "announces 3 members and lists 0": "end record alone, lying",
    "would reach into the end": "directory too long",
    "zip64 record that is not there": "zip64 promised",
    "needs a zip64 field": (
        "zip64 size promised; zip64 field longer than there is; zip64 field a byte longer than there is"
    ),
    "zip64 field is cut": "zip64 field cut",
    "lacks the zip64 sizes": "zip64 size in the local header alone",
    "contradict each other": "zip64 mismatch",
    "not where the zip says": "zip64 locator astray",
}
"""What each is refused for, by label: an archive that is refused for another reason tests nothing."""


def rule_of(label: str) -> str:
    """Words of the message that refuses it."""
    (rule,) = (rule for rule, labels in RULES.items() if label in labels.split("; "))
    return rule


def corpus() -> list[tuple[str, bytes]]:
    """Every hostile or broken zip with its label; the labels are unique."""
    found = [*_names(), *_pairs(), *_kinds(), *_layouts(), *_sizes(), *_broken()]
    assert len({label for label, _ in found}) == len(found)
    return found


def honest(members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as Python's own writer makes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()
