"""run(): claim, read, map, converge, settle. The only place where errors become outcomes."""

import logging
import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from audit import ledger
from audit.ledger import Claim
from audit.models import Attempt, SyncJob
from audit.states import Ending, Outcome
from integrations import asking, bindings, changes, converge, dependants, oauth, systems
from integrations.bindings import ClaimLost
from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Transient, Unmappable
from integrations.core.ports import Source
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, Changed, Snapshot, number_of, record_key
from integrations.models import Connection, Route
from integrations.recording import AttemptRecorder

log = logging.getLogger(__name__)

SECOND_LOOK = timedelta(minutes=5)


@dataclass(slots=True)
class Run:
    """One claim on its way: the source it reads, and the time after which nothing is sent any more."""

    claim: Claim
    source: Connection
    deadline: float
    stopped: dict[int, ConnectorError] = field(default_factory=dict)  # by destination: what one job met concerns its siblings

    @property
    def pairs(self) -> list[tuple[SyncJob, Attempt]]:
        """The claimed jobs with their attempts, customers first: an invoice's record points at its organization."""
        pairs = zip(self.claim.jobs, self.claim.attempts, strict=True)
        return sorted(pairs, key=lambda pair: (pair[0].kind != CUSTOMER, pair[0].route_id))


def run(job_ids: Collection[UUID] | None = None, *, started_by: str, redelivery: bool = False, budget: float | None = None) -> bool:
    """Claim one group of due jobs and run it to its end; False when there was nothing to claim.

    `budget` is in seconds and at most JOB_BUDGET. Running anything twice is safe. Database errors propagate: the lease
    then runs out and the jobs come back.
    """
    claim = ledger.claim(job_ids, started_by=started_by, redelivery=redelivery)
    if claim is None:
        return False
    source = Connection.objects.get(pk=claim.jobs[0].source_id)
    seconds = min(settings.JOB_BUDGET, budget if budget is not None else settings.JOB_BUDGET)
    _run(Run(claim, source, time.monotonic() + seconds))
    return True


def drain(*, started_by: str, budget: float) -> int:
    """Run what is due until nothing is or the time (seconds) is used up; return how many groups were run."""
    end, groups = time.monotonic() + budget, 0
    while time.monotonic() < end and run(started_by=started_by, budget=end - time.monotonic()):
        groups += 1
    return groups


def _run(this: Run) -> None:
    auth = systems.ConnectionAuth(this.source)
    try:
        snapshot = _read(this, auth)
        if snapshot is None:
            return
        _note(this, snapshot)
        _note_customers(this, snapshot)
    except Exception as error:
        known = stop(this.source, auth, told(error, f"job {this.claim.jobs[0].pk}"))
        for job, attempt in this.pairs:
            _fail(this, job, attempt, known)
        return
    routes = Route.objects.select_related("destination").in_bulk({job.route_id for job in this.claim.jobs})
    for job, attempt in this.pairs:
        _run_job(this, job, attempt, routes.get(job.route_id), snapshot)


def _note(this: Run, snapshot: Snapshot) -> None:
    """Remember what the read shows anew, and ask for the customer whose summary tells of it, unless claimed with it.

    After a failure the customer's job may have run by itself before: its summary lacks what is only known now.
    """
    with transaction.atomic():
        if not changes.note(this.source.pk, snapshot) or snapshot.invoice is None:
            return
        taken = {(job.route_id, job.kind, job.key) for job in this.claim.jobs}
        routes = asking.routes_of(this.source)
        asks = [ask for route in routes for ask in asking.customers_of(this.source, route, [snapshot.invoice.customer.key])]
        if ledger.request([ask for ask in asks if ask.identity not in taken]).jobs:
            ledger.wake()


