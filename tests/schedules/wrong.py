"""A protocol that is wrong on purpose, and right as long as nobody is interrupted: what the explorer must find out.

Its worker looks whether the job waits, and then takes it by two changes in place of one rename. Two workers may both have
looked before either takes; and one that dies between the two changes leaves no status at all.
"""

from __future__ import annotations

import os

from breyta_spool import files, looking, states
from tests.schedules.part import Part
from tests.schedules.scenarios import Scenario, queued

WAITS = states.Status(states.QUEUED, 0).name


def check_then_act(part: Part) -> None:
    job_id = part.job_ids[0]
    job_dir = part.spool.tree.job(job_id)
    token = part.name * 16

    def claim() -> bool:
        if WAITS not in looking.names(job_dir):
            return False
        files.unlink(f"{job_dir}/{WAITS}")
        files.write_new(f"{job_dir}/{states.Status(states.LEASED, 1, token).name}", b"")
        return True

    part.call(claim, lambda won: {job_id: (1, token)} if won else {}, "claim", "")


def by_chance(part: Part) -> None:
    """An actor that does not do the same in every run: each has a place of its own, and the name of that counts."""
    for number in range(1 + int(os.path.basename(part.spool.root)) % 2):
        part.stage.pause(f"step {number}")


WRONG = Scenario("wrong", queued, {"a": check_then_act, "b": check_then_act})
BY_CHANCE = Scenario("by chance", queued, {"a": by_chance, "b": by_chance})
