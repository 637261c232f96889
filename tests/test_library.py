from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import (
    AwaitBound,
    Conflict,
    Damaged,
    FormatNotSupported,
    InvalidInput,
    LeaseLost,
    NoSuchSpool,
    NotFound,
    Spool,
    StorageError,
    files,
    finishing,
    owners,
)
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.paths import TOP
from breyta_spool.results import Outcome
from breyta_spool.worker import Settings, Worker
from tests.world import age_lease, everything_in, job_dir, until, work_off


def deep_list(levels: int) -> object:
    deep: object = 0
    for _ in range(levels):
        deep = [deep]
    return deep


def test_a_job_goes_from_submit_to_result(spool: Spool) -> None:
    job = spool.submit("review", {"surface": "api"}, metadata={"campaign": "x"}, root_workflow_id="wf-1")
    assert (job.status, job.attempt, job.max_attempts) == ("queued", 0, 3)

    lease = spool.claim("review", "host-1", labels={"gpu": True})
    assert lease is not None
    assert lease.job.status == "leased"
    lease.progress("half done", metrics={"done": 1})
    running = spool.get(job.job_id)
    assert (running.status, running.worker_id, running.worker_labels) == ("running", "host-1", {"gpu": True})
    assert running.progress is not None
    assert running.progress.message == "half done"

    done = lease.complete(summary="fine", outputs={"finding-count": 2}, metrics={"ms": 5})
    assert done == spool.get(job.job_id)
    assert (done.status, done.result_summary, done.outputs, done.metrics) == (
        "succeeded",
        "fine",
        {"finding-count": 2},
        {"ms": 5},
    )
    assert done.payload == {"surface": "api"}
    assert done.metadata == {"campaign": "x"}
    assert done.root_workflow_id == "wf-1"
    assert done.is_terminal
    assert done.created_at <= done.attempts[0].claimed_at <= done.completed_at


def test_the_returned_job_of_a_submit_is_what_a_reader_sees(spool: Spool) -> None:
    job = spool.submit("review", [1, {"a": None}], metadata={"k": "v"}, max_attempts=7, fanout_max_concurrency=2)
    assert job == spool.get(job.job_id)


@pytest.mark.parametrize("payload", [None, 0, "", "text", [], [None], {}, {"ü": "日本\x00"}, 1.5, True])
def test_a_payload_may_be_any_json_value(spool: Spool, payload: object) -> None:
    job = spool.submit("t", payload)
    assert spool.get(job.job_id).payload == payload
    lease = spool.claim("t", "w")
    assert lease is not None
    assert lease.job.payload == payload


@pytest.mark.parametrize("value", [(1, 2), {"a": (1,)}, {1: "one"}, {True: 1}, {1: "one", "1": "two"}], ids=repr)
def test_a_value_that_json_has_in_another_form_is_shown_as_it_is_stored(spool: Spool, value: Any) -> None:
    job = spool.submit("t", value, metadata={"about": value})
    assert job == spool.get(job.job_id)
    batch = spool.submit_batch("t", [{"payload": value}], metadata={"about": value})
    assert batch.metadata == spool.get_batch(batch.batch_id).metadata
    assert [job.payload for job in batch.jobs or []] == [job.payload for job in spool.list("t", limit=1)]
    assert len(spool.list("t")) == 2


def test_jobs_are_claimed_in_the_order_of_submission(spool: Spool) -> None:
    submitted = [spool.submit("t", n).job_id for n in range(30)]
    claimed = []
    while lease := spool.claim("t", "w"):
        claimed.append(lease.job_id)
    assert claimed == submitted


def test_a_worker_sees_only_its_type(spool: Spool) -> None:
    spool.submit("a")
    assert spool.claim("b", "w") is None
    assert spool.claim("a", "w") is not None


def test_exactly_one_status_file_stands_in_a_job_at_every_step(spool: Spool) -> None:
    job = spool.submit("t")
    directory = job_dir(spool, job)

    def status() -> list[str]:
        return [name for name in os.listdir(directory) if name.startswith("status.")]

    assert status() == ["status.queued.0"]
    lease = spool.claim("t", "w")
    assert lease is not None
    assert status() == [f"status.leased.1.{lease.token}"]
    lease.fail("no")
    assert status() == ["status.failed.1"]
    assert (directory / status()[0]).read_bytes() == b""


