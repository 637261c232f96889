"""Links, pipes and devices that somebody has put inside the spool: nothing is read or written through them.

Watched by the interpreter's own reports of every path that is opened, listed or changed; and what lies outside is
compared before and after.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from breyta_spool import Damaged, Spool, files
from breyta_spool.logs import HandlerLog
from tests.property import laws, worlds
from tests.property.laws import bounded, refused
from tests.property.watch import strays

IN_A_JOB = [
    ".", "job.json", "payload.json", "STATUS", "cancel.json", "result.json", "artifacts", "attempt-1", "claim.1.json",
    "attempt-1/progress.jsonl", "attempt-1/artifacts.jsonl", "result.1.json", "attempt-1/handler.log", "attempt-1/artifacts",
    "attempt-1/artifacts/report.md", "attempt-1/artifacts/kv", "attempt-1/artifacts/kv/summary.json", "attempt-1/artifacts/tables",
    "attempt-1/artifacts/tables/.lock", "attempt-1/artifacts/tables/findings.jsonl", "attempt-1/artifacts/tables/findings.table.json",
    "attempt-2",
]  # fmt: skip
ELSEWHERE = [
    "BATCH", "BATCH/batch.json", "BATCH/cancel.json", "workers/worker-1.json", "tmp/work-x", "tmp/job-x", "idempotency/KEY",
    "expiring/LINK", "accounts/ACCOUNT", "accounts/ACCOUNT/account.1.json", "accounts/KEY", "accounts/KEY/key.json",
    "accounts/KEY/revoked.json", "locks/clock.lock", "locks/claim.work.lock", "lost+found/QUEUED", "queued/work/BUCKET/QUEUED", "queued/work/BUCKET",
    "leased/work/BUCKET", "finished/succeeded.work/BUCKET", "jobs/DAY", "jobs/DAY/MINUTE", "lost+found",
]  # fmt: skip
PLACES = [f"{job}/{name}" for job in ("ended", "leased", "queued") for name in IN_A_JOB] + ELSEWHERE
KINDS = ("a copy outside", "an empty directory outside", "a device", "a pipe", "a link to a pipe", "itself", "nothing")


def _path(world: worlds.Full, place: str) -> Path:
    whose, _, name = place.partition("/")
    if whose in ("ended", "leased", "queued") and name in IN_A_JOB:
        job = world.job(getattr(world, whose))
        return next(job.glob("status.*")) if name == "STATUS" else job if name == "." else job / name
    batch = world.job(f"job-{world.batch[6:]}-00001").parent
    if whose == "BATCH":
        return batch / name if name else batch
    bucket = batch.parent
    known = {"DAY": bucket.parent.name, "MINUTE": bucket.name}
    known |= {"ACCOUNT": world.account, "QUEUED": world.queued, "BUCKET": f"{bucket.parent.name}-{bucket.name}"}
    known["KEY"] = (
        world.key if whose == "accounts" else "/".join(next((world.root / "idempotency").glob("*/*")).parts[-2:])
    )
    known["LINK"] = "/".join(next((world.root / "expiring").glob("*/*/*")).parts[-3:])
    return world.root / "/".join(known.get(part, part) for part in place.split("/"))


def _plant(path: Path, kind: str, outside: Path) -> None:
    """Put something else in the place of a file or directory, which goes outside and can be read there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.exists():
        path.unlink(missing_ok=True)
        (outside / "was").write_text('{"secret": true}\n')
    else:
        shutil.move(path, outside / "was")
    if kind == "a pipe":
        os.mkfifo(path)
        return
    os.mkfifo(outside / "pipe")
    (outside / "empty").mkdir()
    targets = {
        "a copy outside": "was",
        "an empty directory outside": "empty",
        "a link to a pipe": "pipe",
        "nothing": "missing",
    }
    path.symlink_to({"a device": "/dev/zero", "itself": path.name}.get(kind) or outside / targets[kind])


