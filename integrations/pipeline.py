"""run() and drain(): claim, read, map, converge, settle. The only place where errors become outcomes."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from audit import holds, ledger, outages, trail
from audit.ledger import Ask, Claim
from audit.models import Attempt, SyncJob
from audit.states import Outcome, State
from integrations import asking, bindings, changes, converge, failing, reading, systems
from integrations.bindings import ClaimLost
from integrations.core.errors import ConnectorError, Transient
from integrations.core.ports import Destination
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, READ_MOST, Snapshot, number_of, record_key
from integrations.models import Connection, Route
from integrations.reading import Batch, Reach, Read
from integrations.recording import AttemptRecorder, Turning

log = logging.getLogger(__name__)

SECOND_LOOK = timedelta(minutes=5)


def run(job_ids: Collection[UUID] | None = None, *, started_by: str, redelivery: bool = False, budget: float | None = None) -> bool:
    """Claim one group of due jobs and run it to its end; False when there was nothing to claim.

    `budget` is in seconds and at most JOB_BUDGET. Running anything twice is safe. Database errors propagate: the lease
    then runs out and the jobs come back.
    """
    claim = ledger.claim(job_ids, started_by=started_by, redelivery=redelivery)
    if claim is None:
        return False
    _run([claim], settings.JOB_BUDGET if budget is None else budget)
    return True


def drain(*, started_by: str, budget: float) -> int:
    """Run what is due until nothing is or the time (seconds) is used up; return how many groups were run.

    What waits is read many at once. Many workers may do this at the same time, and share what there is.
    """
    end, groups = time.monotonic() + budget, 0
    while time.monotonic() < end and (claims := _claims(started_by)):
        _run(claims, end - time.monotonic())
        groups += len(claims)
    return groups


def _claims(started_by: str) -> list[Claim]:
    """Take a fair share of the groups that wait for one source, as many as one request reads."""
    first = ledger.claim(started_by=started_by)
    if first is None:
        return []
    claims, most = [first], 1 if first.alone else ledger.fair_share(first, READ_MOST)
    while len(claims) < most:
        another = ledger.claim(started_by=started_by, beside=first)
        if another is None:
            break
        claims.append(another)
    return claims


def _run(claims: Sequence[Claim], budget: float) -> None:
    source = Connection.objects.get(pk=claims[0].jobs[0].source_id)
    this = Batch(claims, source, time.monotonic() + min(settings.JOB_BUDGET, budget))
    if claims[0].jobs[0].kind == PAYMENT:
        _forward(this, claims[0])
        return
    waiting = list(zip(claims, reading.read(this), strict=True))
    try:
        while waiting and (len(claims) == 1 or time.monotonic() < this.deadline):
            claim, found = waiting.pop(0)
            _run_group(this, claim, found)
    finally:
        # Also when the database has failed one of them; if it fails these too, their leases run out.
        for claim, _ in waiting:
            with suppress(DatabaseError):
                for attempt in claim.attempts:
                    failing.give_back(attempt)
        if claims[0].probe_until is not None:
            outages.give_back(claims[0].probes, claims[0].probe_until)


def _run_group(this: Batch, claim: Claim, found: Read) -> None:
    if isinstance(found, DatabaseError):
        raise found
    rows = Route.objects.select_related("destination").prefetch_related("field_mappings", "status_mappings")
    routes = rows.in_bulk({job.route_id for job in claim.jobs})
    if isinstance(found, ConnectorError):
        for attempt in claim.attempts:
            _fail(claim, attempt, found)
        return
    # Made since the claim, by others: a read may take long, and a turn come late.
    held = holds.held_since(claim.jobs, but=this.claims[0].probes)
    for job, attempt in _pairs(claim):
        if job.pk in held and this.stopped.by(job.destination_id) is None:
            failing.give_back(attempt, "what it would write has been put on hold since it was claimed")
        else:
            _run_job(this, claim, job, attempt, routes.get(job.route_id), found)


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a backfill's batch: counts of records, the keys of those not reached, and what stopped it, if anything did."""

    done: int = 0
    failed: int = 0
    left: frozenset[str] = frozenset()
    stopped_by: ConnectorError | None = None


def settle_whole(claim: Claim, whole: Mapping[str, tuple[str, ...]], snapshots: Mapping[str, Snapshot], made: Mapping[str, str]) -> int:
    """Settle the jobs of records of which everything stands at the destination, in a few statements; return how many.

    `whole` are notes by key, `made` what bulk calls did.
    """
    pairs = [(job, attempt) for job, attempt in _pairs(claim) if job.key in whole]
    with transaction.atomic():
        trail.describe_many([(job, changes.describe(job, snapshots[job.key])) for job, _ in pairs])
        outcomes = [(attempt, ledger.outcome_of_success(made.get(job.key, "unchanged"), notes=whole[job.key])) for job, attempt in pairs]
        return ledger.settle_many(outcomes)


