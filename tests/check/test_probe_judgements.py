"""What the probe concludes from what it was told: mounts, tables of exports, times, races."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from breyta_spool import contests, crossing, exports, mounts, room
from breyta_spool.contests import Race
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding
from breyta_spool.mounts import Mount
from breyta_spool.rivals import Rival

LINE = "36 35 0:40 / /mnt/s rw,relatime shared:1 - nfs4 192.0.2.1:/srv rw,vers=4.2,hard,proto=tcp,local_lock=none"


def severities(found: list[Finding]) -> dict[str, str]:
    return {finding.code: finding.severity for finding in found if finding.code != "mount"}


def judged(kind: str, options: str = "rw", durable: bool = True, journal: bool | None = None) -> dict[str, str]:
    mount = mounts.parse(f"36 35 0:40 / /mnt/s rw - {kind} source {options}")._replace(journal=journal)
    return severities(mounts.judge(mount, durable))


# -- mounts -----------------------------------------------------------------------------------------


def test_a_line_of_the_table_of_mounts_is_taken_apart() -> None:
    mount = mounts.parse(LINE)
    assert (mount.point, mount.type, mount.source) == ("/mnt/s", "nfs4", "192.0.2.1:/srv")
    assert mount.options["vers"] == "4.2"
    assert mount.options["hard"] == ""


def test_moosefs_is_known_by_its_source() -> None:
    assert mounts.parse(r"36 35 0:40 / /mnt/m rw - fuse mfs\043192.0.2.10:9421 rw").type == "fuse.mfs"


def test_the_mount_of_a_directory_is_the_one_the_kernel_says(tmp_path: Path) -> None:
    mount = mounts.mount_of(str(tmp_path))
    assert mount is not None
    point = tmp_path
    while not os.path.ismount(point):
        point = point.parent
    assert mount.point == str(point)
    assert mounts.mount_of("/proc").type == "proc"  # type: ignore[union-attr]
    assert mounts.mount_of(str(tmp_path / "missing")) is None


@pytest.mark.parametrize("vers", ["4.2", "4.1", "4.0"])
def test_nfs_4_as_it_is_by_default_is_nothing_to_warn_of(vers: str) -> None:
    options = f"rw,vers={vers},rsize=1048576,namlen=255,hard,proto=tcp,timeo=600,sec=sys,local_lock=none,addr=192.0.2.1"
    assert judged("nfs4", options) == {}


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("ext4", "rw", {}),
        ("xfs", "rw,attr2,inode64", {}),
        ("btrfs", "rw,ssd", {}),
        ("fuse.mfs", "rw", {}),
        ("fuse", "rw", {"type-not-known": NOTE}),
        ("fuse.glusterfs", "rw", {}),
        ("ext2", "rw", {"no-journal": WARNING}),
        ("ext4", "rw,noload", {"no-journal": WARNING}),
        ("ext4", "rw,barrier=0", {"no-barrier": WARNING}),
        ("xfs", "rw,nobarrier", {"no-barrier": WARNING}),
        ("ext4", "rw,data=writeback", {"data-writeback": NOTE}),
        ("tmpfs", "rw", {"volatile": ERROR}),
        ("ramfs", "rw", {"volatile": ERROR}),
        ("overlay", "rw,lowerdir=/l", {"overlay": WARNING}),
        ("overlay", "rw,volatile", {"overlay": WARNING, "overlay-volatile": ERROR}),
        ("overlay", "rw,fsync=volatile", {"overlay": WARNING, "overlay-volatile": ERROR}),
        ("fuse.sshfs", "rw", {"sshfs": ERROR}),
        ("fuse.s3fs", "rw", {"object-store": ERROR}),
        ("9p", "rw", {"shared-folder": WARNING}),
        ("drvfs", "rw", {"shared-folder": WARNING}),
        ("vfat", "rw", {"foreign-format": WARNING}),
        ("cifs", "rw", {"smb": WARNING}),
        ("ecryptfs", "rw", {"ecryptfs": WARNING}),
        ("newfs", "rw", {"type-not-known": NOTE}),
        ("nfs", "rw,vers=2,hard", {"nfs-2": ERROR}),
        ("nfs4", "rw,vers=4.2,soft", {"nfs-soft": WARNING}),
        ("nfs4", "rw,vers=4.2,softerr", {"nfs-soft": WARNING}),
        ("nfs4", "rw,vers=4.2,hard,nocto", {"nfs-nocto": WARNING}),
        ("nfs4", "rw,vers=4.2,hard,local_lock=all", {"nfs-local-locks": NOTE}),
        ("nfs4", "rw,vers=4.2,hard,noac", {"nfs-caches": NOTE}),
        ("nfs4", "rw,vers=4.2,hard,acdirmax=5,lookupcache=none", {"nfs-caches": NOTE}),
    ],
)
def test_a_mount_is_judged_by_its_type_and_options(kind: str, options: str, expected: dict[str, str]) -> None:
    assert judged(kind, options) == expected


def test_an_ext4_without_a_journal_is_known_by_the_kernel_not_by_its_name() -> None:
    assert judged("ext4", journal=True) == {}
    assert judged("ext4", journal=False) == {"no-journal": WARNING}


def test_a_scratch_spool_is_not_warned_of_power_cuts() -> None:
    for kind, options in (("tmpfs", "rw"), ("ext2", "rw"), ("ext4", "rw,barrier=0")):
        assert set(judged(kind, options, durable=False).values()) == {NOTE}


def test_what_is_found_worse_than_a_note_always_has_a_remedy() -> None:
    for kind in ("tmpfs", "ext2", "overlay", "fuse.sshfs", "fuse.s3fs", "9p", "vfat", "cifs", "ecryptfs", "nfs"):
        for finding in mounts.judge(Mount("/m", kind, "s", {"soft": "", "nocto": "", "vers": "2"}), True):
            assert finding.remedy or finding.severity == NOTE, finding


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LINE, True),
        (LINE.replace("vers=4.2", "vers=4.1"), False),  # another version is another client
        (LINE.replace("192.0.2.1:/srv", "192.0.2.9:/srv"), False),
        (LINE.replace("192.0.2.1:/srv", "192.0.2.1:/srv/spool"), True),
        (LINE.replace("nfs4", "nfs").replace("vers=4.2", "vers=3"), False),  # NFS 3 lets nobody keep anything
    ],
)
def test_two_mounts_of_one_host_can_be_one_client(line: str, expected: bool) -> None:
    assert crossing.one_client(mounts.parse(LINE), mounts.parse(line)) is expected
    assert crossing.one_client(mounts.parse(LINE), None) is False


# -- exports ----------------------------------------------------------------------------------------

TABLE = """\
/srv/other\t*(rw,async,no_subtree_check)
/srv/spool\t192.0.2.0/24(rw,sync,wdelay) host(ro,async)
/srv/with\\040space\t*(rw,async)
"""


@pytest.mark.parametrize(
    ("table", "directory", "expected"),
    [
        (TABLE, "/srv/spool", {"export-sync": NOTE}),
        (TABLE, "/srv/spool/below", {"export-sync": NOTE}),
        (TABLE, "/srv/other/spool", {"export-async": ERROR}),
        (TABLE, "/srv/with space", {"export-async": ERROR}),
        (TABLE, "/srv/others", {}),
        ("/ *(rw,async)\n/srv *(rw,sync)", "/srv/spool", {"export-sync": NOTE}),
        ("# /srv *(rw,async)", "/srv", {}),
        ("/srv \\\n  a(rw) \\\n  b(rw,async)", "/srv", {"export-async": ERROR}),
        ('"/srv/a b" *(rw,async)', "/srv/a b", {"export-async": ERROR}),
        ("/srv", "/srv", {}),
    ],
)
def test_a_server_knows_how_it_exports_the_spool(
    table: str, directory: str, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "etab").write_text(table)
    tables = (str(tmp_path / "missing"), str(tmp_path / "etab"))
    assert severities(list(exports.by_table(directory, True, tables))) == expected
    assert ERROR not in severities(list(exports.by_table(directory, False, tables))).values()


@pytest.mark.parametrize(
    ("asked", "touched", "expected"),
    [
        # Measured: Linux 6.1 as server, its disk in memory (sync 3 is the fastest there was), and a slower network.
        (0.12, 0.23, "export-seems-sync"),
        (0.14, 0.43, "export-seems-sync"),
        (0.12, 0.14, "export-seems-async"),
        (0.25, 0.26, "export-seems-async"),
        (10.0, 10.8, "export-seems-sync"),
        (0.20, 0.01, "export-not-known"),
    ],
)
def test_a_client_guesses_by_how_long_a_touch_takes(asked: float, touched: float, expected: str) -> None:
    found = exports.guessed(asked, touched, "/mnt/s", durable=True)
    assert found.code == expected
    assert f"{touched:.2f} ms" in found.message
    assert found.severity == (WARNING if expected == "export-seems-async" else NOTE)
    assert "a guess" in found.message or found.severity == NOTE
    assert exports.guessed(asked, touched, "/mnt/s", durable=False).severity == NOTE


# -- locks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one_host", "expected"), [(True, ("locks-do-not-exclude", WARNING)), (False, ("locks-not-shared", NOTE))]
)
def test_locks_that_do_not_exclude_matter_on_one_host_only(
    one_host: bool, expected: tuple[str, str], tmp_path: Path
) -> None:
    for side in "ab":
        (tmp_path / side).mkdir()
    for name in ("flock.lock", "fcntl.lock"):
        (tmp_path / "b" / name).touch()
    with Rival("a", str(tmp_path / "a")) as one, Rival("b", str(tmp_path / "b")) as other:
        (found,) = contests.locks(one, other, one_host=one_host)
    assert (found.code, found.severity) == expected
    assert "both hold it" in found.message


# -- races ------------------------------------------------------------------------------------------


def ended(kind: str, told: list[tuple[int, list[int], dict[str, int]]], there: dict[str, str]) -> Race:
    rivals = [_Named(side) for side in "abcd"[: len(told)]]
    return contests.judged(rivals, kind, told, there)


class _Named(Rival):
    """A rival that does nothing: what it did stands in the test."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.place = "/spool"


