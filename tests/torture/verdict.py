"""The ledgers against the spool: what anybody was told must be what is there in the end."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from breyta_spool import Damaged, Job, NotFound, Spool, SpoolError, states
from tests.crash.invariants import job_ids, violations
from tests.torture.actors import end_of
from tests.torture.handlers import MARK, attempt_of
from tests.torture.ledger import Line, lines, log_lines

_ENDED = re.compile(r"\S+ (job-[0-9A-Z-]+) (succeeded|no_changes|failed|cancelled) in [^:]*(?:: (.*))?")
_RAN_OUT = re.compile(r"the lease of attempt [0-9]+ ran out")


@dataclass(frozen=True)
class Accepted:
    """A finish that was acknowledged: which job, who was told, and the mark of the run if its result has one."""

    job_id: str
    who: str
    by: str
    status: str


@dataclass(frozen=True)
class Until:
    """When a power cut came, by the monotonic clock and by the workers' logs: what was said later was said to nobody."""

    at: float = float("inf")
    logged: str = "9999"


@dataclass
class Found:
    """Everything that was written down, and every job as it is in the end."""

    spool: Spool
    said: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    accepted: list[Accepted] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


_BEFORE = ("submitting", "cancelling", "began")
"""What is written down before a call, which may have had an effect whatever came of it."""


def gather(spool: Spool, ledgers: str, until: Until = Until()) -> Found:
    """Read the ledgers and the spool."""
    found = Found(spool)
    for line in lines(ledgers):
        if line["at"] < until.at or line["what"] in _BEFORE:
            found.said[line["what"]].append(line)
    for who, line in log_lines(ledgers):
        if line < until.logged:
            _read_log(found, who, line)
    for line in found.said["accepted"]:
        found.accepted.append(Accepted(line["job"], line["who"], line["by"], line["shown"][0]))
    for job_id in job_ids(spool):
        try:
            found.jobs[job_id] = spool.get(job_id)
        except SpoolError as error:
            found.damaged[job_id] = str(error)
    _count(found)
    return found


def _read_log(found: Found, who: str, line: str) -> None:
    if ended := _ENDED.match(line):
        by = MARK.search(ended[3] or "")
        found.accepted.append(Accepted(ended[1], who, by[1] if by else "", ended[2]))
    found.counts["fenced finishes refused"] += "its result is discarded" in line
    found.counts["leases seen to run out"] += bool(_RAN_OUT.search(line))


def _count(found: Found) -> None:
    said, counts = found.said, found.counts
    counts["jobs"] = len(found.jobs) + len(found.damaged)
    counts["batches"] = len({line["batch"] for line in said["submitted-batch"]})
    counts["runs of a handler"] = len(said["began"])
    counts["submits acknowledged"] = len(said["submitted"]) + len(said["submitted-batch"])
    counts["submits killed before they returned"] = len(said["submitting"]) - counts["submits acknowledged"]
    counts["finishes acknowledged"] = len(found.accepted)
    counts["fenced finishes refused"] += len(said["fenced"])
    counts["jobs awaited to their end"] = len(said["awaited"])
    counts["batches awaited to their end"] = len(said["awaited-batch"])
    counts["cancels acknowledged"] = len(said["cancelled"])
    counts["attempts lost"] = sum(a.status == "lost" for job in found.jobs.values() for a in job.attempts)
    for job in found.jobs.values():
        counts[f"ended {job.status}"] += 1


def wrongs(found: Found) -> list[str]:
    """What is wrong after everybody was told the truth and all has come to rest; empty when nothing is."""
    acknowledged = [job_id for job_id, _ in submitted(found)]
    return [
        *(f"{line['who']} failed: {line['told']}\n{line['trace']}" for line in found.said["error"]),
        *violations(found.spool, acknowledged, settled=True),
        *(f"{job_id} cannot be read: {why}" for job_id, why in found.damaged.items()),
        *(f"{job_id} has not ended: {job.status}" for job_id, job in found.jobs.items() if not job.is_terminal),
        *promises(found),
    ]


def promises(found: Found) -> list[str]:
    """The same for what was promised to somebody, whether all has come to rest or not."""
    return [*_submits(found), *_results(found), *_runs(found), *_awaited(found), *_cancels(found)]


def submitted(found: Found) -> Iterator[tuple[str, str]]:
    """Each job whose submit returned, and its nonce."""
    for line in found.said["submitted"]:
        yield line["job"], line["nonce"]
    for line in found.said["submitted-batch"]:
        yield from ((job_id, line["nonce"]) for job_id in line["jobs"])


