"""What kind of archive some bytes are, and whether a zip is whole: magic, end record, central directory.

Reads through a function it is given, so it works on bytes, on a file in a worker thread and on ranges of
a remote file alike. GitLab Runner uploads zip, and on request gzip, tar with zstd, or a raw file
(https://docs.gitlab.com/ci/yaml/#artifactsreports, commands/helpers/archive of gitlab-runner); the zip format
is https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, whose sections are named below.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import StrEnum

import attrs

from asyncjobs._errors import IntegrityError

ReadAt = Callable[[int, int], bytes]
"""`read_at(offset, count)`: exactly that many bytes, or fewer at the end of the file."""

MAX_DIRECTORY_BYTES = 64 * 1024 * 1024
"""Largest central directory that is read (about 600,000 members)."""

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END_SIGNATURE = b"PK\x05\x06"
_LOCATOR_SIGNATURE = b"PK\x06\x07"
_END64_SIGNATURE = b"PK\x06\x06"
_CENTRAL_SIGNATURE = b"PK\x01\x02"
_UNIX = 3
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF


class Kind(StrEnum):
    """What the first bytes of a file say."""

    ZIP = "zip"
    GZIP = "gzip"
    ZSTD = "zstd"
    """Usually a tar compressed by zstd."""
    RAW = "raw"
    """Anything else that is not a page."""
    PAGE = "page"
    """HTML, XML or JSON: an answer meant for a reader, not an archive."""


def recognise(head: bytes) -> Kind:
    """Tell the kind of a file by its first bytes (at least 16, unless the file is shorter)."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.ZIP
    if head.startswith(b"\x1f\x8b"):
        return Kind.GZIP
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return Kind.ZSTD
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return Kind.PAGE if text[:1] in {b"<", b"{", b"["} else Kind.RAW


def check_kind(head: bytes, *, file_format: str | None) -> Kind:
    """Tell the kind and refuse what cannot be the file.

    Args:
        head: The first bytes.
        file_format: `zip`, `gzip` or `raw` from the job record, or None when it does not say.

    Raises:
        IntegrityError: A page where an archive should be, or an archive of another format than announced.
    """
    kind = recognise(head)
    if file_format == "raw":
        return kind
    if kind is Kind.PAGE:
        shown = head[:80].decode("ascii", "backslashreplace").replace("\r", " ").replace("\n", " ")
        raise IntegrityError(f"a page or an error text arrived instead of an archive; it begins {shown!r}")
    if file_format == "gzip" and kind is not Kind.GZIP:
        raise IntegrityError(f"the job record says gzip, the first bytes say {kind}")
    if file_format == "zip" and kind is Kind.RAW:
        # The record says zip for every runner archive, whatever the runner packed it with.
        raise IntegrityError("no archive: the first bytes are those of no format that GitLab Runner makes")
    return kind


@attrs.frozen
class EndRecord:
    """Where the central directory is (4.3.16, and 4.3.14 for zip64)."""

    entries: int
    directory_offset: int
    directory_bytes: int
    zip64: bool
    end_offset: int
    """Where the records of the end begin; the directory ends there in a whole archive."""


