"""How a FakeGitLab behaves where real installations differ: each switch, its values and its default.

Switches may be changed while the server runs; the next answer follows.
"""

from __future__ import annotations

from typing import Literal

import attrs

from asyncjobs.testing._archives import Archive
from asyncjobs.testing._generations import Rules
from asyncjobs.testing._limits import EndpointLimit, Throttle

Delivery = Literal["local", "direct", "proxy"]
TraceMode = Literal["window", "range", "both", "whole"]
EtagMode = Literal["auto", "constant", "strong", "weak", "none"]
StorageEtag = Literal["strong", "weak", "none"]


@attrs.define(kw_only=True)
class Settings:
    """The switches."""

    delivery: Delivery = "local"
    """How archives come: from the API, by redirect to the second origin, or from there through the API."""
    trace: TraceMode = "whole"
    """window: byte_offset/byte_limit; range: archived logs answer Range with 206; both; whole: neither."""
    artifact_etag: EtagMode = "auto"
    """ETag of downloads served by the API; auto follows the generation (constant, then strong)."""
    storage_etag: StorageEtag = "strong"
    """ETag of the second origin: the MD5 as S3 has it, the same weakened, or none."""
    content_length: bool = True
    """False sends archives without a length, as some stores do."""
    link_expiry: float = 600.0
    """Seconds a signed link lives."""
    link_host: str | None = None
    """Origin written into Link headers and web_url, when it differs from the one that is asked."""
    gzip: bool = True
    """Whether the front end compresses when asked."""
    enforce_offset_limit: bool = False
    """405 for offset pages of project jobs past 50,000."""
    count_limit: int = 10_000
    """Lists longer than this have no totals."""
    ci_job_token_lists: bool | None = None
    """Whether job tokens may list jobs and read pipelines; None follows the generation."""
    relative_url: str = ""
    """Path under which GitLab lives; part of every web address, and set with the server's own."""
    scheme: str = "http"
    """Of the addresses the server gives; set from its TLS."""
    latency: float = 0.0
    """Seconds before each answer, on the fake's clock."""
    throttle: Throttle = attrs.field(factory=Throttle)
    """The request throttle; `gitlab.settings.throttle.limit = 100` switches it on."""
    jobs_index: EndpointLimit = attrs.field(factory=EndpointLimit)
    """The limit of GET /projects/:id/jobs: 600 a minute and user, on by default as in GitLab."""
    storage_url: str = ""
    """Address of the second origin; set when it starts."""
    store: dict[str, tuple[Archive, float]] = attrs.field(factory=dict, repr=False)
    """What lies in the second origin: path to archive and date."""

    def etag_mode(self, rules: Rules) -> EtagMode:
        """The ETag mode in force."""
        if self.artifact_etag != "auto":
            return self.artifact_etag
        return "strong" if rules.strong_etag else "constant"
