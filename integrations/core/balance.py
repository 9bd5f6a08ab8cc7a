"""Balances: what a customer's open invoices add up to, per currency, and how late they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from integrations.core.records import Money, OpenInvoice, Payment, Snapshot

MOST_LINES = 50


@dataclass(frozen=True, slots=True)
class Balance:
    """A customer's open invoices in figures; sums are per currency, ordered by its code, and never added across."""

    open_count: int
    overdue_count: int
    oldest_overdue_days: int  # 0 when nothing is overdue
    due: tuple[Money, ...]
    overdue: tuple[Money, ...]
    open_invoices: str


def balance_of(snapshot: Snapshot) -> Balance:
    """Return the balance of the snapshot's customer; without open invoices all is 0 or empty."""
    found = [invoice for invoice in snapshot.open_invoices or () if is_open(invoice)]
    late = [invoice for invoice in found if days_overdue(invoice, snapshot.today)]
    return Balance(
        open_count=len(found),
        overdue_count=len(late),
        oldest_overdue_days=max((days_overdue(invoice, snapshot.today) for invoice in late), default=0),
        due=sums(invoice.due for invoice in found),
        overdue=sums(invoice.due for invoice in late),
        open_invoices=_listed(found, snapshot.today),
    )


def is_open(invoice: OpenInvoice) -> bool:
    """Tell whether an invoice is open: no draft, and money is due."""
    return invoice.status != "DRAFT" and invoice.due.amount > 0


def days_overdue(invoice: OpenInvoice, today: date) -> int:
    """Return the days since the due date, 0 until it has passed."""
    return max(0, (today - invoice.due_on).days) if invoice.due_on else 0


def sums(amounts: Iterable[Money]) -> tuple[Money, ...]:
    """Add amounts up, each currency for itself."""
    found: dict[str, Decimal] = {}
    for money in amounts:
        found[money.currency] = found.get(money.currency, Decimal(0)) + money.amount
    return tuple(Money(found[currency], currency) for currency in sorted(found))


def payment_text(payment: Payment | None) -> str:
    """Return a payment as one line of text, empty for none."""
    if payment is None:
        return ""
    day = f"{payment.paid_on}: " if payment.paid_on else ""
    method = f" ({payment.method})" if payment.method else ""
    return f"{day}{money_text(payment.amount)}{method}"


def money_text(money: Money) -> str:
    """Return an amount with its currency, never in scientific notation."""
    return f"{money.amount:f} {money.currency}"


def _listed(found: Sequence[OpenInvoice], today: date) -> str:
    ordered = sorted(found, key=lambda invoice: (-invoice.due.amount, invoice.number, invoice.due.currency))
    lines = [_line(invoice, today) for invoice in ordered[:MOST_LINES]]
    if len(ordered) > MOST_LINES:
        lines.append(f"and {len(ordered) - MOST_LINES} more")
    return "\n".join(lines)


def _line(invoice: OpenInvoice, today: date) -> str:
    # No dates and no raw status: a due date moved within the future, or a view, must not change the text.
    days = days_overdue(invoice, today)
    age = f"{days} day{'' if days == 1 else 's'} overdue" if days else "not yet due"
    return f"{invoice.number}: {money_text(invoice.due)}, {age}"
