"""Keeps our webhooks at destinations registered and alive: under a lease, daily, and confirmed by reading back."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from integrations import registry, systems
from integrations.core.errors import ConnectorError, Misconfigured, Rejected
from integrations.core.hooks import Keeper, Remote, Wish
from integrations.models import Connection, Intake, RemoteWebhook, Route

LEASE = timedelta(minutes=5)  # more than the calls of one look can take
DAILY = timedelta(hours=24)
ALARM = timedelta(days=7)
UNCONFIRMED = timedelta(days=2)  # a day's look may fail once
FRESH = timedelta(days=29)  # of the 30 that a refresh gives
MOST = 5  # webhooks per app, user and site
ACCOUNT_ID = "accountId"  # in Connection.account
ADVICE = {
    "scope": "the grant lacks manage:jira-webhook: allow it for the app, then connect again",
    "forbidden": "the account may not register webhooks: connect with OAuth",
}


# --- By schedule --------------------------------------------------------------------------------------------------


def keep_due(*, budget: float) -> int:
    """Look after the webhooks that need it now, for so many seconds; return how many were looked after.

    What the budget does not suffice for is due at the next round. Safe to run many times at once.
    """
    end, done = time.monotonic() + budget, 0
    for connection in _candidates():
        if time.monotonic() >= end:
            break
        if connection.auth in _hooks(connection).auths:
            done += bool(_is_due(connection) and keep(connection))
        elif not own_account(connection) and connection.routes_in.exists():
            _learn_account_alone(connection)
    return done


def _candidates() -> list[Connection]:
    """Return the accounts that can be called, of systems that have webhooks."""
    names = [name for name, entry in registry.DESTINATIONS.items() if entry.hooks]
    ready = Connection.objects.filter(system__in=names, status=Connection.Status.READY)
    longest_ago = F("remote_webhook__tried_at").asc(nulls_first=True)  # so that a short budget starves nobody
    return list(ready.select_related("remote_webhook").order_by(longest_ago, "pk"))


def _is_due(connection: Connection) -> bool:
    """Whether something is missing, a day has gone by, or the end is near."""
    row, wish, now = _row(connection), wish_of(connection), timezone.now()
    if wish is None:
        return row is not None and bool(row.remote_id)
    if row is None or not row.remote_id or not _holds(row, wish):
        return True
    if row.refreshed_at is None or row.expires_at is None:
        return True
    return now - row.refreshed_at >= DAILY or row.expires_at - now < ALARM


def _row(connection: Connection) -> RemoteWebhook | None:
    return getattr(connection, "remote_webhook", None)


def _holds(row: RemoteWebhook, wish: Wish) -> bool:
    """Whether what was registered is what is wished for now."""
    return (row.url, row.query, tuple(row.events)) == (wish.url, wish.query, wish.events)


def _hooks(connection: Connection) -> registry.Hooks:
    entry = registry.DESTINATIONS.get(connection.system)
    if entry is None or entry.hooks is None:
        raise Misconfigured(f'"{connection.system}" has no webhooks of its own')
    return entry.hooks


def wish_of(connection: Connection) -> Wish | None:
    """Return the webhook that the connection's routes call for, None when they call for none. Raises Misconfigured."""
    options = Route.objects.filter(destination=connection).order_by("pk").values_list("options", flat=True)
    return _hooks(connection).wish(url_of(connection), list(options))


def url_of(connection: Connection) -> str:
    """Return where deliveries about this connection must be sent."""
    return f"{_base(connection)}{connection.uuid}/"


def _base(connection: Connection) -> str:
    return f"{settings.PUBLIC_URL}/webhooks/{connection.system}/"


# --- One connection -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Look:
    """One look after the webhooks of a connection; `values` is what the row will say of it."""

    connection: Connection
    keeper: Keeper
    wish: Wish | None
    known_id: str
    now: datetime
    values: dict[str, Any] = field(default_factory=dict)


def keep(connection: Connection) -> bool:
    """Register what is missing, remove orphans, refresh, and confirm by reading back; False when another worker is at it.

    A failure is stored on the row and told by `webhook_health`, not raised. Running it twice changes nothing.
    """
    return _under_lease(connection, wish_of(connection))


def remove(connection: Connection) -> bool:
    """Remove our webhooks at the destination, e.g. before the grant is given up; failures are stored, not raised."""
    return _under_lease(connection, None)


