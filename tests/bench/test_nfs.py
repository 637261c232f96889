"""The benchmark between hosts runs, and every job of every side is done. How fast they are is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.nfs import ALONE, SIDES, SUBMIT, TOGETHER, main
from tests.hosts import lab


def test_every_side_is_measured_and_its_requests_are_told(whole: bool, tmp_path: Path) -> None:
    if not whole:
        pytest.skip("only with --whole: it takes most of a minute")
    if why := lab.lacking():
        pytest.skip(why)
    assert main(["--slices", "1", "--jobs", "30", "--json", str(tmp_path / "nfs.json")]) == 0
    operations = json.loads((tmp_path / "nfs.json").read_text())["operations"]
    for what in (SUBMIT, ALONE, TOGETHER):
        for side in SIDES:
            assert operations[what][side]["RENAME"][0] >= 1, f"{what}, {side}: no job was without a rename"
