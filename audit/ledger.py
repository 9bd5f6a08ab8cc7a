"""Jobs and attempts: asked for, taken, settled, given back."""

import random
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django_q.tasks import async_task

from audit import outages
from audit.models import Attempt, Hold, SyncJob
from audit.states import OPEN, Ending, Facts, Outcome, State, after, after_loss

# One loss may be a restart; a record that kills its worker twice takes no others with it any more.
LOST_TOGETHER = 2
LEFT_FOR, LEFT = timedelta(minutes=3), "budget"


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
    probes: tuple[str, ...] = ()  # scopes of vendors that are down or slow, which are this claim's alone
    alone: bool = False  # one of them is down: whether it is there is to be known before more is claimed
    probe_until: datetime | None = None


@dataclass(slots=True)
class Requested:
    """The jobs that now stand for the asks, in their order, and which of them existed before."""

    jobs: list[SyncJob] = field(default_factory=list)
    joined: set[uuid.UUID] = field(default_factory=set)


# --- Asking ------------------------------------------------------------------------------------------------------


def request(asks: Sequence[Ask], *, now: datetime | None = None) -> Requested:
    """Make a pending job for each ask, or join the open one. Call inside a transaction. Two or three statements, however many."""
    now = now or timezone.now()
    made = [_job(ask, now) for ask in asks]
    if not made:
        return Requested()
    # In one order by all: two requests for the same records would else wait for each other.
    SyncJob.objects.bulk_create(sorted(made, key=lambda job: (job.route_id, job.kind, job.key)), ignore_conflicts=True)
    keys, routes = {ask.key for ask in asks}, {ask.route_id for ask in asks}
    found_open = SyncJob.objects.filter(key__in=keys, route_id__in=routes, state__in=OPEN, settled_at=None).order_by()
    standing = {(job.route_id, job.kind, job.key): job for job in found_open}
    requested, joined = Requested(), list[tuple[Ask, SyncJob]]()
    for ask, job in zip(asks, made, strict=True):
        found = standing.get(ask.identity)
        if found is None:  # claimed by another worker in between: what it reads is newer than this ask
            found = SyncJob.objects.filter(route_id=ask.route_id, kind=ask.kind, key=ask.key).latest("created_at")
        requested.jobs.append(found)
        if found.pk != job.pk:
            requested.joined.add(found.pk)
            joined.append((ask, found))
    for ask, found in sorted(joined, key=lambda pair: pair[0].identity):  # in the same order
        _enrich(found, ask, now)
    # Something has happened to records that a batch has left: they do not wait for it.
    left = [job.pk for job in requested.jobs if job.error_code == LEFT and job.not_before is None and job.due_at > now]
    if left:
        SyncJob.objects.filter(pk__in=left, state=State.PENDING).update(due_at=now)
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


