"""What a client of a file server has kept is not believed. The real thing is tried between hosts (tests/hosts)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from breyta_spool import Spool, freshness, looking
from breyta_spool.freshness import Mounts
from tests.world import work_off

LOCAL = "22 27 0:21 / /proc rw - proc proc rw\n62 27 0:54 / /mnt/odd rw - ext4 nfs rw\n"


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Mounts]:
    """Let the place of the tests be on a file system of another type, by the table of mounts."""

    def as_if(kind: str) -> Mounts:
        device = tmp_path.stat().st_dev
        at = f"{os.major(device)}:{os.minor(device)}"
        table = tmp_path / f"mountinfo-{kind}"
        table.write_text(f"{LOCAL}60 27 {at} / /mnt/it rw,relatime shared:5 - {kind} 192.0.2.1:/srv rw,hard\n")
        monkeypatch.setattr(freshness, "HERE", Mounts(str(table)))
        return freshness.HERE

    return as_if


@pytest.mark.parametrize(
    ("kind", "hides", "keeps"),
    [
        ("nfs", True, True),
        ("nfs4", True, False),
        ("fuse.mfs", True, False),
        ("cifs", True, False),
        ("xfs", False, False),
    ],
)
def test_the_table_of_mounts_tells_what_may_not_be_believed(
    tmp_path: Path, mounted: Callable[[str], Mounts], kind: str, hides: bool, keeps: bool
) -> None:
    mounts = mounted(kind)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert (mounts.may_hide(), mounts.keeps_listings(fd)) == (hides, keeps)
    finally:
        os.close(fd)


def test_without_a_table_nothing_is_believed_missing(tmp_path: Path) -> None:
    assert Mounts(str(tmp_path / "missing")).may_hide()


def test_a_name_that_was_hidden_is_found_by_a_listing(tmp_path: Path, mounted: Callable[[str], Mounts]) -> None:
    mounted("nfs4")
    (tmp_path / "job").mkdir()
    path, asked = str(tmp_path / "job" / "file"), []
    Path(path).write_bytes(b"there")

    def hidden(name: str) -> bytes:
        asked.append(name)
        if len(asked) == 1:
            raise FileNotFoundError(2, "a client believes so", name)
        return Path(name).read_bytes()

    assert looking._look(hidden, path) == b"there"
    with pytest.raises(FileNotFoundError):
        looking.read(str(tmp_path / "job" / "not there"), 10)
    assert looking.names_if_any(str(tmp_path / "neither" / "this")) == []


def test_a_spool_works_the_same_where_kept_listings_are_thrown_away(
    spool: Spool, tmp_path: Path, mounted: Callable[[str], Mounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    forget = os.posix_fadvise

    def telling(fd: int, *what: int) -> None:
        told.append(os.readlink(f"/proc/self/fd/{fd}"))
        forget(fd, *what)

    monkeypatch.setattr(os, "posix_fadvise", telling)
    mounted("nfs")
    before = len(os.listdir("/proc/self/fd"))
    jobs = [spool.submit("t", {"n": number}).job_id for number in range(3)]
    assert work_off(spool).handled == 3
    assert {job.job_id for job in spool.list("t", "succeeded")} == set(jobs)
    assert len(os.listdir("/proc/self/fd")) == before
    assert {spool.tree.job(job_id) for job_id in jobs} <= set(told)
    with pytest.raises(NotADirectoryError):
        looking.names(f"{spool.root}/spool.json")
