"""Who may do what: a caller's key is checked against the files of its account, and what is missing is said.

Helper commands inside handlers check keys too, so this imports neither pydantic nor anything that watches or locks.
A key guards against mistakes, not against somebody who may write to the directory by other means (docs/security.md).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from breyta_spool import durations, ids, jsonio, looking, paths
from breyta_spool.errors import Damaged, InvalidInput, NotAllowed, doing

JOBS_WORKER, JOBS_SUBMIT, JOBS_READ = "jobs.worker", "jobs.submit", "jobs.read"
FLOWS_READ, FLOWS_MANAGE, FLOWS_RUN = "flows.read", "flows.manage", "flows.run"
RESOURCES_READ, RESOURCES_WRITE = "resources.read", "resources.write"
FULL = "workspace.full"
SCOPES = (
    *(JOBS_WORKER, JOBS_SUBMIT, JOBS_READ),
    *(FLOWS_READ, FLOWS_MANAGE, FLOWS_RUN),
    *(RESOURCES_READ, RESOURCES_WRITE, FULL),
)
"""Every scope there is (contract, section 5). The last implies all others."""
READS = frozenset((JOBS_READ, FLOWS_READ, RESOURCES_READ))
"""What nobody needs a key for: who may read the directory can read it anyway."""
ACTIVE, DISABLED = "active", "disabled"

RECORD_LIMIT = 4 << 20
PREFIX = "bsk"
_KEY = re.compile(rf"{PREFIX}_([0-9A-Z]{{26}})_[A-Za-z0-9_-]{{43}}")


def sha256(api_key: str) -> str:
    """What is stored of a key."""
    import hashlib  # late: without a key nobody needs it

    # One round is enough: the secret is 256 random bits, so guessing is hopeless at any speed. Slow hashes are for
    # secrets that people choose.
    return hashlib.sha256(api_key.encode()).hexdigest()


def api_key_of(key_id: str, secret: str) -> str:
    """The text of a key: its id, so that checking it is a matter of a few files, and its secret."""
    return f"{PREFIX}_{key_id.removeprefix('key-')}_{secret}"


class Grant(NamedTuple):
    """What an account allowed when its key was last checked."""

    account_id: str
    name: str
    scopes: frozenset[str]
    job_types: frozenset[str]
    """Empty: any."""

    def __str__(self) -> str:
        # The file may have been written by anybody, so the name must not rule a terminal.
        return f"{self.account_id} ({''.join(c for c in self.name[:100] if c.isprintable())})"


class Access:
    """What one caller may do in one spool: what the key's account allows, or, without a key, what the spool does.

    Every call of ``need`` reads the files of the key and its account again, so a revocation counts from the moment
    it is there. Thread-safe. The key itself is not kept, only its id and hash.
    """

    def __init__(self, root: str, required: bool = False, api_key: str | None = None) -> None:
        self._tree = paths.Tree(root)
        self._required = required
        self._grant: Grant | None = None
        self.key_id, self._digest = _parts(api_key) if api_key else ("", "")

    def need(self, scope: str, job_type: str | None = None) -> None:
        """Raise NotAllowed unless the caller has a scope and, if one is named, may have to do with a job type."""
        if not self.key_id:
            if self._required and scope not in READS:
                raise _no_key(scope, self._tree.root)
            return
        self._grant = grant = self._check()
        if not grant.scopes & {scope, FULL}:
            raise self._lacking_scope(grant, scope)
        if job_type is not None:
            self.need_type(job_type)

    def need_type(self, job_type: str) -> None:
        """Raise NotAllowed when the account, as it was at the last ``need``, is limited to other job types."""
        if self._grant is not None and not self.allows(job_type):
            raise self._lacking_type(self._grant, job_type)

    def allows(self, job_type: str) -> bool:
        """Whether the account, as it was at the last ``need``, may have to do with jobs of a type."""
        return self._grant is None or not self._grant.job_types or job_type in self._grant.job_types

    @property
    def limited(self) -> bool:
        """Whether the account, as it was at the last ``need``, is limited to some job types."""
        return self._grant is not None and bool(self._grant.job_types)

    def know(self) -> None:
        """Raise NotAllowed unless the key is one that was made here; it may have been revoked or have expired since."""
        if self.key_id:
            with doing(f"check {self.key_id}"):
                self._key()

    # -- the files ----------------------------------------------------------------------------------

    def _check(self) -> Grant:
        with doing(f"check {self.key_id}"):
            key, names = self._key()
            account_id = key.get("serviceAccountId")
            if not isinstance(account_id, str) or not ids.is_account_id(account_id):
                raise Damaged(f"{self._tree.key(self.key_id)} does not say whose key it is")
            self._refuse_ended(key, account_id, paths.REVOKED in names)
            return self._account(account_id)

    def _key(self) -> tuple[dict[str, Any], list[str]]:
        """The fields of the key's record, and the names beside it. Raises NotAllowed for a key that is not ours."""
        directory = self._tree.key(self.key_id)
        # A listing is what NFS keeps fresh: a revocation must not hide behind a cached "no such file".
        names = looking.names_if_any(directory)
        if paths.KEY not in names:
            raise NotAllowed(
                f"unknown key: {self.key_id} is not a key of the spool at {self._tree.root}",
                hint="is it the right spool? 'breyta service-accounts keys create' makes a key for this one",
                reason="unknown_key",
                keyId=self.key_id,
            )
        path = f"{directory}/{paths.KEY}"
        key = _fields(path)
        stored = key.get("sha256")
        if key.get("keyId") != self.key_id or not isinstance(stored, str):
            raise Damaged(f"{path} is not the record of {self.key_id}", path=path)
        if not _same(stored, self._digest):
            raise NotAllowed(
                f"wrong key: {self.key_id} exists, but the secret that was given is not its secret",
                hint="was it copied whole? A lost secret cannot be shown again: make a new key, revoke the old one",
                reason="wrong_key",
                keyId=self.key_id,
            )
        return key, names

    def _refuse_ended(self, key: dict[str, Any], account_id: str, revoked: bool) -> None:
        expires = key.get("expiresAt")
        if not revoked and (expires is None or _expiry_ms(expires, self.key_id) > time.time() * 1000):
            return
        what = "was revoked" if revoked else f"expired at {expires} (by this host's clock)"
        raise NotAllowed(
            f"{self.key_id} of service account {account_id} {what}",
            hint=f"'breyta service-accounts keys create {account_id}' makes a new one",
            reason="revoked_key" if revoked else "expired_key",
            keyId=self.key_id,
            serviceAccountId=account_id,
        )

    def _account(self, account_id: str) -> Grant:
        directory = self._tree.account(account_id)
        revision = paths.latest_revision(looking.names_if_any(directory))
        path = f"{directory}/{paths.account_revision(revision)}"
        if not revision:
            raise Damaged(f"{self.key_id} belongs to {account_id}, which is not there", path=directory)
        account = _fields(path)
        scopes, job_types = _texts(account.get("scopes")), _texts(account.get("jobTypes", []))
        if account.get("serviceAccountId") != account_id or scopes is None or job_types is None:
            raise Damaged(f"{path} is not the record of {account_id}", path=path)
        grant = Grant(account_id, str(account.get("name")), scopes, job_types)
        if account.get("status") != ACTIVE:
            raise NotAllowed(
                f"service account {grant} is disabled, so {self.key_id} is refused",
                hint=f"'breyta service-accounts update {account_id} --status active' enables it",
                reason="disabled_account",
                keyId=self.key_id,
                serviceAccountId=account_id,
            )
        return grant

    # -- refusals -----------------------------------------------------------------------------------

    def _lacking_scope(self, grant: Grant, scope: str) -> NotAllowed:
        has = [name for name in SCOPES if name in grant.scopes]
        return NotAllowed(
            f"this needs the scope {scope}; service account {grant}, used by {self.key_id}, has {','.join(has)}",
            hint=f"to grant it: breyta service-accounts update {grant.account_id} --scope {','.join([*has, scope])}",
            reason="missing_scope",
            scope=scope,
            keyId=self.key_id,
            serviceAccountId=grant.account_id,
        )

    def _lacking_type(self, grant: Grant, job_type: str) -> NotAllowed:
        has = ",".join(sorted(grant.job_types))
        return NotAllowed(
            f"this is about the job type {job_type}; service account {grant}, used by {self.key_id}, may only do {has}",
            hint=f"to add it: breyta service-accounts update {grant.account_id} --job-type {has},{job_type}",
            reason="missing_job_type",
            jobType=job_type,
            keyId=self.key_id,
            serviceAccountId=grant.account_id,
        )