def claim(
    job_ids: Collection[uuid.UUID] | None = None, *, started_by: str, redelivery: bool = False, beside: Claim | None = None
) -> Claim | None:
    """Take the oldest due job that nothing holds, and every other due job about the same invoice and its customer.

    With `job_ids`, only those may lead; a redelivery also takes them before their back-off ends, never before the
    vendor's own time, and such a run does not raise the back-off. `beside` says what will be read in the same request;
    the vendors that are slow are that claim's already.
    None when there is nothing to take; where nothing is due at all that costs one look, and no lock.
    """
    now = timezone.now()
    ready = _ready(now, job_ids if redelivery else None)
    due = SyncJob.objects.filter(ready, state=State.PENDING)
    if not (due if job_ids is None else due.filter(pk__in=job_ids)).exists():
        return None
    with transaction.atomic():
        holds = list(_holds_beside(beside))
        free = _free(now, holds).filter(ready)
        if beside is not None:
            free = _beside(free, beside.jobs[0].source_id)
        down = outages.ended(holds, now)
        for outage in down:
            free = free.exclude(covered(outage.scope))
        asked = Asked(now, job_ids, started_by, redelivery, holds)
        return (_probe(asked, down) if down and beside is None else None) or _first(asked, free)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a claim was asked for."""

    now: datetime
    job_ids: Collection[uuid.UUID] | None
    started_by: str
    redelivery: bool
    holds: Sequence[Hold] = ()


def _first(asked: Asked, free: QuerySet[SyncJob]) -> Claim | None:
    for most in (1, 20):  # the first is nearly always to be had
        leads = list(_in_order(asked, free)[:most])
        taken = next((claim for lead in leads if (claim := _take(lead, free, asked))), None)
        if taken is not None or not leads:
            return taken
    return None


def _probe(asked: Asked, down: list[Hold]) -> Claim | None:
    """Take one job of a vendor that is down, if this claim wins the probe; what else that vendor concerns stays held."""
    concerned = Q()
    for outage in down:
        concerned |= covered(outage.scope)
    free = _free(asked.now, asked.holds).filter(_ready(asked.now, asked.job_ids if asked.redelivery else None))
    for lead in _in_order(asked, free.filter(concerned))[:5]:
        probed = outages.covering(down, lead)
        until = outages.take_probe(probed, asked.now)
        if until is None:
            continue
        for outage in down:
            free = free if outage in probed else free.exclude(covered(outage.scope))
        scopes = tuple(outage.scope for outage in probed)
        taken = _take(lead, free, asked)
        if taken is not None:
            return replace(taken, probes=scopes, probe_until=until, alone=any(outage.reason == outages.REASON for outage in probed))
        outages.give_back(scopes, until)
    return None


def _in_order(asked: Asked, free: QuerySet[SyncJob]) -> QuerySet[SyncJob]:
    """Return what may lead, the longest due first."""
    # Of jobs asked for together the invoice leads: one read then serves its customer's job too.
    leads = _leads(free if asked.job_ids is None else free.filter(pk__in=asked.job_ids))
    return leads.order_by("due_at", "created_at", "-kind")


def claim_records(asks: Sequence[Ask], *, started_by: str) -> Claim | None:
    """Take the jobs of these records now, due or not, made where there are none; None when none could be taken.

    One that is being run, that a hold covers, whose vendor told it to wait, or that workers were lost with again and
    again, is left out: its own run comes.
    """
    now = timezone.now()
    with transaction.atomic():
        wanted = [job.pk for job in request(asks, now=now).jobs]
        ready = Q(not_before=None) | Q(not_before__lte=now)
        holds = list(Hold.objects.order_by("pk"))
        free = _free(now, holds).filter(ready, pk__in=wanted, losses__lt=LOST_TOGETHER).order_by("pk").select_for_update()
        for outage in outages.ended(holds, now, reasons=[outages.REASON]):
            free = free.exclude(covered(outage.scope))
        jobs = _mark_running(list(free), now)
        return _claimed(jobs, Asked(now, None, started_by, redelivery=False)) if jobs else None


def _leads(free: QuerySet[SyncJob]) -> QuerySet[SyncJob]:
    """Leave out derived jobs whose customer's invoice is being run: what that brings serves them too."""
    at_work = SyncJob.objects.filter(state=State.RUNNING, source_id=OuterRef("source_id"), customer_key=OuterRef("key"))
    return free.exclude(Q(derived=True) & Exists(at_work))


def _beside(free: QuerySet[SyncJob], source_id: int) -> QuerySet[SyncJob]:
    """Leave out what runs by itself: payments, which are not read, and what a worker was lost with and may kill another."""
    return free.filter(source_id=source_id, losses=0).exclude(kind="payment")


def _holds_beside(claim: Claim | None) -> QuerySet[Hold]:
    """Return all holds, but for those by which a claim keeps others from what it runs itself."""
    return Hold.objects.exclude(scope__in=claim.probes if claim else ()).order_by("pk")


