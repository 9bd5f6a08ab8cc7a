"""Every write to jobs, attempts and holds."""

import random
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from audit.models import Attempt, Exchange, Heartbeat, Hold, SyncJob
from audit.states import OPEN, Ending, Facts, Outcome, State, after, after_loss

DISCONNECTED_REASON = "needs_reconnect"
PAUSED_REASON = "paused"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a job; (route, kind, key) says which, the rest describes it. An open job is joined."""

    route_id: int
    route_slug: str
    source_id: int
    destination_id: int
    system: str
    kind: str
    key: str
    customer_key: str = ""
    derived: bool = False
    force: bool = False
    second_look: bool = False
    blocked: bool = False
    due_at: datetime | None = None
    replay_of: SyncJob | None = None
    title: str = ""
    party: str = ""
    amount: str = ""

    @property
    def identity(self) -> tuple[int, str, str]:
        """What an open job is unique by."""
        return (self.route_id, self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs taken together, to be run from one read; `attempts` runs parallel to `jobs`."""

    token: uuid.UUID
    jobs: list[SyncJob]
    attempts: list[Attempt]
    started_by: str
    counted: bool = True


@dataclass(slots=True)
class Requested:
    """The jobs that now stand for the asks, in their order, and which of them existed before."""

    jobs: list[SyncJob] = field(default_factory=list)
    joined: set[uuid.UUID] = field(default_factory=set)


# --- Asking ------------------------------------------------------------------------------------------------------


def request(asks: Sequence[Ask], *, now: datetime | None = None) -> Requested:
    """Make a pending job for each ask, or join the open one. Call inside a transaction. Two statements, however many."""
    now = now or timezone.now()
    made = [_job(ask, now) for ask in asks]
    if not made:
        return Requested()
    # In one order by all: two requests for the same records would else wait for each other.
    SyncJob.objects.bulk_create(sorted(made, key=lambda job: (job.route_id, job.kind, job.key)), ignore_conflicts=True)
    wanted = Q()
    for ask in asks:
        wanted |= Q(route_id=ask.route_id, kind=ask.kind, key=ask.key)
    standing = {(job.route_id, job.kind, job.key): job for job in SyncJob.objects.filter(wanted, state__in=OPEN)}
    requested = Requested()
    for ask, job in zip(asks, made, strict=True):
        found = standing.get(ask.identity)
        if found is None:  # claimed by another worker in between: what it reads is newer than this ask
            found = SyncJob.objects.filter(route_id=ask.route_id, kind=ask.kind, key=ask.key).latest("created_at")
        requested.jobs.append(found)
        if found.pk != job.pk:
            requested.joined.add(found.pk)
            _enrich(found, ask, now)
    return requested


def _job(ask: Ask, now: datetime) -> SyncJob:
    return SyncJob(
        route_id=ask.route_id,
        route_slug=ask.route_slug,
        source_id=ask.source_id,
        destination_id=ask.destination_id,
        system=ask.system,
        kind=ask.kind,
        key=ask.key,
        customer_key=ask.customer_key,
        derived=ask.derived,
        force=ask.force,
        second_look=ask.second_look,
        state=State.BLOCKED if ask.blocked else State.PENDING,
        created_at=now,
        due_at=ask.due_at or now,
        replay_of=ask.replay_of,
        title=ask.title[:255],
        party=ask.party[:255],
        amount=ask.amount[:40],
    )


def _enrich(job: SyncJob, ask: Ask, now: datetime) -> None:
    """Add to a joined job what the ask wants more: an open job that somebody forces is forced."""
    changes: dict[str, Any] = {}
    if ask.force and not job.force:
        changes["force"] = True
    if job.derived and not ask.derived:
        changes["derived"] = False
    if job.second_look and not ask.second_look:
        # News of a record that seemed gone: not to be slept over, and not to be taken for the proof of its end.
        changes |= {"second_look": False, "due_at": ask.due_at or now}
    if ask.replay_of is not None and job.due_at > now:
        # A person asks now: our own back-off ends, the vendor's time stands.
        changes["due_at"] = max(now, job.not_before or now)
    if changes:
        SyncJob.objects.filter(pk=job.pk, state__in=OPEN).update(**changes)


def wake(job_ids: Iterable[uuid.UUID] = ()) -> None:
    """Queue one wake-up for the workers, in the caller's transaction: it commits or vanishes with the jobs."""
    async_task(settings.SYNC_TASK, [str(pk) for pk in job_ids])


# --- Taking ------------------------------------------------------------------------------------------------------


