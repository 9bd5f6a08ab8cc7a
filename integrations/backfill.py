"""Brings all of history to one destination, in bulk, without getting in the way of what happens now."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit import holds, ledger, outages
from audit.models import Attempt, Hold, SyncJob
from audit.states import State
from integrations import breaker, bringing, failing, limits, listing, sweeping, systems
from integrations.core.errors import ConnectorError, Transient
from integrations.core.records import CUSTOMER, INVOICE
from integrations.models import Connection, Route, Sweep
from integrations.passes import Calls, Halted, Pass, SourceFailed

PURPOSE = Sweep.Purpose.BACKFILL
LIST_INVOICES, LIST_CUSTOMERS, ADOPT = "listing invoices", "listing customers", "adopting"
LISTING = (LIST_INVOICES, LIST_CUSTOMERS)
# The records are listed first: a batch claims its jobs before it reads, so it must know whose they are.
PHASES = (LIST_INVOICES, LIST_CUSTOMERS, ADOPT, CUSTOMER, INVOICE, "")


# --- Beginning and ending ----------------------------------------------------------------------------------------------


def begin(route: Route, *, started_by: str, kinds: Sequence[str] = (), since: datetime | None = None) -> tuple[Sweep, bool]:
    """Begin a backfill of a route; the open one is returned, with False, where there is one."""
    options = {"kinds": list(kinds), "since": since.isoformat() if since else ""}
    return sweeping.begin(route.source, PURPOSE, phase=PHASES[0], started_by=started_by, route=route, options=options)


def opened(route: Route) -> Sweep | None:
    """Return the route's backfill that has not ended."""
    return sweeping.open_of(PURPOSE).filter(route=route).first()


def pause(sweep: Sweep) -> bool:
    """Let nobody begin another batch; the one that is being written comes to its end."""
    return _switch(sweep, Sweep.State.RUNNING, Sweep.State.PAUSED)


def resume(sweep: Sweep) -> bool:
    """Let it go on from where it is."""
    return _switch(sweep, Sweep.State.PAUSED, Sweep.State.RUNNING, due_at=timezone.now(), failures=0, problem="")


def cancel(sweep: Sweep) -> bool:
    """End it; what it has brought stays, and the batch that is being written comes to its end."""
    ended = {"state": Sweep.State.CANCELLED, "ended_at": timezone.now()}
    changed = bool(Sweep.objects.filter(pk=sweep.pk, state__in=sweeping.OPEN).update(**ended))
    if changed:
        sweep.lines.all().delete()
    return changed


def _switch(sweep: Sweep, old: str, new: str, **values: Any) -> bool:
    return bool(Sweep.objects.filter(pk=sweep.pk, state=old).update(state=new, **values))


def anything_due() -> bool:
    """Whether a worker could carry one on now."""
    return sweeping.due(PURPOSE).exists()


@dataclass(frozen=True, slots=True)
class Failure:
    """A dead letter with the reason of its last run; the vendor's own words may name people and stay on the job's page."""

    job: SyncJob
    reason: str


def failed(sweep: Sweep) -> QuerySet[SyncJob]:
    """Return the unresolved dead letters of the route that fall into the time of a backfill, of the runs that it left to others too."""
    dead = SyncJob.objects.filter(route_id=sweep.route_id or 0, state=State.DEAD, resolved_by=None, settled_at__gte=sweep.created_at)
    return (dead.filter(created_at__lte=sweep.ended_at) if sweep.ended_at else dead).order_by("created_at", "title", "pk")


def failures(sweep: Sweep, *, most: int) -> list[Failure]:
    """Return the first of what failed, with the reasons; two statements."""
    jobs = list(failed(sweep)[:most])
    said = {attempt.job_id: attempt.message for attempt in Attempt.objects.filter(job__in=jobs).order_by("number")}
    return [Failure(job, said.get(job.pk, "")) for job in jobs]


def run_due(*, budget: float) -> bool:
    """Carry the running backfills on for so many seconds, and say whether more could be done now."""
    end = time.monotonic() + budget
    for sweep in sweeping.due(PURPOSE):
        if time.monotonic() < end:
            carry_on(sweep, deadline=end)
    return anything_due()


# --- One turn ----------------------------------------------------------------------------------------------------------


def carry_on(sweep: Sweep, *, deadline: float) -> bool:
    """Carry a backfill on until it ends or the time (a time.monotonic()) comes; False where another worker is at it.

    A batch that was begun before the deadline may take half a JOB_BUDGET longer. Failures are stored and held as those
    of jobs are, not raised.
    """
    if not sweeping.take(sweep):
        return False
    values: dict[str, Any] = {"due_at": timezone.now()}
    try:
        ledger.reclaim()  # a batch whose worker was lost would else be left to single runs
        values = _carry_on(sweep, deadline)
    except sweeping.LeaseLost:
        values = {}
    finally:
        sweeping.give_back(sweep, **values)
    return True


