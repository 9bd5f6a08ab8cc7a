"""Holds: what stops jobs from being claimed, and what turns them loose again."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit import outages
from audit.ledger import covered, wake
from audit.models import Hold, SyncJob
from audit.states import State

DISCONNECTED_REASON = "needs_reconnect"
PAUSED_REASON = "paused"


def hold(scope: str, *, reason: str, until: datetime | None = None) -> None:
    """Stop what the scope covers; a longer hold that stands already is kept.

    A vendor that is down and names a later time itself stays down: its hold only ends later.
    """
    now = timezone.now()
    made, created = Hold.objects.get_or_create(scope=scope, defaults={"reason": reason, "until": until, "created_at": now})
    if created or made.until is None:
        return
    longer = Hold.objects.filter(pk=made.pk).filter(Q(until__lt=until) if until else Q())
    if made.reason == outages.REASON and until is not None:
        longer.update(until=until, probing=False)
    else:
        longer.update(reason=reason, until=until, created_at=now, probing=False, probes=0)


def object_scope(route_id: int, kind: str, key: str) -> str:
    """Return the scope of one record at one destination."""
    return f"object:{route_id}:{kind}:{key}"


def ends_at(scope: str) -> datetime | None:
    """Return when the hold of a scope ends that has not ended yet; None where there is none, or none with an end."""
    return Hold.objects.filter(scope=scope, until__gt=timezone.now()).values_list("until", flat=True).first()


def lift(scope: str, *, reason: str = "") -> bool:
    """End a hold; with a reason, only one that was made for it. False when there was none."""
    holds = Hold.objects.filter(scope=scope)
    return bool((holds.filter(reason=reason) if reason else holds).delete()[0])


def holds_on(job: SyncJob) -> QuerySet[Hold]:
    """Return the holds that keep the job from being run now."""
    return _standing([*_at_destination(job), f"connection:{job.source_id}"])


def held_since(jobs: Iterable[SyncJob], *, but: Collection[str]) -> set[UUID]:
    """Return which of these jobs, whose source has been read, nothing may be sent for now; `but` are the scopes they probe.

    One statement, however many jobs. A hold of the source came too late to matter to them.
    """
    scopes = {job.pk: _at_destination(job) for job in jobs}
    standing = _standing({scope for each in scopes.values() for scope in each} - set(but))
    held = set(standing.values_list("scope", flat=True))
    return {pk for pk, each in scopes.items() if not held.isdisjoint(each)}


def _at_destination(job: SyncJob) -> list[str]:
    return [f"route:{job.route_id}", f"connection:{job.destination_id}", object_scope(job.route_id, job.kind, job.key)]


def _standing(scopes: Iterable[str]) -> QuerySet[Hold]:
    return Hold.objects.filter(Q(until=None) | Q(until__gt=timezone.now()), scope__in=list(scopes))


def free_at(job: SyncJob) -> datetime | None:
    """Return when a pending job can be taken: when it is due and its holds have ended, None while one has no end."""
    ends = list(holds_on(job).values_list("until", flat=True))
    return None if None in ends else max([job.due_at, *(end for end in ends if end is not None)])


def block(connection_id: int) -> None:
    """Stop everything about a connection whose grant is dead: its pending jobs wait as blocked."""
    with transaction.atomic():
        hold(f"connection:{connection_id}", reason=DISCONNECTED_REASON)
        _of_connection(connection_id).filter(state=State.PENDING).update(state=State.BLOCKED, error_code="disconnected")


def release(connection_id: int) -> int:
    """Turn the blocked jobs of a reconnected connection loose, due now; return how many."""
    with transaction.atomic():
        lift(f"connection:{connection_id}")
        blocked = _of_connection(connection_id).filter(state=State.BLOCKED)
        for scope in Hold.objects.filter(reason=DISCONNECTED_REASON).values_list("scope", flat=True):
            blocked = blocked.exclude(covered(scope))  # the other end is still disconnected
        loose = blocked.update(state=State.PENDING, due_at=timezone.now(), error_code="")
        if loose:
            wake()
    return loose


def drop_ended_holds() -> None:
    """Delete the holds that have ended: claims read all holds, so their number is kept small. An outage ends with its probe."""
    Hold.objects.filter(until__lte=timezone.now()).exclude(reason__in=outages.REASONS).delete()


def unblock() -> int:
    """Make due what is blocked although no dead grant covers it any more; return how many.

    Blocking and reconnecting meet: a job that was claimed before and settled after the release would wait for ever.
    """
    blocked = SyncJob.objects.filter(state=State.BLOCKED)
    for scope in Hold.objects.filter(reason=DISCONNECTED_REASON).values_list("scope", flat=True):
        blocked = blocked.exclude(covered(scope))
    return blocked.update(state=State.PENDING, due_at=timezone.now(), error_code="")


def _of_connection(connection_id: int) -> QuerySet[SyncJob]:
    return SyncJob.objects.filter(Q(source_id=connection_id) | Q(destination_id=connection_id))
