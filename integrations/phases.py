"""The phases of a reconcile: all invoices, what of them is gone, all customers with their money, what of them is gone."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit import outages
from audit.models import Hold
from integrations import accounting, breaker, changes, comparing, failing, findings, sweeping, systems
from integrations.comparing import Compared, Difference, View
from integrations.core import paging
from integrations.core.errors import ConnectorError, Transient
from integrations.core.paging import Turned
from integrations.core.ports import Source
from integrations.core.records import CUSTOMER, INVOICE, Customer, Invoice, Snapshot, Swept
from integrations.findings import About
from integrations.models import Binding, Connection, Finding, Line, Route, Sweep
from integrations.patience import patiently

FIRST = INVOICE
PHASES = (INVOICE, "gone invoices", CUSTOMER, "gone customers", "")
GONE_AT_ONCE = 200
WAITED_FOR = sweeping.PAUSE_AFTER_FAILURE * sweeping.FAILURES_ALLOWED  # the other destinations wait with it
RECONNECT = "its account needs to be connected again; what waits for it then runs by itself"


class DestinationWaits(Exception):  # noqa: N818 - not an error: the step is tried again, and the source is not to blame
    """A destination cannot be looked at just now; `error` says until when."""

    def __init__(self, error: Transient) -> None:
        super().__init__(error.code)
        self.error = error


@dataclass(slots=True)
class Pass:
    """One worker's turn at a reconcile."""

    sweep: Sweep
    source: Connection
    deadline: float
    views: list[View] = field(default_factory=list)
    auths: dict[int, systems.ConnectionAuth] = field(default_factory=dict)  # by route

    def of_kind(self, kind: str) -> list[View]:
        """Return the destinations that mirror records of a kind and can be looked at."""
        return [view for view in self.views if kind in view.route.kinds and view.route.slug not in self.sweep.left_out]


def step(this: Pass, reader: Source) -> None:
    """Carry the phase on until it ends or the time is used up. Raises ConnectorError, DestinationWaits, LeaseLost."""
    _heed_holds(this)
    _STEPS[this.sweep.phase](this, reader)


# --- Destinations ----------------------------------------------------------------------------------------------------


def look_at(this: Pass, routes: Iterable[Route]) -> None:
    """Get the destinations ready; one that is set up wrongly, or must be connected again, is left out with the reason."""
    # In the order in which all ask for jobs: a page asks for those of all views in one transaction.
    for route in sorted(routes, key=lambda one: one.pk):
        if route.slug in this.sweep.left_out:
            continue
        if route.destination.status == Connection.Status.NEEDS_RECONNECT:
            _leave_out(this, route, RECONNECT)
            continue
        auth = systems.ConnectionAuth(route.destination)
        try:
            view = View(route, systems.destination(route, deadline=this.deadline, auth=auth))
        except Exception as error:
            _after_failure(this, route, auth, error)
            continue
        this.views.append(view)
        this.auths[route.pk] = auth


def hold_of(connection: Connection) -> Hold | None:
    """Return what holds an account. A vendor that was down is free to one call once its time has come, which is then the next page."""
    scope = breaker.scope_of(connection)
    return None if outages.is_free(scope) else Hold.objects.filter(scope=scope).first()


def _heed_holds(this: Pass) -> None:
    """Call no destination of this phase that is held: wait for it where that is soon over, else leave it out. Raises DestinationWaits."""
    for view in this.of_kind(this.sweep.phase):  # none in the phases that call none
        hold = hold_of(view.route.destination)
        if hold is not None and hold.until is None:
            _leave_out(this, view.route, RECONNECT)
        elif hold is not None:
            told = f"{view.route.destination.slug} is held: {hold.reason}"
            _wait_or_leave_out(this, view.route, Transient(told, code=hold.reason, not_before=hold.until))


def _compare(this: Pass, kind: str, snapshots: Mapping[str, Snapshot], read_at: datetime) -> dict[str, Compared]:
    """Return what each destination's route compares like; one that cannot be looked at is left out, with the reason."""
    found: dict[str, Compared] = {}
    for view in this.of_kind(kind):
        try:
            found[view.route.slug] = comparing.compare(view, kind, snapshots, read_at)
        except Exception as error:
            _after_failure(this, view.route, this.auths[view.route.pk], error)
    return found


