"""Whether a zip may be unpacked, and the plan for it: every member checked before the first byte is written.

The whole archive is refused on anything that a careless or hostile writer could use to mislead: names (see
`names`), links and devices, encryption, two names that one disk cannot tell apart, local headers that
differ from the directory, members that overlap, data that belongs to none. uv refuses the same kinds
(CVE-2025-54368); the limits count what really comes out, not what a header claims.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Iterator

import attrs

from asyncjobs._errors import IntegrityError, UnsafeArchiveError, UnsafePathError
from asyncjobs._manifest.archive import EndRecord, Member, ReadAt, check_zip, extra_fields, iter_members
from asyncjobs._manifest.names import check_member, collision_key
from asyncjobs._options import ExtractLimits

_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_STORED, _DEFLATED = 0, 8
_READ_BYTES = 256 * 1024
_UNIX = 3


@attrs.frozen
class PlannedMember:
    """One member, ready to be unpacked."""

    parts: tuple[str, ...]
    """Its path, below the folder."""
    is_folder: bool
    executable: bool
    """The only thing kept of a mode: files become 0644 or 0755."""
    size: int
    crc: int
    method: int
    data_offset: int
    compressed: int


@attrs.frozen
class ExtractionPlan:
    """Every member of an archive, checked against the directory and against each other."""

    members: tuple[PlannedMember, ...]
    total_bytes: int
    """Bytes of all files as announced."""


def plan_extraction(read_at: ReadAt, size: int, limits: ExtractLimits | None = None) -> ExtractionPlan:
    """Check a whole zip and plan its unpacking.

    Args:
        read_at: Reads the file.
        size: Bytes of the file.
        limits: None for the defaults of `ExtractLimits`.

    Raises:
        IntegrityError: The zip is cut or damaged.
        UnsafeArchiveError: It is whole and must not be unpacked; the message names the member and the rule.
    """
    limits = limits or ExtractLimits()
    end = check_zip(read_at, size)
    if end.entries > limits.members:
        raise UnsafeArchiveError(f"{end.entries} members, more than {limits.members}")
    members = list(iter_members(read_at, end))
    total = sum(each.size for each in members)
    if total > limits.total_bytes:
        raise UnsafeArchiveError(f"it would unpack to {total} bytes, more than {limits.total_bytes}")
    planned = []
    names = _Names()
    for member in members:
        parts = _check_central(member, limits)
        names.add(parts, is_folder=member.is_folder)
        planned.append(_plan(member, parts, _data_offset(read_at, member)))
    _check_layout(read_at, members, planned, end)
    return ExtractionPlan(tuple(planned), total)


def plan_members(
    read_at: ReadAt, size: int, wanted: Callable[[str], bool], limits: ExtractLimits | None = None
) -> tuple[PlannedMember, ...]:
    """Check and plan some files of a zip, by the same rules; a link elsewhere in it is nobody's concern.

    Args:
        read_at: Reads the file.
        size: Bytes of the file.
        wanted: Chooses files by their names; it is not asked about folders.
        limits: None for the defaults of `ExtractLimits`; they count for what is chosen.

    Raises:
        IntegrityError: The zip is cut or damaged.
        UnsafeArchiveError: A chosen file must not be unpacked; the message names it and the rule.
    """
    limits = limits or ExtractLimits()
    end = check_zip(read_at, size)
    chosen = [each for each in iter_members(read_at, end) if not each.is_folder and wanted(each.name)]
    if len(chosen) > limits.members:
        raise UnsafeArchiveError(f"{len(chosen)} members, more than {limits.members}")
    total = sum(each.size for each in chosen)
    if total > limits.total_bytes:
        raise UnsafeArchiveError(f"they would unpack to {total} bytes, more than {limits.total_bytes}")
    planned = []
    names = _Names()
    position = 0
    for member in sorted(chosen, key=lambda each: each.header_offset):
        parts = _check_central(member, limits)
        names.add(parts, is_folder=False)
        plan = _plan(member, parts, _data_offset(read_at, member))
        if member.header_offset < position:
            raise _unsafe(member, "it overlaps another member")
        position = plan.data_offset + plan.compressed
        if position > end.directory_offset:
            raise _unsafe(member, "it reaches into the directory")
        planned.append(plan)
    return tuple(planned)


def _check_central(member: Member, limits: ExtractLimits) -> tuple[str, ...]:
    """The parts of a member's path, once everything the directory says about it is acceptable."""
    if b"\0" in member.raw_name:
        raise _unsafe(member, "a NUL in its name, where other readers cut it")
    try:
        parts = check_member(member.name, max_bytes=limits.path_bytes, max_depth=limits.depth)
    except UnsafePathError as error:
        raise UnsafeArchiveError(str(error)) from None
    if member.disk:
        raise _unsafe(member, "it lies on another disk")
    # 4.4.4: bits 0, 6 and 13 speak of encryption, bit 5 of patches.
    if member.flags & (1 | 1 << 5 | 1 << 6 | 1 << 13):
        raise _unsafe(member, "encrypted or a patch")
    if member.method not in {_STORED, _DEFLATED}:
        raise _unsafe(member, f"compression method {member.method} is not supported")
    if member.method == _STORED and member.compressed != member.size:
        raise _unsafe(member, "stored, but with two different sizes")
    if member.size > limits.member_bytes:
        raise _unsafe(member, f"it would unpack to {member.size} bytes, more than {limits.member_bytes}")
    if member.size > limits.ratio_after and member.size > limits.ratio * max(1, member.compressed):
        raise _unsafe(member, f"it would grow more than {limits.ratio} times")
    _check_mode(member)
    return parts