def _note_customers(this: Run, snapshot: Snapshot) -> None:
    """Remember what the read customers are called, and ask for the open invoices that show them as they were."""
    met = [snapshot.customer, snapshot.invoice.customer if snapshot.invoice else None]
    customers = {one.key: Changed(one.key, one.modified_at, shown=one.shown) for one in met if one is not None}
    taken = {(job.route_id, job.kind, job.key) for job in this.claim.jobs}
    with transaction.atomic():
        asking.request(ask for ask in dependants.note(this.source, customers.values()) if ask.identity not in taken)


def _read(this: Run, auth: systems.ConnectionAuth) -> Snapshot | None:
    """Read what all jobs of the claim are about, in one request; None when they were about a payment and are settled.

    The claims were made before: what is read is newer.
    """
    jobs = this.claim.jobs
    recorder = AttemptRecorder(this.claim.attempts, this.source.system)
    reader = systems.source(this.source, recorder=recorder, deadline=this.deadline, auth=auth)
    if jobs[0].kind == PAYMENT:
        _forward(this, reader)
        return None
    invoice = next((number_of(job.key) for job in jobs if job.kind == INVOICE), "")
    customer = next((number_of(job.key) for job in jobs if job.kind == CUSTOMER), "")
    return reader.read(invoice=invoice, customer=customer)


def _forward(this: Run, reader: Source) -> None:
    """A payment without an invoice id only finds its invoice and asks for that job on the same route."""
    for job, attempt in this.pairs:
        number = reader.invoice_of_payment(number_of(job.key))
        with transaction.atomic():
            if number:
                key = record_key(job.key.split(":")[1], INVOICE, number)
                routes = asking.routes_of(this.source, invoice_key=key).filter(pk=job.route_id)
                asked = ledger.request(asking.asks_for(this.source, routes, INVOICE, key))
                ledger.wake(found.pk for found in asked.jobs)
            ledger.settle(attempt, ledger.outcome_of_success("ignored", reason="forwarded" if number else "not_found"))


def _run_job(this: Run, job: SyncJob, attempt: Attempt, route: Route | None, snapshot: Snapshot) -> None:
    if route is None:
        ledger.settle(attempt, ledger.outcome_of_success("ignored", reason="no_route"))
        return
    auth = systems.ConnectionAuth(route.destination)
    try:
        if route.destination_id in this.stopped:
            raise this.stopped[route.destination_id]
        _introduce(this, job, route, snapshot)
        _settle(this, job, attempt, _bring(this, job, attempt, route, snapshot, auth), route)
    except ClaimLost:
        log.warning("job %s was given to another worker; this one stops without writing", job.pk)
    except Exception as error:
        known = stop(route.destination, auth, told(error, f"job {job.pk}"), job)
        if _concerns_all(known):
            this.stopped[route.destination_id] = known
        _fail(this, job, attempt, known)


def _with_history(this: Run, job: SyncJob, snapshot: Snapshot) -> Snapshot:
    if job.kind != CUSTOMER or snapshot.customer is None:
        return snapshot
    return replace(snapshot, history=changes.of_customer(this.source.pk, job.key))


def _bring(this: Run, job: SyncJob, attempt: Attempt, route: Route, snapshot: Snapshot, auth: systems.ConnectionAuth) -> Outcome:
    """Bring one record to one destination; raises ConnectorError."""
    recorder = AttemptRecorder([attempt], route.destination.system)
    adapter = systems.destination(route, recorder=recorder, deadline=this.deadline, auth=auth)
    seen = _with_history(this, job, snapshot)
    arrival = converge.Arrival(route, adapter, bindings.Writer(route.pk, job, attempt), seen)
    if (seen.invoice if job.kind == INVOICE else seen.customer) is None:
        return _missing(arrival)
    return converge.bring(arrival)


def _missing(arrival: converge.Arrival) -> Outcome:
    """Believe a deletion only after a second look by id; a record we never mirrored is ignored at once."""
    job = arrival.writer.job
    if not bindings.of_record(arrival.route.pk, job.key):
        return ledger.outcome_of_success("ignored", reason="not_found")
    if not job.second_look:
        return ledger.outcome_of_success("ignored", reason="not_found_yet")
    return converge.bring_deletion(arrival)


