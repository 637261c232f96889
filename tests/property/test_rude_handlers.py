"""A handler may leave anything where its attempt lies: its job ends, and its worker goes on to the next."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob
from tests.property.laws import bounded
from tests.world import work_off


def _nothing(path: Path) -> None:
    pass


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "full").write_text("x")


def _link_out(path: Path) -> None:
    path.symlink_to("/etc")


def _bytes(path: Path) -> None:
    path.write_bytes(b"\0\xff" * 1000)


def _hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 << 30)


LEFT: dict[str, Callable[[Path], None]] = {
    "nothing": _nothing,
    "a directory": _directory,
    "a pipe": os.mkfifo,
    "a link out": _link_out,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "bytes": _bytes,
    "a hole": _hole,
}
PLACES = [
    "../result.1.json", "../claim.1.json", "progress.jsonl", "artifacts.jsonl", "artifacts", "artifacts/kv", "artifacts/tables", "artifacts/tables/.lock",
    "artifacts/tables/t.jsonl", "artifacts/tables/t.table.json", "handler.log", "work", "work/result.json", "work/worker-context.json",
]  # fmt: skip


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("place", PLACES)
def test_whatever_a_handler_leaves_its_job_ends_and_the_next_is_done(spool: Spool, place: str) -> None:
    def handle(job: ActiveJob) -> None:
        attempt = Path(job.dir).parent
        if job.payload["left"] is None:
            return
        job.attach_kv("k", 1)
        job.attach_table("t", [{"id": 1}])
        path = attempt / place
        _removed(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        LEFT[job.payload["left"]](path)

    ids = [spool.submit("t", {"left": left}, max_attempts=1).job_id for left in [*LEFT, None]]
    with bounded():
        work_off(spool, handle)
    ended = {job_id: spool.get(job_id).status for job_id in ids}
    assert set(ended.values()) == {"succeeded"}, dict(zip([*LEFT, None], ended.values(), strict=True))


def test_a_handler_that_removes_its_attempt_has_ended_all_the_same(spool: Spool) -> None:
    job = spool.submit("t", max_attempts=1)
    with bounded():
        work_off(spool, lambda job: shutil.rmtree(Path(job.dir).parent))
    assert spool.get(job.job_id).status == "succeeded"


def test_a_handler_that_puts_a_link_for_its_attempt_loses_the_attempt_and_nothing_else(
    spool: Spool, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()

    def handle(job: ActiveJob) -> None:
        attempt = Path(job.dir).parent
        attempt.rename(tmp_path / "outside/attempt")
        attempt.symlink_to(tmp_path / "outside/attempt")

    job = spool.submit("t", max_attempts=1)
    other = spool.submit("other")
    with bounded():
        work_off(spool, handle)
        work_off(spool, job_type="other")
    assert not (tmp_path / "outside/attempt/result.json").exists()
    assert spool.get(job.job_id).status == "leased"
    assert spool.get(other.job_id).status == "succeeded"