def test_an_expired_lease_goes_to_the_next_worker_and_the_first_is_fenced(spool: Spool) -> None:
    job = spool.submit("t")
    first = spool.claim("t", "w1", lease="1s")
    assert first is not None
    age_lease(spool, job)
    second = spool.claim("t", "w2")
    assert second is not None
    assert second.job.attempt == 2

    for act in (first.heartbeat, first.progress, first.complete, first.give_back, lambda: first.fail("x")):
        with pytest.raises(LeaseLost):
            act()
    with pytest.raises(LeaseLost):
        first.dir.attach_kv("label", 1)

    done = second.complete(outputs={"by": 2})
    assert (done.status, done.outputs, done.worker_id) == ("succeeded", {"by": 2}, "w2")
    assert [attempt.status for attempt in done.attempts] == ["lost", "succeeded"]


def test_a_lease_that_is_renewed_does_not_expire(spool: Spool) -> None:
    job = spool.submit("t")
    lease = spool.claim("t", "w1", lease="1s")
    assert lease is not None
    age_lease(spool, job)
    lease.heartbeat()
    assert spool.claim("t", "w2") is None
    assert spool.get(job.job_id).worker_id == "w1"


def test_a_heartbeat_can_change_the_lease_duration(spool: Spool) -> None:
    job = spool.submit("t")
    lease = spool.claim("t", "w1", lease="1s")
    assert lease is not None
    lease.heartbeat("2h")
    age_lease(spool, job, 3600)
    assert spool.claim("t", "w2") is None
    age_lease(spool, job, 7300)
    assert spool.claim("t", "w2") is not None


def test_a_job_times_out_when_its_attempts_are_used_up(spool: Spool) -> None:
    job = spool.submit("t", max_attempts=2)
    for _ in range(2):
        assert spool.claim("t", "w") is not None
        age_lease(spool, job)
    assert spool.claim("t", "w") is None
    ended = spool.get(job.job_id)
    assert (ended.status, ended.attempt) == ("timed_out", 2)
    assert ended.error is not None
    assert ended.error.code == "timed_out"
    assert [attempt.status for attempt in ended.attempts] == ["lost", "lost"]
    assert ended.is_terminal


def test_a_lease_that_is_given_back_counts_as_an_attempt(spool: Spool) -> None:
    spool.submit("t", max_attempts=2)
    for expected in ("queued", "timed_out"):
        lease = spool.claim("t", "w")
        assert lease is not None
        assert lease.give_back().status == expected


def test_a_queued_job_is_cancelled_at_once(spool: Spool) -> None:
    job = spool.cancel(spool.submit("t").job_id, reason="wrong input", requested_by="ann")
    assert job.status == "cancelled"
    assert job.error is not None
    assert job.error.message == "cancelled by ann: wrong input"
    assert spool.claim("t", "w") is None
    assert [found.job_id for found in spool.list(status="cancelled")] == [job.job_id]


def test_a_leased_job_is_asked_to_end_and_its_holder_hears_it(spool: Spool) -> None:
    job = spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    assert lease.heartbeat() is False
    asked = spool.cancel(job.job_id)
    assert (asked.status, asked.cancel_requested) == ("leased", True)
    assert lease.heartbeat() is True


def test_a_cancelled_job_whose_worker_died_ends_as_cancelled_not_again_in_the_queue(spool: Spool) -> None:
    job = spool.submit("t")
    assert spool.claim("t", "w") is not None
    spool.cancel(job.job_id)
    age_lease(spool, job)
    assert spool.claim("t", "w") is None
    assert spool.get(job.job_id).status == "cancelled"


def test_cancelling_a_job_that_has_ended_changes_nothing(spool: Spool) -> None:
    job = spool.submit("t")
    work_off(spool)
    before = everything_in(spool.root)
    assert spool.cancel(job.job_id).status == "succeeded"
    assert everything_in(spool.root) - before <= {"locks/clock.lock"}


