"""The two rate limiters: the request throttle of the middleware and the endpoint limits of the application.

They differ in body, headers and Retry-After; both count in fixed windows that begin at whole multiples
of their period since 1970. Sources: lib/gitlab/rack_attack.rb, lib/gitlab/application_rate_limiter.rb.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from asyncjobs.testing._answers import Answer, http_date, json_answer, text_answer
from asyncjobs.testing._answers import Refusal as _Refusal

if TYPE_CHECKING:
    from asyncjobs.testing._call import Call


@attrs.define(eq=False)
class _Window:
    """Counts per key in epoch-aligned windows."""

    period: float
    _number: int = -1
    _counts: Counter[str] = attrs.field(factory=Counter)

    def add(self, key: str, now: float) -> int:
        number = int(now // self.period)
        if number != self._number:
            self._number = number
            self._counts.clear()
        self._counts[key] += 1
        return self._counts[key]

    def ends_in(self, now: float) -> float:
        return self.period - now % self.period


@attrs.define(eq=False, kw_only=True)
class EndpointLimit:
    """A limit of the application: JSON body, no RateLimit headers, Retry-After is the whole interval."""

    limit: int | None = 600
    """Requests per period and user; None switches it off."""
    period: float = 60.0
    _window: _Window | None = None

    def count(self, call: Call) -> None:
        """Count one request.

        Raises:
            Refusal: 429 when it is one too many.
        """
        if self.limit is None:
            return
        if self._window is None or self._window.period != self.period:
            self._window = _Window(self.period)
        key = call.user.username if call.user else "anonymous"
        if self._window.add(key, call.now) > self.limit:
            text = "This endpoint has been requested too many times. Try again later."
            answer = json_answer(429, {"message": {"error": text}})
            answer.put("Retry-After", str(int(self.period)))
            raise _Refusal(answer)


@attrs.define(eq=False, kw_only=True)
class Throttle:
    """The request throttle: text body, RateLimit headers, Retry-After to the end of the window."""

    limit: int | None = None
    """Requests per period and caller; None switches it off, which is the default of an installation."""
    period: float = 60.0
    always_headers: bool = True
    """Recent releases send RateLimit headers with every answer, older ones only with 429."""
    text: str = "Retry later"
    """The administrator may change it."""
    _window: _Window | None = None

    def count(self, call: Call) -> tuple[Answer | None, list[tuple[str, str]]]:
        """Count one request: the 429 when it is one too many, and the headers for its answer."""
        if self.limit is None:
            return None, []
        if self._window is None or self._window.period != self.period:
            self._window = _Window(self.period)
        credential = call.request.headers.get("PRIVATE-TOKEN") or call.request.headers.get("Authorization")
        token = call.world.tokens.get((credential or "").removeprefix("Bearer "))
        known = token is not None
        # A blocked request still counts.
        observed = self._window.add(token.user.username if token else "ip:127.0.0.1", call.now)
        wait = self._window.ends_in(call.now)
        reset = math.ceil(call.now + wait)
        headers = [
            ("RateLimit-Name", f"throttle_{'' if known else 'un'}authenticated_api"),
            # Scaled to a minute, while Observed and Remaining count the real window.
            ("RateLimit-Limit", str(math.ceil(self.limit * 60 / self.period))),
            ("RateLimit-Observed", str(observed)),
            ("RateLimit-Remaining", str(max(0, self.limit - observed))),
            ("RateLimit-Reset", str(reset)),
        ]
        if observed <= self.limit:
            return None, headers if self.always_headers else []
        answer = text_answer(429, self.text)
        headers += [("RateLimit-ResetTime", http_date(reset)), ("Retry-After", str(math.ceil(wait)))]
        return answer, headers