def fair_share(first: Claim, most: int) -> int:
    """Return how many groups a worker that has claimed one may hold: while others are at work, half of what waited, else all.

    A payment, and what a worker was lost with, is run alone.
    """
    lead, now = first.jobs[0], timezone.now()
    if lead.kind == "payment" or any(job.losses for job in first.jobs):
        return 1
    running = SyncJob.objects.filter(state=State.RUNNING, source_id=lead.source_id, lease_until__gt=now)
    if not running.exclude(pk__in=[job.pk for job in first.jobs]).exists():
        return most
    free = _free(now, _holds_beside(first)).filter(due_at__lte=now)
    waiting = _beside(free, lead.source_id).values("key").distinct().count()
    return min(most, max(1, (1 + waiting) // 2))


def _ready(now: datetime, pulled: Collection[uuid.UUID] | None) -> Q:
    """Return what is due, and of the pulled jobs those that only our own back-off holds back."""
    ready = Q(due_at__lte=now)
    if pulled is not None:
        ready |= Q(pk__in=pulled) & (Q(not_before=None) | Q(not_before__lte=now))
    return ready


def _free(now: datetime, holds: Iterable[Hold]) -> QuerySet[SyncJob]:
    """Return pending jobs whose record is not being run and that no hold covers."""
    running = SyncJob.objects.filter(route_id=OuterRef("route_id"), kind=OuterRef("kind"), key=OuterRef("key"), state=State.RUNNING)
    return SyncJob.objects.filter(~Exists(running), unheld(now, holds), state=State.PENDING)


def unheld(now: datetime, holds: Iterable[Hold]) -> Q:
    """Return the jobs that no hold covers now; holds are few, so they are read rather than joined."""
    active = [hold.scope for hold in holds if hold.until is None or hold.until > now]
    return Q(*(~covered(scope) for scope in active))


def covered(scope: str) -> Q:
    """Return the jobs that a hold of this scope stops."""
    kind, _, rest = scope.partition(":")
    if kind == "route":
        return Q(route_id=int(rest))
    if kind == "connection":
        return Q(source_id=int(rest)) | Q(destination_id=int(rest))
    route_id, record_kind, key = rest.split(":", 2)
    return Q(route_id=int(route_id), kind=record_kind, key=key)


def _take(lead: SyncJob, free: QuerySet[SyncJob], asked: Asked) -> Claim | None:
    company = Q(kind=lead.kind, key=lead.key)
    if lead.customer_key:
        company |= Q(kind="customer", key=lead.customer_key)
    # Rows are locked in one order by all, the lead's too: two claims that meet would else wait for each other.
    company_now = free.filter(company, source_id=lead.source_id, settled_at=None).order_by("pk").select_for_update()
    jobs = _mark_running(list(company_now), asked.now)
    jobs.sort(key=lambda job: job.pk != lead.pk)
    return _claimed(jobs, asked) if jobs else None


def _claimed(jobs: list[SyncJob], asked: Asked) -> Claim:
    token = uuid.uuid4()
    about = {"claim": token, "started_by": asked.started_by, "opened_at": asked.now}
    attempts = [Attempt(job=job, number=job.attempt_number, message="", **about) for job in jobs]
    Attempt.objects.bulk_create(attempts)
    return Claim(token, jobs, attempts, asked.started_by, counted=not asked.redelivery)


def _mark_running(jobs: Sequence[SyncJob], now: datetime) -> list[SyncJob]:
    """Take jobs that this transaction has locked as they are, all in one statement; return those that were taken."""
    if not jobs:
        return []
    lease_until = now + timedelta(seconds=settings.JOB_LEASE)
    rows = SyncJob.objects.filter(pk__in=[job.pk for job in jobs], state=State.PENDING)
    try:
        with transaction.atomic():
            rows.update(
                state=State.RUNNING,
                attempt_number=F("attempt_number") + 1,
                lease_until=lease_until,
                first_tried_at=Coalesce(F("first_tried_at"), now),
            )
    except IntegrityError:  # another job of one of these records began to run just now: the others are taken one by one
        return [] if len(jobs) == 1 else [taken for job in jobs for taken in _mark_running([job], now)]
    for job in jobs:
        job.state, job.lease_until = State.RUNNING, lease_until
        job.attempt_number += 1
        job.first_tried_at = job.first_tried_at or now
    return list(jobs)


def renew(attempt: Attempt) -> bool:
    """Extend the lease of a claim that still stands; False means that the job was given to somebody else: stop."""
    lease_until = timezone.now() + timedelta(seconds=settings.JOB_LEASE)
    return bool(_standing(attempt).update(lease_until=lease_until))


def renew_all(attempts: Sequence[Attempt]) -> set[uuid.UUID]:
    """Extend the leases of claims taken together and return the jobs of which the claim still stands; two statements."""
    numbers = {attempt.job_id: attempt.number for attempt in attempts}
    running = SyncJob.objects.filter(pk__in=list(numbers), state=State.RUNNING).select_for_update()
    standing = {pk for pk, number in running.values_list("pk", "attempt_number") if numbers[pk] == number}
    lease_until = timezone.now() + timedelta(seconds=settings.JOB_LEASE)
    SyncJob.objects.filter(pk__in=standing, state=State.RUNNING).update(lease_until=lease_until)
    return standing


def _standing(attempt: Attempt) -> QuerySet[SyncJob]:
    return SyncJob.objects.filter(pk=attempt.job_id, state=State.RUNNING, attempt_number=attempt.number)


# --- Settling ----------------------------------------------------------------------------------------------------


MOVED = (
    *("state", "lease_until", "result", "reason", "notes", "settled_at"),
    *("tries", "error_code", "not_before", "losses", "due_at"),
)
CLOSING = ("closed_at", "ending", "result", "reason", "error_code", "words", "message", "notes")


def settle(attempt: Attempt, outcome: Outcome, *, message: str = "") -> SyncJob | None:
    """Close the attempt and move its job on; None when the claim no longer stands (nothing is changed then)."""
    try:
        return _settle(attempt, outcome, message=message)
    except IntegrityError:  # a newer job was asked for just now: with it in sight this one is superseded
        return _settle(attempt, outcome, message=message)


def _settle(attempt: Attempt, outcome: Outcome, *, message: str) -> SyncJob | None:
    now = timezone.now()
    with transaction.atomic():
        unsettled = _unsettled(attempt.job)
        job = next((one for one in unsettled if one.pk == attempt.job_id), None)
        if job is None:
            return None
        waiting = next((one for one in unsettled if one.state in OPEN and one is not job), None)
        facts = Facts(job.tries, job.first_tried_at or now, newer_waits=waiting is not None)
        give_up = timedelta(seconds=settings.JOB_GIVE_UP)
        move = after(outcome, facts, now=now, give_up=give_up, jitter=random.random)
        _apply(job, outcome, state=move.state, now=now)
        job.tries, job.error_code, job.not_before, job.losses = move.tries, move.code, move.not_before, 0
        job.due_at = move.due_at or job.due_at
        # Nothing was locked by looking: whether the claim stands is decided here, by the row count.
        if not _standing(attempt).update(**{name: getattr(job, name) for name in MOVED}):
            return None
        _close(attempt, outcome, message=message, now=now)
        if job.state == State.SUCCEEDED or outcome.ending in (Ending.REJECTED, Ending.UNMAPPABLE):
            _resolve(job)
        if waiting is not None:
            _hand_on(job, waiting)
    return job


def _unsettled(job: SyncJob) -> list[SyncJob]:
    """Return what is not over of a job's record and route: at most one that runs and one that waits; one statement."""
    return list(SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key, settled_at=None).order_by())


def _open_beside(job: SyncJob) -> SyncJob | None:
    """Return the job that waits behind this one, for the same record; the constraint allows no second."""
    return next((one for one in _unsettled(job) if one.state in OPEN and one.pk != job.pk), None)


def _apply(job: SyncJob, outcome: Outcome, *, state: State, now: datetime) -> None:
    job.state, job.lease_until = state, None
    job.result, job.reason = outcome.result, outcome.reason
    job.notes = list(outcome.notes)
    job.settled_at = None if state in OPEN else now


def _close(attempt: Attempt, outcome: Outcome, *, message: str, now: datetime) -> None:
    attempt.closed_at, attempt.ending, attempt.result = now, outcome.ending, outcome.result
    attempt.reason, attempt.error_code, attempt.words = outcome.reason, outcome.code, outcome.words
    attempt.message, attempt.notes = message, list(outcome.notes)
    attempt.save(update_fields=CLOSING)


def _resolve(job: SyncJob) -> None:
    """Any success settles the dead letters of the same record and route, and so does a newer refusal: one says it for all."""
    dead = SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key, state=State.DEAD, resolved_by=None)
    dead.exclude(pk=job.pk).update(resolved_by=job)


