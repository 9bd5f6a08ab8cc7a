"""Reads what claims are about, all in one request, and remembers what the reads show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError, transaction

from audit import ledger
from audit.ledger import Claim
from audit.models import Attempt, SyncJob
from integrations import asking, changes, dependants, failing, limits, systems
from integrations.core.errors import ConnectorError, Transient
from integrations.core.ports import Destination, Source
from integrations.core.records import CUSTOMER, INVOICE, Asked, Changed, Snapshot, number_of
from integrations.failing import Stopped
from integrations.models import Binding, Connection
from integrations.recording import AttemptRecorder, Turning

Read = Snapshot | ConnectorError | DatabaseError


@dataclass(frozen=True, slots=True)
class Reach:
    """How a route's destination is reached: its adapter, and where that one's calls are entered for now."""

    adapter: Destination
    turning: Turning


@dataclass(slots=True)
class Batch:
    """Claims on one source that are read together and run one after the other; after the deadline nothing is sent.

    `deadline` is a time.monotonic(); `stopped` holds what one job met and concerns all others. What is known of an account
    and of a route is the same for all jobs that go there, and read once.
    """

    claims: Sequence[Claim]
    source: Connection
    deadline: float
    stopped: Stopped = field(default_factory=Stopped)
    lane: str = limits.LIVE
    made: Mapping[str, str] = field(default_factory=dict)  # what a bulk call did for a record, by its key: created, updated
    auths: dict[int, systems.ConnectionAuth] = field(default_factory=dict)  # by destination connection
    reaches: dict[int, Reach] = field(default_factory=dict)  # by route

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts of all claims."""
        return [attempt for claim in self.claims for attempt in claim.attempts]

    @property
    def taken(self) -> set[tuple[int, str, str]]:
        """What is being run already, and is newer than any question for it."""
        return {(job.route_id, job.kind, job.key) for claim in self.claims for job in claim.jobs}


def read(this: Batch) -> list[Read]:
    """Return a snapshot for each claim, or why there is none; what the database says to the request itself is raised.

    The claims were made before: what is read is newer.

    What the reads show anew is remembered for all before the first is run: a customer's summary tells of every invoice.
    """
    auth = systems.ConnectionAuth(this.source)
    try:
        found = _read(this, auth)
    except Exception as error:
        return [_failed(this, auth, this.claims[0], error)] * len(this.claims)
    return [_noted(this, auth, claim, one) for claim, one in zip(this.claims, found, strict=True)]


def reader_of(this: Batch, attempts: Sequence[Attempt], auth: systems.ConnectionAuth) -> Source:
    """Return the source's adapter for what these attempts read."""
    recorder = AttemptRecorder(attempts, this.source.system)
    return systems.source(this.source, recorder=recorder, deadline=this.deadline, auth=auth)


def _failed(this: Batch, auth: systems.ConnectionAuth, claim: Claim, error: Exception) -> ConnectorError:
    return failing.stop(this.source, auth, failing.told(error, f"job {claim.jobs[0].pk}"))


# --- The request --------------------------------------------------------------------------------------------------


def _read(this: Batch, auth: systems.ConnectionAuth) -> list[Snapshot | ConnectorError]:
    if len(this.claims) == 1:
        return [_alone(this, auth, this.claims[0])]
    try:
        return reader_of(this, this.attempts, auth).read_many([_asked(claim) for claim in this.claims])
    except ConnectorError as error:
        if failing.concerns_account(error) or (isinstance(error, Transient) and error.unsent):
            raise
        return _one_by_one(this, auth)


def _alone(this: Batch, auth: systems.ConnectionAuth, claim: Claim) -> Snapshot:
    asked = _asked(claim)
    return reader_of(this, claim.attempts, auth).read(invoice=asked.invoice, customer=asked.customer)


