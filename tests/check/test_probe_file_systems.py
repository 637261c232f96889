"""The probe on real file systems, good ones and bad ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from breyta_spool import Spool
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding
from breyta_spool.probing import probe
from tests.check.images import fill, image, mounted, needs_root, use_up_inodes

SECONDS = 0.05
"""How long each race takes here; what a mount is worth, other tests try."""


def probed(point: Path, durability: str = "durable") -> dict[str, Finding]:
    """What is found of a spool below a mount point, by code."""
    return found_in(Spool.init(point / "spool", durability=durability))


def found_in(spool: Spool) -> dict[str, Finding]:
    found = probe(spool, race_seconds=SECONDS)
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=[ERROR, WARNING, NOTE].index)
    return {finding.code: finding for finding in found}


def worse_than_a_note(found: dict[str, Finding]) -> dict[str, str]:
    return {code: finding.severity for code, finding in found.items() if finding.severity != NOTE}


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_journaled_disk_is_trusted(kind: str, tmp_path: Path, whole: bool) -> None:
    if kind != "ext4" and not whole:
        pytest.skip("only with --whole")
    with image(tmp_path, kind, "-q", size=512) as point:
        found = probed(point)
    assert worse_than_a_note(found) == {}
    assert {"rename-exclusive", "symlinks", "names", "locks-work", "fsync", "replace-atomic"} <= found.keys()


def test_an_ext4_without_a_journal_is_a_warning(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", "-O", "^has_journal", size=512) as point:
        assert worse_than_a_note(probed(point)) == {"no-journal": WARNING}


def test_a_mount_that_never_flushes_the_disk_is_a_warning(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", size=512, mount="barrier=0,data=writeback") as point:
        found = probed(point)
    assert worse_than_a_note(found) == {"no-barrier": WARNING}
    assert found["data-writeback"].severity == NOTE


def test_memory_is_an_error_for_what_must_survive_a_power_cut(tmp_path: Path) -> None:
    with mounted(tmp_path / "mnt", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as point:
        assert worse_than_a_note(probed(point)) == {"volatile": ERROR}


def test_a_container_layer_is_a_warning(tmp_path: Path, whole: bool) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    where = ",".join(f"{name}={tmp_path / directory}" for name, directory in OVERLAY)
    with mounted(tmp_path / "mnt", "-t", "overlay", "-o", where, "overlay") as point:
        assert worse_than_a_note(probed(point)) == {"overlay": WARNING}
    if not whole:
        return
    with mounted(tmp_path / "again", "-t", "overlay", "-o", f"{where},volatile", "overlay") as point:
        assert worse_than_a_note(found_in(Spool.open(point / "spool"))) == {
            "overlay": WARNING,
            "overlay-volatile": ERROR,
        }


OVERLAY = [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")]


def test_names_that_differ_only_in_case_are_told_apart_or_warned_of(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", "-O", "casefold", "-E", "encoding=utf8", size=512) as point:
        spool = Spool.init(point / "spool")
        subprocess.run(["chattr", "+F", f"{spool.root}/tmp"], check=True)
        assert worse_than_a_note(found_in(spool)) == {"case-folding": WARNING}


def test_a_stick_cannot_hold_a_spool(tmp_path: Path) -> None:
    with image(tmp_path, "vfat", size=512) as point:
        found = worse_than_a_note(probed(point))
    assert found["no-symlinks"] == ERROR
    assert {"no-hard-links", "case-folding", "characters-refused", "coarse-times", "foreign-format"} <= found.keys()


def test_times_in_whole_seconds_are_told_of(tmp_path: Path, whole: bool) -> None:
    if not whole:
        pytest.skip("only with --whole: it must wait for seconds to pass")
    # Inodes of 128 bytes, as ext3 had them, have no room for more.
    with image(tmp_path, "ext4", "-q", "-I", "128", size=512) as point:
        found = probed(point)
    assert worse_than_a_note(found) == {}
    assert "steps of 1 s" in found["coarse-times"].message


def test_a_mount_that_is_read_only_is_one_error(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", size=512) as point:
        spool = Spool.init(point / "spool")
        subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
        found = found_in(spool)
    assert found["read-only"].severity == ERROR
    assert "mount it read-write" in found["read-only"].remedy


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", "-m", "0", size=16) as point:
        spool = Spool.init(point / "spool")
        assert found_in(spool)["low-bytes"].severity == WARNING
        fill(point)
        found = found_in(spool)
        assert found["no-bytes"].severity == ERROR
        assert found["full"].severity == ERROR
        assert os.listdir(f"{spool.root}/tmp") == []


def test_a_disk_without_inodes_is_an_error(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", "-N", "1200", size=512) as point:
        spool = Spool.init(point / "spool")
        found = found_in(spool)
        assert found["low-inodes"].severity == WARNING
        use_up_inodes(point)
        found = found_in(spool)
        assert found["no-inodes"].severity == ERROR
        assert found["full"].severity == ERROR
        assert os.listdir(f"{spool.root}/tmp") == []


def test_what_lacks_room_half_way_is_told_and_cleared_away(tmp_path: Path) -> None:
    with image(tmp_path, "ext4", "-q", "-N", "1200", size=512) as point:
        spool = Spool.init(point / "spool")
        use_up_inodes(point)
        for number in range(20):
            (point / f"filling-{number}").unlink()
        found = found_in(spool)
        assert found["full"].severity == ERROR
        assert "directory-rename" in found, "what was tried before is told as well"
        assert os.listdir(f"{spool.root}/tmp") == []


def test_two_names_of_one_mount_say_that_caches_were_not_tried(tmp_path: Path) -> None:
    needs_root()
    spool = Spool.init(tmp_path / "spool")
    with mounted(tmp_path / "mnt", "--bind", spool.root) as point:
        found = probe(spool, str(point), race_seconds=SECONDS)
        assert {"same-cache", "seen", "heartbeats", "names-found"} <= {finding.code for finding in found}
        across = [finding for finding in found if "2 mounts" in finding.message]
        assert {finding.code for finding in across} >= {
            "rename-exclusive", "directory-rename-exclusive", "create-exclusive", "symlink-exclusive", "locks-work",
        }  # fmt: skip
        assert {finding.severity for finding in across} == {NOTE}
        assert os.listdir(f"{spool.root}/tmp") == []
