"""spool/example is golden data: what is in it must stay readable, and each file in it must be known."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from breyta_spool import Spool, ids, jsonio, paths, states
from breyta_spool.index import status_in
from breyta_spool.records import RECORDS
from tests import example

NOT_WRITTEN = {"job": {"submittedBy"}, "worker": {"lastSeenAt", "alive"}}
"""Fields that a schema has and no writer of this version writes (FORMAT.md, The tree)."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    example.copy_to(tmp_path / "spool")
    return tmp_path / "spool"


@pytest.fixture
def golden(root: Path) -> Spool:
    return Spool.open(root)


def test_the_example_is_what_the_library_writes() -> None:
    assert example.drifted() == [], "if the change is meant: python -m tests.example"


def test_the_example_is_small_and_speaks_of_no_machine() -> None:
    found = example.contents(example.DIRECTORY)
    assert len(found) < 150
    spoken = {word for data in found.values() for word in re.findall(rb'"(/[^"]*)"', data)}
    assert {word.split(b"/")[1] for word in spoken} == {b"srv"}


# -- reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shows", "status"), example.STORIES.items(), ids=list(example.STORIES))
def test_a_job_of_the_example_reads_with_the_status_it_stands_for(golden: Spool, shows: str, status: str) -> None:
    (listed,) = [job for job in golden.list(limit=100) if example.shown_by(job) == shows]
    job = golden.get(listed.job_id)
    assert job.status == status
    assert job.is_terminal == (status in states.TERMINAL)
    assert job.succeeded == (status in states.DONE_WELL)
    assert (job.error is not None) == (status in (states.FAILED, states.CANCELLED, states.TIMED_OUT))


def test_every_status_is_shown() -> None:
    assert set(example.STORIES.values()) == set(states.ALL)


def test_a_list_finds_every_job_with_and_without_the_index(golden: Spool) -> None:
    everything = {job.job_id for job in golden.list(limit=100)}
    assert len(everything) == len(example.STORIES)
    by_type = [golden.list(job_type, limit=100) for job_type in (example.REVIEW, example.SCAN, example.BATCHED)]
    assert {job.job_id for jobs in by_type for job in jobs} == everything
    by_status = [golden.list(status=status, limit=100) for status in states.ALL]
    assert {job.job_id for jobs in by_status for job in jobs} == everything


def test_attempts_artifacts_and_lineage_read_as_they_were_written(golden: Spool) -> None:
    jobs = {example.shown_by(job): job for job in golden.list(limit=100)}
    assert [each["kind"] for each in jobs["succeeded"].artifacts] == ["report", "kv", "table"]
    assert jobs["failed, retried"].retry_of == jobs["failed"].job_id
    lost = jobs["queued again after its first lease was lost"]
    assert (lost.attempt, [attempt.status for attempt in lost.attempts]) == (1, ["lost"])
    assert jobs["cancelled while it waited"].attempts == []
    assert jobs["cancelled while it ran"].attempts[0].status == states.CANCELLED


def test_the_batch_of_the_example_is_counted(golden: Spool) -> None:
    (batch,) = golden.list_batches()
    assert (batch.status, batch.requested_count) == (states.RUNNING, 3)
    assert (batch.succeeded_count, batch.failed_count, batch.queued_count) == (1, 1, 1)
    members = golden.get_batch(batch.batch_id, include_jobs=True).jobs or []
    assert [example.shown_by(job) for job in members] == example.IN_BATCH
    assert {job.root_workflow_id for job in members} == {batch.root_workflow_id} == {"wf-nightly"}


def test_reading_the_example_changes_nothing(root: Path, golden: Spool) -> None:
    for job in golden.list(limit=100):
        golden.get(job.job_id)
    assert example.contents(root) == example.contents(example.DIRECTORY)


def test_a_checkout_without_empty_directories_can_be_worked_in(root: Path, golden: Spool) -> None:
    assert not (root / "tmp").exists()
    submitted = golden.submit("new-type", {"n": 1})
    lease = golden.claim("new-type", "w")
    assert lease is not None
    assert lease.job_id == submitted.job_id
    assert lease.complete(outputs={"n": 2}).outputs == {"n": 2}


