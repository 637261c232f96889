"""Every write that reached a disk, as dm-log-writes has logged it in a guest kernel, replayed write by write.

The host's kernel may have no device mapper; the guest is User-Mode Linux, a process of this host.
"""

from __future__ import annotations

import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
MODULES = "/usr/lib/uml/modules"
BOUND = 300
"""After how many seconds a guest that hangs is ended."""

_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8
_MEGABYTES = {"ext4": 24, "xfs": 320}
_MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q"]}


def why_not() -> str:
    """Why no writes can be logged here; empty when they can."""
    for program in ("linux.uml", "dmsetup"):
        if shutil.which(program) is None:
            return f"needs {program}"
    if not os.path.isdir(MODULES):
        return f"needs {MODULES}"
    return f"{REPOSITORY} is hidden from the guest by its own /tmp" if str(REPOSITORY).startswith("/tmp/") else ""


_RUN = """set -e
modprobe dm-log-writes
dmsetup create logged --table "0 $(blockdev --getsz /dev/ubda) log-writes /dev/ubda /dev/ubdb"
dmsetup mknodes
mkdir -p /mnt/disk
mount /dev/mapper/logged /mnt/disk
dmsetup message logged 0 mark mounted
cd {repository}
{setarch} {python} -m tests.powercut.history /mnt/disk/spool /mnt/share/told logged
umount /mnt/disk
dmsetup remove logged
"""


def record(place: str, kind: str, old_kernel: bool) -> None:
    """Let the history happen on a fresh file system; ``place`` then has ``base``, ``log`` and ``told``. Raises OSError."""
    with open(f"{place}/disk", "wb") as file:
        file.truncate(_MEGABYTES[kind] << 20)
    subprocess.run([*_MAKE[kind], f"{place}/disk"], check=True, capture_output=True)
    shutil.copyfile(f"{place}/disk", f"{place}/base")
    with open(f"{place}/log", "wb") as file:
        file.truncate(256 << 20)
    setarch = f"setarch {os.uname().machine} --uname-2.6" if old_kernel else ""
    script = _RUN.format(repository=shlex.quote(str(REPOSITORY)), python=shlex.quote(sys.executable), setarch=setarch)
    Path(place, "run.sh").write_text(script)
    _boot(place)
    code = Path(place, "code")
    if not code.exists() or code.read_text().strip() != "0":
        said = Path(place, "out").read_text() if Path(place, "out").exists() else Path(place, "console").read_text()
        raise OSError(f"the guest failed: {said[-2000:]}")


def _boot(place: str) -> None:
    words = ["linux.uml", "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con=null"]
    words += [f"init={HERE}/guest.sh", "con0=null,fd:1", "ssl=null", f"uml_dir={place}/uml", "umid=guest"]
    words += [f"share={place}", f"ubd0={place}/disk", f"ubd1={place}/log"]
    with open(f"{place}/console", "wb") as console:
        guest = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
        )
        try:
            guest.wait(timeout=BOUND)
        finally:
            _end(guest)


def _end(guest: subprocess.Popen[bytes]) -> None:
    """End the guest and every process of it: they are in a session of their own."""
    try:
        os.killpg(guest.pid, 9)
    except ProcessLookupError:
        pass
    guest.wait()


@dataclass(frozen=True)
class Point:
    """A moment at which the power may have failed: the image is as the disk was; ``told`` lines had been said."""

    number: int
    kind: str
    told: int


def replay(log: str, image: str, marked: str) -> Iterator[Point]:
    """Write one logged write after the other into an image; gives each moment from the mount on."""
    told, mounted = 0, False
    with open(log, "rb") as logged, open(image, "r+b", buffering=0) as disk:
        magic, _, count, sector_bytes = struct.unpack("<QQQI", logged.read(28))
        assert magic == _MAGIC, f"{log} is no log of writes"
        position = sector_bytes
        for number in range(count):
            logged.seek(position)
            sector, sectors, flags, length = struct.unpack("<QQQQ", logged.read(32))
            position += sector_bytes
            if flags & _MARK:
                mark = logged.read(length).decode()
                mounted = mounted or mark == "mounted"
                if mark.startswith(marked):
                    told = int(mark.rpartition("-")[2])
                    yield Point(number, "mark", told)
                continue
            if flags & _DISCARD or not sectors:
                continue
            logged.seek(position)
            disk.seek(sector * sector_bytes)
            disk.write(logged.read(sectors * sector_bytes))
            position += sectors * sector_bytes
            if mounted:
                yield Point(number, "flush" if flags & (_FLUSH | _FUA) else "write", told)
