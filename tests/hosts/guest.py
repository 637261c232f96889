"""A guest: a Linux kernel as a process of the outer machine (User-Mode Linux), with its root file system read-only.

Stopped, it is a host that hangs. Killed, it is one whose power was cut: its memory is gone, its disk image stays.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

from tests.hosts.acts import LET_GO_ON
from tests.hosts.host import ROOT, Host, worded
from tests.hosts.namespaces import Namespaces, end_group
from tests.hosts.program import Program

BOOT_SECONDS = 90.0
OUTER = "/mnt/outer"
"""Where guests see all of the outer machine's root, also what lies below /tmp."""


class Guest(Host):
    """One guest. It may be booted again after its power was cut; ``role`` is what it does then."""

    def __init__(
        self,
        spaces: Namespaces,
        work: str,
        name: str,
        address: str,
        share: str,
        role: Callable[[Guest], None],
        disks: Sequence[str] = (),
        megabytes: int = 384,
    ) -> None:
        super().__init__(name, share, OUTER)
        self.address = address
        self.role = role
        self._spaces = spaces
        self._log = f"{work}/{name}.log"
        self._argv = [
            "linux.uml",
            f"mem={megabytes}M",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "panic=1"),
            *(
                f"init={ROOT}/tests/hosts/init.sh",
                "con=null",
                "con0=null,fd:2",
                "ssl=null",
                f"uml_dir={work}/guests",
                f"umid={name}",
            ),
            f"eth0=daemon,,unix,{work}/switch",
            *(f"ubd{number}={disk}" for number, disk in enumerate(disks)),
        ]
        self._init = [
            *(f"lab_name={name}", f"lab_address={address}", f"lab_python={self.python}"),
            f"lab_agent={OUTER}{ROOT}/tests/hosts/agent.py",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._programs: dict[int, Program] = {}
        self._input: IO[bytes] | None = None
        self._writing = threading.Lock()
        self._count = 0

    # -- power --------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Switch it on; returns when it does what it is for."""
        self.power_on()
        self.take_up_role()

    def power_on(self) -> None:
        """Begin to boot."""
        to_guest, writes = os.pipe()
        reads, from_guest = os.pipe()
        with open(self._log, "ab") as log:
            self._process = self._spaces.start(
                [*self._argv, f"ssl0=fd:{to_guest},fd:{from_guest}", *self._init],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(to_guest, from_guest),
            )  # fmt: skip
        os.close(to_guest)
        os.close(from_guest)
        self._input = os.fdopen(writes, "wb", buffering=0)
        self._programs = {0: Program(f"the boot of {self.name}", lambda number: None)}
        heard = (os.fdopen(reads, "rb"), self._programs)
        self._listener = threading.Thread(target=self._listen, args=heard, daemon=True)
        self._listener.start()

    def take_up_role(self) -> None:
        """Wait until it has booted, and let it do what it is for."""
        self._programs[0].wait(BOOT_SECONDS)
        self.role(self)

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._process is not None

    def power_cut(self) -> None:
        """Cut its power."""
        if self._process is not None:
            end_group(self._process)
            self._process = None
        if self._input is not None:
            self._input.close()
            self._input = None
            self._listener.join(20)

    def freeze(self) -> None:
        """Let it hang: nothing in it goes on until it is thawed."""
        assert self._process is not None
        os.kill(self._spaces.inner(self._process), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._spaces.inner(self._process), signal.SIGCONT)

    def processor_seconds(self) -> float:
        """What it has used of the outer machine's processors since it was switched on: kernel and programs, in seconds."""
        assert self._process is not None
        kernel = str(self._spaces.inner(self._process))
        ticks = 0
        for process in os.listdir("/proc"):
            if process.isdigit():
                with suppress(OSError), open(f"/proc/{process}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                    if (
                        fields[3] == kernel
                    ):  # its session: the kernel began it, and runs each program in a process of it
                        ticks += sum(map(int, fields[11:15] if process == kernel else fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    # -- programs -----------------------------------------------------------------------------------

    def start(self, *argv: str, **environment: str) -> Program:
        """Start a program."""
        with self._writing:
            self._count += 1
            number = self._count
            what = f"{self.name}: {worded(argv)}"
            self._programs[number] = Program(what, lambda signal: self._say({"signal": signal, "to": number}))
        self._say({"run": number, "argv": argv, "env": self.environment | environment})
        return self._programs[number]

    def _say(self, message: dict[str, Any]) -> None:
        assert self._input is not None, f"{self.name} is off"
        with self._writing:
            self._input.write(json.dumps(message).encode() + b"\n")

    def let_go_on(self) -> None:
        """Let the acts on it that wait go on."""
        self.run(f"touch {LET_GO_ON}")

    def end_programs(self) -> None:
        """End every program that still runs on it."""
        for program in [program for program in self._programs.values() if program.code is None]:
            program.signal(signal.SIGKILL)
            program.wait(30)
        self.run(f"rm -f {LET_GO_ON}")

    def _listen(self, line: IO[bytes], programs: dict[int, Program]) -> None:
        with line:
            for text in line:
                try:
                    message = json.loads(text)
                except ValueError:
                    continue  # its power was cut in the midst of it
                programs[message["of"]].heard(message)
        for program in list(programs.values()):
            program.heard({"code": -9})