def _carry_on(sweep: Sweep, deadline: float) -> dict[str, Any]:
    route = Route.objects.select_related("source", "destination").filter(sweeps=sweep).first()
    if route is None:  # deleted just now, and the sweep with it
        return {}
    source_auth, own_auth = systems.ConnectionAuth(route.source), systems.ConnectionAuth(route.destination)
    failed, auth = (route.source, source_auth) if sweep.phase in LISTING else (route.destination, own_auth)
    try:
        this = _begun(sweep, route, deadline, source_auth, own_auth)
        while sweep.state == Sweep.State.RUNNING and time.monotonic() < deadline:
            failed, auth = (route.source, source_auth) if sweep.phase in LISTING else (route.destination, own_auth)
            wait = _wait(this)
            if wait is not None:
                return wait
            if _STEPS[sweep.phase](this):
                _next_phase(this)
            sweeping.read_again(sweep, ["state"])  # a person may have paused it
    except sweeping.LeaseLost:
        raise
    except Halted as halt:
        return _after_failure(sweep, halt.why)
    except SourceFailed as failure:
        return _after_failure(sweep, failing.stop(route.source, source_auth, failure.why))
    except Exception as error:
        return _after_failure(sweep, failing.stop(failed, auth, failing.told(error, str(sweep))))
    return {"due_at": timezone.now()}


def _begun(sweep: Sweep, route: Route, deadline: float, source_auth: systems.ConnectionAuth, own_auth: systems.ConnectionAuth) -> Pass:
    calls, last = Calls(), deadline + settings.JOB_BUDGET / 2
    reader = systems.source(route.source, recorder=calls, deadline=last, auth=source_auth, lane=limits.BULK)
    adapter = systems.destination(route, recorder=calls, deadline=last, auth=own_auth, lane=limits.BULK)
    return Pass(sweep, route, reader, adapter, deadline, last, calls, source_auth, own_auth)


def _next_phase(this: Pass) -> None:
    sweep = this.sweep
    phase = PHASES[PHASES.index(sweep.phase) + 1]
    if not phase:
        sweeping.end(sweep, Sweep.State.DONE, phase="")
        return
    figures = listing.counted(this) if phase == ADOPT else sweep.figures
    with transaction.atomic():
        sweeping.keep(sweep, phase=phase, reached=None, cursor="", figures=figures)


_STEPS: Mapping[str, Callable[[Pass], bool]] = {
    LIST_INVOICES: listing.list_invoices,
    LIST_CUSTOMERS: listing.list_customers,
    ADOPT: bringing.adopt,
    CUSTOMER: bringing.bring,
    INVOICE: bringing.bring,
}


# --- Waiting -----------------------------------------------------------------------------------------------------------


def _wait(this: Pass) -> dict[str, Any] | None:
    """Return why the next step has to wait, and until when: what holds jobs holds a batch, or it would leave all to single runs."""
    ends = [this.route.source] if this.sweep.phase in LISTING else [this.route.source, this.route.destination]
    for end in ends:
        _probe(this, end)
    scopes = {breaker.scope_of(end): end.slug for end in ends}
    if len(ends) > 1:
        scopes[f"route:{this.route.pk}"] = this.route.slug
    now = timezone.now()
    # Where one has no end, or ends last, nothing can be done before.
    for hold in Hold.objects.filter(Q(until=None) | Q(until__gt=now), scope__in=scopes):
        return _held(hold, scopes[hold.scope])
    return None


def _probe(this: Pass, end: Connection) -> None:
    """Ask a vendor that was down whether it is there, where it is time and nobody else does."""
    scope = breaker.scope_of(end)
    if Hold.objects.filter(scope=scope, reason=outages.REASON, until__lte=timezone.now()).exists() and outages.is_free(scope):
        with suppress(ConnectorError):
            (this.reader if end.pk == this.route.source_id else this.adapter).ping()


def _held(hold: Hold, about: str) -> dict[str, Any]:
    if hold.reason == holds.DISCONNECTED_REASON:
        return {"problem": f"{about} must be connected again; then resume", "state": Sweep.State.PAUSED}
    words = f"{about} is paused" if hold.reason == holds.PAUSED_REASON else f"{about} is held: {hold.reason}"
    return {"problem": words, "due_at": hold.until or timezone.now() + sweeping.PAUSE_AFTER_FAILURE}


def _after_failure(sweep: Sweep, error: ConnectorError) -> dict[str, Any]:
    """Go on when the error says, for as long as it takes; what no repetition mends waits for a person, as paused."""
    if isinstance(error, Transient) and error.code in ("budget", "limit"):
        return {"due_at": error.not_before or timezone.now()}
    failures = sweep.failures + 1
    if not isinstance(error, Transient):
        return {"problem": str(error)[:500], "failures": failures, "state": Sweep.State.PAUSED}
    wait = sweeping.PAUSE_AFTER_FAILURE * min(failures, 10)
    return {"problem": str(error)[:500], "failures": failures, "due_at": error.not_before or timezone.now() + wait}