def claim(job_ids: Collection[uuid.UUID] | None = None, *, started_by: str, redelivery: bool = False) -> Claim | None:
    """Take the oldest due job that nothing holds, and every other due job about the same invoice and its customer.

    With `job_ids`, only those may lead; a redelivery also takes them before their back-off ends, never before the
    vendor's own time, and such a run does not raise the back-off. None when there is nothing to take.
    """
    now = timezone.now()
    with transaction.atomic():
        free = _free(now).filter(_ready(now, job_ids if redelivery else None))
        leads = _leads(free if job_ids is None else free.filter(pk__in=job_ids))
        # Of jobs asked for together the invoice leads: one read then serves its customer's job too.
        for lead in leads.order_by("due_at", "created_at", "-kind")[:20]:
            taken = _take(lead, free, now=now, started_by=started_by, redelivery=redelivery)
            if taken is not None:
                return taken
    return None


def _leads(free: QuerySet[SyncJob]) -> QuerySet[SyncJob]:
    """Leave out derived jobs whose customer's invoice is being run: what that brings serves them too."""
    at_work = SyncJob.objects.filter(state=State.RUNNING, source_id=OuterRef("source_id"), customer_key=OuterRef("key"))
    return free.exclude(Q(derived=True) & Exists(at_work))


def _ready(now: datetime, pulled: Collection[uuid.UUID] | None) -> Q:
    """Return what is due, and of the pulled jobs those that only our own back-off holds back."""
    ready = Q(due_at__lte=now)
    if pulled is not None:
        ready |= Q(pk__in=pulled) & (Q(not_before=None) | Q(not_before__lte=now))
    return ready


def _free(now: datetime) -> QuerySet[SyncJob]:
    """Return pending jobs whose record is not being run and that no hold covers."""
    running = SyncJob.objects.filter(route_id=OuterRef("route_id"), kind=OuterRef("kind"), key=OuterRef("key"), state=State.RUNNING)
    return SyncJob.objects.filter(~_held(now), ~Exists(running), state=State.PENDING)


def _held(now: datetime) -> Q:
    """Return what the active holds cover; holds are few, so they are read rather than joined."""
    held = Q(pk__in=[])
    for scope in Hold.objects.filter(Q(until=None) | Q(until__gt=now)).values_list("scope", flat=True):
        held |= _covered(scope)
    return held


def holds_on(job: SyncJob) -> QuerySet[Hold]:
    """Return the holds that keep the job from being run now."""
    connections = [f"connection:{job.source_id}", f"connection:{job.destination_id}"]
    scopes = [f"route:{job.route_id}", *connections, f"object:{job.route_id}:{job.kind}:{job.key}"]
    return Hold.objects.filter(Q(until=None) | Q(until__gt=timezone.now()), scope__in=scopes)


def free_at(job: SyncJob) -> datetime | None:
    """Return when a pending job can be taken: when it is due and its holds have ended, None while one has no end."""
    ends = list(holds_on(job).values_list("until", flat=True))
    return None if None in ends else max([job.due_at, *(end for end in ends if end is not None)])


def _covered(scope: str) -> Q:
    kind, _, rest = scope.partition(":")
    if kind == "route":
        return Q(route_id=int(rest))
    if kind == "connection":
        return Q(source_id=int(rest)) | Q(destination_id=int(rest))
    route_id, record_kind, key = rest.split(":", 2)
    return Q(route_id=int(route_id), kind=record_kind, key=key)


def _take(lead: SyncJob, free: QuerySet[SyncJob], *, now: datetime, started_by: str, redelivery: bool) -> Claim | None:
    company = Q(kind=lead.kind, key=lead.key)
    if lead.customer_key:
        company |= Q(kind="customer", key=lead.customer_key)
    others = free.filter(company, source_id=lead.source_id).exclude(pk=lead.pk)
    token = uuid.uuid4()
    # Rows are locked in one order by all, the lead's too: two claims that meet would else wait for each other.
    jobs = [job for job in sorted([lead, *others], key=lambda job: job.pk) if _mark_running(job, now)]
    jobs.sort(key=lambda job: job.pk != lead.pk)
    if not jobs:
        return None
    attempts = [Attempt(job=job, number=job.attempt_number, claim=token, started_by=started_by, opened_at=now, message="") for job in jobs]
    Attempt.objects.bulk_create(attempts)
    return Claim(token, jobs, attempts, started_by, counted=not redelivery)


def _mark_running(job: SyncJob, now: datetime) -> bool:
    """Take one job by a conditional UPDATE whose row count decides."""
    lease_until = now + timedelta(seconds=settings.JOB_LEASE)
    try:
        with transaction.atomic():
            # As it was read: meanwhile another worker may have run it and made it due again, later.
            unchanged = SyncJob.objects.filter(pk=job.pk, state=State.PENDING, attempt_number=job.attempt_number, due_at=job.due_at)
            taken = unchanged.update(
                state=State.RUNNING,
                attempt_number=F("attempt_number") + 1,
                lease_until=lease_until,
                first_tried_at=job.first_tried_at or now,
            )
    except IntegrityError:  # another job of this record began to run just now
        return False
    if taken:
        job.state, job.lease_until = State.RUNNING, lease_until
        job.attempt_number += 1
        job.first_tried_at = job.first_tried_at or now
    return bool(taken)


