"""MooseFS, a distributed file system by way of FUSE: its master, a chunk server, and two mounts as if of two hosts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.hosts.host import Host, worded
from tests.hosts.namespaces import Namespaces, end_group
from tests.hosts.namespaces import lacking as lacking_for
from tests.hosts.program import Program

PACKAGES = "moosefs-master moosefs-chunkserver moosefs-client iproute2 e2fsprogs"
PROGRAMS = ("mfsmaster", "mfschunkserver", "mfsmount", "ip", "mkfs.ext4")
ADDRESS = "192.0.2.10"
DISK_BYTES = 3 << 30
FOR_ALL = (signal.SIGKILL, signal.SIGCONT)
"""Signals that must reach what stands between us and a program, too: it stops itself when the program is stopped."""


def lacking() -> str:
    """Why it cannot be run here, in words; empty when it can."""
    if not os.path.exists("/dev/fuse"):
        return "no FUSE here: /dev/fuse is missing"
    return lacking_for(PROGRAMS, PACKAGES)


class Mount(Host):
    """One mount of it, and the processes that use it."""

    def __init__(self, spaces: Namespaces, name: str, share: str) -> None:
        super().__init__(name, share)
        self._spaces = spaces
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, **environment: str) -> Program:
        """Start a program."""
        process = self._spaces.start(
            argv,
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        program = Program(f"{self.name}: {worded(argv)}", lambda number: self._signal(process, number))
        threading.Thread(target=self._follow, args=(process, program), daemon=True).start()
        return program

    def _signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        if number in FOR_ALL:
            os.killpg(process.pid, number)
        else:
            os.kill(self._spaces.inner(process), number)

    def _follow(self, process: subprocess.Popen[bytes], program: Program) -> None:
        readers = [
            threading.Thread(target=_read, args=(name, pipe, program), daemon=True)
            for name, pipe in (("out", process.stdout), ("err", process.stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        program.heard({"code": process.wait()})


def _read(name: str, pipe: IO[bytes], program: Program) -> None:
    with pipe:
        for line in pipe:
            program.heard({name: line.decode(errors="replace").rstrip("\n")})


class MooseLab:
    """The file system with its two mounts, A and B."""

    version = "MooseFS"

    def __init__(self, spaces: Namespaces, work: str) -> None:
        self._spaces = spaces
        self._work = work
        self._count = 0
        self.a = Mount(spaces, "a", f"{work}/a")
        self.b = Mount(spaces, "b", f"{work}/b")
        _configure(Path(work))
        spaces.run(
            f"""
            ip link set lo up
            ip addr add {ADDRESS}/24 dev lo
            cd {work}
            truncate -s {DISK_BYTES} disk
            mkfs.ext4 -q -F disk
            mount -o loop disk chunks
            mfsmaster -c master.cfg start
            mfschunkserver -c chunk.cfg start
            for place in a b; do
              for attempt in $(seq 60); do mfsmount $place -H {ADDRESS} && break || sleep 0.5; done
              mountpoint -q $place
            done
            mfssetgoal -r 1 a
            for attempt in $(seq 60); do echo x >a/probe && sync a/probe && break || sleep 0.5; done
            rm a/probe
            """
        )

    def new_spool(self, locks: str = "locks", durability: str = "durable") -> str:
        """Make a spool; gives its name."""
        self._count += 1
        spool = f"spool-{self._count}"
        self.a.do("init", spool, locks, durability)
        return spool

    def settle(self) -> None:
        """End whatever runs on the mounts."""
        for process in self.a.processes + self.b.processes:
            if process.poll() is None:
                end_group(process)


def _configure(work: Path) -> None:
    for name in ("master", "chunk", "chunks", "a", "b"):
        (work / name).mkdir()
    (work / "master" / "metadata.mfs").write_text("MFSM NEW")
    (work / "exports.cfg").write_text("* / rw,alldirs,admin,maproot=0:0\n")
    (work / "topology.cfg").write_text("\n")
    (work / "disks.cfg").write_text(f"{work}/chunks\n")
    user = {"WORKING_USER": "root", "WORKING_GROUP": "root"}
    listen = {f"{who}_LISTEN_HOST": ADDRESS for who in ("MATOML", "MATOCS", "MATOCL")}
    files = {"EXPORTS_FILENAME": f"{work}/exports.cfg", "TOPOLOGY_FILENAME": f"{work}/topology.cfg"}
    _write(work / "master.cfg", {**user, **listen, **files, "DATA_PATH": f"{work}/master"})
    chunk = {"HDD_CONF_FILENAME": f"{work}/disks.cfg", "MASTER_HOST": ADDRESS, "CSSERV_LISTEN_HOST": ADDRESS}
    _write(work / "chunk.cfg", {**user, **chunk, "DATA_PATH": f"{work}/chunk"})


def _write(path: Path, settings: dict[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@contextmanager
def running() -> Iterator[MooseLab]:
    """The file system, mounted twice; whatever happens, nothing of it is left in the end."""
    work = tempfile.mkdtemp(prefix="breyta-hosts-")
    try:
        spaces = Namespaces()
        try:
            lab = MooseLab(spaces, work)
            try:
                yield lab
            finally:
                lab.settle()
        finally:
            spaces.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
