"""A plain loop of mutations, for where atheris cannot be installed: it sees no coverage, so it finds less. It says so."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from tests.fuzz.targets import Target

MOST = 1 << 16


class Crash(Exception):
    """A target raised what it must not; ``data`` is the input."""

    def __init__(self, data: bytes) -> None:
        super().__init__(f"an input of {len(data)} bytes")
        self.data = data


def mutated(data: bytes, chance: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """The input with one to four changes."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randint(0, len(found)), chance.choice((1, 1, 2, 4, 16, 64))
        match chance.randrange(7):
            case 0:
                found[at:at] = chance.choice(tokens)
            case 1:
                found[at : at + size] = chance.choice(tokens)
            case 2:
                del found[at : at + size]
            case 3:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 4:
                found[at:at] = found[at : at + size] * chance.randint(1, 40)
            case 5:
                other = chance.choice(seeds)
                begin = chance.randint(0, len(other))
                found[at:] = other[begin:]
            case _:
                del found[at:]
    return bytes(found[:MOST])


def run(target: Target, seconds: float, seeds: Sequence[bytes], tokens: Sequence[bytes], seed: int = 0) -> int:
    """Try inputs until the time is over; gives how many. Raises Crash."""
    chance = random.Random(seed)
    pool = list(seeds)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = pool[count] if count < len(seeds) else mutated(chance.choice(pool), chance, seeds, tokens)
        count += 1
        try:
            target(data)
        except Exception as error:
            raise Crash(data) from error
        if count % 50 == 0 and len(pool) < 5000:
            pool.append(data)  # what is far from the seeds is reached in steps
    return count
