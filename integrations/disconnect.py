"""Disconnects accounts: the grant is revoked at the vendor where it can be, tokens go, routes pause, history stays."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from requests.exceptions import RequestException

from integrations import configuration, oauth, outgoing, pausing, registry, remote_webhooks
from integrations.connect import TOKENS
from integrations.core.errors import ConnectorError, Misconfigured
from integrations.core.ports import Revocation
from integrations.models import Connection, Credential, RemoteWebhook, Route

REASON = "Disconnected by a person."


def disconnect(connection: Connection) -> list[str]:
    """Disconnect an account and return what a person should know, a sentence each.

    That the vendor did not revoke is told and stops nothing. What can be set up anew stays: settings, client secret,
    mappings, bindings and history. Doing it twice changes nothing more.
    """
    told = []
    paused = _pause_routes(connection)
    if paused:
        told.append(f"Paused, until somebody resumes them: {', '.join(paused)}.")
    sharing = list(connection.credential.connections.exclude(pk=connection.pk).values_list("slug", flat=True))
    if sharing:
        told.append(f"The grant was not revoked, for {', '.join(sharing)} works with it too.")
    else:
        if RemoteWebhook.objects.filter(connection=connection).exists():
            remote_webhooks.remove(connection)  # afterwards nobody could
        told.append(_revoked(connection))
    _forget(connection)
    return told


def _pause_routes(connection: Connection) -> list[str]:
    routes = Route.objects.filter(Q(source=connection) | Q(destination=connection), paused_at=None).order_by("slug")
    paused = list(routes)
    for route in paused:
        pausing.pause(route)
    return [route.slug for route in paused]


# --- At the vendor -----------------------------------------------------------------------------------------------------


@sensitive_variables()
def _revoked(connection: Connection) -> str:
    """Ask the vendor to end the grant, with a renewed token where the old one has run out, and say how that went."""
    label = registry.entry(connection.system).system.label
    by_hand = f"Take the access back at {label} yourself, if it should end there too."
    try:
        call = _call(connection, connection.credential)
        if call is None:
            return f"{label} cannot be told to revoke this access. {by_hand}"
        status = _send(call)
        if status == 401 and "Authorization" in call.headers:
            renewed = _call(connection, oauth.refreshed(connection.pk, connection.credential.version, insist=True))
            status = _send(renewed) if renewed else status
    except (ConnectorError, Misconfigured) as error:
        return f"The grant could not be revoked at {label} ({error}). {by_hand}"
    if 200 <= status < 300:
        return f"The grant was revoked at {label}."
    return f"The grant could not be revoked: {label} answered {status}. {by_hand}"


def _call(connection: Connection, credential: Credential) -> Revocation | None:
    consent = registry.entry(connection.system).consent
    return consent.revoke(oauth.account(connection), oauth.secrets_of(credential), outgoing.vendor_urls())


@sensitive_variables()
def _send(call: Revocation) -> int:
    """Return the status. Raises ConnectorError when no answer came."""
    url = outgoing.checked_url(call.url)
    headers = {"Accept": "application/json", "User-Agent": "ml-connector", **call.headers}
    with outgoing.PlainSession() as session:
        try:
            answer = session.request(call.method, url, data=call.form, headers=headers, timeout=outgoing.timeout(), allow_redirects=False)
        except RequestException as error:
            # Only the class: the exception may hold the request, and that the token.
            raise ConnectorError(type(error).__name__) from None
    return answer.status_code


# --- Here --------------------------------------------------------------------------------------------------------------


@sensitive_variables()
def _forget(connection: Connection) -> None:
    """Take the tokens out; who shares the credential keeps it, and this connection gets one of its own."""
    with transaction.atomic():
        credential = Credential.objects.select_for_update().get(pk=connection.credential_id)
        kept = json.dumps(_without_tokens(json.loads(credential.secrets)))
        if credential.connections.exclude(pk=connection.pk).exists():
            credential = Credential.objects.create(secrets=kept)
        else:
            rows = Credential.objects.filter(pk=credential.pk)
            rows.update(secrets=kept, version=F("version") + 1, expires_at=None, scope="", changed_at=timezone.now())
        # The place stays: what hangs on it here belongs to it. Another person may connect now, for that is no silent switch.
        account = {name: value for name, value in connection.account.items() if name not in ("person", "person_name")}
        Connection.objects.filter(pk=connection.pk).update(
            credential=credential, account=account, status=Connection.Status.INCOMPLETE, status_reason=REASON
        )
    connection.refresh_from_db()


def _without_tokens(secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the tokens, and what tells that the configuration file gave them: it may give them again."""
    rest = {name: value for name, value in secrets.items() if name not in TOKENS}
    if configuration.APPLIED in rest:
        rest[configuration.APPLIED] = {name: digest for name, digest in rest[configuration.APPLIED].items() if name not in TOKENS}
    return rest
