"""The entry of the program: it starts and ends fast, since handlers call it several times in every job."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code (docs/cli.md)."""
    # What is imported stays, so a look for garbage meanwhile finds none. Commands turn it on again (tree.py).
    gc.disable()
    from breyta_cli import program

    leave(program.run())


def leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart, which takes a tenth of the time of a short command.

    Nothing of ours waits for that: files are written through, never held in a buffer. Where somebody else may wait for
    it, a thread or a function that is called at exit, Python ends as usual.
    """
    if threading.active_count() == 1 and not atexit._ncallbacks():
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # the usual way knows what to say
        else:
            os._exit(code)
    sys.exit(code)
