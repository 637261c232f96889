"""A rename was done, but its answer says that it failed: the operation has won all the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import LeaseLost, files, paths, states
from tests.crash import worlds
from tests.crash.worlds import TYPE, World, settle, settled
from tests.world import work_off

ANSWERS = [errno.ENOENT, errno.EIO, errno.ETIMEDOUT, errno.ESTALE]
"""What a client says whose reply was lost: the second try finds no source; a soft mount gives up."""


class LostReply:
    """A hook that does the rename to a name that ``begins`` so, once; then it answers with an error.

    With ENOENT the product's own rename finds that out by itself: the source is gone.
    """

    def __init__(self, begins: str, code: int) -> None:
        self.done = False
        self._begins = begins
        self._code = code

    def __call__(self, operation: str, path: str) -> None:
        directory, _, begins = self._begins.rpartition("/")
        if self.done or operation != "rename" or not os.path.basename(path).startswith(begins) or directory not in path:
            return
        try:
            os.rename(self._source(path), path)
        except FileNotFoundError:
            return  # the directory above is still missing
        self.done = True
        if self._code != errno.ENOENT:
            raise OSError(self._code, os.strerror(self._code), path)

    @staticmethod
    def _source(path: str) -> str:
        directory, name = os.path.split(path)
        if name.startswith("batch-"):
            root, _, in_queue = directory.partition("/queued/")
            tmp = f"{root}/tmp" if in_queue else f"{directory}/../../../tmp"
            (staged,) = [f for f in os.listdir(tmp) if f.startswith(name) and f.endswith(".queue") == bool(in_queue)]
            return f"{tmp}/{staged}"
        (source,) = [found for found in os.listdir(directory) if found.startswith(states.PREFIX)]
        return f"{directory}/{source}"


def _submit(world: World) -> None:
    world.acknowledged.append(world.spool.submit(TYPE, {"n": 1}).job_id)


def _submit_batch(world: World) -> None:
    world.acknowledged += [job.job_id for job in world.spool.submit_batch(TYPE, [{"payload": {"n": 1}}]).jobs or []]
    assert world.spool.list_batches()[0].queued_count == 1


def _cancel_batch(world: World) -> None:
    assert world.spool.cancel_batch(world.batch_id).status == states.CANCELLED


def _claim(world: World) -> None:
    world.held = world.spool.claim(TYPE, "holder")
    assert world.lease.job_id == world.job_id
    assert world.lease.complete(outputs={"by": "holder"}).attempt == 1


def _finish(world: World) -> None:
    assert world.lease.complete(outputs={"by": "holder"}).outputs == {"by": "holder"}


def _cancel(world: World) -> None:
    assert world.spool.cancel(world.job_id).status == states.CANCELLED


def _give_back(world: World) -> None:
    """Others may give the status file the same name, so it proves nothing: "not by me" is a fair answer here."""
    with suppress(LeaseLost):
        assert world.lease.give_back().status == states.QUEUED


def _expire(world: World) -> None:
    assert world.spool.claims.expire(TYPE) in (0, 1)


def _redo(world: World) -> None:
    assert world.spool.get(world.job_id).status == states.QUEUED


CASES: list[tuple[Callable[[Path], World], Callable[[World], None], str, str, int]] = [
    (worlds.empty, _submit_batch, "queued/batch-", states.SUCCEEDED, 1),
    (worlds.empty, _submit_batch, "jobs/batch-", states.SUCCEEDED, 1),
    (lambda place: worlds.batch(place, 1), _cancel_batch, "status.cancelled.", states.CANCELLED, 0),
    (worlds.queued, _claim, "status.leased.", states.SUCCEEDED, 1),
    (worlds.leased, _finish, "status.succeeded.", states.SUCCEEDED, 1),
    (worlds.queued, _cancel, "status.cancelled.", states.CANCELLED, 0),
    (worlds.leased, _give_back, "status.queued.", states.SUCCEEDED, 2),
    (worlds.expired, _expire, "status.queued.", states.SUCCEEDED, 2),
    (worlds.torn_result, _redo, "status.queued.", states.SUCCEEDED, 2),
]


@pytest.mark.parametrize("code", ANSWERS, ids=[errno.errorcode[code] for code in ANSWERS])
@pytest.mark.parametrize(
    ("prepare", "act", "begins", "end", "attempt"), CASES, ids=[f"{case[1].__name__[1:]}, {case[2]}" for case in CASES]
)
def test_an_operation_whose_reply_was_lost_is_seen_as_done(
    tmp_path: Path, prepare: Any, act: Any, begins: str, end: str, attempt: int, code: int
) -> None:
    world = prepare(tmp_path / "spool")
    reply = LostReply(begins, code)
    files.hook = reply
    try:
        act(world)
    finally:
        files.hook = None
    assert reply.done
    job = settled(world)
    assert (job.status, job.attempt) == (end, attempt)


# -- what is made, not renamed ----------------------------------------------------------------------


class DoneAlready:
    """A hook that does, once, what is asked for, so that the product's own call finds it done."""

    def __init__(self, operation: str, part: str) -> None:
        self.done = False
        self._operation = operation
        self._part = part

    def __call__(self, operation: str, path: str) -> None:
        if self.done or operation != self._operation or self._part not in path:
            return
        self.done = True
        directory, name = os.path.split(path)
        if operation == "mkdir":
            os.mkdir(path)
        elif operation == "create":
            os.mknod(path)
        elif operation == "symlink":
            os.symlink(paths.entry_target(name), path)
        else:
            (aside,) = [found for found in os.listdir(directory) if found.startswith(f".{name}.")]
            (os.link if operation == "link" else os.rename)(f"{directory}/{aside}", path)


