"""Access tokens: one refresh at a time for all workers, the new pair stored at once, a dead grant told from a bad minute."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from django.db.models import F, Q
from django.utils import timezone
from requests.exceptions import RequestException

from integrations import outgoing, registry
from integrations.core.errors import Disconnected, Misconfigured, Transient
from integrations.core.ports import Account, TokenCall
from integrations.http import retry_after
from integrations.models import Connection, Credential

WAIT_MOST = 10.0  # seconds that a worker waits for another one's refresh
POLL_EVERY = 0.1  # seconds
LEASE = timedelta(seconds=30)

# For answers without `expires_in` (seconds): vendors/*: Wave about two hours, Zendesk 30 minutes, Jira one hour.
LIFETIMES = {"wave": 7200, "zendesk": 1800, "jira": 3600}
LIFETIME_MOST = 366 * 86_400

RECONNECT = "connect again"
# What a token endpoint's refusal means, by OAuth's own error codes; none of these is mended by asking again.
REFUSALS = {
    # https://www.rfc-editor.org/rfc/rfc6749#section-5.2; Jira answers it with 403 for a refresh token it does not know.
    "invalid_grant": f"the grant was revoked or has expired: {RECONNECT}",
    # Jira, for a refresh token used twice.
    "unauthorized_client": f"the grant was revoked or has expired, or the client may not do this: {RECONNECT}",
    "invalid_client": "the client id or secret was refused: check both, then connect again",
    # Jira for a wrong secret; Wave when the business's plan has lapsed.
    "access_denied": "access was refused: check the client id and secret and that the plan is active, then connect again",
    "invalid_scope": "the client may not have the scopes it asks for: allow them there, then connect again",
}
# Wave answers 403 without OAuth's words when the plan has lapsed.
OTHER_REFUSAL = "access was refused (grant revoked, or plan lapsed): check the account, then connect again"
REFUSING = (400, 401, 403)
SENT_SECRETS = ("client_secret", "refresh_token", "code", "code_verifier")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave; `refresh_token` is empty when it gave none. Its repr shows no token."""

    access_token: str = field(repr=False)
    expires_at: datetime
    refresh_token: str = field(default="", repr=False)
    scope: str = ""


def account(connection: Connection) -> Account:
    """Return the connection as a value, without secrets."""
    values = {name: str(value) for name, value in connection.settings.items()}
    return Account(connection.slug, connection.system, connection.auth, values)


def secrets_of(credential: Credential) -> dict[str, Any]:
    """Return the secrets for an adapter; names that begin with an underscore are our own notes."""
    return {name: value for name, value in json.loads(credential.secrets).items() if not name.startswith("_")}


def token_call(connection: Connection, secrets: Mapping[str, Any] | None = None) -> TokenCall | None:
    """Return the request for a new access token; None when this way in has none, or what it needs is missing.

    Without `secrets` those of the credential are used.
    """
    access = registry.entry(connection.system).access
    held = secrets_of(connection.credential) if secrets is None else secrets
    try:
        return access.token_call(account(connection), held, outgoing.vendor_urls())
    except Misconfigured:
        return None


def ensure_token(connection_id: int, *, insist: bool = False) -> Credential:
    """Return the credential; fetch a first access token where the way in can get one by itself.

    Raises Disconnected, Transient.
    """
    connection = _load(connection_id)
    credential = connection.credential
    if secrets_of(credential).get("access_token") or token_call(connection) is None:
        return credential
    return refreshed(connection_id, credential.version, insist=insist)


def refreshed(connection_id: int, stale_version: int, *, insist: bool = False) -> Credential:
    """Return a credential newer than the stale version: another worker's, or one from a refresh of our own.

    Only one worker asks the token endpoint; the others poll the row. A connection that is known to need
    reconnecting is asked for only when `insist` is set (a person pings). Raises Disconnected, Transient.
    """
    give_up = time.monotonic() + WAIT_MOST
    waited = False
    while True:
        connection = _load(connection_id)
        credential = connection.credential
        if credential.version != stale_version:
            return credential
        if connection.status == Connection.Status.NEEDS_RECONNECT and (waited or not insist):
            raise Disconnected(connection.status_reason or RECONNECT)
        if waited and credential.refresh_lease_until is None:
            raise Transient("another worker's refresh failed", code="token_refresh", counted=False, unsent=True)
        owner = _lease(credential)
        if owner:
            return _renewed(connection, owner)
        waited = True
        if time.monotonic() >= give_up:
            raise Transient("another worker's refresh takes too long", code="token_refresh", counted=False, unsent=True)
        time.sleep(POLL_EVERY)


def _load(connection_id: int) -> Connection:
    return Connection.objects.select_related("credential").get(pk=connection_id)


