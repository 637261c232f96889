"""Other queues for Python, each by its documented interface, doing the same work: submit, and claim and finish.

All are optional: what cannot be imported or started is not measured. A payload is JSON text; what a job leaves is
``RESULT`` where the queue carries results at all.

``python -m tests.bench.peers PORT QUEUE`` is a worker of rq.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from tests.bench.product import PAYLOAD
from tests.bench.servers import Servers
from tests.command import REPOSITORY

TEXT = json.dumps(PAYLOAD)
RESULT = json.dumps({"status": "succeeded", "summary": "handler exited successfully", "workerInfo": "w" * 180})


class Peer:
    """One queue in one directory. Where ``threads`` is not set, each thread needs a Peer of its own."""

    threads = True
    share = 1.0
    """How many of the jobs it is given: less where it is slow, so that no run takes long."""

    def submit(self) -> None:
        """Submit a job."""
        raise NotImplementedError

    def work(self) -> bool:
        """Claim a job and finish it; whether there was one."""
        raise NotImplementedError

    def submit_many(self, jobs: int) -> float:
        """Submit jobs one after the other; gives jobs a second."""
        began = perf_counter()
        for _ in range(jobs):
            self.submit()
        return jobs / (perf_counter() - began)

    def drain(self, jobs: int) -> float:
        """Claim and finish jobs; gives jobs a second."""
        began = perf_counter()
        for _ in range(jobs):
            if not self.work():
                raise RuntimeError("it lost a job")
        return jobs / (perf_counter() - began)

    def close(self) -> None:
        """Let go of what is open."""


class Dirq(Peer):
    """A directory a job, a file a field."""

    def __init__(self, directory: str, servers: Servers) -> None:
        from dirq.queue import Queue

        self._queue = Queue(directory, schema={"job": "string", "payload": "string"})

    def submit(self) -> None:
        self._queue.add({"job": TEXT, "payload": TEXT})


class Kombu(Peer):
    """Files, by kombu's transport for a file system."""

    def __init__(self, directory: str, servers: Servers) -> None:
        from kombu import Connection

        folders = {"data_folder_in": "data", "data_folder_out": "data", "control_folder": "control"}
        options = {option: f"{directory}/{folder}" for option, folder in folders.items()}
        for path in options.values():
            os.makedirs(path, exist_ok=True)
        self._connection = Connection("filesystem://", transport_options=options)
        # A name for each directory: kombu remembers names, and drops what is published to one it has seen elsewhere.
        self._queue = self._connection.SimpleQueue(f"jobs-{uuid.uuid4().hex}", serializer="json")

    def submit(self) -> None:
        self._queue.put(TEXT)

    def work(self) -> bool:
        try:
            message = self._queue.get_nowait()
        except self._queue.Empty:
            return False
        message.ack()
        return True

    def close(self) -> None:
        self._queue.close()
        self._connection.close()


class _Huey(Peer):
    _storage: Any

    def submit(self) -> None:
        self._storage.enqueue((uuid.uuid4().hex + TEXT).encode())

    def work(self) -> bool:
        data = self._storage.dequeue()
        if data is None:
            return False
        self._storage.put_data(bytes(data)[:32].decode(), RESULT.encode(), is_result=True)
        return True

    def close(self) -> None:
        self._storage.close()


class HueyFiles(_Huey):
    """The storage of huey that keeps files."""

    def __init__(self, directory: str, servers: Servers) -> None:
        from huey import FileHuey

        os.makedirs(directory, exist_ok=True)
        self._storage = FileHuey("bench", path=directory).storage


class HueySqlite(_Huey):
    """The storage of huey in SQLite, with an fsync for each commit. Its threads share one connection, in turns."""

    def __init__(self, directory: str, servers: Servers) -> None:
        from huey import SqliteHuey

        os.makedirs(directory, exist_ok=True)
        self._storage = SqliteHuey("bench", filename=f"{directory}/huey.db", fsync=True, timeout=60).storage


class PersistQueue(Peer):
    """SQLite at FULL, which is its default. It has no finish: who takes a job has deleted it."""

    def __init__(self, directory: str, servers: Servers) -> None:
        import persistqueue

        self._empty = persistqueue.Empty
        self._queue = persistqueue.SQLiteQueue(directory, multithreading=True, timeout=60)

    def submit(self) -> None:
        self._queue.put(TEXT)

    def work(self) -> bool:
        try:
            self._queue.get(block=False)
        except self._empty:
            return False
        return True

    def close(self) -> None:
        self._queue.close()