def test_a_retry_is_a_new_job_that_points_at_the_old_one(spool: Spool) -> None:
    old = spool.submit("t", {"n": 1}, metadata={"m": 2}, max_attempts=1, parent_step_id="s")
    with pytest.raises(Conflict, match="only a job that has ended"):
        spool.retry(old.job_id)
    work_off(spool, lambda job: {"status": "failed", "message": "no"})
    new = spool.retry(old.job_id)
    assert new.job_id != old.job_id
    assert (new.retry_of, new.payload, new.metadata, new.max_attempts, new.parent_step_id) == (
        old.job_id,
        {"n": 1},
        {"m": 2},
        1,
        "s",
    )
    assert spool.get(old.job_id).status == "failed"


def test_list_is_newest_first_and_filters(spool: Spool) -> None:
    a = [spool.submit("a").job_id for _ in range(3)]
    b = [spool.submit("b").job_id for _ in range(3)]
    lease = spool.claim("a", "w")
    assert lease is not None
    lease.fail("x")
    leased = spool.claim("b", "w")
    assert leased is not None

    def listed(**given: object) -> list[str]:
        return [job.job_id for job in spool.list(**given)]  # type: ignore[arg-type]

    assert listed() == [*reversed(b), *reversed(a)]
    assert listed(limit=2) == [b[2], b[1]]
    assert listed(job_type="a") == [*reversed(a)]
    assert listed(status="failed") == [lease.job_id]
    assert listed(status="QUEUED", job_type="b") == [b[2], b[1]]
    assert listed(status="leased") == [leased.job_id]
    assert listed(status="running") == []
    leased.progress("x")
    assert listed(status="running") == [leased.job_id]
    assert listed(status="no-changes") == []


def test_every_index_link_leads_to_its_job_in_every_list(spool: Spool) -> None:
    for _ in range(3):
        spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    lease.complete()
    assert spool.claim("t", "w") is not None
    links = [path for path in Path(spool.root).rglob("job-*") if path.is_symlink()]
    assert sorted(str(link.relative_to(spool.root)).split("/")[0] for link in links) == ["finished", "leased", "queued"]
    for link in links:
        assert link.resolve() == job_dir(spool, link.name)


def test_await_returns_as_soon_as_the_job_ends_and_long_before_the_next_poll(spool: Spool) -> None:
    job = spool.submit("t")
    threading.Timer(0.2, lambda: work_off(spool)).start()
    began = time.monotonic()
    assert spool.await_job(job.job_id, interval="60s", timeout="60s").status == "succeeded"
    assert time.monotonic() - began < 30


def test_await_that_reaches_its_bound_carries_the_last_state_and_the_job_goes_on(spool: Spool) -> None:
    job = spool.submit("t")
    with pytest.raises(AwaitBound, match="still queued after 50ms") as caught:
        spool.await_job(job.job_id, interval="10ms", timeout="50ms")
    assert caught.value.job == spool.get(job.job_id)
    with pytest.raises(AwaitBound, match="after 3 polls"):
        spool.await_job(job.job_id, interval="1ms", max_attempts=3)
    work_off(spool)
    assert spool.await_job(job.job_id).status == "succeeded"


def test_an_awaiter_takes_back_the_lease_of_a_dead_worker_when_no_other_is_left(spool: Spool) -> None:
    job = spool.submit("t", max_attempts=1)
    assert spool.claim("t", "w", lease="1s") is not None
    age_lease(spool, job)
    assert spool.await_job(job.job_id, timeout="5s").status == "timed_out"


def test_a_spool_is_made_only_where_nothing_is(tmp_path: Path) -> None:
    Spool.init(tmp_path / "s", durability="none")
    with pytest.raises(Conflict, match="is a spool already"):
        Spool.init(tmp_path / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"not empty: it has 'notes.txt'"):
        Spool.init(tmp_path / "full")
    assert everything_in(tmp_path / "full") == {"notes.txt"}


def test_a_missing_spool_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoSuchSpool) as caught:
        Spool.open(tmp_path / "nowhere")
    assert "spool init" in caught.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSuchSpool):
        Spool.open(tmp_path / "file")


