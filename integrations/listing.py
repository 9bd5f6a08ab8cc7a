"""Lists what a backfill is to bring: keys, and what the customers' summaries need. Memory stays flat, whatever their number."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from integrations import accounting, asking, changes, dependants, sweeping
from integrations.core import paging
from integrations.core.errors import Transient
from integrations.core.paging import Turned
from integrations.core.records import CUSTOMER, INVOICE, READ_MOST, Asked, Invoice, Snapshot, Swept, number_of
from integrations.models import Line
from integrations.passes import Pass
from integrations.patience import patiently

NAMES = ["kind", "customer_key", "number", "status", "due", "currency", "due_on", "modified_at", "paid", "wanted"]


def list_invoices(this: Pass) -> bool:
    """Note what the customers' summaries need, and which invoices are to be brought; False where the time did not suffice."""
    # Summaries tell of all of a customer's invoices, also of those that did not change since.
    first = paging.BEGINNING if CUSTOMER in this.kinds else this.since
    place, known = sweeping.place_of(this.sweep, first), sweeping.known_of(this.sweep, INVOICE)
    for turned in paging.go_on(lambda moment, page: patiently(lambda: this.reader.sweep_invoices(moment, page)), place, known):
        _store_invoices(this, turned)
        if time.monotonic() >= this.deadline:
            return False
    return True


def _store_invoices(this: Pass, turned: Turned[Swept[Invoice]]) -> None:
    page = turned.page
    whole = _with_payments(this, page.records) if CUSTOMER in this.kinds else {}
    lines = [_line(this, one) for one in page.records] + _unreadable(this, page.unreadable, turned.reached)
    seen = [Snapshot(page.business, page.read_at, page.today, invoice=whole.get(one.key, one)) for one in page.records]
    with transaction.atomic():
        if CUSTOMER in this.kinds:
            # Before the customers are written: their summaries tell of it, and are not to be written twice.
            changes.note_many(this.route.source_id, seen)
        _keep_lines(this, lines, turned)


def _with_payments(this: Pass, invoices: Iterable[Invoice]) -> dict[str, Invoice]:
    """Return the paid ones with their payments, which no list shows; one that cannot be read alone is told of as it was listed."""
    paid = [Asked(invoice=number_of(one.key)) for one in invoices if one.paid.amount]
    found: dict[str, Invoice] = {}
    for start in range(0, len(paid), READ_MOST):
        part = paid[start : start + READ_MOST]
        for one in patiently(lambda part=part: this.reader.read_many(part)):  # type: ignore[misc]
            if isinstance(one, Snapshot) and one.invoice is not None:
                found[one.invoice.key] = one.invoice
            elif isinstance(one, Transient) and one.scope:
                raise one
    return found


def _line(this: Pass, invoice: Invoice) -> Line:
    wanted = INVOICE in this.kinds and invoice.modified_at > this.since
    paid = bool(invoice.paid.amount)
    return accounting.line_of(this.sweep, invoice, kind=INVOICE, modified_at=invoice.modified_at, paid=paid, wanted=wanted)


def _unreadable(this: Pass, keys: Iterable[str], reached: datetime) -> list[Line]:
    """Return lines for what stood on a page in another form: their own runs say what is wrong with them."""
    wanted = INVOICE in this.kinds
    return [Line(sweep=this.sweep, key=key, kind=INVOICE, modified_at=reached, paid=True, wanted=wanted) for key in keys if key]


def list_customers(this: Pass) -> bool:
    """Note which customers are to be brought; False where the time did not suffice."""
    if CUSTOMER not in this.kinds:
        return True
    place, known = sweeping.place_of(this.sweep, this.since), sweeping.known_of(this.sweep, CUSTOMER)
    for turned in paging.go_on(lambda moment, page: patiently(lambda: this.reader.changed_customers(moment, page)), place, known):
        records = turned.page.records
        times = {key: turned.reached for key in turned.page.unreadable if key} | {one.key: one.modified_at for one in records}
        lines = [Line(sweep=this.sweep, key=key, kind=CUSTOMER, modified_at=at, wanted=True) for key, at in times.items()]
        with transaction.atomic():
            asking.request(dependants.note(this.route.source, [one for one in records if one.shown]))
            _keep_lines(this, lines, turned)
        if time.monotonic() >= this.deadline:
            return False
    return True


def _keep_lines(this: Pass, lines: Sequence[Line], turned: Turned[Any]) -> None:
    Line.objects.bulk_create(lines, update_conflicts=True, unique_fields=["sweep", "key"], update_fields=NAMES)
    figures = {**this.sweep.figures, "calls": this.sweep.figures.get("calls", 0) + this.calls.taken()}
    figures["listed"] = figures.get("listed", 0) + len(lines)
    sweeping.keep_page(this.sweep, turned, figures=figures)


def counted(this: Pass) -> dict[str, Any]:
    """Return the figures once all is listed: how many of each kind there are to bring."""
    wanted = this.sweep.lines.filter(wanted=True)
    totals = {kind: wanted.filter(kind=kind).count() for kind in (CUSTOMER, INVOICE)}
    return {**this.sweep.figures, **totals, "total": sum(totals.values()), "listed_at": timezone.now().isoformat()}
