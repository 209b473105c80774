"""Answers: which error a status and body become, and what headers say about waiting."""

from __future__ import annotations

import pickle
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    ResponseError,
    ServerError,
)
from asyncjobs._protocol.answers import (
    RateFacts,
    error_class,
    error_message,
    rate_facts,
    request_id,
    response_error,
    server_time,
    speaks_of_limits,
)

NOW = 1_790_000_000.0
JSON, TEXT, HTML = "application/json", "text/plain", "text/html; charset=utf-8"

TOO_OFTEN = "This endpoint has been requested too many times. Try again later."
OFFSET = (
    "Offset pagination has a maximum allowed offset of 50000 for requests that return objects of type"
    " Ci::Build. Remaining records can be retrieved using keyset pagination."
)
EXPIRED = "Token is expired. You can either do re-authorization or token refresh."
NOT_ALLOWED = "Authentication by CI/CD job token not allowed from a to b."

BODIES: list[tuple[int, str, str, type[ResponseError], str]] = [
    (
        301,
        TEXT,
        "This resource has been moved permanently to https://x.",
        ResponseError,
        "This resource has been",
    ),
    (304, "", "", ResponseError, ""),
    (
        400,
        JSON,
        '{"message":"400 Bad request - Unplayable Job"}',
        ResponseError,
        "400 Bad request - Unplayable Job",
    ),
    (400, JSON, '{"message":"400 Bad request"}', ResponseError, "400 Bad request"),
    (
        400,
        JSON,
        '{"error":"job is missing, scope does not have a valid value"}',
        ResponseError,
        "job is missing, scope",
    ),
    (400, JSON, '{"message":{"base":["a","b"],"name":["c"]}}', ResponseError, "base a, b; name c"),
    (401, JSON, '{"message":"401 Unauthorized"}', AuthenticationError, "401 Unauthorized"),
    (
        401,
        JSON,
        f'{{"error":"invalid_token","error_description":"{EXPIRED}"}}',
        AuthenticationError,
        f"invalid_token: {EXPIRED}",
    ),
    (
        403,
        JSON,
        '{"error":"insufficient_scope","error_description":"Higher privileges.","scope":"api read_api"}',
        ForbiddenError,
        "insufficient_scope: Higher privileges.",
    ),
    (403, JSON, '{"message":"403 Forbidden"}', ForbiddenError, "403 Forbidden"),
    (
        403,
        JSON,
        '{"message":"403 Forbidden - Job is not retryable"}',
        ForbiddenError,
        "403 Forbidden - Job is not",
    ),
    (
        403,
        JSON,
        f'{{"message":"403 Forbidden - {NOT_ALLOWED}"}}',
        ForbiddenError,
        f"403 Forbidden - {NOT_ALLOWED}",
    ),
    (404, JSON, '{"message":"404 Project Not Found"}', NotFoundError, "404 Project Not Found"),
    (404, JSON, '{"message":"404 Not found"}', NotFoundError, "404 Not found"),
    (404, JSON, '{"error":"404 Not Found"}', NotFoundError, "404 Not Found"),
    (404, TEXT, "404 page not found\n", NotFoundError, "404 page not found"),
    (405, JSON, f'{{"error":"{OFFSET}"}}', ResponseError, OFFSET[:100]),
    (
        405,
        JSON,
        '{"message":"Non GET methods are not allowed for moved projects"}',
        ResponseError,
        "Non GET methods",
    ),
    (409, JSON, '{"message":"409 Conflict: Resource lock"}', ConflictError, "409 Conflict: Resource lock"),
    (
        410,
        JSON,
        '{"error":"API V3 is no longer supported. Use API V4 instead."}',
        ResponseError,
        "API V3 is no",
    ),
    (412, "", "", ResponseError, ""),
    (422, JSON, '["a", {"b": 1}]', ResponseError, "a, b 1"),
    (429, TEXT, "Retry later\n", RateLimitedError, "Retry later"),
    (429, JSON, f'{{"message":{{"error":"{TOO_OFTEN}"}}}}', RateLimitedError, TOO_OFTEN),
    (500, JSON, '{"message":"500 Internal Server Error"}', ServerError, "500 Internal Server Error"),
    (
        502,
        HTML,
        "<html><head><TITLE>GitLab is not responding</TITLE>",
        ServerError,
        "HTML page 'GitLab is not",
    ),
    (502, TEXT, "<!DOCTYPE html>\n<p>x", ServerError, "an HTML page"),
    (503, HTML, "", ServerError, ""),
    (503, JSON, '{"message":null}', ServerError, ""),
    (504, JSON, '{"message":', ServerError, '{"message":'),
    (520, JSON, "{}", ServerError, ""),
    (
        403,
        "application/xml",
        "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
        ForbiddenError,
        "AccessDenied: Request has expired",
    ),
]