def _everything(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for at, directories, names in os.walk(directory):
        for path in (Path(at, name) for name in (*directories, *names)):
            stat = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (stat.st_mode, stat.st_mtime_ns, data)
    return found


def _ask_everything(world: worlds.Full, outside: Path) -> list[str]:
    """Ask everything; gives what of it left the spool. The file of a caller's own that is attached, and exports, may."""
    wrong = []
    asked = refused(lambda: list(worlds.questions(world)))
    before = _everything(outside)
    for name, ask in asked if isinstance(asked, list) else []:
        if not laws.whole and name in ("await leased", "await batch"):
            continue
        with strays(world.root) as found, bounded():
            try:
                refused(ask)
            except Exception as error:
                error.add_note(f"asked: {name}")
                raise
        own = (f"{world.root.parent}/report.md", f"{world.root}-", f"{world.root.parent}/.spool-")
        wrong += [f"{name}: {stray}" for stray in found if not any(place in stray for place in own)]
    assert _everything(outside) == before
    return wrong


def _cases() -> Iterator[tuple[str, str]]:
    for number, place in enumerate(PLACES):
        if laws.whole:
            yield from ((place, kind) for kind in KINDS)
        else:
            yield place, KINDS[0] if "." not in Path(place).name else KINDS[number % len(KINDS)]


@pytest.mark.parametrize(("place", "kind"), [pytest.param(*case, id="-".join(case)) for case in _cases()])
def test_nothing_is_reached_through_a_planted_link_and_nothing_hangs(full: worlds.Full, place: str, kind: str) -> None:
    with worlds.scratch() as scratch:
        world = full.copied(scratch / "spool")
        outside = scratch / "outside"
        outside.mkdir()
        _plant(_path(world, place), kind, outside)
        assert _ask_everything(world, outside) == []


def test_the_watch_sees_what_goes_out_by_a_link(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    (place / "outside").mkdir()
    (world.root / "out").symlink_to(place / "outside")
    with strays(world.root) as found:
        (world.root / "out/a").write_text("x")
        os.rename(world.root / "out/a", world.root / "out/b")
        os.listdir(world.root / "out")
        os.listdir(world.root)
        os.unlink(world.root / "out/b")
    assert [event.split()[0] for event in found] == ["open", "os.rename", "os.rename", "os.listdir", "os.remove"]


# -- found ------------------------------------------------------------------------------------------


def test_a_job_that_is_a_link_to_itself_does_not_hide_the_others(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    loop = world.job(world.queued).with_name(world.queued[:-4] + "0000")
    loop.symlink_to(loop.name)
    spool = Spool.open(world.root)
    damaged: list[str] = []
    assert {world.queued, world.ended} <= {job.job_id for job in spool.list(limit=100, damaged=damaged)}
    assert damaged == [loop.name]


def test_a_link_for_a_progress_report_hides_neither_the_job_nor_the_others(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    reports = world.ended_dir / "attempt-1/progress.jsonl"
    reports.unlink()
    reports.symlink_to("/etc/passwd")
    spool = Spool.open(world.root)
    assert spool.get(world.ended).status == "succeeded"
    assert world.ended in {job.job_id for job in spool.list(limit=100)}


@pytest.mark.parametrize("how", ["mkfifo", "mkdir", "link"])
@pytest.mark.parametrize(
    "place_", ["artifacts.jsonl", "artifacts/tables/.lock", "artifacts/tables", "artifacts", "progress.jsonl"]
)
def test_whatever_a_handler_leaves_its_job_ends(full: worlds.Full, place: Path, place_: str, how: str) -> None:
    world = full.copied(place / "spool")
    left = world.leased_dir / "attempt-1" / place_
    shutil.rmtree(left) if left.is_dir() else left.unlink()
    {"mkfifo": os.mkfifo, "mkdir": os.mkdir, "link": lambda path: os.symlink("/etc", path)}[how](left)
    with bounded():
        job = Spool.open(world.root).lease(world.leased, world.token).complete(outputs={"n": 2})
    assert (job.status, job.outputs) == ("succeeded", {"n": 2})


def test_no_table_outside_is_cut_when_a_job_ends(full: worlds.Full, place: Path) -> None:
    """With a link for a directory, the rows of a table that had no description there were cut off: all of them."""
    world = full.copied(place / "spool")
    (place / "precious").mkdir()
    (place / "precious/findings.jsonl").write_text("precious\n")
    tables = world.leased_dir / "attempt-1/artifacts/tables"
    shutil.rmtree(tables)
    tables.symlink_to(place / "precious")
    Spool.open(world.root).lease(world.leased, world.token).complete()
    assert (place / "precious/findings.jsonl").read_text() == "precious\n"
    assert os.listdir(place / "precious") == ["findings.jsonl"]


def test_a_touch_goes_to_the_link_and_not_to_where_it_leads(place: Path) -> None:
    (place / "outside").write_text("")
    os.utime(place / "outside", (1, 1))
    (place / "status.queued.0").symlink_to(place / "outside")
    files.touch(str(place / "status.queued.0"))
    assert (place / "outside").stat().st_mtime == 1


def test_a_report_into_a_pipe_that_nobody_reads_is_refused(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    reports = world.leased_dir / "attempt-1/progress.jsonl"
    reports.unlink()
    os.mkfifo(reports)
    lease = Spool.open(world.root).lease(world.leased, world.token)
    with bounded(), pytest.raises(Damaged):
        lease.progress("x" * 500_000)


def test_the_log_of_a_handler_that_left_a_pipe_is_refused(full: worlds.Full, place: Path) -> None:
    world = full.copied(place / "spool")
    log = world.ended_dir / "attempt-1/handler.log"
    log.unlink()
    os.mkfifo(log)
    with bounded(), pytest.raises(Damaged):
        list(HandlerLog(Spool.open(world.root), world.ended, None).new())


# -- races ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["attempt-1", "attempt-1/artifacts", "attempt-1/artifacts/kv", "attempt-1/artifacts/tables"]
)
def test_a_link_put_there_between_two_calls_is_seen_by_the_second(full: worlds.Full, place: Path, name: str) -> None:
    world = full.copied(place / "spool")
    outside = place / "outside"
    held = Spool.open(world.root).lease(world.leased, world.token)
    held.dir.attach_kv("first", 1)
    shutil.move(world.leased_dir / name, outside)
    (world.leased_dir / name).symlink_to(outside)
    before = _everything(outside)
    for write in (
        lambda: held.progress("half"),
        lambda: held.heartbeat("1h"),
        lambda: held.dir.attach_kv("second", 2),
        lambda: held.dir.attach_file(__file__),
        lambda: held.dir.attach_table("findings", [{"id": 7}]),
        lambda: held.complete(),
    ):
        refused(write)
    assert _everything(outside) == before