def _under_lease(connection: Connection, wish: Wish | None) -> bool:
    row, _ = RemoteWebhook.objects.get_or_create(connection=connection)
    owner = str(uuid.uuid4())
    now = timezone.now()
    # As it was read: who comes after another's look finds nothing left to do.
    free = (Q(lease_until=None) | Q(lease_until__lte=now)) & Q(pk=row.pk, tried_at=row.tried_at)
    if not RemoteWebhook.objects.filter(free).update(lease_until=now + LEASE, lease_owner=owner):
        return False
    values: dict[str, Any] = {}
    try:
        values = _looked_after(connection, wish, row.remote_id, now)
    finally:
        mine = RemoteWebhook.objects.filter(pk=row.pk, lease_owner=owner)
        mine.update(lease_until=None, lease_owner="", tried_at=now, **values)
    return True


def _looked_after(connection: Connection, wish: Wish | None, known_id: str, now: datetime) -> dict[str, Any]:
    """Do what is to be done and return what the row shall say, also after a failure."""
    values: dict[str, Any] = {}
    try:
        keeper = _hooks(connection).keeper(systems.client(connection))
        _carry_out(Look(connection, keeper, wish, known_id, now, values))
    except (ConnectorError, Misconfigured) as error:
        return values | {"problem": _told(error)}
    return values | {"problem": ""}


def _told(error: ConnectorError | Misconfigured) -> str:
    if not isinstance(error, ConnectorError):
        return str(error)[:500]
    advice = ADVICE.get(error.code, "")
    # Elsewhere the vendor's words may name people; why it registers nothing is about the request alone.
    words = error.words if error.code == "not_registered" else ""
    return ": ".join(part for part in (str(error), words, advice) if part)[:500]


def _carry_out(look: Look) -> None:
    learn_account(look.connection, look.keeper)
    listed = look.keeper.listed()
    standing = _standing(look, listed)
    doomed = [hook for hook in listed if hook != standing and _is_orphan(look, hook)]
    # Those in the way go first. The others only when the new one stands, so that nothing is missed in between.
    blocking = [hook for hook in doomed if look.wish is None or hook.url != look.wish.url or len(listed) >= MOST]
    _delete(look, blocking)
    if look.wish is None:
        look.values |= {"remote_id": "", "url": "", "query": "", "events": [], "expires_at": None, "refreshed_at": None}
        return
    standing = standing or _registered(look, look.wish)
    _delete(look, [hook for hook in doomed if hook not in blocking])
    _refresh(look, look.wish, standing)


def _standing(look: Look, listed: Sequence[Remote]) -> Remote | None:
    """Return the living webhook that is what is wished for, the one we know before others."""
    if look.wish is None:
        return None
    same = _hooks(look.connection).same
    # An expired one may stay listed for months, and whether it can be revived is not known.
    living = [hook for hook in listed if same(look.wish, hook) and not _expired(hook, look.now)]
    return min(living, key=lambda hook: hook.id != look.known_id, default=None)


def _expired(hook: Remote, now: datetime) -> bool:
    return hook.expires_at is not None and hook.expires_at <= now


def _is_orphan(look: Look, hook: Remote) -> bool:
    """Whether a webhook of our app is one that nobody else needs: it ended, was ours, or points at nobody here."""
    if _expired(hook, look.now) or hook.id == look.known_id or str(look.connection.uuid) in hook.url:
        return True
    base = _base(look.connection)
    return hook.url.startswith(base) and not _points_at_somebody(hook.url.removeprefix(base))


def _points_at_somebody(rest: str) -> bool:
    try:
        return Connection.objects.filter(uuid=uuid.UUID(rest.strip("/"))).exists()
    except ValueError:
        return False


def _delete(look: Look, hooks: Sequence[Remote]) -> None:
    if hooks:
        look.keeper.delete([hook.id for hook in hooks])


def _registered(look: Look, wish: Wish) -> Remote:
    """Register the webhook and remember its id even if all that follows fails."""
    found = Remote(look.keeper.register(wish), wish.url, wish.query, wish.events)
    look.values |= {"remote_id": found.id, "url": wish.url, "query": wish.query, "events": list(wish.events)}
    look.values |= {"registered_at": look.now, "expires_at": None, "refreshed_at": None}
    return found


def _refresh(look: Look, wish: Wish, standing: Remote) -> None:
    """Refresh and read back; one that did not get a new end is replaced. Raises Rejected `not_confirmed`."""
    look.keeper.refresh([standing.id])
    found = _read_back(look, standing)
    if found is None:
        look.keeper.delete([standing.id])
        found = _read_back(look, replace(_registered(look, wish), expires_at=None))
    if found is None:
        raise Rejected("the webhook was registered anew, and still is not confirmed by what the site lists", code="not_confirmed")
    look.values |= {"remote_id": found.id, "url": wish.url, "query": wish.query, "events": list(wish.events)}
    look.values |= {"expires_at": found.expires_at, "refreshed_at": look.now}


