"""The table of routes: which path and method lead where, in which generation, with or without job token.

A path matches as it stands on the wire: an unencoded slash in a project's path never matches, as with
GitLab (doc/api/rest). `:name` stands for one segment, `*name` for the rest of the path.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from asyncjobs.testing._answers import Answer, error, json_answer
from asyncjobs.testing._auth import authenticate
from asyncjobs.testing._call import Call
from asyncjobs.testing._generations import Rules

Handler = Callable[[Call], Answer]
Since = Callable[[Rules], bool]


def always(_: Rules) -> bool:
    """In every generation."""
    return True


def never(_: Rules) -> bool:
    """In no generation."""
    return False


def modern(rules: Rules) -> bool:
    """From 10 to 18 on."""
    return rules.modern


@attrs.frozen
class Route:
    """One endpoint."""

    method: str
    template: str
    handler: Handler
    since: Since = always
    job_token: Since = never

    pattern: re.Pattern[str] = attrs.field(init=False)

    @pattern.default
    def _compile(self) -> re.Pattern[str]:
        text = re.sub(r":(\w+)", r"(?P<\1>[^/]+)", self.template)
        return re.compile(re.sub(r"\*(\w+)", r"(?P<\1>.+)", text))


def dispatch(routes: list[Route], call: Call) -> Answer:
    """Find the route of a call, check who calls, and run it.

    Raises:
        Refusal: 404 for no such route, 405 for another method, and whatever authentication says.
    """
    method = "GET" if call.request.method == "HEAD" else call.request.method
    allowed: list[str] = []
    for route in routes:
        match = route.pattern.fullmatch(call.route_path)
        if match is None or not route.since(call.rules):
            continue
        if route.method != method:
            allowed.append(route.method)
            continue
        call.path_params = {name: value for name, value in match.groupdict().items() if value is not None}
        may = call.settings.ci_job_token_lists
        token_ok = route.job_token(call.rules) if may is None or route.job_token is always else may
        authenticate(call, job_token=route.job_token is not never and token_ok)
        return route.handler(call)
    if allowed:
        refusal = error(405, "405 Not Allowed")
        refusal.answer.put("Allow", ", ".join(sorted({"OPTIONS", "HEAD", *allowed})))
        raise refusal
    return json_answer(404, {"error": "404 Not Found"})