def bring(this: Batch, claim: Claim, snapshots: Mapping[str, Snapshot], settled: Collection[str] = ()) -> Brought:
    """Bring the rest of a batch's records from what was read of it, one by one.

    One that was not read is due again at once, for its own run, and so is one to which something has happened since.
    What is not reached, for want of time or because of what concerns all, is put back for the backfill.
    """
    routes = Route.objects.select_related("destination").in_bulk({job.route_id for job in claim.jobs})
    left: dict[str, Attempt] = {}
    ended: list[UUID] = []
    stop: ConnectorError | None = None
    rest = _without_news([pair for pair in _pairs(claim) if pair[0].key not in settled])
    while rest:
        job, attempt = rest.pop(0)
        if job.key not in snapshots:
            failing.give_back(attempt)
        elif stop is not None or time.monotonic() >= this.deadline:
            left[job.key] = attempt
        else:
            error = _run_job(this, claim, job, attempt, routes.get(job.route_id), snapshots[job.key])
            stop = this.stopped.by(job.destination_id) or (error if _waits(error) else None)
            ended.append(job.pk)
            rest = _without_news(rest)
    ledger.leave(left.values())
    states = list(SyncJob.objects.filter(pk__in=ended).values_list("state", flat=True))
    return Brought(states.count(State.SUCCEEDED), states.count(State.DEAD), frozenset(left), stop)


def _without_news(pairs: list[tuple[SyncJob, Attempt]]) -> list[tuple[SyncJob, Attempt]]:
    """Put back the jobs that a newer one waits for: a live event does not wait for its record's turn in the batch."""
    again = ledger.asked_again([job for job, _ in pairs]) if pairs else set()
    ledger.leave(attempt for job, attempt in pairs if job.pk in again)
    return [pair for pair in pairs if pair[0].pk not in again]


def _waits(error: ConnectorError | None) -> bool:
    """Whether nothing more may be sent for now."""
    return isinstance(error, Transient) and error.code in ("limit", "budget")


def _pairs(claim: Claim) -> list[tuple[SyncJob, Attempt]]:
    """Return the claimed jobs with their attempts, customers first: an invoice's record points at its organization."""
    pairs = zip(claim.jobs, claim.attempts, strict=True)
    return sorted(pairs, key=lambda pair: (pair[0].kind != CUSTOMER, pair[0].route_id))


def _forward(this: Batch, claim: Claim) -> None:
    """A payment without an invoice id only finds its invoice and asks for that job on the same route."""
    auth = systems.ConnectionAuth(this.source)
    try:
        reader = reading.reader_of(this, claim.attempts, auth)
        for job, attempt in _pairs(claim):
            _forward_job(this, job, attempt, reader.invoice_of_payment(number_of(job.key)))
    except Exception as error:
        known = failing.stop(this.source, auth, failing.told(error, f"job {claim.jobs[0].pk}"))
        for attempt in claim.attempts:
            _fail(claim, attempt, known)


def _forward_job(this: Batch, job: SyncJob, attempt: Attempt, number: str) -> None:
    with transaction.atomic():
        if number:
            key = record_key(job.key.split(":")[1], INVOICE, number)
            routes = asking.routes_of(this.source, invoice_key=key).filter(pk=job.route_id)
            asked = ledger.request(asking.asks_for(this.source, routes, INVOICE, key))
            ledger.wake(found.pk for found in asked.jobs)
        ledger.settle(attempt, ledger.outcome_of_success("ignored", reason="forwarded" if number else "not_found"))


def _run_job(this: Batch, claim: Claim, job: SyncJob, attempt: Attempt, route: Route | None, snapshot: Snapshot) -> ConnectorError | None:
    """Run one job to its end and return what it failed with."""
    if route is None:
        ledger.settle(attempt, ledger.outcome_of_success("ignored", reason="no_route"))
        return None
    auth = this.auths.setdefault(route.destination_id, systems.ConnectionAuth(route.destination))
    try:
        this.stopped.check(route.destination_id)
        _introduce(this, job, route, snapshot)
        _settle(this, job, attempt, _bring(this, job, attempt, route, snapshot, auth), route)
    except ClaimLost:
        log.warning("job %s was given to another worker; this one stops without writing", job.pk)
    except Exception as error:
        known = failing.stop(route.destination, auth, failing.told(error, f"job {job.pk}"), job)
        this.stopped.note(route.destination_id, known)
        _fail(claim, attempt, known)
        return known
    else:
        this.stopped.note(route.destination_id, None)
    return None