def _check_mode(member: Member) -> None:
    if member.made_by != _UNIX:
        return
    mode = member.attributes >> 16
    kind = stat.S_IFMT(mode)
    # Old Java archivers write -1 as the mode of folders: 60 of 2,426 jars, wheels and zips looked at.
    unset = 0o170000
    accepted = {0, stat.S_IFREG, stat.S_IFDIR, unset} if member.is_folder else {0, stat.S_IFREG}
    if kind not in accepted:
        raise _unsafe(member, "a link, a device or something else that is neither file nor folder")
    if mode & (stat.S_ISUID | stat.S_ISGID) and not member.is_folder:
        raise _unsafe(member, "it would run as another user (setuid or setgid)")


@attrs.define
class _Names:
    """Every path seen, to refuse two that one disk could take for the same."""

    _seen: dict[str, tuple[str, bool]] = attrs.field(factory=dict)

    def add(self, parts: tuple[str, ...], *, is_folder: bool) -> None:
        for count in range(1, len(parts)):
            self._put("/".join(parts[:count]), is_folder=True)
        self._put("/".join(parts), is_folder=is_folder)

    def _put(self, path: str, *, is_folder: bool) -> None:
        key = collision_key(path)
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = (path, is_folder)
            return
        if known[0] != path:
            raise UnsafeArchiveError(
                f"member {path[:120]!r}: differs from {known[0][:120]!r} only in case or form"
            )
        if known[1] != is_folder:
            raise UnsafeArchiveError(f"member {path[:120]!r}: both a file and a folder")
        if not is_folder:
            raise UnsafeArchiveError(f"member {path[:120]!r}: twice in the archive")