def _read_back(look: Look, before: Remote) -> Remote | None:
    """Return the webhook as it is listed now, None when it is not listed or its end has not moved."""
    found = next((hook for hook in look.keeper.listed() if hook.id == before.id), None)
    if found is None or found.expires_at is None:
        return None
    least = look.now + ALARM if before.expires_at is None else before.expires_at
    return found if found.expires_at > least or found.expires_at >= look.now + FRESH else None


# --- Who we are there ---------------------------------------------------------------------------------------------


def own_account(connection: Connection) -> str:
    """Return the id by which the destination's deliveries name us, "" while it is not known."""
    found = connection.account.get(ACCOUNT_ID)
    return found if isinstance(found, str) else ""


def learn_account(connection: Connection, keeper: Keeper) -> None:
    """Note who we are at the destination. Raises ConnectorError."""
    found = keeper.own_account()
    if not found or found == own_account(connection):
        return
    with transaction.atomic():
        row = Connection.objects.select_for_update().get(pk=connection.pk)
        connection.account = {**row.account, ACCOUNT_ID: found}
        Connection.objects.filter(pk=row.pk).update(account=connection.account)


def _learn_account_alone(connection: Connection) -> None:
    """Learn it for an account that registers nothing; until then its echoes are looked at like news."""
    try:
        learn_account(connection, _hooks(connection).keeper(systems.client(connection)))
    except (ConnectorError, Misconfigured):
        return  # the next round asks again; what is wrong with the account shows elsewhere


# --- Health -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebhookHealth:
    """A destination's webhook for the connection's page and `status --json`.

    way         registered (by us, and it ends) | by_hand (an admin makes it, with a secret)
    ok          False: a person should look, `advice` says at what
    days_left   whole days until it ends, negative once it has; None where that is not known or does not apply
    """

    way: str
    url: str
    ok: bool
    registered: bool
    expires_at: datetime | None = None
    days_left: int | None = None
    refreshed_at: datetime | None = None
    problem: str = ""
    advice: str = ""


def webhook_health(connection: Connection, now: datetime | None = None) -> WebhookHealth | None:
    """Return how the connection's webhook is doing, None for one that has or needs none. Makes no calls."""
    entry = registry.DESTINATIONS.get(connection.system)
    if entry is None or entry.hooks is None or not connection.routes_in.exists():
        return None
    if connection.auth not in entry.hooks.auths:
        return _by_hand(connection)
    row = RemoteWebhook.objects.filter(connection=connection).first()
    return _by_us(connection, row or RemoteWebhook(connection=connection), now or timezone.now())


def as_json(health: WebhookHealth) -> dict[str, Any]:
    """Return it as JSON values; times are ISO text."""
    values = asdict(health)
    return {name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value for name, value in values.items()}


def _by_hand(connection: Connection) -> WebhookHealth:
    # Nothing is lost without it: it only brings news earlier.
    stored = Intake.objects.filter(connection=connection).exclude(known_secrets=None).exists()
    advice = "" if stored else "let a Jira admin make a webhook to this address, with a secret, and enter the secret here"
    return WebhookHealth("by_hand", url_of(connection), ok=True, registered=stored, advice=advice)


def _by_us(connection: Connection, row: RemoteWebhook, now: datetime) -> WebhookHealth:
    advice = _advice(connection, row, now)
    return WebhookHealth(
        "registered",
        row.url or url_of(connection),
        ok=not advice,
        registered=bool(row.remote_id),
        expires_at=row.expires_at,
        days_left=None if row.expires_at is None else (row.expires_at - now).days,
        refreshed_at=row.refreshed_at,
        problem=row.problem,
        advice=advice,
    )


def _advice(connection: Connection, row: RemoteWebhook, now: datetime) -> str:
    if connection.status != Connection.Status.READY:
        return "connect the account: its webhook cannot be refreshed"
    if not row.remote_id:
        return "it is not registered" + ("; the worker does so within the hour" if not row.problem else "")
    if row.expires_at is None or row.refreshed_at is None:
        return "it is registered, but not confirmed"
    if row.expires_at - now < ALARM:
        return "it ends in less than 7 days: see why it is not refreshed, and that a worker runs"
    return "it was not confirmed for 2 days: see why, and that a worker runs" if now - row.refreshed_at > UNCONFIRMED else ""
