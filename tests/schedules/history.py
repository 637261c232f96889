"""What the actors called, when, and what they were told: the history of one schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

LOST = "lost"
"""The answer of a call whose lease was not held any more."""


@dataclass
class Call:
    """One operation on one job. ``ended`` is None when its caller died in it, or still stands still."""

    actor: str
    kind: str
    job_id: str
    about: Mapping[str, Any]
    after: tuple[int, ...]
    begun: int
    ended: int | None = None
    answer: Any = None

    def __str__(self) -> str:
        given = "".join(f" {value}" for value in self.about.values())
        return f"{self.actor}: {self.kind}{given} -> {'(nothing)' if self.ended is None else self.answer}"


@dataclass
class History:
    """The calls of one run. ``counts``: how many calls of each actor have returned."""

    counts: dict[str, int]
    calls: list[Call] = field(default_factory=list)
    _clock: int = 0

    def tick(self) -> int:
        """The next moment."""
        self._clock += 1
        return self._clock

    def begin(self, actor: str, kind: str, job_id: str, **about: Any) -> Call:
        """A call is made. What had returned by then is before it, whatever order explains the answers."""
        call = Call(actor, kind, job_id, about, tuple(self.counts.values()), self.tick())
        self.calls.append(call)
        return call

    def end(self, call: Call, answer: Any) -> None:
        """A call has returned."""
        call.ended, call.answer = self.tick(), answer
        self.counts[call.actor] += 1

    def of_job(self, job_id: str) -> list[Call]:
        """The calls that concern a job. Each job can be judged by itself: linearizability is local.

        A call without a job concerns all, and its answer says what it did to which.
        """
        mine = [call for call in self.calls if call.job_id == job_id]
        of_all = [replace(c, answer=(c.answer or {}).get(job_id)) for c in self.calls if not c.job_id]
        return mine + of_all

    def story(self, actor: str) -> int:
        """What an actor's calls have contributed so far, as a number."""
        mine = [call for call in self.calls if call.actor == actor]
        return hash(tuple((c.kind, c.job_id, c.after, str(c.about), str(c.answer), c.ended is None) for c in mine))

    def submitted(self) -> list[str]:
        """The jobs that were acknowledged to whoever submitted them."""
        done = [call for call in self.calls if call.kind.startswith("submit") and call.ended is not None]
        return sorted({job_id for call in done for job_id in ([call.job_id] if call.job_id else call.answer)})
