"""Which jobs a changed record asks for, on which routes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from audit import ledger
from audit.ledger import Ask
from audit.models import SyncJob
from audit.states import OPEN
from integrations import oauth, registry
from integrations.core import context
from integrations.core.events import Event
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, is_of, kind_of, record_key
from integrations.models import Binding, Connection, FieldMapping, Route, ShownCustomer

MOST_ASKS = 200  # in one statement: SQLite takes no more than 1,000 terms


def request(asks: Iterable[Ask]) -> int:
    """Request each job once, own ones before derived ones, wake the workers, and return how many jobs that are.

    Call inside a transaction; for asks in any number.
    """
    wanted: dict[tuple[int, str, str], Ask] = {}
    for one in sorted(asks, key=lambda ask: ask.derived):
        wanted.setdefault(one.identity, one)
    requested(list(wanted.values()))
    if wanted:
        ledger.wake()
    return len(wanted)


def requested(asks: Sequence[Ask]) -> list[SyncJob]:
    """Request each of any number of different jobs and return them in their order; call inside a transaction."""
    # The parts in one order by all, too: two that ask for the same jobs would else wait for each other.
    ordered = sorted(asks, key=lambda ask: ask.identity)
    parts = [ledger.request(ordered[start : start + MOST_ASKS]) for start in range(0, len(ordered), MOST_ASKS)]
    found = dict(zip((ask.identity for ask in ordered), (job for part in parts for job in part.jobs), strict=True))
    return [found[ask.identity] for ask in asks]


def open_job(route_id: int, kind: str, key: str) -> SyncJob | None:
    """Return the job of a record that has not been claimed yet."""
    return SyncJob.objects.filter(route_id=route_id, kind=kind, key=key, state__in=OPEN).first()


def routes_of(source: Connection, *, invoice_key: str = "") -> QuerySet[Route]:
    """Return the source's routes with their destination, whether they sum invoices up, and where known the customer of the invoice.

    One statement.
    """
    # Ordered by what the index of keys gives for nothing: by the model's own order SQLite reads every binding of the route.
    parent = Binding.objects.filter(route=OuterRef("pk"), key=invoice_key).exclude(parent="").order_by("pk").values("parent")[:1]
    return (
        Route.objects.filter(source=source)
        .select_related("destination")
        .annotate(customer_of_invoice=Coalesce(Subquery(parent), Value("")), shows_account=Exists(_of_account(OuterRef("pk"))))
    )


def _of_account(route: Any) -> QuerySet[FieldMapping]:
    """Return a route's mappings by which customers show what changes with their invoices; a text that only looks so counts too."""
    names = "|".join(re.escape(name) for name in context.ACCOUNT)
    return FieldMapping.objects.filter(route=route, kind=CUSTOMER, template__regex=names)


def _sums_up(route: Route) -> bool:
    """Whether what the route writes of a customer changes with the invoices; one statement where the route was read otherwise."""
    if CUSTOMER not in route.kinds or registry.entry(route.destination.system).system.summarises:
        return CUSTOMER in route.kinds
    shows = getattr(route, "shows_account", None)
    return _of_account(route.pk).exists() if shows is None else bool(shows)


def ask(source: Connection, route: Route, kind: str, key: str, **more: Any) -> Ask:
    """Return the request for one job of one route."""
    return Ask(
        route_id=route.pk,
        route_slug=route.slug,
        source_id=source.pk,
        destination_id=route.destination_id,
        system=route.destination.system,
        kind=kind,
        key=key,
        blocked=Connection.Status.NEEDS_RECONNECT in (source.status, route.destination.status),
        **more,
    )


def asks_for(source: Connection, routes: Iterable[Route], kind: str, key: str, *, customer_key: str = "", **more: Any) -> list[Ask]:
    """Return the jobs that a change of this record asks for: its own on each route, and its customer's where summed up.

    The customer's is derived: it coalesces, and does not decide the answer to the source.
    """
    asks = []
    wanted = [route for route in routes if _wanted(route, kind)]
    known = [getattr(route, "customer_of_invoice", "") for route in wanted] if kind == INVOICE else []
    # The same for all routes: whichever job leads a claim takes the customer's along, so that one read serves both.
    # An invoice that was moved concerns two customers, the new one first.
    customers = list(dict.fromkeys(key for key in (customer_key, *known) if key)) if kind == INVOICE else []
    for route in wanted:
        asks.append(ask(source, route, kind, key, customer_key=customers[0] if customers else "", **more))
        asks += customers_of(source, route, customers)
    return asks


def own(source: Connection, keys: Iterable[str]) -> set[str]:
    """Return the keys that name records of the source's own business: of another's it could only say that they are not there.

    Which one is its own the connection says, else what it has shown; one statement then. While neither does, all are.
    """
    business = registry.SOURCES[source.system].business(oauth.account(source))
    shown = "" if business else ShownCustomer.objects.filter(source=source).order_by("key").values_list("key", flat=True).first()
    business = shown.split(":")[1] if shown else business
    return {key for key in keys if not business or is_of(business, key)}


def _wanted(route: Route, kind: str) -> bool:
    """Whether the route's kinds cover the record; a payment is asked for through its invoice."""
    return (INVOICE if kind == PAYMENT else kind) in route.kinds


def subject_of(event: Event, business: str) -> tuple[str, str]:
    """Return the kind and key of the record that an event points at, ("", "") when it names none.

    The event's own name decides what it is about; a payment that names its invoice is about the invoice.
    """
    about = event.type.partition(".")[0]
    if about == CUSTOMER and event.customer:
        return CUSTOMER, record_key(business, CUSTOMER, event.customer)
    if about in (INVOICE, PAYMENT) and event.invoice:
        return INVOICE, record_key(business, INVOICE, event.invoice)
    if about == PAYMENT and event.payment:
        return PAYMENT, record_key(business, PAYMENT, event.payment)
    return "", ""


def customer_key_of(event: Event, key: str) -> str:
    """Return the key of the customer that the event names for its invoice, "" when it names none."""
    return record_key(key.split(":")[1], CUSTOMER, event.customer) if event.customer else ""


def hanging_on(source: Connection, route: Route, customer_key: str) -> list[Ask]:
    """Return the jobs of the invoices that are bound under a customer on a route: their documents point at its object."""
    below = Binding.objects.filter(route=route, parent=customer_key).order_by().values_list("key", flat=True).distinct()
    return [ask(source, route, INVOICE, key, customer_key=customer_key) for key in below if kind_of(key) == INVOICE]


def customers_of(source: Connection, route: Route, keys: Iterable[str]) -> list[Ask]:
    """Return the derived jobs of these customers on a route that sums up invoices; empty keys are passed over."""
    wanted = [key for key in dict.fromkeys(keys) if key]
    return [ask(source, route, CUSTOMER, key, derived=True) for key in wanted] if wanted and _sums_up(route) else []