@pytest.mark.parametrize(
    ("status", "kind", "body", "cls", "message"), BODIES, ids=[f"{b[0]} {b[2][:40]}" for b in BODIES]
)
def test_every_error_body(status: int, kind: str, body: str, cls: type[ResponseError], message: str) -> None:
    """Each body that GitLab, its proxies and object stores send is a typed error with one line of text."""
    error = response_error(
        status,
        {"content-type": kind, "x-request-id": "01ABC"},
        body.encode(),
        method="GET",
        url="https://gitlab.example.com/api/v4/x",
        now=NOW,
        from_storage=False,
    )
    assert type(error) is cls is error_class(status)
    assert error.message.startswith(message)
    assert error.message.isprintable()
    assert bool(error.message) == bool(message)
    assert (error.status, error.request_id, error.from_storage) == (status, "01ABC", False)
    text = str(error)
    assert text.startswith(f"GET https://gitlab.example.com/api/v4/x: {status}")
    assert f"{status} {status}" not in text
    assert "None" not in text
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (cls, text, vars(error))


@pytest.mark.parametrize(
    ("status", "body", "from_storage", "expected"),
    [
        (404, b'{"error":"404 Not Found"}', False, True),
        (404, b'{"error": "404 Not Found"}\n', False, True),
        (404, b'{"error":"404 Not Found"}', True, False),
        (400, b'{"error":"404 Not Found"}', False, False),
        (404, b'{"message":"404 Not Found"}', False, False),
        (404, b'{"message":"404 Not found"}', False, False),
        (404, b'{"error":"404 Not Found","message":"404 Not Found"}', False, False),
        (404, b'{"error":"job is missing"}', False, False),
        (404, b"404 page not found\n", False, False),
        (404, b'"404 Not Found"', False, False),
        (404, b"404 Not Found", False, False),
        (404, b"[" * 100_000, False, False),
        (404, b"\xff\xfe", False, False),
        (404, b"", False, False),
    ],
)
def test_only_one_404_is_for_the_path(status: int, body: bytes, from_storage: bool, expected: bool) -> None:
    """GitLab says that it has no such endpoint in one way; nothing that is missing is taken for that."""
    error = response_error(status, {}, body, method="GET", url="u", now=NOW, from_storage=from_storage)
    assert error.no_route is expected


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_a_class(status: int) -> None:
    """Whatever the status, there is one class for it; 5xx are all the server's."""
    assert issubclass(error_class(status), ResponseError)
    assert issubclass(error_class(status), ServerError) == (status >= 500)


def test_hints() -> None:
    """What to do stands behind the usual statuses, a better hint replaces it, and a store gets none."""

    def error(status: int, **more: object) -> str:
        values: dict[str, object] = {"from_storage": False, **more}
        return response_error(status, {}, b"", method="GET", url="u", now=NOW, **values).reason  # type: ignore[arg-type]

    assert error(401) == "401 (the token is missing, wrong, expired or not accepted here)"
    assert error(401, hint="no token was given") == "401 (no token was given)"
    assert error(403) == "403 (the token may not do this)"
    assert error(403, from_storage=True) == "403"
    assert error(404) == "404 (it does not exist, or the token may not see it)"
    assert error(407) == "407 (this is the proxy: give its user and password in the proxy's URL)"
    assert error(408) == "408"
    assert error(418) == "418"


@pytest.mark.parametrize("name", ["x-request-id", "x-amz-request-id", "x-goog-request-id"])
def test_whoever_answered_names_the_exchange(name: str) -> None:
    """GitLab and the usual object stores say it in headers of their own; GitLab's word is taken first."""
    assert request_id({name: "01\x1bABC"}) == "01 ABC"
    assert request_id({name: "store", "x-request-id": "gitlab"}) == "gitlab"
    assert request_id({"x-other-request-id": "x"}) is None


@given(st.binary(max_size=300), st.sampled_from([JSON, TEXT, HTML, ""]))
def test_any_body_becomes_one_line(body: bytes, kind: str) -> None:
    """No body, however broken, makes the reading of an error fail or holds a control character."""
    message = error_message(kind, body)
    assert message.isprintable()
    assert len(message) <= 200


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 60_000, b'{"message":' * 900 + b"1" + b"}" * 900])
def test_deep_error_bodies(body: bytes) -> None:
    """A body nested without end is cut text, not a crash."""
    assert len(error_message(JSON, body)) <= 200


# -- rate limits ----------------------------------------------------------------------------------

DATE = formatdate(NOW, usegmt=True)
OUR_CLOCK = NOW + 5_000.0  # ours is wrong; the answer's own Date counts


