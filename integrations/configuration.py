"""Makes the database hold what the configuration file declares, in one transaction; and what a new route starts with."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac

from integrations import declared, fixed_places, oauth, outgoing, pausing, registry, rules, systems, webhook_secrets
from integrations.core.errors import Misconfigured
from integrations.core.mapping import near
from integrations.core.records import STATES
from integrations.declared import ConnectionTable, InvalidFile, RouteTable, Table
from integrations.models import Connection, Credential, FieldMapping, Intake, Route, StatusMapping

NOT_IN_FILE = "not_in_file"  # why --prune paused a route
NOT_NAMED = "the configuration file does not name it"
APPLIED = "_applied"  # among a credential's secrets: a digest per secret, as the file gave it last


def apply(text: str, environment: Mapping[str, str] | None = None, *, prune: bool = False) -> list[dict[str, Any]]:
    """Make the database hold what the file says; return one line per object. Running it twice changes nothing.

    What the file does not name is left alone; with `prune` routes are paused, and connections marked, though they go on.
    A variable that is not set keeps the secret that is stored already. Raises InvalidFile with every mistake; then nothing was changed.
    """
    file = declared.parse(text, os.environ if environment is None else environment)
    with transaction.atomic():
        lines = _each(_apply_connection, file.connections)
        lines += _each(_apply_route, file.routes)
        return lines + (_prune(file) if prune else [])


def _each(apply_one: Callable[[Table], dict[str, Any]], tables: Iterable[Table]) -> list[dict[str, Any]]:
    """Apply all tables of a sort, so that all their mistakes are told at once."""
    lines, mistakes = [], []
    for table in tables:
        try:
            lines.append(apply_one(table))
        except Misconfigured as error:
            mistakes.append(f"{table.where}: {error}")
        except ValidationError as error:
            mistakes.append(f"{table.where}: {_plain(error)}")
    if mistakes:
        raise InvalidFile(mistakes)
    return lines


def _plain(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    named = {name: " ".join(messages) for name, messages in error.message_dict.items()}
    return "; ".join(text if name == NON_FIELD_ERRORS else f"{name}: {text}" for name, text in named.items())


def _change(*, created: bool, changed: bool) -> str:
    if created:
        return "created"
    return "updated" if changed else "unchanged"


# --- Connections -----------------------------------------------------------------------------------------------------


def _apply_connection(table: ConnectionTable) -> dict[str, Any]:
    row = Connection.objects.filter(slug=table.slug).first()
    created = row is None
    if row is None:
        row = Connection(slug=table.slug, system=table.system)
    elif row.system != table.system:
        raise Misconfigured(f"the system of a connection is fixed, and this one is {row.system}: choose another slug")
    _require_variables(row, table)
    changed = _change_account(row, table)
    changed |= bool(Connection.objects.filter(pk=row.pk, status_reason=NOT_NAMED).update(status_reason=""))
    hears = table.system in registry.SOURCES or table.webhook_secrets is not None
    if hears or registry.takes_webhooks(table.system):
        kept = declared.WEBHOOK_SECRETS in table.absent
        changed |= _apply_intake(row, None if kept else table.webhook_secrets)
    line = {"connection": row.slug, "system": row.system, "change": _change(created=created, changed=changed)}
    return line | ({"webhook_url": webhook_url(row)} if hears else {})


def _require_variables(row: Connection, table: ConnectionTable) -> None:
    """Refuse a variable that is not set, unless the connection holds that secret already."""
    if not table.absent:
        return
    held = _held(row) if row.pk is not None and row.auth == table.auth else {}
    for name, variables in table.absent.items():
        kept = _keeps_webhook_secrets(row, table) if name == declared.WEBHOOK_SECRETS else bool(held.get(name))
        if not kept:
            raise Misconfigured(declared.not_set(name, variables[0]))


def _keeps_webhook_secrets(row: Connection, table: ConnectionTable) -> bool:
    """Whether none of the listed variables is set, and as many secrets are stored."""
    intake = Intake.objects.filter(connection_id=row.pk).first() if row.pk is not None else None
    listed = len(table.absent[declared.WEBHOOK_SECRETS])
    return intake is not None and not table.webhook_secrets and len(webhook_secrets.stored(intake)) == listed


def webhook_url(connection: Connection) -> str:
    """Return where the source's webhook must be pointed at."""
    return f"{settings.PUBLIC_URL}/webhooks/{connection.system}/{connection.uuid}/"


