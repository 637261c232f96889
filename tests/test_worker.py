from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.world import Cli, end_process, job_dir, script, until, work_off

REVIEW = """
surface="$(python3 -c 'import json, os; print(json.load(open(os.environ["BREYTA_JOB_PAYLOAD_FILE"]))["surface"])')"
report="$BREYTA_JOB_DIR/report.md"
echo "# $surface" >"$report"
breyta jobs worker progress --status running --message "Reviewing $surface" --metric done=1 --detail step=a
report_uri="$(breyta jobs worker attach-file --file "$report" --label review-report --kind report --print-uri)"
summary_uri="$(breyta jobs worker attach-kv --label summary --key review-summary \\
  --field finding-count=1 --field severity=high --print-uri)"
echo '[{"finding_id": "F1", "severity": "high"}, {"finding_id": "F2", "severity": "low"}]' >"$BREYTA_JOB_DIR/rows.json"
findings_uri="$(breyta jobs worker attach-table --label findings --table security-findings \\
  --rows-file "$BREYTA_JOB_DIR/rows.json" --write-mode upsert --key-field finding_id --index-field severity --print-uri)"
breyta jobs worker state >"$STATE"
breyta jobs worker finish --summary "Reviewed $surface" --output "surface=$surface" --output finding-count=1 \\
  --output "report-resource-uri=$report_uri" --output "summary-resource-uri=$summary_uri" \\
  --output "findings-table-uri=$findings_uri" --metric ms=12
"""


def run_once(cli: Cli, *args: str, **environment: str) -> dict[str, Any]:
    return cli("jobs", "worker", "run", "--type", "t", "--once", *args, **environment).data