def _after_failure(this: Pass, route: Route, auth: systems.ConnectionAuth, error: Exception) -> None:
    """Go on without a destination whose account is dead; what may pass is tried again, a few times. Raises DestinationWaits."""
    _wait_or_leave_out(this, route, failing.stop(route.destination, auth, failing.told(error, str(this.sweep))))


def _wait_or_leave_out(this: Pass, route: Route, why: ConnectorError) -> None:
    if isinstance(why, Transient) and _is_soon_over(why) and (not why.counted or this.sweep.failures + 1 < sweeping.FAILURES_ALLOWED):
        raise DestinationWaits(why)
    _leave_out(this, route, str(why)[:300])


def _is_soon_over(why: Transient) -> bool:
    return why.not_before is None or why.not_before <= timezone.now() + WAITED_FOR


def _leave_out(this: Pass, route: Route, why: str) -> None:
    with transaction.atomic():
        sweeping.keep(this.sweep, left_out={**this.sweep.left_out, route.slug: why})


# --- Pages of records ------------------------------------------------------------------------------------------------


def _turn(this: Pass, ask: Callable[[datetime, int], Swept[Any]], store: Callable[[Turned[Swept[Any]]], None]) -> None:
    """Read and store page by page while there is time; the phase is over when the pages are."""
    place, known = sweeping.place_of(this.sweep, paging.BEGINNING), sweeping.known_of(this.sweep, this.sweep.phase)
    for turned in paging.go_on(lambda after, page: patiently(lambda: ask(after, page)), place, known):
        store(turned)
        if time.monotonic() >= this.deadline:
            return
    with transaction.atomic():
        sweeping.keep(this.sweep, **_next_phase(this))


def _next_phase(this: Pass) -> dict[str, Any]:
    phase = PHASES[PHASES.index(this.sweep.phase) + 1]
    return {"phase": phase, "reached": None, "cursor": ""}


def _invoices(this: Pass, reader: Source) -> None:
    def store(turned: Turned[Swept[Invoice]]) -> None:
        page = turned.page
        snapshots = {one.key: Snapshot(page.business, page.read_at, page.today, invoice=one) for one in page.records}
        compared = _compare(this, INVOICE, snapshots, page.read_at)
        held = {slug: found.amounts for slug, found in compared.items()}
        lines = [_line(this.sweep, one, held) for one in page.records] + _bare_lines(this, turned, page.unreadable)
        about = About({one.key: one.number for one in page.records}, {one.key: one.customer.key for one in page.records})
        with transaction.atomic():
            _store(this, INVOICE, turned, compared, lines, about)

    _turn(this, reader.sweep_invoices, store)


def _line(sweep: Sweep, invoice: Invoice, held: Mapping[str, Mapping[str, Any]]) -> Line:
    shown = {slug: amounts[invoice.key] for slug, amounts in held.items() if invoice.key in amounts}
    texts = {slug: None if amount is None else str(amount) for slug, amount in shown.items()}
    return accounting.line_of(sweep, invoice, held=texts, modified_at=invoice.modified_at)


def _bare_lines(this: Pass, turned: Turned[Swept[Any]], keys: Iterable[str]) -> list[Line]:
    """Return what says that these were on a page; one of which not even the id could be read has no key."""
    times = {one.key: one.modified_at for one in turned.page.records}
    return [Line(sweep=this.sweep, key=key, modified_at=times.get(key, turned.reached)) for key in keys if key]


def _customers(this: Pass, reader: Source) -> None:
    def store(turned: Turned[Swept[Customer]]) -> None:
        page = turned.page
        keys = [one.key for one in page.records]
        lines = _lines_of(this, keys)
        compared = _compare(this, CUSTOMER, _snapshots(this, page, lines), page.read_at)
        routes = [view.route for view in this.of_kind(INVOICE)]
        money = accounting.disagreements(this.sweep, reader, routes, page.records, lines, compared)
        _blame(this, keys, compared)
        about = About({one.key: one.name for one in page.records})
        with transaction.atomic():
            _store(this, CUSTOMER, turned, compared, _bare_lines(this, turned, page.keys), about)
            accounting.store(this.sweep, keys, money)

    _turn(this, reader.sweep_customers, store)