def _change_account(row: Connection, table: ConnectionTable) -> bool:
    """Bring settings and secrets to what the table says; whether anything was different."""
    before = (row.auth, row.settings)
    kept = row.settings if row.auth == table.auth else {}
    row.auth, row.settings = table.auth, rules.checked_settings(table.system, table.auth, {**kept, **table.settings})
    fixed_places.check_place_kept(row, row.settings)
    row.full_clean(exclude=["credential"])
    new_secrets = _change_secrets(row, table.secrets, keep=before[0] == table.auth)
    changed = new_secrets or before != (row.auth, row.settings)
    if changed:
        _save_account(row)
    return changed


def _save_account(row: Connection) -> None:
    """Store the account; one that has now what it needs is ready, and what waited for that is due."""
    if row.pk is None:
        row.status = Connection.Status.READY if is_complete(row) else Connection.Status.INCOMPLETE
        row.save()
        return
    row.save(update_fields=["auth", "settings"])
    if not is_complete(row):
        Connection.objects.filter(pk=row.pk).update(status=Connection.Status.INCOMPLETE, status_reason="")
        return
    systems.mark_ready(row)
    for sharing in row.credential.connections.filter(status=Connection.Status.NEEDS_RECONNECT):
        systems.mark_ready(sharing)


def is_complete(connection: Connection) -> bool:
    """Whether the account has all that its way in needs: an access token, or what it takes to get one."""
    access = registry.entry(connection.system).access
    known, held = oauth.account(connection), oauth.secrets_of(connection.credential)
    try:
        access.base_url(known, outgoing.vendor_urls())
    except Misconfigured:  # e.g. a site that Connect has yet to ask for
        return False
    with suppress(Misconfigured):
        if access.headers(known, held):
            return True
    return oauth.token_call(connection) is not None


def _change_secrets(row: Connection, given: Mapping[str, str], *, keep: bool) -> bool:
    """Store the secrets that the file gives differently than last time; tokens that were refreshed since stay."""
    held = _held(row) if keep else {}
    applied: dict[str, str] = held.get(APPLIED, {})
    digests = {name: _digest(name, value) for name, value in given.items()}
    new = {name for name, digest in digests.items() if applied.get(name) != digest}
    if not new and keep:
        return False
    secrets = {**held, **{name: given[name] for name in new}, APPLIED: applied | digests}
    if new and "access_token" not in new:
        secrets = _without_old_token(row, secrets)
    row.credential = _stored(row, json.dumps(secrets))
    return True


def _held(row: Connection) -> dict[str, Any]:
    """Return the secrets as they are now, locked against a refresh where the database can lock rows."""
    secrets: dict[str, Any] = json.loads(Credential.objects.select_for_update().get(pk=row.credential_id).secrets)
    return secrets


def _without_old_token(row: Connection, secrets: dict[str, Any]) -> dict[str, Any]:
    """Leave out an access token that came from other secrets, where the new ones can get another."""
    rest = {name: value for name, value in secrets.items() if name != "access_token"}
    return secrets if oauth.token_call(row, rest) is None else rest


def _stored(row: Connection, secrets: str) -> Credential:
    if row.pk is None:
        return Credential.objects.create(secrets=secrets)
    rows = Credential.objects.filter(pk=row.credential_id)
    rows.update(secrets=secrets, version=F("version") + 1, expires_at=None, scope="", changed_at=timezone.now())
    return rows.get()


def _digest(name: str, secret: str) -> str:
    """Return what tells whether the file gives another secret than last time, without keeping it twice."""
    return salted_hmac(f"integrations.configuration.{name}", secret, algorithm="sha256").hexdigest()


def _apply_intake(row: Connection, secrets: tuple[str, ...] | None) -> bool:
    intake, _ = Intake.objects.get_or_create(connection=row)
    if secrets is None or json.loads(intake.secrets) == list(secrets):
        return False
    webhook_secrets.replace(intake, secrets)
    return True


# --- Routes ----------------------------------------------------------------------------------------------------------


def _apply_route(table: RouteTable) -> dict[str, Any]:
    row = Route.objects.select_related("source", "destination").filter(slug=table.slug).first()
    created = row is None
    if row is None:
        row = Route(slug=table.slug)
        _require(table)
    changed = _change_route(row, table)
    if created:
        new_route_rows(row)
    changed |= _apply_statuses(row, table.statuses)
    changed |= _apply_fields(row, table.fields)
    changed |= _apply_pause(row, table.paused)
    return {"route": row.slug, "change": _change(created=created, changed=changed)}


