"""What takes two processes to find out: whether of all who try one wins, and whether nobody sees half a change.

Each contest is between processes that work in directories of their own view: the same directory, or two mounts of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from breyta_spool.findings import ERROR, NOTE, WARNING, Finding
from breyta_spool.rivals import Rival

_ELSEWHERE = "put the spool on another file system: local ext4 or XFS, or NFS 4"
_LEAD_SECONDS = 0.02
"""How long before a contest begins its processes are told of it."""


class Race(NamedTuple):
    """How a race ended: of ``rounds`` names that all tried for, how many had other than one winner."""

    rounds: int
    doubles: int
    unwon: int
    untold: int
    """Won, as the disk says, by one who was told that he lost: the reply of a server was lost."""
    refused: dict[str, int]
    met: bool
    """Whether more than one process won some: if not, they hardly met."""


class _Rules(NamedTuple):
    what: str
    code: str
    severity: str
    """How bad it is when two win."""
    refusal: frozenset[str]
    """How those who lost must learn it."""
    why: str
    most: int


_MISSING = frozenset(("ENOENT",))
_TAKEN = frozenset(("EEXIST",))
RULES = {
    "rename": _Rules("rename", "rename", ERROR, _MISSING, "two workers can both win the lease of a job", 400),
    "directory": _Rules(
        "rename of directories", "directory-rename", ERROR, _MISSING, "two can both take one job away", 100
    ),
    "create": _Rules(
        "exclusive create", "create", ERROR, _TAKEN, "two can write the same new file, such as an attempt's result", 100
    ),
    "symlink": _Rules(
        "symlink", "symlink", ERROR, _TAKEN, "two submits with one idempotency key can both make a job", 100
    ),
    "link": _Rules(
        "hard link", "link", WARNING, _TAKEN, "of two changes of an account at the same moment one can be lost", 60
    ),
}  # fmt: skip


def race(rivals: Sequence[Rival], kind: str, seconds: float) -> Race:
    """Let all try for the same names at the same moments, for at most about so many seconds. Raises OSError."""
    made, each = rivals[0].ask("prepare", kind, RULES[kind].most, seconds / 2)
    count, every = int(made), max(0.001, 2 * each)
    for rival in rivals[1:]:
        rival.ask("look", kind)
    start = time.monotonic() + _LEAD_SECONDS
    for rival in rivals:
        rival.begin("race", kind, count, start, every, seconds)
    told = [rival.answer() for rival in rivals]
    return judged(rivals, kind, told, rivals[0].ask("winners", kind))


def judged(rivals: Sequence[Rival], kind: str, told: list[Any], there: dict[str, str]) -> Race:
    """How a race ended, by what each was told and by what is there; ``told`` as ``race`` of a rival gives it."""
    rounds = min(tried for tried, _, _ in told)
    believers: Counter[int] = Counter(number for _, won, _ in told for number in won)
    on_disk: Counter[int] = Counter(int(name.rpartition(".")[2]) for name in there)
    owners = {int(name.rpartition(".")[2]): side for name, side in there.items()}
    right = {(rival.side, number) for rival, (_, won, _) in zip(rivals, told, strict=True) for number in won}
    doubles = unwon = untold = 0
    for number in range(rounds):
        if on_disk[number] == 0:
            unwon += 1
        elif on_disk[number] > 1 or believers[number] > 1:
            doubles += 1
        elif (owners[number], number) not in right:
            untold += 1
            doubles += believers[number] > 0
    refused: Counter[str] = Counter()
    for _, _, of_one in told:
        refused.update(of_one)
    odd = {name: times for name, times in refused.items() if name not in RULES[kind].refusal}
    return Race(rounds, doubles, unwon, untold, odd, sum(bool(won) for _, won, _ in told) > 1)


def races(rivals: Sequence[Rival], kinds: Sequence[str], seconds: float, where: str = "") -> Iterator[Finding]:
    """The findings of several races; ``where`` says between whom, when it is not this host's processes."""
    for kind in kinds:
        try:
            # A job's state is a rename, so that is tried for longest.
            ended = race(rivals, kind, 2 * seconds if kind == "rename" else seconds)
        except TimeoutError:
            raise
        except OSError as error:
            yield _impossible(kind, error.strerror or str(error), rivals[0].place)
        else:
            yield from said(kind, ended, where or f"{len(rivals)} processes", rivals[0].place)


def _impossible(kind: str, why: str, path: str) -> Finding:
    rules = RULES[kind]
    return Finding(f"{rules.code}-fails", ERROR, path, f"{rules.what} fails ({why}), so no job can be done", _ELSEWHERE)


def said(kind: str, ended: Race, where: str, path: str) -> Iterator[Finding]:
    """What the end of a race means."""
    rules = RULES[kind]
    code = f"{rules.code}-not-exclusive"
    tried = f"{rules.what}: {ended.rounds} races of {where}"
    if ended.unwon == ended.rounds and ended.refused:
        if kind not in ("symlink", "link"):  # trials.py has said that these are missing
            yield _impossible(kind, ", ".join(ended.refused), path)
    elif ended.doubles or ended.unwon:
        wrong = ", ".join(
            f"{number} had {what}"
            for number, what in ((ended.doubles, "more than one winner"), (ended.unwon, "none"))
            if number
        )
        yield Finding(code, rules.severity, path, f"{tried}, of which {wrong}: {rules.why}", _ELSEWHERE)
    elif ended.refused:
        how = _counted(ended.refused)
        expected = "/".join(rules.refusal)
        what = f"{tried}, 1 winner each, but losers were told {how} in place of {expected}: workers stop at such errors"
        yield Finding(f"{rules.code}-odd-refusal", WARNING, path, what, "look at the server's log; " + _ELSEWHERE)
    else:
        lost = f", {ended.untold} replies lost on the way (workers look after a failure)" if ended.untold else ""
        met = "" if ended.met else "; one process won all of them, so they hardly met"
        yield Finding(f"{rules.code}-exclusive", NOTE, path, f"{tried}, 1 winner each{lost}{met}")


