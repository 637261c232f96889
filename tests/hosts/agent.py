"""Runs inside a guest: starts the programs that the lab asks for by its serial line, and tells what they print.

A message is a line of JSON. From the lab: ``{"run": N, "argv": [...], "env": {...}}`` and ``{"signal": S, "to": N}``.
To the lab: ``{"of": N, "out": LINE}``, the same with ``err``, and ``{"of": N, "code": CODE}`` as the last one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import tty
from typing import IO, Any


class Agent:
    """Serves one line."""

    def __init__(self, line: int) -> None:
        self._input = os.fdopen(line, "rb", closefd=False)
        self._line = line
        self._writing = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def serve(self) -> None:
        """Do what is asked for until the line ends."""
        self._tell({"of": 0, "code": 0})
        while text := self._input.readline():
            asked = json.loads(text)
            if "run" in asked:
                threading.Thread(target=self._run, args=(asked,), daemon=True).start()
            elif running := self._running.get(asked["to"]):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, asked["signal"])

    def _run(self, asked: dict[str, Any]) -> None:
        number = asked["run"]
        try:
            process = subprocess.Popen(
                asked["argv"],
                env={**os.environ, **asked["env"]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._tell({"of": number, "err": str(error)})
            self._tell({"of": number, "code": 127})
            return
        self._running[number] = process
        readers = [
            threading.Thread(target=self._read, args=(number, name, pipe), daemon=True)
            for name, pipe in (("out", process.stdout), ("err", process.stderr))
        ]
        for reader in readers:
            reader.start()
        code = process.wait()
        for reader in readers:
            reader.join(5)  # a program that it left in the background may hold the pipe
        del self._running[number]
        self._tell({"of": number, "code": code})

    def _read(self, number: int, name: str, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._tell({"of": number, name: line.decode(errors="replace").rstrip("\n")})

    def _tell(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._writing:
            while data:
                data = data[os.write(self._line, data) :]


if __name__ == "__main__":
    serial = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(serial)
    Agent(serial).serve()