def _apply_pause(row: Route, paused: bool | None) -> bool:
    """Pause or resume; a route that only --prune had paused goes on when it is named again."""
    if paused is None:
        paused = row.paused_at is not None and pausing.reason(row) != NOT_IN_FILE
    if paused == (row.paused_at is not None):
        return False
    if paused:
        pausing.pause(row)
    else:
        pausing.resume(row)
    return True


def _require(table: RouteTable) -> None:
    for name, value in (("source", table.source), ("destination", table.destination), ("kinds", table.kinds)):
        if value is None:
            raise Misconfigured(f'"{name}" is missing')


def _change_route(row: Route, table: RouteTable) -> bool:
    before = None if row.pk is None else (row.source_id, row.destination_id, row.kinds, row.options)
    if table.source is not None:
        row.source = _connection("source", table.source)
    if table.destination is not None:
        row.destination = _connection("destination", table.destination)
    row.kinds = row.kinds if table.kinds is None else table.kinds
    row.options = {**row.options, **table.options}
    rules.check_ends(row.source.system, row.destination.system)
    row.full_clean()
    changed = before != (row.source_id, row.destination_id, row.kinds, row.options)
    if changed:
        row.save()
    return changed


def _connection(end: str, slug: str) -> Connection:
    found = Connection.objects.filter(slug=slug).first()
    if found is None:
        known = list(Connection.objects.values_list("slug", flat=True))
        raise Misconfigured(f'{end}: there is no connection "{slug}"{near(slug, known)}')
    return found


def new_route_rows(route: Route) -> None:
    """Give a new route its system's default mappings: fields, and where there is a workflow a status for every state."""
    system = registry.entry(route.destination.system).system
    fields = [FieldMapping(route=route, kind=row.kind, target=row.target, template=row.template) for row in system.defaults]
    FieldMapping.objects.bulk_create(fields)
    if system.statuses:
        states = dict.fromkeys([*STATES, *system.statuses])
        StatusMapping.objects.bulk_create(
            [StatusMapping(route=route, state=state, status=system.statuses.get(state, "")) for state in states]
        )


def _apply_statuses(route: Route, statuses: Mapping[str, str]) -> bool:
    system = registry.entry(route.destination.system).system
    if statuses and not system.statuses:
        raise Misconfigured(f"[route.statuses]: {system.label} has no workflow: leave the table out")
    changed = False
    for state, status in statuses.items():
        row = StatusMapping.objects.filter(route=route, state=state).first() or StatusMapping(route=route, state=state)
        if row.status != status:  # no row means the same as an empty one
            row.status = status
            row.full_clean()
            row.save()
            changed = True
    return changed


def _apply_fields(route: Route, fields: Mapping[str, Mapping[str, str]]) -> bool:
    wanted = [(kind, target, template) for kind, templates in fields.items() for target, template in templates.items()]
    return sum(_apply_template(route, *row) for row in wanted) > 0


def _apply_template(route: Route, kind: str, target: str, template: str) -> bool:
    rows = FieldMapping.objects.filter(route=route, kind=kind, target=target)
    if not template:
        return bool(rows.delete()[0])
    row = rows.first() or FieldMapping(route=route, kind=kind, target=target)
    if row.template == template:
        return False
    row.template, row.problem = template, ""  # what the destination refused may have been the old template's value
    row.full_clean()
    row.save()
    return True


# --- What the file does not name -------------------------------------------------------------------------------------


def _prune(file: declared.File) -> list[dict[str, Any]]:
    """Pause the routes that the file does not name, and mark the connections that neither it nor its routes name."""
    slugs = [table.slug for table in file.routes]
    ends = {pk for pair in Route.objects.filter(slug__in=slugs).values_list("source_id", "destination_id") for pk in pair}
    connections = Connection.objects.exclude(slug__in=[table.slug for table in file.connections]).exclude(pk__in=ends)
    routes = Route.objects.exclude(slug__in=slugs)
    return [_mark(row) for row in connections.order_by("slug")] + [_disable(row) for row in routes.order_by("slug")]


def _mark(row: Connection) -> dict[str, Any]:
    """Say on a connection that the file does not name it. A reason that a person must act on stays."""
    line = {"connection": row.slug, "system": row.system}
    if row.status_reason:
        return line | {"change": "unchanged"}
    Connection.objects.filter(pk=row.pk, status_reason="").update(status_reason=NOT_NAMED)
    return line | {"change": "marked", "reason": NOT_NAMED}


def _disable(row: Route) -> dict[str, Any]:
    if row.paused_at is not None:
        return {"route": row.slug, "change": "unchanged"}
    pausing.pause(row, reason=NOT_IN_FILE)
    return {"route": row.slug, "change": "disabled", "reason": NOT_NAMED}