def _lines_of(this: Pass, keys: Iterable[str]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in this.sweep.lines.filter(customer_key__in=list(keys)).order_by("key"):
        found.setdefault(line.customer_key, []).append(line)
    return found


def _snapshots(this: Pass, page: Swept[Customer], lines: Mapping[str, Iterable[Line]]) -> dict[str, Snapshot]:
    """Return what a read of each customer would bring, from the invoices that the pages before have shown."""
    told = changes.of_customers(this.source.pk, [one.key for one in page.records])
    return {
        one.key: Snapshot(
            page.business,
            page.read_at,
            page.today,
            customer=one,
            open_invoices=accounting.open_invoices(lines.get(one.key, ())),
            history=told[one.key],
        )
        for one in page.records
    }


def _blame(this: Pass, keys: Iterable[str], compared: Mapping[str, Compared]) -> None:
    """Say of customers whose sums moved that it was because of an invoice that nobody told us of, where it was."""
    untold = this.sweep.findings.filter(customer_key__in=list(keys), reason__in=comparing.UNTOLD).values_list("customer_key", flat=True)
    missed = set(untold)
    for difference in (one for found in compared.values() for one in found.differences if one.key in missed):
        difference.follow()


def _store(this: Pass, kind: str, turned: Turned[Any], compared: Mapping[str, Compared], lines: Iterable[Line], about: About) -> None:
    """Store a page's lines and findings and ask for the jobs that mend; call inside a transaction."""
    page = turned.page
    left = findings.left_to_jobs(this.sweep, compared)
    findings.store_lines(lines)
    unreadable = [Difference(key, {Finding.Reason.UNREADABLE: set()}) for key in page.unreadable if key]
    for view in this.views:
        found = compared.get(view.route.slug)
        if found is not None:
            findings.note(this.sweep, view.route, kind, [*found.differences, *unreadable], about)
    counted = {"pages": 1, "left_to_jobs": left}
    figures = {**this.sweep.figures, **{name: this.sweep.figures.get(name, 0) + count for name, count in counted.items()}}
    zone = {"today": page.today, "zone": page.business.timezone[:64]}
    sweeping.keep_page(this.sweep, turned, figures=figures, **zone)


# --- What is gone ----------------------------------------------------------------------------------------------------


def _gone(this: Pass, kind: str) -> None:
    """Ask for a second look, by id, at what is bound and was on no page; the jobs believe a deletion then."""
    views = this.of_kind(kind)
    rows = list(_unseen(this, kind, views)[:GONE_AT_ONCE])
    with transaction.atomic():
        for view in views:
            mine = [row for row in rows if row.route_id == view.route.pk]
            found = {row.key: Difference(row.key, {Finding.Reason.DELETED: set()}) for row in mine}
            about = About({row.key: row.title for row in mine}, {row.key: row.parent for row in mine})
            findings.note(this.sweep, view.route, kind, list(found.values()), about, second_look=True)
        sweeping.keep(this.sweep, **({"cursor": str(rows[-1].pk)} if len(rows) == GONE_AT_ONCE else _next_phase(this)))


def _unseen(this: Pass, kind: str, views: Iterable[View]) -> QuerySet[Binding]:
    """Return what was bound before the sweep began, is not known to be gone, and was on no page."""
    routes = [view.route.pk for view in views]
    rows = Binding.objects.filter(route__in=routes, gone_at=None, key__contains=f":{kind}:", pk__gt=int(this.sweep.cursor or 0))
    bound = Q(written_at__lt=this.sweep.created_at) | _never_surely_written(this)
    return rows.filter(bound).exclude(key__in=this.sweep.lines.values("key")).order_by("pk")


def _never_surely_written(this: Pass) -> Q:
    """Choose what creates that gave up may have left, and what was adopted: only of the business whose lists were read.

    In a place that businesses share, another's may have been adopted; a read by id would say that it is not there.
    """
    listed = this.sweep.lines.order_by("pk").values_list("key", flat=True).first()
    if listed is None:
        return Q(pk__in=[])
    business = ":".join(listed.split(":")[:2])
    return Q(Q(begun_at=None) | Q(begun_at__lt=this.sweep.created_at), written_at=None, key__startswith=f"{business}:")


def _finish(this: Pass, reader: Source) -> None:
    counts = {kind: this.sweep.lines.filter(key__contains=f":{kind}:").count() for kind in (INVOICE, CUSTOMER)}
    sweeping.end(this.sweep, Sweep.State.DONE, figures={**this.sweep.figures, **counts})


_STEPS: Mapping[str, Callable[[Pass, Source], None]] = {
    INVOICE: _invoices,
    "gone invoices": lambda this, reader: _gone(this, INVOICE),
    CUSTOMER: _customers,
    "gone customers": lambda this, reader: _gone(this, CUSTOMER),
    "": _finish,
}
