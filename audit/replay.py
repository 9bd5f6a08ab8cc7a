"""Replay: ask again for what jobs were about, and watch how the new ones end."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q, QuerySet

from audit import holds, ledger, trail
from audit.ledger import Ask, Requested
from audit.models import Hold, SyncJob
from audit.states import CLOSED, State

TOGETHER = 100  # jobs asked for by one pair of statements: SQLite allows no deeper condition than 1000
WOKEN = 100  # jobs named in the wake-up; workers take the others as what else is due


@dataclass(frozen=True, slots=True)
class Replayed:
    """A job that was asked for again, and the one that stands for it now; joined: that one was asked for already."""

    old: SyncJob
    job: SyncJob
    joined: bool


class NoWorkerError(Exception):
    """No worker is alive, so nothing that waits will be run."""


# --- Which ---------------------------------------------------------------------------------------------------------


def unsettled(*, states: Sequence[str] = (State.DEAD, State.BLOCKED), route_id: int | None = None) -> QuerySet[SyncJob]:
    """Return the jobs in these states, oldest first; dead ones that a later success resolved are left out."""
    jobs = SyncJob.objects.filter(state__in=states).filter(~Q(state=State.DEAD) | Q(resolved_by=None))
    return (jobs if route_id is None else jobs.filter(route_id=route_id)).order_by("created_at")


# --- Again ---------------------------------------------------------------------------------------------------------


def replay(jobs: Iterable[SyncJob], *, force: bool = False) -> list[Replayed]:
    """Ask anew for the record of each job, all or none; the answers come in the order of the jobs.

    A record's open job is joined, never doubled; several jobs of one record lead to one. `force` writes even what
    seems unchanged. Whether a webhook's signature was fresh plays no part here.
    """
    olds = list(jobs)
    leads: dict[tuple[int, str, str], SyncJob] = {}
    for old in olds:
        leads.setdefault(_identity(old), old)
    with transaction.atomic():
        standing = _request(list(leads.values()), force=force)
        if standing:
            ledger.wake(job.pk for job, _ in list(standing.values())[:WOKEN])
    return [_replayed(old, leads[_identity(old)], standing[_identity(old)]) for old in olds]


def _identity(job: SyncJob) -> tuple[int, str, str]:
    return (job.route_id, job.kind, job.key)


def _request(leads: Sequence[SyncJob], *, force: bool) -> dict[tuple[int, str, str], tuple[SyncJob, bool]]:
    """Return per record the job that stands for it now, and whether it was there before."""
    dead_ends = set(Hold.objects.filter(reason=holds.DISCONNECTED_REASON).values_list("scope", flat=True))
    standing = {}
    for start in range(0, len(leads), TOGETHER):
        part = leads[start : start + TOGETHER]
        requested: Requested = ledger.request([_ask(old, dead_ends, force=force) for old in part])
        for old, job in zip(part, requested.jobs, strict=True):
            standing[_identity(old)] = (job, job.pk in requested.joined)
    return standing


def _ask(old: SyncJob, dead_ends: set[str], *, force: bool) -> Ask:
    return Ask(
        route_id=old.route_id,
        route_slug=old.route_slug,
        source_id=old.source_id,
        destination_id=old.destination_id,
        system=old.system,
        kind=old.kind,
        key=old.key,
        customer_key=old.customer_key,
        force=force,
        blocked=bool(dead_ends & {f"connection:{old.source_id}", f"connection:{old.destination_id}"}),
        replay_of=old,
        title=old.title,
        party=old.party,
        amount=old.amount,
    )


def _replayed(old: SyncJob, lead: SyncJob, standing: tuple[SyncJob, bool]) -> Replayed:
    job, joined = standing
    return Replayed(old, job, joined=joined or old is not lead)


# --- And then ------------------------------------------------------------------------------------------------------


def outcome(job: SyncJob) -> str:
    """Return in a few words how the job ended, or why it has not: result, reason, error code, notes."""
    parts = [job.result, job.reason, job.error_code, *job.notes]
    return " · ".join(part for part in parts if part)


def ends(jobs: Iterable[SyncJob], *, every: float = 0.5) -> Iterator[SyncJob]:
    """Yield each job once it has ended, or can go no further without a person; one that was superseded by its heir.

    `every` is in seconds. Raises NoWorkerError as soon as jobs wait and no worker is alive.
    """
    waiting = {job.pk for job in jobs}
    while waiting:
        for job in SyncJob.objects.filter(pk__in=waiting):
            if job.state == State.SUPERSEDED:
                waiting = waiting - {job.pk} | {_heir(job).pk}
            elif job.state in CLOSED or _stands_still(job):
                waiting = waiting - {job.pk}
                yield job
        if waiting and trail.remembers_since() is None:
            raise NoWorkerError("no worker is alive: start one with `manage.py worker`; what was asked for is kept")
        if waiting:
            time.sleep(every)


def _heir(job: SyncJob) -> SyncJob:
    return SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key).latest("created_at")


def _stands_still(job: SyncJob) -> bool:
    """Whether only a person can set the job going: its account is disconnected, or its route is paused."""
    return job.state == State.BLOCKED or (job.state == State.PENDING and holds.holds_on(job).filter(until=None).exists())
