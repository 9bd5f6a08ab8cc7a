"""Turns rows into ready adapters: client, credentials, limits, plan and what is remembered of the account."""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import requests
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from audit import holds
from audit.models import Hold
from integrations import limits, oauth, outgoing, registry
from integrations.core.errors import ConnectorError, Disconnected, Misconfigured
from integrations.core.ports import Account, Check, Destination, FieldRule, Plan, Setting, Source, StatusRule
from integrations.http import ApiClient, Recorder, Silent
from integrations.models import Connection, Credential, RemoteShape, Route

SHAPE_KEEPS = timedelta(hours=24)
OK_NOTED_EVERY = timedelta(minutes=1)
_sessions = threading.local()


# --- Adapters ------------------------------------------------------------------------------------------------------


def account(connection: Connection) -> Account:
    """Return the connection as a value, without secrets."""
    return oauth.account(connection)


def source(
    connection: Connection,
    *,
    recorder: Recorder | None = None,
    deadline: float | None = None,
    insist: bool = False,
    auth: "ConnectionAuth | None" = None,
    lane: str = limits.LIVE,
) -> Source:
    """Return the adapter of a source connection; `deadline` is a time.monotonic(). Raises Misconfigured.

    auth   what the caller made, to look at afterwards; it says itself whether to insist
    lane   limits.BULK leaves a reserve of the account's limits to live work
    """
    entry = registry.SOURCES.get(connection.system)
    if entry is None:
        raise Misconfigured(f'"{connection.system}" is no source')
    api = _client(connection, recorder, deadline, auth or ConnectionAuth(connection, insist=insist), lane)
    return entry.build(api, account(connection), settings.BUSINESS_TIME_ZONE)


def destination(
    route: Route,
    *,
    recorder: Recorder | None = None,
    deadline: float | None = None,
    insist: bool = False,
    auth: "ConnectionAuth | None" = None,
    lane: str = limits.LIVE,
) -> Destination:
    """Return the adapter for a route's destination; as `source` in all else. What bulk brings is history: it is brought quietly.

    Raises Misconfigured.
    """
    api = _client(route.destination, recorder, deadline, auth or ConnectionAuth(route.destination, insist=insist), lane)
    wanted = replace(plan(route), quiet=lane == limits.BULK)
    return _destination_entry(route.destination).build(api, wanted, DatabaseShape(route))


def client(connection: Connection, *, lane: str = limits.LIVE) -> ApiClient:
    """Return the HTTP client of an account, for calls that serve no route. Raises Misconfigured."""
    return _client(connection, None, None, ConnectionAuth(connection), lane)


def _destination_entry(connection: Connection) -> registry.DestinationEntry:
    entry = registry.DESTINATIONS.get(connection.system)
    if entry is None:
        raise Misconfigured(f'"{connection.system}" is no destination')
    return entry


def _client(
    connection: Connection, recorder: Recorder | None, deadline: float | None, auth: "ConnectionAuth", lane: str = limits.LIVE
) -> ApiClient:
    entry = registry.entry(connection.system)
    known = account(connection)
    return ApiClient(
        base_url=outgoing.checked_url(entry.access.base_url(known, outgoing.vendor_urls())),
        auth=auth,
        session=_session(connection.pk),
        recorder=OkNoting(recorder or Silent(), connection),
        timeout=outgoing.timeout(),
        unauthorized=entry.unauthorized,
        gate=limits.gate_of(connection, lane),
        deadline=deadline,
    )


def _session(connection_id: int) -> requests.Session:
    """Return this thread's session to the account: its sockets stay open between runs, nothing else is kept."""
    sessions: dict[int, requests.Session] = _sessions.__dict__.setdefault("by_connection", {})
    if connection_id not in sessions:
        sessions[connection_id] = outgoing.PlainSession()
    return sessions[connection_id]


def close_sessions() -> None:
    """Close this thread's sockets, where their vendors are gone."""
    for session in _sessions.__dict__.pop("by_connection", {}).values():
        session.close()


