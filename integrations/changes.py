"""The memory of a customer's recent changes and payments, as the reads showed them."""

from decimal import Decimal

from audit.models import SyncJob
from integrations.core import history
from integrations.core.records import History, Invoice, Money, Payment, Snapshot
from integrations.models import Change

SHOWN = 5


def note(source_id: int, snapshot: Snapshot) -> bool:
    """Store what the read invoice shows anew and say whether that was anything; the same read twice adds nothing."""
    invoice = snapshot.invoice
    if invoice is None:
        return False
    known = {row.key: row for row in Change.objects.filter(source_id=source_id, invoice_key=invoice.key).order_by("at", "pk")}
    found = history.changes_of(invoice, snapshot.business.timezone)
    rows = [
        Change(
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
        for change in found
        if change.key not in known or known[change.key].state != change.state[:200] or known[change.key].removed
    ]
    Change.objects.bulk_create(rows, ignore_conflicts=True)
    moved = any(row.customer_key != invoice.customer.key for row in known.values()) and _follow(source_id, invoice)
    removed = _forget_removed(invoice, known, {change.key for change in found})
    return bool(rows) or moved or removed


def _follow(source_id: int, invoice: Invoice) -> bool:
    """Let the history of an invoice that was moved follow it to its new customer."""
    rows = Change.objects.filter(source_id=source_id, invoice_key=invoice.key).exclude(customer_key=invoice.customer.key)
    return rows.update(customer_key=invoice.customer.key) > 0


def _forget_removed(invoice: Invoice, known: dict[str, Change], found: set[str]) -> bool:
    gone = [row.key for row in known.values() if row.key not in found and not row.removed]
    return bool(gone) and Change.objects.filter(key__in=gone, invoice_key=invoice.key).update(removed=True) > 0


def of_customer(source_id: int, customer_key: str) -> History:
    """Return the customer's newest changes and last payment; two statements."""
    rows = Change.objects.filter(source_id=source_id, customer_key=customer_key)
    texts = rows.filter(kind="invoice").order_by("-at", "-pk").values_list("text", flat=True)[:SHOWN]
    paid = rows.filter(kind="payment", removed=False).exclude(amount="").order_by("-paid_on", "-at", "-pk").first()
    return History(tuple(texts), _payment(paid) if paid else None)


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