def test_a_spool_of_a_newer_format_is_refused_with_what_to_do(spool: Spool) -> None:
    path = Path(spool.root) / "spool.json"
    path.write_text(path.read_text().replace('"formatVersion": 2', '"formatVersion": 3'))
    with pytest.raises(FormatNotSupported) as caught:
        Spool.open(spool.root)
    assert "upgrade" in caught.value.hint


def test_a_spool_of_the_time_before_the_first_release_is_refused(spool: Spool) -> None:
    path = Path(spool.root) / "spool.json"
    path.write_text(path.read_text().replace('"formatVersion": 2', '"formatVersion": 1'))
    with pytest.raises(FormatNotSupported, match="format version 1") as caught:
        Spool.open(spool.root)
    assert "program that made it" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"formatVersion": "x"}', "\x00", "[" * 100_000])
def test_a_damaged_spool_file_is_said_to_be_damaged(spool: Spool, content: str) -> None:
    path = Path(spool.root) / "spool.json"
    path.write_text(content)
    with pytest.raises(Damaged, match=r"spool\.json"):
        Spool.open(spool.root)


def test_an_unknown_job_is_not_found_and_says_where_it_was_looked_for(spool: Spool) -> None:
    with pytest.raises(NotFound, match="no such job") as caught:
        spool.get("job-01JD0W3Z8Q4X5V6B7N8M9K0P1R")
    assert caught.value.details["path"] == spool.root


def test_a_durable_spool_passes_a_barrier_before_it_acknowledges(tmp_path: Path) -> None:
    spool = Spool.init(tmp_path / "s", durability="durable")
    called: list[int] = []
    real = spool.claims._barrier

    def counting(written: object) -> None:
        assert len(list(written())) > 3  # type: ignore[operator]
        called.append(1)
        real(written)  # type: ignore[arg-type]

    spool.claims._barrier = counting  # type: ignore[assignment]
    job = spool.submit("t")
    assert len(called) == 1
    lease = spool.claim("t", "w")
    assert lease is not None
    assert len(called) == 1, "a claim may be lost: it has no barrier"
    lease.complete()
    assert len(called) == 2
    assert spool.await_job(job.job_id).status == "succeeded"
    assert len(called) == 3, "an awaiter may come before the worker's own barrier"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make an immutable directory that even root cannot change")
def test_a_read_only_spool_answers_with_one_clear_error(spool: Spool, tmp_path: Path) -> None:
    import subprocess

    job = spool.submit("t")
    mounted = tmp_path / "ro"
    mounted.mkdir()
    bind = ["mount", "--bind", spool.root, str(mounted)]
    if subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mounted)], check=True, capture_output=True)
        read_only = Spool.open(mounted)
        assert read_only.get(job.job_id).status == "queued"
        assert [found.job_id for found in read_only.list()] == [job.job_id]
        for act in (
            lambda: read_only.submit("t"),
            lambda: read_only.claim("t", "w"),
            lambda: read_only.cancel(job.job_id),
        ):
            with pytest.raises(StorageError, match="read-only"):
                act()
        with pytest.raises(AwaitBound):
            read_only.await_job(job.job_id, interval="1ms", max_attempts=2)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_threads_share_one_spool(spool: Spool) -> None:
    def submit() -> None:
        for n in range(20):
            spool.submit("t", n)

    threads = [threading.Thread(target=submit) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert work_off(spool).handled == 100
    assert len(spool.list(status="succeeded", limit=1000)) == 100


def test_a_spool_copied_without_its_empty_directories_still_works(spool: Spool) -> None:
    for name in ("tmp", "locks", "workers", "queued", "leased", "finished", "jobs"):
        os.rmdir(f"{spool.root}/{name}")
    job = spool.submit("t")
    assert work_off(spool).handled == 1
    assert spool.get(job.job_id).status == "succeeded"
    assert until(lambda: spool.workers() == [])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"job_type": "a/b"}, "jobType"),
        ({"job_type": ""}, "jobType"),
        ({"job_type": ".."}, "jobType"),
        ({"job_type": "x" * 300}, "jobType"),
        ({"job_type": "a\0b"}, "jobType"),
        ({"job_type": "a\n"}, "jobType"),
        ({"job_type": 7}, "jobType"),
        ({"max_attempts": 0}, "maxAttempts"),
        ({"max_attempts": True}, "maxAttempts"),
        ({"max_attempts": "3"}, "maxAttempts"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"x": "y" * (1 << 21)}}, "metadata"),
        ({"root_workflow_id": ""}, "rootWorkflowId"),
        ({"parent_step_id": 5}, "parentStepId"),
        ({"fanout_max_concurrency": -1}, "fanoutMaxConcurrency"),
    ],
)
def test_a_wrong_argument_of_submit_is_named_and_nothing_is_written(
    spool: Spool, given: dict[str, object], field: str
) -> None:
    before = everything_in(spool.root)
    with pytest.raises(InvalidInput) as caught:
        spool.submit(**({"job_type": "t"} | given))  # type: ignore[arg-type]
    assert caught.value.details["field"] == field
    assert field in caught.value.message
    assert everything_in(spool.root) == before


