"""History: an invoice and its payments as entries that are remembered, so that a customer's last changes can be told."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from integrations.core.balance import money_text
from integrations.core.records import INVOICE, PAYMENT, Invoice, Payment
from integrations.core.zones import zone_of

# Coarse on purpose: SENT and VIEWED are one thing to whoever supports the customer.
WORDS = {
    "DRAFT": "drafted",
    "SAVED": "approved",
    "UNPAID": "sent",
    "SENT": "sent",
    "VIEWED": "sent",
    "PARTIAL": "partly paid",
    "OVERDUE": "overdue",
    "PAID": "paid",
    "OVERPAID": "overpaid",
}
SETTLED = (WORDS["PAID"], WORDS["OVERPAID"])
STATE_LENGTH, TEXT_LENGTH, METHOD_LENGTH = 200, 255, 64


@dataclass(frozen=True, slots=True)
class NewChange:
    """An entry of the history. It is news when the last one of its key had another `state`; `at` is aware UTC.

    amount, currency, paid_on and method are a payment's; an invoice's entry leaves them empty.
    """

    key: str
    kind: str
    at: datetime
    state: str
    text: str
    amount: Decimal | None = None
    currency: str = ""
    paid_on: date | None = None
    method: str = ""


def changes_of(invoice: Invoice, business_timezone: str) -> list[NewChange]:
    """Return the entry of the invoice and one per payment; dates in the texts are in the business's zone."""
    zone = zone_of(business_timezone)
    return [_of_invoice(invoice, zone), *(_of_payment(invoice, payment, zone) for payment in invoice.payments)]


def is_settled(state: str) -> bool:
    """Tell whether an invoice's entry of this state says that nothing is due any more."""
    return state.partition("|")[0] in SETTLED


def _of_invoice(invoice: Invoice, zone: ZoneInfo) -> NewChange:
    word = WORDS.get(invoice.status, invoice.status.lower())
    total = money_text(invoice.total)
    shown = f"{invoice.paid.amount:f} of {total}" if invoice.status == "PARTIAL" else total
    return NewChange(
        key=invoice.key,
        kind=INVOICE,
        at=invoice.modified_at,
        state=f"{word}|{total}|{money_text(invoice.paid)}"[:STATE_LENGTH],
        text=f"{_day(invoice.modified_at, zone)} {invoice.number} {word}: {shown}"[:TEXT_LENGTH],
    )


def _of_payment(invoice: Invoice, payment: Payment, zone: ZoneInfo) -> NewChange:
    at = payment.created_at or invoice.modified_at
    word = "refund" if payment.amount.amount < 0 else "payment"
    method = f" ({payment.method})" if payment.method else ""
    return NewChange(
        key=payment.key,
        kind=PAYMENT,
        at=at,
        state=f"{payment.amount.amount:f}|{payment.amount.currency}|{payment.paid_on or ''}|{payment.method}"[:STATE_LENGTH],
        text=f"{payment.paid_on or _day(at, zone)} {invoice.number} {word}: {money_text(payment.amount)}{method}"[:TEXT_LENGTH],
        amount=payment.amount.amount,
        currency=payment.amount.currency,
        paid_on=payment.paid_on,
        method=payment.method[:METHOD_LENGTH],
    )


def _day(at: datetime, zone: ZoneInfo) -> date:
    return at.astimezone(zone).date()
