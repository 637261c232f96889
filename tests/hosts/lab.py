"""The lab: an NFS server and two clients, each a guest, on a switch that leads nowhere else."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hosts.guest import Guest
from tests.hosts.host import ROOT
from tests.hosts.namespaces import Namespaces
from tests.hosts.namespaces import lacking as lacking_for

PACKAGES = "user-mode-linux uml-utilities nfs-kernel-server nfs-common rpcbind kmod iproute2 e2fsprogs"
PROGRAMS = ("linux.uml", "uml_switch", "exportfs", "mount.nfs", "rpcbind", "modprobe", "ip", "mkfs.ext4")
SERVER = "192.0.2.1"
DISK_BYTES = 1 << 30
LEASE_SECONDS = 10
"""How long the server waits for clients that are silent, and for those that come back after its power was cut."""
LAPSE_SECONDS = 60.0


def lacking() -> str:
    """Why the lab cannot be built here, in words; empty when it can."""
    return lacking_for(PROGRAMS, PACKAGES)


class Lab:
    """A server and two clients, all booted. ``version`` is that of NFS: 4.2 or 3."""

    def __init__(self, spaces: Namespaces, work: str, version: str, options: str = "") -> None:
        self.version = version
        self.options = options
        self._count = 0
        disk = f"{work}/disk"
        with open(disk, "wb") as image:
            image.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-i", "4096", disk], check=True, capture_output=True)
        # With a pipe as its input: it ends when that does.
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        spaces.start(["uml_switch", "-unix", f"{work}/switch"], **how)
        _wait_for(Path(work, "switch"))
        self.server = Guest(spaces, work, "server", SERVER, "/mnt/disk", self._serve, [disk])
        self.a = Guest(spaces, work, "a", "192.0.2.2", "/mnt/share", self._mount)
        self.b = Guest(spaces, work, "b", "192.0.2.3", "/mnt/share", self._mount)
        self.hosts = (self.server, self.a, self.b)

    def boot(self) -> None:
        """Switch on what is off."""
        off = [host for host in self.hosts if not host.is_on]
        for host in off:
            host.power_on()
        for host in off:
            host.take_up_role()

    def new_spool(self, locks: str = "locks", durability: str = "durable") -> str:
        """Make a spool; gives its name."""
        self._count += 1
        spool = f"spool-{self._count}"
        self.a.do("init", spool, locks, durability)
        return spool

    def settle(self) -> None:
        """End whatever runs on the hosts."""
        for host in self.hosts:
            if host.is_on:
                host.end_programs()

    def power_cut(self) -> None:
        """Switch everything off."""
        for host in self.hosts:
            host.power_cut()

    def _serve(self, host: Guest) -> None:
        host.run(
            f"""
            modprobe lockd nlm_grace_period={LEASE_SECONDS} nlm_timeout=5
            modprobe nfsd
            mkdir -p /mnt/disk && mount /dev/ubda /mnt/disk
            mkdir -p /run/rpcbind /run/sendsigs.omit.d /mnt/disk/.nfs-clients
            mkdir -p /var/lib/nfs/rpc_pipefs /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery
            touch /var/lib/nfs/etab /var/lib/nfs/rmtab
            # Which clients may take back what they had open: it must outlive a power cut, like the disk.
            mount --bind /mnt/disk/.nfs-clients /var/lib/nfs/v4recovery
            mount -t nfsd nfsd /proc/fs/nfsd
            echo {LEASE_SECONDS} >/proc/fs/nfsd/nfsv4gracetime
            echo {LEASE_SECONDS} >/proc/fs/nfsd/nfsv4leasetime
            rpcbind
            rpc.statd --no-notify
            exportfs -o rw,sync,no_subtree_check,no_root_squash,insecure,fsid=0 '*:/mnt/disk'
            rpc.nfsd 8
            rpc.mountd --manage-gids
            """,
            LAPSE_SECONDS,
        )

    def _mount(self, host: Guest) -> None:
        place = "/" if self.version.startswith("4") else "/mnt/disk"
        options = ",".join(filter(None, (f"vers={self.version}", self.options)))
        host.run(
            f"""
            modprobe nfsv4
            modprobe nfsv3
            mkdir -p /mnt/share /run/rpcbind /var/lib/nfs/sm /var/lib/nfs/sm.bak
            if [ {self.version} = 3 ]; then rpcbind; rpc.statd --no-notify; fi
            mount -t nfs -o {options} {SERVER}:{place} /mnt/share
            """,
            LAPSE_SECONDS,
        )


@contextmanager
def running(version: str, options: str = "") -> Iterator[Lab]:
    """A lab that has booted; whatever happens, nothing of it is left in the end."""
    compileall.compile_dir(ROOT / "breyta_spool", quiet=1)  # guests cannot write beside what they run
    compileall.compile_dir(ROOT / "cli", quiet=1)
    compileall.compile_dir(ROOT / "tests", quiet=1)
    work = tempfile.mkdtemp(prefix="breyta-hosts-")
    try:
        spaces = Namespaces()
        try:
            lab = Lab(spaces, work, version, options)
            try:
                lab.boot()
                yield lab
            finally:
                lab.power_cut()
        finally:
            spaces.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)
