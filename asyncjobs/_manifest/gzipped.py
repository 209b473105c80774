"""Whether a gzip file is whole: inflated to its end, each member's checksum and length looked at.

Speaks for RFC 1952. What comes out is counted and thrown away; nothing is held.
"""

from __future__ import annotations

import zlib

from asyncjobs._errors import IntegrityError
from asyncjobs._manifest.archive import ReadAt

_READ_BYTES = 256 * 1024
_GZIP = zlib.MAX_WBITS | 16
"""Makes zlib read the header of a member and check the CRC and the length behind it."""


def check_gzip(read_at: ReadAt) -> None:
    """Read every member of a gzip file and check it; zeros after the last one are padding, as in tapes.

    Args:
        read_at: Reads the file.

    Raises:
        IntegrityError: Cut or damaged, or something else follows the last member.
    """
    inflater = zlib.decompressobj(_GZIP)
    position = members = 0
    began = False
    while raw := read_at(position, _READ_BYTES):
        position += len(raw)
        while raw:
            if not began and members:
                raw = raw.lstrip(b"\0")
            if not raw:
                break
            began = True
            try:
                inflater.decompress(raw, _READ_BYTES)
            except zlib.error:
                raise IntegrityError("the gzip file is damaged: wrong data, size or checksum") from None
            raw = inflater.unconsumed_tail
            if inflater.eof:
                raw, inflater, began = inflater.unused_data, zlib.decompressobj(_GZIP), False
                members += 1
    if began or not members:
        raise IntegrityError("the gzip file is cut")
