from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from integrations.core.balance import Balance, balance_of, payment_text
from integrations.core.records import Business, Money, OpenInvoice, Payment, Snapshot

TODAY = date(2026, 11, 20)
BUSINESS = Business(uuid="b", name="Acme", timezone="UTC", currency="USD")


def line(number: str, due: str, days_late: int = 0, status: str = "SENT", currency: str = "USD") -> OpenInvoice:
    return OpenInvoice(number, status, Money(Decimal(due), currency), TODAY - timedelta(days=days_late))


def snapshot(*lines: OpenInvoice) -> Snapshot:
    return Snapshot(BUSINESS, datetime(2026, 11, 20, 12, tzinfo=UTC), TODAY, open_invoices=lines)


def test_balance_counts_what_is_open_and_never_adds_currencies() -> None:
    lines = [
        line("INV-8", "50.00", -10),
        line("INV-7", "120.00", 12, "OVERDUE"),
        line("INV-9", "90.50", 1, currency="EUR"),
        line("INV-1", "7.00", 0),
        line("INV-2", "500.00", 400, "DRAFT"),
        line("INV-3", "0.00", 30, "PAID"),
        line("INV-4", "-5.00", 30, "OVERPAID"),
    ]
    assert balance_of(snapshot(*lines)) == Balance(
        open_count=4,
        overdue_count=2,
        oldest_overdue_days=12,
        due=(Money(Decimal("90.50"), "EUR"), Money(Decimal("177.00"), "USD")),
        overdue=(Money(Decimal("90.50"), "EUR"), Money(Decimal("120.00"), "USD")),
        open_invoices=(
            "INV-7: 120.00 USD, 12 days overdue\nINV-9: 90.50 EUR, 1 day overdue\n"
            "INV-8: 50.00 USD, not yet due\nINV-1: 7.00 USD, not yet due"
        ),
    )


@pytest.mark.parametrize("open_invoices", [(), None])
def test_balance_of_nothing_is_nothing(open_invoices: tuple[OpenInvoice, ...] | None) -> None:
    assert balance_of(replace(snapshot(), open_invoices=open_invoices)) == Balance(0, 0, 0, (), (), "")


def test_view_and_later_due_date_change_nothing() -> None:
    before = balance_of(snapshot(line("INV-1", "50.00", -3)))
    assert balance_of(snapshot(line("INV-1", "50.00", -90, "VIEWED"))) == before


def test_invoice_without_due_date_is_not_overdue() -> None:
    undated = replace(line("INV-1", "50.00"), due_on=None)
    assert balance_of(snapshot(undated)).open_invoices == "INV-1: 50.00 USD, not yet due"


def test_list_ends_after_fifty_lines() -> None:
    found = balance_of(snapshot(*(line(f"INV-{number}", f"{number}.00") for number in range(1, 54)))).open_invoices.split("\n")
    assert (len(found), found[0], found[49:]) == (
        51,
        "INV-53: 53.00 USD, not yet due",
        ["INV-4: 4.00 USD, not yet due", "and 3 more"],
    )


@pytest.mark.parametrize(
    ("payment", "text"),
    [
        (None, ""),
        (Payment("k", Money(Decimal("50.00"), "USD"), TODAY, "BANK_TRANSFER"), "2026-11-20: 50.00 USD (BANK_TRANSFER)"),
        (Payment("k", Money(Decimal("5E+3"), "JPY"), None), "5000 JPY"),
    ],
)
def test_payment_is_one_line(payment: Payment | None, text: str) -> None:
    assert payment_text(payment) == text