def _hand_on(job: SyncJob, waiting: SyncJob) -> None:
    """Wake the job that waited; it inherits the tries, losses and due time of one it supersedes, and the customer that a read has shown."""
    if job.state == State.SUPERSEDED:
        SyncJob.objects.filter(pk=waiting.pk).update(
            tries=job.tries,
            first_tried_at=job.first_tried_at,
            due_at=job.due_at,
            not_before=job.not_before,
            losses=job.losses,
            force=waiting.force or job.force,
            customer_key=waiting.customer_key or job.customer_key,
        )
    elif waiting.state == State.PENDING:
        wake([waiting.pk])


def settle_many(settled: Sequence[tuple[Attempt, Outcome]]) -> int:
    """Settle many runs that did their work, each as `settle` does, and return how many claims still stood; a few statements in all."""
    now = timezone.now()
    with transaction.atomic():
        numbers = {attempt.job_id: attempt.number for attempt, _ in settled}
        running = SyncJob.objects.filter(pk__in=list(numbers), state=State.RUNNING).select_for_update().order_by("pk")
        standing = {job.pk: job for job in running if numbers[job.pk] == job.attempt_number}
        groups: dict[Outcome, list[Attempt]] = {}
        for attempt, outcome in settled:
            if attempt.job_id in standing:
                groups.setdefault(outcome, []).append(attempt)
        for outcome, attempts in groups.items():
            _succeed(attempts, outcome, now)
        _close_others(list(standing.values()))
    return len(standing)


