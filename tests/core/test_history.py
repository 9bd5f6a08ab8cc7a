from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from integrations.core.history import NewChange, changes_of
from integrations.core.records import Customer, Invoice, Money, Payment
from integrations.core.zones import zone_of

AT = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)  # still the 20th in Toronto
PAID_AT = datetime(2026, 11, 19, 9, tzinfo=UTC)


def usd(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


PAYMENT = Payment("wave:b:payment:9", usd("50.00"), date(2026, 11, 18), "BANK_TRANSFER", created_at=PAID_AT)
INVOICE = Invoice(
    key="wave:b:invoice:7",
    number="INV-7",
    status="SENT",
    customer=Customer("wave:b:customer:1", "Bright Bikes", AT),
    total=usd("120.00"),
    due=usd("120.00"),
    paid=usd("0.00"),
    issued_on=date(2026, 11, 1),
    due_on=date(2026, 12, 1),
    modified_at=AT,
)


def test_invoice_and_payments_become_entries() -> None:
    partial = replace(INVOICE, status="PARTIAL", paid=usd("50.00"), due=usd("70.00"), payments=(PAYMENT,))
    assert changes_of(partial, "America/Toronto") == [
        NewChange(
            key="wave:b:invoice:7",
            kind="invoice",
            at=AT,
            state="partly paid|120.00 USD|50.00 USD",
            text="2026-11-20 INV-7 partly paid: 50.00 of 120.00 USD",
        ),
        NewChange(
            key="wave:b:payment:9",
            kind="payment",
            at=PAID_AT,
            state="50.00|USD|2026-11-18|BANK_TRANSFER",
            text="2026-11-18 INV-7 payment: 50.00 USD (BANK_TRANSFER)",
            amount=Decimal("50.00"),
            currency="USD",
            paid_on=date(2026, 11, 18),
            method="BANK_TRANSFER",
        ),
    ]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("DRAFT", "drafted"),
        ("SAVED", "approved"),
        ("UNPAID", "sent"),
        ("SENT", "sent"),
        ("VIEWED", "sent"),
        ("OVERDUE", "overdue"),
        ("PAID", "paid"),
        ("OVERPAID", "overpaid"),
        ("WRITTEN_OFF", "written_off"),
    ],
)
def test_status_is_told_in_a_coarse_word(status: str, word: str) -> None:
    found = changes_of(replace(INVOICE, status=status), "UTC")
    assert [(change.state, change.text) for change in found] == [(f"{word}|120.00 USD|0.00 USD", f"2026-11-21 INV-7 {word}: 120.00 USD")]


def test_refund_without_date_is_told_by_when_it_was_made() -> None:
    refund = replace(PAYMENT, amount=usd("-20.00"), paid_on=None, method="")
    found = changes_of(replace(INVOICE, payments=(refund,)), "UTC")[1]
    assert (found.state, found.text) == ("-20.00|USD||", "2026-11-19 INV-7 refund: -20.00 USD")


def test_entries_fit_their_columns() -> None:
    long = replace(INVOICE, number="N" * 500, status="S" * 500, payments=(replace(PAYMENT, method="M" * 500),))
    assert [(len(change.state), len(change.text), len(change.method)) for change in changes_of(long, "UTC")] == [
        (200, 255, 0),
        (200, 255, 64),
    ]


@pytest.mark.parametrize(
    ("name", "fallback", "zone"),
    [
        ("America/Toronto", "UTC", "America/Toronto"),
        ("", "Europe/Berlin", "Europe/Berlin"),
        ("Mars/Olympus", "Europe/Berlin", "Europe/Berlin"),
        ("America", "Europe/Berlin", "Europe/Berlin"),
        ("../../etc/passwd", "nowhere", "UTC"),
        ("a\0b", "\0", "UTC"),
        ("x" * 5000, "/", "UTC"),
    ],
)
def test_zone_falls_back(name: str, fallback: str, zone: str) -> None:
    assert zone_of(name, fallback).key == zone
