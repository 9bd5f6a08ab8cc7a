"""Which documents show a record that is not their own: the open invoices of a customer who was renamed."""

from collections.abc import Iterable, Sequence

from audit.ledger import Ask
from integrations import asking, systems
from integrations.core import history, mapping
from integrations.core.records import INVOICE, Changed
from integrations.models import Binding, Change, Connection, Route, ShownCustomer


def note(source: Connection, customers: Iterable[Changed]) -> list[Ask]:
    """Remember what the customers are called and return the jobs of the open invoices that show another name.

    Call inside the transaction that requests them. A customer met for the first time counts as renamed: no invoice
    shows a new one yet, and of others nothing is known. A read older than what is remembered says nothing.
    """
    renamed = _renamed(source, {one.key: one for one in customers})
    if not renamed:
        return []
    rows = [ShownCustomer(source=source, key=one.key, digest=one.shown, modified_at=one.modified_at) for one in renamed]
    ShownCustomer.objects.bulk_create(rows, update_conflicts=True, unique_fields=["source", "key"], update_fields=["digest", "modified_at"])
    owners = _open_invoices(source, [one.key for one in renamed])
    return _asks(source, owners) if owners else []


def _renamed(source: Connection, customers: dict[str, Changed]) -> list[Changed]:
    """Return the customers that are not called as remembered, in one order for all who write them."""
    known = {row.key: row for row in ShownCustomer.objects.filter(source=source, key__in=list(customers))}
    return [customers[key] for key in sorted(customers) if key not in known or _differs(customers[key], known[key])]


def _differs(customer: Changed, known: ShownCustomer) -> bool:
    return customer.shown != known.digest and customer.modified_at >= known.modified_at


def _open_invoices(source: Connection, customers: Sequence[str]) -> dict[str, str]:
    """Return the customers' invoices that are not paid as far as reads have shown, with their customer."""
    rows = Change.objects.filter(source=source, customer_key__in=customers, kind=INVOICE).order_by("at", "pk")
    newest = {invoice: (customer, state) for invoice, customer, state in rows.values_list("invoice_key", "customer_key", "state")}
    return {invoice: customer for invoice, (customer, state) in newest.items() if not history.is_settled(state)}


def _asks(source: Connection, owners: dict[str, str]) -> list[Ask]:
    """Return a job per route and invoice, where the route mirrors the invoice and its templates name the customer."""
    bound = Binding.objects.filter(route__source=source, key__in=list(owners)).values_list("route_id", "key").order_by().distinct()
    showing = list(bound)
    if not showing:  # as of a customer who is new: no document shows anything yet
        return []
    mine = Route.objects.filter(source=source).select_related("destination").prefetch_related("field_mappings", "status_mappings")
    routes = {route.pk: route for route in mine if _shows(route)}
    return [asking.ask(source, routes[pk], INVOICE, key, customer_key=owners[key]) for pk, key in showing if pk in routes]


def _shows(route: Route) -> bool:
    if INVOICE not in route.kinds:
        return False
    plan = systems.plan(route)
    return mapping.shows_customer(rule for kind in ("invoice", "payment") if kind in plan.kinds for rule in plan.rules(kind))