def renew(attempt: Attempt) -> bool:
    """Extend the lease of a claim that still stands; False means that the job was given to somebody else: stop."""
    lease_until = timezone.now() + timedelta(seconds=settings.JOB_LEASE)
    return bool(_standing(attempt).update(lease_until=lease_until))


def _standing(attempt: Attempt) -> QuerySet[SyncJob]:
    return SyncJob.objects.filter(pk=attempt.job_id, state=State.RUNNING, attempt_number=attempt.number)


# --- Settling ----------------------------------------------------------------------------------------------------


def settle(attempt: Attempt, outcome: Outcome, *, message: str = "") -> SyncJob | None:
    """Close the attempt and move its job on; None when the claim no longer stands (nothing is changed then)."""
    try:
        return _settle(attempt, outcome, message=message)
    except IntegrityError:  # a newer job was asked for just now: with it in sight this one is superseded
        return _settle(attempt, outcome, message=message)


def _settle(attempt: Attempt, outcome: Outcome, *, message: str) -> SyncJob | None:
    now = timezone.now()
    with transaction.atomic():
        job = _standing(attempt).select_for_update().first()
        if job is None:
            return None
        waiting = SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key, state__in=OPEN).first()
        facts = Facts(job.tries, job.first_tried_at or now, newer_waits=waiting is not None)
        give_up = timedelta(seconds=settings.JOB_GIVE_UP)
        move = after(outcome, facts, now=now, give_up=give_up, jitter=random.random)
        _apply(job, outcome, state=move.state, now=now)
        job.tries, job.error_code, job.not_before, job.losses = move.tries, move.code, move.not_before, 0
        job.due_at = move.due_at or job.due_at
        job.save()
        _close(attempt, outcome, message=message, now=now)
        if job.state == State.SUCCEEDED:
            _resolve(job)
        if waiting is not None:
            _hand_on(job, waiting)
    return job


def _apply(job: SyncJob, outcome: Outcome, *, state: State, now: datetime) -> None:
    job.state, job.lease_until = state, None
    job.result, job.reason = outcome.result, outcome.reason
    job.notes = list(outcome.notes)
    job.settled_at = None if state in OPEN else now


def _close(attempt: Attempt, outcome: Outcome, *, message: str, now: datetime) -> None:
    attempt.closed_at, attempt.ending, attempt.result = now, outcome.ending, outcome.result
    attempt.reason, attempt.error_code, attempt.words = outcome.reason, outcome.code, outcome.words
    attempt.message, attempt.notes = message, list(outcome.notes)
    attempt.save()


def _resolve(job: SyncJob) -> None:
    """Any success settles the dead letters of the same record and route."""
    dead = SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key, state=State.DEAD, resolved_by=None)
    dead.update(resolved_by=job)


def _hand_on(job: SyncJob, waiting: SyncJob) -> None:
    """Wake the job that waited; it inherits the tries, losses and due time of one it supersedes."""
    if job.state == State.SUPERSEDED:
        SyncJob.objects.filter(pk=waiting.pk).update(
            tries=job.tries,
            first_tried_at=job.first_tried_at,
            due_at=job.due_at,
            not_before=job.not_before,
            losses=job.losses,
            force=waiting.force or job.force,
        )
    elif waiting.state == State.PENDING:
        wake([waiting.pk])


def reclaim() -> int:
    """Give back the jobs of vanished workers, close their attempts as lost, and return how many there were."""
    now = timezone.now()
    lost = SyncJob.objects.filter(state=State.RUNNING, lease_until__lt=now).order_by("pk")
    return sum(_give_back(pk, now) for pk in list(lost.values_list("pk", flat=True)))


def _give_back(pk: uuid.UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            job = SyncJob.objects.select_for_update().filter(pk=pk, state=State.RUNNING, lease_until__lt=now).first()
            if job is not None:
                _lose(job, now)
    except IntegrityError:  # a newer job was asked for just now: the next sweep has it in sight
        return False
    return job is not None


def _lose(job: SyncJob, now: datetime) -> None:
    waiting = SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key, state__in=OPEN).first()
    job.losses += 1
    state = after_loss(job.losses)
    job.state = State.SUPERSEDED if waiting is not None and state == State.PENDING else state
    job.due_at, job.lease_until = now, None
    job.error_code = "crashed" if state == State.DEAD else "worker_lost"
    job.settled_at = now if job.state not in OPEN else None
    job.save()
    if waiting is not None:
        _hand_on(job, waiting)
    Attempt.objects.filter(job=job, closed_at=None).update(closed_at=now, ending="lost", error_code="worker_lost")


