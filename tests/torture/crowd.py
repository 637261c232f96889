"""A crowd of processes that are killed, stopped, woken and replaced; none of them outlives the run."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture import actors, handlers
from tests.torture.actors import Part
from tests.torture.ledger import Ledger, lines

REPOSITORY = str(Path(__file__).parents[2])
BREYTA = str(Path(sys.executable).with_name("breyta"))
LEASE_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
UNAME26 = 0x0020000
"""Makes the kernel call itself 2.6, which the barrier takes for one whose syncfs cannot report errors."""
_libc = ctypes.CDLL(None)


def spawn(action: Callable[[], None]) -> int:
    """Fork a process for an action; it dies with this one. Gives its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        random.seed()
        action()
    finally:
        os._exit(1)


def _act(role: str, part: Part) -> None:
    try:
        actors.ROLES[role](part)
    except BaseException as error:
        Ledger(part.ledgers, f"{part.name}-error").say("error", told=repr(error), trace=traceback.format_exc())


def _program(part: Part, handler: str) -> None:
    """Become the worker program."""
    log = os.open(f"{part.ledgers}/{part.name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.chdir(REPOSITORY)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start compiles everything again
    words = ["--spool", part.root, "jobs", "worker", "run", "--type", handlers.TYPE, "--worker-id", part.name]
    words += ["--handler", handler, "--lease-duration", "1s", "--poll-interval", "100ms", "--grace", "200ms"]
    os.execv(BREYTA, [BREYTA, *words, "--concurrency", random.choice("12")])


@dataclass
class Member:
    """One process of the crowd."""

    role: str
    pid: int
    stopped_until: float = 0.0


@dataclass
class Crowd:
    """All the processes; ``roots`` are the paths by which they see the spool, taken in turn."""

    roots: list[str]
    ledgers: str
    program: str
    members: list[Member] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)
    started: int = 0
    dawdling: bool = False
    old_kernel: bool = False

    def add(self, role: str, count: int = 1) -> None:
        for _ in range(count):
            self.started += 1
            part = Part(self.roots[self.started % len(self.roots)], self.ledgers, f"{role}-{self.started}")
            self.members.append(Member(role, self._start(role, part)))

    def _start(self, role: str, part: Part) -> int:
        def act() -> None:
            if self.old_kernel:
                _libc.personality(UNAME26)
            os.environ |= {handlers.LEDGER: part.ledgers, **({handlers.DAWDLE: "1"} if self.dawdling else {})}
            if role == "program-worker":
                _program(part, self.program)
            elif role == "function-worker":
                _program(part, "py:tests.torture.handlers:handle")
            else:
                _act(role, part)

        return spawn(act)

    def disturb(self) -> None:
        """Kill or stop one of them; wake those whose time has come; replace those that are gone."""
        self._wake(time.monotonic())
        self.replace()
        awake = [member for member in self.members if not member.stopped_until]
        if not awake:
            return
        victim, chosen = random.choice(awake), random.random()
        if chosen < 0.4:
            os.kill(victim.pid, signal.SIGKILL)
            self.did["kills"] += 1
            self.did[f"kills of a {victim.role}"] += 1
        elif chosen < 0.7:
            self._stop(victim, random.uniform(0.01, 0.5), "short stops")
        else:
            self._stop(victim, random.uniform(1.1, 3.0) * LEASE_SECONDS, "stops longer than a lease")

    def _stop(self, victim: Member, seconds: float, what: str) -> None:
        os.kill(victim.pid, signal.SIGSTOP)
        victim.stopped_until = time.monotonic() + seconds
        self.did[what] += 1

    def _wake(self, now: float) -> None:
        for member in self.members:
            if member.stopped_until and member.stopped_until <= now:
                os.kill(member.pid, signal.SIGCONT)
                member.stopped_until = 0.0

    def replace(self) -> None:
        """Put a new process in the place of each that is gone."""
        for member in self._gone():
            self.add(member.role)

    def _gone(self) -> list[Member]:
        gone = [member for member in self.members if os.waitpid(member.pid, os.WNOHANG)[0]]
        self.members = [member for member in self.members if member not in gone]
        return gone

    def terminate(self, patience: float = 20.0) -> None:
        """Ask everybody to end, and end those that do not."""
        self._wake(float("inf"))
        for member in self.members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGTERM)
        end = time.monotonic() + patience
        while self.members and time.monotonic() < end:
            self._gone()
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End everybody at once, and the handlers that have outlived their workers."""
        for member in self.members:
            os.kill(member.pid, signal.SIGKILL)
        for member in self.members:
            os.waitpid(member.pid, 0)
        self.members = []
        _end_handlers(self.ledgers)


def _end_handlers(ledgers: str) -> None:
    for line in lines(ledgers, "began"):
        if "pid" in line and _is_ours(line["pid"], ledgers):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(line["pid"], signal.SIGKILL)


def _is_ours(pid: int, ledgers: str) -> bool:
    """Whether it is still the handler, and not another process with the same number."""
    with suppress(OSError):
        return f"{handlers.LEDGER}={ledgers}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
