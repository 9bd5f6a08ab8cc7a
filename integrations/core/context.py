"""Contexts: the names that mapping templates may use, and their values for one record."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from integrations.core.balance import balance_of, payment_text
from integrations.core.errors import Unmappable
from integrations.core.ports import Trace
from integrations.core.records import Customer, Invoice, Money, Payment, Snapshot

Context = dict[str, dict[str, Any]]

_CUSTOMER = "id key name first_name last_name contact_name display_id email phone mobile website currency address archived"
_ACCOUNT = "outstanding overdue open_count overdue_count oldest_overdue_days open_invoices recent_changes last_payment"
_INVOICE = "id key number status title po_number memo issued_on due_on total due paid currency url pdf_url"
_PAYMENT = "id key amount currency paid_on method state memo"
_EVERYWHERE = {"business": "name uuid currency", "trace": "synced_at job_id"}
_GROUPS: Mapping[str, Mapping[str, str]] = {
    "customer": {"customer": f"{_CUSTOMER} {_ACCOUNT}"},
    "contact": {"customer": f"{_CUSTOMER} {_ACCOUNT}", "contact": "name email phone"},
    "invoice": {"customer": _CUSTOMER, "invoice": _INVOICE},
    "payment": {"customer": _CUSTOMER, "invoice": _INVOICE, "payment": _PAYMENT},
}
# What of a customer changes with the invoices, as dotted names.
ACCOUNT: tuple[str, ...] = tuple(f"customer.{name}" for name in _ACCOUNT.split())
# The dotted names per kind of field mapping, e.g. NAMES["invoice"] holds "invoice.total".
NAMES: Mapping[str, frozenset[str]] = {
    kind: frozenset(f"{group}.{name}" for group, names in {**groups, **_EVERYWHERE}.items() for name in names.split())
    for kind, groups in _GROUPS.items()
}


def of_customer(snapshot: Snapshot, trace: Trace) -> Context:
    """Return the values for kind customer; raise Unmappable when the snapshot holds none."""
    if snapshot.customer is None:
        raise Unmappable("the read brought no customer", code="no_customer")
    return {"customer": _customer(snapshot.customer) | _account(snapshot, snapshot.customer), **_everywhere(snapshot, trace)}


def of_contact(snapshot: Snapshot, trace: Trace) -> Context:
    """Return the values for kind contact: those of kind customer and the contact person's."""
    found = of_customer(snapshot, trace)
    customer = found["customer"]
    contact = {"name": customer["contact_name"], "email": customer["email"], "phone": customer["phone"] or customer["mobile"]}
    return found | {"contact": contact}


def of_invoice(snapshot: Snapshot, trace: Trace) -> Context:
    """Return the values for kind invoice; raise Unmappable when the snapshot holds none."""
    if snapshot.invoice is None:
        raise Unmappable("the read brought no invoice", code="no_invoice")
    return {"customer": _customer(snapshot.invoice.customer), "invoice": _invoice(snapshot.invoice), **_everywhere(snapshot, trace)}


def of_payment(snapshot: Snapshot, payment: Payment, trace: Trace) -> Context:
    """Return the values for kind payment: those of its invoice and its own."""
    return of_invoice(snapshot, trace) | {"payment": _payment(payment)}


def _customer(customer: Customer) -> dict[str, Any]:
    plain = "key name first_name last_name contact_name display_id email phone mobile website currency archived"
    return {"id": customer.number, "address": str(customer.address), **{name: getattr(customer, name) for name in plain.split()}}


def _account(snapshot: Snapshot, customer: Customer) -> dict[str, Any]:
    balance = balance_of(snapshot)
    return {
        "outstanding": _amount(customer.outstanding),
        "overdue": _amount(customer.overdue),
        "open_count": balance.open_count,
        "overdue_count": balance.overdue_count,
        "oldest_overdue_days": balance.oldest_overdue_days,
        "open_invoices": balance.open_invoices,
        "recent_changes": "\n".join(snapshot.history.changes),
        "last_payment": payment_text(snapshot.history.last_payment),
    }


def _invoice(invoice: Invoice) -> dict[str, Any]:
    plain = "id key number status title po_number memo issued_on due_on url pdf_url"
    amounts = {"total": invoice.total.amount, "due": invoice.due.amount, "paid": invoice.paid.amount, "currency": invoice.total.currency}
    return {name: getattr(invoice, name) for name in plain.split()} | amounts


def _payment(payment: Payment) -> dict[str, Any]:
    plain = "key paid_on method state memo"
    amount = {"id": payment.number, "amount": payment.amount.amount, "currency": payment.amount.currency}
    return {name: getattr(payment, name) for name in plain.split()} | amount


def _everywhere(snapshot: Snapshot, trace: Trace) -> Context:
    business = {name: getattr(snapshot.business, name) for name in ("name", "uuid", "currency")}
    synced_at = trace.synced_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"business": business, "trace": {"synced_at": synced_at, "job_id": trace.job_id}}


def _amount(money: Money | None) -> Any:
    return None if money is None else money.amount