def _data_offset(read_at: ReadAt, member: Member) -> int:
    """Where a member's data begins, once its local header (4.3.7) agrees with the directory."""
    raw = read_at(member.header_offset, _LOCAL.size)
    if len(raw) != _LOCAL.size or not raw.startswith(_LOCAL_SIGNATURE):
        raise _unsafe(member, "no local header where the directory points")
    _, _, flags, method, _, _, crc, compressed, size, name_bytes, extra_bytes = _LOCAL.unpack(raw)
    rest = read_at(member.header_offset + _LOCAL.size, name_bytes + extra_bytes)
    if rest[:name_bytes] != member.raw_name:
        raise _unsafe(member, "its local header has another name")
    # Bit 3 only says where sizes stand; the others must agree, or two readers see two files.
    if method != member.method or (flags ^ member.flags) & 0x861:
        raise _unsafe(member, "its local header differs from the directory")
    size, compressed = _local_sizes(member, size, compressed, rest[name_bytes:])
    deferred = bool(flags & 8)
    for local, central in ((crc, member.crc), (compressed, member.compressed), (size, member.size)):
        if local != central and not (deferred and local == 0):
            raise _unsafe(member, "its local header has another size or checksum")
    return member.header_offset + _LOCAL.size + len(rest)


def _local_sizes(member: Member, size: int, compressed: int, extra: bytes) -> tuple[int, int]:
    if 0xFFFFFFFF not in {size, compressed}:
        return size, compressed
    wide = next((data for kind, data in extra_fields(extra) if kind == 1), b"")
    if len(wide) < 16:
        raise _unsafe(member, "its local header lacks the zip64 sizes it points at")
    wide_size, wide_compressed = struct.unpack_from("<2Q", wide)
    return (
        int(wide_size) if size == 0xFFFFFFFF else size,
        int(wide_compressed) if compressed == 0xFFFFFFFF else compressed,
    )


def _plan(member: Member, parts: tuple[str, ...], data_offset: int) -> PlannedMember:
    if member.is_folder and member.size:
        raise _unsafe(member, "a folder with contents")
    executable = member.made_by == _UNIX and bool((member.attributes >> 16) & stat.S_IXUSR)
    return PlannedMember(
        parts,
        member.is_folder,
        executable,
        member.size,
        member.crc,
        member.method,
        data_offset,
        member.compressed,
    )


def _check_layout(
    read_at: ReadAt, members: list[Member], planned: list[PlannedMember], end: EndRecord
) -> None:
    """Members must lie side by side from the first byte to the directory: no overlap, nothing between.

    Fifty entries over one local header turn 3 kB into 52 MB (CVE-2024-0450); bytes between members can
    hide a file that readers of local headers would see.
    """
    order = sorted(range(len(members)), key=lambda index: members[index].header_offset)
    position = 0
    for index in order:
        member, plan = members[index], planned[index]
        if member.header_offset < position:
            raise _unsafe(member, "it overlaps another member")
        if member.header_offset > position:
            raise _unsafe(member, "data that belongs to no member stands before it")
        position = plan.data_offset + plan.compressed
        if member.flags & 8:
            position += _descriptor_bytes(read_at, member, position)
    if position != end.directory_offset:
        raise UnsafeArchiveError("data that belongs to no member stands before the directory")
    if end.directory_offset + end.directory_bytes != end.end_offset:
        raise UnsafeArchiveError("data stands between the directory and the end record")


def _descriptor_bytes(read_at: ReadAt, member: Member, position: int) -> int:
    """Length of the data descriptor (4.3.9): with or without a signature, with long or short sizes."""
    raw = read_at(position, 24)
    forms = ["<LQQ", "<LLL"] if max(member.compressed, member.size) < 2**32 else ["<LQQ"]
    for signature in (b"PK\x07\x08", b""):
        for form in forms:
            record = signature + struct.pack(form, member.crc, member.compressed, member.size)
            if raw.startswith(record):
                return len(record)
    raise _unsafe(member, "its data descriptor differs from the directory")


def _unsafe(member: Member, problem: str) -> UnsafeArchiveError:
    return UnsafeArchiveError(f"member {member.name[:120]!r}: {problem}")