def test_one_winner_each_is_well() -> None:
    refused = {"ENOENT": 1}
    race = ended("rename", [(2, [0], refused), (2, [1], refused)], {"a.0": "a", "b.1": "b"})
    assert race == Race(2, 0, 0, 0, {}, True)


@pytest.mark.parametrize(
    ("won", "there", "doubles", "unwon", "untold"),
    [
        (([0], [0]), {"a.0": "a"}, 1, 0, 0),  # both believe it
        (([0], []), {"a.0": "a", "b.0": "b"}, 1, 0, 0),  # both have it
        (([0], []), {"b.0": "b"}, 1, 0, 1),  # the wrong one believes it
        (([], []), {}, 0, 1, 0),  # it is gone
        (([], []), {"a.0": "a"}, 0, 0, 1),  # the winner was not told
    ],
)
def test_other_than_one_winner_is_seen(
    won: tuple[list[int], list[int]], there: dict[str, str], doubles: int, unwon: int, untold: int
) -> None:
    race = ended("rename", [(1, won[0], {}), (1, won[1], {})], there)
    assert (race.doubles, race.unwon, race.untold) == (doubles, unwon, untold)
    (found,) = contests.said("rename", race, "2 processes", "/spool")
    expected = ("rename-not-exclusive", ERROR) if doubles or unwon else ("rename-exclusive", NOTE)
    assert (found.code, found.severity) == expected