def test_a_bash_handler_uses_every_helper_and_its_result_is_the_jobs(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t", {"surface": "flows api"})
    answer = run_once(cli, "--handler", script(tmp_path, REVIEW), STATE=str(tmp_path / "state.json"))
    assert (answer["handledCount"], answer["failedCount"], answer["once"]) == (1, 0, True)
    done = spool.get(job.job_id).to_map()
    assert answer["lastJob"] == done
    assert (done["status"], done["resultSummary"]) == ("succeeded", "Reviewed flows api")
    prefix = "res://v1/ws/ws-acme"
    at = f"{job.job_id}.1"
    assert done["outputs"] == {
        "surface": "flows api",
        "finding-count": 1,
        "report-resource-uri": f"{prefix}/file/{at}.report.md",
        "summary-resource-uri": f"{prefix}/result/kv/{at}.review-summary",
        "findings-table-uri": f"{prefix}/result/table/{at}.security-findings",
    }
    assert done["metrics"] == {"ms": 12}
    assert done["progress"]["message"] == "Reviewing flows api"
    assert (done["progress"]["metrics"], done["progress"]["details"]) == ({"done": 1}, {"step": "a"})
    file, value, table = done["artifacts"]
    assert (file["kind"], file["label"], file["contentType"], file["filename"], file["sizeBytes"]) == (
        "report", "review-report", "text/markdown", "report.md", 12,
    )  # fmt: skip
    assert (value["kind"], value["label"], value["key"]) == ("kv", "summary", f"job:{job.job_id}:review-summary")
    assert (table["tableName"], table["rowCount"], table["rowsWritten"]) == (
        f"job-{job.job_id}-security-findings",
        2,
        2,
    )
    assert (table["keyFields"], table["indexFields"], table["writeMode"]) == (["finding_id"], ["severity"], "upsert")

    directory = job_dir(spool, job)
    assert (directory / "artifacts" / "report.md").read_text() == "# flows api\n"
    rows = [
        json.loads(line) for line in (directory / "artifacts/tables/security-findings.jsonl").read_text().splitlines()
    ]
    assert rows == [{"finding_id": "F1", "severity": "high"}, {"finding_id": "F2", "severity": "low"}]
    assert json.loads((directory / "artifacts/kv/review-summary.json").read_text())["value"] == {
        "finding-count": 1,
        "severity": "high",
    }
    assert json.loads((directory / "result.json").read_text())["outputs"] == done["outputs"]
    assert not (directory / "attempt-1" / "work").exists()

    state = json.loads((tmp_path / "state.json").read_text())["data"]
    assert state["payload"] == {"surface": "flows api"}
    assert state["context"]["leaseToken"] == "[redacted]"


def test_the_handler_gets_every_variable_of_the_contract(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t", [1], root_workflow_id="wf", parent_step_id="st", fanout_max_concurrency=4)
    names = [
        "WORKER_ID",
        "JOB_DIR",
        "JOB_FILE",
        "JOB_PAYLOAD_FILE",
        "JOB_RESULT_FILE",
        "JOB_CONTEXT_FILE",
        "JOB_ID",
        "JOB_TYPE",
        "JOB_BATCH_ID",
        "JOB_ATTEMPT",
        "JOB_WORKSPACE_ID",
        "JOB_ROOT_WORKFLOW_ID",
        "JOB_PARENT_STEP_ID",
        "JOB_FANOUT_PARENT_STEP_ID",
        "JOB_FANOUT_MAX_CONCURRENCY",
        "CLI_BIN",
        "API_URL",
        "WORKSPACE",
        "API_KEY",
    ]
    text = "".join(f'echo "{name}=${{BREYTA_{name}-unset}}"\n' for name in names)
    text += 'echo "PATH=$PATH"; echo "OWN=$OWN"; ls "$BREYTA_JOB_DIR"; stat -c %a "$BREYTA_JOB_CONTEXT_FILE"\n'
    args = ("--handler", script(tmp_path, text), "--worker-id", "w1", "--keep-job-dirs")
    account = spool.accounts.create("worker", ["jobs.worker"])
    _, key = spool.accounts.create_key(account.service_account_id)
    answer = run_once(cli, *args, "--api-key", key, OWN="passed")
    log = (job_dir(spool, job) / "attempt-1/handler.log").read_text()
    said = dict(line.split("=", 1) for line in log.splitlines() if "=" in line)
    work = f"{spool.tree.job(job.job_id)}/attempt-1/work"
    assert answer["lastJobDir"] == work
    assert said["WORKER_ID"] == "w1"
    assert (said["JOB_DIR"], said["JOB_FILE"], said["JOB_PAYLOAD_FILE"]) == (
        work,
        f"{work}/job.json",
        f"{work}/payload.json",
    )
    assert (said["JOB_ID"], said["JOB_TYPE"], said["JOB_ATTEMPT"], said["JOB_WORKSPACE_ID"]) == (
        job.job_id,
        "t",
        "1",
        "ws-acme",
    )
    assert (said["JOB_ROOT_WORKFLOW_ID"], said["JOB_PARENT_STEP_ID"], said["JOB_BATCH_ID"]) == ("wf", "st", "")
    assert (said["JOB_FANOUT_PARENT_STEP_ID"], said["JOB_FANOUT_MAX_CONCURRENCY"]) == ("", "4")
    assert (said["API_URL"], said["WORKSPACE"], said["API_KEY"]) == (f"file://{spool.root}", "ws-acme", key)
    assert said["PATH"].split(":")[0] == os.path.dirname(said["CLI_BIN"])
    assert os.access(said["CLI_BIN"], os.X_OK)
    assert said["OWN"] == "passed"
    assert log.splitlines()[-4:] == ["job.json", "payload.json", "worker-context.json", "600"]
    assert "secret-1" not in "".join(p.read_text() for p in job_dir(spool, job).rglob("*.json"))
    assert json.loads(Path(f"{work}/payload.json").read_text()) == [1]


RESULTS = [
    ("exit 0", "succeeded", "handler exited successfully", None),
    ("echo '{}' >\"$R\"", "succeeded", "", None),
    ('echo \'{"status": "NO-CHANGES", "summary": "s"}\' >"$R"', "no_changes", "s", None),
    ('echo \'{"status": "cancelled", "summary": "stop"}\' >"$R"', "cancelled", "stop", "cancelled"),
    ('echo \'{"status": "failed", "message": "m", "code": "c"}\' >"$R"', "failed", "m", "c"),
    ('echo \'{"status": "timed_out", "message": "m"}\' >"$R"', "failed", "m", "timed_out"),
    ("echo '{' >\"$R\"", "failed", "not valid JSON", "invalid_result"),
    ("echo '[]' >\"$R\"", "failed", "must be a JSON object", "invalid_result"),
    (': >"$R"', "failed", "is empty, not JSON", "invalid_result"),
    ('echo \'{"status": "great"}\' >"$R"', "failed", "unknown status 'great'", "invalid_result"),
    ('echo \'{"outputs": [1]}\' >"$R"', "failed", "outputs must be an object", "invalid_result"),
    ('mkdir "$R"', "failed", "not a regular file", "invalid_result"),
    ('ln -s /etc/passwd "$R"', "failed", "is a symbolic link", "invalid_result"),
    ("exit 7", "failed", "handler exited with status 7", "handler_failed"),
    ('echo \'{"message": "m", "code": "c"}\' >"$R"; exit 7', "failed", "m", "c"),
    ("echo '{' >\"$R\"; exit 7", "failed", "handler exited with status 7", "handler_failed"),
    ("kill -KILL $$", "failed", "handler was killed by SIGKILL", "handler_failed"),
    ("breyta jobs worker fail --message 'no such' --code gone --detail n=1; exit 0", "failed", "no such", "gone"),
    ("breyta jobs worker fail --message 'no such' --code gone; exit 3", "failed", "no such", "gone"),
]


@pytest.mark.parametrize(("text", "status", "says", "code"), RESULTS, ids=[row[0][:40] for row in RESULTS])
def test_the_result_rules(
    cli: Cli, spool: Spool, tmp_path: Path, text: str, status: str, says: str, code: str | None
) -> None:
    job = spool.submit("t")
    answer = run_once(cli, "--handler", script(tmp_path, 'R="$BREYTA_JOB_RESULT_FILE"\n' + text + "\n"))
    done = spool.get(job.job_id)
    assert done.status == status
    assert says in (done.result_summary or "")
    assert (done.error.code if done.error else None) == code
    assert (answer["handledCount"], answer["failedCount"]) == (1, int(status == "failed"))
    if text == "exit 7":
        assert done.error is not None
        assert done.error.details == {"exitCode": 7}


def test_a_file_attached_before_a_crash_stands_in_the_jobs_artifacts(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    text = 'echo data >"$BREYTA_JOB_DIR/f.txt"\nbreyta jobs worker attach-file --file "$BREYTA_JOB_DIR/f.txt"\nkill -KILL $$\n'
    run_once(cli, "--handler", script(tmp_path, text))
    done = spool.get(job.job_id)
    assert done.status == "failed"
    assert [a["label"] for a in done.artifacts] == ["f.txt"]  # type: ignore[index,call-overload]
    assert (job_dir(spool, job) / "artifacts/f.txt").read_text() == "data\n"


def test_a_handler_that_cannot_start_fails_the_job(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    handler = tmp_path / "h"
    handler.write_text("#!/no/such/interpreter\n")
    handler.chmod(0o755)
    run_once(cli, "--handler", str(handler))
    done = spool.get(job.job_id)
    assert done.error is not None
    assert (done.status, done.error.code) == ("failed", "handler_start_failed")


def test_handler_arguments_and_the_handler_after_two_dashes(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    handler = script(tmp_path, 'printf "<%s>" "$@"\n')
    first, second = spool.submit("t"), spool.submit("t")
    run_once(cli, "--handler", handler, "--handler-arg", "a b", "--handler-arg", "--c")
    run_once(cli, "--", handler, "--once", "$HOME; x")
    assert cli("jobs", "logs", first.job_id).stdout == "<a b><--c>"
    assert cli("jobs", "logs", second.job_id).stdout == "<--once><$HOME; x>"


def test_a_handler_without_output_leaves_no_log(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    run_once(cli, "--handler", script(tmp_path, "true\n"))
    assert sorted(os.listdir(job_dir(spool, job) / "attempt-1")) == ["progress.jsonl"]


def test_the_worker_reports_that_it_started_the_handler(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    run_once(cli, "--handler", script(tmp_path, "sleep 0.01\n"))
    done = spool.get(job.job_id)
    assert done.progress is not None
    assert (done.progress.status, done.progress.message) == ("started", "started handler handler.sh")
    assert done.started_at == done.progress.updated_at


def test_once_with_an_empty_queue_ends_at_once(cli: Cli) -> None:
    answer = run_once(cli, "--handler", "true")
    assert (answer["handledCount"], answer["idlePolls"], answer["lastJob"], answer["lastJobDir"]) == (0, 1, None, None)


def test_an_idle_worker_starts_a_new_job_at_once_not_at_the_next_poll(spool: Spool) -> None:
    started = threading.Event()
    worker = Worker(spool, PythonHandler(lambda job: started.set(), "f", spool.root), Settings("t", poll=60))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: worker.tally.idle_polls)
        spool.submit("t")
        assert started.wait(10)
    finally:
        worker.stop()
        thread.join(10)
    assert not thread.is_alive()


def test_an_idle_worker_that_no_event_reaches_finds_a_job_by_polling(spool: Spool) -> None:
    worker = Worker(spool, PythonHandler(lambda job: None, "f", spool.root), Settings("t", poll=0.05))
    worker._wake.watch = lambda *args, **kwargs: False  # type: ignore[method-assign]  # as on NFS
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: worker.tally.idle_polls)
        job = spool.submit("t")
        until(lambda: spool.get(job.job_id).is_terminal)
    finally:
        worker.stop()
        thread.join(10)


def test_slots_work_side_by_side(spool: Spool) -> None:
    together = threading.Barrier(4, timeout=20)
    for _ in range(8):
        spool.submit("t")
    handler = PythonHandler(lambda job: (together.wait(), None)[1], "f", spool.root)
    worker = Worker(spool, handler, Settings("t", concurrency=4, poll=0.05))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: worker.tally.handled == 8)
    finally:
        worker.stop()
        thread.join(10)
    assert worker.tally.failed == 0


def start_sleeper(cli: Cli, tmp_path: Path, text: str, *args: str) -> subprocess.Popen[bytes]:
    handler = script(tmp_path, text)
    return cli.start("jobs", "worker", "run", "--type", "t", "--handler", handler, "--poll-interval", "100ms", *args)


def pid_in(path: Path) -> int:
    return int(until(lambda: path.exists() and path.read_text().strip()))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it goes between open and read
        return True


CHILD = "sleep 300 & echo $! >{pid}; wait\n"


def test_a_cancelled_job_ends_its_whole_process_group(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    worker = start_sleeper(cli, tmp_path, CHILD.format(pid=tmp_path / "pid"))
    try:
        child = pid_in(tmp_path / "pid")
        assert cli("jobs", "cancel", job.job_id, "--reason", "enough").document["meta"]["cancel"] == "requested"
        done = until(lambda: (j := spool.get(job.job_id)).is_terminal and j)
        assert done.status == "cancelled"
        assert done.error.message.endswith(": enough")
        assert until(lambda: gone(child))
        worker.terminate()
        assert worker.wait(20) == 0
    finally:
        end_process(worker)


def test_a_handler_over_its_timeout_is_stopped_and_what_ignores_sigterm_is_killed(
    cli: Cli, spool: Spool, tmp_path: Path
) -> None:
    job = spool.submit("t")
    text = f"trap '' TERM; echo $$ >{tmp_path / 'pid'}; while true; do sleep 0.1 || true; done\n"
    worker = start_sleeper(cli, tmp_path, text, "--timeout", "300ms", "--grace", "200ms")
    try:
        handler = pid_in(tmp_path / "pid")
        done = until(lambda: (j := spool.get(job.job_id)).is_terminal and j)
        assert done.status == "failed"
        assert done.error.code == "handler_timeout"
        assert until(lambda: gone(handler))
    finally:
        end_process(worker)


def test_sigterm_lets_the_running_job_finish_and_claims_no_other(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running, waiting = spool.submit("t"), spool.submit("t")
    worker = start_sleeper(cli, tmp_path, f"echo $$ >{tmp_path / 'pid'}; while [ ! -e {go} ]; do sleep 0.02; done\n")
    try:
        pid_in(tmp_path / "pid")
        worker.terminate()
        time.sleep(0.3)
        assert worker.poll() is None
        go.touch()
        out, _ = worker.communicate(timeout=20)
        assert worker.returncode == 0
        assert json.loads(out)["data"]["handledCount"] == 1
        assert (spool.get(running.job_id).status, spool.get(waiting.job_id).status) == ("succeeded", "queued")
        assert spool.workers() == []
    finally:
        end_process(worker)


def test_a_second_signal_stops_the_handlers_and_gives_the_leases_back(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    worker = start_sleeper(cli, tmp_path, CHILD.format(pid=tmp_path / "pid"))
    try:
        child = pid_in(tmp_path / "pid")
        worker.send_signal(signal.SIGINT)
        time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        out, _ = worker.communicate(timeout=20)
        assert json.loads(out)["data"]["givenBackCount"] == 1
        back = spool.get(job.job_id)
        assert (back.status, back.attempt) == ("queued", 1)
        assert until(lambda: gone(child))
        assert work_off(spool).handled == 1
    finally:
        end_process(worker)


def test_what_a_handler_leaves_running_is_ended_with_it(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    spool.submit("t")
    run_once(cli, "--handler", script(tmp_path, f"sleep 300 & echo $! >{tmp_path / 'pid'}\n"))
    assert until(lambda: gone(pid_in(tmp_path / "pid")))


def test_a_handler_is_stopped_when_its_lease_is_lost(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    job = spool.submit("t")
    worker = start_sleeper(cli, tmp_path, CHILD.format(pid=tmp_path / "pid"), "--lease-duration", "4s")
    try:
        child = pid_in(tmp_path / "pid")
        (status,) = job_dir(spool, job).glob("status.leased.*")
        status.rename(status.with_name("status.queued.1"))  # what a reaper does
        until(lambda: gone(child))
        until(lambda: spool.get(job.job_id).attempt == 2)  # and the same worker takes it again
        for _ in range(2):
            worker.terminate()
            time.sleep(0.1)
        worker.communicate(timeout=20)
        assert not (job_dir(spool, job) / "result.1.json").exists()
    finally:
        end_process(worker)


def test_a_python_handler_runs_in_the_worker_and_makes_no_job_directory(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def review(job):\n"
        "    job.progress('half', metrics={'n': 1})\n"
        "    job.attach_kv('summary', {'n': job.payload['n']})\n"
        "    return {'outputs': {'n': job.payload['n'] + 1}, 'summary': 'counted'}\n"
    )
    job = spool.submit("t", {"n": 1})
    run_once(cli, "--handler", "py:mine:review")
    done = spool.get(job.job_id)
    assert (done.status, done.outputs, done.result_summary) == ("succeeded", {"n": 2}, "counted")
    assert len(done.artifacts) == 1
    assert done.started_at is not None
    assert sorted(os.listdir(job_dir(spool, job) / "attempt-1")) == ["artifacts", "artifacts.jsonl", "progress.jsonl"]


def boom(job: ActiveJob) -> None:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("function", "status", "code"),
    [
        (boom, "failed", "handler_failed"),
        (lambda job: 7, "failed", "invalid_result"),
        (lambda job: {"findings": 3}, "failed", "invalid_result"),
        (lambda job: sys.exit(3), "failed", "handler_failed"),
        (lambda job: sys.exit("no surface"), "failed", "handler_failed"),
        (lambda job: sys.exit(0), "succeeded", None),
        (lambda job: {"status": "great"}, "failed", "invalid_result"),
        (lambda job: {"outputs": {"x": object()}}, "failed", "invalid_result"),
        (lambda job: {"outputs": {"x": float("nan")}}, "failed", "invalid_result"),
        (lambda job: {"status": "failed", "message": "m", "code": "c"}, "failed", "c"),
        (lambda job: {"status": "no-changes"}, "no_changes", None),
    ],
)
def test_what_a_python_handler_returns_or_raises_decides(
    spool: Spool, function: Any, status: str, code: str | None
) -> None:
    job = spool.submit("t")
    work_off(spool, function)
    done = spool.get(job.job_id)
    assert done.status == status
    assert (done.error.code if done.error else None) == code


def test_the_traceback_of_a_python_handler_stands_in_the_log(spool: Spool) -> None:
    job = spool.submit("t")
    work_off(spool, boom)
    assert "RuntimeError: boom" in (job_dir(spool, job) / "attempt-1/handler.log").read_text()


def test_a_python_handler_hears_of_a_cancel(spool: Spool) -> None:
    job = spool.submit("t")
    begun = threading.Event()

    def patient(active: ActiveJob) -> None:
        begun.set()
        assert active.stopping.wait(20)

    worker = Worker(spool, PythonHandler(patient, "f", spool.root), Settings("t", once=True, poll=0.05))
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert begun.wait(10)
    spool.cancel(job.job_id)
    thread.join(20)
    assert spool.get(job.job_id).status == "cancelled"


def test_a_long_job_keeps_its_lease(spool: Spool) -> None:
    job = spool.submit("t")

    def slow(active: ActiveJob) -> None:
        time.sleep(2.5)

    assert work_off(spool, slow, lease="1s").handled == 1
    done = spool.get(job.job_id)
    assert (done.status, done.attempt) == ("succeeded", 1)


def test_the_job_directory_of_a_python_handler_is_there_when_asked_for(spool: Spool) -> None:
    spool.submit("t", {"a": 1})
    seen: list[str] = []

    def handler(active: ActiveJob) -> None:
        seen.extend(sorted(os.listdir(active.dir)))

    work_off(spool, handler)
    assert seen == ["job.json", "payload.json", "worker-context.json"]
    assert list(Path(spool.root).rglob("work")) == []
    assert os.listdir(f"{spool.root}/tmp") == []


def test_a_result_file_is_read_before_the_job_directory_goes(cli: Cli, spool: Spool, tmp_path: Path) -> None:
    for n in range(3):
        spool.submit("t", {"n": n})
    text = 'echo \'{"outputs": {"ok": true}, "workerInfo": {"extra": 1}}\' >"$BREYTA_JOB_RESULT_FILE"\n'
    for _ in range(3):
        done = run_once(cli, "--handler", script(tmp_path, text))["lastJob"]
        assert done["outputs"] == {"ok": True}
        info = done["result"]["workerInfo"]
        assert info["extra"] == 1
        assert set(info) == {"workerId", "handler", "pid", "host", "extra"}
    assert os.listdir(f"{spool.root}/tmp") == []
