"""What an ended attempt leaves: its result.N.json, and the links of the job to it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from breyta_spool import files, jobs, jsonio, looking, outputs, paths
from breyta_spool.errors import Damaged, InvalidInput
from breyta_spool.outputs import AttemptDir
from breyta_spool.records import ResultRecord, read_fields
from breyta_spool.results import EXITED_WELL, Outcome
from breyta_spool.states import Status


def result_of(
    directory: AttemptDir, outcome: Outcome, attached: list[dict[str, Any]], worker_info: dict[str, Any]
) -> bytes:
    """The bytes of result.N.json. Raises InvalidInput for what its readers would refuse."""
    artifacts = attached
    if outcome.artifacts:
        known = [described.get("resourceUri") for described in attached]
        artifacts = attached + [
            a for a in outcome.artifacts if not (isinstance(a, dict) and a.get("resourceUri", a) in known)
        ]
    fields = {
        "jobId": directory.job_id,
        "attempt": directory.attempt,
        "status": outcome.status,
        "summary": outcome.summary,
        "outputs": outcome.outputs,
        "metrics": outcome.metrics,
        "artifacts": artifacts,
        "error": outcome.error,
        "workerInfo": {**worker_info, **outcome.worker_info},
        "completedAt": outputs.now(),
    }
    if directory.unwritten is not None:
        fields["claim"] = directory.unwritten
    data = jsonio.record(fields, "the result")
    if outcome is EXITED_WELL:
        return data  # nothing in it comes from a handler
    try:
        # What its readers would refuse must not be accepted.
        if len(data) > jobs.RESULT_LIMIT:
            raise Damaged(f"the result has {len(data)} bytes; at most {jobs.RESULT_LIMIT} are allowed")
        if data.count(b"[") + data.count(b"{") > jsonio.MAX_DEPTH:
            jsonio.check_depth(fields, "the result", jsonio.MAX_DEPTH + 3)
        read_fields(ResultRecord, fields, "the result")
    except Damaged as error:
        raise InvalidInput(error.message, hint="attach large results as files or tables") from None
    return data


def link_outcome(job_dir: str, number: int, with_artifacts: bool) -> None:
    """Point result.json and artifacts of a job at those of the attempt that counted. Raises OSError."""
    with suppress(FileExistsError):
        files.symlink(paths.result_name(number), f"{job_dir}/{paths.RESULT}")
    attempt = paths.attempt_name(number)
    if with_artifacts and os.path.isdir(f"{job_dir}/{attempt}/{paths.ARTIFACTS}"):
        with suppress(FileExistsError):
            files.symlink(f"{attempt}/{paths.ARTIFACTS}", f"{job_dir}/{paths.ARTIFACTS}")


def counts(directory: AttemptDir, ended: Status, data: bytes) -> bool:
    """Whether the result counts after all: the reply to a rename can be lost. Then it is ours, to the byte."""
    if ended.name not in looking.names_if_any(directory.job_dir):
        return False
    return looking.read(directory.result, jobs.RESULT_LIMIT) == data


def tree_of(directory: str) -> Iterator[str]:
    """A directory and the regular files and directories below it, for a barrier that syncs each."""
    for at, _, names in os.walk(directory):
        # Nothing else: a pipe that a handler has left would hold up whoever opens it.
        yield from (path for name in names if stat.S_ISREG(_mode(path := f"{at}/{name}")))
        yield at


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def with_parents(*written: str, root: str) -> Iterator[str]:
    """Directories and every one above them up to the root, for such a barrier."""
    for path in written:
        while len(path) > len(root):
            yield path
            path = os.path.dirname(path)
    yield root
