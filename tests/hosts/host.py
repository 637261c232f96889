"""What a test may ask of a host, be it a guest with a kernel of its own or a mount of a shared file system."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.hosts.program import Program

ROOT = Path(__file__).parent.parent.parent


class Host(ABC):
    """A host that has the shared file system at ``share``."""

    def __init__(self, name: str, share: str, outer: str = "") -> None:
        self.name = name
        self.share = share
        self.python = os.path.realpath(sys.executable)
        packages = next(place for place in sys.path if place.endswith(("site-packages", "dist-packages")))
        self.environment = {"PYTHONPATH": ":".join(f"{outer}{at}" for at in (ROOT, ROOT / "cli", packages))}

    @abstractmethod
    def start(self, *argv: str, **environment: str) -> Program:
        """Start a program."""

    def run(self, script: str, seconds: float = 60) -> str:
        """Run a bash script; gives what it printed. Raises AssertionError when it fails."""
        return self.start("bash", "-euc", script).output(seconds)

    def breyta(self, spool: str, *argv: str, **environment: str) -> Program:
        """Start the command line on a spool of the share."""
        environment["BREYTA_SPOOL"] = f"{self.share}/{spool}"
        return self.start(self.python, "-m", "breyta_cli", *argv, **environment)

    def act(self, name: str, spool: str, *argv: object, **environment: str) -> Program:
        """Start one of the acts (acts.py) on a spool of the share."""
        words = [str(word) for word in argv]
        return self.start(self.python, "-m", "tests.hosts.acts", name, f"{self.share}/{spool}", *words, **environment)

    def do(self, name: str, spool: str, *argv: object, seconds: float = 60) -> Any:
        """Run one of the acts to its end; gives its answer."""
        return self.act(name, spool, *argv).answer(seconds)


def worded(argv: Sequence[str]) -> str:
    """A command as an error message shows it."""
    return " ".join(argv)
