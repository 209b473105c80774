"""Bring one file's bytes into a partial file, through whatever breaks on the way.

Drives the one retry layer of the client: each attempt asks the API anew (so a signed link is always fresh),
goes on where the bytes end when the answer proves that it may, and otherwise begins again. What an answer is
good for is decided in `asyncjobs._manifest`; nothing has its final name here.

Bytes from more than one answer are proven twice: each answer begins with a piece that is here already, and
the whole is held against the checksums that a zip or gzip file carries.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs

from asyncjobs._api import Api, Attempts, Body
from asyncjobs._artifacts.meter import Meter
from asyncjobs._errors import (
    AsyncJobsError,
    IntegrityError,
    ProtocolError,
    TruncatedBodyError,
)
from asyncjobs._manifest import (
    OVERLAP_BYTES,
    Decision,
    Held,
    Kind,
    Overlap,
    ReadAt,
    Resume,
    check_gzip,
    check_kind,
    check_members,
    check_zip,
    decide,
    sha256_of,
    usable_validator,
)
from asyncjobs._storage import FileFacts, Folder, Part, claim_part, examine_beside

OpenBody = Callable[[int | None, str | None], AbstractAsyncContextManager[Body]]
"""`open(range_start, if_range)`: one request for the file, or for its rest."""

_ROUNDS = 2
"""How often a file is fetched to its end before one that is not right is believed to be so on the server."""
_CHANGES = 2
"""How often the file may turn out to be another one before we stop chasing it."""
_HEAD_BYTES = 16


@attrs.frozen(kw_only=True)
class Source:
    """What to fetch and what is known of it."""

    key: str
    """Names exactly this file, so that partial bytes of another one are never gone on with."""
    call: str
    """For messages."""
    open: OpenBody
    expected: int | None = None
    """Bytes the job record announces."""
    file_format: str | None = None
    """`zip`, `gzip` or `raw` from the job record."""
    any_bytes: bool = False
    """A file out of an archive: it may look like anything, pages included."""
    resumable: bool = True
    sha256: str | None = None
    """The hash it must have, from a lock file."""


@attrs.frozen
class Fetched:
    """A whole, verified file that still waits for its name."""

    part: Part
    size: int
    sha256: str
    kind: Kind
    mtime_ns: int
    in_its_place: FileFacts | None
    """What had the name when it was verified."""


class _RefusedError(ProtocolError):
    """A good status with something else than the file; tried again like a broken connection."""


async def fetch_whole(
    api: Api,
    folder: Folder,
    name: str,
    source: Source,
    meter: Meter,
    *,
    fsync: bool,
    check_crcs: bool = False,
) -> Fetched:
    """Fetch and verify a file into a partial file beside *name*.

    Args:
        api: The endpoints.
        folder: Where the file will be.
        name: What it will be called; `Fetched.part.place` gives it the name.
        source: What to fetch.
        meter: Is told of every byte, and may slow the reading.
        fsync: Force the bytes to the disk before returning.
        check_crcs: Also read every member of a zip. Always done when HTTP did not prove the end of the
            body, and when the bytes are from more than one answer, unless a hash from elsewhere proves them.

    Raises:
        IntegrityError: It arrived whole twice and was not what was announced, or something else arrived
            each time; nothing is kept.
        RequestError, ResponseError: The retry policy is used up.
        DestinationError: The disk refused.

    Cancellation: what is here is kept for the next call when the server can go on from it.
    """
    attempts = api.attempts("download", call=source.call)
    for left in reversed(range(_ROUNDS)):
        part = await claim_part(folder, name, source.key)
        transfer = _Transfer(api, part, source, meter, attempts)
        try:
            await transfer.run()
            outcome = await _verified(transfer, folder, name, fsync=fsync, check_crcs=check_crcs)
        except IntegrityError:
            await part.discard()
            raise
        except BaseException:
            await part.release()
            raise
        if isinstance(outcome, Fetched):
            return outcome
        await part.discard()
        if not left:
            raise outcome
        await _wait(attempts, _RefusedError(str(outcome)))
    raise AssertionError("the last round returns or raises")


async def _verified(
    transfer: _Transfer, folder: Folder, name: str, *, fsync: bool, check_crcs: bool
) -> Fetched | IntegrityError:
    """Close a file that is here to its last byte: it, or what is wrong with it."""
    part = transfer.part
    crcs = check_crcs or (transfer.is_unsure and not transfer.hash_is_known)
    doubtful = part.doubtful and not transfer.hash_is_known
    size, sha256 = part.length, await part.finish(sync=fsync)
    try:
        transfer.check_hash(sha256)
        judge = _judge(transfer.source, crcs=crcs, doubtful=doubtful)
        kind, facts, other = await examine_beside(folder, part.data_name, name, judge)
    except IntegrityError as error:
        return error
    return Fetched(part, size, sha256, kind, facts.mtime_ns, other)


async def _wait(attempts: Attempts, error: AsyncJobsError) -> None:
    try:
        await attempts.failed(error)
    except _RefusedError as refused:
        raise IntegrityError(str(refused)) from None


def _judge(source: Source, *, crcs: bool, doubtful: bool) -> Callable[[ReadAt, int], Kind]:
    def judge(read_at: ReadAt, size: int) -> Kind:
        if source.any_bytes:
            if crcs and source.expected is None:
                raise IntegrityError("nothing proves that the file is whole: the server sent no length")
            return Kind.RAW
        kind = check_kind(read_at(0, _HEAD_BYTES), file_format=source.file_format)
        if kind is Kind.ZIP and source.file_format in {None, "zip"}:
            (check_members if crcs else check_zip)(read_at, size)
        elif kind is Kind.GZIP and source.file_format != "raw":
            if crcs or doubtful:
                check_gzip(read_at)
        elif doubtful:
            raise IntegrityError(f"nothing proves that this {kind} file outlived a restart of the machine")
        elif crcs and source.expected is None:
            raise IntegrityError(f"nothing proves that this {kind} file is whole: no length, no end record")
        return kind

    return judge


@attrs.define
class _Transfer:
    """The attempts at one file."""

    api: Api
    part: Part
    source: Source
    meter: Meter
    attempts: Attempts
    unproven: bool = False
    """The last body ended with its connection, which proves nothing."""
    resumed: bool = False
    """The bytes are from more than one answer."""
    announced_sha256: str | None = None
    known_validator: str | None = None
    """Of the last whole answer, to notice a file that is being rewritten."""
    changes: int = 0

    async def run(self) -> None:
        """Fetch until every byte is here.

        Raises:
            IntegrityError: The answers stay wrong.
            RequestError, ResponseError: The retry policy is used up.
        """
        self.known_validator = self.part.validator
        if self.source.expected is not None and self.part.length > self.source.expected:
            await self._restart()
        while True:
            before = self.part.length
            try:
                whole = await self._attempt()
            except AsyncJobsError as error:
                await self.part.drain()
                self.attempts.progress(max(0, self.part.length - before))
                await _wait(self.attempts, error)
                continue
            if whole:
                return
            await self._restart()

    async def _restart(self) -> None:
        self.resumed = False
        await self.part.restart()

    async def _attempt(self) -> bool:
        """Send one request and take its body; False when the bytes must go and the range be given up."""
        part = self.part
        known = await self._known()
        if part.length and not known:
            await self._restart()
        start, validator = (part.length - len(known), part.validator) if known else (None, None)
        held = Held(part.length, start or 0, part.total, validator, self.source.expected)
        async with self.source.open(start, validator) as body:
            decision = decide(held, body.status, body.headers)
            match decision.word:
                case Resume.ASK_AGAIN:
                    return False
                case Resume.REFUSE:
                    raise self._refused(decision, body)
                case Resume.START | Resume.REWRITE:
                    known = b""
                    await self._begin(body, decision)
                case Resume.APPEND:
                    self.resumed = True
            self.meter.total = decision.total
            self.meter.at(part.length)
            if not await self._stream(body, decision, Overlap(known)):
                self._changed()
                return False
            self.unproven = body.framing == "close"
        return self._is_whole(decision)

    async def _known(self) -> bytes:
        """What is asked for again to see that it is the same file; empty when nothing can be gone on with."""
        part = self.part
        if not self.source.resumable or part.validator is None or part.length <= OVERLAP_BYTES:
            return b""
        known = await part.tail(OVERLAP_BYTES)
        return known if len(known) == OVERLAP_BYTES else b""

    def _changed(self) -> None:
        self.changes += 1
        if self.changes >= _CHANGES:
            raise IntegrityError("the file on the server keeps changing while it is read")

    async def _begin(self, body: Body, decision: Decision) -> None:
        """Make ready for a body that is the whole file."""
        validator = usable_validator(body.headers) if self.source.resumable else None
        if self.part.length:
            await self._restart()
        if self.known_validator is not None and validator != self.known_validator:
            self._changed()
        self.known_validator = validator
        if not self.source.any_bytes:
            # The ETag of a file out of an archive has the same form and is the hash of something else.
            self.announced_sha256 = sha256_of(body.headers, from_api=body.from_api)
        if decision.total is None or decision.total > OVERLAP_BYTES:
            # Less is never gone on with, so nobody would read what is written down for it.
            await self.part.note(validator, decision.total)

    async def _stream(self, body: Body, decision: Decision, overlap: Overlap) -> bool:
        """Take a body; False when what is here already did not come again."""
        part, total = self.part, decision.total
        async for chunk in body:
            fresh = overlap.strip(chunk)
            if fresh is None:
                return False
            if part.length == 0 and not self.source.any_bytes and len(fresh) >= _HEAD_BYTES:
                self._check_head(fresh, body)
            if total is not None and part.length + len(fresh) > total:
                await self._restart()
                raise self._refuse(body, f"more than the announced {total} bytes arrived")
            if fresh:
                await part.feed(fresh)
            await self.meter.count(len(chunk), part.length)
        if not overlap.is_met:
            raise TruncatedBodyError("it ended before what is here already", method=body.method, url=body.url)
        return True

    def _check_head(self, chunk: bytes, body: Body) -> None:
        """Refuse a page at once, rather than after all of it."""
        try:
            check_kind(chunk[:_HEAD_BYTES], file_format=self.source.file_format)
        except IntegrityError as error:
            raise self._refuse(body, str(error)) from None

    def _is_whole(self, decision: Decision) -> bool:
        if decision.total is not None and self.part.length < decision.total:
            raise TruncatedBodyError(f"{self.part.length} of {decision.total} bytes arrived")
        return True

    def _refused(self, decision: Decision, body: Body) -> _RefusedError:
        kind = body.headers.get("content-type", "").partition(";")[0].strip().lower()
        page = f" (a page of type {kind}, not an archive)" if kind in _PAGES else ""
        return self._refuse(body, f"{decision.why}{page}")

    def _refuse(self, body: Body, why: str) -> _RefusedError:
        return _RefusedError(why, method=body.method, url=body.url)

    @property
    def is_unsure(self) -> bool:
        """Whether HTTP alone leaves open that these are the bytes of one whole file."""
        return self.unproven or self.resumed

    @property
    def hash_is_known(self) -> bool:
        """Whether the bytes were held against a hash from elsewhere."""
        return self.announced_sha256 is not None or self.source.sha256 is not None

    def check_hash(self, sha256: str) -> None:
        """Hold the hash of the whole against what the server and a lock file say.

        Raises:
            IntegrityError: They differ.
        """
        for known, who in ((self.announced_sha256, "the server"), (self.source.sha256, "the lock file")):
            if known is not None and known != sha256:
                raise IntegrityError(f"the file's SHA-256 is {sha256}, {who} says {known}")


_PAGES = frozenset({"text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml"})