def _parts(api_key: str) -> tuple[str, str]:
    """The id and the hash of a key. Raises NotAllowed; what was given is never part of an error."""
    match = _KEY.fullmatch(api_key)
    if match is None or not ids.is_key_id(f"key-{match[1]}"):
        raise NotAllowed(
            "the key that was given is not a key of any spool: one looks like bsk_<26 characters>_<43 characters>",
            hint="check --api-key, BREYTA_API_KEY and BREYTA_TOKEN; unset them to go without a key",
            reason="malformed_key",
        )
    return f"key-{match[1]}", sha256(api_key)


def _no_key(scope: str, root: str) -> NotAllowed:
    return NotAllowed(
        f"the spool at {root} requires a key for this: one of a service account with the scope {scope}",
        hint="set BREYTA_API_KEY; 'breyta service-accounts keys create' makes a key",
        reason="no_key",
        scope=scope,
    )


def _same(stored: str, given: str) -> bool:
    import hmac

    return hmac.compare_digest(stored.encode(errors="replace"), given.encode())


def _fields(path: str) -> dict[str, Any]:
    try:
        return jsonio.parse_object(looking.read(path, RECORD_LIMIT), path, jsonio.RECORD_DEPTH)
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None


def _texts(value: Any) -> frozenset[str] | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    return None


def _expiry_ms(text: Any, key_id: str) -> int:
    try:
        return durations.epoch_ms(text, field=f"expiresAt of {key_id}")
    except InvalidInput as error:
        raise Damaged(error.message) from None


def parse_scopes(given: Iterable[str]) -> list[str]:
    """Scopes in the order in which they are listed. Raises InvalidInput for none, and for one that is unknown."""
    wanted = {str(scope) for scope in given}
    if unknown := sorted(wanted - set(SCOPES)):
        raise InvalidInput(f"unknown scope {unknown[0]!r}: allowed are {', '.join(SCOPES)}", field="scopes")
    if not wanted:
        raise InvalidInput(f"an account needs at least one scope of {', '.join(SCOPES)}", field="scopes")
    return [scope for scope in SCOPES if scope in wanted]
