"""Artifact archives: real zips from small files, and huge ones that are computed as they are read.

Knows bytes and checksums; who may read them, and over which delivery, is for others.
"""

from __future__ import annotations

import hashlib
import io
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Protocol

import attrs

_BLOCK = 256 * 1024
_PART = 8 * 1024 * 1024
_ZIP_EPOCH = (2026, 1, 5, 8, 0, 0)


class Archive(Protocol):
    """Stored bytes that can be read in pieces."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes."""
        ...

    @property
    def md5(self) -> str:
        """Hex digest of all bytes; object stores use it as ETag."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """At most *length* bytes from *offset* on."""
        ...

    def members(self) -> list[Member]:
        """The files inside, [] when the bytes are no zip."""
        ...

    def member(self, path: str) -> bytes | None:
        """One file's bytes, None when there is no such file."""
        ...


@attrs.frozen
class Member:
    """One file in an archive's directory."""

    path: str
    size: int
    mode: int = 0o100644


def make_zip(files: Mapping[str, bytes | str]) -> bytes:
    """Build a zip of *files*: the same mapping always gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, _ZIP_EPOCH)
            packed = path.endswith((".gz", ".zip", ".png", ".whl"))
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


@attrs.define(slots=False, eq=False)
class StoredArchive:
    """An archive held in memory; the bytes need not be a zip."""

    raw: bytes = attrs.field(repr=False)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.raw)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all bytes."""
        return hashlib.sha256(self.raw).hexdigest()

    @cached_property
    def md5(self) -> str:
        """Hex digest of all bytes."""
        return hashlib.md5(self.raw, usedforsecurity=False).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        """At most *length* bytes from *offset* on."""
        return self.raw[offset : offset + length]

    def members(self) -> list[Member]:
        """The files inside, [] when the bytes are no zip."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.raw)) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        except (zipfile.BadZipFile, NotImplementedError):
            return []
        return [
            Member(entry.filename, entry.file_size, entry.external_attr >> 16 or 0o100644)
            for entry in entries
        ]

    def member(self, path: str) -> bytes | None:
        """One file's bytes, None when there is no such file."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.raw)) as archive:
                return archive.read(path)
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
            return None


class GeneratedArchive:
    """A valid zip of one stored file of *size* bytes, computed while it is read: a GiB costs no memory.

    Every 256 KiB of content begins with its own number, so bytes put in the wrong place are noticed.

    Args:
        size: Bytes of the file inside; the archive is about a hundred longer. Below 4 GiB.
        name: The file's path.
        seed: Other seeds give other bytes.
    """

    def __init__(self, size: int, *, name: str = "big.bin", seed: int = 0) -> None:
        if not 0 <= size < 0xFFFF0000:
            raise ValueError(f"a generated archive holds 0 to 4 GiB, not {size} bytes")
        self._content_size = size
        self._name = name
        self._noise = random.Random(seed).randbytes(_BLOCK - 8)
        crc = 0
        for piece in self._pieces():
            crc = zlib.crc32(piece, crc)
        encoded = name.encode()
        fixed = struct.pack("<HHHHLLLHH", 0x800, 0, 0x4000, 0x5C25, crc, size, size, len(encoded), 0)
        self._head = b"PK\x03\x04" + struct.pack("<H", 20) + fixed + encoded
        central = b"PK\x01\x02" + struct.pack("<HH", 0x314, 20) + fixed
        central += struct.pack("<HHHLL", 0, 0, 0, (stat.S_IFREG | 0o644) << 16, 0) + encoded
        end = struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(self._head) + size, 0)
        self._tail = central + b"PK\x05\x06" + end

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._head) + self._content_size + len(self._tail)

    @cached_property
    def sha256(self) -> str:
        """Hex digest of all bytes, computed once: about a second for a GiB."""
        digest = hashlib.sha256(self._head)
        for piece in self._pieces():
            digest.update(piece)
        digest.update(self._tail)
        return digest.hexdigest()

    @cached_property
    def md5(self) -> str:
        """What S3 calls the ETag of an object uploaded in parts: no MD5 of the whole, and quickly made."""
        digest = hashlib.md5(self._head + self._noise + self._tail, usedforsecurity=False)
        return f"{digest.hexdigest()}-{-(-self.size // _PART)}"

    def _pieces(self) -> Iterator[bytes | memoryview]:
        """The content without copying it."""
        noise, left = memoryview(self._noise), self._content_size
        for number in range(-(-left // _BLOCK)):
            yield number.to_bytes(8, "big")[:left]
            yield noise[: max(0, left - 8)]
            left -= _BLOCK

    def _content(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            number, inside = divmod(start, _BLOCK)
            block = number.to_bytes(8, "big") + self._noise
            piece = block[inside : inside + stop - start]
            yield piece
            start += len(piece)

    def read(self, offset: int, length: int) -> bytes:
        """At most *length* bytes from *offset* on."""
        stop = min(self.size, offset + length)
        body_at, tail_at = len(self._head), len(self._head) + self._content_size
        pieces = [self._head[offset:stop]] if offset < body_at else []
        first, last = max(offset, body_at) - body_at, min(stop, tail_at) - body_at
        pieces.extend(self._content(first, last))
        if stop > tail_at:
            pieces.append(self._tail[max(offset - tail_at, 0) : stop - tail_at])
        return b"".join(pieces)

    def members(self) -> list[Member]:
        """The one file inside."""
        return [Member(self._name, self._content_size)]

    def member(self, path: str) -> bytes | None:
        """The one file's bytes: in memory, so ask for small ones only."""
        return b"".join(self._content(0, self._content_size)) if path == self._name else None