@pytest.mark.parametrize("payload", [float("nan"), float("inf"), "half \ud800", {1, 2}, b"bytes", object(), {"a": 1j}])
def test_a_payload_that_is_not_json_is_refused(spool: Spool, payload: object) -> None:
    with pytest.raises(InvalidInput, match="payload"):
        spool.submit("t", payload)


def test_a_payload_over_the_limit_or_nested_too_deep_is_refused(spool: Spool) -> None:
    before = everything_in(spool.root)
    with pytest.raises(InvalidInput, match="16777216"):
        spool.submit("t", "x" * (16 << 20))
    deep: object = 0
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nest|JSON"):
        spool.submit("t", deep)
    deep = 0
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidInput, match="deeper than 200"):
        spool.submit("t", deep)
    assert everything_in(spool.root) == before


@pytest.mark.parametrize(
    "job_id",
    ["", "job-", "../../etc", "job-../../../etc/passwd-aaaaaaaaaaaa", "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R/..",
     "job-81JD0W3Z8Q4X5V6B7N8M9K0P1R", "job-7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "job-01jd0w3z8q4x5v6b7n8m9k0p1r",
     "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R\0", "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R\n", "x" * 5000, None, 7],
)  # fmt: skip
def test_what_is_not_a_job_id_is_refused_before_the_disk_is_touched(spool: Spool, job_id: object) -> None:
    for act in (spool.get, spool.cancel, spool.retry, spool.await_job, lambda j: spool.lease(j, "x")):
        with pytest.raises(InvalidInput, match="not a job id"):
            act(job_id)  # type: ignore[operator]


def test_a_worker_that_died_before_making_the_links_is_mended_by_the_next_reader(spool: Spool) -> None:
    job = spool.submit("t")
    work_off(spool, lambda active: active.attach_kv("k", 1) and None)
    for name in ("result.json", "artifacts"):
        (job_dir(spool, job) / name).unlink()
    assert spool.get(job.job_id).status == "succeeded"
    assert (job_dir(spool, job) / "result.json").resolve() == job_dir(spool, job) / "result.1.json"
    assert (job_dir(spool, job) / "artifacts/kv/k.json").exists()


def test_what_nobody_is_known_to_own_in_tmp_is_swept_after_a_day_and_not_before(spool: Spool) -> None:
    old, new = Path(spool.root, "tmp/job-old"), Path(spool.root, "tmp/job-new")
    for path in (old, new):
        path.mkdir()
        (path / "job.json").touch()
    then = time.time() - 2 * 86_400
    os.utime(old, (then, then))
    spool.claims.sweep()
    assert os.listdir(f"{spool.root}/tmp") == ["job-new"]


