"""Every name in a spool's tree, once. Nothing here touches the disk; spool/FORMAT.md says what the names mean."""

from __future__ import annotations

import re
from functools import lru_cache

from breyta_spool import ids, states
from breyta_spool.errors import InvalidInput, shown

SPOOL_FILE = "spool.json"
TOP = ("jobs", "queued", "leased", "finished", "workers", "accounts", "tmp", "locks")
"""The directories that ``spool init`` makes."""

JOB = "job.json"
BATCH = "batch.json"
PAYLOAD = "payload.json"
RESULT = "result.json"
CANCEL = "cancel.json"
PROGRESS = "progress.jsonl"
LOG = "handler.log"
ARTIFACTS = "artifacts"
ATTACHED = "artifacts.jsonl"
WORK = "work"
CONTEXT = "worker-context.json"
IDEMPOTENCY = "idempotency"
LOST_AND_FOUND = "lost+found"
ACCOUNTS = "accounts"
KEY = "key.json"
REVOKED = "revoked.json"
EXPIRING = "expiring"

JOB_TYPE_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,99}"
_JOB_TYPE = re.compile(JOB_TYPE_PATTERN)
_REVISION = re.compile(r"account\.([1-9][0-9]{0,8})\.json")
_WORKER_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,127}")
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+ -]{0,119}")


