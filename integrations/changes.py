"""The memory of a customer's recent changes and payments, as the reads showed them."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber

from audit.models import SyncJob
from integrations.core import history
from integrations.core.records import History, Invoice, Money, Payment, Snapshot
from integrations.models import Change

SHOWN = 5
# The engines do not agree on where a payment without a date stands.
LAST_PAID = (F("paid_on").desc(nulls_last=True), F("at").desc(), F("pk").desc())


def note_many(source_id: int, snapshots: Iterable[Snapshot]) -> list[str]:
    """Store what the read invoices show anew and return the customers whose history tells something else now.

    The same read twice adds nothing. An invoice that was moved takes its history from one customer to another.
    Two statements, and more only for invoices that were moved or lost something.
    """
    shown = {one.invoice.key: (one.invoice, one.business.timezone) for one in snapshots if one.invoice is not None}
    if not shown:
        return []
    known: dict[str, dict[str, Change]] = {}
    for row in Change.objects.filter(source_id=source_id, invoice_key__in=list(shown)).order_by("at", "pk"):
        known.setdefault(row.invoice_key, {})[row.key] = row
    fresh: list[Change] = []
    told: list[str] = []
    for key, (invoice, zone) in shown.items():
        before, found = known.get(key, {}), history.changes_of(invoice, zone)
        rows = [_row(source_id, invoice, one) for one in found if _is_news(one, before.get(one.key))]
        left = {row.customer_key for row in before.values()} - {invoice.customer.key}
        if left:
            _follow(source_id, invoice)
        removed = _forget_removed(invoice, before, {change.key for change in found})
        fresh += rows
        told += [invoice.customer.key, *sorted(left)] if rows or left or removed else []
    Change.objects.bulk_create(fresh, ignore_conflicts=True)
    return list(dict.fromkeys(told))


def _is_news(change: history.NewChange, known: Change | None) -> bool:
    return known is None or known.state != change.state[:200] or known.removed


def _row(source_id: int, invoice: Invoice, change: history.NewChange) -> Change:
    return Change(
        source_id=source_id,
        customer_key=invoice.customer.key,
        invoice_key=invoice.key,
        key=change.key,
        kind=change.kind,
        at=change.at,
        state=change.state[:200],
        text=change.text[:255],
        amount="" if change.amount is None else str(change.amount),
        currency=change.currency,
        paid_on=change.paid_on,
        method=change.method[:64],
    )


def _follow(source_id: int, invoice: Invoice) -> None:
    """Let the history of an invoice that was moved follow it to its new customer."""
    rows = Change.objects.filter(source_id=source_id, invoice_key=invoice.key).exclude(customer_key=invoice.customer.key)
    rows.update(customer_key=invoice.customer.key)


def _forget_removed(invoice: Invoice, known: dict[str, Change], found: set[str]) -> bool:
    gone = [row.key for row in known.values() if row.key not in found and not row.removed]
    return bool(gone) and Change.objects.filter(key__in=gone, invoice_key=invoice.key).update(removed=True) > 0


def of_customer(source_id: int, customer_key: str) -> History:
    """Return the customer's newest changes and last payment; two statements."""
    rows = Change.objects.filter(source_id=source_id, customer_key=customer_key)
    texts = rows.filter(kind="invoice").order_by("-at", "-pk").values_list("text", flat=True)[:SHOWN]
    paid = rows.filter(kind="payment", removed=False).exclude(amount="").order_by(*LAST_PAID).first()
    return History(tuple(texts), _payment(paid) if paid else None)


def of_customers(source_id: int, keys: Sequence[str]) -> dict[str, History]:
    """Return the histories of many customers, each as `of_customer` does; two statements."""
    rows = Change.objects.filter(source_id=source_id, customer_key__in=keys)
    newest: dict[str, list[str]] = {}
    for key, text in _ranked(rows.filter(kind="invoice"), "-at", "-pk", most=SHOWN).values_list("customer_key", "text"):
        newest.setdefault(key, []).append(text)
    paid = _ranked(rows.filter(kind="payment", removed=False).exclude(amount=""), *LAST_PAID, most=1)
    last = {row.customer_key: _payment(row) for row in paid}
    return {key: History(tuple(newest.get(key, ())), last.get(key)) for key in keys}


def _ranked(rows: QuerySet[Change], *order: Any, most: int) -> QuerySet[Change]:
    rank = Window(RowNumber(), partition_by=F("customer_key"), order_by=order)
    return rows.annotate(rank=rank).filter(rank__lte=most).order_by("customer_key", "rank")


def _payment(row: Change) -> Payment:
    return Payment(row.key, Money(Decimal(row.amount), row.currency), row.paid_on, row.method)


def describe(job: SyncJob, snapshot: Snapshot) -> dict[str, str]:
    """Return what the job's record is called, for lists and search."""
    if snapshot.invoice is not None and job.kind == "invoice":
        invoice = snapshot.invoice
        return {
            "title": invoice.number,
            "party": invoice.customer.name,
            "amount": str(invoice.total),
            "customer_key": invoice.customer.key,
        }
    if snapshot.customer is not None and job.kind == "customer":
        return {"title": snapshot.customer.name, "party": snapshot.customer.name, "amount": str(snapshot.customer.outstanding or "")}
    return {"title": job.title, "party": job.party, "amount": job.amount}