def _lease(credential: Credential) -> str:
    """Take the right to refresh by a conditional UPDATE; "" when another worker has it, or a newer pair is there."""
    now = timezone.now()
    owner = str(uuid.uuid4())
    free = Q(refresh_lease_until=None) | Q(refresh_lease_until__lte=now)
    rows = Credential.objects.filter(free, pk=credential.pk, version=credential.version)
    return owner if rows.update(refresh_lease_until=now + LEASE, refresh_owner=owner) else ""


def _renewed(connection: Connection, owner: str) -> Credential:
    """Ask the token endpoint and store the answer. A grant that is dead is marked before the lease is given back."""
    credential = connection.credential
    try:
        call = token_call(connection)
        if call is None:
            raise Disconnected(f"{connection.system}: the credentials of {connection.auth} were refused: enter new ones or {RECONNECT}")
        return store(credential, ask(call, system=connection.system))
    except Disconnected as error:
        mark_disconnected(connection, str(error), version=credential.version)
        raise
    finally:
        Credential.objects.filter(pk=credential.pk, refresh_owner=owner).update(refresh_lease_until=None, refresh_owner="")


def store(credential: Credential, tokens: Tokens) -> Credential:
    """Store new tokens if the row is still as we know it; return the row as it is then.

    An answer without a refresh token leaves the old one: some vendors rotate it, some do not.
    """
    now = timezone.now()
    secrets = json.loads(credential.secrets) | {"access_token": tokens.access_token}
    if tokens.refresh_token:
        secrets["refresh_token"] = tokens.refresh_token
    Credential.objects.filter(pk=credential.pk, version=credential.version).update(
        secrets=json.dumps(secrets),
        version=F("version") + 1,
        expires_at=tokens.expires_at,
        scope=tokens.scope or credential.scope,
        refresh_lease_until=None,
        refresh_owner="",
        changed_at=now,
    )
    return Credential.objects.get(pk=credential.pk)


def mark_disconnected(connection: Connection, reason: str, *, version: int | None = None) -> None:
    """Mark every connection of this credential as needing a person; with a version, only while that is the newest."""
    rows = Connection.objects.filter(credential_id=connection.credential_id)
    if version is not None:
        rows = rows.filter(credential__version=version)
    rows.update(status=Connection.Status.NEEDS_RECONNECT, status_reason=reason[:255])


def ask(call: TokenCall, *, system: str) -> Tokens:
    """Send one request to a token endpoint. Raises Disconnected when it refuses, Transient when it cannot tell."""
    path = urlsplit(outgoing.checked_url(call.url)).path
    try:
        with outgoing.PlainSession() as session:
            response = session.post(
                call.url,
                data=call.form,
                json=call.json,
                headers={"Accept": "application/json", "User-Agent": "ml-connector"},
                timeout=outgoing.timeout(),
                allow_redirects=False,
            )
    except RequestException as error:
        # Only the class: the exception may hold the request, and that the secrets.
        raise Transient(f"POST {path}: {type(error).__name__}", code="no_answer") from None
    return _tokens(response, path, system, sent=call.form or call.json or {})


def _tokens(response: requests.Response, path: str, system: str, *, sent: Mapping[str, Any]) -> Tokens:
    data = _json(response)
    status = response.status_code
    if status in REFUSING and (data is not None or not response.content):
        raise _refusal(f"POST {path} answered {status}", data or {}, sent)
    if status == 429:
        raise Transient(f"POST {path} answered 429", code="rate_limited", not_before=retry_after(response.headers), scope="connection")
    if not 200 <= status < 300 or not data or not _text(data, "access_token"):
        raise Transient(f"POST {path} answered {status} without a token", code="token_answer")
    return Tokens(
        access_token=_text(data, "access_token"),
        expires_at=timezone.now() + timedelta(seconds=_lifetime(data.get("expires_in"), system)),
        refresh_token=_text(data, "refresh_token"),
        scope=_text(data, "scope"),
    )


def _refusal(what: str, data: Mapping[str, Any], sent: Mapping[str, Any]) -> Disconnected:
    error = _text(data, "error")
    known = REFUSALS.get(error)
    words = _text(data, "error_description") or error
    for name in SENT_SECRETS:
        # Some say back what was sent, and what a vendor says is kept and shown.
        words = words.replace(_text(sent, name) or "[secret]", "[secret]")
    return Disconnected(f"{what}: {known or OTHER_REFUSAL}", code=error if known else "", words=words)


def _json(response: requests.Response) -> dict[str, Any] | None:
    """Return the body if it is a JSON object; an HTML page comes from something in between, not from the vendor."""
    try:
        data = response.json()
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _lifetime(given: Any, system: str) -> int:
    """Return `expires_in` as seconds, or the system's usual lifetime where it is absent or no number."""
    try:
        seconds = int(given)
    except (TypeError, ValueError, OverflowError):
        seconds = 0
    return min(seconds, LIFETIME_MOST) if seconds > 0 else LIFETIMES.get(system, 1800)