@attrs.frozen
class Member:
    """One entry of the central directory (4.3.12), its name as bytes and as text."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    compressed: int
    """Bytes in the archive."""
    size: int
    """Bytes unpacked, as announced."""
    header_offset: int
    made_by: int
    """The system whose file modes `attributes` holds: 3 is Unix."""
    attributes: int
    """Unix mode in the upper 16 bits when `made_by` is Unix."""
    disk: int
    zip64: bool
    """The entry keeps 64-bit sizes in an extra field, so its data descriptor may be long."""

    @property
    def is_folder(self) -> bool:
        """A folder has a name that ends in a slash."""
        return self.raw_name.endswith(b"/")


def find_end(read_at: ReadAt, size: int) -> EndRecord:
    """Find the end record, which must end exactly where the file does.

    Raises:
        IntegrityError: There is none (a cut file), or what it says cannot be.
    """
    tail_bytes = min(size, _END.size + _MAX16 + _LOCATOR.size)
    tail = read_at(size - tail_bytes, tail_bytes)
    position = tail.rfind(_END_SIGNATURE)
    while position >= 0:
        record = tail[position : position + _END.size]
        if position + _END.size + int.from_bytes(record[-2:], "little") == len(tail):
            return _read_end(read_at, size - tail_bytes + position, record)
        position = tail.rfind(_END_SIGNATURE, 0, position)
    raise IntegrityError("the zip has no end record: it is cut, or data follows it")


def _read_end(read_at: ReadAt, offset: int, record: bytes) -> EndRecord:
    _, disk, start_disk, here, entries, length, start, _ = _END.unpack(record)
    end = EndRecord(entries, start, length, zip64=False, end_offset=offset)
    locator = read_at(offset - _LOCATOR.size, _LOCATOR.size) if offset >= _LOCATOR.size else b""
    if locator.startswith(_LOCATOR_SIGNATURE):
        end = _read_end64(read_at, locator, end, offset - _LOCATOR.size)
    elif disk or start_disk or here != entries:
        raise IntegrityError("the zip spans several disks")
    elif _MAX32 in {length, start}:
        raise IntegrityError("the zip points at a zip64 record that is not there")
    if end.directory_offset + end.directory_bytes > end.end_offset:
        raise IntegrityError("the central directory would reach into the end of the zip")
    if end.directory_bytes > MAX_DIRECTORY_BYTES:
        raise IntegrityError(f"the central directory is larger than {MAX_DIRECTORY_BYTES} bytes")
    return end


def _read_end64(read_at: ReadAt, locator: bytes, short: EndRecord, locator_offset: int) -> EndRecord:
    """Read the zip64 record; where the short one holds real numbers, both must agree (zip64 mismatch)."""
    _, disk, offset, disks = _LOCATOR.unpack(locator)
    raw = read_at(offset, _END64.size) if offset + _END64.size <= locator_offset else b""
    if not raw.startswith(_END64_SIGNATURE) or disk or disks > 1:
        raise IntegrityError("the zip64 end record is not where the zip says")
    _, record_bytes, _, _, disk, start_disk, here, entries, length, start = _END64.unpack(raw)
    if offset + 12 + record_bytes != locator_offset or disk or start_disk or here != entries:
        raise IntegrityError("the zip64 end record contradicts itself")
    for ours, theirs, ceiling in (
        (short.entries, entries, _MAX16),
        (short.directory_bytes, length, _MAX32),
        (short.directory_offset, start, _MAX32),
    ):
        if ours not in {ceiling, theirs}:
            raise IntegrityError("the two end records of the zip contradict each other")
    return EndRecord(entries, start, length, zip64=True, end_offset=offset)


def check_zip(read_at: ReadAt, size: int) -> EndRecord:
    """Check that a zip is whole by its end record and its central directory, member by member.

    Args:
        read_at: Reads the file.
        size: Bytes of the file.

    Raises:
        IntegrityError: Cut, damaged, or with a member that lies outside of it.
    """
    end = find_end(read_at, size)
    for member in iter_members(read_at, end):
        if member.header_offset + 30 > end.directory_offset:
            raise IntegrityError(f"member {member.name[:120]!r} would begin after the last one")
        if member.header_offset + 30 + len(member.raw_name) + member.compressed > end.directory_offset:
            raise IntegrityError(f"member {member.name[:120]!r} would reach into the directory")
    return end


def iter_members(read_at: ReadAt, end: EndRecord) -> Iterator[Member]:
    """Walk the central directory, lazily, in its own order.

    Raises:
        IntegrityError: It is damaged, or has more or fewer entries than the end record says.
    """
    directory = read_at(end.directory_offset, end.directory_bytes)
    if len(directory) != end.directory_bytes:
        raise IntegrityError("the central directory is cut")
    position = count = 0
    while position < len(directory):
        member, position = _read_central(directory, position)
        count += 1
        yield member
    if count != end.entries:
        raise IntegrityError(f"the zip announces {end.entries} members and lists {count}")


def _read_central(directory: bytes, position: int) -> tuple[Member, int]:
    if position + _CENTRAL.size > len(directory) or not directory.startswith(_CENTRAL_SIGNATURE, position):
        raise IntegrityError("the central directory is damaged")
    fields = _CENTRAL.unpack_from(directory, position)
    _, made, _, flags, method, _, _, crc, compressed, size, name_bytes, extra_bytes, comment_bytes = fields[
        :13
    ]
    disk, _, attributes, offset = fields[13:]
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_bytes
    after = extra_at + extra_bytes + comment_bytes
    if after > len(directory):
        raise IntegrityError("the central directory is damaged")
    raw_name = directory[name_at:extra_at]
    size, compressed, offset, zip64 = _wide(
        directory[extra_at : extra_at + extra_bytes], size, compressed, offset
    )
    name = _decoded(raw_name, flags, made >> 8)
    member = Member(
        name, raw_name, flags, method, crc, compressed, size, offset, made >> 8, attributes, disk, zip64
    )
    return member, after


def _decoded(raw_name: bytes, flags: int, made_by: int) -> str:
    """A name as text: bit 11 means UTF-8 (4.4.4), and Unix writers without it mean their locale all the same.

    Info-ZIP on Linux leaves the bit out; by the rule alone, code page 437, every umlaut would be two signs.
    """
    if flags & 0x800 or made_by == _UNIX:
        try:
            return raw_name.decode()
        except UnicodeDecodeError:
            if flags & 0x800:
                raise IntegrityError(f"a member's name is not valid UTF-8: {raw_name[:120]!r}") from None
    return raw_name.decode("cp437")


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk extra fields (4.5.1); a few writers pad the end with less than one field, which is let be."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if position + 4 + length > len(extra):
            return
        yield kind, extra[position + 4 : position + 4 + length]
        position += 4 + length


def _wide(extra: bytes, size: int, compressed: int, offset: int) -> tuple[int, int, int, bool]:
    """Take 64-bit values from the zip64 field (4.5.3), in its order, only for those that are full."""
    wide = next((data for kind, data in extra_fields(extra) if kind == 1), None)
    values = [size, compressed, offset]
    if _MAX32 not in values:
        return size, compressed, offset, wide is not None
    if wide is None:
        raise IntegrityError("a member needs a zip64 field and has none")
    position = 0
    for index, value in enumerate(values):
        if value == _MAX32:
            if position + 8 > len(wide):
                raise IntegrityError("a member's zip64 field is cut")
            (values[index],) = struct.unpack_from("<Q", wide, position)
            position += 8
    return values[0], values[1], values[2], True
