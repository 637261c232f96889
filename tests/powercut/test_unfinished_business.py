"""What one is told rests on what another did who died before his own barrier: a power cut then loses nothing of it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool, SpoolError, files, making
from tests.crash.processes import in_child
from tests.crash.worlds import TYPE
from tests.powercut.disk import Disk, leave_the_others, why_not
from tests.torture.actors import sync
from tests.torture.crowd import UNAME26

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"power cuts: {why_not()}")


def _submit_and_die(root: str, key: str | None) -> None:
    """Submit a job, and be killed between the rename that makes it one and the barrier."""

    def submit() -> None:
        def hook(operation: str, path: str) -> None:
            if operation == "touch" and path.endswith(f"queued/{TYPE}"):
                os._exit(9)

        files.hook = hook
        Spool.open(root).submit(TYPE, {"text": "p" * 5000}, idempotency_key=key)

    in_child(submit)


def _finish(spool: Spool, job_id: str) -> Any:
    lease = spool.claim(TYPE, "worker")
    assert lease is not None
    return lease.complete(outputs={"n": 1}).status


def _finish_and_await(spool: Spool, job_id: str) -> Any:
    """The finish is of a process that dies before its barrier, too."""
    scratch = Spool(spool.root, spool.settings.model_copy(update={"durability": "none"}))
    _finish(scratch, job_id)
    return spool.await_job(job_id, timeout="5s").status


def _cancel(spool: Spool, job_id: str) -> Any:
    return spool.cancel(job_id).status


def _submit_again(spool: Spool, job_id: str) -> Any:
    job = spool.submit(TYPE, {}, idempotency_key="key")
    assert job.job_id == job_id
    return job.status


def _as_told(old_kernel: bool, act: Callable[[], Any]) -> Callable[[], Any]:
    """The same by a process that sees an old kernel, whose syncfs cannot report errors."""

    def told() -> Any:
        if old_kernel:
            ctypes.CDLL(None).personality(UNAME26)
        return act()

    return told


def _scene(kind: str, old_kernel: bool, act: Callable[[Spool, str], Any]) -> dict[str, Any]:
    leave_the_others()
    with Disk(kind) as disk:
        root = f"{disk.top}/spool"
        Spool.init(root)
        os.sync()
        _submit_and_die(root, "key")
        (place,) = Path(root, "jobs").glob("*/*/job-*")

        answer = in_child(_as_told(old_kernel, lambda: act(Spool.open(root), place.name))).answer
        disk.cut()
        disk.power_on()
        return {"told": answer, "there": in_child(lambda: _there(root, place.name)).answer}


def _there(root: str, job_id: str) -> Any:
    spool = Spool.open(root)
    try:
        assert spool.submit(TYPE, {}, idempotency_key="key").job_id == job_id
        return spool.get(job_id).status
    except SpoolError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("act", [_finish, _finish_and_await, _cancel, _submit_again])
@pytest.mark.parametrize("old_kernel", [False, True], ids=["syncfs", "fsync of each file"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_job_of_a_submitter_who_died_before_his_barrier_is_there_for_those_who_were_told_of_it(
    kind: str, old_kernel: bool, act: Callable[[Spool, str], Any]
) -> None:
    if missing := why_not(kind):
        pytest.skip(missing)
    seen = in_child(lambda: _scene(kind, old_kernel, act)).answer
    assert seen["there"] == seen["told"]


# -- artifacts --------------------------------------------------------------------------------------


def _attach_finish_and_die(root: str) -> None:
    """Attach one of each kind, finish, and be killed between the rename that makes the result count and the barrier."""
    lease = Spool.open(root).claim(TYPE, "worker")
    assert lease is not None
    Path(root, "report.txt").write_text("report\n" * 1000)
    lease.dir.attach_file(f"{root}/report.txt")
    lease.dir.attach_kv("summary", {"n": 1})
    lease.dir.attach_table("findings", [{"n": 1}])

    def hook(operation: str, path: str) -> None:
        if operation == "symlink" and path.endswith("/result.json"):
            os._exit(9)

    files.hook = hook
    lease.complete()


def _artifact_scene(kind: str, old_kernel: bool) -> Any:
    leave_the_others()
    with Disk(kind) as disk:
        root = f"{disk.top}/spool"
        job_id = Spool.init(root).submit(TYPE).job_id
        in_child(_as_told(old_kernel, lambda: _attach_finish_and_die(root)))
        (result,) = Path(root, "jobs").glob("*/*/job-*/result.1.json")
        sync(str(result))  # as any other process may; on a journaled file system all names that were made before follow
        disk.cut()
        disk.power_on()
        return in_child(lambda: _what_is_attached(root, job_id)).answer


def _what_is_attached(root: str, job_id: str) -> Any:
    spool = Spool.open(root)
    job = spool.get(job_id)
    found = {"status": job.status}
    for artifact in job.artifacts:
        with spool.resources.open(str(artifact["resourceUri"])) as pieces:
            found[str(artifact["label"])] = str(len(b"".join(pieces)))
    return found


@pytest.mark.parametrize("old_kernel", [False, True], ids=["syncfs", "fsync of each file"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_result_that_counts_has_all_that_was_attached_though_its_worker_died_before_his_barrier(
    kind: str, old_kernel: bool
) -> None:
    if missing := why_not(kind):
        pytest.skip(missing)
    found = in_child(lambda: _artifact_scene(kind, old_kernel)).answer
    assert found == {"status": "succeeded", "report.txt": "7000", "summary": "8", "findings": "8"}


# -- init -------------------------------------------------------------------------------------------


def _init_scene() -> Any:
    leave_the_others()
    with Disk() as disk:
        root = f"{disk.top}/spool"
        making.make(root, "ws-acme", "durable", None)  # all that init does but its barrier
        sync(root)
        disk.cut()
        disk.power_on()
        return in_child(lambda: Spool.open(root).settings.workspace_id).answer


def test_a_spool_whose_maker_died_before_his_barrier_is_there_whole_or_can_be_made_again() -> None:
    assert in_child(_init_scene).answer == "ws-acme"