def test_what_a_submitter_on_this_host_left_in_tmp_is_swept_as_soon_as_it_is_dead(spool: Spool) -> None:
    def of(pid: int) -> Path:
        return Path(spool.root, "tmp", owners.marked("job-new").replace(f"-{os.getpid()}-", f"-{pid}-"))

    ended = subprocess.Popen(["true"])
    ended.wait()
    mine, dead, zombie = of(os.getpid()), of(ended.pid), subprocess.Popen(["true"])
    until(lambda: Path(f"/proc/{zombie.pid}/stat").read_text().split()[2] == "Z")
    began = Path(f"/proc/{zombie.pid}/stat").read_text().split()[21]
    waited_for = Path(spool.root, "tmp", re.sub(r"-\d+$", f"-{began}", of(zombie.pid).name))
    again = Path(spool.root, "tmp", mine.name + "0")  # this process id, begun at another time
    elsewhere = Path(spool.root, "tmp", re.sub(r"\.[0-9a-f]{8}-", ".00000000-", dead.name))
    for path in (mine, dead, again, waited_for, elsewhere, dead.with_name(f"{dead.name}.queue")):
        path.mkdir()
    spool.claims.sweep()
    zombie.wait()
    assert sorted(os.listdir(f"{spool.root}/tmp")) == sorted([mine.name, elsewhere.name])


def test_a_job_planted_in_the_queue_of_another_type_is_not_run(spool: Spool) -> None:
    job = spool.submit("harmless")
    queue = Path(spool.root, "queued")
    (queue / "harmless").rename(queue / "powerful")
    assert spool.claim("powerful", "w") is None
    assert spool.get(job.job_id).attempt == 0
    lease = spool.claim("harmless", "w")
    assert lease is not None
    assert (lease.job_id, lease.job.attempt) == (job.job_id, 1)


def test_a_link_planted_where_an_attempt_goes_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    (tmp_path / "victim").mkdir()
    (job_dir(spool, job) / "attempt-1").symlink_to(tmp_path / "victim")
    lease = spool.claim("t", "w")
    assert lease is not None
    with pytest.raises(Damaged, match="is a link"):
        lease.progress("half")
    with pytest.raises(Damaged, match="is a link"):
        lease.dir.attach_kv("k", 1)
    assert os.listdir(tmp_path / "victim") == []


def test_a_link_planted_where_a_payload_stands_is_not_followed(spool: Spool) -> None:
    job = spool.submit("t")
    payload = job_dir(spool, job) / "payload.json"
    payload.unlink()
    payload.symlink_to("/etc/passwd")
    with pytest.raises(Damaged, match="symbolic link"):
        spool.get(job.job_id)


def leave_a_result(spool: Spool, lease: Any, text: str) -> None:
    """What a worker leaves that dies after it wrote its result and before the rename that counts."""
    (job_dir(spool, lease.job_id) / f"result.{lease.dir.attempt}.json").write_text(text)


