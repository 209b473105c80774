"""How jobs, pipelines, projects and groups are named: by a project and numbers, or by their web address."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import attrs


def _check_project(_: object, __: attrs.Attribute[int | str], value: int | str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"a project is an int or a full path, not {type(value).__name__}")
    if isinstance(value, int):
        if value <= 0:
            raise ValueError(f"a project id is positive, not {value}")
        return
    check_full_path(value, what="project")


def check_full_path(path: str, *, what: str) -> None:
    """Refuse a path that GitLab could not have and that could change the request.

    Raises:
        ValueError: Empty, has an empty, `.` or `..` part, a control character, or a percent sign.
    """
    if "%" in path:
        raise ValueError(f"not a {what} path: {path!r}; give it as people write it, not percent-encoded")
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or any(ord(c) < 0x20 or c == "\x7f" for c in path):
        raise ValueError(f"not a {what} path: {path!r}")


def _plain(value: int | str) -> int | str:
    """An id that came as text, as CI variables do, is the number: both name the same project."""
    return int(value) if isinstance(value, str) and _is_id(value) else value


def _check_id(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} is an int, not {type(value).__name__}")
    if value <= 0:
        raise ValueError(f"{attribute.name} is positive, not {value}")


@attrs.frozen
class ProjectRef:
    """A project: its id, or its full path such as `group/app`."""

    project: int | str = attrs.field(converter=_plain, validator=_check_project)

    def __str__(self) -> str:
        return str(self.project)


@attrs.frozen
class PipelineRef:
    """One pipeline of a project."""

    project: int | str = attrs.field(converter=_plain, validator=_check_project)
    pipeline_id: int = attrs.field(validator=_check_id)

    def __str__(self) -> str:
        return f"{self.project}/-/pipelines/{self.pipeline_id}"


@attrs.frozen
class JobRef:
    """One job of a project."""

    project: int | str = attrs.field(converter=_plain, validator=_check_project)
    job_id: int = attrs.field(validator=_check_id)

    def __str__(self) -> str:
        return f"{self.project}/-/jobs/{self.job_id}"


# The slots' own setters: what attrs' frozen __init__ does, without a check and a look-up for each value.
_new_ref = JobRef.__new__
_set_project = JobRef.__dict__["project"].__set__
_set_job_id = JobRef.__dict__["job_id"].__set__


def job_ref(project: int | str, job_id: int) -> JobRef:
    """A reference to a listed job: project and id were checked when they were asked for and decoded.

    Checking each job of a page again costs a tenth of what decoding the page does.
    """
    ref = _new_ref(JobRef)
    _set_project(ref, project)
    _set_job_id(ref, job_id)
    return ref


def _check_group(_: object, __: attrs.Attribute[int | str], value: int | str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"a group is an int or a full path, not {type(value).__name__}")
    if isinstance(value, str):
        check_full_path(value, what="group")
    elif value <= 0:
        raise ValueError(f"a group id is positive, not {value}")


@attrs.frozen
class GroupRef:
    """A group: every project in it, and in its subgroups unless told otherwise."""

    group: int | str = attrs.field(converter=_plain, validator=_check_group)
    include_subgroups: bool = True

    def __str__(self) -> str:
        return f"groups/{self.group}"


Target = ProjectRef | PipelineRef | JobRef | GroupRef
"""What fan-out, tail and sync accept, each also as the text that `parse_target` reads."""

ACCEPTED = (
    "a target is group/app, group/app/-/pipelines/6, group/app/-/jobs/8, groups/group,"
    " or the full web address of one of them"
)

_PROJECT_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")

# What GitLab keeps for its own pages, so that no group, and no project below a group, has such a name.
# https://docs.gitlab.com/user/reserved_names/
_RESERVED_FIRST = re.compile(
    "admin|api|assets|dashboard|explore|files|groups|health_check|help|import|jwt|login|oauth|profile|projects"
    "|public|s|search|snippets|unsubscribes|uploads|users|v2"
)
_RESERVED_LATER = re.compile(
    "badges|blame|blob|builds|commits|create|create_dir|edit|files|find_file|new|preview|raw|refs|tree|update"
    "|wikis"
)


def parse_target(text: str) -> Target:
    """Read a target in one of GitLab's own forms.

    Accepts `group/app`, `group/app/-/pipelines/6`, `group/app/-/jobs/8`, `groups/group`, a bare
    project id, and the full web address of each (its host is not compared with anything here).

    Raises:
        ValueError: Anything else; the message says what is accepted.
    """
    if not isinstance(text, str):
        raise ValueError(f"not a target: {type(text).__name__}; {ACCEPTED}")  # noqa: TRY004 - as promised
    path = _path_of(text)
    head, separator, tail = path.partition("/-/")
    head = head.strip("/")
    if not separator and head.startswith("groups/"):
        return GroupRef(_full_path(head.removeprefix("groups/"), text, least=1))
    if not separator:
        return ProjectRef(_project(head, text))
    match tail.strip("/").split("/"):
        case ["pipelines", number] if _is_id(number):
            return PipelineRef(_project(head, text), int(number))
        case ["jobs", number] if _is_id(number):
            return JobRef(_project(head, text), int(number))
    raise _refuse(text)


def _path_of(text: str) -> str:
    """The part of *text* that names the target, without scheme, host, query and fragment."""
    text = text.strip()
    if "://" not in text:
        return text.strip("/")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _refuse(text) from None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise _refuse(text)
    return unquote(parts.path).strip("/")


def _is_id(text: str) -> bool:
    return re.fullmatch(r"0*[1-9][0-9]{0,18}", text) is not None


def _project(head: str, text: str) -> int | str:
    if _is_id(head):
        return int(head)
    return _full_path(head, text, least=2)


def _full_path(path: str, text: str, *, least: int) -> str:
    parts = path.split("/")
    if (
        len(parts) < least
        or _RESERVED_FIRST.fullmatch(parts[0])
        or any(_RESERVED_LATER.fullmatch(part) for part in parts[1:])
        or not all(_PROJECT_PART.fullmatch(part) for part in parts)
    ):
        raise _refuse(text)
    return path


def _refuse(text: str) -> ValueError:
    # The text may be an address with a password or a token in it: neither is repeated. A password may
    # hold any character, so with an @ in the text nothing of it is certain to be harmless.
    head = re.split(r"[?#]", text, maxsplit=1)[0][:200]
    shown = repr(head) if head or not text else f"what begins with {text[0]!r}"
    if "@" in text:
        shown = "an address with an @ in it"
    return ValueError(f"not a target: {shown}; {ACCEPTED}")


def as_target(value: Target | str) -> Target:
    """Take a target as it is, or parse its text form.

    Raises:
        ValueError: Text that `parse_target` refuses.
        TypeError: Neither a target nor text.
    """
    if isinstance(value, str):
        return parse_target(value)
    if isinstance(value, Target):
        return value
    raise TypeError(f"not a target: {type(value).__name__}; {ACCEPTED}")