@dataclass(slots=True)
class ConnectionAuth:
    """The credentials of a connection; the row is loaded when the first request is about to go out.

    insist   a person asks: try even what is marked as needing to be reconnected
    """

    connection: Connection
    insist: bool = False
    _credential: Credential | None = None

    @property
    def version(self) -> int | None:
        """The version of the credentials that were used last, None before the first use."""
        return self._credential.version if self._credential else None

    def headers(self) -> dict[str, str]:
        """Return the headers that prove who we are now. Raises Disconnected, Transient."""
        if self._credential is None:
            self._credential = oauth.ensure_token(self.connection.pk, insist=self.insist)
        return self._headers_from(self._credential)

    def renew(self, stale: dict[str, str]) -> bool:
        """Get other credentials after a 401: those that another worker stored meanwhile, else refreshed ones."""
        current = Credential.objects.get(pk=self.connection.credential_id)
        if self._headers_from(current) == stale:
            current = oauth.refreshed(self.connection.pk, current.version, insist=self.insist)
        self._credential = current
        return True

    def _headers_from(self, credential: Credential) -> dict[str, str]:
        access = registry.entry(self.connection.system).access
        try:
            headers = access.headers(account(self.connection), oauth.secrets_of(credential))
        except Misconfigured as error:
            raise Disconnected(f"{self.connection.slug} is not connected yet: {error}", code="incomplete") from None
        if not headers:  # never an anonymous call: some answer 200
            raise Disconnected(f"{self.connection.slug} is not connected yet", code="incomplete")
        return headers


@dataclass(slots=True)
class OkNoting:
    """A recorder that also notes on the connection that a call went well, at most once a minute."""

    recorder: Recorder
    connection: Connection

    def sending(self, method: str, path: str) -> Any:
        """Pass it on."""
        return self.recorder.sending(method, path)

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Pass it on, and note a success."""
        self.recorder.answered(token, status, milliseconds, request_id)
        if status is not None and status < 400:
            self._note()

    def _note(self) -> None:
        now = timezone.now()
        if self.connection.last_ok_at is not None and self.connection.last_ok_at > now - OK_NOTED_EVERY:
            return
        old = Q(last_ok_at=None) | Q(last_ok_at__lte=now - OK_NOTED_EVERY)
        Connection.objects.filter(old, pk=self.connection.pk).update(last_ok_at=now)
        self.connection.last_ok_at = now


# --- A route as a value --------------------------------------------------------------------------------------------


def plan(route: Route) -> Plan:
    """Return the route with its mappings as a value; options that were never set have their defaults.

    Two statements, none where the mappings were prefetched.
    """
    options = _with_defaults(registry.entry(route.destination.system).system.options, route.options)
    fields = tuple(
        FieldRule(row.kind, row.target, row.template, remote=row.remote, problem=row.problem) for row in _in_order(route.field_mappings)
    )
    statuses = tuple(StatusRule(row.state, row.status, via=_listed(row.via)) for row in _in_order(route.status_mappings))
    return Plan(route.slug, tuple(route.kinds), options, fields, statuses)


def _in_order(mappings: Any) -> list[Any]:
    return sorted(mappings.all(), key=lambda row: row.pk)


def _with_defaults(known: tuple[Setting, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    return {setting.name: setting.default for setting in known} | dict(given)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(slots=True)
class DatabaseShape:
    """What is remembered of a destination account for one route. One query loads it; a day makes it unknown again."""

    route: Route
    _values: dict[str, Any] | None = None

    def get(self, name: str) -> Any:
        """Return the remembered JSON value, or None."""
        return self._loaded().get(name)

    def ever(self, name: str) -> Any:
        """Return the remembered JSON value however old it is, or None; one statement."""
        return RemoteShape.objects.filter(route=self.route, name=name).values_list("value", flat=True).first()

    def put(self, name: str, value: Any) -> None:
        """Remember a JSON value; None forgets it."""
        self._loaded()[name] = value
        if value is None:
            RemoteShape.objects.filter(route=self.route, name=name).delete()
        else:
            RemoteShape.objects.update_or_create(route=self.route, name=name, defaults={"value": value, "learnt_at": timezone.now()})

    def _loaded(self) -> dict[str, Any]:
        if self._values is None:
            rows = RemoteShape.objects.filter(route=self.route, learnt_at__gt=timezone.now() - SHAPE_KEEPS)
            self._values = dict(rows.values_list("name", "value"))
        return self._values


@dataclass(slots=True)
class PassingShape:
    """What is learnt of an account that has no route yet: remembered while somebody looks at it."""

    values: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return the remembered value, or None."""
        return self.values.get(name)

    def ever(self, name: str) -> Any:
        """Return the remembered value, or None."""
        return self.values.get(name)

    def put(self, name: str, value: Any) -> None:
        """Remember a value."""
        self.values[name] = value


