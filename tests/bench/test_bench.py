"""The benchmark runs and both sides do the same work. How fast they are is not tested: machines differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import QUICK, main

ROWS = [
    "submit",
    "claim and finish",
    "durable submit, one at a time",
    "round trip, median",
    "round trip, 99th percentile",
    "helper command, against import click",
    "upsert, against copying the bytes",
    "upsert, against copying row by row",
    "system calls of submit",
    "system calls of claim and finish",
]


def test_every_row_is_there_and_both_sides_did_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--dir", str(tmp_path), "--json", str(tmp_path / "bench.json")]) == 0
    table = capsys.readouterr().out
    assert [name for name in ROWS if name not in table] == []
    rows = json.loads(Path(tmp_path / "bench.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ROWS
    for row, jobs in zip(rows[:3], (QUICK.jobs, QUICK.jobs, QUICK.durable_jobs), strict=True):
        assert row["jobs"] == [jobs, jobs]
        assert row["differs"] == []
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.json"]
