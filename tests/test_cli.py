from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from breyta_spool import Spool
from tests.world import BREYTA, Cli, age_lease, end_process, everything_in, job_dir, script, until, work_off

UNKNOWN = "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R"


def test_create_show_claim_progress_complete_await(cli: Cli) -> None:
    job_id = cli("jobs", "create", "--type", "t", "--payload", '{"a": 1}', "--max-attempts", "2").job["jobId"]
    assert cli("jobs", "show", job_id).job["status"] == "queued"

    claimed = cli("jobs", "claim", "--type", "t", "--worker-id", "desk", "--label", "gpu=true").job
    assert (claimed["jobId"], claimed["payload"], claimed["workerLabels"]) == (job_id, {"a": 1}, {"gpu": True})
    token = claimed["leaseToken"]
    assert cli("jobs", "claim", "--type", "t").data["job"] is None

    assert cli("jobs", "heartbeat", job_id, "--lease-token", token).job["status"] == "leased"
    said = cli("jobs", "progress", job_id, "--lease-token", token, "--message", "half", "--metrics", '{"n": 5}').job
    assert said["status"] == "running"
    assert said["progress"]["message"] == "half"
    assert said["progress"]["metrics"] == {"n": 5}

    done = cli(
        "jobs", "complete", job_id, "--lease-token", token, "--status", "NO-CHANGES", "--summary", "same",
        "--outputs", '{"k": [1]}', "--artifacts", '{"label": "only one"}', "--worker-info", '{"tool": "x"}',
    ).job  # fmt: skip
    assert done["status"] == "no_changes"
    assert done["outputs"] == {"k": [1]}
    assert done["artifacts"] == [{"label": "only one"}]
    assert done["result"]["workerInfo"] == {"workerId": "desk", "tool": "x"}
    awaited = cli("jobs", "await", job_id)
    assert awaited.job == done
    assert awaited.stderr == ""


def test_the_envelope_is_one_json_document_with_the_workspace(cli: Cli) -> None:
    answer = cli("jobs", "list")
    assert answer.document == {
        "ok": True,
        "workspaceId": "ws-acme",
        "meta": {"outputView": "compact", "limit": 10},
        "data": {"items": []},
    }
    assert len(answer.stdout.splitlines()) == 1
    assert len(cli("jobs", "list", "--pretty").stdout.splitlines()) > 5
    assert len(cli("--pretty", "jobs", "list").stdout.splitlines()) > 5


def test_list_is_compact_unless_full(cli: Cli, spool: Spool) -> None:
    spool.submit("t", {"b": 1, "a": 2}, metadata={"m": 1})
    work_off(
        spool, lambda job: {"outputs": {"o": 1}, "metrics": {"ms": 2}, "artifacts": [{"label": "x"}], "summary": "s"}
    )
    (item,) = cli("jobs", "ls").data["items"]
    assert "payload" not in item
    assert "result" not in item
    assert item["payloadKeys"] == ["a", "b"]
    assert (item["metadataKeys"], item["outputKeys"], item["metricKeys"]) == (["m"], ["o"], ["ms"])
    assert (item["artifactCount"], item["attemptCount"], item["summary"]) == (1, 1, "s")
    (whole,) = cli("jobs", "list", "--full", "--status", "succeeded").data["items"]
    assert whole["payload"] == {"b": 1, "a": 2}


@pytest.mark.parametrize(
    ("handler", "code", "status"),
    [
        ("return", 0, "succeeded"),
        ("no_changes", 0, "no_changes"),
        ("failed", 5, "failed"),
        ("cancelled", 5, "cancelled"),
    ],
)
def test_await_says_by_its_exit_code_how_the_job_ended(
    cli: Cli, spool: Spool, handler: str, code: int, status: str
) -> None:
    job = spool.submit("t")
    work_off(spool, lambda job: None if handler == "return" else {"status": handler})
    answer = cli("jobs", "await", job.job_id)
    assert answer.code == code
    assert answer.document["ok"] is True
    assert answer.document["data"]["job"]["status"] == status