@pytest.mark.parametrize(
    ("headers", "facts"),
    [
        ({}, RateFacts()),
        ({"retry-after": "30"}, RateFacts(retry_after=30.0)),
        ({"retry-after": " 0 "}, RateFacts(retry_after=0.0)),
        ({"retry-after": "1.5"}, RateFacts(retry_after=1.5)),
        ({"retry-after": "-5"}, RateFacts(retry_after=0.0)),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, RateFacts(retry_after=90.0)),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, RateFacts(retry_after=0.0)),
        ({"retry-after": "86400000"}, RateFacts(retry_after=86_400_000.0)),
        ({"retry-after": "9" * 400}, RateFacts()),
        ({"retry-after": "soon"}, RateFacts()),
        ({"retry-after": "1e3"}, RateFacts()),
        ({"retry-after": "nan"}, RateFacts()),
        ({"retry-after": "٣"}, RateFacts()),
        ({"retry-after": ""}, RateFacts()),
        ({"ratelimit-reset": str(int(NOW) + 40)}, RateFacts(reset_in=40.0)),
        ({"ratelimit-reset": str(int(NOW) - 40)}, RateFacts(reset_in=1.0)),
        ({"ratelimit-reset": str(int(NOW) + 4000)}, RateFacts(reset_in=300.0)),
        ({"ratelimit-reset": "garbage"}, RateFacts()),
        ({"ratelimit-resettime": formatdate(NOW + 7, usegmt=True)}, RateFacts(reset_in=7.0)),
        (
            {"ratelimit-reset": "x", "ratelimit-resettime": formatdate(NOW + 7, usegmt=True)},
            RateFacts(reset_in=7.0),
        ),
        ({"ratelimit-remaining": "7200"}, RateFacts(remaining=7200)),
        ({"ratelimit-remaining": "-1"}, RateFacts(remaining=0)),
        (
            {
                "retry-after": "10",
                "ratelimit-reset": str(int(NOW) + 50),
                "ratelimit-remaining": "3",
                "ratelimit-limit": "120",
                "ratelimit-observed": "7197",
            },
            RateFacts(retry_after=10.0, remaining=3, reset_in=50.0),
        ),
    ],
    ids=repr,
)
def test_what_headers_say(headers: dict[str, str], facts: RateFacts) -> None:
    """Seconds, dates, resets, garbage and contradictions: read against the answer's Date or ignored."""
    assert rate_facts({"date": DATE, **headers}, now=OUR_CLOCK) == facts
    assert speaks_of_limits(headers) or facts == RateFacts()


def test_without_a_date_our_clock_counts() -> None:
    """An answer without a usable Date is read against our own clock."""
    headers = {"retry-after": formatdate(NOW + 90, usegmt=True)}
    assert rate_facts(headers, now=NOW + 30) == RateFacts(retry_after=60.0)
    assert rate_facts({**headers, "date": "yesterday"}, now=NOW + 30) == RateFacts(retry_after=60.0)
    assert server_time({"date": DATE}) == NOW
    assert server_time({}) is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_dates_do_not_depend_on_where_we_are(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """A date is GMT, says its own offset, or is read as GMT: never as the time of this machine."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for text in ("GMT", "-0000", "+0000"):
            assert server_time({"date": f"Mon, 21 Sep 2026 14:13:20 {text}"}) == NOW
        assert server_time({"date": "Mon, 21 Sep 2026 16:13:20 +0200"}) == NOW
        assert server_time({"date": "Mon, 21 Sep 2026 14:13:20"}) == NOW
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("headers", "retry_after"),
    [
        ({"retry-after": "30", "ratelimit-reset": str(int(NOW) + 9)}, 30.0),
        ({"ratelimit-reset": str(int(NOW) + 9)}, 9.0),
        ({"retry-after": "soon", "ratelimit-reset": str(int(NOW) + 9)}, 9.0),
        ({"ratelimit-remaining": "0"}, None),
        ({}, None),
    ],
)
def test_how_long_a_429_asks_to_wait(headers: dict[str, str], retry_after: float | None) -> None:
    """Retry-After first; the window's end only where a 429 says nothing else; a 503 never by the window."""

    def error(status: int) -> ResponseError:
        return response_error(
            status, {"date": DATE, **headers}, b"", method="GET", url="u", now=NOW, from_storage=False
        )

    assert error(429).retry_after == retry_after
    assert error(503).retry_after == (30.0 if headers.get("retry-after") == "30" else None)


@given(
    st.dictionaries(
        st.sampled_from(
            ["date", "retry-after", "ratelimit-reset", "ratelimit-resettime", "ratelimit-remaining"]
        ),
        st.text(max_size=70)
        | st.from_regex(r"Mon, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,4} [0-9:]{1,8} [+-][0-9]{4}"),
    )
)
def test_any_header_can_be_read(headers: dict[str, str]) -> None:
    """No header whatever makes the reading fail, and no wait is negative or not a number."""
    facts = rate_facts(headers, now=NOW)
    assert facts.retry_after is None or facts.retry_after >= 0.0
    assert facts.reset_in is None or 1.0 <= facts.reset_in <= 300.0
    assert facts.remaining is None or facts.remaining >= 0
    server_time(headers)
