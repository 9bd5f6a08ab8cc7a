import base64
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.core.records import Address, Business, Customer, Invoice, Money, OpenInvoice, Payment, key_digest
from integrations.sources.wave import mapping

UUID = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"
USD = {"code": "USD", "exponent": 2}


def money(minor: str, code: str = "USD", exponent: int = 2) -> dict[str, Any]:
    return {"minorUnitValue": minor, "currency": {"code": code, "exponent": exponent}}


PERSON: dict[str, Any] = {
    "id": mapping.node_id(UUID, "Customer", "1"),
    "name": " Bright Bikes ",
    "firstName": "Ada",
    "lastName": None,
    "displayId": None,
    "email": "ada@bright.example",
    "phone": None,
    "mobile": "",
    "website": None,
    "isArchived": None,
    "createdAt": "2026-01-02T03:04:05.678Z",
    "modifiedAt": "2026-11-20T12:00:00.000Z",
    "currency": None,
    "address": {"addressLine1": "1 Main St", "city": "Toronto", "province": {"name": "Ontario"}, "country": None},
    "outstandingAmount": money("12050"),
    "overdueAmount": money("0"),
}
CUSTOMER = Customer(
    key=f"wave:{UUID}:customer:1",
    name="Bright Bikes",
    modified_at=datetime(2026, 11, 20, 12, tzinfo=UTC),
    first_name="Ada",
    email="ada@bright.example",
    address=Address(line1="1 Main St", city="Toronto", province="Ontario"),
    outstanding=Money(Decimal("120.50"), "USD"),
    overdue=Money(Decimal("0.00"), "USD"),
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
)


def payment(**changes: Any) -> dict[str, Any]:
    plain = {
        "id": mapping.node_id(UUID, "InvoicePayment", "9"),
        "amount": "50",
        "paymentDate": "2026-11-18",
        "paymentMethod": "CASH",
        "state": "SUCCEEDED",
        "memo": None,
        "active": True,
        "transactionType": "PAYMENT",
        "createdAt": "2026-11-18T12:00:00.000Z",
        "paymentCurrency": USD,
        "originInvoicePayment": None,
    }
    return plain | changes


def bill(*payments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": mapping.node_id(UUID, "Invoice", "7"),
        "invoiceNumber": "INV-7",
        "status": "WRITTEN_OFF",
        "title": "Invoice",
        "poNumber": None,
        "memo": None,
        "invoiceDate": "2026-11-01",
        "dueDate": "2026-12-01",
        "viewUrl": "https://wave.example/7",
        "pdfUrl": "https://wave.example/7.pdf",
        "createdAt": "2026-11-01T12:00:00.000Z",
        "modifiedAt": "2026-11-20T12:00:00.000Z",
        "currency": USD,
        "total": money("17000"),
        "amountDue": money("12000"),
        "amountPaid": money("5000"),
        "customer": PERSON,
        "payments": list(payments),
    }
    return plain | changes


def amounts(*payments: dict[str, Any]) -> list[str]:
    return [str(found.amount) for found in mapping.invoice(bill(*payments), UUID).payments]


def test_customer_is_mapped() -> None:
    assert mapping.customer(PERSON, UUID) == CUSTOMER


def test_invoice_with_an_unknown_status_is_mapped() -> None:
    assert mapping.invoice(bill(payment()), UUID) == Invoice(
        key=f"wave:{UUID}:invoice:7",
        number="INV-7",
        status="WRITTEN_OFF",
        customer=CUSTOMER,
        total=Money(Decimal("170.00"), "USD"),
        due=Money(Decimal("120.00"), "USD"),
        paid=Money(Decimal("50.00"), "USD"),
        issued_on=date(2026, 11, 1),
        due_on=date(2026, 12, 1),
        modified_at=datetime(2026, 11, 20, 12, tzinfo=UTC),
        created_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
        title="Invoice",
        url="https://wave.example/7",
        pdf_url="https://wave.example/7.pdf",
        payments=(
            Payment(
                key=f"wave:{UUID}:payment:9",
                amount=Money(Decimal("50.00"), "USD"),
                paid_on=date(2026, 11, 18),
                method="CASH",
                state="SUCCEEDED",
                created_at=datetime(2026, 11, 18, 12, tzinfo=UTC),
            ),
        ),
    )


def test_payments_that_the_api_shows_as_active_count() -> None:
    shown = [payment(state="FAILED"), payment(state=None, active=None), payment(active=False), payment(amount=None), payment(amount="")]
    assert amounts(*shown) == ["50.00 USD", "50.00 USD"]


@pytest.mark.parametrize("refund", [{"transactionType": "REFUND"}, {"originInvoicePayment": {"id": "x"}}])
@pytest.mark.parametrize("amount", ["20.00", "-20.00"])
def test_refund_is_negative(refund: dict[str, Any], amount: str) -> None:
    assert amounts(payment(amount=amount, **refund)) == ["-20.00 USD"]


