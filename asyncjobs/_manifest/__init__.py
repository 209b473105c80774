"""What should be on disk: which archives, under which names, and whether some bytes may be trusted.

Pure decisions over values and readers that are passed in. This room writes no file, asks no server and
reads no clock; it speaks for https://docs.gitlab.com/ci/jobs/job_artifacts/, RFC 9110 (ranges) and the
zip format.
"""

from asyncjobs._manifest.actions import (
    LOG_FILE_TYPE,
    Action,
    OnDisk,
    Remembered,
    choose_action,
    lost_reason,
    missing_reason,
    remote_size,
)
from asyncjobs._manifest.archive import (
    EndRecord,
    Kind,
    Member,
    ReadAt,
    check_kind,
    check_zip,
    find_end,
    iter_members,
    recognise,
)
from asyncjobs._manifest.extraction import (
    ExtractionPlan,
    Meter,
    PlannedMember,
    check_members,
    plan_extraction,
    plan_members,
    unpack,
)
from asyncjobs._manifest.gzipped import check_gzip
from asyncjobs._manifest.lockfile import LockedFile, dump_lock, load_lock
from asyncjobs._manifest.names import check_member, collision_key, safe_component, slug
from asyncjobs._manifest.paths import Places, folder_beside, render, with_id
from asyncjobs._manifest.prune import PrunePlan, plan_prune
from asyncjobs._manifest.resume import (
    CONSTANT_ETAG,
    OVERLAP_BYTES,
    ContentRange,
    Decision,
    Held,
    Overlap,
    Resume,
    decide,
    parse_content_range,
    sha256_of,
    usable_validator,
)
from asyncjobs._manifest.single import is_shadowed, why_no_member

__all__ = [
    "CONSTANT_ETAG",
    "LOG_FILE_TYPE",
    "OVERLAP_BYTES",
    "Action",
    "ContentRange",
    "Decision",
    "EndRecord",
    "ExtractionPlan",
    "Held",
    "Kind",
    "LockedFile",
    "Member",
    "Meter",
    "OnDisk",
    "Overlap",
    "Places",
    "PlannedMember",
    "PrunePlan",
    "ReadAt",
    "Remembered",
    "Resume",
    "check_gzip",
    "check_kind",
    "check_member",
    "check_members",
    "check_zip",
    "choose_action",
    "collision_key",
    "decide",
    "dump_lock",
    "find_end",
    "folder_beside",
    "is_shadowed",
    "iter_members",
    "load_lock",
    "lost_reason",
    "missing_reason",
    "parse_content_range",
    "plan_extraction",
    "plan_members",
    "plan_prune",
    "recognise",
    "remote_size",
    "render",
    "safe_component",
    "sha256_of",
    "slug",
    "unpack",
    "usable_validator",
    "why_no_member",
    "with_id",
]
