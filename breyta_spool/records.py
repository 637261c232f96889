"""What the spool's files hold and what the library answers with: one pydantic model each.

On disk and over the command line fields are camelCase, in Python snake_case. Unknown fields are kept out of the
way, not refused: a later minor version may add some (spool/FORMAT.md, section "Versions").
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, PositiveInt, ValidationError
from pydantic.alias_generators import to_camel

from breyta_spool import ids, jsonio, paths, states
from breyta_spool.errors import Damaged, FormatNotSupported, InvalidInput

FORMAT_VERSION = 2
DEFAULT_LEASE_MS = 120_000
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_PAYLOAD_LIMIT = 16 * 1024 * 1024

JsonObject = dict[str, JsonValue]


class Record(BaseModel):
    """Base of all: camelCase outside, immutable inside."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def to_map(self) -> dict[str, Any]:
        """The record as files and the command line show it, with camelCase names."""
        return self.model_dump(by_alias=True, mode="json")


R = TypeVar("R", bound=Record)


def read_record(model: type[R], data: bytes, path: str) -> R:
    """Read a record from the bytes of its file. Raises Damaged with the first thing that is wrong."""
    try:
        return read_fields(model, jsonio.parse_object(data, path, jsonio.RECORD_DEPTH), path)
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None


def read_fields(model: type[R], fields: dict[str, Any], path: str) -> R:
    """The same for the fields of a record that were read already."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise Damaged(f"{path} is not a {model.__name__}: {what}", path=path) from None


class SpoolRecord(Record):
    """spool.json: what this spool is and how it is set."""

    format_version: PositiveInt = FORMAT_VERSION
    spool_id: str = Field(pattern=r"^spool-[0-9A-Z]{26}$")
    workspace_id: str = Field(min_length=1, max_length=128)
    created_at: str
    durability: str = Field(default="durable", pattern="^(durable|none)$")
    locks: bool = Field(default=True, description="whether idle workers take turns; nothing depends on it")
    group: str | None = Field(default=None, description="the Unix group that shares the spool")
    require_keys: bool = Field(default=False, description="whether nobody changes the spool without a key")
    default_lease_ms: PositiveInt = DEFAULT_LEASE_MS
    default_max_attempts: PositiveInt = DEFAULT_MAX_ATTEMPTS
    payload_limit_bytes: PositiveInt = DEFAULT_PAYLOAD_LIMIT


class JobRecord(Record):
    """job.json: the request, written once by the submitter."""

    job_id: str = Field(pattern=f"^{ids.JOB_ID_PATTERN}$")
    job_type: str = Field(
        pattern=f"^{paths.JOB_TYPE_PATTERN}$", description="the name of directories: never trusted unchecked"
    )
    workspace_id: str
    created_at: str
    max_attempts: PositiveInt
    payload_bytes: NonNegativeInt
    payload_sha256: str
    metadata: JsonObject = Field(default_factory=dict)
    root_workflow_id: str | None = None
    parent_step_id: str | None = None
    fanout_parent_step_id: str | None = None
    fanout_max_concurrency: PositiveInt | None = None
    retry_of: str | None = None


class BatchRecord(Record):
    """batch.json: what the jobs of a batch have in common, written once by the submitter."""

    batch_id: str = Field(pattern=f"^{ids.BATCH_ID_PATTERN}$")
    job_type: str = Field(pattern=f"^{paths.JOB_TYPE_PATTERN}$")
    workspace_id: str
    created_at: str
    requested_count: PositiveInt = Field(le=ids.MOST_IN_BATCH, description="how many jobs it has, numbered from 1")
    metadata: JsonObject = Field(default_factory=dict)
    root_workflow_id: str | None = None
    parent_step_id: str | None = None
    fanout_parent_step_id: str | None = None
    fanout_max_concurrency: PositiveInt | None = None


class ClaimRecord(Record):
    """claim.N.json: who took the lease; written again only when a heartbeat changes the lease's duration."""

    job_id: str
    attempt: PositiveInt
    worker_id: str
    worker_labels: JsonObject = Field(default_factory=dict)
    lease_ms: PositiveInt
    claimed_at: str
    started_at: str | None = Field(default=None, description="set when the handler runs inside the worker")
    host: str = ""
    pid: NonNegativeInt = 0


class Progress(Record):
    """One line of attempt-N/progress.jsonl: what the worker or its handler reported."""

    status: str
    message: str = ""
    details: JsonObject = Field(default_factory=dict)
    metrics: JsonObject = Field(default_factory=dict)
    updated_at: str


class CancelRecord(Record):
    """cancel.json: that somebody wants the job to end."""

    requested_at: str
    requested_by: str = ""
    reason: str = ""


class JobError(Record):
    """Why a job did not succeed."""

    message: str
    code: str
    details: JsonObject = Field(default_factory=dict)


