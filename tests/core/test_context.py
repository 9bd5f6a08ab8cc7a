from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from integrations.core import context
from integrations.core.errors import Unmappable
from integrations.core.ports import Trace
from integrations.core.records import Address, Business, Customer, History, Invoice, Money, OpenInvoice, Payment, Snapshot

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
TRACE = Trace(datetime(2026, 11, 20, 13, 0, 0, 500, tzinfo=timezone(timedelta(hours=1))), "job-1")


def usd(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


PAYMENT = Payment("wave:u:payment:9", usd("50.00"), date(2026, 11, 18), "CASH", "SUCCEEDED", "thanks")
CUSTOMER = Customer(
    key="wave:u:customer:1",
    name="Bright Bikes",
    modified_at=AT,
    first_name="Ada",
    last_name="Byron",
    display_id="C-1",
    email="ada@bright.example",
    mobile="+1 555 0100",
    website="https://bright.example",
    currency="USD",
    address=Address("1 Main St", "", "Toronto", "Ontario", "M5V", "Canada"),
    outstanding=usd("120.00"),
    overdue=usd("0.00"),
)
INVOICE = Invoice(
    key="wave:u:invoice:7",
    number="INV-7",
    status="PARTIAL",
    customer=CUSTOMER,
    total=usd("170.00"),
    due=usd("120.00"),
    paid=usd("50.00"),
    issued_on=date(2026, 11, 1),
    due_on=date(2026, 12, 1),
    modified_at=AT,
    title="Invoice",
    po_number="PO-1",
    memo="memo",
    url="https://wave.example/7",
    pdf_url="https://wave.example/7.pdf",
    payments=(PAYMENT,),
)
SNAPSHOT = Snapshot(
    business=Business("u", "Acme", "UTC", "USD"),
    read_at=AT,
    today=date(2026, 11, 20),
    customer=CUSTOMER,
    open_invoices=(OpenInvoice("INV-7", "PARTIAL", usd("120.00"), date(2026, 11, 10)),),
    invoice=INVOICE,
    history=History(("newest", "older"), PAYMENT),
)
EVERYWHERE: dict[str, Any] = {
    "business": {"name": "Acme", "uuid": "u", "currency": "USD"},
    "trace": {"synced_at": "2026-11-20T12:00:00Z", "job_id": "job-1"},
}
PERSON = {
    "id": "1",
    "key": "wave:u:customer:1",
    "name": "Bright Bikes",
    "first_name": "Ada",
    "last_name": "Byron",
    "contact_name": "Ada Byron",
    "display_id": "C-1",
    "email": "ada@bright.example",
    "phone": "",
    "mobile": "+1 555 0100",
    "website": "https://bright.example",
    "currency": "USD",
    "address": "1 Main St, M5V Toronto, Ontario, Canada",
    "archived": False,
}
ACCOUNT = {
    "outstanding": Decimal("120.00"),
    "overdue": Decimal("0.00"),
    "open_count": 1,
    "overdue_count": 1,
    "oldest_overdue_days": 10,
    "open_invoices": "INV-7: 120.00 USD, 10 days overdue",
    "recent_changes": "newest\nolder",
    "last_payment": "2026-11-18: 50.00 USD (CASH)",
}
BILL = {
    "id": "7",
    "key": "wave:u:invoice:7",
    "number": "INV-7",
    "status": "PARTIAL",
    "title": "Invoice",
    "po_number": "PO-1",
    "memo": "memo",
    "issued_on": date(2026, 11, 1),
    "due_on": date(2026, 12, 1),
    "total": Decimal("170.00"),
    "due": Decimal("120.00"),
    "paid": Decimal("50.00"),
    "currency": "USD",
    "url": "https://wave.example/7",
    "pdf_url": "https://wave.example/7.pdf",
}
PAID = {
    "id": "9",
    "key": "wave:u:payment:9",
    "amount": Decimal("50.00"),
    "currency": "USD",
    "paid_on": date(2026, 11, 18),
    "method": "CASH",
    "state": "SUCCEEDED",
    "memo": "thanks",
}
CONTACT = {"name": "Ada Byron", "email": "ada@bright.example", "phone": "+1 555 0100"}
CONTEXTS: dict[str, context.Context] = {
    "customer": context.of_customer(SNAPSHOT, TRACE),
    "contact": context.of_contact(SNAPSHOT, TRACE),
    "invoice": context.of_invoice(SNAPSHOT, TRACE),
    "payment": context.of_payment(SNAPSHOT, PAYMENT, TRACE),
}


def test_contexts_hold_the_record() -> None:
    assert CONTEXTS == {
        "customer": EVERYWHERE | {"customer": PERSON | ACCOUNT},
        "contact": EVERYWHERE | {"customer": PERSON | ACCOUNT, "contact": CONTACT},
        "invoice": EVERYWHERE | {"customer": PERSON, "invoice": BILL},
        "payment": EVERYWHERE | {"customer": PERSON, "invoice": BILL, "payment": PAID},
    }


@pytest.mark.parametrize("kind", sorted(CONTEXTS))
def test_names_are_those_of_the_context(kind: str) -> None:
    assert {f"{group}.{name}" for group, values in CONTEXTS[kind].items() for name in values} == context.NAMES[kind]


def test_unknown_balances_are_none() -> None:
    found = context.of_customer(replace(SNAPSHOT, customer=replace(CUSTOMER, outstanding=None, overdue=None)), TRACE)["customer"]
    assert (found["outstanding"], found["overdue"]) == (None, None)


def test_missing_record_is_unmappable() -> None:
    bare = replace(SNAPSHOT, customer=None, invoice=None)
    codes = []
    for build in (context.of_customer, context.of_contact, context.of_invoice):
        with pytest.raises(Unmappable) as caught:
            build(bare, TRACE)
        codes.append(caught.value.code)
    assert codes == ["no_customer", "no_customer", "no_invoice"]