def test_payment_without_currency_has_the_invoices() -> None:
    assert amounts(payment(paymentCurrency=None), payment(paymentCurrency={"code": "JPY", "exponent": 0})) == ["50.00 USD", "50 JPY"]


def test_payment_with_another_form_of_id_keeps_a_key_of_its_own() -> None:
    keys = [paid.key for paid in mapping.invoice(bill(payment(id="Abc="), payment(id="aBC="), payment(id="77")), UUID).payments]
    assert keys == [f"wave:{UUID}:payment:{number}" for number in (key_digest("Abc="), key_digest("aBC="), "77")]


def test_missing_list_of_payments_is_not_an_empty_one() -> None:
    assert mapping.invoice(bill(payments=None, amountPaid=money("0")), UUID).payments == ()
    with pytest.raises(ValueError):
        mapping.invoice(bill(payments=None), UUID)


def test_open_invoice_is_mapped() -> None:
    node = {"id": "x", "invoiceNumber": "INV-8", "status": "OVERDUE", "dueDate": "2026-11-01", "amountDue": money("1500", "JPY", 0)}
    assert mapping.open_invoice(node) == OpenInvoice("INV-8", "OVERDUE", Money(Decimal("1500"), "JPY"), date(2026, 11, 1))


@pytest.mark.parametrize(
    ("timezone", "zone"), [("America/Toronto", "America/Toronto"), (None, "Europe/Berlin"), ("EST5???", "Europe/Berlin")]
)
def test_business_has_a_zone_that_exists(timezone: str | None, zone: str) -> None:
    node = {"id": "x", "name": "Acme", "timezone": timezone, "currency": USD}
    assert mapping.business(node, UUID, "Europe/Berlin") == Business(UUID, "Acme", zone, "USD")


# -- money -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (money("0"), "0.00 USD"),
        (money("-1"), "-0.01 USD"),
        (money("123456789012345678901234"), "1234567890123456789012.34 USD"),
        (money("1,234,567"), "12345.67 USD"),
        (money("5", "JPY", 0), "5 JPY"),
        (money("5", "KWD", 3), "0.005 KWD"),
    ],
)
def test_money_is_scaled_by_its_currency(node: dict[str, Any], text: str) -> None:
    assert str(mapping.money(node)) == text


@pytest.mark.parametrize("node", [money("NaN"), money("Infinity"), money("x"), money("1", exponent=99), money("1", exponent=-1)])
def test_money_in_another_form_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        mapping.money(node)


@given(st.integers(-(10**20), 10**20), st.integers(0, 4))
def test_money_keeps_every_minor_unit(minor: int, exponent: int) -> None:
    found = mapping.money(money(str(minor), "XXX", exponent))
    assert found.amount * 10**exponent == minor
    assert found.amount.as_tuple().exponent == -exponent


@pytest.mark.parametrize(
    ("text", "exponent", "amount"),
    [
        ("50", 2, "50.00"),
        (" 1,234,567.5 ", 2, "1234567.50"),
        ("-20.00", 2, "-20.00"),
        ("0.005", 2, "0.005"),
        ("1500.00", 0, "1500"),
        ("9" * 40, 2, "9" * 40),
    ],
)
def test_plain_amount_has_the_places_of_its_currency_and_loses_none(text: str, exponent: int, amount: str) -> None:
    assert str(mapping.plain_amount(text, exponent)) == amount


@pytest.mark.parametrize("text", ["", "1.234,50", "12,34", "NaN", "1e5", "$5", "\u0665"])
def test_plain_amount_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        mapping.plain_amount(text, 2)


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=2))
def test_separators_of_thousands_change_nothing(amount: Decimal) -> None:
    assert mapping.plain_amount(f"{amount:,f}", 2) == mapping.plain_amount(f"{amount:f}", 2) == amount


# -- ids and times -----------------------------------------------------------------------------------------------------------------


@given(st.uuids(), st.integers(0, 10**19).map(str), st.sampled_from(["Invoice", "Customer", "InvoicePayment"]))
def test_ids_go_out_and_back(uuid: Any, number: str, kind: str) -> None:
    assert mapping.business_uuid(mapping.node_id(str(uuid))) == str(uuid)
    assert mapping.record_number(mapping.node_id(str(uuid), kind, number), kind) == number


@given(st.none() | st.integers() | st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_no_id_raises(given_id: Any) -> None:
    assert mapping.business_uuid(given_id) == ""
    number = mapping.record_number(given_id, "Invoice")
    assert number == "" or number == str(given_id).strip()


@pytest.mark.parametrize("text", ["2026-11-20T12:00:00.000Z", "2026-11-20T12:00:00", "2026-11-20T14:00:00+02:00"])
def test_moments_are_utc(text: str) -> None:
    assert mapping.moment(text) == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert mapping.moment(text).tzinfo is UTC


def test_days_stay_days() -> None:
    assert [mapping.day(text) for text in ("2026-11-20", "2026-11-20T23:59:59Z", None, "")] == [
        date(2026, 11, 20),
        date(2026, 11, 20),
        None,
        None,
    ]
