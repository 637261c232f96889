"""Redis servers of the benchmark's own: one that keeps nothing, one that syncs each write, on the measured file system."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time

_SETTINGS = {
    "redis": ("--appendonly", "no"),
    "redis-always": ("--appendonly", "yes", "--appendfsync", "always"),
}
PATIENCE_SECONDS = 10.0


class Servers:
    """Started when first asked for, ended with ``close``."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def port(self, name: str) -> int:
        """The loopback port of ``redis`` or ``redis-always``. Raises RuntimeError when there is no such program."""
        if name not in self._running:
            program = shutil.which("redis-server")
            if program is None:
                raise RuntimeError("redis-server is not installed")
            self._running[name] = self._started(program, name)
        return self._running[name][1]

    def _started(self, program: str, name: str) -> tuple[subprocess.Popen[bytes], int]:
        directory = f"{self._place}/{name}"
        os.makedirs(directory)
        for _ in range(3):
            port = _free_port()
            words = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
            process = subprocess.Popen([*words, *_SETTINGS[name]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if _answers(process, port):
                return process, port
            _end(process)
        raise RuntimeError("redis-server does not start")

    def close(self) -> None:
        """End them."""
        for process, _ in self._running.values():
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