def _fail(claim: Claim, attempt: Attempt, error: ConnectorError) -> None:
    ledger.settle(attempt, failing.outcome_of(error, counted=claim.counted), message=str(error))


def _with_history(this: Batch, job: SyncJob, snapshot: Snapshot) -> Snapshot:
    if job.kind != CUSTOMER or snapshot.customer is None:
        return snapshot
    return replace(snapshot, history=changes.of_customer(this.source.pk, job.key))


def _bring(this: Batch, job: SyncJob, attempt: Attempt, route: Route, snapshot: Snapshot, auth: systems.ConnectionAuth) -> Outcome:
    """Bring one record to one destination; raises ConnectorError."""
    adapter = _adapter(this, attempt, route, auth)
    seen = _with_history(this, job, snapshot)
    calls = this.reaches[route.pk].turning.to
    arrival = converge.Arrival(route, adapter, bindings.Writer(route.pk, job, attempt), seen, carried_out=lambda: calls.carried_out)
    arrival.results |= {this.made[job.key]} if job.key in this.made else set()
    if (seen.invoice if job.kind == INVOICE else seen.customer) is None:
        return _missing(arrival)
    return converge.bring(arrival)


def _adapter(this: Batch, attempt: Attempt, route: Route, auth: systems.ConnectionAuth) -> Destination:
    """Return the route's adapter, the same for all jobs of the batch; its calls are entered on this attempt from now on."""
    recorder = AttemptRecorder([attempt], route.destination.system)
    reach = this.reaches.get(route.pk)
    if reach is None:
        turning = Turning(recorder)
        adapter = systems.destination(route, recorder=turning, deadline=this.deadline, auth=auth, lane=this.lane)
        reach = this.reaches[route.pk] = Reach(adapter, turning)
    reach.turning.to = recorder
    reach.adapter.notes.clear()
    return reach.adapter


def _missing(arrival: converge.Arrival) -> Outcome:
    """Believe a deletion only after a second look by id; a record we never mirrored is ignored at once."""
    job = arrival.writer.job
    if not bindings.of_record(arrival.route.pk, job.key):
        return ledger.outcome_of_success("ignored", reason="not_found")
    if not job.second_look:
        return ledger.outcome_of_success("ignored", reason="not_found_yet")
    return converge.bring_deletion(arrival)


def _introduce(this: Batch, job: SyncJob, route: Route, snapshot: Snapshot) -> None:
    """Note what the record is called; a customer who was not asked for with the invoice is asked for now.

    Both commit together, so that a run that fails later leaves the question asked.
    """
    met = snapshot.invoice.customer.key if snapshot.invoice and job.kind == INVOICE else ""
    known, about = job.customer_key, changes.describe(job, snapshot)
    if not met or met == known:
        trail.describe(job, **about)
        return
    with transaction.atomic():
        trail.describe(job, **about)
        if ledger.request(asking.customers_of(this.source, route, [known, met])).jobs:
            ledger.wake()


def _settle(this: Batch, job: SyncJob, attempt: Attempt, outcome: Outcome, route: Route) -> None:
    """Settle the job and, in the same transaction, ask for what a vanished record makes necessary."""
    asks = _made_necessary(this, job, outcome, route)
    if not asks:
        ledger.settle(attempt, outcome)
        return
    with transaction.atomic():
        if ledger.settle(attempt, outcome) is not None:
            asking.requested(asks)
            if any(ask.due_at is None for ask in asks):
                ledger.wake()


def _made_necessary(this: Batch, job: SyncJob, outcome: Outcome, route: Route) -> list[Ask]:
    if outcome.reason == "not_found_yet":
        due_at = timezone.now() + SECOND_LOOK
        return [asking.ask(this.source, route, job.kind, job.key, second_look=True, due_at=due_at, customer_key=job.customer_key)]
    if job.kind == CUSTOMER and converge.REMADE in outcome.notes:
        return asking.hanging_on(this.source, route, job.key)
    if converge.PARENT_REMADE in outcome.notes:
        others = [one for one in asking.hanging_on(this.source, route, job.customer_key) if one.key != job.key]
        return asking.customers_of(this.source, route, [job.customer_key]) + others
    if outcome.result == "deleted" or outcome.reason == "not_found":
        return asking.customers_of(this.source, route, [job.customer_key])
    return []
