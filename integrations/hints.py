"""receive(): take a destination's own webhook request, store it once, and have what it hints at looked at again."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from audit import ledger
from audit.ledger import Ask
from integrations import asking, bindings, inbox, oauth, registry, remote_webhooks, systems, webhook_secrets
from integrations.core.events import Decision
from integrations.core.hooks import Hint
from integrations.core.records import kind_of
from integrations.inbox import Reply
from integrations.models import Binding, Connection, Delivery, Intake
from integrations.models.secrets import WrongKeyError

log = logging.getLogger(__name__)


def receive(system: str, connection_id: UUID, headers: Mapping[str, str], body: bytes) -> Reply:
    """Take one request, as raw bytes; a verified one is answered 200 at once, for workers do what follows from it."""
    entry = registry.DESTINATIONS.get(system)
    hooks = entry.hooks if entry else None
    if hooks is None:
        return Reply(404, "unknown connection")
    try:
        return _receive(hooks, system, connection_id, headers, body)
    except WrongKeyError as error:
        log.error("%s", error)
        return Reply(503, "the webhook secret cannot be read", 60)


def _receive(hooks: registry.Hooks, system: str, connection_id: UUID, headers: Mapping[str, str], body: bytes) -> Reply:
    connection = Connection.objects.select_related("credential", "intake").filter(uuid=connection_id, system=system).first()
    if connection is None:
        return Reply(404, "unknown connection")
    # Whoever is not verified must not make rows, so none is made here.
    intake: Intake | None = getattr(connection, "intake", None)
    signing = webhook_secrets.stored(intake) if intake else []
    verdict = hooks.verify(systems.account(connection), oauth.secrets_of(connection.credential), signing, headers, body)
    if not verdict.verified:
        return inbox.turn_away(intake, verdict) if intake else Reply(401, "not verified")
    secret = webhook_secrets.fingerprint(signing[verdict.secret]) if 0 <= verdict.secret < len(signing) else ""
    delivery = _store(connection, hooks, Request(hooks.identifier(headers), body, secret))
    return Reply(200, delivery.decision)


# --- Stored once --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A verified request; `secret` is the fingerprint of what it was signed with, "" where that was the app's own secret.

    Neither way of signing carries a time, so that nothing is known of the sender's clock.
    """

    identifier: str
    body: bytes
    secret: str


def _store(connection: Connection, hooks: registry.Hooks, request: Request) -> Delivery:
    """Store a delivery and ask for its jobs; of one that came before, only count that it came again."""
    hint = hooks.parse(request.body)
    delivery = _delivery(connection, hooks, hint, request)
    known = _known(delivery, request.identifier)
    if known is not None:
        return known
    try:
        with transaction.atomic():
            _enter(delivery, hooks, hint)
            delivery.save(force_insert=True)
    except IntegrityError:  # its twin came at the same time
        return _known(delivery, request.identifier) or delivery
    return delivery


def _delivery(connection: Connection, hooks: registry.Hooks, hint: Hint | None, request: Request) -> Delivery:
    now = timezone.now()
    return Delivery(
        connection=connection,
        event_type=hint.event if hint else "",
        event_hash=hashlib.sha256(request.identifier.encode(errors="replace")).hexdigest(),
        body_hash=hashlib.sha256(request.body).hexdigest(),
        body=hooks.essence(request.body),
        secret=request.secret,
        received_at=now,
        last_seen_at=now,
    )


def _known(delivery: Delivery, identifier: str) -> Delivery | None:
    """Return the stored delivery with this identifier and count it; without an identifier, the one with this body."""
    same = Delivery.objects.filter(connection=delivery.connection, event_hash=delivery.event_hash)
    if not identifier:
        same = same.filter(body_hash=delivery.body_hash)
    found = same.order_by("received_at").first()
    if found is not None:
        Delivery.objects.filter(pk=found.pk).update(seen=F("seen") + 1, last_seen_at=timezone.now(), secret=delivery.secret)
    return found


# --- What follows from it -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Decided:
    """What intake decides about a delivery, and the remote objects that are to be looked at again."""

    decision: Decision
    reason: str = ""
    doubted: tuple[Binding, ...] = ()


def _enter(delivery: Delivery, hooks: registry.Hooks, hint: Hint | None) -> None:
    """Decide about the delivery, put in doubt what it hints at, and wake the workers for the jobs of those records."""
    decided = _decide(delivery.connection, hooks, hint)
    delivery.decision, delivery.reason = decided.decision, decided.reason
    if not decided.doubted:
        return
    delivery.subject = decided.doubted[0].key
    bindings.doubt(decided.doubted)
    requested = ledger.request(_asks(decided.doubted))
    delivery.job_ids = [str(job.pk) for job in requested.jobs]
    ledger.wake(job.pk for job in requested.jobs)


def _decide(connection: Connection, hooks: registry.Hooks, hint: Hint | None) -> _Decided:
    if hint is None:
        return _Decided(Decision.QUARANTINED, "unreadable")
    if not hint.happened:
        return _Decided(Decision.IGNORED, "by_name" if not hint.object_id else "other_change") if hint.known else _unknown()
    if hint.ours and hint.actor and hint.actor == remote_webhooks.own_account(connection):
        return _Decided(Decision.IGNORED, "echo")
    rows = _bound(connection, hooks, hint.object_id)
    if not rows:
        return _Decided(Decision.IGNORED, "not_ours")
    doubted = tuple(row for row in rows if row.kind in hint.doubts and row.state != Binding.State.LOST)
    if not doubted:
        return _Decided(Decision.IGNORED, "lost" if any(row.state == Binding.State.LOST for row in rows) else "not_kept")
    return _Decided(Decision.ACCEPTED, hint.happened, doubted)


def _unknown() -> _Decided:
    return _Decided(Decision.UNKNOWN, "unknown_event")


def _bound(connection: Connection, hooks: registry.Hooks, object_id: str) -> list[Binding]:
    """Return what is bound to a remote object on any of the account's routes, where the record is of the route's business."""
    rows = Binding.objects.filter(route__destination=connection, remote_id=object_id, kind__in=hooks.kinds)
    found = rows.select_related("route__source", "route__destination").order_by("pk")
    return [row for row in found if asking.own(row.route.source, [row.key])]


def _asks(rows: Sequence[Binding]) -> list[Ask]:
    """Return one ask for each record that the rows mirror."""
    found: dict[tuple[int, str, str], Ask] = {}
    for row in rows:
        wanted = asking.ask(row.route.source, row.route, kind_of(row.key), row.key, title=row.title)
        found.setdefault(wanted.identity, wanted)
    return list(found.values())