def _submits(found: Found) -> Iterator[str]:
    jobs = found.jobs
    for job_id, nonce in submitted(found):
        if job_id not in jobs:
            yield f"{job_id} was acknowledged and is lost"
        elif _nonce(jobs[job_id]) != nonce:
            yield f"{job_id} was acknowledged for {nonce} and is for {_nonce(jobs[job_id])}"
    counts = {line["nonce"]: line.get("count", 0) for line in found.said["submitting"]}
    made: defaultdict[str, set[str]] = defaultdict(set)
    for job_id, job in jobs.items():
        made[_nonce(job)].add(job_id)
    for nonce, ids in made.items():
        if nonce not in counts:
            yield f"{sorted(ids)} are for {nonce}, which nobody has asked for"
        elif len(ids) != (counts[nonce] or 1):
            yield f"{nonce} was asked for {counts[nonce] or 1} times and is there {len(ids)} times: {sorted(ids)}"


def _nonce(job: Job) -> str:
    assert isinstance(job.payload, dict)
    return str(job.payload["nonce"])


def mark_of(job: Job) -> str:
    """The mark of the run whose result a job shows; empty when its end is not from a handler."""
    by = MARK.search(job.result_summary or "") if job.result else None
    return by[1] if by else ""


def _results(found: Found) -> Iterator[str]:
    told: defaultdict[str, list[Accepted]] = defaultdict(list)
    for accepted in found.accepted:
        told[accepted.job_id].append(accepted)
    for job_id, all_told in told.items():
        if len(all_told) > 1:
            yield f"{job_id} has two acknowledged finishes: {all_told}"
        job = found.jobs.get(job_id)
        for accepted in all_told:
            if job is None:
                yield f"{accepted} was acknowledged and the job is lost"
            elif (job.status, mark_of(job)) != (accepted.status, accepted.by):
                yield f"{accepted} was acknowledged; there is {job.status} {mark_of(job)!r} of attempt {job.attempt}"
            elif job.worker_id != accepted.who:
                yield f"{accepted} was acknowledged; there is the result of {job.worker_id}"


def _runs(found: Found) -> Iterator[str]:
    began = {(line["job"], line["by"]) for line in found.said["began"]}
    for job_id, job in found.jobs.items():
        by = mark_of(job)
        if not by:
            if job.status in states.DONE_WELL:
                yield f"{job_id} is {job.status} and no run says so: {job.result_summary!r}"
            continue
        if (job_id, by) not in began:
            yield f"{job_id} has the result of {by}, which never ran"
        if attempt_of(by) != job.attempt:
            yield f"{job_id} has the result of {by} as that of attempt {job.attempt}"
        if job.succeeded and job.outputs.get("by") != by:
            yield f"{job_id} has the outputs of {job.outputs.get('by')!r} with the summary of {by}"
        yield from _artifacts(found.spool, job, by)


def _artifacts(spool: Spool, job: Job, by: str) -> Iterator[str]:
    """What is attached to a result was written by the same run."""
    for artifact in job.artifacts:
        assert isinstance(artifact, dict)
        uri = str(artifact["resourceUri"])
        try:
            with spool.resources.open(uri) as pieces:
                data = b"".join(pieces).decode()
        except (SpoolError, OSError, ValueError) as error:
            yield f"{job.job_id} has {uri}, which cannot be read: {error}"
            continue
        marks = set(re.findall(r"a[0-9]+-[0-9a-f]{12}", data))
        if marks != {by}:
            yield f"{job.job_id} has the result of {by} and {uri} of {marks or 'nobody'}"


def _awaited(found: Found) -> Iterator[str]:
    for line in found.said["awaited"]:
        job = found.jobs.get(line["job"])
        if job is None:
            yield f"{line['job']} was handed to {line['who']} as ended and is lost"
        elif (now := _text(end_of(job))) != _text(line["end"]):
            yield f"{line['job']} was handed to {line['who']} as {_text(line['end'])}; there is {now}"


def _text(end: Any) -> str:
    return json.dumps(end, sort_keys=True)


def _cancels(found: Found) -> Iterator[str]:
    for line in found.said["cancelled"]:
        job, asked = (
            found.jobs.get(line["job"]),
            f"{line['job']}: {line['who']} was told {line['status']} {line['attempt']}",
        )
        if job is None:
            yield f"{asked}, and the job is lost"
        elif line["status"] in states.TERMINAL and (job.status, job.attempt) != (line["status"], line["attempt"]):
            yield f"{asked}; there is {job.status} {job.attempt}"
        elif line["status"] not in states.TERMINAL and not line["asked"]:
            yield f"{asked}, and the cancel was not to be seen"
        elif job.status != states.CANCELLED and job.attempt > line["attempt"]:
            yield f"{asked}; it was begun again and there is {job.status} {job.attempt}"


def is_gone(spool: Spool, job_id: str) -> str:
    """How a job that is not there shows: ``set aside``, ``lost``, or as what it is."""
    try:
        return spool.get(job_id).status
    except Damaged:
        return "set aside"
    except NotFound:
        return "lost"