def _introduce(this: Run, job: SyncJob, route: Route, snapshot: Snapshot) -> None:
    """Note what the record is called; a customer who was not asked for with the invoice is asked for now.

    Both commit together, so that a run that fails later leaves the question asked.
    """
    met = snapshot.invoice.customer.key if snapshot.invoice and job.kind == INVOICE else ""
    known = job.customer_key
    with transaction.atomic():
        ledger.describe(job, **changes.describe(job, snapshot))
        if met and met != known and ledger.request(asking.customers_of(this.source, route, [known, met])).jobs:
            ledger.wake()


def _settle(this: Run, job: SyncJob, attempt: Attempt, outcome: Outcome, route: Route) -> None:
    """Settle the job and, in the same transaction, ask for what a vanished record makes necessary."""
    with transaction.atomic():
        if ledger.settle(attempt, outcome) is None:
            return
        if outcome.reason == "not_found_yet":
            due_at = timezone.now() + SECOND_LOOK
            again = asking.ask(this.source, route, job.kind, job.key, second_look=True, due_at=due_at, customer_key=job.customer_key)
            ledger.request([again])
        elif outcome.result == "deleted" or converge.PARENT_REMADE in outcome.notes:
            ledger.request(asking.customers_of(this.source, route, [job.customer_key]))
            ledger.wake()


def _concerns_all(error: ConnectorError) -> bool:
    """Whether the error is the account's and not this record's."""
    return isinstance(error, Disconnected) or (isinstance(error, Transient) and error.scope == "connection")


def told(error: Exception, about: object) -> ConnectorError:
    """Return what an exception means for its job; what the database says is raised on, for the lease then brings the job back.

    An account that is set up wrongly waits for a person, like one whose grant is dead. A defect of ours must not take
    other jobs down with it: its text may hold what a record says, so only its kind and place are logged.
    """
    if isinstance(error, DatabaseError):
        raise error
    if isinstance(error, ConnectorError):
        return error
    if isinstance(error, Misconfigured):
        return Disconnected(str(error), code="misconfigured")
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s met a defect: %s in %s:%s", about, type(error).__name__, place.name, place.lineno)
    return Transient("a defect in this product; the log names its place", code="internal_error")


def stop(connection: Connection, auth: systems.ConnectionAuth, error: ConnectorError, job: SyncJob | None = None) -> ConnectorError:
    """Hold what the error says it covers and return how it stands then: a dead grant or a limit concerns more than one job.

    An account that was connected again since its credentials were read is let be: the job is to try those.
    """
    if isinstance(error, Disconnected):
        oauth.mark_disconnected(connection, str(error), version=auth.version)
        if not systems.block_refused(connection):
            return Transient("the account was connected again meanwhile", code="reconnected", not_before=timezone.now(), counted=False)
    elif isinstance(error, Transient) and error.not_before is not None and error.scope:
        ledger.hold(_scope(connection.pk, error, job), reason=error.code, until=error.not_before)
    return error


def _scope(connection_id: int, error: Transient, job: SyncJob | None) -> str:
    if job is None or error.scope == "connection":
        return f"connection:{connection_id}"
    return f"object:{job.route_id}:{job.kind}:{job.key}"


def _fail(this: Run, job: SyncJob, attempt: Attempt, error: ConnectorError) -> None:
    outcome = Outcome(_ending(error), code=error.code, words=error.words)
    if isinstance(error, Transient):
        outcome = replace(outcome, not_before=error.not_before, counted=error.counted and this.claim.counted)
    ledger.settle(attempt, outcome, message=str(error))


def _ending(error: ConnectorError) -> Ending:
    if isinstance(error, Transient):
        return Ending.TRANSIENT
    if isinstance(error, Disconnected):
        return Ending.DISCONNECTED
    return Ending.UNMAPPABLE if isinstance(error, Unmappable) else Ending.REJECTED
