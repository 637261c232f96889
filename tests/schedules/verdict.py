"""Whether a schedule ended well: its history is explained, the spool is whole, and everything comes to a good end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from breyta_spool import SpoolError, jobs, paths, states
from tests.crash.invariants import job_ids, status_of, violations
from tests.crash.worlds import World, settle
from tests.schedules.history import LOST, Call, History
from tests.schedules.linear import explained
from tests.schedules.model import ABSENT, Job
from tests.schedules.view import is_old

End = Mapping[str, tuple[str, Any]]
"""How each job ended: its status, and whose result it has."""


def found(world: World, job_id: str, torn: bool = False) -> Job:
    """A job as the disk shows it, as the model says it."""
    directory = world.spool.tree.job(job_id)
    if not os.path.isdir(directory):
        return Job(ABSENT)
    status = status_of(world.spool, job_id)
    request, _ = jobs.load_request(directory, 1 << 20)
    asked = os.path.lexists(f"{directory}/{paths.CANCEL}")
    old = status.state == states.LEASED and is_old(os.stat(f"{directory}/{status.name}"))
    return Job(status.state, status.attempt, status.token, asked, request.max_attempts, old, torn)


def unexplained(history: History, before: Mapping[str, Job], world: World) -> Iterator[str]:
    """The jobs of whose history no order of the calls makes sense."""
    for job_id in job_ids(world.spool):
        try:
            now = found(world, job_id)
        except ValueError:
            continue  # it has not one status file: the invariants say so
        calls = history.of_job(job_id)
        first = before.get(job_id) or Job(ABSENT, max_attempts=now.max_attempts)
        if not explained(calls, first, now):
            told = "".join(f"\n    {call}" for call in sorted(calls, key=lambda call: call.begun))
            yield f"no order of these calls leads from {first} to {now}:{told}"


def rest(world: World, acknowledged: list[str], reader_first: bool) -> tuple[list[str], dict[str, tuple[str, Any]]]:
    """Let everything come to rest; gives what was wrong, and how each job ended."""
    spool = world.another()
    try:
        for job_id in job_ids(spool) if reader_first else ():
            spool.get(job_id)
        if wrong := violations(spool, acknowledged):
            return wrong, {}
        world.acknowledged = acknowledged
        settle(world)
        ended = {job_id: spool.get(job_id) for job_id in job_ids(spool)}
    except (AssertionError, SpoolError, OSError) as error:
        return [f"it does not come to rest: {error!r}"], {}
    wrong = [f"{job_id} does not end: {job.status}" for job_id, job in ended.items() if not job.is_terminal]
    return wrong, {job_id: (job.status, job.outputs.get("by")) for job_id, job in ended.items()}


def broken_promises(history: History, end: End) -> Iterator[str]:
    """What was said to a caller and is not so in the end, and what counts though its worker was refused."""
    accepted: dict[str, Call] = {}
    for call in history.calls:
        if call.kind != "finish":
            continue
        status, by = end.get(call.job_id, ("", None))
        mine = (call.about["status"], call.about["by"])
        if call.answer == LOST:
            if by is not None and by == call.about["by"]:
                yield f"{call.actor} was refused, and its result counts: {call}"
        elif call.ended is not None:
            if call.answer != mine:
                yield f"{call.actor} was told of another end than its own: {call}"
            if (status, by) != mine:
                yield f"the job ended as {status} by {by}, though this was accepted: {call}"
            if call.job_id in accepted:
                yield f"two results were accepted: {accepted[call.job_id]}; {call}"
            accepted[call.job_id] = call
    yield from _ends_undone(history, end)
    keyed = {call.job_id for call in history.calls if call.kind == "submit" and call.job_id}
    if len(keyed) > 1 or (keyed and len(end) > 1):
        yield f"one idempotency key, and these jobs: {sorted(keyed | end.keys())}"


def _ends_undone(history: History, end: End) -> Iterator[str]:
    for call in history.calls:
        if call.kind in ("cancel", "get") and call.ended is not None and call.answer[0] in states.TERMINAL:
            status, _ = end.get(call.job_id, ("", None))
            if status != call.answer[0]:
                yield f"the job ended as {status}, though an end was told before: {call}"