# -- the index --------------------------------------------------------------------------------------


def test_each_entry_leads_to_its_job_and_stands_in_the_right_list(root: Path) -> None:
    entries = sorted(path for name in ("queued", "leased", "finished") for path in root.glob(f"{name}/*/*/*"))
    assert len(entries) == len(example.STORIES)
    for entry in entries:
        job_dir = entry.resolve(strict=True)
        assert job_dir == root.resolve() / paths.job_place(entry.name)
        status = status_in(str(job_dir))
        job_type = json.loads((job_dir / "job.json").read_text())["jobType"]
        assert status is not None
        assert (
            str(entry.relative_to(root))
            == f"{paths.list_of(status, job_type)}/{paths.bucket_of(entry.name)}/{entry.name}"
        )


# -- the files --------------------------------------------------------------------------------------


SHORT = ("job", "batch", "claim")
"""The records that leave out what was not said."""
LEFT_OUT = {"result": {"claim"}}
"""Fields that are only there when no file of their own says it."""


def as_record(name: str) -> Callable[[Path], None]:
    """A check that a file, or each line of it, is what its schema says, with all fields it must have and no other."""

    def check(path: Path) -> None:
        documents = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
        for document in documents:
            validate(RECORDS[name], name, jsonio.parse_object(document, str(path)))

    return check


def validate(model: type[BaseModel], name: str, fields: dict[str, Any]) -> None:
    model.model_validate_json(jsonio.compact(fields), strict=True)
    if name != "artifact":  # of which others know more kinds
        schema = model.model_json_schema(by_alias=True)
        written = set(schema["properties"]) - NOT_WRITTEN.get(name, set())
        left_out = set(schema["properties"]) - set(schema["required"]) if name in SHORT else LEFT_OUT.get(name, set())
        assert written - left_out <= set(fields) <= written


def as_payload(path: Path) -> None:
    request = json.loads((path.parent / "job.json").read_text())
    data = path.read_bytes()
    jsonio.parse(data, str(path))
    assert (len(data), hashlib.sha256(data).hexdigest()) == (request["payloadBytes"], request["payloadSha256"])


def as_status(path: Path) -> None:
    status = states.parse(path.name)
    assert status is not None
    assert status.name == path.name
    assert path.read_bytes() == b""


def as_empty(path: Path) -> None:
    assert path.read_bytes() == b""


def as_text(path: Path) -> None:
    assert path.read_text()


def as_object(*names: str) -> Callable[[Path], None]:
    """A check for a file without a schema: its fields stand in FORMAT.md (test_format_md)."""

    def check(path: Path) -> None:
        assert tuple(jsonio.parse_object(path.read_bytes(), str(path))) == names

    return check


def as_rows(path: Path) -> None:
    description = json.loads(path.with_name(f"{path.stem}.table.json").read_text())
    lines = path.read_bytes().splitlines()
    assert [type(jsonio.parse(line, str(path))) for line in lines] == [dict] * description["rowCount"]
    assert path.stat().st_size == description["sizeBytes"]


def as_job_map(path: Path) -> None:
    fields = json.loads(path.read_text())
    request = json.loads((path.parents[2] / "job.json").read_text())
    assert fields.items() >= request.items()
    assert {"status", "attempt", "workerId", "batchId", "payload"} <= set(fields)


def as_copy_of_payload(path: Path) -> None:
    assert path.read_bytes() == (path.parents[2] / "payload.json").read_bytes()


def as_link(path: Path) -> None:
    assert path.is_symlink()
    assert path.exists()


CONTEXT = ("jobId", "leaseToken", "resultFile", "attempt", "jobPath", "workspaceId", "spool", "jobType", "keyId")
KV = ("key", "value", "contentType", "createdAt", "expiresAt", "ttlSeconds")
TABLE = ("name", "columns", "keyFields", "indexFields", "rowCount", "sizeBytes")

