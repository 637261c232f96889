"""Addresses of resources: ``res://v1/ws/WS/KIND/JOB-ID.N.NAME``, made and read in one place. Pure functions.

>>> address = parse("res://v1/ws/ws-acme/result/kv/job-01M81Y1Y5CDE3B4WZZ6KYE37BB.1.review%20summary")
>>> address.type, address.attempt, address.name
('kv', 1, 'review summary')
>>> address.uri.endswith("job-01M81Y1Y5CDE3B4WZZ6KYE37BB.1.review%20summary")
True
"""

from __future__ import annotations

import re
from typing import NamedTuple

from breyta_spool import ids, paths
from breyta_spool.errors import InvalidInput, shown

PREFIX = "res://v1/ws/"
FILE, KV, TABLE = "file", "kv", "table"
PLACES = {FILE: "file", KV: "result/kv", TABLE: "result/table"}
"""The part of an address that says what kind of resource it is."""

_TYPES = {place: kind for kind, place in PLACES.items()}
# Compiled when first used (re keeps it): helper commands make addresses but read none.
_ADDRESS = (
    r"res://v1/ws/([A-Za-z0-9_.-]{1,100})/(file|result/kv|result/table)"
    r"/(job-[0-9A-Z-]{26,40})\.([1-9][0-9]{0,5})\.(.{1,400})"
)
_HINT = "an address looks like res://v1/ws/WS/file/JOB-ID.1.report.md; 'breyta resources list' shows them"


class Address(NamedTuple):
    """Which resource is meant; every part has been checked and may become part of a path."""

    workspace: str
    type: str
    job_id: str
    attempt: int
    name: str

    @property
    def id(self) -> str:
        """``JOB-ID.N.NAME``: tells a resource apart from all others of its type."""
        return f"{self.job_id}.{self.attempt}.{self.name}"

    @property
    def uri(self) -> str:
        """The address as it is written."""
        return f"{PREFIX}{self.workspace}/{PLACES[self.type]}/{self.id}".replace(" ", "%20")

    @property
    def place(self) -> str:
        """Where its file is, below the job's directory."""
        return f"{paths.attempt_name(self.attempt)}/{paths.artifact(self.type, self.name)}"


def parse(uri: str) -> Address:
    """Read an address. Raises InvalidInput unless it is written exactly as this program writes it."""
    match = re.fullmatch(_ADDRESS, uri) if isinstance(uri, str) else None
    name = match[5].replace("%20", " ") if match else ""
    if match is None or " " in match[5] or not ids.is_job_id(match[3]) or not paths.is_artifact_name(name):
        raise InvalidInput(f"not the address of a resource: {shown(uri, 200)}", hint=_HINT, field="uri")
    return Address(match[1], _TYPES[match[2]], match[3], int(match[4]), name)
