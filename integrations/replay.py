"""Replay of deliveries: their jobs again, or what they point at where no job was asked for then."""

import uuid
from collections.abc import Iterable, Sequence

from django.db import transaction

from audit import ledger, replay
from audit.ledger import Ask
from audit.models import SyncJob
from audit.replay import Replayed
from integrations import asking, registry, systems
from integrations.core.events import Decision, Event
from integrations.models import Connection, Delivery


def jobs_of(delivery: Delivery) -> list[SyncJob]:
    """Return the jobs that intake asked for."""
    return list(SyncJob.objects.filter(pk__in=[uuid.UUID(pk) for pk in delivery.job_ids]).order_by("created_at"))


def replay_deliveries(deliveries: Iterable[Delivery], *, force: bool = False) -> list[Replayed]:
    """Replay the jobs of each delivery, all or none; one that led to none is asked about anew.

    The signature was verified when the delivery came and is not looked at again. A delivery that names no record, or
    whose record no route takes, adds nothing to the answer.
    """
    olds: dict[uuid.UUID, SyncJob] = {}
    anew: list[Replayed] = []
    with transaction.atomic():
        for delivery in deliveries:
            jobs = jobs_of(delivery)
            olds |= {job.pk: job for job in jobs}
            anew += [] if jobs else _asked_anew(delivery, force=force)
        return replay.replay(olds.values(), force=force) + anew


def _asked_anew(delivery: Delivery, *, force: bool) -> list[Replayed]:
    """Ask for the jobs of a delivery that had no route then, or whose event was not known; note them on it."""
    entry = registry.SOURCES.get(delivery.connection.system)
    event = entry.parse(bytes(delivery.body)) if entry else None
    if entry is None or event is None:
        return []
    home = _home(delivery.connection, entry, event)
    business = event.business or entry.business(systems.account(home))
    kind, key = asking.subject_of(event, business) if business else ("", "")
    if not key:
        return []
    customer_key = asking.customer_key_of(event, key)
    return _asked(
        delivery, key, asking.asks_for(home, asking.routes_of(home, invoice_key=key), kind, key, customer_key=customer_key, force=force)
    )


def _asked(delivery: Delivery, key: str, asks: Sequence[Ask]) -> list[Replayed]:
    requested = ledger.request(asks)
    own = [job for job, ask in zip(requested.jobs, asks, strict=True) if not ask.derived]
    if own:
        ledger.wake(job.pk for job in requested.jobs)
        values = {"decision": Decision.ACCEPTED, "reason": "", "subject": key, "job_ids": [str(job.pk) for job in own]}
        Delivery.objects.filter(pk=delivery.pk).update(**values)
    return [Replayed(job, job, joined=job.pk in requested.joined) for job in own]


def _home(connection: Connection, entry: registry.SourceEntry, event: Event) -> Connection:
    """Return the connection of the event's business, which may have been connected since."""
    others = Connection.objects.filter(system=connection.system).exclude(pk=connection.pk)
    known = (other for other in others if event.business and entry.business(systems.account(other)) == event.business)
    return next(known, connection)
