"""``python -m tests.schedules [--preemptions N] [--scenario NAME [--schedule TEXT]] [--seconds S]``: explore, or run one again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from tests.command import leave_with
from tests.schedules.explore import Explorer, Found, explored, somewhere
from tests.schedules.runner import Task
from tests.schedules.scenarios import SCENARIOS, Scenario
from tests.schedules.schedule import parsed, told

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore, and print a table; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.schedules", description="Try every interleaving.")
    parser.add_argument("--preemptions", type=int, metavar="N", help="the bound (default: that of the scenario)")
    parser.add_argument("--scenario", metavar="NAME", help="this one only; a name, or how names begin")
    parser.add_argument("--schedule", metavar="TEXT", help="run one schedule again, and print what happens")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop each scenario after that time, incomplete")
    options = parser.parse_args(arguments)
    chosen = [scenario for scenario in SCENARIOS if scenario.name.startswith(options.scenario or "")]
    if not chosen:
        parser.error(f"no such scenario: {options.scenario}; there are {', '.join(s.name for s in SCENARIOS)}")
    if options.schedule is not None:
        exact = [scenario for scenario in chosen if scenario.name == options.scenario]
        return _again((exact or chosen)[0], options.schedule)
    print(HEAD, flush=True)
    wrong = [scenario.name for scenario in chosen if _explored(scenario, options.preemptions, options.seconds)]
    return int(bool(wrong))


HEAD = f"{'scenario':36} {'bound':>5} {'schedules':>10} {'runs':>8} {'states':>8} {'ends':>6} {'CPU s':>7} {'s':>7}"


def line(found: Found) -> str:
    """A line of the table."""
    numbers = f"{found.bound:5} {found.schedules:10,} {found.runs:8,} {found.states:8,} {found.ends:6,}"
    return f"{found.scenario.name:36} {numbers} {found.cpu_seconds:7.1f} {found.seconds:7.1f}" + (
        "" if found.complete else "  incomplete"
    )


def _explored(scenario: Scenario, bound: int | None, seconds: float | None) -> bool:
    found = explored(scenario, scenario.bound if bound is None else bound, seconds)
    print(line(found), flush=True)
    if found.problems:
        print(found.told(), flush=True)
    return bool(found.problems)


def _again(scenario: Scenario, text: str) -> int:
    """Run one schedule; gives 1 when it ends badly."""
    with somewhere() as place:
        run = Explorer(scenario, 0, place).run_once(Task(parsed(text)))
    names: dict[str, str] = {}
    for number, step in enumerate(run.trace, 1):
        short = _ULID.sub(lambda found: names.setdefault(found[0], f"<{len(names) + 1}>"), step)
        print(f"{number:4} {short}")
    print(f"schedule {told(run.plan)}: {len(run.problems)} problems")
    print("\n".join(run.problems))
    return int(bool(run.problems))


if __name__ == "__main__":
    leave_with(main)