BATCH = r"batch-[0-9A-Z]{26}"
JOB = rf"jobs/\d{{8}}/\d{{4}}/({BATCH}/)?job-[0-9A-Z]{{26}}(-\d{{5}})?"
ATTEMPT = rf"{JOB}/attempt-\d+"
KNOWN: dict[str, Callable[[Path], None]] = {
    r"spool\.json": as_record("spool"),
    r"workers/[\w.-]+\.json": as_record("worker"),
    r"locks/clock\.lock": as_empty,
    r"(queued|leased|finished)/[\w.-]+/\d{8}-\d{4}/job-[0-9A-Z]{26}": as_link,
    rf"(queued|leased|finished)/[\w.-]+/{BATCH}/job-[0-9A-Z]{{26}}-\d{{5}}": as_link,
    rf"jobs/\d{{8}}/\d{{4}}/{BATCH}/batch\.json": as_record("batch"),
    rf"{JOB}/job\.json": as_record("job"),
    rf"{JOB}/payload\.json": as_payload,
    rf"{JOB}/status\.[\w.]+": as_status,
    rf"{JOB}/cancel\.json": as_record("cancel"),
    rf"{JOB}/(result\.json|artifacts)": as_link,
    rf"{JOB}/claim\.\d+\.json": as_record("claim"),
    rf"{JOB}/result\.\d+\.json": as_record("result"),
    rf"{ATTEMPT}/progress\.jsonl": as_record("progress"),
    rf"{ATTEMPT}/artifacts\.jsonl": as_record("artifact"),
    rf"{ATTEMPT}/handler\.log": as_text,
    rf"{ATTEMPT}/artifacts/[\w-]+\.md": as_text,
    rf"{ATTEMPT}/artifacts/kv/[\w-]+\.json": as_object(*KV),
    rf"{ATTEMPT}/artifacts/tables/[\w-]+\.jsonl": as_rows,
    rf"{ATTEMPT}/artifacts/tables/[\w-]+\.table\.json": as_object(*TABLE),
    rf"{ATTEMPT}/artifacts/tables/\.lock": as_empty,
    rf"{ATTEMPT}/work/job\.json": as_job_map,
    rf"{ATTEMPT}/work/payload\.json": as_copy_of_payload,
    rf"{ATTEMPT}/work/worker-context\.json": as_object(*CONTEXT),
}
"""Every file that may be in the example, by its path, and what must be true of it."""


def checks_of(name: str) -> list[Callable[[Path], None]]:
    return [check for pattern, check in KNOWN.items() if re.fullmatch(pattern, name)]


def test_every_file_of_the_example_is_known_and_is_what_its_schema_says() -> None:
    for name in example.contents(example.DIRECTORY):
        checks = checks_of(name)
        assert len(checks) == 1, f"{name} is known {len(checks)} times"
        checks[0](example.DIRECTORY / name)


@pytest.mark.parametrize("pattern", KNOWN)
def test_every_known_file_is_in_the_example(pattern: str) -> None:
    assert any(re.fullmatch(pattern, name) for name in example.contents(example.DIRECTORY))


def test_size_and_sha256_of_each_artifact_are_those_of_its_file() -> None:
    checked = 0
    for path in example.DIRECTORY.glob("jobs/*/*/*/result.*.json"):
        for artifact in json.loads(path.read_text())["artifacts"]:
            if "sha256" not in artifact:
                continue
            job_id, attempt, name = artifact["resourceUri"].rpartition("/")[2].split(".", 2)
            place = f"tables/{name}.jsonl" if "tableId" in artifact else name
            file = example.DIRECTORY / paths.job_place(job_id) / f"attempt-{attempt}" / "artifacts" / place
            data = file.read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact["sizeBytes"], artifact["sha256"])
            checked += 1
    assert checked == 2


def test_every_link_is_relative_and_short_enough_to_lie_in_an_inode() -> None:
    for name, content in example.contents(example.DIRECTORY).items():
        if content.startswith(b"-> ") and os.path.islink(example.DIRECTORY / name):
            target = content[3:].decode()
            assert not os.path.isabs(target)
            assert len(target) < 60 or "/batch-" in target  # a batch's id and number do not fit


def test_the_ids_of_the_example_say_when_their_jobs_were_made(golden: Spool) -> None:
    for job in golden.list(limit=100):
        assert ids.day_and_minute(job.job_id) == ("20261122", job.created_at[11:16].replace(":", ""))
