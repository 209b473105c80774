"""Bodies: an exact gzip decoder with bounds, and JSON read into models or refused by name.

A cut gzip stream is an error here, although HTTP framed it correctly (RFC 1952; aiohttp's own
decoder lets it pass). JSON is at most 32 MiB decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, TypeVar

import attrs
import msgspec

from asyncjobs._models import ArtifactEntry, Bridge, Job, Pipeline, Project
from asyncjobs._protocol.joblists import read_jobs
from asyncjobs._protocol.urls import printable

MAX_JSON_BYTES: Final = 32 * 1024 * 1024
OFF_LOOP_BYTES: Final = 1024 * 1024
"""JSON longer than this is decoded in a thread: 26 MiB would hold the loop for 0.3 s."""
MAX_ERROR_BYTES: Final = 64 * 1024
_STEP_BYTES: Final = 256 * 1024
_RATIO_LIMIT: Final = 100
_RATIO_AFTER_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class BodyError(ValueError):
    """The body is not what its headers or its endpoint promise; the message says how."""


class CutBodyError(BodyError):
    """The encoded body ended before its end."""


class GzipDecoder:
    """Feed wire bytes, get decoded bytes in steps of at most 256 KiB; `finish` demands a whole stream.

    Args:
        ratio_limit: Refuse a body that grows more than a hundredfold after the first MiB: right for
            JSON, wrong for logs, which may be a million equal lines.
    """

    def __init__(self, *, ratio_limit: bool) -> None:
        self._inflater = zlib.decompressobj(wbits=31)
        self._ratio_limit = ratio_limit
        self._fed = 0
        self._made = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode *data*.

        Raises:
            BodyError: Not gzip, a wrong checksum, bytes after the end, or a bomb.
        """
        self._fed += len(data)
        while data:
            if self._inflater.eof:
                # RFC 1952 allows members in a row; anything else after the end is refused by zlib.
                self._inflater = zlib.decompressobj(wbits=31)
            try:
                part = self._inflater.decompress(data, _STEP_BYTES)
            except zlib.error as error:
                raise BodyError(f"damaged gzip body: {error}") from None
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            self._made += len(part)
            if (
                self._ratio_limit
                and self._made > _RATIO_AFTER_BYTES
                and self._made > self._fed * _RATIO_LIMIT
            ):
                raise BodyError("a gzip body that grows more than a hundredfold")
            if part:
                yield part

    def finish(self) -> None:
        """Demand that the last member was whole.

        Raises:
            CutBodyError: It was not, or nothing came at all.
        """
        if not self._inflater.eof:
            raise CutBodyError("the gzip body was cut")


def content_encoding(headers: Mapping[str, str]) -> str:
    """`identity` or `gzip`.

    Raises:
        BodyError: Another encoding, which was not asked for.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return "identity"
    if encoding in {"gzip", "x-gzip"}:
        return "gzip"
    raise BodyError(f"a body in the encoding {printable(encoding, limit=40)!r}, which was not asked for")


@attrs.frozen
class Shape(Generic[T]):
    """How one kind of JSON body is read: its name for messages, and a function that decodes it."""

    what: str
    decode: Callable[[bytes], T]

    def read(self, body: bytes) -> T:
        """Decode a whole body.

        Raises:
            CutBodyError: The JSON breaks off.
            BodyError: Not JSON, or JSON of another shape; the message has the place and up to 200
                characters of the body.
        """
        try:
            return self.decode(body)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            problem = "nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
        kind = CutBodyError if "truncated" in problem else BodyError
        raise kind(f"this is not the JSON of {self.what}: {problem}; it begins {excerpt(body)!r}")


def excerpt(body: bytes) -> str:
    """The first 200 characters of *body*, safe to print."""
    return printable(body[:1024].decode("utf-8", "replace"))


JOB: Final = Shape("a job", msgspec.json.Decoder(Job).decode)
JOBS: Final = Shape("a list of jobs", read_jobs)
BRIDGE: Final = Shape("a trigger job", msgspec.json.Decoder(Bridge).decode)
BRIDGES: Final = Shape("a list of trigger jobs", msgspec.json.Decoder(list[Bridge]).decode)
PIPELINE: Final = Shape("a pipeline", msgspec.json.Decoder(Pipeline).decode)
PIPELINES: Final = Shape("a list of pipelines", msgspec.json.Decoder(list[Pipeline]).decode)
PROJECT: Final = Shape("a project", msgspec.json.Decoder(Project).decode)
PROJECTS: Final = Shape("a list of projects", msgspec.json.Decoder(list[Project]).decode)
ENTRIES: Final = Shape("a list of archive entries", msgspec.json.Decoder(list[ArtifactEntry]).decode)


class _Probe(msgspec.Struct):
    downstream_pipeline: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_PROBE: Final = Shape("a job", msgspec.json.Decoder(_Probe).decode)


def read_played(body: bytes) -> Job | Bridge:
    """Playing a trigger job answers with a bridge: the only one with a key for its downstream pipeline.

    Raises:
        BodyError: Neither.
    """
    bridge = _PROBE.read(body).downstream_pipeline is not msgspec.UNSET
    return BRIDGE.read(body) if bridge else JOB.read(body)