def test_await_that_reaches_its_bound_exits_with_4_and_shows_the_last_state(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t")
    answer = cli("jobs", "await", job.job_id, "--timeout", "30ms", "--interval", "10ms")
    assert answer.code == 4
    assert answer.error["code"] == "await_bound_reached"
    assert answer.error["details"]["job"]["status"] == "queued"
    assert "still queued" in answer.stderr


def test_cancel_says_what_it_did(cli: Cli, spool: Spool) -> None:
    waiting, running = spool.submit("t"), spool.submit("t2")
    assert spool.claim("t2", "w")
    answer = cli("jobs", "cancel", waiting.job_id, "--reason", "no longer needed")
    assert (answer.job["status"], answer.document["meta"]["cancel"]) == ("cancelled", "cancelled")
    assert "no longer needed" in answer.job["error"]["message"]
    answer = cli("jobs", "cancel", running.job_id)
    assert (answer.job["status"], answer.document["meta"]["cancel"]) == ("leased", "requested")
    assert cli("jobs", "cancel", waiting.job_id).document["meta"]["cancel"] == "cancelled"


def test_retry_and_fail(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t", {"n": 1})
    token = cli("jobs", "claim", "--type", "t").job["leaseToken"]
    failed = cli("jobs", "fail", job.job_id, "--lease-token", token, "--message", "bad input", "--code", "bad").job
    assert failed["status"] == "failed"
    assert failed["error"] == {"message": "bad input", "code": "bad", "details": {}}
    again = cli("jobs", "retry", job.job_id).job
    assert (again["retryOf"], again["payload"], again["status"]) == (job.job_id, {"n": 1}, "queued")


def test_a_lost_lease_exits_with_6(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    for args in (("heartbeat",), ("progress",), ("complete",), ("fail", "--message", "x")):
        answer = cli("jobs", args[0], job.job_id, "--lease-token", "0000", *args[1:])
        assert (answer.code, answer.error["code"]) == (6, "lease_lost")
    assert spool.get(job.job_id).status == "leased"


def test_the_spool_is_found_by_option_environment_url_or_directory(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    inside = os.path.join(spool.root, "jobs")
    bare = Cli(spool.root, Path(inside))
    del bare.environment["BREYTA_SPOOL"]
    assert bare("jobs", "list").data == {"items": []}

    outside = Cli(spool.root, tmp_path)
    del outside.environment["BREYTA_SPOOL"]
    answer = outside("jobs", "list")
    assert (answer.code, answer.error["code"]) == (3, "no_such_spool")
    assert "--spool" in answer.document["hint"]
    assert outside("jobs", "list", "--spool", spool.root).data == {"items": []}
    assert outside("--spool", spool.root, "jobs", "list").data == {"items": []}
    assert outside("jobs", "list", BREYTA_SPOOL=spool.root).data == {"items": []}
    assert outside("jobs", "list", BREYTA_API_URL=f"file://{spool.root}").data == {"items": []}
    refused = outside("jobs", "list", BREYTA_API_URL="https://flows.example")
    assert (refused.code, refused.error["code"]) == (2, "invalid_input")
    missing = outside("jobs", "list", "--spool", str(tmp_path / "none"))
    assert (missing.code, missing.error["code"]) == (3, "no_such_spool")
    assert "spool init" in missing.document["hint"]


def test_a_workspace_that_is_not_the_spools_is_refused(cli: Cli) -> None:
    assert cli("jobs", "list", "--workspace", "ws-acme").data == {"items": []}
    answer = cli("jobs", "create", "--type", "t", BREYTA_WORKSPACE="ws-other")
    assert (answer.code, answer.error["code"]) == (7, "not_allowed")


def test_init_and_info(tmp_path: Path) -> None:
    cli = Cli(str(tmp_path / "new"), tmp_path)
    made = cli("spool", "init", "new", "--workspace", "ws-1", "--durability", "none").data["spool"]
    assert (made["workspaceId"], made["durability"], made["formatVersion"]) == ("ws-1", "none", 2)
    assert cli("spool", "init", "new").error["code"] == "conflict"
    assert cli("spool", "init", "x", "--durability", "maybe").code == 2
    assert cli("spool", "init", "x", "--workspace", "a/b").code == 2
    assert cli("spool", "init", "x", "--group", "no-such-group").code == 2
    cli("jobs", "create", "--type", "t")
    cli("jobs", "create", "--type", "t")
    cli("jobs", "claim", "--type", "t")
    info = cli("spool", "info").data
    assert info["jobs"] == {"t": {"queued": 1, "leased": 1}}
    assert info["disk"]["freeInodes"] >= 0
    assert info["workers"] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give directories to any group")
def test_a_spool_can_be_shared_with_a_group(tmp_path: Path) -> None:
    cli = Cli(str(tmp_path / "s"), tmp_path)
    assert cli("spool", "init", "s", "--group", "daemon").data["spool"]["group"] == "daemon"
    cli("jobs", "create", "--type", "t")
    for path in (tmp_path / "s").rglob("*"):
        if not path.is_symlink() and path.name != "spool.json":
            assert path.group() == "daemon", path
            mode = path.stat().st_mode
            assert mode & 0o020, f"{path} is not writable for the group"
            assert not mode & 0o007, f"{path} is open to others"


def test_logs_prints_what_the_handler_wrote(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    handler = script(tmp_path, "echo to stdout; echo to stderr >&2\n")
    job = spool.submit("t")
    assert cli("jobs", "logs", job.job_id).stdout == ""
    assert cli("jobs", "worker", "run", "--type", "t", "--once", "--handler", handler).data["handledCount"] == 1
    answer = cli("jobs", "logs", job.job_id)
    assert (answer.code, answer.stdout) == (0, "to stdout\nto stderr\n")
    assert cli("jobs", "logs", job.job_id, "--attempt", "2").code == 3
    assert cli("jobs", "logs", UNKNOWN).code == 3


def test_logs_follow_until_the_job_has_ended(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    handler = script(tmp_path, f"echo one; while [ ! -e {go} ]; do sleep 0.05; done; echo two\n")
    job = spool.submit("t")
    follower = cli.start("jobs", "logs", job.job_id, "--follow")
    worker = cli.start("jobs", "worker", "run", "--type", "t", "--once", "--handler", handler)
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        go.touch()
        assert follower.stdout.read() == b"two\n"
        assert follower.wait(20) == 0
    finally:
        end_process(follower)
        end_process(worker)


def test_workers_list_shows_who_lives(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    handler = script(tmp_path, "true\n")
    worker = cli.start(
        "jobs", "worker", "run", "--type", "t", "--worker-id", "w-1", "--label", "rack=7", "--handler", handler
    )
    try:
        (found,) = until(lambda: cli("workers", "list").data["items"])
        assert (found["workerId"], found["jobType"], found["alive"], found["labels"]) == ("w-1", "t", True, {"rack": 7})
        assert cli("workers", "list", "--type", "other").data["items"] == []
        worker.kill()
        worker.wait()
        then = time.time() - 3600
        os.utime(f"{spool.root}/workers/w-1.json", (then, then))
        (found,) = cli("workers", "list").data["items"]
        assert found["alive"] is False
    finally:
        end_process(worker)


BAD_INPUT = [
    (("jobs", "create", "--type", "t", "--payload", "{"), 2, "invalid_input", "--payload is not valid JSON"),
    (("jobs", "create", "--type", "t", "--payload", "NaN"), 2, "invalid_input", "NaN"),
    (("jobs", "create", "--type", "t", "--payload", "[" * 100000), 2, "invalid_input", "nest"),
    (("jobs", "create", "--type", "t", "--payload", "1" * 5000), 2, "invalid_input", "JSON"),
    (("jobs", "create", "--type", "t", "--payload-file", "nowhere"), 2, "invalid_input", "nowhere"),
    (("jobs", "create", "--type", "t", "--payload", "1", "--payload-file", "x"), 2, "invalid_input", "exclude"),
    (("jobs", "create", "--type", "t", "--metadata", "[1]"), 2, "invalid_input", "must be a JSON object"),
    (("jobs", "create", "--type", "a/b"), 2, "invalid_input", "a/b"),
    (("jobs", "create", "--type", "x" * 300), 2, "invalid_input", "300 characters"),
    (("jobs", "create", "--type", ""), 2, "invalid_input", "jobType"),
    (("jobs", "create", "--type", "t", "--max-attempts", "0"), 2, "invalid_input", "maxAttempts"),
    (("jobs", "show", "../../etc/passwd"), 2, "invalid_input", "not a job id"),
    (("jobs", "show", UNKNOWN), 3, "not_found", "no such job"),
    (("jobs", "await", UNKNOWN), 3, "not_found", "no such job"),
    (("jobs", "await", UNKNOWN, "--timeout", "soon"), 2, "invalid_input", "timeout"),
    (("jobs", "await", UNKNOWN, "--backoff", '{"type": "random"}'), 2, "invalid_input", "backoff.type"),
    (("jobs", "await", UNKNOWN, "--max-attempts", "0"), 2, "invalid_input", "maxAttempts"),
    (("jobs", "cancel", UNKNOWN), 3, "not_found", "no such job"),
    (("jobs", "retry", UNKNOWN), 3, "not_found", "no such job"),
    (("jobs", "list", "--status", "done"), 2, "invalid_input", "allowed are queued, leased"),
    (("jobs", "list", "--type", "../x"), 2, "invalid_input", "jobType"),
    (("jobs", "claim", "--type", "t", "--worker-id", "a/b"), 2, "invalid_input", "workerId"),
    (("jobs", "claim", "--type", "t", "--lease-duration", "1ms"), 2, "invalid_input", "leaseDuration"),
    (("jobs", "claim", "--type", "t", "--label", "novalue"), 2, "invalid_input", "key=value"),
    (("jobs", "claim", "--type", "t", "--batch-id", "../.."), 2, "invalid_input", "batch"),
    (("jobs", "worker", "state"), 2, "invalid_input", "BREYTA_JOB_DIR"),
    (("jobs", "worker", "progress"), 2, "invalid_input", "inside a handler"),
    (("jobs", "worker", "finish"), 2, "invalid_input", "inside a handler"),
    (("jobs", "worker", "fail", "--message", "x"), 2, "invalid_input", "inside a handler"),
    (("jobs", "worker", "attach-file", "--file", "x"), 2, "invalid_input", "inside a handler"),
    (("jobs", "worker", "attach-kv", "--label", "x", "--value", "1"), 2, "invalid_input", "inside a handler"),
    (("jobs", "worker", "attach-table", "--label", "x", "--rows", "[]"), 2, "invalid_input", "inside a handler"),
    (("resources", "get", "../../etc/passwd"), 2, "invalid_input", "not the address of a resource"),
    (("resources", "read", f"res://v1/ws/ws-acme/file/{UNKNOWN}.1.x"), 3, "not_found", "no such job"),
    (("resources", "list", "--type", "blob"), 2, "invalid_input", "allowed are file, kv, table"),
    (("resources", "table", "schema", f"res://v1/ws/ws-acme/file/{UNKNOWN}.1.x"), 2, "invalid_input", "not a table"),
]


@pytest.mark.parametrize(("args", "code", "name", "says"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_gets_one_clear_error(cli: Cli, args: tuple[str, ...], code: int, name: str, says: str) -> None:
    before = everything_in(cli.spool)
    answer = cli(*args)
    assert (answer.code, answer.error["code"]) == (code, name)
    assert says in answer.error["message"]
    assert answer.stderr.startswith("error: ")
    assert "Traceback" not in answer.stderr
    assert everything_in(cli.spool) == before


USAGE = [
    (("jobs", "creat"), "Did you mean 'create'?"),
    (("jobs", "create"), "--type"),
    (("jobs", "list", "--limit", "0"), "--limit"),
    (("jobs", "worker", "run", "--type", "t"), "needs a handler"),
    (("jobs", "worker", "run", "--type", "t", "--handler", "./no-such-program"), "not a program"),
    (("jobs", "worker", "run", "--type", "t", "--handler", "bash -c true"), "after --"),
    (("jobs", "worker", "run", "--type", "t", "--handler", "true", "--", "false"), "not both"),
    (("jobs", "worker", "run", "--type", "t", "--handler", "true", "--concurrency", "0"), "--concurrency"),
]


@pytest.mark.parametrize(("args", "says"), USAGE, ids=lambda value: str(value)[:40])
def test_wrong_usage_goes_to_stderr_with_a_hint(cli: Cli, args: tuple[str, ...], says: str) -> None:
    answer = cli(*args)
    assert (answer.code, answer.stdout) == (2, "")
    assert says in answer.stderr
    assert "hint: 'breyta" in answer.stderr


def test_a_python_handler_that_cannot_be_loaded_is_refused(cli: Cli) -> None:
    for reference in ("py:nowhere:f", "py:os:no_such", "py:os", "py:os:path"):
        answer = cli("jobs", "worker", "run", "--type", "t", "--handler", reference)
        assert (answer.code, answer.error["code"]) == (2, "invalid_input")


def test_a_payload_may_come_from_a_file_or_stdin(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"from": "file"}')
    assert cli("jobs", "create", "--type", "t", "--payload-file", "p.json").job["payload"] == {"from": "file"}
    answer = cli("jobs", "create", "--type", "t", "--payload-file", "-", stdin=b'{"from": "stdin"}')
    assert answer.job["payload"] == {"from": "stdin"}
    assert cli("jobs", "create", "--type", "t", "--payload-file", "-", stdin=b"\xff\xfe").code == 2
    assert cli("jobs", "create", "--type", "t", "--payload", "null").job["payload"] is None
    assert cli("jobs", "create", "--type", "t").job["payload"] == {}


@pytest.mark.parametrize("damage", ["payload.json", "job.json"])
def test_a_damaged_job_is_said_to_be_damaged_and_set_aside_by_the_next_claim(
    cli: Cli, spool: Spool, damage: str
) -> None:
    job, healthy = spool.submit("t", {"a": 1}), spool.submit("t", {"a": 2})
    (job_dir(spool, job) / damage).write_text("{")
    answer = cli("jobs", "show", job.job_id)
    assert (answer.code, answer.error["code"]) == (1, "damaged")
    assert damage in answer.error["message"]
    assert cli("jobs", "claim", "--type", "t").job["jobId"] == healthy.job_id
    answer = cli("jobs", "show", job.job_id)
    assert (answer.code, answer.error["code"]) == (1, "damaged")
    kept = Path(answer.error["details"]["path"])
    assert (kept / damage).read_text() == "{"
    assert damage in Path(f"{kept}.why.txt").read_text()
    assert [item["jobId"] for item in cli("jobs", "list").data["items"]] == [healthy.job_id]


def test_the_program_leaves_at_once_unless_somebody_waits_for_the_end(cli: Cli, spool: Spool) -> None:
    spool.submit("t", {"long": "x" * 200_000})
    for registered, end in (("", ""), ("atexit.register(print, 'the end')", "the end\n")):
        program = f"import atexit, sys; from breyta_cli.main import main\n{registered}\nsys.argv[1:] = ['jobs', 'list', '--full']\nmain()"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=spool.root, capture_output=True, text=True, check=True
        )
        answer, newline, rest = done.stdout.partition("\n")
        assert (len(json.loads(answer)["data"]["items"]), newline, rest) == (1, "\n", end)
        assert done.stderr == ""


def test_every_command_has_help_with_an_example() -> None:
    import click

    from breyta_cli.program import breyta

    def visit(command: click.Command, words: list[str]) -> int:
        context = click.Context(command, info_name=words[-1])
        assert "Example:" in (command.help or ""), words
        if not isinstance(command, click.Group):
            return 1
        return sum(visit(command.get_command(context, name), [*words, name]) for name in command.list_commands(context))  # type: ignore[arg-type]

    assert visit(breyta, ["breyta"]) == 45


class Terminal:
    """The far end of a pseudo-terminal: everything that was shown on it so far."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.text = ""

    def shown(self) -> str:
        while select.select([self._fd], [], [], 0.05)[0]:
            self.text += os.read(self._fd, 65536).decode(errors="replace")
        return self.text


def test_await_on_a_terminal_shows_what_it_waits_for_and_stdout_stays_json(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*BREYTA, "jobs", "await", job.job_id, "--timeout", "20s"],
        stdout=subprocess.PIPE, stderr=slave, env=cli.environment | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    try:
        terminal = Terminal(master)
        until(lambda: "no live worker for type t" in terminal.shown())
        lease = spool.claim("t", "w")
        assert lease is not None
        lease.progress("reviewing \x1b[31mred\x1b[0m")
        until(lambda: "running" in terminal.shown() and "reviewing" in terminal.text)
        assert "\x1b[31m" not in terminal.text, "what a handler reports must not reach the terminal as control codes"
        lease.complete()
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["data"]["job"]["status"] == "succeeded"
        assert process.wait(20) == 0
    finally:
        end_process(process)
        os.close(master)


def test_a_reader_that_goes_away_is_no_error(cli: Cli, spool: Spool) -> None:
    for _ in range(50):
        spool.submit("t", {"n": "x" * 5000})
    command = f"{sys.executable} -m breyta_cli jobs list --full --limit 50 | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=cli.environment, check=False)
    assert done.stderr == b""
    assert done.stdout == b'{"ok": tru'
    assert done.returncode == 141


def test_an_expired_job_is_offered_again_by_a_claim_from_the_command_line(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t")
    cli("jobs", "claim", "--type", "t", "--lease-duration", "1s")
    age_lease(spool, job)
    assert cli("jobs", "claim", "--type", "t").job["attempt"] == 2


def test_what_a_python_handler_prints_does_not_spoil_the_answer(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("def f(job):\n    print('hello')\n")
    spool.submit("t")
    answer = cli("jobs", "worker", "run", "--type", "t", "--once", "--handler", "py:loud:f")
    assert answer.data["handledCount"] == 1
    assert "hello" in answer.stderr


def test_a_spool_cannot_be_made_where_no_directory_can(tmp_path: Path) -> None:
    cli = Cli(str(tmp_path), tmp_path)
    for place in ("/proc/x", "/dev/null/x"):
        answer = cli("spool", "init", place)
        assert (answer.code, answer.error["code"]) == (1, "storage_error")
    assert cli("spool", "init", "").code == 2


def test_a_directory_that_lost_its_spool_json_is_not_made_anew(cli: Cli, spool: Spool) -> None:
    spool.submit("t")
    os.unlink(f"{spool.root}/spool.json")
    answer = cli("spool", "init", spool.root)
    assert (answer.code, answer.error["code"]) == (1, "conflict")
    assert "backup" in answer.document["hint"]
    answer = cli("jobs", "list")
    assert (answer.code, answer.error["code"]) == (3, "no_such_spool")
    assert "backup" in answer.document["hint"]


def test_a_spool_that_went_away_is_not_taken_for_an_empty_queue(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t")
    worker = cli.start("jobs", "worker", "run", "--type", "u", "--handler", "true", "--poll-interval", "50ms")
    awaiter = cli.start("jobs", "await", job.job_id, "--interval", "50ms")
    try:
        until(lambda: spool.workers())
        time.sleep(0.5)
        os.rename(spool.root, spool.root + ".unmounted")
        out, _ = awaiter.communicate(timeout=20)
        assert awaiter.returncode == 3
        assert json.loads(out)["error"]["code"] == "no_such_spool"
        time.sleep(0.5)
        worker.terminate()
        _, log = worker.communicate(timeout=20)
        assert b"is gone" in log
        assert not os.path.exists(spool.root)
    finally:
        end_process(worker)
        end_process(awaiter)


def test_a_worker_that_cannot_claim_says_so_by_its_exit_code_when_asked_once(cli: Cli, spool: Spool) -> None:
    spool.submit("t")
    shutil.rmtree(f"{spool.root}/leased")
    Path(spool.root, "leased").touch()
    answer = cli("jobs", "worker", "run", "--type", "t", "--handler", "true", "--once")
    assert (answer.code, answer.error["code"]) == (1, "storage_error")
    assert spool.get(spool.list()[0].job_id).attempt == 0


def test_a_full_standard_output_is_one_error_on_stderr(cli: Cli, spool: Spool) -> None:
    spool.submit("t")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*BREYTA, "jobs", "list"], stdout=full, stderr=subprocess.PIPE, env=cli.environment, check=False
        )
    assert done.returncode == 1
    assert b"the disk is full" in done.stderr
    assert b"Traceback" not in done.stderr


def test_global_options_are_those_of_this_program_not_of_the_handler(cli: Cli, spool: Spool) -> None:
    spool.submit("t")
    answer = cli("jobs", "worker", "run", "--type", "t", "--once", "--", "true", "--pretty", "--spool", "/nowhere")
    assert answer.data["handledCount"] == 1
    assert len(answer.stdout.splitlines()) == 1
    assert cli("jobs", "list", "--spool", "").code == 2


def test_damaged_jobs_are_named_in_a_list_and_counted_in_the_overview(cli: Cli, spool: Spool) -> None:
    job = spool.submit("t")
    (job_dir(spool, job) / "job.json").write_text("{")
    assert cli("jobs", "list").document["meta"]["damaged"] == [job.job_id]
    cli("jobs", "claim", "--type", "t")
    assert cli("spool", "info").data["setAside"] == [job.job_id]


def test_a_job_worked_on_by_hand_has_a_start(cli: Cli, spool: Spool) -> None:
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    lease.progress("begun")
    done = lease.complete()
    assert done.started_at == done.attempts[0].started_at is not None
    assert done.created_at <= done.attempts[0].claimed_at <= done.started_at <= done.completed_at
    assert done.attempts[0].claimed_at <= done.last_heartbeat_at


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_error_and_nothing_of_the_spool_takes_its_place(
    cli: Cli, spool: Spool, closed: str
) -> None:
    job = spool.submit("t")
    line = f"{sys.executable} -m breyta_cli jobs cancel {job.job_id} {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=cli.environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert spool.get(job.job_id).status == "cancelled"
