"""A check of a whole spool: every job, batch and entry is looked at, twice where something seems wrong.

What it costs is one listing for each job directory and each bucket of the index; files are opened only where the
names are not enough, or if their contents are to be checked too.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from breyta_spool import ids, looking, paths, surroundings
from breyta_spool.access import JOBS_READ
from breyta_spool.errors import doing
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding
from breyta_spool.invariants import Lists, Problem, Rules
from breyta_spool.spool import Spool

SECOND_LOOK_SECONDS = 1.0
"""How long after the first look at a problem the second one is: whatever is under way is over by then."""
WINDOW = 10_000
"""How many suspects are held in memory before their second look."""
SHOWN = 1000
"""How many findings a report holds, unless told otherwise; all of them are counted."""

_DAY, _MINUTE = re.compile(r"[0-9]{8}"), re.compile(r"[0-9]{4}")
_AGAIN = "Restore it from a backup, or submit the job again."
_REPAIR = "'breyta spool repair' mends it."
_MET = "Whoever meets it mends it; 'breyta spool repair' does so now."

KINDS: dict[str, tuple[str, str]] = {
    "status-unclear": (ERROR, "No program of ours leaves a job so: a person or the disk did. " + _REPAIR),
    "request-damaged": (ERROR, f"A power cut tore it before it was acknowledged, or the disk fails. {_AGAIN}"),
    "attempts-exceeded": (ERROR, "Somebody has changed job.json or renamed the status file: look at the attempts."),
    "result-damaged": (ERROR, "A power cut tore it before it was acknowledged. Whoever reads the job puts it back."),
    "artifact-damaged": (ERROR, "The disk fails, or somebody has changed it: restore it, or retry the job."),
    "misplaced": (ERROR, "Nobody finds it there: its place follows from its id. " + _REPAIR),
    "batch-damaged": (ERROR, "Restore batch.json from a backup; its jobs are run all the same."),
    "batch-incomplete": (ERROR, "Somebody has taken them: bring them back, else they count as failed."),
    "entry-missing": (ERROR, "Workers do not find a job that is in no list. " + _REPAIR),
    "entry-elsewhere": (WARNING, _MET),
    "entry-twice": (WARNING, _MET),
    "submit-unfinished": (WARNING, "It is no job. 'breyta spool repair' moves it to lost+found/, with a note."),
    "bucket-dangling": (WARNING, "The submitter of the batch died. " + _MET),
    "entry-wrong": (WARNING, "Programs do not follow it, people do. " + _REPAIR),
    "entry-dangling": (WARNING, "Its submitter died. " + _MET),
    "lease-forgotten": (WARNING, "No worker of that type runs: start one. " + _REPAIR),
    "links-missing": (WARNING, "Its worker died. Whoever reads the job makes them; so does 'breyta spool repair'."),
    "link-wrong": (WARNING, "Programs do not follow it, people do. " + _REPAIR),
    "foreign": (WARNING, "It is none of ours. 'breyta spool repair' moves it to lost+found/."),
    "left-in-tmp": (WARNING, "Its owner died. Workers remove it when they start; 'breyta spool repair' does so now."),
    "key-wrong": (WARNING, "Whoever submits with this idempotency key is refused. " + _REPAIR),
    "account-damaged": (ERROR, "Keys of that account are refused: restore it from a backup, or make a new one."),
    "top-missing": (NOTE, "It is made when it is needed. " + _REPAIR),
    "worker-dead": (
        NOTE,
        "It was killed, or its host went down. 'breyta spool repair' removes the record after a day.",
    ),
    "set-aside": (NOTE, "The .why.txt beside it says why. Submit it again if it is needed, then remove both."),
}
"""How bad each kind of problem is, and what to do about it."""


@dataclass
class Report:
    """What a check has found. ``findings`` are the first of them, worst first; ``counts`` counts all by their codes."""

    jobs: int = 0
    batches: int = 0
    entries: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether no finding is an error."""
        return not any(KINDS[code][0] == ERROR for code in self.counts)

    def add(self, problem: Problem, limit: int) -> None:
        """Count a problem, and keep it as a finding if there are fewer than ``limit``."""
        self.counts[problem.code] += 1
        if len(self.findings) < limit:
            self.findings.append(finding(problem))

    def end(self) -> None:
        """Put the worst first, and say how long it took."""
        self.findings.sort(key=lambda found: (ERROR, WARNING, NOTE).index(found.severity))
        self.seconds = time.monotonic() - self.began


Told = Callable[[float, int], None]
"""Is told how far a walk has come, from 0 to 1, and how many jobs it has looked at."""