def test_losers_must_learn_it_by_the_right_error() -> None:
    race = ended("create", [(1, [0], {}), (1, [], {"EIO": 1})], {"0": "a"})
    (found,) = contests.said("create", race, "2 processes", "/spool")
    assert (found.code, found.severity) == ("create-odd-refusal", WARNING)
    assert "EIO once in place of EEXIST" in found.message


def test_rivals_that_do_not_share_a_directory_both_win(tmp_path: Path) -> None:
    """What a file system without exclusive names looks like: both sides make the name, and each finds its own."""
    for side in "ab":
        (tmp_path / side).mkdir()
    with Rival("a", str(tmp_path / "a")) as one, Rival("b", str(tmp_path / "b")) as other:
        other.ask("prepare", "create", 10, 0.1)
        (found,) = contests.races([one, other], ["create"], 0.1)
    assert (found.code, found.severity) == ("create-not-exclusive", ERROR)
    assert "more than one winner" in found.message


def test_lines_written_over_each_other_are_missed(tmp_path: Path) -> None:
    for side in "ab":
        (tmp_path / side).mkdir()
    with Rival("a", str(tmp_path / "a")) as one, Rival("b", str(tmp_path / "b")) as other:
        (found,) = contests.appends([one, other])
    assert (found.code, found.severity) == ("append-overwrites", WARNING)


# -- room -------------------------------------------------------------------------------------------


def statvfs(free_bytes: int, free_inodes: int, inodes: int = 1 << 20) -> os.statvfs_result:
    return os.statvfs_result((4096, 1, 1 << 30, free_bytes, free_bytes, inodes, free_inodes, free_inodes, 0, 255, 0))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (statvfs(1 << 40, 1 << 20), {"room": NOTE}),
        (statvfs(1 << 40, 0, 0), {"room": NOTE}),  # btrfs counts none
        (statvfs(0, 1 << 20), {"no-bytes": ERROR}),
        (statvfs(1 << 40, 0), {"no-inodes": ERROR}),
        (statvfs(10 << 20, 1 << 20), {"low-bytes": WARNING}),
        (statvfs(1 << 40, 8_000), {"low-inodes": WARNING}),
        (statvfs(0, 0), {"no-bytes": ERROR, "no-inodes": ERROR}),
    ],
)
def test_room_is_counted_in_jobs(told: os.statvfs_result, expected: dict[str, str]) -> None:
    assert severities(list(room.judged(told, "/spool"))) == expected