@pytest.mark.parametrize("torn", [False, True])
def test_a_result_that_was_never_accepted_is_never_shown(spool: Spool, torn: bool) -> None:
    job = spool.submit("t", max_attempts=1)
    lease = spool.claim("t", "w")
    assert lease is not None
    whole = finishing.result_of(lease.dir, Outcome("succeeded", outputs={"never": "accepted"}), [], {}).decode()
    leave_a_result(spool, lease, whole[: len(whole) // 2] if torn else whole)
    age_lease(spool, job)
    assert spool.claim("t", "w") is None
    ended = spool.get(job.job_id)
    assert (ended.status, ended.outputs, ended.result) == ("timed_out", {}, None)
    assert ended.error is not None
    assert ended.attempts[0].status == "lost"
    assert not (job_dir(spool, job) / "result.json").is_symlink()
    assert spool.list() == [ended]


@pytest.mark.parametrize("damage", ["", "{", '{"jobId": "x"}', None])
@pytest.mark.parametrize(("attempts", "after"), [(1, "timed_out"), (2, "queued")])
def test_a_torn_result_is_done_again_while_attempts_are_left(
    spool: Spool, damage: str | None, attempts: int, after: str
) -> None:
    job = spool.submit("t", max_attempts=attempts)
    work_off(spool)
    result = job_dir(spool, job) / "result.1.json"
    result.unlink() if damage is None else result.write_text(damage)
    assert spool.get(job.job_id).status == after
    assert spool.get(job.job_id).status == after
    assert not (job_dir(spool, job) / "result.json").is_symlink()
    if after == "queued":
        assert work_off(spool).handled == 1
        again = spool.await_job(job.job_id)
        assert (again.status, again.attempt) == ("succeeded", 2)


@pytest.mark.parametrize(
    "outputs", [{"x": "\ud800"}, {"x": float("nan")}, {"x": object()}, {"x": deep_list(250)}, {"x": "y" * (65 << 20)}]
)
def test_a_result_that_no_reader_could_read_is_refused_and_the_lease_stays(spool: Spool, outputs: Any) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    with pytest.raises(InvalidInput):
        lease.complete(outputs=outputs)
    assert lease.complete(outputs={"x": 1}).status == "succeeded"


def test_metadata_that_no_reader_could_read_is_refused(spool: Spool) -> None:
    for metadata in ({"x": "\ud800"}, {"x": deep_list(250)}, {"x": float("inf")}):
        with pytest.raises(InvalidInput, match="metadata"):
            spool.submit("t", metadata=metadata)
    assert everything_in(spool.root) == set(TOP) | {"spool.json"}


@pytest.mark.parametrize("version", ['"2"', "2.0", "true", "0", "null", "-1"])
def test_a_version_that_is_no_number_is_damage_not_a_version(spool: Spool, version: str) -> None:
    path = Path(spool.root) / "spool.json"
    path.write_text(path.read_text().replace('"formatVersion": 2', f'"formatVersion": {version}'))
    with pytest.raises(Damaged, match="formatVersion"):
        Spool.open(spool.root)


def test_a_job_type_in_a_planted_request_never_becomes_a_path(spool: Spool) -> None:
    job = spool.submit("t")
    path = job_dir(spool, job) / "job.json"
    path.write_text(path.read_text().replace('"jobType": "t"', '"jobType": "../../x"'))
    for act in (spool.get, spool.cancel):
        with pytest.raises(Damaged, match="jobType"):
            act(job.job_id)


def test_a_payload_accepted_under_a_larger_limit_is_still_run(spool: Spool) -> None:
    job = spool.submit("t", "x" * 5000)
    path = Path(spool.root) / "spool.json"
    path.write_text(path.read_text().replace('"payloadLimitBytes": 16777216', '"payloadLimitBytes": 1000'))
    smaller = Spool.open(spool.root)
    with pytest.raises(InvalidInput):
        smaller.submit("t", "x" * 5000)
    assert work_off(smaller).handled == 1
    assert smaller.get(job.job_id).status == "succeeded"


def test_a_volume_with_nothing_but_lost_and_found_may_become_a_spool(tmp_path: Path) -> None:
    (tmp_path / "volume" / "lost+found").mkdir(parents=True)
    Spool.init(tmp_path / "volume", durability="none").submit("t")


ODD_ARTIFACTS = [
    [{"resourceUri": ["x"]}], [{"label": "x"}, {"label": "x"}], "text", {"tableId": "nothing"}, [None, 7, []],
    [{"resourceUri": "res://v1/ws/ws-acme/result/table/other.1.x", "tableId": "../../../etc.1.passwd"}],
]  # fmt: skip


@pytest.mark.parametrize("artifacts", ODD_ARTIFACTS, ids=str)
def test_odd_artifacts_never_cost_the_job(spool: Spool, artifacts: Any) -> None:
    spool.submit("t")
    assert work_off(spool, lambda job: {"artifacts": artifacts}).handled == 1
    (done,) = spool.list()
    assert done.status == "succeeded"
    assert done.artifacts == (artifacts if isinstance(artifacts, list) else [artifacts])


def test_artifacts_described_on_the_way_stand_in_the_result(spool: Spool) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    described = [{"label": "elsewhere", "resourceUri": "s3://b/k"}, {"label": "no address"}]
    lease.progress(artifacts=described)
    assert lease.job.artifacts == described
    assert lease.complete(artifacts=[{"label": "last"}]).artifacts == [*described, {"label": "last"}]


def test_a_table_whose_file_is_gone_does_not_keep_a_job_from_ending(spool: Spool) -> None:
    job = spool.submit("t")

    def handler(active: ActiveJob) -> None:
        active.attach_table("rows", [{"a": 1}])
        for path in job_dir(spool, job).rglob("rows.*"):
            path.unlink()

    assert work_off(spool, handler).handled == 1
    assert spool.get(job.job_id).status == "succeeded"


def test_rows_that_a_killed_helper_did_not_count_are_not_in_the_sealed_table(spool: Spool) -> None:
    job = spool.submit("t")

    def handler(active: ActiveJob) -> None:
        active.attach_table("rows", [{"a": 1}])
        with (job_dir(spool, job) / "attempt-1/artifacts/tables/rows.jsonl").open("a") as file:
            file.write('{"a": 2}\n{"a')

    work_off(spool, handler)
    (table,) = spool.get(job.job_id).artifacts
    content = (job_dir(spool, job) / "artifacts/tables/rows.jsonl").read_bytes()
    assert content == b'{"a":1}\n'
    assert isinstance(table, dict)
    assert (table["rowCount"], table["sizeBytes"]) == (1, len(content))
    assert table["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", ["", '{\n  "jobId', None])
def test_a_claim_that_is_still_being_written_does_not_disturb_readers(spool: Spool, content: str | None) -> None:
    job = spool.submit("t")
    lease = spool.claim("t", "w", lease="1s")
    assert lease is not None
    claim = job_dir(spool, job) / "claim.1.json"
    claim.unlink() if content is None else claim.write_text(content)
    assert (spool.get(job.job_id).status, spool.get(job.job_id).worker_id) == ("leased", None)
    age_lease(spool, job, 60)
    assert spool.claim("t", "w") is None, "without a claim the spool's own lease duration counts"
    age_lease(spool, job, 130)
    assert spool.claim("t", "w") is not None


def test_those_who_claim_by_the_library_take_lost_leases_back_while_there_is_other_work(spool: Spool) -> None:
    lost = spool.submit("t", max_attempts=2)
    assert spool.claim("t", "w") is not None
    age_lease(spool, lost)
    for _ in range(3):
        spool.submit("t")
    other = Spool.open(spool.root)
    claimed = [lease.job_id for _ in range(3) if (lease := other.claim("t", "w2"))]
    assert lost.job_id in claimed


def test_a_file_that_changes_while_it_is_attached_is_refused_and_none_is_left(spool: Spool, tmp_path: Path) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    growing = tmp_path / "growing.log"
    growing.write_bytes(b"x" * 1000)

    def grow(operation: str, path: str) -> None:
        if operation == "write":
            with growing.open("ab") as file:
                file.write(b"more")

    files.hook = grow
    try:
        with pytest.raises(InvalidInput, match="changed while it was copied"):
            lease.dir.attach_file(str(growing))
    finally:
        files.hook = None
    assert os.listdir(lease.dir.artifacts) == []
    assert lease.dir.attach_file(str(growing))["sizeBytes"] == 1004


@pytest.mark.parametrize("kind", ["directory", "pipe", "device"])
def test_only_regular_files_are_attached(spool: Spool, tmp_path: Path, kind: str) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    source = {"directory": str(tmp_path), "pipe": str(tmp_path / "pipe"), "device": "/dev/zero"}[kind]
    if kind == "pipe":
        os.mkfifo(source)
    with pytest.raises(InvalidInput, match="not a regular file"):
        lease.dir.attach_file(source)


def test_files_of_one_name_are_all_kept(spool: Spool, tmp_path: Path) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    for n in range(3):
        (tmp_path / "report.tar.gz").write_text(str(n))
        lease.dir.attach_file(str(tmp_path / "report.tar.gz"))
    done = lease.complete()
    names = ["report.tar.gz", "report-2.tar.gz", "report-3.tar.gz"]
    assert [str(a["resourceUri"]).rpartition("1.")[2] for a in done.artifacts] == names  # type: ignore[index,call-overload]
    assert [(job_dir(spool, done) / "artifacts" / name).read_text() for name in names] == ["0", "1", "2"]


def test_a_worker_that_stops_leaves_the_record_of_its_namesake(spool: Spool) -> None:
    spool.submit("t")
    record = Path(spool.root, "workers/w.json")

    def namesake_comes(active: ActiveJob) -> None:
        until(record.exists)
        record.write_text(record.read_text().replace(f'"pid": {os.getpid()}', '"pid": 1'))

    handler = PythonHandler(namesake_comes, "f", spool.root)
    assert Worker(spool, handler, Settings("t", worker_id="w", once=True)).run().handled == 1
    assert '"pid": 1' in record.read_text()