# --- Ping ----------------------------------------------------------------------------------------------------------


def ping(connection: Connection, *, insist: bool = True) -> list[Check]:
    """Prove an account against its real resources, a destination once per route, and remember what was found.

    When everything holds, a connection that was not ready is ready and its blocked jobs are due. `insist`: a person
    asks, so try even what is marked as needing to be reconnected.
    """
    try:
        adapters = _adapters(connection, insist=insist)
        checks = [_of_route(check, route if len(adapters) > 1 else "") for route, adapter in adapters for check in adapter.ping()]
    except ConnectorError as error:
        checks = [Check("call", ok=False, detail=str(error), advice=ADVICE.get(type(error).__name__, ""))]
    except Misconfigured as error:
        checks = [Check("set-up", ok=False, detail=str(error), advice="correct the connection's settings")]
    _remember(connection, checks)
    if checks and all(check.ok for check in checks):
        mark_ready(connection)
    return checks


def _of_route(check: Check, route: str) -> Check:
    """Say which route a check is about, where an account has several."""
    return replace(check, name=f"{route}: {check.name}") if route else check


def _remember(connection: Connection, checks: list[Check]) -> None:
    connection.checks, connection.checked_at = [asdict(check) for check in checks], timezone.now()
    Connection.objects.filter(pk=connection.pk).update(checks=connection.checks, checked_at=connection.checked_at)


ADVICE = {
    "Disconnected": "connect the account again, or enter new credentials",
    "Transient": "try again in a few minutes",
    "Rejected": "check what the account may do",
    "Missing": "check the connection's settings",
}


def _adapters(connection: Connection, *, insist: bool) -> list[tuple[str, Source | Destination]]:
    """Return what is to be pinged, with the name of the route where it is about one."""
    if connection.system in registry.SOURCES:
        return [("", source(connection, insist=insist))]
    routes = list(Route.objects.filter(destination=connection).select_related("destination"))
    if routes:
        return [(route.slug, destination(route, insist=insist)) for route in routes]
    entry = _destination_entry(connection)
    empty = Plan(route="", kinds=(), options=_with_defaults(entry.system.options, {}), fields=())
    return [("", entry.build(_client(connection, None, None, ConnectionAuth(connection, insist=insist)), empty, PassingShape()))]


def block_refused(connection: Connection) -> bool:
    """Block the jobs of every marked connection that shares this one's credential; False when this one is ready by now.

    The rows are locked, so that a connection that is being reconnected at this moment is not blocked again.
    """
    with transaction.atomic():
        sharing = Connection.objects.select_for_update().filter(credential_id=connection.credential_id)
        refused = list(sharing.filter(status=Connection.Status.NEEDS_RECONNECT).order_by("pk"))
        for row in refused:
            holds.block(row.pk)
    return connection.pk in {row.pk for row in refused}


def mark_ready(connection: Connection) -> bool:
    """Make a connection ready again and turn its blocked jobs loose; False when nothing stood in the way."""
    rows = Connection.objects.filter(pk=connection.pk).exclude(status=Connection.Status.READY)
    changed = bool(rows.update(status=Connection.Status.READY, status_reason=""))
    # An adapter may have found the grant dead without a refusal that marks the row.
    held = Hold.objects.filter(scope=f"connection:{connection.pk}", reason=holds.DISCONNECTED_REASON).exists()
    if changed or held:
        holds.release(connection.pk)
    return changed or held
