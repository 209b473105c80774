"""Projects, groups and who am I: what fan-out and sign-in checks need. lib/api/projects.rb, groups.rb."""

from __future__ import annotations

from collections.abc import Callable

from asyncjobs.testing._answers import Answer, json_answer, not_found
from asyncjobs.testing._auth import find_project, require_user
from asyncjobs.testing._call import Call, decode
from asyncjobs.testing._paging import id_page, offset_page, wants_keyset
from asyncjobs.testing._people import FakeGroup
from asyncjobs.testing._pipeline_routes import moment_param
from asyncjobs.testing._projects import FakeProject
from asyncjobs.testing._router import Route, modern
from asyncjobs.testing._shapes import group_shape, project_shape, user_shape

_ORDERS: dict[str, Callable[[FakeProject], tuple[object, int]]] = {
    "id": lambda project: (project.id, project.id),
    "name": lambda project: (project.name, project.id),
    "path": lambda project: (project.path, project.id),
    "created_at": lambda project: (project.created_at, project.id),
    "updated_at": lambda project: (project.last_activity_at, project.id),
    "last_activity_at": lambda project: (project.last_activity_at, project.id),
}


def _list(call: Call) -> Answer:
    projects = [one for one in call.world.projects.values() if one.visible_to(call.user)]
    projects = _filtered(call, projects)
    if wants_keyset(call):
        return id_page(call, projects, lambda one: _shape(call, one))
    return _page(call, projects)


def _page(call: Call, projects: list[FakeProject]) -> Answer:
    order = call.choice("order_by", tuple(_ORDERS), "created_at") or "created_at"
    descending = call.choice("sort", ("asc", "desc"), "desc") == "desc"
    projects.sort(key=_ORDERS[order], reverse=descending)
    return offset_page(call, projects, lambda one: _shape(call, one))


def _shape(call: Call, project: FakeProject) -> dict[str, object]:
    return project_shape(call, project, simple=call.flag("simple") or call.user is None)


def _filtered(call: Call, projects: list[FakeProject]) -> list[FakeProject]:
    level = 10 if call.flag("membership") else 0
    level = max(level, 50 if call.flag("owned") else 0, call.number("min_access_level", 0))
    tests: list[Callable[[FakeProject], bool]] = [lambda one: level == 0 or one.access_of(call.user) >= level]
    if call.get("archived"):
        archived = call.flag("archived")
        tests.append(lambda one: one.archived is archived)
    search = (call.get("search") or "").lower()
    whole = call.flag("search_namespaces")
    tests.append(lambda one: search in (one.full_path if whole else one.name).lower())
    visibility = call.choice("visibility", ("private", "internal", "public"))
    tests.append(lambda one: visibility is None or one.visibility == visibility)
    topics = [topic for topic in (call.get("topic") or "").split(",") if topic]
    tests.append(lambda one: all(topic in one.topics for topic in topics))
    after, before = moment_param(call, "last_activity_after"), moment_param(call, "last_activity_before")
    tests.append(lambda one: after is None or one.last_activity_at > after)
    tests.append(lambda one: before is None or one.last_activity_at < before)
    low, high = call.number("id_after", 0), call.number("id_before", 2**62)
    tests.append(lambda one: low < one.id < high)
    return [one for one in projects if all(test(one) for test in tests)]


def _get(call: Call) -> Answer:
    return json_answer(200, project_shape(call, find_project(call)))


def _visible(call: Call, group: FakeGroup) -> bool:
    user = call.user
    if group.visibility == "public" or (user is not None and (user.admin or group.visibility == "internal")):
        return True
    above = [one for one in call.world.groups.values() if one is group or one.contains(group.full_path)]
    if user is not None and any(user.id in one.members for one in above):
        return True
    inside = [one for one in call.world.projects.values() if group.contains(one.full_path)]
    return any(one.visible_to(user) for one in inside)


def _find_group(call: Call) -> FakeGroup:
    wanted = decode(call.path_params["id"])
    for group in call.world.groups.values():
        if wanted in (str(group.id), group.full_path) and _visible(call, group):
            return group
    raise not_found("Group")


def _group(call: Call) -> Answer:
    return json_answer(200, group_shape(call, _find_group(call)))


def _groups(call: Call) -> Answer:
    groups = [group for group in call.world.groups.values() if _visible(call, group)]
    groups.sort(key=lambda group: group.name)
    return offset_page(call, groups, lambda group: group_shape(call, group))


def _group_projects(call: Call) -> Answer:
    group = _find_group(call)
    deep = call.rules.modern and call.flag("include_subgroups")
    inside = [one for one in call.world.projects.values() if group.contains(one.full_path)]
    if not deep:
        inside = [one for one in inside if one.full_path.rpartition("/")[0] == group.full_path]
    return _page(call, _filtered(call, [one for one in inside if one.visible_to(call.user)]))


def _me(call: Call) -> Answer:
    require_user(call)
    return json_answer(200, user_shape(call, call.user))


def _version(call: Call) -> Answer:
    require_user(call)
    return json_answer(200, {"version": call.rules.version, "revision": "0123abcd"})


ROUTES = [
    Route("GET", "/projects", _list),
    Route("GET", "/projects/:id", _get),
    Route("GET", "/groups", _groups),
    Route("GET", "/groups/:id", _group),
    Route("GET", "/groups/:id/projects", _group_projects),
    Route("GET", "/user", _me),
    Route("GET", "/version", _version, since=modern),
]
