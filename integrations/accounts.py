"""Accounts as a person enters them in the browser: new secrets are stored, those left empty stay."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from integrations import configuration, oauth, registry, systems, webhook_secrets
from integrations.models import Connection, Credential, Intake


@dataclass(frozen=True, slots=True)
class Entered:
    """What was typed in; `forget_webhook_secrets` ends those that were stored before. Its repr shows no secret."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    forget_webhook_secrets: bool = False


def held(connection: Connection) -> frozenset[str]:
    """Return the names of the secrets that are stored. Raises WrongKeyError."""
    return frozenset(name for name, value in oauth.secrets_of(connection.credential).items() if value)


@sensitive_variables()
def store(connection: Connection, entered: Entered) -> None:
    """Store an account with what was entered; one that is complete is ready, and what waited for that is due.

    Secrets of another way in are forgotten. Makes no calls. Raises WrongKeyError.
    """
    with transaction.atomic():
        if connection.pk is None:
            _add(connection, entered.secrets)
        else:
            _change(connection, entered.secrets)
        if registry.takes_webhooks(connection.system):
            _store_webhook_secrets(connection, entered)


def remove(connection: Connection) -> None:
    """Delete a connection, and its credential unless another connection uses it."""
    with transaction.atomic():
        connection.delete()
        Credential.objects.filter(pk=connection.credential_id, connections=None).delete()


def _add(connection: Connection, secrets: Mapping[str, str]) -> None:
    connection.credential = Credential.objects.create(secrets=json.dumps(dict(secrets)))
    complete = configuration.is_complete(connection)
    connection.status = Connection.Status.READY if complete else Connection.Status.INCOMPLETE
    connection.save()


def _change(connection: Connection, secrets: Mapping[str, str]) -> None:
    same_way_in = Connection.objects.values_list("auth", flat=True).get(pk=connection.pk) == connection.auth
    renewed = bool(secrets) or not same_way_in
    if renewed:
        credential = Credential.objects.select_for_update().get(pk=connection.credential_id)
        kept = json.loads(credential.secrets) if same_way_in else {}
        connection.credential = _stored(connection, {**kept, **secrets}, fresh_token="access_token" in secrets)
    connection.save(update_fields=["auth", "settings"])
    _judge(connection, renewed=renewed)


def _stored(connection: Connection, secrets: dict[str, Any], *, fresh_token: bool) -> Credential:
    """Store the secrets; an access token that came from older ones goes, where a new one can be got."""
    rest = {name: value for name, value in secrets.items() if name != "access_token"}
    if not fresh_token and oauth.token_call(connection, rest) is not None:
        secrets = rest
    rows = Credential.objects.filter(pk=connection.credential_id)
    # The version tells a worker that is refreshing the old token that its answer is worth nothing any more.
    rows.update(secrets=json.dumps(secrets), version=F("version") + 1, expires_at=None, scope="", changed_at=timezone.now())
    return rows.get()


def _judge(connection: Connection, *, renewed: bool) -> None:
    """Set the status anew. A dead grant stays dead until secrets are renewed; those who share them are ready too."""
    if not configuration.is_complete(connection):
        Connection.objects.filter(pk=connection.pk).update(status=Connection.Status.INCOMPLETE, status_reason="")
    elif renewed:
        systems.mark_ready(connection)
        for sharing in connection.credential.connections.filter(status=Connection.Status.NEEDS_RECONNECT):
            systems.mark_ready(sharing)
    elif connection.status == Connection.Status.INCOMPLETE:
        systems.mark_ready(connection)


def _store_webhook_secrets(connection: Connection, entered: Entered) -> None:
    intake, _ = Intake.objects.get_or_create(connection=connection)
    kept: Iterable[str] = [] if entered.forget_webhook_secrets else json.loads(intake.secrets)
    secrets = list(dict.fromkeys([*kept, *entered.webhook_secrets]))
    webhook_secrets.replace(intake, secrets)
