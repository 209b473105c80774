"""A streaming answer: bytes as they come, decoded when asked for, counted, and watched for slowness."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal

from asyncjobs._clock import Clock
from asyncjobs._errors import BadResponseError, RequestTimeout, TruncatedBodyError
from asyncjobs._options import Timeouts
from asyncjobs._protocol.bodies import BodyError, CutBodyError, GzipDecoder, content_encoding
from asyncjobs._transport import Reply

Framing = Literal["length", "chunked", "close"]


class Body:
    """One answer with a good status. Iterate it once; leaving its context frees the connection."""

    def __init__(
        self,
        reply: Reply,
        *,
        clock: Clock,
        timeouts: Timeouts | None,
        count: Callable[[int], None],
        ratio_limit: bool,
    ) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        """Lower-case names; repeated ones joined with a comma."""
        self.from_api = reply.hop.trusted
        """False when another origin answered, as object storage does after a redirect."""
        self.received = 0
        """Body bytes so far, as they crossed the network."""
        self.method = reply.hop.method
        self._reply = reply
        self._clock = clock
        self._timeouts = timeouts
        self._count = count
        self._ratio_limit = ratio_limit

    @property
    def url(self) -> str:
        """What answered, safe to print."""
        return self._reply.hop.shown

    @property
    def framing(self) -> Framing:
        """How the end is known. After `close` only the content itself can prove that it is whole."""
        framing = self._reply.framing
        return "length" if framing == "length" else "chunked" if framing == "chunked" else "close"

    @property
    def length(self) -> int | None:
        """How many bytes iteration gives, or None when that is not announced."""
        if "content-encoding" in self.headers and self.headers["content-encoding"].lower() != "identity":
            return None
        announced = self.headers.get("content-length", "")
        return int(announced) if self.framing == "length" and announced.isdigit() else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Non-empty pieces of the body.

        Raises:
            RequestError: It broke, stalled, was too slow or was cut.
            BadResponseError: An encoding that was not asked for, or a damaged one.
        """
        if self.status in {204, 304}:
            return
        try:
            encoding = content_encoding(self.headers)
        except BodyError as error:
            raise self._bad(error) from None
        if encoding == "identity":
            async for piece in self._wire():
                yield piece
                del piece  # so that no frame of ours shows it in a traceback with locals
            return
        decoder = GzipDecoder(ratio_limit=self._ratio_limit)
        try:
            async for piece in self._wire():
                for part in decoder.feed(piece):
                    yield part
            decoder.finish()
        except CutBodyError as error:
            raise TruncatedBodyError(str(error), method=self.method, url=self.url) from None
        except BodyError as error:
            raise self._bad(error) from None

    async def read(self, most: int) -> bytes:
        """The whole body.

        Raises:
            RequestError: As iteration does.
            BadResponseError: More than *most* bytes, or as iteration does.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in self:
                size += len(piece)
                if size > most:
                    raise self._bad(BodyError(f"a body of more than {most} bytes"))
                pieces.append(piece)
                del piece
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            pieces.clear()

    async def _wire(self) -> AsyncIterator[bytes]:
        announced = self.headers.get("content-length", "")
        watch = _SlownessWatch(self._clock, self._timeouts)
        while True:
            watch.begin()
            piece = await self._reply.read()
            if watch.too_slow(len(piece)):
                raise RequestTimeout(
                    f"slower than {watch.least} bytes per second", method=self.method, url=self.url
                )
            if not piece:
                break
            self.received += len(piece)
            self._count(len(piece))
            yield piece
            del piece
        # aiohttp raises on a short body as a rule; completeness is still judged by our own count.
        if self.framing == "length" and announced.isdigit() and self.received != int(announced):
            raise TruncatedBodyError(
                f"{self.received} of {announced} bytes arrived", method=self.method, url=self.url
            )

    def _bad(self, error: BodyError) -> BadResponseError:
        return BadResponseError(str(error), status=self.status, method=self.method, url=self.url)


class _SlownessWatch:
    """Mean speed over a window of time spent waiting for bytes; the consumer's own pauses do not count."""

    def __init__(self, clock: Clock, timeouts: Timeouts | None) -> None:
        self._clock = clock
        self.least = None if timeouts is None else timeouts.min_bytes_per_second
        self._window = 0.0 if timeouts is None else timeouts.speed_window
        self._waited = 0.0
        self._bytes = 0
        self._began = 0.0

    def begin(self) -> None:
        if self.least is not None:
            self._began = self._clock.monotonic()

    def too_slow(self, new_bytes: int) -> bool:
        """Count a piece; True when the last whole window was slower than allowed."""
        if self.least is None or not new_bytes:
            return False
        self._waited += self._clock.monotonic() - self._began
        self._bytes += new_bytes
        if self._waited < self._window:
            return False
        slow = self._bytes < self.least * self._waited
        self._waited, self._bytes = 0.0, 0
        return slow
