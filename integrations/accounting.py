"""Compares a sweep's money per customer and currency, and stores what does not agree."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from django.db.models import Q

from audit.models import SyncJob
from audit.states import OPEN, State
from integrations.comparing import Compared
from integrations.core.agreement import Account, Agreement, Due, Sums, agreements, without
from integrations.core.balance import is_open
from integrations.core.ports import Source
from integrations.core.records import INVOICE, READ_MOST, Asked, Customer, Invoice, Money, OpenInvoice, Snapshot, number_of
from integrations.models import Disagreement, Line, Route, Sweep
from integrations.patience import patiently


def line_of(sweep: Sweep, invoice: Invoice, **more: Any) -> Line:
    """Return what a sweep must know again of an invoice that it has passed; `more` are other members of the line."""
    return Line(
        sweep=sweep,
        key=invoice.key,
        customer_key=invoice.customer.key,
        number=invoice.number[:255],
        status=invoice.status[:32],
        due=str(invoice.due.amount),
        currency=invoice.due.currency,
        due_on=invoice.due_on,
        **more,
    )


def due_of(line: Line) -> Money:
    """Return what is due on a line's invoice."""
    return Money(Decimal(line.due), line.currency)


def open_invoices(lines: Iterable[Line]) -> tuple[OpenInvoice, ...]:
    """Return the open ones among a customer's invoices."""
    found = (OpenInvoice(line.number, line.status, due_of(line), line.due_on) for line in lines if line.due)
    return tuple(one for one in found if is_open(one))


def disagreements(
    sweep: Sweep,
    reader: Source,
    routes: Sequence[Route],
    customers: Sequence[Customer],
    lines: Mapping[str, Sequence[Line]],
    compared: Mapping[str, Compared],
) -> list[Disagreement]:
    """Return the customers of a page whose money differs somewhere, and those with more than one currency.

    Pages are minutes apart: what differs is read again, and what has moved meanwhile is left to its jobs.
    A route by which something of a customer is yet to come is left out of that customer's account, and noted as in hand.
    """
    busy = _in_hand(sweep.source_id, [one.key for one in customers])
    for slug, page in compared.items():
        page.in_hand |= {key for key, slugs in busy.items() if slug in slugs}
    found: dict[str, list[Agreement]] = {}
    for one in customers:
        account = without(_account(one, lines.get(one.key, ()), compared, [route.slug for route in routes]), busy[one.key])
        listed = [agreement for agreement in agreements(account) if agreement.mixed or not agreement.agrees]
        if listed:
            found[one.key] = listed
    suspects = [one for one in customers if any(not agreement.agrees for agreement in found.get(one.key, ()))]
    moved = _moved(reader, suspects, lines)
    return [_row(sweep, one, agreement) for one in customers if one.key not in moved for agreement in found.get(one.key, ())]


def _account(customer: Customer, lines: Iterable[Line], compared: Mapping[str, Compared], routes: Sequence[str]) -> Account:
    held = {slug: found.amounts[customer.key] for slug, found in compared.items() if customer.key in found.amounts}
    return Account(customer.outstanding, held, [_due(line) for line in lines if line.due], routes)


def _due(line: Line) -> Due:
    held = {slug: None if amount is None else Decimal(amount) for slug, amount in line.held.items()}
    return Due(line.key, due_of(line), is_open(OpenInvoice(line.number, line.status, due_of(line), line.due_on)), held)


def _in_hand(source_id: int, keys: Sequence[str]) -> dict[str, set[str]]:
    """Return, by customer, the routes by which a job is about to bring something of them or of their invoices."""
    about = Q(key__in=keys) | Q(kind=INVOICE, customer_key__in=keys)
    jobs = SyncJob.objects.filter(about, source_id=source_id, state__in=(*OPEN, State.RUNNING))
    found: dict[str, set[str]] = {key: set() for key in keys}
    for slug, key, customer_key in jobs.values_list("route_slug", "key", "customer_key"):
        found.get(key, set()).add(slug)
        found.get(customer_key, set()).add(slug)
    return found


def _moved(reader: Source, suspects: Sequence[Customer], lines: Mapping[str, Sequence[Line]]) -> set[str]:
    """Return the customers whose balance is another by now than the pages told."""
    moved = set()
    for start in range(0, len(suspects), READ_MOST):
        part = suspects[start : start + READ_MOST]
        asked = [Asked(customer=number_of(one.key)) for one in part]
        for one, seen in zip(part, patiently(partial(reader.read_many, asked)), strict=True):
            if not isinstance(seen, Snapshot) or not _same(one, lines.get(one.key, ()), seen):
                moved.add(one.key)
    return moved


def _same(customer: Customer, lines: Iterable[Line], seen: Snapshot) -> bool:
    told = sorted((line.number, line.due, line.currency) for line in lines if line.due and _due(line).open)
    now = sorted((one.number, str(one.due.amount), one.due.currency) for one in seen.open_invoices or () if is_open(one))
    return seen.customer is not None and seen.customer.outstanding == customer.outstanding and told == now


def _row(sweep: Sweep, customer: Customer, agreement: Agreement) -> Disagreement:
    return Disagreement(
        sweep=sweep,
        customer_key=customer.key,
        title=customer.name[:255],
        currency=agreement.currency,
        mixed=agreement.mixed,
        agrees=agreement.agrees,
        outstanding=_text(agreement.outstanding),
        open_sum=_text(agreement.open_sum),
        held={slug: _shown(sums) for slug, sums in agreement.held.items()},
        invoices=list(agreement.invoices),
    )


def _shown(sums: Sums) -> dict[str, str]:
    return {"customer": _text(sums.customer), "invoices": _text(sums.invoices)}


def _text(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


def store(sweep: Sweep, keys: Sequence[str], rows: Sequence[Disagreement]) -> None:
    """Store what does not agree of these customers; a page that is read twice replaces what it told before."""
    Disagreement.objects.filter(sweep=sweep, customer_key__in=keys).delete()
    Disagreement.objects.bulk_create(rows)