def _counted(errors: dict[str, int]) -> str:
    return ", ".join(f"{name} {'once' if times == 1 else f'{times} times'}" for name, times in sorted(errors.items()))


# -- other contests ---------------------------------------------------------------------------------


def appends(rivals: Sequence[Rival]) -> Iterator[Finding]:
    """Whether lines that two processes add to one file at the same moment all stay."""
    count = 50
    place = rivals[0].place
    rivals[0].ask("add", "appended", "begun at 0")
    start = time.monotonic() + _LEAD_SECONDS
    for rival in rivals[:2]:
        rival.begin("append", "appended", count, start)
    for rival in rivals[:2]:
        rival.answer()
    found = rivals[0].ask("lines", "appended")
    if found == 2 * count:
        yield Finding("append-keeps-all", NOTE, place, f"append: {2 * count} lines of 2 processes at once, all there")
    else:
        what = (
            f"append: of {2 * count} lines that 2 processes added at once {found} are there: helpers side by side in"
            " one handler can lose progress reports"
        )
        yield Finding("append-overwrites", WARNING, place, what, "let a handler report from one process at a time")


def replacing(rivals: Sequence[Rival], seconds: float, where: str = "another process") -> Iterator[Finding]:
    """Whether a reader of a file that is being replaced always finds the old content or the new."""
    writer, reader = rivals[:2]
    writer.ask("put", "replaced", "A" * 4096)
    reader.ask("sees", "listing", "replaced", None, 5.0)
    start = time.monotonic() + _LEAD_SECONDS
    writer.begin("write_over", "replaced", seconds, start)
    reader.begin("read_over", "replaced", seconds, start)
    written, (read, wrong) = writer.answer(), reader.answer()
    tried = f"replace: {written} times while {where} read it {read} times"
    if not wrong:
        yield Finding("replace-atomic", NOTE, writer.place, f"{tried}, each time whole")
        return
    how = _counted(wrong)
    if set(wrong) == {"ESTALE"}:
        what = (
            f"{tried}, and was told {how}, though it tried again: a command that reads at the moment of a change can"
            " fail and say so. Nothing is lost"
        )
        yield Finding(
            "replace-goes-stale", WARNING, writer.place, what, "mount without nocto; NFS 4 does better than 3"
        )
        return
    why = (
        "a lease's record or a spool's settings can be missing or torn for whoever reads them at the moment of a change"
    )
    yield Finding("replace-not-atomic", ERROR, writer.place, f"{tried}, and found {how}: {why}", _ELSEWHERE)


def locks(holder: Rival, other: Rival, where: str = "2 processes", *, one_host: bool = True) -> Iterator[Finding]:
    """Whether a lock excludes, and ends with its holder, who is killed for it.

    ``one_host``: between processes of one host, where helpers beside each other rely on it, and not between two mounts.
    """
    holder.ask("make", "flock.lock")
    holder.ask("make", "fcntl.lock")
    other.ask("sees", "listing", "fcntl.lock", None, 5.0)
    got = {how: _locked(holder, other, how) for how in ("flock", "fcntl")}
    holder.kill()
    freed = {how: _freed(other, how) for how, answer in got.items() if answer == "busy"}
    if got["flock"] != "busy" and not one_host:
        what = f"locks: flock between {where} does not exclude ({_how(got['flock'])}). {_ONLY_SPEED}"
        yield Finding("locks-not-shared", NOTE, other.place, what)
    else:
        yield from _about_locks(got, freed, where, other.place)


_ONLY_SPEED = (
    "Correctness does not rest on locks: only speed is lost, as idle workers read the queue at the same moment"
)


def _how(answer: str) -> str:
    return "both hold it" if answer == "held" else answer


def _locked(holder: Rival, other: Rival, how: str) -> str:
    own = holder.ask("lock", f"{how}.lock", how)
    return str(other.ask("lock", f"{how}.lock", how)) if own == "held" else f"refused with {own}"


def _freed(other: Rival, how: str, seconds: float = 3.0) -> float | None:
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if other.ask("lock", f"{how}.lock", how) == "held":
            return time.monotonic() - began
        time.sleep(0.02)
    return None


def _about_locks(got: dict[str, str], freed: dict[str, float | None], where: str, path: str) -> Iterator[Finding]:
    answer = got["flock"]
    at_risk = "but helpers side by side in one handler that add rows to one table can spoil each other's"
    if answer == "busy" and freed["flock"] is None:
        what = (
            f"flock: a lock of a killed process stays for more than 3 s. {_ONLY_SPEED}, {at_risk}, or wait a minute in"
            " vain"
        )
        yield Finding(
            "locks-outlive-holder", WARNING, path, what, "look at the lock manager of the server (rpc.statd, lockd)"
        )
    elif answer == "busy":
        rest = "fcntl, too" if got["fcntl"] == "busy" else f"fcntl does not ({got['fcntl']}), which nothing here uses"
        what = f"locks: flock between {where} excludes and ends with its holder; {rest}"
        yield Finding("locks-work", NOTE, path, what)
    else:
        what = f"flock between {where} does not exclude ({_how(answer)}). {_ONLY_SPEED}, {at_risk}"
        yield Finding(
            "locks-do-not-exclude", WARNING, path, what, "let a handler add rows to a table from one process at a time"
        )
