"""The probe of the file system below a spool, on whatever the tests run on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from breyta_spool import InvalidInput, Spool, files, room
from breyta_spool.findings import ERROR, NOTE, WARNING
from breyta_spool.probing import probe
from tests.world import everything_in, until

SECONDS = 0.05


def codes(spool: Spool, other: str | None = None, severity: str | None = None) -> set[str]:
    return {f.code for f in probe(spool, other, race_seconds=SECONDS) if severity in (None, f.severity)}


def test_a_probe_finds_no_error_here_and_leaves_the_spool_as_it_was(spool: Spool) -> None:
    spool.submit("t", {"n": 1})
    before, told, done = everything_in(spool.root), [], threading.Event()
    thread = threading.Thread(target=done.wait, args=(60,))  # as a spinner has one
    thread.start()
    try:
        found = probe(spool, told=told.append)
    finally:
        done.set()
        thread.join()
    assert [finding for finding in found if finding.severity == ERROR] == []
    assert everything_in(spool.root) == before
    assert {"races", "links", "the clock"} <= set(told)
    races = next(finding for finding in found if finding.code == "rename-exclusive")
    assert "races of 4 processes, 1 winner each" in races.message
    assert {finding.path for finding in found if finding.code != "mount"} >= {spool.root}
    assert all(finding.remedy for finding in found if finding.severity != NOTE)


def test_nothing_is_left_when_the_probe_is_interrupted(spool: Spool) -> None:
    def told(what: str) -> None:
        if what == "races":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(spool, told=told)
    assert os.listdir(f"{spool.root}/tmp") == []


def test_the_rivals_of_a_probe_that_is_killed_end_too(spool: Spool) -> None:
    program = "import sys; from breyta_spool import Spool; from breyta_spool.probing import probe; probe(Spool.open(sys.argv[1]), told=lambda w: print(w, flush=True), race_seconds=20)"
    process = subprocess.Popen([sys.executable, "-c", program, spool.root], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "races":
            pass
        children = until(lambda: _children(process.pid))
    finally:
        process.kill()
        process.communicate()
    until(lambda: not any(os.path.exists(f"/proc/{child}/fd/0") for child in children), seconds=60)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_another_spool_is_no_other_mount(spool: Spool, tmp_path: Path) -> None:
    another = Spool.init(tmp_path / "another", durability="none")
    with pytest.raises(InvalidInput, match="is another spool: spool-") as refused:
        probe(spool, another.root)
    assert another.settings.spool_id in refused.value.message


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_directory_that_is_no_spool_is_no_other_mount(spool: Spool, tmp_path: Path, what: str) -> None:
    if what == "empty":
        (tmp_path / what).mkdir()
    with pytest.raises(InvalidInput, match="there is no spool at"):
        probe(spool, str(tmp_path / what))
    assert os.listdir(f"{spool.root}/tmp") == []


def test_the_same_directory_as_other_mount_is_a_warning(spool: Spool) -> None:
    assert "same-mount" in codes(spool, spool.root, WARNING)


def test_a_copy_that_shows_nothing_of_the_spool_is_an_error(spool: Spool, tmp_path: Path) -> None:
    # The same spool.json, but not the same directory: what a restored backup is, or a share that is out of sync.
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", spool.root, copy], check=True)
    assert codes(spool, str(copy), ERROR) == {"listing-late"}


def test_a_user_who_may_not_write_is_told() -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    program = (
        "import os, sys; from breyta_spool import Spool; from breyta_spool.probing import probe\n"
        "spool = Spool.open(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "print(*{f.code for f in probe(spool) if f.severity == 'error'})"
    )
    with tempfile.TemporaryDirectory() as open_to_all:  # tmp_path is closed to other users
        os.chmod(open_to_all, 0o755)
        spool = Spool.init(f"{open_to_all}/spool", durability="none")
        done = subprocess.run([sys.executable, "-c", program, spool.root], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "not-writable"


def test_a_group_is_told_of_directories_that_are_not_its_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving away a directory needs root")
    spool = Spool.init(tmp_path / "spool", durability="none", group="daemon")

    def told(name: str, group: str = "daemon") -> set[str]:
        place = spool.tree.staged(name)
        files.make_dir(place)
        return {finding.code for finding in room.sharing(spool.root, place, group)}

    old = os.umask(0o007)
    try:
        assert told("well") == {"group"}
        assert told("unknown", "no-such-group") == {"unknown-group"}
        os.chmod(f"{spool.root}/queued", 0o755)
        assert told("closed") == {"group-not-shared"}
        os.chmod(f"{spool.root}/queued", 0o2770)
        os.umask(0o022)
        assert told("umask") == {"group", "group-not-inherited"}
    finally:
        os.umask(old)


def test_a_failure_half_way_is_one_finding_and_the_rest_is_tried(spool: Spool) -> None:
    def broken(operation: str, path: str) -> None:
        if operation == "symlink":
            raise PermissionError(1, "Operation not permitted", path)
        if operation == "rename" and path.endswith("d4"):
            raise OSError(5, "Input/output error", path)

    files.hook = broken
    try:
        found = codes(spool)
    finally:
        files.hook = None
    assert {"no-symlinks", "directory-rename-breaks-open-files", "rename-exclusive", "names"} <= found
