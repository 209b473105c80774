"""The second origin: an object store with signed links that expire and one way only to sign in.

Speaks like S3: XML errors, MD5 ETags, and 400 for whoever shows a second credential next to the
signature, GitLab tokens above all (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from asyncjobs.testing._answers import Answer
from asyncjobs.testing._archives import Archive
from asyncjobs.testing._call import Call, decode
from asyncjobs.testing._downloads import ranged

if TYPE_CHECKING:
    from asyncjobs.testing._jobs import FakeJob

_KEY = b"the fake store's signing key"
_CREDENTIAL_HEADERS = ("PRIVATE-TOKEN", "JOB-TOKEN", "Authorization", "Cookie", "DEPLOY-TOKEN")
_CREDENTIAL_PARAMS = ("private_token", "job_token", "access_token")
_ONE_WAY = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
    "parameter or the Authorization header should be specified"
)


def _object_path(job: FakeJob, archive: Archive, filename: str) -> str:
    hashed = hashlib.sha256(str(job.project_id).encode()).hexdigest()
    day = datetime.fromtimestamp(job.created_at, UTC).strftime("%Y_%m_%d")
    return f"/artifacts/{hashed[:2]}/{hashed[2:4]}/{hashed}/{day}/{job.id}/{archive.md5[:8]}/{filename}"


def signed_link(call: Call, job: FakeJob, archive: Archive, filename: str) -> str:
    """A link to *archive* for GET, or HEAD when that is what was asked; it lives `link_expiry` seconds."""
    path = _object_path(job, archive, filename)
    call.settings.store[path] = (archive, job.archive_stored_at)
    disposition = f"attachment; filename=\"{filename}\"; filename*=UTF-8''{filename}"
    stamp = datetime.fromtimestamp(call.now, UTC).strftime("%Y%m%dT%H%M%SZ")
    query = urlencode(
        {
            "response-content-disposition": disposition,
            "response-content-type": "application/zip",
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"AKIAFAKE/{stamp[:8]}/eu-west-1/s3/aws4_request",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(int(call.settings.link_expiry)),
            "X-Amz-SignedHeaders": "host",
        },
        quote_via=quote,
        safe="~",
    )
    method = "HEAD" if call.request.method == "HEAD" else "GET"
    return f"{call.settings.storage_url}{path}?{query}&X-Amz-Signature={_sign(method, path, query)}"


def _sign(method: str, path: str, query: str) -> str:
    return hmac.new(_KEY, f"{method}\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()


def _xml(status: int, code: str, text: str, **more: str) -> Answer:
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{text}</Message>{extra}'
    )
    body += "<RequestId>4442587FB7D0A2F9</RequestId></Error>"
    return Answer(status, body.encode(), [("Content-Type", "application/xml")])


def answer_storage(call: Call) -> Answer:
    """What the store says to one request."""
    request = call.request
    shown = [name for name in _CREDENTIAL_HEADERS if name in request.headers]
    shown += [name for name, _ in request.query if name in _CREDENTIAL_PARAMS]
    if shown:
        return _xml(400, "InvalidArgument", _ONE_WAY, ArgumentName=shown[0])
    if request.method not in ("GET", "HEAD"):
        return _xml(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    raw_path, _, raw_query = request.raw_path.partition("?")
    signed, mark, signature = raw_query.partition("&X-Amz-Signature=")
    path = decode(raw_path)
    if not mark:
        return _xml(403, "AccessDenied", "Access Denied")
    if not hmac.compare_digest(signature, _sign(request.method, path, signed)):
        text = "The request signature we calculated does not match the signature you provided."
        return _xml(403, "SignatureDoesNotMatch", text)
    query = dict(request.query)
    begun = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    if call.now >= begun + int(query["X-Amz-Expires"]):
        return _xml(403, "AccessDenied", "Request has expired", **{"X-Amz-Expires": query["X-Amz-Expires"]})
    found = call.settings.store.get(path)
    if found is None:
        return _xml(404, "NoSuchKey", "The specified key does not exist.", Key=path.lstrip("/"))
    archive, modified_at = found
    head = [
        ("Content-Type", query["response-content-type"]),
        ("Content-Disposition", query["response-content-disposition"]),
        ("x-amz-request-id", "4442587FB7D0A2F9"),
    ]
    return _from_store(call, archive, modified_at, head)


def _from_store(call: Call, archive: Archive, modified_at: float, head: list[tuple[str, str]]) -> Answer:
    kind = call.settings.storage_etag
    etag = {"strong": f'"{archive.md5}"', "weak": f'W/"{archive.md5}"', "none": None}[kind]
    answer = ranged(call, archive, modified_at, etag, head)
    if answer.status == 416:
        answer = _xml(416, "InvalidRange", "The requested range is not satisfiable")
        answer.put("Content-Range", f"bytes */{archive.size}")
    return answer


def proxied(call: Call, archive: Archive, modified_at: float, *, filename: str) -> Answer:
    """The store's answer passed through the API (workhorse/internal/sendurl/sendurl.go)."""
    head = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", f"attachment; filename=\"{filename}\"; filename*=UTF-8''{filename}"),
        ("Cache-Control", "max-age=0, private, must-revalidate"),
    ]
    return _from_store(call, archive, modified_at, head)
