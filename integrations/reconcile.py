"""Finds what drifted or was missed: every record of a source against what each destination was given and holds now."""

import time
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.models import Hold
from integrations import asking, breaker, failing, phases, registry, sweeping, systems
from integrations.core.errors import ConnectorError, Transient
from integrations.core.records import CUSTOMER, INVOICE
from integrations.core.zones import zone_of
from integrations.models import Connection, Route, Sweep
from integrations.phases import DestinationWaits, Pass

PURPOSE = Sweep.Purpose.RECONCILE
AFTER_MIDNIGHT = timedelta(minutes=5)  # in the business's zone: dates have moved on by then, at the source too
# What came to nothing, for all or at one destination, is begun anew so long after its end; then the next day's is the next.
AGAIN_AFTER = tuple(timedelta(minutes=minutes) for minutes in (15, 60, 180, 360))
ASKING = (INVOICE, CUSTOMER)  # phases in which the source is called


# --- By schedule -----------------------------------------------------------------------------------------------------


def run_due(*, budget: float) -> bool:
    """Begin the reconciles that are due, carry the running ones on for so many seconds, and say whether more could be done now."""
    end = time.monotonic() + budget
    for source in _sources():
        _begin_due(source)
    for sweep in sweeping.due(PURPOSE):
        if time.monotonic() < end:
            carry_on(sweep, deadline=end)
    return sweeping.due(PURPOSE).exists()


def _sources() -> QuerySet[Connection]:
    sources = Connection.objects.filter(system__in=list(registry.SOURCES), pk__in=Route.objects.values("source"))
    return sources.filter(status=Connection.Status.READY).order_by("pk")


def _begin_due(source: Connection) -> None:
    """Begin the day's reconcile, or another of all that came to nothing today, or of a destination that today's has left out."""
    last = list(_made(source).filter(route=None)[: len(AGAIN_AFTER) + 1])
    if _is_due(source, last):
        begin(source, started_by="schedule")
        return
    for route in _left_out(last[0]) if last and _is_of_today(last[0]) else ():
        begin(source, started_by="schedule", route=route)


def _made(source: Connection) -> QuerySet[Sweep]:
    """Return what was done about a source, the newest first."""
    return Sweep.objects.filter(source=source, purpose=PURPOSE, dry_run=False).order_by("-created_at", "-pk")


def _is_due(source: Connection, last: Sequence[Sweep]) -> bool:
    """Whether a new day has begun for the business since the last reconcile of all its routes, or a failed one is to be tried again."""
    if _day(source, timezone.now()) > _day(source, last[0].created_at if last else source.created_at):
        return True
    return _is_time(list(takewhile(lambda one: one.state == Sweep.State.FAILED and _is_of_today(one), last)))


def _is_time(in_vain: Sequence[Sweep]) -> bool:
    """Whether another may be begun after so many that came to nothing today, the newest first."""
    if not 0 < len(in_vain) <= len(AGAIN_AFTER):
        return False
    return timezone.now() >= (in_vain[0].ended_at or in_vain[0].created_at) + AGAIN_AFTER[len(in_vain) - 1]


def _left_out(sweep: Sweep) -> list[Route]:
    """Return the routes that a sweep has left out and that are to be looked at by themselves now."""
    slugs = still_left_out(sweep)
    routes = Route.objects.filter(source=sweep.source_id, slug__in=slugs).select_related("destination").order_by("pk") if slugs else []
    return [route for route in routes if _can_be_called(route.destination) and _is_time([*_since(sweep).filter(route=route), sweep])]


def still_left_out(sweep: Sweep) -> list[str]:
    """Return the slugs of the routes that a sweep has left out and no other has looked at since."""
    if sweep.state != Sweep.State.DONE or not sweep.left_out:
        return []
    done = _since(sweep).filter(state=Sweep.State.DONE, route__slug__in=list(sweep.left_out)).select_related("route")
    seen = {one.route.slug for one in done if one.route and one.route.slug not in one.left_out}
    return [slug for slug in sweep.left_out if slug not in seen]