def _check(pattern: re.Pattern[str], text: str, field: str, what: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise InvalidInput(f"{field}: {shown(text, 60)} is not {what}", field=field)
    return text


def check_job_type(text: str) -> str:
    """Give a job type back when it may be one; it becomes the name of a directory. Raises InvalidInput."""
    what = "a job type: 1 to 100 letters, digits and _ . : + - are allowed, the first a letter, digit or _"
    return _check(_JOB_TYPE, text, "jobType", what)


def check_worker_id(text: str) -> str:
    """Give a worker id back when it may be one; it becomes the name of a file. Raises InvalidInput."""
    what = "a worker id: 1 to 128 letters, digits and _ . : @ + - are allowed, the first a letter, digit or _"
    return _check(_WORKER_ID, text, "workerId", what)


def is_artifact_name(text: str) -> bool:
    """Whether a label, key or table name may name a file."""
    return _ARTIFACT_NAME.fullmatch(text) is not None


def check_artifact_name(text: str, field: str) -> str:
    """Give a label, key or table name back when it may name a file. Raises InvalidInput."""
    what = (
        "usable as a name: 1 to 120 letters, digits, spaces and _ . : @ + - are allowed, the first a letter, digit or _"
    )
    return _check(_ARTIFACT_NAME, text, field, what)


def account_revision(number: int) -> str:
    """The file that holds one revision of a service account; the highest number counts."""
    return f"account.{number}.json"


def latest_revision(names: list[str]) -> int:
    """The number of the revision that counts, of the names in an account's directory; 0 when there is none."""
    return max((int(match[1]) for name in names if (match := _REVISION.fullmatch(name))), default=0)


def claim_name(attempt: int) -> str:
    """The file of a job that says who took the lease of an attempt."""
    return f"claim.{attempt}.json"


def result_name(attempt: int) -> str:
    """The file of a job that says how an attempt ended."""
    return f"result.{attempt}.json"


def attempt_name(attempt: int) -> str:
    """The directory of what else an attempt wrote, inside its job's; there is none when there was nothing else."""
    return f"attempt-{attempt}"


_OF_ATTEMPT = re.compile(r"(?:attempt-([1-9][0-9]{0,5})|(?:claim|result)\.([1-9][0-9]{0,5})\.json)")


def attempts_of(listed: list[str]) -> list[int]:
    """The numbers of a job's attempts, in order, by the names in its directory."""
    return sorted({int(match[1] or match[2]) for name in listed if (match := _OF_ATTEMPT.fullmatch(name))})


def artifact(kind: str, name: str) -> str:
    """The file of an attached file, kv or table below its attempt. The name must have been checked."""
    return {
        "file": f"{ARTIFACTS}/{name}",
        "kv": f"{ARTIFACTS}/kv/{name}.json",
        "table": f"{ARTIFACTS}/tables/{name}.jsonl",
    }[kind]


def table_description(name: str) -> str:
    """The file below an attempt that says which rows of a table count."""
    return f"{ARTIFACTS}/tables/{name}.table.json"


@lru_cache(maxsize=4096)
def _place_and_bucket(job_id: str) -> tuple[str, str]:
    day, minute = ids.day_and_minute(job_id)
    batch = ids.batch_of(job_id)
    if batch:
        return f"jobs/{day}/{minute}/{batch}/{job_id}", batch
    return f"jobs/{day}/{minute}/{job_id}", f"{day}-{minute}"


def bucket_of(job_id: str) -> str:
    """The bucket of a job's index entries: the minute of a single job, or its batch. The id must have been checked."""
    return _place_and_bucket(job_id)[1]


def bucket_age_key(bucket: str) -> str:
    """Sorts buckets of both kinds by the minute they were made in."""
    if bucket.startswith("batch-"):
        return "-".join(ids.day_and_minute(bucket)) if ids.is_batch_id(bucket) else ""
    return bucket


def queued(job_type: str) -> str:
    """The list of what can be claimed."""
    return f"queued/{job_type}"


def leased(job_type: str) -> str:
    """The list of what is being worked on."""
    return f"leased/{job_type}"


def finished(status: str, job_type: str) -> str:
    """The list of what ended with a status."""
    return f"finished/{status}.{job_type}"


def list_of(status: states.Status, job_type: str) -> str:
    """The list that the entry of a job of this status belongs in."""
    if status.state == states.QUEUED:
        return queued(job_type)
    return leased(job_type) if status.state == states.LEASED else finished(status.state, job_type)


def type_of_list(index_list: str) -> str:
    """The job type that a list is of."""
    kind, _, name = index_list.partition("/")
    return name.partition(".")[2] if kind == "finished" else name


def job_place(job_id: str) -> str:
    """Where a job's directory is, relative to the spool. The id must have been checked."""
    return _place_and_bucket(job_id)[0]


def batch_place(batch_id: str) -> str:
    """Where a batch's directory is, relative to the spool. The id must have been checked."""
    day, minute = ids.day_and_minute(batch_id)
    return f"jobs/{day}/{minute}/{batch_id}"


def entry_target(job_id: str) -> str:
    """What an index entry points to: every list is three levels deep, so the link is right in all of them."""
    return "../../../" + job_place(job_id)


def key_target(job_id: str) -> str:
    """What the link of an idempotency key points to."""
    return "../../" + job_place(job_id)


class Tree:
    """The names below one spool's root, as absolute paths."""

    def __init__(self, root: str) -> None:
        self.root = root

    def top(self, name: str) -> str:
        """A file or directory directly below the root."""
        return f"{self.root}/{name}"

    def job(self, job_id: str) -> str:
        """A job's directory."""
        return f"{self.root}/{_place_and_bucket(job_id)[0]}"

    def batch(self, batch_id: str) -> str:
        """A batch's directory."""
        return f"{self.root}/{batch_place(batch_id)}"

    def idempotency(self, digest: str) -> str:
        """The link of an idempotency key, by the key's sha256 in hexadecimal."""
        return f"{self.root}/{IDEMPOTENCY}/{digest[:2]}/{digest}"

    def staged(self, name: str) -> str:
        """Where something is built before it is published, or put before it is removed."""
        return f"{self.root}/tmp/{name}"

    def bucket(self, index_list: str, job_id: str) -> str:
        """The directory of a job's entry in a list."""
        return f"{self.root}/{index_list}/{_place_and_bucket(job_id)[1]}"

    def entry(self, index_list: str, job_id: str) -> str:
        """A job's entry in a list."""
        return f"{self.root}/{index_list}/{_place_and_bucket(job_id)[1]}/{job_id}"

    def expiring(self, day: str, minute: str) -> str:
        """The directory of links to the values that expire in a UTC minute, as ``20261122`` and ``1530``."""
        return f"{self.root}/{EXPIRING}/{day}/{minute}"

    def worker(self, worker_id: str) -> str:
        """The record of a worker."""
        return f"{self.root}/workers/{worker_id}.json"

    def bell(self, job_type: str) -> str:
        """The directory that is opened when there is something to claim. Nothing is in it."""
        return f"{self.root}/locks/bell.{job_type}"

    def lock(self, name: str) -> str:
        """A lock file."""
        return f"{self.root}/locks/{name}.lock"

    def account(self, account_id: str) -> str:
        """The directory of a service account."""
        return f"{self.root}/{ACCOUNTS}/{account_id}"

    def key(self, key_id: str) -> str:
        """The directory of a service account's key."""
        return f"{self.root}/{ACCOUNTS}/{key_id}"

    def set_aside(self, job_id: str) -> str:
        """Where a damaged job's directory is kept."""
        return f"{self.root}/{LOST_AND_FOUND}/{job_id}"
