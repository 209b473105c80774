"""Files and folders: partial files, hashes, atomic names, the SQLite manifest, unpacking.

The only room that writes to a disk or imports aiofiles. It knows nothing of GitLab, HTTP or what an archive
is; what it should judge it is given as a function.
"""

from asyncjobs._storage.hops import Hops, joined
from asyncjobs._storage.ledger import UNFINISHED, FileRow, Ledger, TreeRow
from asyncjobs._storage.parts import (
    GATHER_BYTES,
    Part,
    claim_part,
    drop_part,
    examine_beside,
    sweep_beside,
)
from asyncjobs._storage.roots import Root
from asyncjobs._storage.seam import BlockingFolder, FileFacts, Files, Folder, ReadAt, Writer
from asyncjobs._storage.storage import Storage

__all__ = [
    "GATHER_BYTES",
    "UNFINISHED",
    "BlockingFolder",
    "FileFacts",
    "FileRow",
    "Files",
    "Folder",
    "Hops",
    "Ledger",
    "Part",
    "ReadAt",
    "Root",
    "Storage",
    "TreeRow",
    "Writer",
    "claim_part",
    "drop_part",
    "examine_beside",
    "joined",
    "sweep_beside",
]