def _succeed(attempts: Sequence[Attempt], outcome: Outcome, now: datetime) -> None:
    told = {"result": outcome.result, "reason": outcome.reason, "notes": list(outcome.notes)}
    free = {"tries": 0, "error_code": "", "not_before": None, "losses": 0, "lease_until": None}
    SyncJob.objects.filter(pk__in=[attempt.job_id for attempt in attempts]).update(state=State.SUCCEEDED, settled_at=now, **told, **free)
    closed = {"closed_at": now, "ending": outcome.ending, "error_code": outcome.code, "words": outcome.words}
    Attempt.objects.filter(pk__in=[attempt.pk for attempt in attempts]).update(message="", **closed, **told)


def _close_others(jobs: Sequence[SyncJob]) -> None:
    """Resolve the dead letters of these records, and wake the jobs that waited for their runs."""
    identities = {(job.route_id, job.kind, job.key): job for job in jobs}
    keys = [job.key for job in jobs]
    same = SyncJob.objects.filter(route_id__in={job.route_id for job in jobs}, key__in=keys)
    for dead in same.filter(state=State.DEAD, resolved_by=None):
        if (dead.route_id, dead.kind, dead.key) in identities:
            SyncJob.objects.filter(pk=dead.pk).update(resolved_by=identities[dead.route_id, dead.kind, dead.key])
    waiting = [job.pk for job in same.filter(state=State.PENDING) if (job.route_id, job.kind, job.key) in identities]
    if waiting:
        wake(waiting)


def asked_again(jobs: Sequence[SyncJob]) -> set[uuid.UUID]:
    """Return which of these jobs, which are being run, have another waiting behind them: something happened to their records since."""
    routes, keys = {job.route_id for job in jobs}, [job.key for job in jobs]
    same = SyncJob.objects.filter(route_id__in=routes, key__in=keys, state=State.PENDING, settled_at=None).order_by()
    waiting = set(same.values_list("route_id", "kind", "key"))
    return {job.pk for job in jobs if (job.route_id, job.kind, job.key) in waiting}


def leave(attempts: Iterable[Attempt]) -> None:
    """Put back jobs that were claimed together and not reached: who claimed them may do so again at once, others in some minutes.

    What was asked for meanwhile is due now.
    """
    later = timezone.now() + LEFT_FOR
    outcome = Outcome(Ending.TRANSIENT, code=LEFT, not_before=later, counted=False)
    left = [settle(attempt, outcome, message="the batch that it was claimed with came to its end before its turn") for attempt in attempts]
    jobs = [job for job in left if job is not None]
    SyncJob.objects.filter(pk__in=[job.pk for job in jobs], state=State.PENDING, not_before=later).update(not_before=None)
    superseded = {job.key: job.route_id for job in jobs if job.state == State.SUPERSEDED}
    heirs = SyncJob.objects.filter(key__in=superseded, route_id__in=superseded.values(), state=State.PENDING, not_before=later)
    if heirs.update(not_before=None, due_at=timezone.now()):
        wake()


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
    waiting = _open_beside(job)
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


def outcome_of_success(result: str, *, reason: str = "", notes: Iterable[str] = ()) -> Outcome:
    """Return the outcome of a run that did its work."""
    return Outcome(Ending.SUCCESS, result=result, reason=reason, notes=tuple(notes))


def anything_due() -> bool:
    """Whether a job could be claimed right now."""
    now = timezone.now()
    return (
        _free(now, Hold.objects.all()).filter(due_at__lte=now).exists()
        or SyncJob.objects.filter(state=State.RUNNING, lease_until__lt=now).exists()
    )
