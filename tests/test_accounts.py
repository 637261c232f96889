"""Service accounts: what a key allows is allowed, everything else is refused and says why."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import InvalidInput, Lease, NotAllowed, NotFound, Spool, access, durations, files
from breyta_spool.accounts import AccountStore
from breyta_spool.resources import Resources
from breyta_spool.rows import Query
from tests.crash.processes import killed_everywhere, race
from tests.world import Cli, end_process, job_dir, script, until

ADMIN = "workspace.full"


def key_for(spool: Spool, *scopes: str, job_types: tuple[str, ...] = (), **given: Any) -> str:
    account = spool.accounts.create("robot", scopes, job_types=job_types)
    return spool.accounts.create_key(account.service_account_id, **given)[1]


def with_key(spool: Spool, *scopes: str, job_types: tuple[str, ...] = ()) -> Spool:
    """The same spool in the hands of an account with these scopes."""
    return Spool.open(spool.root, key_for(spool, *scopes, job_types=job_types))


def refusal(call: Callable[[], Any]) -> NotAllowed:
    with pytest.raises(NotAllowed) as caught:
        call()
    return caught.value


def batch_in(spool: Spool) -> str:
    """The id of the only batch, whoever may see it."""
    return next(Path(spool.root, "jobs").glob("*/*/batch-*")).name


# -- scopes -----------------------------------------------------------------------------------------

DONE_WITH: dict[str, tuple[str, Callable[[Spool, str], Any]]] = {
    "submit": ("jobs.submit", lambda spool, job_id: spool.submit("t")),
    "cancel": ("jobs.submit", lambda spool, job_id: spool.cancel(job_id)),
    "retry": ("jobs.submit", lambda spool, job_id: spool.retry(job_id)),
    "claim": ("jobs.worker", lambda spool, job_id: spool.claim("t", "w")),
    "lease": ("jobs.worker", lambda spool, job_id: spool.lease(job_id, "0000")),
    "get": ("jobs.read", lambda spool, job_id: spool.get(job_id)),
    "list": ("jobs.read", lambda spool, job_id: spool.list()),
    "workers": ("jobs.read", lambda spool, job_id: spool.workers()),
    "await_job": ("jobs.read", lambda spool, job_id: spool.await_job(job_id, timeout="1s")),
    "submit_batch": ("jobs.submit", lambda spool, job_id: spool.submit_batch("t", [{}])),
    "cancel_batch": ("jobs.submit", lambda spool, job_id: spool.cancel_batch(batch_in(spool))),
    "get_batch": ("jobs.read", lambda spool, job_id: spool.get_batch(batch_in(spool))),
    "list_batches": ("jobs.read", lambda spool, job_id: spool.list_batches()),
    "await_batch": ("jobs.read", lambda spool, job_id: spool.await_batch(batch_in(spool), timeout="1s")),
}
"""Every public method of a spool that does something, and the scope that it needs."""
NOTHING_DONE = {"init", "open", "queue", "accounts", "resources"}


def test_every_public_method_of_a_spool_is_known_here() -> None:
    methods = {name for name, _ in inspect.getmembers(Spool) if not name.startswith("_")}
    assert methods == set(DONE_WITH) | NOTHING_DONE


@pytest.mark.parametrize("method", DONE_WITH)
def test_each_method_needs_its_scope_and_no_other(spool: Spool, method: str) -> None:
    scope, call = DONE_WITH[method]
    done = spool.submit("t")
    spool.cancel(done.job_id)
    spool.cancel_batch(spool.submit_batch("t", [{}]).batch_id)
    others = [name for name in access.SCOPES if name not in (scope, ADMIN)]
    error = refusal(lambda: call(with_key(spool, *others), done.job_id))
    assert error.details["scope"] == scope
    assert scope in error.message
    assert error.details["keyId"] in error.message
    assert error.details["serviceAccountId"] in error.message
    assert scope in error.hint
    for allowed in (scope, ADMIN):
        try:
            call(with_key(spool, allowed), done.job_id)
        except NotAllowed:
            raise
        except Exception as error:
            assert method == "lease", error  # a job that has ended has none


@pytest.mark.parametrize("method", DONE_WITH)
def test_an_account_that_is_limited_to_types_does_nothing_with_others(spool: Spool, method: str) -> None:
    scope, call = DONE_WITH[method]
    job = spool.submit("t")
    spool.submit("mine")
    spool.submit_batch("t", [{}])
    if method == "retry":
        spool.cancel(job.job_id)
    limited = with_key(spool, scope, job_types=("mine",))
    if method in ("list", "workers", "list_batches"):
        assert [found.job_type for found in call(limited, job.job_id)] in (["mine"], [])
        return
    if method == "lease":
        held = spool.claim("t", "w")
        assert held is not None
        error = refusal(lambda: limited.lease(held.job_id, held.token))
    else:
        error = refusal(lambda: call(limited, job.job_id))
    assert (error.details["jobType"], error.details["reason"]) == ("t", "missing_job_type")
    assert "mine" in error.message


def _read_whole(spool: Spool, uri: str) -> bytes:
    with spool.resources.open(uri) as pieces:
        return b"".join(pieces)


RESOURCE_METHODS: dict[str, Callable[[Spool, str], Any]] = {
    "list": lambda spool, uri: spool.resources.list(),
    "get": lambda spool, uri: spool.resources.get(uri),
    "read": lambda spool, uri: spool.resources.read(uri.replace("/table/", "/kv/").replace("rows", "n")),
    "open": lambda spool, uri: _read_whole(spool, uri),
    "schema": lambda spool, uri: spool.resources.schema(uri),
    "query": lambda spool, uri: spool.resources.query(uri, Query()),
    "get_row": lambda spool, uri: spool.resources.get_row(uri, {"a": 1}),
    "sql": lambda spool, uri: spool.resources.sql(uri, "select a from rows"),
    "export": lambda spool, uri: spool.resources.export(uri, f"{spool.root}/../{os.urandom(8).hex()}.csv"),
}


def test_every_public_method_of_the_resources_is_known_here(spool: Spool) -> None:
    assert {name for name, _ in inspect.getmembers(Resources) if not name.startswith("_")} == set(RESOURCE_METHODS)


@pytest.mark.parametrize("method", RESOURCE_METHODS)
def test_resources_are_read_with_their_scope_and_of_jobs_of_the_accounts_types(spool: Spool, method: str) -> None:
    call = RESOURCE_METHODS[method]
    spool.submit("t")
    lease = spool.claim("t", "w")
    assert lease is not None
    lease.dir.attach_kv("n", 1)
    uri = lease.dir.attach_table("rows", [{"a": 1}])["resourceUri"]
    lease.complete()
    others = [name for name in access.SCOPES if name not in ("resources.read", ADMIN)]
    assert refusal(lambda: call(with_key(spool, *others), uri)).details["scope"] == "resources.read"
    assert call(with_key(spool, "resources.read"), uri)
    assert call(with_key(spool, "resources.read", job_types=("t",)), uri)
    limited = with_key(spool, "resources.read", job_types=("mine",))
    if method == "list":
        assert call(limited, uri) == []
    else:
        assert refusal(lambda: call(limited, uri)).details["jobType"] == "t"


def test_a_worker_reads_the_job_it_holds_without_the_scope_to_read(spool: Spool) -> None:
    spool.submit("t", {"n": 1})
    lease = with_key(spool, "jobs.worker").claim("t", "w")
    assert lease is not None
    assert lease.job.payload == {"n": 1}
    assert lease.complete().status == "succeeded"


LEASE_METHODS: dict[str, Callable[[Lease], Any]] = {
    "heartbeat": lambda lease: lease.heartbeat(),
    "progress": lambda lease: lease.progress("x"),
    "dir": lambda lease: lease.dir,
    "complete": lambda lease: lease.complete(),
    "fail": lambda lease: lease.fail("x"),
    "finish": lambda lease: lease.finish(None),  # type: ignore[arg-type]
    "give_back": lambda lease: lease.give_back(),
}


def test_every_public_method_of_a_lease_is_known_here() -> None:
    methods = {name for name, _ in inspect.getmembers(Lease) if not name.startswith("_")}
    assert methods == set(LEASE_METHODS) | {"job", "job_id", "token"}


@pytest.mark.parametrize("method", LEASE_METHODS)
def test_a_lease_is_of_no_use_by_hand_once_its_account_lost_the_scope(spool: Spool, method: str) -> None:
    job = spool.submit("t")
    account = spool.accounts.create("w", ["jobs.worker"])
    _, key = spool.accounts.create_key(account.service_account_id)
    lease = Spool.open(spool.root, key).claim("t", "w")
    assert lease is not None
    spool.accounts.update(account.service_account_id, scopes=["jobs.read"])
    assert refusal(lambda: LEASE_METHODS[method](lease)).details["scope"] == "jobs.worker"
    assert spool.get(job.job_id).status == "leased"


ADMINISTRATION: dict[str, Callable[[AccountStore], Any]] = {
    "create": lambda store: store.create("x", [ADMIN]),
    "get": lambda store: store.get("sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R"),
    "list": lambda store: store.list(),
    "update": lambda store: store.update("sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R", name="x"),
    "create_key": lambda store: store.create_key("sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R"),
    "keys": lambda store: store.keys("sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R"),
    "revoke_key": lambda store: store.revoke_key("sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "key-01JD0W3Z8Q4X5V6B7N8M9K0P1R"),
}


@pytest.mark.parametrize("method", ADMINISTRATION)
def test_accounts_are_administered_with_the_full_scope_only(spool: Spool, method: str) -> None:
    assert {name for name, _ in inspect.getmembers(AccountStore) if not name.startswith("_")} == set(ADMINISTRATION)
    others = [name for name in access.SCOPES if name != ADMIN]
    assert refusal(lambda: ADMINISTRATION[method](with_key(spool, *others).accounts)).details["scope"] == ADMIN


def test_an_unknown_scope_is_refused_with_those_that_are_allowed(spool: Spool) -> None:
    for scopes in (["jobs.wroker"], []):
        with pytest.raises(InvalidInput, match="jobs.worker, jobs.submit, jobs.read, flows.read"):
            spool.accounts.create("x", scopes)


# -- keys -------------------------------------------------------------------------------------------


def test_a_key_is_refused_when_it_is_unknown_wrong_revoked_expired_or_its_account_disabled(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = spool.accounts.create("a", [ADMIN]).service_account_id

    def reason(api_key: str) -> str:
        error = refusal(lambda: Spool.open(spool.root, api_key).list())
        assert error.hint
        assert api_key not in str(vars(error))
        return str(error.details["reason"])

    key, text = spool.accounts.create_key(account)
    assert Spool.open(spool.root, text).list() == []
    assert reason("bsk_hello") == "malformed_key"
    assert reason(text[:-1]) == "malformed_key"
    assert reason(text[:-1] + ("A" if text[-1] != "A" else "B")) == "wrong_key"
    assert reason(text.replace(key.key_id[4:], "01JD0W3Z8Q4X5V6B7N8M9K0P1R")) == "unknown_key"
    spool.accounts.update(account, status="disabled")
    assert reason(text) == "disabled_account"
    spool.accounts.update(account, status="active")
    assert Spool.open(spool.root, text).list() == []
    spool.accounts.revoke_key(account, key.key_id)
    assert reason(text) == "revoked_key"
    soon = durations.rfc3339(time.time() * 1000 + 60_000)
    _, text = spool.accounts.create_key(account, expires_at=soon)
    assert Spool.open(spool.root, text).list() == []
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert reason(text) == "expired_key"


@pytest.mark.parametrize(
    "when", ["2020-01-01T00:00:00Z", "2999-01-01", "2999-01-01T00:00:00", "2999-02-30T00:00:00Z", "tomorrow", "", "1"]
)
def test_a_key_cannot_be_made_that_has_expired_or_whose_end_nobody_can_read(spool: Spool, when: str) -> None:
    account = spool.accounts.create("a", [ADMIN])
    with pytest.raises(InvalidInput, match="expiresAt"):
        spool.accounts.create_key(account.service_account_id, expires_at=when)


def test_the_end_of_a_key_is_kept_in_utc(spool: Spool) -> None:
    account = spool.accounts.create("a", [ADMIN])
    key, _ = spool.accounts.create_key(account.service_account_id, expires_at="2999-01-01T01:30:00+01:30")
    assert key.expires_at == "2999-01-01T00:00:00.000Z"


def test_no_file_of_the_spool_holds_a_secret(spool: Spool) -> None:
    secret = key_for(spool, ADMIN).split("_", 2)[2]
    kept = [path for path in Path(spool.root).rglob("*") if path.is_file()]
    assert len(kept) == 3
    assert not any(secret.encode() in path.read_bytes() for path in kept)
    assert not any(path.stat().st_mode & 0o037 for path in kept if path.name != "spool.json")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"keyId": 1}', '{"scopes": "all"}', "[" * 5000])
@pytest.mark.parametrize("file", ["key-*/key.json", "sa-*/account.1.json"])
def test_a_key_whose_files_are_damaged_allows_nothing(spool: Spool, file: str, damage: str) -> None:
    text = key_for(spool, ADMIN)
    (path,) = Path(spool.root, "accounts").glob(file)
    path.chmod(0o600)
    path.write_text(damage)
    with pytest.raises(Exception, match=path.name) as caught:
        Spool.open(spool.root, text).submit("t")
    assert caught.value.code == "damaged"  # type: ignore[attr-defined]
    assert spool.list() == []


def test_a_torn_note_of_a_revocation_revokes_all_the_same(spool: Spool) -> None:
    text = key_for(spool, ADMIN)
    (path,) = Path(spool.root, "accounts").glob("key-*")
    (path / "revoked.json").touch()
    assert refusal(Spool.open(spool.root, text).list).details["reason"] == "revoked_key"
    (account,) = spool.accounts.list()
    assert spool.accounts.keys(account.service_account_id)[0].revoked_at


def test_a_key_of_another_account_is_not_found_under_this_one(spool: Spool) -> None:
    one, two = (spool.accounts.create(name, [ADMIN]).service_account_id for name in ("one", "two"))
    key, _ = spool.accounts.create_key(two)
    with pytest.raises(NotFound):
        spool.accounts.revoke_key(one, key.key_id)
    assert spool.accounts.keys(one) == []


def test_a_spool_that_was_made_before_there_were_accounts_can_have_some(spool: Spool) -> None:
    shutil.rmtree(f"{spool.root}/accounts")
    assert spool.accounts.list() == []
    assert Spool.open(spool.root, key_for(spool, "jobs.submit")).submit("t").status == "queued"


# -- keys that are required -------------------------------------------------------------------------


def test_where_keys_are_required_nothing_changes_without_one_and_all_can_be_read(tmp_path: Path) -> None:
    made = Spool.init(tmp_path / "s", durability="none", require_keys=True)
    assert made.first_key is not None
    job = made.submit("t")
    made.cancel(job.job_id)
    made.cancel_batch(made.submit_batch("t", [{}]).batch_id)
    bare = Spool.open(made.root)
    for scope, call in DONE_WITH.values():
        if scope == "jobs.read":
            call(bare, job.job_id)
        else:
            assert refusal(lambda call=call: call(bare, job.job_id)).details["reason"] == "no_key"  # type: ignore[misc]
    assert refusal(bare.accounts.list).details["reason"] == "no_key"
    assert Spool.open(made.root, made.first_key.api_key).submit("t").status == "queued"


def _init(place: Path) -> str:
    made = Spool.init(place, durability="none", require_keys=True)
    assert made.first_key is not None
    return made.first_key.api_key


def test_an_init_killed_anywhere_never_asks_for_a_key_that_nobody_has(tmp_path: Path) -> None:
    def check(place: Path, api_key: str | None) -> None:
        if api_key is None:
            assert not (place / "spool.json").exists()
            api_key = _init(place)
        assert Spool.open(place, api_key).submit("t").status == "queued"

    # Whose output is lost has a spool whose key nobody knows: docs/security.md says the way out.
    killed_everywhere(tmp_path, lambda place: place, _init, check, 20, unheard=False)


def test_of_two_who_make_a_spool_one_has_the_key_and_the_other_leaves_nothing(tmp_path: Path) -> None:
    def init() -> str | None:
        try:
            return _init(tmp_path / "s")
        except Exception as error:
            assert "spool" in str(error)
            return None

    for _ in range(5):
        (key,) = [key for key in race([init] * 4) if key]
        store = Spool.open(tmp_path / "s", key).accounts
        assert [account.name for account in store.list()] == ["first account"]
        shutil.rmtree(tmp_path / "s")


def test_a_directory_that_lost_its_spool_json_keeps_its_accounts(spool: Spool) -> None:
    key_for(spool, ADMIN)
    os.unlink(f"{spool.root}/spool.json")
    with pytest.raises(Exception, match="accounts/ is not empty"):
        Spool.init(spool.root)


# -- races and crashes ------------------------------------------------------------------------------


def test_of_many_updates_at_once_none_is_lost(spool: Spool) -> None:
    account = spool.accounts.create("before", ["jobs.read"]).service_account_id
    race(
        [
            lambda: spool.accounts.update(account, name="after").name,
            lambda: spool.accounts.update(account, status="disabled").status,
            lambda: spool.accounts.update(account, scopes=["jobs.submit"]).status,
            lambda: spool.accounts.update(account, job_types=["t"]).status,
        ]
    )
    found = spool.accounts.get(account)
    assert (found.name, found.status, found.scopes, found.job_types) == ("after", "disabled", ["jobs.submit"], ["t"])


def test_a_revocation_wins_over_whatever_happens_to_the_account_at_that_moment(spool: Spool) -> None:
    account = spool.accounts.create("a", [ADMIN]).service_account_id
    key, text = spool.accounts.create_key(account)

    def other(operation: str, path: str) -> None:
        if operation == "link":
            files.hook = None
            spool.accounts.update(account, status="active", scopes=[ADMIN])
            spool.accounts.create_key(account)
            spool.accounts.revoke_key(account, key.key_id)

    files.hook = other
    try:
        revoked = spool.accounts.revoke_key(account, key.key_id)
    finally:
        files.hook = None
    assert revoked.revoked_at
    assert refusal(Spool.open(spool.root, text).list).details["reason"] == "revoked_key"
    assert [bool(found.revoked_at) for found in spool.accounts.keys(account)] == [False, True]


def prepared(place: Path) -> tuple[Spool, str, str, str]:
    spool = Spool.init(place, durability="none")
    account = spool.accounts.create("a", [ADMIN]).service_account_id
    key, text = spool.accounts.create_key(account)
    return spool, account, key.key_id, text


def test_whoever_administers_may_be_killed_anywhere(tmp_path: Path) -> None:
    def revoke(world: tuple[Spool, str, str, str]) -> bool:
        return bool(world[0].accounts.revoke_key(world[1], world[2]).revoked_at)

    def after_revoke(world: tuple[Spool, str, str, str], done: bool | None) -> None:
        spool, account, key_id, text = world
        if done:
            refusal(Spool.open(spool.root, text).list)
        assert spool.accounts.revoke_key(account, key_id).revoked_at

    def update(world: tuple[Spool, str, str, str]) -> str:
        return world[0].accounts.update(world[1], name="b").name

    def after_update(world: tuple[Spool, str, str, str], name: str | None) -> None:
        assert world[0].accounts.get(world[1]).name in (["b"] if name else ["a", "b"])
        assert Spool.open(world[0].root, world[3]).list() == []

    def create(world: tuple[Spool, str, str, str]) -> str:
        account = world[0].accounts.create("c", ["jobs.read"]).service_account_id
        return world[0].accounts.create_key(account)[1]

    def after_create(world: tuple[Spool, str, str, str], key: str | None) -> None:
        damaged: list[str] = []
        found = world[0].accounts.list(damaged)
        assert damaged == []
        assert len(found) in ([2] if key else [1, 2])
        for account in found:
            world[0].accounts.keys(account.service_account_id, damaged)
        assert damaged == []
        assert key is None or Spool.open(world[0].root, key).list() == []

    killed_everywhere(tmp_path / "r", prepared, revoke, after_revoke, 3)
    killed_everywhere(tmp_path / "u", prepared, update, after_update, 3)
    killed_everywhere(tmp_path / "c", prepared, create, after_create, 8)


@pytest.mark.parametrize("operation", ["mkdir", "create", "write", "sync", "link"])
def test_on_a_full_disk_an_administrator_gets_an_error_and_changes_nothing(spool: Spool, operation: str) -> None:
    account = spool.accounts.create("a", [ADMIN]).service_account_id

    def full(what: str, path: str) -> None:
        if what == operation:
            raise OSError(28, "No space left on device", path)

    files.hook = full
    try:
        with pytest.raises(Exception, match="disk is full"):
            spool.accounts.create_key(account)
    finally:
        files.hook = None
    assert spool.accounts.keys(account) == []
    assert not list(Path(spool.root, "accounts").rglob(".*"))


# -- workers ----------------------------------------------------------------------------------------

HANDLER = """
breyta jobs worker progress --message begun
touch begun
while [ ! -e go ]; do sleep 0.05; done
breyta jobs worker attach-kv --label k --value 1
breyta jobs worker finish --summary "done all the same"
tr '\\0' '\\n' </proc/$PPID/cmdline; tr '\\0' '\\n' </proc/$$/cmdline
"""


def test_a_worker_whose_key_is_revoked_finishes_what_it_holds_and_claims_no_more(
    cli: Cli, spool: Spool, tmp_path: Path
) -> None:
    account = spool.accounts.create("w", ["jobs.worker"], job_types=["t"]).service_account_id
    key, text = spool.accounts.create_key(account)
    first, second = spool.submit("t"), spool.submit("t")
    args = ("--type", "t", "--poll-interval", "100ms", "--handler", script(tmp_path, HANDLER))
    worker = cli.start("jobs", "worker", "run", *args, BREYTA_API_KEY="", BREYTA_TOKEN=text)
    try:
        until(lambda: (tmp_path / "begun").exists())
        spool.accounts.revoke_key(account, key.key_id)
        (tmp_path / "go").touch()
        out, log = worker.communicate(timeout=30)
    finally:
        end_process(worker)
    assert worker.returncode == 7
    assert json.loads(out)["error"]["details"]["reason"] == "revoked_key"
    assert b"claiming nothing more" in log
    done = spool.get(first.job_id)
    assert (done.status, done.result_summary, len(done.artifacts)) == ("succeeded", "done all the same", 1)
    assert spool.get(second.job_id).status == "queued"
    secret = text.split("_", 2)[2]
    assert secret.encode() not in out + log
    assert secret not in (job_dir(spool, first) / "attempt-1/handler.log").read_text()


def test_a_worker_is_refused_at_once_when_its_key_does_not_allow_its_type(cli: Cli, spool: Spool) -> None:
    text = key_for(spool, "jobs.worker", job_types=("other",))
    job = spool.submit("t")
    answer = cli("jobs", "worker", "run", "--type", "t", "--handler", "true", BREYTA_API_KEY=text)
    assert (answer.code, answer.error["details"]["jobType"]) == (7, "t")
    assert spool.get(job.job_id).attempt == 0


def test_a_helper_command_checks_the_key_against_the_spool_of_its_job(cli: Cli, tmp_path: Path) -> None:
    made = Spool.init(tmp_path / "strict", durability="none", require_keys=True)
    worker, reader = key_for(made, "jobs.worker"), key_for(made, "jobs.read")
    made.submit("t")
    text = f"""