def _one_by_one(this: Batch, auth: systems.ConnectionAuth) -> list[Snapshot | ConnectorError]:
    """Read each claim by itself, after a read of many failed as a whole: one record, or the size, may be the reason.

    If the first fails too, it was neither, and that concerns all.
    """
    found: list[Snapshot | ConnectorError] = [_alone(this, auth, this.claims[0])]
    for claim in this.claims[1:]:
        last = found[-1]
        if isinstance(last, ConnectorError) and (failing.concerns_account(last) or last.code == "budget"):
            found.append(last)
            continue
        try:
            found.append(_alone(this, auth, claim))
        except ConnectorError as error:
            found.append(error)
    return found


def _asked(claim: Claim) -> Asked:
    return Asked(invoice=_number(claim.jobs, INVOICE), customer=_number(claim.jobs, CUSTOMER))


def _number(jobs: Sequence[SyncJob], kind: str) -> str:
    return next((number_of(job.key) for job in jobs if job.kind == kind), "")


# --- What it shows ------------------------------------------------------------------------------------------------


def _noted(this: Batch, auth: systems.ConnectionAuth, claim: Claim, found: Snapshot | ConnectorError) -> Read:
    try:
        if isinstance(found, ConnectorError):
            raise found
        note(this, claim, found)
    except DatabaseError as error:
        return error  # raised when its turn comes, so that it concerns no other
    except Exception as error:
        return _failed(this, auth, claim, error)
    return found


def note(this: Batch, claim: Claim, snapshot: Snapshot) -> None:
    """Remember what a read shows, and ask for what that makes necessary."""
    note_many(this, claim, [snapshot])


def note_many(this: Batch, claim: Claim, snapshots: Sequence[Snapshot]) -> None:
    """Remember what the reads of a claim show, and ask for what that makes necessary; a few statements, however many.

    Raises Transient where the claim was given away: what was read under it is old by now, and takes nothing back.
    """
    for snapshot in snapshots[-1:]:
        _note_zone(this.source, snapshot)
    with transaction.atomic():
        if not ledger.renew(claim.attempts[0]):  # all were taken at one time, and none has been renewed apart yet
            raise Transient("the claim was given to another worker", code="claim_lost", counted=False, unsent=True)
        _note_changes(this, snapshots)
    _note_customers(this, snapshots)


def _note_zone(source: Connection, snapshot: Snapshot) -> None:
    """Remember where the business is: its day begins there."""
    if source.time_zone != snapshot.business.timezone[:64]:
        source.time_zone = snapshot.business.timezone[:64]
        Connection.objects.filter(pk=source.pk).update(time_zone=source.time_zone)


def _note_changes(this: Batch, snapshots: Sequence[Snapshot]) -> None:
    """Remember what the read shows anew, and ask for the customers whose summaries tell of it, unless claimed with it; in a transaction.

    After a failure the customer's job may have run by itself before: its summary lacks what is only known now.
    """
    told = changes.note_many(this.source.pk, snapshots)
    if not told:
        return
    routes = asking.routes_of(this.source)
    asks = [ask for route in routes for ask in asking.customers_of(this.source, route, told)]
    if this.lane == limits.BULK:
        # Of a customer that a route does not mirror yet it has not been asked to tell: that is a backfill of its own.
        mirrored = set(Binding.objects.filter(key__in=told).values_list("route_id", "key"))
        asks = [ask for ask in asks if (ask.route_id, ask.key) in mirrored]
    taken = this.taken
    asking.request(ask for ask in asks if ask.identity not in taken)


def _note_customers(this: Batch, snapshots: Iterable[Snapshot]) -> None:
    """Remember what the read customers are called, and ask for the open invoices that show them as they were."""
    met = [one for snapshot in snapshots for one in (snapshot.customer, snapshot.invoice.customer if snapshot.invoice else None)]
    customers = {one.key: Changed(one.key, one.modified_at, shown=one.shown) for one in met if one is not None}
    taken = this.taken
    with transaction.atomic():
        asking.request(ask for ask in dependants.note(this.source, customers.values()) if ask.identity not in taken)