# --- Holds and releases ------------------------------------------------------------------------------------------


def hold(scope: str, *, reason: str, until: datetime | None = None) -> None:
    """Stop what the scope covers; a longer hold that stands already is kept."""
    now = timezone.now()
    made, created = Hold.objects.get_or_create(scope=scope, defaults={"reason": reason, "until": until, "created_at": now})
    if not created and made.until is not None:
        Hold.objects.filter(pk=made.pk).filter(Q(until__lt=until) if until else Q()).update(reason=reason, until=until, created_at=now)


def lift(scope: str, *, reason: str = "") -> None:
    """End a hold; with a reason, only one that was made for it."""
    holds = Hold.objects.filter(scope=scope)
    (holds.filter(reason=reason) if reason else holds).delete()


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
            blocked = blocked.exclude(_covered(scope))  # the other end is still disconnected
        loose = blocked.update(state=State.PENDING, due_at=timezone.now(), error_code="")
        if loose:
            wake()
    return loose


def drop_ended_holds() -> None:
    """Delete the holds that have ended: claims read all holds, so their number is kept small."""
    Hold.objects.filter(until__lte=timezone.now()).delete()


def unblock() -> int:
    """Make due what is blocked although no dead grant covers it any more; return how many.

    Blocking and reconnecting meet: a job that was claimed before and settled after the release would wait for ever.
    """
    blocked = SyncJob.objects.filter(state=State.BLOCKED)
    for scope in Hold.objects.filter(reason=DISCONNECTED_REASON).values_list("scope", flat=True):
        blocked = blocked.exclude(_covered(scope))
    return blocked.update(state=State.PENDING, due_at=timezone.now(), error_code="")


def _of_connection(connection_id: int) -> QuerySet[SyncJob]:
    return SyncJob.objects.filter(Q(source_id=connection_id) | Q(destination_id=connection_id))


# --- The record of what was done ---------------------------------------------------------------------------------


def describe(job: SyncJob, *, title: str, party: str, amount: str, customer_key: str = "") -> None:
    """Note what the record is called, for lists and search, once a read has told."""
    values = {"title": title[:255], "party": party[:255], "amount": amount[:40]}
    if customer_key:
        values["customer_key"] = customer_key
    if any(getattr(job, name) != value for name, value in values.items()):
        SyncJob.objects.filter(pk=job.pk).update(**values)
        for name, value in values.items():
            setattr(job, name, value)


def enter_exchange(attempts: Sequence[Attempt], *, system: str, method: str, path: str) -> list[Exchange]:
    """Enter a request before it is sent, so that a worker that dies leaves a trace of it."""
    now = timezone.now()
    rows = [Exchange(attempt=attempt, system=system, method=method, path=path[:500], sent_at=now) for attempt in attempts]
    return Exchange.objects.bulk_create(rows)


def answer_exchange(rows: Sequence[Exchange], *, status: int | None, milliseconds: int, request_id: str = "") -> None:
    """Add the answer; a status of None says that none came."""
    Exchange.objects.filter(pk__in=[row.pk for row in rows]).update(status=status, milliseconds=milliseconds, request_id=request_id[:120])


HEARTBEAT_GAP = timedelta(seconds=150)


def beat(name: str = "worker") -> None:
    """Note that a worker lives; after a gap, `since` begins anew."""
    now = timezone.now()
    row, created = Heartbeat.objects.get_or_create(name=name, defaults={"since": now, "beat_at": now})
    if not created:
        since = now if now - row.beat_at > HEARTBEAT_GAP else row.since
        Heartbeat.objects.filter(name=name).update(beat_at=now, since=since)


def remembers_since(name: str = "worker") -> datetime | None:
    """Return since when our memory is known to be unbroken; None when no worker is alive.

    A database restored from a backup shows as a gap in the heartbeat: what the source created before that may
    have been written by us without our knowing.
    """
    row = Heartbeat.objects.filter(name=name, beat_at__gt=timezone.now() - HEARTBEAT_GAP).first()
    return row.since if row else None


def outcome_of_success(result: str, *, reason: str = "", notes: Iterable[str] = ()) -> Outcome:
    """Return the outcome of a run that did its work."""
    return Outcome(Ending.SUCCESS, result=result, reason=reason, notes=tuple(notes))


def anything_due() -> bool:
    """Whether a job could be claimed right now."""
    now = timezone.now()
    return _free(now).filter(due_at__lte=now).exists() or SyncJob.objects.filter(state=State.RUNNING, lease_until__lt=now).exists()