@attrs.define
class Meter:
    """Counts what really comes out of one archive, over all its members."""

    limits: ExtractLimits
    came_out: int = 0
    went_in: int = 0

    def count(self, went_in: int, came_out: int) -> None:
        """Add to the totals.

        Raises:
            UnsafeArchiveError: A limit is passed.
        """
        self.went_in += went_in
        self.came_out += came_out
        if self.came_out > self.limits.total_bytes:
            raise UnsafeArchiveError(f"it unpacks to more than {self.limits.total_bytes} bytes")
        grown = self.came_out > self.limits.ratio * max(1, self.went_in)
        if grown and self.came_out > self.limits.ratio_after:
            raise UnsafeArchiveError(f"it grows more than {self.limits.ratio} times")


def unpack(read_at: ReadAt, member: PlannedMember, meter: Meter) -> Iterator[bytes]:
    """Give a member's bytes in pieces of at most 256 KiB, counted, and check its size and CRC at the end.

    Raises:
        IntegrityError: The data is damaged, or its size or CRC is not as announced.
        UnsafeArchiveError: More comes out than the limits allow.
    """
    crc = size = 0
    for went_in, piece in _pieces(read_at, member):
        meter.count(went_in, len(piece))
        size += len(piece)
        if size > member.size:
            raise IntegrityError(f"member {'/'.join(member.parts)[:120]!r} is longer than announced")
        crc = zlib.crc32(piece, crc)
        if piece:
            yield piece
    if size != member.size or crc != member.crc:
        raise IntegrityError(f"member {'/'.join(member.parts)[:120]!r} is damaged: wrong size or checksum")


def _pieces(read_at: ReadAt, member: PlannedMember) -> Iterator[tuple[int, bytes]]:
    """Pairs of (bytes taken from the archive, bytes that came out)."""
    position, left = member.data_offset, member.compressed
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == _DEFLATED else None
    while left:
        raw = read_at(position, min(_READ_BYTES, left))
        if not raw:
            raise IntegrityError("the archive ends inside a member")
        position, left = position + len(raw), left - len(raw)
        if inflater is None:
            yield len(raw), raw
            continue
        went_in = len(raw)
        while raw:
            try:
                piece = inflater.decompress(raw, _READ_BYTES)
            except zlib.error:
                raise IntegrityError(f"member {'/'.join(member.parts)[:120]!r} is damaged") from None
            raw = inflater.unconsumed_tail
            yield went_in, piece
            went_in = 0
            if inflater.unused_data:
                raise IntegrityError(f"member {'/'.join(member.parts)[:120]!r} ends before its data does")
    if inflater is not None:
        yield 0, inflater.flush()
        if not inflater.eof:
            raise IntegrityError(f"member {'/'.join(member.parts)[:120]!r} is cut")


def check_members(read_at: ReadAt, size: int) -> None:
    """Read every member of a zip and check its CRC, writing nothing.

    Members in a compression that Python cannot undo are left at what the directory says about them.

    Raises:
        IntegrityError: A member is damaged.
    """
    end = check_zip(read_at, size)
    meter = Meter(ExtractLimits(total_bytes=2**62, ratio_after=2**62))
    for member in iter_members(read_at, end):
        if member.method not in {_STORED, _DEFLATED} or member.flags & 1:
            continue
        raw = read_at(member.header_offset, _LOCAL.size)
        if not raw.startswith(_LOCAL_SIGNATURE) or len(raw) != _LOCAL.size:
            raise IntegrityError(f"member {member.name[:120]!r} has no local header")
        name_bytes, extra_bytes = struct.unpack_from("<2H", raw, 26)
        plan = _plan_loosely(member, member.header_offset + _LOCAL.size + name_bytes + extra_bytes)
        for _ in unpack(read_at, plan, meter):
            pass


def _plan_loosely(member: Member, data_offset: int) -> PlannedMember:
    return PlannedMember(
        (member.name,),
        member.is_folder,
        False,
        member.size,
        member.crc,
        member.method,
        data_offset,
        member.compressed,
    )
