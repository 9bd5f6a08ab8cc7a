"""receive(): verify a webhook request, store it once, ask for its jobs; answer(): what the source is told."""

import hashlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from audit import holds, ledger
from audit.models import SyncJob
from audit.states import CLOSED, State
from integrations import asking, pipeline, registry, systems, webhook_secrets
from integrations.core.events import TEST_EVENT, Decision, Event, Verdict, VerdictReason
from integrations.models import Connection, Delivery, Intake, Route
from integrations.models.secrets import WrongKeyError

log = logging.getLogger(__name__)

COUNT_EVERY = timedelta(seconds=10)
# Seconds between looks at jobs that another worker runs for us, at first and at last: many requests may wait for one job.
WAIT_FOR_A_PERSON = 60  # seconds, where only a person or another worker can say when
LOOK_EVERY, LOOK_SELDOM = 0.05, 0.4
COUNTERS = {
    VerdictReason.MISSING: "unsigned",
    VerdictReason.MALFORMED: "unsigned",
    VerdictReason.BARE: "bare",
    VerdictReason.MISMATCH: "forged",
    VerdictReason.STALE: "stale_signed",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the source is told: a status, and with a 503 the seconds until the next try makes sense."""

    status: int
    text: str
    retry_after: int | None = None


def receive(system: str, connection_id: UUID, headers: Mapping[str, str], body: bytes) -> Reply:
    """Take one webhook request, as raw bytes, and do what WEBHOOK_ACK promises before the answer."""
    try:
        connection = Connection.objects.select_related("intake").filter(uuid=connection_id, system=system).first()
    except WrongKeyError as error:
        log.error("%s", error)
        return Reply(503, "the webhook secret cannot be read", 60)
    entry = registry.SOURCES.get(system)
    if connection is None or entry is None or not hasattr(connection, "intake"):
        return Reply(404, "unknown connection")
    secrets = json.loads(connection.intake.secrets)
    verdict = entry.verify(headers, body, secrets, time.time(), settings.WEBHOOK_TOLERANCE)
    if not verdict.verified:
        return _turn_away(connection, verdict)
    return _acknowledge(_store(connection, entry, body, Proof(secrets[verdict.secret], verdict.skew)))


# --- Not verified -------------------------------------------------------------------------------------------------

_uncounted: dict[int, Counter[str]] = {}
_uncounted_lock = threading.Lock()


def _turn_away(connection: Connection, verdict: Verdict) -> Reply:
    reason = verdict.reason or VerdictReason.MISSING
    setup_until = connection.intake.setup_until
    if reason is VerdictReason.MISSING and setup_until and setup_until > timezone.now():
        # Wave probes the address when it is saved, before it has shown the secret.
        Intake.objects.filter(pk=connection.intake.pk).update(probed_at=timezone.now())
        return Reply(200, "set-up mode: nothing stored")
    return turn_away(connection.intake, verdict)


def turn_away(intake: Intake, verdict: Verdict) -> Reply:
    """Count a request that is not verified and return what its sender is told; nothing else of it is kept."""
    reason = verdict.reason or VerdictReason.MISSING
    _count(intake, COUNTERS[reason], verdict.skew)
    return Reply(401, "not verified: check the webhook secret and the clock" if reason is VerdictReason.STALE else "not verified")


def _count(intake: Intake, counter: str, skew: float) -> None:
    """Count in memory and write at most once in 10 s, so that a flood of forgeries is no flood of writes.

    A stale but rightly signed delivery says that something was missed: the next poll comes forward, at most once
    per POLL_SECONDS.
    """
    now = timezone.now()
    with _uncounted_lock:
        counts = _uncounted.setdefault(intake.pk, Counter())
        counts[counter] += 1
        if intake.counted_at is not None and now - intake.counted_at < COUNT_EVERY:
            return
        taken, _uncounted[intake.pk] = counts, Counter()
    changes = {name: F(name) + number for name, number in taken.items()}
    if taken["stale_signed"] and (intake.poll_due_at is None or now - intake.poll_due_at >= timedelta(seconds=settings.POLL_SECONDS)):
        changes["poll_due_at"] = now  # type: ignore[assignment]
    if counter == "stale_signed":
        changes |= {"stale_at": now, "stale_skew": round(skew, 1)}  # type: ignore[dict-item]
    free = Q(counted_at=None) | Q(counted_at__lte=now - COUNT_EVERY)
    if not Intake.objects.filter(free, pk=intake.pk).update(counted_at=now, **changes):
        with _uncounted_lock:
            _uncounted[intake.pk] += taken


# --- Stored once --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored delivery; `known` says that it came before, `joined` that it asks for jobs that were open; `jobs` are its own, if new."""

    delivery: Delivery
    known: bool
    joined: bool = False
    jobs: list[SyncJob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Proof:
    """What verified a delivery: the secret, and by how many seconds the sender's clock was ahead of ours."""

    secret: str = field(repr=False)
    skew: float


def _store(connection: Connection, entry: registry.SourceEntry, body: bytes, proof: Proof) -> _Stored:
    event = entry.parse(body)
    home = _home(connection, entry, event, proof)
    delivery = _delivery(home or connection, event, body, proof)
    try:
        with transaction.atomic():
            requested = _enter(delivery, home, entry, event)
            delivery.save(force_insert=True)
    except IntegrityError:
        return _seen_again(delivery)
    own = set(delivery.job_ids)
    return _Stored(delivery, known=False, joined=bool(requested.joined), jobs=[job for job in requested.jobs if str(job.pk) in own])


def _delivery(connection: Connection, event: Event | None, body: bytes, proof: Proof) -> Delivery:
    now = timezone.now()
    ours = event is not None and event.type == TEST_EVENT  # says nothing of the sender's secret or clock
    return Delivery(
        connection=connection,
        event_type=event.type if event else "",
        event_hash=hashlib.sha256((event.id if event else "").encode()).hexdigest(),
        body_hash=hashlib.sha256(body).hexdigest(),
        body=body,
        secret="" if ours else webhook_secrets.fingerprint(proof.secret),
        skew=None if ours else proof.skew,
        received_at=now,
        last_seen_at=now,
    )


def _home(connection: Connection, entry: registry.SourceEntry, event: Event | None, proof: Proof) -> Connection | None:
    """Return the connection of the business that the delivery is about, None when that is not connected.

    The webhook belongs to the app: one URL and secret can carry several businesses. Who knows the secret of one
    connection only speaks for no other.
    """
    own = entry.business(systems.account(connection))
    if event is None or not event.business or not own or event.business == own:
        return connection
    others = Connection.objects.select_related("intake").filter(system=connection.system, intake__isnull=False)
    named = (other for other in others.exclude(pk=connection.pk) if entry.business(systems.account(other)) == event.business)
    return next((other for other in named if proof.secret in webhook_secrets.stored(other.intake)), None)


def _enter(delivery: Delivery, home: Connection | None, entry: registry.SourceEntry, event: Event | None) -> ledger.Requested:
    """Decide about the delivery, ask for its jobs and wake the workers; return the jobs."""
    delivery.decision, delivery.reason = _decide(home, event)
    if delivery.decision != Decision.ACCEPTED or event is None or home is None:
        return ledger.Requested()
    business = event.business or entry.business(systems.account(home))
    kind, key = asking.subject_of(event, business)
    if not key or not business:
        delivery.decision, delivery.reason = Decision.QUARANTINED, "no_record"
        return ledger.Requested()
    delivery.subject = key
    customer_key = asking.customer_key_of(event, key)
    asks = asking.asks_for(home, asking.routes_of(home, invoice_key=key), kind, key, customer_key=customer_key)
    requested = ledger.request(asks)
    own = [job for job, ask in zip(requested.jobs, asks, strict=True) if not ask.derived]
    delivery.job_ids = [str(job.pk) for job in own]
    delivery.reason = "" if own else "no_route"
    if requested.jobs:
        ledger.wake(job.pk for job in requested.jobs)
    return requested


def _decide(home: Connection | None, event: Event | None) -> tuple[Decision, str]:
    if event is None:
        return Decision.QUARANTINED, "unreadable"
    if home is None:
        return Decision.IGNORED, "business_not_connected"
    if event.type == TEST_EVENT or any(fnmatchcase(event.type, pattern) for pattern in settings.WAVE_EVENTS_IGNORED):
        return Decision.IGNORED, "by_name"
    if event.type not in settings.WAVE_EVENTS_HANDLED:
        return Decision.UNKNOWN, "unknown_event"
    return Decision.ACCEPTED, ""


def _seen_again(delivery: Delivery) -> _Stored:
    same = Delivery.objects.filter(connection=delivery.connection, event_hash=delivery.event_hash, body_hash=delivery.body_hash)
    same.update(seen=F("seen") + 1, last_seen_at=timezone.now(), secret=delivery.secret, skew=delivery.skew)
    return _Stored(same.get(), known=True)


# --- The answer ---------------------------------------------------------------------------------------------------


def _acknowledge(stored: _Stored) -> Reply:
    ids = [UUID(pk) for pk in stored.delivery.job_ids]
    if settings.WEBHOOK_ACK == "stored" or not ids:
        return Reply(200, stored.delivery.decision)
    end = time.monotonic() + settings.WEBHOOK_DEADLINE
    redelivery, pause = stored.known or stored.joined, LOOK_EVERY
    jobs = stored.jobs or _own(ids)
    paused = _paused(jobs)  # who pauses a route while we wait is told of at the end
    while _unfinished(jobs, paused) and time.monotonic() < end:
        busy = _under_way(jobs)
        ran = not busy and pipeline.run(
            [job.pk for job in jobs], started_by="webhook", redelivery=redelivery, budget=end - time.monotonic()
        )
        jobs = _own(ids)
        if not ran and not busy and not any(job.state == State.RUNNING or _due_before(job, end) for job in _unfinished(jobs, paused)):
            break
        redelivery = redelivery and busy  # once is enough: after that the job's own due time counts
        if not ran:
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_SELDOM)
    return _reply(jobs)


def _under_way(jobs: Iterable[SyncJob]) -> bool:
    """Whether one of these records is being run just now, on whatever route: what waits behind it then starts as one run."""
    keys = {job.key for job in jobs}
    return SyncJob.objects.filter(key__in=keys, state=State.RUNNING, lease_until__gt=timezone.now()).exists()


def _due_before(job: SyncJob, end: float) -> bool:
    free_at = holds.free_at(job) if job.state == State.PENDING else None
    return free_at is not None and (free_at - timezone.now()).total_seconds() < end - time.monotonic()


def _own(ids: Iterable[UUID]) -> list[SyncJob]:
    """Return the delivery's jobs; one that was superseded is answered for by the newest of its record and route."""
    jobs = list(SyncJob.objects.filter(pk__in=list(ids)))
    return [_newest(job) if job.state == State.SUPERSEDED else job for job in jobs]


def _newest(job: SyncJob) -> SyncJob:
    return SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key).latest("created_at")