def _since(sweep: Sweep) -> QuerySet[Sweep]:
    return _made(sweep.source).filter(created_at__gte=sweep.created_at)


def _can_be_called(destination: Connection) -> bool:
    """Whether a try would not be spent for nothing."""
    held = Hold.objects.filter(Q(until=None) | Q(until__gt=timezone.now()), scope=breaker.scope_of(destination))
    return destination.status != Connection.Status.NEEDS_RECONNECT and not held.exists()


def _is_of_today(sweep: Sweep) -> bool:
    return _day(sweep.source, sweep.created_at) == _day(sweep.source, timezone.now())


def _day(source: Connection, at: datetime) -> date:
    return (at - AFTER_MIDNIGHT).astimezone(zone_of(source.time_zone, settings.BUSINESS_TIME_ZONE)).date()


def begin(source: Connection, *, started_by: str, route: Route | None = None, dry_run: bool = False) -> tuple[Sweep, bool]:
    """Begin a reconcile of a source's routes or of one; the running one is returned, with False, where there is one."""
    return sweeping.begin(source, PURPOSE, phase=phases.FIRST, started_by=started_by, route=route, dry_run=dry_run)


# --- One turn --------------------------------------------------------------------------------------------------------


def carry_on(sweep: Sweep, *, deadline: float) -> bool:
    """Carry a reconcile on until it ends or the time (a time.monotonic()) is used up; False where another worker is at it.

    Failures are stored and held as those of jobs are, not raised, but for those of our database: the next turn tries again.
    What is found and what mends it are stored page by page.
    """
    if not sweeping.take(sweep):
        return False
    values: dict[str, Any] = {"due_at": timezone.now()}
    try:
        values = _carry_on(Pass(sweep, sweep.source, deadline))
    except sweeping.LeaseLost:
        values = {}
    finally:
        sweeping.give_back(sweep, **values)
    return True


def _carry_on(this: Pass) -> dict[str, Any]:
    auth = systems.ConnectionAuth(this.source)
    try:
        reader = systems.source(this.source, deadline=this.deadline, auth=auth)
        phases.look_at(this, _routes(this.sweep))
        while this.sweep.state == Sweep.State.RUNNING and time.monotonic() < this.deadline:
            hold = _hold(this)
            if hold is not None:
                return _held(this, hold)
            phases.step(this, reader)
    except sweeping.LeaseLost:
        raise
    except DestinationWaits as waits:
        return _after_failure(this, waits.error)
    except Exception as error:
        return _after_failure(this, failing.stop(this.source, auth, failing.told(error, str(this.sweep))))
    return {"due_at": timezone.now()}


def _hold(this: Pass) -> Hold | None:
    """Return what holds the source, in a phase that calls it."""
    return phases.hold_of(this.source) if this.sweep.phase in ASKING else None


def _held(this: Pass, hold: Hold) -> dict[str, Any]:
    """Wait until the hold ends, for as long as that takes; one without an end ends the sweep, for a person must act first."""
    if hold.until is None:
        sweeping.end(this.sweep, Sweep.State.FAILED)
        return {"problem": f"{this.source.slug} must be connected again"}
    return {"problem": f"{this.source.slug} is held: {hold.reason}", "due_at": hold.until}


def _routes(sweep: Sweep) -> Iterable[Route]:
    routes = asking.routes_of(sweep.source)
    return routes.filter(pk=sweep.route_id) if sweep.route_id else routes


def _after_failure(this: Pass, error: ConnectorError) -> dict[str, Any]:
    """Try a step again when the error says; one that fails over and over ends the sweep, and another begins anew some time later."""
    if error.code == "budget":
        return {"due_at": timezone.now()}
    failures = this.sweep.failures + (not isinstance(error, Transient) or error.counted)
    if not isinstance(error, Transient) or failures >= sweeping.FAILURES_ALLOWED:
        sweeping.end(this.sweep, Sweep.State.FAILED)
        return {"problem": str(error)[:500]}
    due_at = error.not_before or timezone.now() + sweeping.PAUSE_AFTER_FAILURE * max(1, failures)
    return {"problem": str(error)[:500], "failures": failures, "due_at": due_at}