class LiteQueue(Peer):
    """SQLite, set to FULL: its default would not survive a power cut. A connection cannot be shared by threads."""

    threads = False

    def __init__(self, directory: str, servers: Servers) -> None:
        import litequeue

        os.makedirs(directory, exist_ok=True)
        self._queue = litequeue.LiteQueue(f"{directory}/lite.db", timeout=60)
        self._queue.conn.execute("PRAGMA synchronous=FULL")

    def submit(self) -> None:
        self._queue.put(TEXT)

    def work(self) -> bool:
        message = self._queue.pop()
        if message is None:
            return False
        self._queue.done(message.message_id)
        return True

    def close(self) -> None:
        self._queue.close()


class Redis(Peer):
    """LPUSH; BLMOVE to a list of what is running; LREM from it and LPUSH of the reply in one transaction."""

    server = "redis"

    def __init__(self, directory: str, servers: Servers) -> None:
        import redis

        self._redis = redis.Redis(port=servers.port(self.server), decode_responses=True)
        self._key = os.path.basename(directory)

    def submit(self) -> None:
        self._redis.lpush(self._key, uuid.uuid4().hex + TEXT)

    def work(self) -> bool:
        job = self._redis.blmove(self._key, f"{self._key}:running", 0.01, "RIGHT", "LEFT")
        if job is None:
            return False
        with self._redis.pipeline(transaction=True) as both:
            both.lrem(f"{self._key}:running", 1, job)
            both.lpush(f"{self._key}:reply:{job[:32]}", RESULT)
            both.execute()
        return True

    def close(self) -> None:
        self._redis.close()


class RedisAlways(Redis):
    """The same, with an append-only file that is synced before each answer."""

    server = "redis-always"


_marks: list[float] = []


def handle_for_rq(payload: str) -> str:
    """The job of rq."""
    _marks.append(perf_counter())
    return RESULT


class Rq(Peer):
    """rq's own interface, with the worker that handles jobs in its own process."""

    share = 0.2

    def __init__(self, directory: str, servers: Servers) -> None:
        self._queue, self._worker = _rq(servers.port("redis"), os.path.basename(directory))

    def submit(self) -> None:
        self._queue.enqueue(handle_for_rq, TEXT)

    def drain(self, jobs: int) -> float:
        _marks.clear()
        self._worker().work(burst=True, max_jobs=jobs, logging_level="CRITICAL")
        if len(_marks) != jobs:
            raise RuntimeError("it lost a job")
        return (jobs - 1) / (_marks[-1] - _marks[0])

    def trip(self) -> float:
        """Submit a job and wait for its result; gives the seconds."""
        began = perf_counter()
        result = self._queue.enqueue(handle_for_rq, TEXT).latest_result(timeout=30)
        spent = perf_counter() - began
        if result is None or result.return_value != RESULT:
            raise RuntimeError("no result came")
        return spent

    @contextmanager
    def serving(self, servers: Servers) -> Iterator[None]:
        """A worker in a process of its own."""
        words = [str(servers.port("redis")), self._queue.name]
        with subprocess.Popen([sys.executable, "-m", "tests.bench.peers", *words], cwd=REPOSITORY) as process:
            try:
                self.trip()  # it is there when it has answered
                yield
            finally:
                process.kill()


def _rq(port: int, name: str) -> tuple[Any, Callable[[], Any]]:
    import logging

    import redis
    import rq

    logging.getLogger("rq").setLevel(logging.CRITICAL)
    logging.getLogger("rq.worker").setLevel(logging.CRITICAL)
    connection = redis.Redis(port=port)
    queue = rq.Queue(name, connection=connection)

    def worker() -> Any:
        made = rq.SimpleWorker([queue], connection=connection)
        made.log_job_description = False
        return made

    return queue, worker


PEERS: Mapping[str, Callable[[str, Servers], Peer]] = {
    "dirq": Dirq,
    "kombu files": Kombu,
    "huey files": HueyFiles,
    "redis": Redis,
    "redis, AOF always": RedisAlways,
    "rq": Rq,
    "persist-queue SQLite": PersistQueue,
    "litequeue FULL": LiteQueue,
    "huey SQLite": HueySqlite,
}
SQLITE = ("persist-queue SQLite", "litequeue FULL", "huey SQLite")


def opened(names: tuple[str, ...], place: str, servers: Servers) -> tuple[dict[str, Peer], dict[str, Exception]]:
    """Each by its name, in a directory of its own below ``place``; of those that cannot be opened, why."""
    found: dict[str, Peer] = {}
    missing: dict[str, Exception] = {}
    for name in names:
        try:
            found[name] = PEERS[name](f"{place}-{name.replace(' ', '-').replace(',', '')}", servers)
        except Exception as error:
            missing[name] = error
    return found, missing


if __name__ == "__main__":
    _rq(int(sys.argv[1]), sys.argv[2])[1]().work(logging_level="CRITICAL")
