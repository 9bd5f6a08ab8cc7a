"""The holds of vendors that are down: each ends with a single probe, which closes it or makes it longer."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import F
from django.utils import timezone

from audit.models import Hold, SyncJob

REASON = "vendor_down"
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=15), timedelta(minutes=4)
PROBE_LEASE = timedelta(seconds=60)  # longer than a run may last; the probe of a worker that died is free again then


def wait_after(probes: int) -> timedelta:
    """Return how long nothing is sent after so many probes in vain."""
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(probes, 10)))


def begin(scope: str) -> None:
    """Stop what the scope covers until the first probe; while it is stopped, only a probe's failure makes it longer.

    Who was under way when it began, and a ping by a person, say nothing new.
    """
    now = timezone.now()
    fresh = {"reason": REASON, "until": now + FIRST_WAIT, "created_at": now, "probing": False, "probes": 0}
    row, created = Hold.objects.get_or_create(scope=scope, defaults=fresh)
    if created:
        return
    if row.reason != REASON:
        Hold.objects.filter(pk=row.pk, until__lt=now + FIRST_WAIT).exclude(reason=REASON).update(**fresh)
        return
    failed = Hold.objects.filter(pk=row.pk, reason=REASON, probing=True)
    failed.update(probing=False, probes=F("probes") + 1, until=now + wait_after(row.probes + 1))


def ended(holds: Iterable[Hold], now: datetime) -> list[Hold]:
    """Return the outages among these holds whose next probe is due; what they cover is free to one claim only."""
    return [hold for hold in holds if hold.reason == REASON and hold.until is not None and hold.until <= now]


def covering(outages: Iterable[Hold], job: SyncJob) -> list[Hold]:
    """Return the outages that concern a job."""
    scopes = {f"connection:{job.source_id}", f"connection:{job.destination_id}"}
    return [row for row in outages if row.scope in scopes]


def take_probe(outages: Iterable[Hold], now: datetime) -> datetime | None:
    """Win the right to probe for all these outages, which then hold everybody else; return its end, None when another has it.

    A conditional UPDATE whose row count decides; call it inside a transaction.
    """
    until, rows = now + PROBE_LEASE, list(outages)
    won = Hold.objects.filter(pk__in=[row.pk for row in rows], reason=REASON, until__lte=now).update(until=until, probing=True)
    if won == len(rows):
        return until
    give_back([row.scope for row in rows], until)
    return None


def give_back(scopes: Iterable[str], until: datetime) -> None:
    """Give back the right to probe, known by its end, where it was not used: no call was made."""
    unused = Hold.objects.filter(scope__in=list(scopes), reason=REASON, probing=True, until=until)
    unused.update(probing=False, until=timezone.now())


def is_free(scope: str) -> bool:
    """Whether one call may be made where no job is claimed for it: nothing holds the scope, or this is the probe."""
    now = timezone.now()
    row = Hold.objects.filter(scope=scope).first()
    if row is None:
        return True
    if row.until is None or row.until > now:
        return False
    return row.reason != REASON or take_probe([row], now) is not None