class Artifact(BaseModel):
    """Something a job made: a file, a value or a table, or what a handler said of one. Keys are kept as they are."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)

    kind: str = "file"
    label: str | None = None
    content_type: str | None = None
    resource_uri: str | None = None
    size_bytes: NonNegativeInt | None = None


class ResultRecord(Record):
    """result.N.json: how an attempt ended, written once by its worker before the status changes."""

    job_id: str
    attempt: PositiveInt
    status: str
    summary: str = ""
    outputs: JsonObject = Field(default_factory=dict)
    metrics: JsonObject = Field(default_factory=dict)
    artifacts: list[JsonValue] = Field(default_factory=list)
    error: JobError | None = None
    worker_info: JsonObject = Field(default_factory=dict)
    completed_at: str
    claim: ClaimRecord | None = Field(default=None, description="who took the lease, if no claim.N.json says it")


class Worker(Record):
    """workers/ID.json: a running worker; its file is touched while it lives."""

    worker_id: str
    job_type: str
    host: str
    pid: NonNegativeInt
    labels: JsonObject = Field(default_factory=dict)
    handler: str = ""
    concurrency: PositiveInt = 1
    started_at: str
    beat_ms: PositiveInt = Field(description="how often the file is touched, in milliseconds")
    last_seen_at: str | None = Field(default=None, description="read from the file's time, never written")
    alive: bool | None = Field(default=None, description="whether it was seen within three beats")


class AccountRecord(Record):
    """accounts/ID/account.N.json: a service account; each change is a new file, and the highest N counts."""

    service_account_id: str = Field(pattern=ids.ACCOUNT_ID_PATTERN)
    name: str
    status: str = Field(pattern="^(active|disabled)$")
    scopes: list[str]
    job_types: list[str] = Field(default_factory=list, description="the only job types it has to do with; empty: any")
    metadata: JsonObject = Field(default_factory=dict)
    created_at: str
    updated_at: str
    updated_by: str = Field(default="", description="the id of the key that was used, or a Unix user")


class KeyRecord(Record):
    """accounts/ID/key.json: a key of a service account, of which only the hash is kept; written once."""

    key_id: str = Field(pattern=ids.KEY_ID_PATTERN)
    service_account_id: str = Field(pattern=ids.ACCOUNT_ID_PATTERN)
    name: str = ""
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the whole text of the key")
    created_at: str
    created_by: str = Field(default="", description="the id of the key that was used, or a Unix user")
    expires_at: str | None = None
    metadata: JsonObject = Field(default_factory=dict)


class RevokedRecord(Record):
    """accounts/ID/revoked.json: that a key is revoked, which its name alone says; written once."""

    key_id: str = Field(pattern=ids.KEY_ID_PATTERN)
    revoked_at: str
    revoked_by: str = Field(default="", description="the id of the key that was used, or a Unix user")


class Key(Record):
    """A key as a reader sees it: without its hash, with what became of it. ``prefix`` is how its text begins."""

    key_id: str
    service_account_id: str
    name: str = ""
    prefix: str
    created_at: str
    created_by: str = ""
    expires_at: str | None = None
    revoked_at: str | None = None
    revoked_by: str | None = None
    metadata: JsonObject = Field(default_factory=dict)

    @classmethod
    def of(cls, record: KeyRecord, revoked: RevokedRecord | None = None) -> Key:
        """The key of a record, which may have been revoked."""
        fields = record.model_dump(exclude={"sha256"})
        if revoked:
            fields |= {"revoked_at": revoked.revoked_at, "revoked_by": revoked.revoked_by}
        return cls(**fields, prefix=f"bsk_{record.key_id.removeprefix('key-')}_")


class Attempt(Record):
    """One lease of a job and what became of it, as ``attempts`` of a job lists it."""

    attempt: PositiveInt
    status: str = Field(description="leased, started, running, a terminal status, or lost: the lease ran out")
    worker_id: str | None = None
    worker_labels: JsonObject = Field(default_factory=dict)
    lease_ms: PositiveInt | None = None
    claimed_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    error: JobError | None = None


class Job(Record):
    """A job as a reader sees it: request, status and result put together from its files."""

    job_id: str = Field(pattern=f"^{ids.JOB_ID_PATTERN}$")
    job_type: str = Field(pattern=f"^{paths.JOB_TYPE_PATTERN}$")
    workspace_id: str
    status: str
    payload: JsonValue = None
    metadata: JsonObject = Field(default_factory=dict)
    batch_id: str | None = None
    attempt: NonNegativeInt = 0
    max_attempts: PositiveInt
    created_at: str
    started_at: str | None = None
    updated_at: str
    completed_at: str | None = None
    last_heartbeat_at: str | None = None
    worker_id: str | None = None
    worker_labels: JsonObject = Field(default_factory=dict)
    progress: Progress | None = None
    result_summary: str | None = None
    outputs: JsonObject = Field(default_factory=dict)
    metrics: JsonObject = Field(default_factory=dict)
    artifacts: list[JsonValue] = Field(default_factory=list)
    error: JobError | None = None
    result: JsonObject | None = None
    attempts: list[Attempt] = Field(default_factory=list)
    root_workflow_id: str | None = None
    parent_step_id: str | None = None
    fanout_parent_step_id: str | None = None
    fanout_max_concurrency: PositiveInt | None = None
    retry_of: str | None = None
    cancel_requested: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.completed_at is not None

    @property
    def succeeded(self) -> bool:
        """Whether the job ended well: ``succeeded`` or ``no_changes``."""
        return self.status in states.DONE_WELL

    def summary_map(self) -> dict[str, Any]:
        """The compact view of ``jobs list``: no payload and no result, but what they hold (contract, section 3)."""
        whole = self.to_map()
        compact = {name: whole[name] for name in _COMPACT}
        payload = self.payload
        compact |= {
            "payloadKeys": sorted(payload) if isinstance(payload, dict) else [],
            "metadataKeys": sorted(self.metadata),
            "outputKeys": sorted(self.outputs),
            "metricKeys": sorted(self.metrics),
            "artifactCount": len(self.artifacts),
            "attemptCount": len(self.attempts),
            "summary": self.result_summary,
        }
        return compact


class Batch(BatchRecord):
    """A batch as a reader sees it: what was requested, and how many of its jobs are in which state."""

    status: str = Field(description="queued, running, completed, partially_failed, failed or cancelled")
    queued_count: NonNegativeInt = 0
    running_count: NonNegativeInt = 0
    succeeded_count: NonNegativeInt = 0
    no_changes_count: NonNegativeInt = 0
    failed_count: NonNegativeInt = 0
    cancelled_count: NonNegativeInt = 0
    timed_out_count: NonNegativeInt = 0
    updated_at: str
    completed_at: str | None = None
    cancel_requested: bool = False
    damaged: list[str] = Field(default_factory=list, description="jobs that were set aside; they count as failed")
    jobs: list[Job] | None = Field(default=None, description="as many as were asked for, by number")

    @property
    def is_terminal(self) -> bool:
        """Whether every job has ended."""
        return self.status in states.BATCH_TERMINAL

    @property
    def succeeded(self) -> bool:
        """Whether every job ended well."""
        return self.status == states.COMPLETED

    @property
    def ended_count(self) -> int:
        """How many jobs have ended."""
        return self.requested_count - self.queued_count - self.running_count

    def to_map(self) -> dict[str, Any]:
        """The batch as the command line shows it, without ``jobs``."""
        return self.model_dump(by_alias=True, mode="json", exclude={"jobs"})


_COMPACT = (
    *("jobId", "jobType", "workspaceId", "status", "batchId", "attempt", "maxAttempts", "createdAt", "startedAt"),
    *("updatedAt", "completedAt", "workerId", "error", "retryOf", "rootWorkflowId", "parentStepId"),
)


def check_version(data: dict[str, Any], path: str) -> None:
    """Refuse a spool.json of a newer format before anything else in it is read. Raises FormatNotSupported."""
    version = data.get("formatVersion")
    if type(version) is not int or version < 1:
        raise Damaged(f"{path}: formatVersion must be a whole number from 1, not {version!r}", path=path)
    if version < FORMAT_VERSION:
        raise FormatNotSupported(
            f"{path} has format version {version}; this program knows only {FORMAT_VERSION}",
            hint="it is older than the first release: end its jobs with the program that made it; nothing was changed",
            path=path,
            version=version,
        )
    if version > FORMAT_VERSION:
        raise FormatNotSupported(
            f"{path} has format version {version}; this program knows only {FORMAT_VERSION}",
            hint="upgrade breyta-spool on this host; nothing was changed",
            path=path,
            version=version,
        )


RECORDS: dict[str, type[BaseModel]] = {
    "spool": SpoolRecord,
    "job": JobRecord,
    "batch": BatchRecord,
    "claim": ClaimRecord,
    "progress": Progress,
    "cancel": CancelRecord,
    "result": ResultRecord,
    "worker": Worker,
    "account": AccountRecord,
    "key": KeyRecord,
    "revoked": RevokedRecord,
    "artifact": Artifact,
    "job-map": Job,
    "batch-map": Batch,
}
"""What spool/schemas/ describes: the name of each schema and the model it is generated from."""


def json_schema(name: str) -> dict[str, Any]:
    """The JSON schema of one kind of file."""
    return RECORDS[name].model_json_schema(by_alias=True)