def _cancel_leased(world: World) -> None:
    assert world.spool.cancel(world.job_id, reason="enough").cancel_requested


def _attach(world: World) -> None:
    world.lease.dir.attach_kv("kept", 1)
    world.lease.dir.attach_kv("kept", 2, ttl_seconds=1000)
    assert world.lease.complete().artifacts[0]["label"] == "kept"


def _attach_file(world: World) -> None:
    assert world.lease.dir.attach_file(__file__)["resourceUri"].endswith("/test_lost_replies.py".replace("/", "."))


def _use_the_job_dir(world: World) -> None:
    assert work_off(world.spool, lambda job: {"summary": job.dir}, TYPE).failed == 0


def _cancel_whole_batch(world: World) -> None:
    assert world.spool.cancel_batch(world.batch_id, reason="enough").cancel_requested


MADE: list[tuple[Callable[[Path], World], Callable[[World], None], str, str]] = [
    (worlds.empty, _submit, "mkdir", "/job-"),
    (worlds.empty, _submit, "create", "/status.queued.0"),
    (worlds.empty, _submit_batch, "mkdir", "/tmp/batch-"),
    (worlds.empty, _submit_batch, "mkdir", "/job-"),
    (worlds.empty, _submit_batch, "mkdir", ".queue"),
    (worlds.empty, _submit_batch, "symlink", ".queue/"),
    (worlds.queued, _use_the_job_dir, "mkdir", "/attempt-1/work"),
    (worlds.leased, _cancel_leased, "rename", "/cancel.json"),
    (worlds.leased, _attach, "rename", "/kv/"),
    (worlds.leased, _attach_file, "link", "/artifacts/"),
    (worlds.batch, _cancel_whole_batch, "link", "/cancel.json"),
]


@pytest.mark.parametrize(
    ("prepare", "act", "operation", "part"), MADE, ids=[f"{case[1].__name__[1:]}, {case[2]} {case[3]}" for case in MADE]
)
def test_what_was_made_already_as_its_reply_was_lost_is_taken_as_made(
    tmp_path: Path, prepare: Any, act: Any, operation: str, part: str
) -> None:
    world = prepare(tmp_path / "spool")
    reply = DoneAlready(operation, part)
    files.hook = reply
    try:
        act(world)
    finally:
        files.hook = None
    assert reply.done
    settle(world)
