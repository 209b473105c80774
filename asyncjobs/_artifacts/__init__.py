"""Archives: one to a file, many to a folder that stays equal to GitLab's.

Puts the endpoints, the decisions of `_manifest` and the disk of `_storage` together. It knows what a user
wants of archives, and neither the shape of HTTP nor how a file is written.
"""

from asyncjobs._artifacts.download import (
    download_artifact_member,
    download_artifacts,
    download_ref_artifacts,
)
from asyncjobs._artifacts.lock import sync_locked, write_lock
from asyncjobs._artifacts.members import list_members
from asyncjobs._artifacts.sync import sync_artifacts

__all__ = [
    "download_artifact_member",
    "download_artifacts",
    "download_ref_artifacts",
    "list_members",
    "sync_artifacts",
    "sync_locked",
    "write_lock",
]
