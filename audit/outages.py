"""The holds of vendors that are down or slow: one claim at a time runs there, and others wait for nothing of it.

That of a vendor that is down ends with a single probe, which closes it or makes it longer. That of a slow one has no wait:
its jobs are run one after the other, so that they never take all workers.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.db.models import F, Q
from django.utils import timezone

from audit.models import Hold, SyncJob

REASON, SLOW = "vendor_down", "vendor_slow"
REASONS = (REASON, SLOW)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=15), timedelta(minutes=4)
PROBE_LEASE = timedelta(seconds=60)  # longer than a run may last; the probe of a worker that died is free again then
CALM = timedelta(seconds=60)  # without a slow call, and a vendor is slow no longer


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
        Hold.objects.filter(Q(until__lt=now + FIRST_WAIT) | Q(reason=SLOW), pk=row.pk).exclude(reason=REASON).update(**fresh)
        return
    failed = Hold.objects.filter(pk=row.pk, reason=REASON, probing=True)
    failed.update(probing=False, probes=F("probes") + 1, until=now + wait_after(row.probes + 1))


def slow_down(scope: str) -> None:
    """Let one claim at a time run what the scope covers; a vendor that was down is slow now, and another hold stays as it is."""
    now = timezone.now()
    fresh = {"reason": SLOW, "until": now, "created_at": now, "probing": False, "probes": 0}
    row, created = Hold.objects.get_or_create(scope=scope, defaults=fresh)
    if not created and row.reason in REASONS:
        kept = {"until": row.until, "probing": True} if row.probing else {}
        Hold.objects.filter(pk=row.pk, reason__in=REASONS, probing=row.probing).update(**fresh | kept)


def is_slow(scope: str) -> bool:
    """Whether a call was slow lately."""
    return Hold.objects.filter(scope=scope, reason=SLOW, created_at__gt=timezone.now() - CALM).exists()


def ended(holds: Iterable[Hold], now: datetime, *, reasons: Collection[str] = REASONS) -> list[Hold]:
    """Return the outages among these holds whose next probe is due; what they cover is free to one claim only."""
    return [hold for hold in holds if hold.reason in reasons and hold.until is not None and hold.until <= now]


def covering(outages: Iterable[Hold], job: SyncJob) -> list[Hold]:
    """Return the outages that concern a job."""
    scopes = {f"connection:{job.source_id}", f"connection:{job.destination_id}"}
    return [row for row in outages if row.scope in scopes]


def take_probe(outages: Iterable[Hold], now: datetime) -> datetime | None:
    """Win the right to probe for all these outages, which then hold everybody else; return its end, None when another has it.

    A conditional UPDATE whose row count decides; call it inside a transaction.
    """
    until, rows = now + PROBE_LEASE, list(outages)
    won = Hold.objects.filter(pk__in=[row.pk for row in rows], reason__in=REASONS, until__lte=now).update(until=until, probing=True)
    if won == len(rows):
        return until
    give_back([row.scope for row in rows], until)
    return None


def give_back(scopes: Iterable[str], until: datetime) -> None:
    """Give back the right to probe, known by its end, where it was not used, or where the vendor is only slow."""
    unused = Hold.objects.filter(scope__in=list(scopes), reason__in=REASONS, probing=True, until=until)
    unused.update(probing=False, until=timezone.now())


def is_free(scope: str) -> bool:
    """Whether one call may be made where no job is claimed for it: nothing holds the scope, or this is the probe."""
    now = timezone.now()
    row = Hold.objects.filter(scope=scope).exclude(reason=SLOW).first()
    if row is None:
        return True
    if row.until is None or row.until > now:
        return False
    return row.reason != REASON or take_probe([row], now) is not None
