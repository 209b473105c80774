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
from asyncjobs._manifest.lockfile import LockedFile, dump_lock, load_lock
from asyncjobs._manifest.names import check_member, collision_key, safe_component, slug
from asyncjobs._manifest.paths import Places, folder_beside, render, with_id
from asyncjobs._manifest.prune import PrunePlan, plan_prune
from asyncjobs._manifest.resume import (
    CONSTANT_ETAG,
    ContentRange,
    Decision,
    Held,
    Resume,
    decide,
    parse_content_range,
    sha256_of,
    usable_validator,
)

__all__ = [
    "CONSTANT_ETAG",
    "LOG_FILE_TYPE",
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
    "Places",
    "PlannedMember",
    "PrunePlan",
    "ReadAt",
    "Remembered",
    "Resume",
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
    "iter_members",
    "load_lock",
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
    "with_id",
]