export BREYTA_SPOOL={cli.spool} BREYTA_API_URL=file://{cli.spool}
breyta jobs worker progress --message allowed
for key in "" {reader} hello; do
  code=0; BREYTA_API_KEY=$key breyta jobs worker finish --summary "$key" || code=$?; echo "code $code"
done
"""
    args = ("--spool", made.root, "--type", "t", "--once", "--handler", script(tmp_path, text))
    done = cli("jobs", "worker", "run", *args, BREYTA_API_KEY=worker).data["lastJob"]
    assert done["status"] == "succeeded", done
    assert done["result"]["summary"] == "handler exited successfully"
    log = (job_dir(made, done["jobId"]) / "attempt-1/handler.log").read_text()
    assert log.count("code 7\n") == 3
    assert reader.split("_", 2)[2] not in log


# -- the command line -------------------------------------------------------------------------------


def test_accounts_and_keys_by_the_command_line(cli: Cli) -> None:
    made = cli(
        *("service-accounts", "create", "--name", "w", "--scope", "jobs.worker,jobs.read", "--capability"),
        *("jobs.submit", "--job-type", "t", "--job-type", "u", "--metadata", '{"team": "a"}'),
    ).data["serviceAccount"]
    assert made["scopes"] == ["jobs.worker", "jobs.submit", "jobs.read"]
    assert (made["jobTypes"], made["status"], made["metadata"]) == (["t", "u"], "active", {"team": "a"})
    account = made["serviceAccountId"]
    cli("service-accounts", "create", "--name", "newer", "--scope", ADMIN)
    assert [found["name"] for found in cli("service-accounts", "list").data["items"]] == ["newer", "w"]
    changed = cli("service-accounts", "update", account, "--status", "disabled", "--any-job-type").data
    assert (changed["serviceAccount"]["status"], changed["serviceAccount"]["jobTypes"]) == ("disabled", [])
    assert cli("service-accounts", "show", account).data == changed

    answer = cli("service-accounts", "keys", "create", account, "--name", "k", "--expires-at", "2999-01-01T00:00:00Z")
    key, text = answer.data["key"], answer.data["apiKey"]
    assert text.startswith(key["prefix"])
    listed = cli("service-accounts", "keys", "list", account)
    assert listed.data["items"] == [key]
    assert text.split("_", 2)[2] not in listed.stdout
    revoked = cli("service-accounts", "keys", "revoke", account, key["keyId"]).data["key"]
    assert revoked["revokedAt"]
    assert cli("service-accounts", "keys", "revoke", account, key["keyId"]).data["key"] == revoked
    for args in (("show", "sa-x"), ("update", account), ("create", "--name", "x", "--scope", "all")):
        assert cli("service-accounts", *args).code == 2
    assert cli("service-accounts", "show", "sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R").code == 3


def test_a_key_is_taken_from_option_then_api_key_then_token_and_empty_ones_do_not_count(cli: Cli, spool: Spool) -> None:
    good, bad = key_for(spool, "jobs.read"), "bsk_bad"
    assert cli("jobs", "list", "--api-key", good, BREYTA_API_KEY=bad, BREYTA_TOKEN=bad).code == 0
    assert cli("jobs", "list", BREYTA_API_KEY=good, BREYTA_TOKEN=bad).code == 0
    assert cli("jobs", "list", BREYTA_API_KEY="", BREYTA_TOKEN=good).code == 0
    assert cli("jobs", "list", BREYTA_API_KEY="", BREYTA_TOKEN="").code == 0
    for given in ({"BREYTA_API_KEY": bad, "BREYTA_TOKEN": good}, {"BREYTA_TOKEN": bad}):
        answer = cli("jobs", "list", **given)
        assert (answer.code, answer.error["code"]) == (7, "not_allowed")
        assert bad not in answer.stdout + answer.stderr


def test_init_with_keys_answers_the_first_and_shows_it_once(tmp_path: Path) -> None:
    cli = Cli(str(tmp_path / "s"), tmp_path)
    made = cli("spool", "init", "s", "--require-keys", "--durability", "none").data
    assert made["spool"]["requireKeys"] is True
    answer = cli("jobs", "create", "--type", "t")
    assert (answer.code, answer.error["details"]["reason"]) == (7, "no_key")
    assert "BREYTA_API_KEY" in answer.document["hint"]
    assert cli("jobs", "create", "--type", "t", BREYTA_API_KEY=made["apiKey"]).job["status"] == "queued"
    assert cli("spool", "info").data["jobs"] == {"t": {"queued": 1}}


def test_checking_a_key_loads_no_pydantic() -> None:
    program = "import sys, breyta_spool.access; print('pydantic' in sys.modules, 'hashlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give directories to any group")
def test_in_a_spool_of_a_group_another_member_can_work_and_revoke_whatever_the_umask_of_a_handler(
    tmp_path: Path,
) -> None:
    cli = Cli(str(tmp_path / "s"), tmp_path)
    key = cli("spool", "init", "s", "--group", "daemon", "--require-keys", "--durability", "none").data["apiKey"]
    text = "umask 077\nbreyta jobs worker progress --message x\nbreyta jobs worker attach-kv --label k --value 1\n"
    cli("jobs", "create", "--type", "t", BREYTA_API_KEY=key)
    args = ("--type", "t", "--once", "--handler", script(tmp_path, text))
    done = cli("jobs", "worker", "run", *args, BREYTA_API_KEY=key).data["lastJob"]
    assert len(done["artifacts"]) == 1
    for path in (tmp_path / "s").rglob("*"):
        if path.is_symlink() or path.name in ("spool.json", "key.json", "account.1.json"):
            continue
        assert path.group() == "daemon", path
        assert path.stat().st_mode & 0o020, f"{path} is not writable for the group"
        assert not path.stat().st_mode & 0o007, f"{path} is open to others"
