"""The benchmark runs and its sides do the same work. How fast they are is not tested: machines differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breyta_spool import Spool
from breyta_spool.checkup import check
from tests.bench import crew, document, mould, product
from tests.bench.__main__ import KINDS, main
from tests.bench.report import BARE, PRODUCT, Goal, Row, paired, table
from tests.bench.servers import Servers
from tests.bench.setting import QUICK
from tests.bench.turns import Turns

ROWS = {
    "rounds": ["submit", "claim and finish"],
    "crowd": ["2 workers", "2 workers: jobs lost", "2 workers: jobs done twice"],
    "durable": [
        "durable submit, one at a time",
        "durable submit, 8 threads",
        "durable submit, 2 processes",
        "durable drain, 8 at once",
        "durable batch of 10",
    ],
    "roundtrip": ["round trip, median", "round trip, 99th percentile"],
    "waiting": [
        "claim and finish, 50 waiting",
        "claim and finish, 50 in one minute",
        "first claim, 50 waiting",
        "first claim, 50 in one minute",
    ],
    "programs": ["a program for each job, 2 at once"],
    "startup": ["breyta jobs worker progress", "breyta jobs worker attach-kv", "breyta jobs worker finish"],
    "finished": [
        "breyta jobs show, 50 ended",
        "breyta jobs list, 50 ended",
        "breyta jobs list --status --type, 50 ended",
    ],
    "memory": ["peak memory of a worker, 20 jobs", "peak memory of await-batch, 20 jobs"],
    "idle": [
        "idle worker, processor time",
        "idle worker, system calls",
    ],
    "upsert": ["upsert of 100 rows into 1,000"],
    "calls": ["system calls of submit", "system calls of claim and finish"],
    "nfs": ["NFS between hosts"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_there_and_nothing_is_left_behind(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "bench.json"
    assert main(["--quick", "--only", kind, "--dir", str(tmp_path), "--json", str(found)]) == 0
    told = capsys.readouterr().out
    rows = json.loads(found.read_text())["rows"]
    assert [row["name"] for row in rows] == ROWS[kind]
    assert [name for name in ROWS[kind] if name not in told] == []
    assert list(tmp_path.iterdir()) == [found]
    for row in rows:
        assert "skipped" in row or row["sides"]["product"]["rounds"]
        assert row.get("differs", []) == []  # else the bare calls are not those of the layout any more
    if kind == "rounds":
        assert [row["jobs"] for row in rows] == [[QUICK.jobs * QUICK.slices * QUICK.rounds] * 2] * 2
    if kind == "crowd":
        assert [row["sides"]["product"]["number"] for row in rows[1:]] == [0, 0]


@pytest.mark.parametrize("status", ["queued", "succeeded"])
def test_jobs_from_the_mould_are_as_the_product_makes_them(status: str, tmp_path: Path) -> None:
    sample = str(tmp_path / "sample")
    if status == "queued":
        mould.queued_sample(sample)
    else:
        product.make_sample(sample)
    spool = mould.filled(str(tmp_path / "spool"), sample, 30, 10)
    assert {name: 30 * count for name, count in product.shape(sample).items()} == product.shape(spool.root)
    jobs = spool.list(limit=100)
    assert [job.status for job in jobs] == [status] * 30
    assert len({job.created_at[:16] for job in jobs}) == 3
    assert spool.get(jobs[0].job_id).payload == product.PAYLOAD
    assert check(spool, contents=True).healthy
    if status == "queued":
        product.drain(spool, 30)
        assert len(spool.list(status="succeeded", limit=100)) == 30


def test_who_makes_jobs_together_makes_each_once(tmp_path: Path) -> None:
    sample = mould.queued_sample(str(tmp_path / "sample"))
    root = str(tmp_path / "spool")
    Spool.init(root, durability="none")
    made = crew.run(2, "tests.bench.mould:cast_share", root, sample, 250, 100, 1_790_000_000_000)
    assert sum(made) == 250
    assert len(Spool.open(root).list(limit=1000)) == 250


def test_a_peer_that_fails_is_told_of_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fails() -> float:
        raise OSError("it is broken")

    turns = Turns(str(tmp_path), ["peer"])
    for _ in range(3):
        turns.go({PRODUCT: lambda: 9.0, "peer": fails})
    row = Row("work", "jobs/s", turns.numbers, [Goal("peer", least=2)], missing=turns.missing)
    assert turns.numbers == {PRODUCT: [9.0] * 3}
    assert "not measured: OSError: it is broken" in table([row])
    with pytest.raises(OSError, match="broken"):
        Turns(str(tmp_path)).go({PRODUCT: fails})


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="NoSuchSpool"):
        crew.run(2, "tests.bench.memory:drain", "/nowhere", 1)


def test_without_redis_its_peers_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="redis-server is not installed"):
        Servers(str(tmp_path)).port("redis")


def test_a_ratio_is_the_median_of_the_rounds_and_judged_by_its_goal() -> None:
    row = paired("work", "jobs/s", [(8, 10), (9, 10), (100, 1)], least=0.9)
    row.goals += [Goal(BARE, most=0.8), Goal("", most=18)]
    least, most, alone = row.comparisons()
    assert (least.ratio, least.met, least.times) == (0.9, True, 1)
    assert (most.met, most.times) == (False, 0.8 / 0.9)
    assert (alone.product, alone.met, alone.times) == (9, True, 2)


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n"
    assert document.replaced(text, "new") == text.replace("old", "new")
    for wrong in ("no markers", f"{document.END}{document.BEGIN}", text + text):
        with pytest.raises(ValueError, match="must have"):
            document.replaced(wrong, "new")