def check(
    spool: Spool,
    *,
    contents: bool = False,
    limit: int = SHOWN,
    told: Told = lambda share, jobs: None,
    pause: float = SECOND_LOOK_SECONDS,
) -> Report:
    """Look at everything in a spool. ``contents``: read and verify every file, too. Changes nothing.

    ``pause`` is the time between two looks at what seems wrong, in seconds. Others may work in the spool meanwhile.
    Raises NotAllowed, StorageError, NoSuchSpool.
    """
    spool.access.need(JOBS_READ)
    report = Report()
    with doing("check the spool"):
        spool.index.check_there()
        for problem in Walk(Rules(spool.index, spool.settings, contents), told, pause, report).problems():
            report.add(problem, limit)
    report.end()
    return report


def finding(problem: Problem) -> Finding:
    """A problem as people are told of it."""
    severity, remedy = KINDS[problem.code]
    return Finding(problem.code, severity, problem.place, f"{problem.id}: {problem.what}", remedy)


Kinds = dict[str, bool]
"""Names, and whether each is a directory."""


class Bucket(NamedTuple):
    """The jobs of one minute, or of one batch, and where their directories are below the spool's root."""

    name: str
    place: str


class Walk:
    """Goes through a spool bucket by bucket, counts into ``report``, and gives what is wrong, seen twice."""

    def __init__(
        self,
        rules: Rules,
        told: Told = lambda share, jobs: None,
        pause: float = SECOND_LOOK_SECONDS,
        report: Report | None = None,
    ) -> None:
        self.report = report or Report()
        self._rules = rules
        self._index = rules.index
        self._root = rules.tree.root
        self._told = told
        self._pause = pause
        self._set_aside = frozenset[str]()
        self._where: dict[str, list[str]] = {}
        self._suspects: dict[Bucket, set[Problem]] = {}
        self._waiting = 0
        self._latest = 0.0

    def problems(self) -> Iterator[Problem]:
        """Every problem of the spool. What others do meanwhile is not one. Raises OSError."""
        self._rules.now = self._now()
        self._set_aside = surroundings.set_aside(self._index)
        yield from surroundings.problems(self._rules)
        for index_list in self._index.lists():
            for name in self._index.names(f"{self._root}/{index_list}"):
                self._where.setdefault(name, []).append(index_list)
        for share, bucket in self._buckets():
            self._suspect(bucket, self._look(bucket))
            self._told(share, self.report.jobs)
            if self._waiting >= WINDOW:
                yield from self._second_looks()
        yield from self._second_looks()

    def _now(self) -> float:
        try:
            return self._index.now()
        except OSError:
            return time.time()  # somebody who may only read

    # -- which buckets there are --------------------------------------------------------------------

    def _buckets(self) -> Iterator[tuple[float, Bucket]]:
        """The minutes and batches that have jobs, then those that have entries alone; and how far that is."""
        seen: set[str] = set()
        minutes = [minute for day in self._dated("jobs", _DAY) for minute in self._dated(day, _MINUTE)]
        for number, place in enumerate(minutes, 1):
            of_minute = Bucket(place[5:].replace("/", "-"), place)
            for bucket in (of_minute, *self._batches(place)):
                seen.add(bucket.name)
                yield number / len(minutes), bucket
        for name in sorted(self._where.keys() - seen):
            batch = ids.is_batch_id(name)
            yield 1.0, Bucket(name, paths.batch_place(name) if batch else f"jobs/{name.replace('-', '/')}")

    def _dated(self, place: str, form: re.Pattern[str]) -> list[str]:
        found = self._kinds(place)
        strange = sorted(name for name, is_directory in found.items() if not is_directory or not form.fullmatch(name))
        what = "it is not the directory of a day or a minute"
        self._suspect(Bucket("", place), [Problem("foreign", name, f"{place}/{name}", what) for name in strange])
        return [f"{place}/{name}" for name in sorted(found.keys() - set(strange))]

    def _batches(self, place: str) -> list[Bucket]:
        found = self._kinds(place)
        batches = (name for name, is_directory in found.items() if is_directory and ids.is_batch_id(name))
        names = sorted(name for name in batches if paths.batch_place(name) == f"{place}/{name}")
        self.report.batches += len(names)
        return [Bucket(name, f"{place}/{name}") for name in names]

    def _kinds(self, place: str) -> Kinds:
        """The names in a directory, and whether each is one, too: a link to one could lead anywhere."""
        return looking.kinds_if_any(f"{self._root}/{place}")

    # -- looks --------------------------------------------------------------------------------------

    def _look(self, bucket: Bucket) -> Iterator[Problem]:
        """The first look at everything in a bucket."""
        entries = self._entries(bucket.name, self._where.get(bucket.name, []))
        names = self._kinds(bucket.place)
        own = frozenset(self._own(bucket, names))
        holds, contents = self._rules.holds, self._rules.contents
        for job_id in own:
            job_dir = f"{self._root}/{bucket.place}/{job_id}"
            lists = entries.get(job_id, ())
            if contents or not holds(job_dir, looking.names_if_any(job_dir), lists):
                yield from self._of_job(bucket.name, job_id, lists)
        self.report.jobs += len(own)
        self.report.entries += len(entries)
        yield from self._of_names(bucket, names, own)
        yield from self._of_entries(bucket.name, names, entries, entries.keys() - own)

    def _of_entries(
        self, bucket: str, names: Kinds, entries: dict[str, Lists], without_job: Iterable[str]
    ) -> Iterator[Problem]:
        if ids.is_batch_id(bucket) and not names:  # of a batch that is not there, all entries go together
            yield from self._rules.of_bucket(bucket, {name for lists in entries.values() for name in lists})
            return
        for name in without_job:
            yield from self._rules.of_entry(bucket, name, entries[name])

    def _of_job(self, bucket: str, job_id: str, lists: Lists) -> list[Problem]:
        found = self._rules.of_job(job_id, lists)
        return found + self._rules.of_link(bucket, job_id, lists) if self._rules.contents else found

    def _of_names(self, bucket: Bucket, names: Kinds, own: frozenset[str]) -> Iterator[Problem]:
        """What is wrong with a bucket as a whole, and with what is in it beside its jobs."""
        is_batch = ids.is_batch_id(bucket.name)
        if is_batch and names:
            yield from self._rules.of_batch(bucket.name, own, self._set_aside)
        for name, is_directory in names.items():
            if name in own or (is_batch and name in (paths.BATCH, paths.CANCEL)):
                continue
            place = f"{bucket.place}/{name}"
            if not is_directory:
                yield Problem("foreign", name, place, "it is not a directory")
            elif ids.is_job_id(name):
                yield Problem("misplaced", name, place, f"it belongs at {paths.job_place(name)}")
            elif is_batch or not ids.is_batch_id(name):
                yield Problem("foreign", name, place, "it is neither a job nor a batch")
            elif paths.batch_place(name) != place:
                yield Problem("misplaced", name, place, f"it belongs at {paths.batch_place(name)}")

    def _own(self, bucket: Bucket, names: Kinds) -> Iterable[str]:
        """The jobs whose place is this bucket."""
        first, last = ids.bounds(bucket.name)
        single = first != last
        for name, is_directory in names.items():
            if is_directory and first <= name[4:30] <= last and (len(name) == 30) == single and ids.is_job_id(name):
                yield name

    def _entries(self, bucket: str, lists: Iterable[str]) -> dict[str, Lists]:
        """In which lists each entry of a bucket is."""
        found: dict[str, Lists] = {}
        for index_list in lists:
            only = (index_list,)
            for name in self._index.names(f"{self._root}/{index_list}/{bucket}"):
                found[name] = found[name] + only if name in found else only
        return found

    # -- second looks -------------------------------------------------------------------------------

    def _suspect(self, bucket: Bucket, problems: Iterable[Problem]) -> None:
        if problems := set(problems):
            self._suspects.setdefault(bucket, set()).update(problems)
            self._waiting += len(problems)
            self._latest = time.monotonic()

    def _second_looks(self) -> Iterator[Problem]:
        if not self._suspects:
            return
        time.sleep(max(0.0, self._latest + self._pause - time.monotonic()))
        self._rules.now = self._now()
        suspects, self._suspects, self._waiting = self._suspects, {}, 0
        lists = self._index.lists()
        for bucket, first in suspects.items():
            yield from sorted(self._confirmed(bucket, first, lists))

    def _confirmed(self, bucket: Bucket, first: set[Problem], lists: list[str]) -> set[Problem]:
        """What is still wrong of what the first look saw."""
        if not bucket.name:
            return first  # dates do not come and go
        entries = self._entries(bucket.name, lists)
        names = self._kinds(bucket.place)
        own = frozenset(self._own(bucket, names))
        suspects = {problem.id for problem in first}
        again = set(self._of_names(bucket, names, own))
        again.update(self._of_entries(bucket.name, names, entries, (entries.keys() - own) & suspects))
        for suspect in suspects & own:
            again.update(self._of_job(bucket.name, suspect, entries.get(suspect, ())))
        return first & again
