"""Asks for the repair of what a reconcile has found: of all of it, of one record, of a customer's money."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from audit import ledger
from audit.models import SyncJob
from audit.states import OPEN, State
from integrations import asking, bindings
from integrations.comparing import FOR_PEOPLE, Reason
from integrations.core.records import CUSTOMER, INVOICE
from integrations.models import Binding, Disagreement, Finding, Route, Sweep

AT_ONCE = 200  # records in one transaction


def repairable(sweep: Sweep) -> QuerySet[Finding]:
    """Return what a job could mend and none has been asked for, or it ended dead."""
    asked = SyncJob.objects.filter(pk=OuterRef("job_id")).exclude(state=State.DEAD)
    return sweep.findings.exclude(reason__in=FOR_PEOPLE).filter(~Exists(asked))


def repair(findings: QuerySet[Finding]) -> int:
    """Ask for the jobs of what was found, and have what is held otherwise written whole; return how many records that are."""
    rows = findings.select_related("route__destination", "sweep__source").order_by("route_id", "kind", "key", "pk")
    count = 0
    for _, group in groupby(rows, key=lambda one: (one.route_id, one.kind)):
        wanted = list({one.key: one for one in group}.values())
        count += len(wanted)
        for start in range(0, len(wanted), AT_ONCE):
            _repair(wanted[start : start + AT_ONCE])
    return count


def _repair(wanted: Sequence[Finding]) -> None:
    """Repair records of one kind on one route; the statements do not grow with their number."""
    first = wanted[0]
    with transaction.atomic():
        rows = list(Finding.objects.filter(sweep=first.sweep_id, route=first.route_id, key__in=[one.key for one in wanted]))
        _doubt(first.route_id, rows)
        gone = {row.key for row in rows if row.reason == Reason.DELETED}
        asks = [asking.ask(one.sweep.source, one.route, one.kind, one.key, second_look=one.key in gone) for one in wanted]
        jobs = dict(zip((one.key for one in wanted), asking.requested(asks), strict=True))
        for row in rows:
            row.job_id = jobs[row.key].pk
        Finding.objects.bulk_update(rows, ["job_id"])
        ledger.wake()


def _doubt(route_id: int, rows: Iterable[Finding]) -> None:
    """Have what is held otherwise written whole, and the payments of a record of which something is missing."""
    told = [(row.key, row.reason) for row in rows if row.reason in (Reason.DRIFTED, Reason.ABSENT)]
    below = Q(parent__in=[key for key, reason in told if reason == Reason.ABSENT], key__contains=":payment:")
    if told:
        bindings.doubt(Binding.objects.filter(below | Q(key__in=[key for key, _ in told]), route=route_id))


# --- Money -----------------------------------------------------------------------------------------------------------


def repair_money(one: Disagreement) -> int:
    """Ask for the customer and the invoices that differ on all routes of the sweep; return how many jobs that are."""
    routes = [route for route in asking.routes_of(one.sweep.source) if one.sweep.route_id in (None, route.pk)]
    return sum(_repair_money(one, route) for route in routes)


def _repair_money(one: Disagreement, route: Route) -> int:
    """Put in doubt and ask on one route: a page of a reconcile does both route by route, and would else wait for this as this for it."""
    source, keys = one.sweep.source, one.invoices if INVOICE in route.kinds else []
    asks = [asking.ask(source, route, CUSTOMER, one.customer_key)] if CUSTOMER in route.kinds else []
    asks += [asking.ask(source, route, INVOICE, key, customer_key=one.customer_key) for key in keys]
    with transaction.atomic():
        bindings.doubt(Binding.objects.filter(route=route, key__in=_keys(one)))
        return asking.request(asks)


def _keys(one: Disagreement) -> list[str]:
    return [one.customer_key, *one.invoices]


def states_of_money(sweep: Sweep, rows: Iterable[Disagreement]) -> dict[int, str]:
    """Return, by primary key, what became of each row since the reconcile: pending, dead, succeeded, or "" where nothing was asked for."""
    listed = list(rows)
    keys = {key for row in listed for key in _keys(row)}
    jobs = SyncJob.objects.filter(source_id=sweep.source_id, key__in=keys, created_at__gte=sweep.created_at)
    found: dict[str, set[str]] = {}
    for key, state in jobs.exclude(state=State.SUPERSEDED).exclude(resolved_by__isnull=False).values_list("key", "state"):
        found.setdefault(key, set()).add(state)
    return {row.pk: _state(row, found) for row in listed}


def _state(row: Disagreement, found: Mapping[str, set[str]]) -> str:
    states = {state for key in _keys(row) for state in found.get(key, ())}
    if states & {*OPEN, State.RUNNING}:
        return State.PENDING
    return State.DEAD if State.DEAD in states else State.SUCCEEDED if states else ""
