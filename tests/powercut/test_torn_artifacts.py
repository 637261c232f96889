"""Whoever reads an artifact that a power cut has torn is told so, and never gets a half for the whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from breyta_spool import Damaged, SpoolError
from tests.crash import worlds
from tests.crash.worlds import World


def _with_artifacts(place: Path) -> World:
    world = worlds.leased(place / "spool")
    (place / "report.txt").write_text("a report\n")
    world.lease.dir.attach_file(str(place / "report.txt"))
    world.lease.dir.attach_kv("summary", {"n": 1})
    world.lease.dir.attach_table("findings", [{"n": 1}])
    world.lease.complete()
    return world


def _artifacts(world: World) -> Path:
    return Path(world.spool.tree.job(world.job_id), "attempt-1/artifacts")


def _bytes(world: World, name: str) -> bytes:
    (uri,) = [a["resourceUri"] for a in world.spool.get(world.job_id).artifacts if a["resourceUri"].endswith(name)]
    with world.spool.resources.open(uri) as pieces:
        return b"".join(pieces)


TORN = ["report.txt", "kv/summary.json", "tables/findings.jsonl", "tables/findings.table.json"]


@pytest.mark.parametrize("name", TORN)
@pytest.mark.parametrize("part", [0, 0.5], ids=["empty", "half"])
def test_an_artifact_that_is_cut_off_is_damaged(tmp_path: Path, name: str, part: float) -> None:
    world = _with_artifacts(tmp_path)
    path = _artifacts(world) / name
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(SpoolError):
        _bytes(world, path.name.partition(".")[0] if "/" in name else name)


def test_a_file_with_the_right_size_and_other_bytes_is_damaged(tmp_path: Path) -> None:
    """Some file systems write the size first."""
    world = _with_artifacts(tmp_path)
    (_artifacts(world) / "report.txt").write_bytes(b"\0" * 9)
    with pytest.raises(Damaged, match="its sha256 differs"):
        _bytes(world, "report.txt")


def test_a_part_of_a_file_that_is_cut_off_is_damaged_too(tmp_path: Path) -> None:
    world = _with_artifacts(tmp_path)
    os.truncate(_artifacts(world) / "report.txt", 4)
    (uri,) = [a["resourceUri"] for a in world.spool.get(world.job_id).artifacts if a["resourceUri"].endswith("txt")]
    with pytest.raises(Damaged, match="4 bytes, and 9 were attached"):
        world.spool.resources.read(uri, offset=1, limit=2)


def test_a_file_is_checked_by_the_result_when_the_list_of_its_attempt_is_torn(tmp_path: Path) -> None:
    world = _with_artifacts(tmp_path)
    assert _bytes(world, "report.txt") == b"a report\n"
    os.truncate(_artifacts(world).parent / "artifacts.jsonl", 0)
    assert _bytes(world, "report.txt") == b"a report\n"
    os.truncate(_artifacts(world) / "report.txt", 0)
    with pytest.raises(Damaged, match="0 bytes, and 9 were attached"):
        _bytes(world, "report.txt")