def _unfinished(jobs: Iterable[SyncJob], paused: Collection[int]) -> list[SyncJob]:
    """Return the jobs that have not come to an end, but for those of a route that a person has paused."""
    return [job for job in jobs if job.state not in CLOSED and job.route_id not in paused]


def _paused(jobs: Iterable[SyncJob]) -> set[int]:
    """Return the routes of open jobs that a person has paused."""
    routes = {job.route_id for job in jobs if job.state not in CLOSED}
    return set(Route.objects.filter(pk__in=routes).exclude(paused_at=None).values_list("pk", flat=True)) if routes else set()


def _reply(jobs: list[SyncJob]) -> Reply:
    """Return the row of the design's table: 200 when nothing more comes of a redelivery."""
    waiting = _unfinished(jobs, _paused(jobs))
    dead = [job for job in jobs if job.state == State.DEAD and job.resolved_by_id is None]
    gave_up = [job for job in dead if job.error_code in ("gave_up", "crashed")]
    if not waiting and not gave_up:
        return Reply(200, "done")
    return Reply(503, "not done yet", _seconds_until(waiting))


def _seconds_until(waiting: list[SyncJob]) -> int:
    ends = [holds.free_at(job) for job in waiting if job.state == State.PENDING]
    known = [end for end in ends if end is not None]
    if not known:
        return WAIT_FOR_A_PERSON
    return min(3600, max(1, round((min(known) - timezone.now()).total_seconds())))
