from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from integrations.core.errors import ConnectorError, Disconnected, Rejected, Transient
from integrations.core.ports import Check
from integrations.core.records import Address, Business, Changed, Customer, Invoice, Listing, Money, OpenInvoice, Payment, Snapshot
from integrations.sandbox.server import Fault
from integrations.sandbox.wave_graphql import View, refusal
from tests.wave_story import NOW, UUID, Story, number


def usd(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


def snapshot(**found: Any) -> Snapshot:
    return Snapshot(Business(UUID, "Acme Studio", "America/Toronto", "USD"), NOW, date(2026, 11, 20), **found)


def later(steps: int) -> datetime:
    """The stand-in's clock moves a millisecond with every change."""
    return NOW + timedelta(milliseconds=steps)


def customer(story: Story, *, outstanding: str, overdue: str) -> Customer:
    return Customer(
        key=f"wave:{UUID}:customer:{number(story.customer)}",
        name="Bright Bikes",
        modified_at=later(1),
        first_name="Ada",
        last_name="Byron",
        email="ada@bright.example",
        currency="USD",
        address=Address("1 Main St", "", "Toronto", "Ontario", "M5V", "Canada"),
        outstanding=usd(outstanding),
        overdue=usd(overdue),
        created_at=later(1),
    )


def test_one_request_brings_everything(story: Story) -> None:
    invoice = story.wave.add_invoice(
        story.customer, "INV-7", total="120.00", status="SENT", invoice_date="2026-10-01", due_date="2026-11-10"
    )
    story.wave.add_invoice(story.customer, "INV-8", total="999.00", status="DRAFT")
    story.wave.add_invoice(story.customer, "INV-9", total="300.00", status="SAVED", due_date="2026-12-24")
    payment = story.wave.pay(invoice, "50.00", "CHEQUE", "2026-11-19", memo="thanks")
    who = customer(story, outstanding="370.00", overdue="70.00")
    expected = snapshot(
        customer=who,
        open_invoices=(
            OpenInvoice("INV-9", "SAVED", usd("300.00"), date(2026, 12, 24)),
            OpenInvoice("INV-7", "PARTIAL", usd("70.00"), date(2026, 11, 10)),
        ),
        invoice=Invoice(
            key=f"wave:{UUID}:invoice:{number(invoice)}",
            number="INV-7",
            status="PARTIAL",
            customer=who,
            total=usd("120.00"),
            due=usd("70.00"),
            paid=usd("50.00"),
            issued_on=date(2026, 10, 1),
            due_on=date(2026, 11, 10),
            modified_at=later(5),
            created_at=later(2),
            title="Invoice",
            url=f"https://wave.example/invoices/{number(invoice)}",
            pdf_url=f"https://wave.example/invoices/{number(invoice)}.pdf",
            payments=(
                Payment(
                    key=f"wave:{UUID}:payment:{number(payment)}",
                    amount=usd("50.00"),
                    paid_on=date(2026, 11, 19),
                    method="CHEQUE",
                    state="SUCCEEDED",
                    memo="thanks",
                    created_at=later(5),
                ),
            ),
        ),
    )
    assert story.source().read(invoice=number(invoice), customer=number(story.customer)) == expected
    assert story.asked() == 1


def test_customer_alone_is_read(story: Story) -> None:
    found = story.source().read(customer=number(story.customer))
    assert found == snapshot(customer=customer(story, outstanding="0.00", overdue="0.00"), open_invoices=())


def test_what_is_gone_is_none_and_the_rest_is_there(story: Story) -> None:
    invoice = story.wave.add_invoice(story.customer, "INV-7", total="120.00")
    story.wave.delete_invoice(invoice)
    there = customer(story, outstanding="0.00", overdue="0.00")
    source = story.source()
    assert source.read(invoice=number(invoice), customer=number(story.customer)) == snapshot(customer=there, open_invoices=())
    assert source.read(invoice=number(invoice)) == snapshot()
    assert source.read(customer="404") == snapshot()
    assert source.read(invoice="404", customer="404") == snapshot()


def test_unknown_status_and_unknown_zone_are_tolerated(story: Story) -> None:
    invoice = story.wave.add_invoice(story.customer, "INV-7", total="120.00", status="WRITTEN_OFF")
    story.wave.change_business(story.business, timezone=None)
    found = story.source(fallback="Asia/Tokyo").read(invoice=number(invoice))
    assert found.invoice is not None
    assert (found.invoice.status, found.business.timezone, found.today) == ("WRITTEN_OFF", "Asia/Tokyo", date(2026, 11, 21))


@pytest.mark.parametrize(("with_money_due", "requests_made"), [(99, 1), (100, 1), (101, 2), (201, 3)])
def test_further_pages_are_read_only_while_money_is_due(story: Story, with_money_due: int, requests_made: int) -> None:
    for place in range(with_money_due):
        story.wave.add_invoice(story.customer, f"INV-{place}", total=f"{place + 1}.00", status="SENT")
    if with_money_due == 99:
        for place in range(150):
            story.wave.add_invoice(story.customer, f"PAID-{place}", total="0.00", status="PAID")
    found = story.source().read(customer=number(story.customer)).open_invoices or ()
    assert [line.due.amount for line in found] == [Decimal(place) for place in range(with_money_due, 0, -1)]
    assert story.asked() == requests_made


def test_invoice_of_a_payment_is_found(story: Story) -> None:
    invoice = story.wave.add_invoice(story.customer, "INV-7", total="120.00", status="SENT")
    payment = story.wave.pay(invoice, "50.00")
    assert [story.source().invoice_of_payment(wanted) for wanted in (number(payment), "404")] == [number(invoice), ""]


# -- which business ----------------------------------------------------------------------------------------------------------------


def test_business_may_be_given_by_its_graphql_id(story: Story) -> None:
    assert story.source(business_id=story.business).read() == snapshot()


def test_only_business_is_used_when_none_is_given(story: Story) -> None:
    archived = story.wave.add_business("Old Studio")
    story.wave.change_business(archived, is_archived=True)
    source = story.source(client_id="x")
    assert [source.read(), source.read()] == [snapshot(), snapshot()]
    assert story.asked() == 3


def test_two_businesses_need_a_choice(story: Story) -> None:
    story.wave.add_business("Second Studio")
    with pytest.raises(Rejected, match="2 businesses") as caught:
        story.source(client_id="x").read()
    assert caught.value.code == "business_missing"


def test_business_id_in_another_form_is_refused(story: Story) -> None:
    with pytest.raises(Rejected) as caught:
        story.source(business_id="12345").read()
    assert (caught.value.code, story.asked()) == ("business_missing", 0)


def test_business_that_cannot_be_found_is_tried_again(story: Story) -> None:
    with pytest.raises(Transient) as caught:
        story.source(business_id=UUID.replace("1", "2")).read()
    assert caught.value.code == "business_missing"


# -- failures ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault("status", status=503), Transient, "server_error"),
        (Fault("status", status=429), Transient, "rate_limited"),
        (Fault("status", status=200, body=refusal("INTERNAL_SERVER_ERROR", "oops")), Transient, "server_error"),
        (Fault("status", status=200, body=refusal("BAD_USER_INPUT", "no")), Rejected, "schema_drift"),
        (Fault("status", status=200, body={"data": {"business": {"invoice": {}}}}), Rejected, "schema_drift"),
        (Fault("status", status=200, body={"data": {"business": {}}}), Rejected, "schema_drift"),
        (Fault("html"), Transient, "bad_answer"),
        (Fault("cut"), Transient, "bad_answer"),
        (Fault("reset"), Transient, "no_answer"),
        (Fault("lost"), Transient, "no_answer"),
    ],
)
def test_failure_is_named_by_what_happens_next(story: Story, fault: Fault, error: type[ConnectorError], code: str) -> None:
    story.wave.faults.append(fault)
    with pytest.raises(error) as caught:
        story.source().read(invoice="7")
    assert caught.value.code == code


def test_dead_token_disconnects(story: Story) -> None:
    with pytest.raises(Disconnected):
        story.source(token="canary").read()


# -- ping --------------------------------------------------------------------------------------------------------------------------


def test_ping_proves_each_right(story: Story) -> None:
    assert story.source().ping() == [
        Check("user", True, "owner@sandbox.example"),
        Check("business", True, f"Acme Studio ({UUID})"),
        Check("customers", True),
        Check("invoices", True),
    ]


def test_ping_stops_at_a_dead_grant(story: Story) -> None:
    advice = "The grant is dead: press Connect again, or give a new token."
    assert story.source(token="canary").ping() == [Check("user", False, "disconnected", advice)]


def test_ping_advises_on_an_archived_business(story: Story) -> None:
    story.wave.change_business(story.business, is_archived=True)
    check = story.source().ping()[1]
    assert check == Check(
        "business", False, "the business is archived", "Set business_id to a business that the token reaches, or press Connect again."
    )


def test_ping_advises_on_a_business_that_is_not_granted(story: Story) -> None:
    found = story.source(business_id=UUID.replace("1", "2")).ping()[1]
    assert (found.ok, found.detail) == (False, "the token does not reach this business")


def test_ping_goes_on_after_a_failure(story: Story) -> None:
    story.wave.faults.append(Fault("status", status=503))
    assert [(check.name, check.ok) for check in story.source().ping()] == [
        ("user", False),
        ("business", True),
        ("customers", True),
        ("invoices", True),
    ]


# --- What changed -------------------------------------------------------------------------------------------------


def test_changes_are_listed_the_oldest_first_with_what_polling_compares(story: Story) -> None:
    invoice = story.wave.add_invoice(story.customer, "INV-1", total="10.00")
    story.wave.change_customer(story.customer, phone="+1 416 555 0199")
    customer = story.source().read(customer=number(story.customer)).customer
    assert customer is not None
    before = story.asked()
    assert story.source().changed_customers(NOW - timedelta(days=1), 1) == Listing(
        (Changed(customer.key, customer.modified_at, shown=customer.shown),), more=False
    )
    [listed] = story.source().changed_invoices(NOW - timedelta(days=1), 1).records
    assert (listed.key, listed.customer) == (f"wave:{UUID}:invoice:{number(invoice)}", customer.key)
    assert story.source().changed_customers(customer.modified_at, 1) == Listing((), more=False)
    assert story.asked() - before == 3


@pytest.mark.parametrize(("kind", "member"), [("customer", "name"), ("invoice", "customer")])
def test_a_record_that_fails_inside_wave_is_listed_with_the_others(
    story: Story, monkeypatch: pytest.MonkeyPatch, kind: str, member: str
) -> None:
    """Its page then tells ids and times only."""
    for count in range(3):
        story.wave.add_invoice(story.wave.add_customer(story.business, f"Customer {count}"), f"INV-{count}", total="10.00")
    nodes = list(story.wave.customers if kind == "customer" else story.wave.invoices)
    ordinary = getattr(View, kind)
    monkeypatch.setattr(View, kind, lambda view, row: ordinary(view, row) | ({member: None} if row.id == nodes[1] else {}))
    source = story.source()
    listed = (source.changed_customers if kind == "customer" else source.changed_invoices)(NOW - timedelta(days=1), 1)
    assert [one.key for one in listed.records] == [f"wave:{UUID}:{kind}:{number(node)}" for node in nodes]
    assert {(one.customer, one.shown) for one in listed.records} == {("", "")}
    assert story.asked() == 2


def test_a_line_in_another_form_is_named_and_the_others_are_listed(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in range(3):
        story.wave.add_invoice(story.customer, f"INV-{count}", total="10.00")
    nodes = list(story.wave.invoices)
    ordinary = View.invoice
    odd = {"customer": {"id": "another form"}}
    monkeypatch.setattr(View, "invoice", lambda view, row: ordinary(view, row) | (odd if row.id == nodes[1] else {}))
    listed = story.source().changed_invoices(NOW - timedelta(days=1), 1)
    keys = [f"wave:{UUID}:invoice:{number(node)}" for node in nodes]
    assert ([one.key for one in listed.records], listed.unreadable) == ([keys[0], keys[2]], (keys[1],))


def test_a_listing_of_which_no_line_can_be_read_is_drift(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in range(3):
        story.wave.add_invoice(story.customer, f"INV-{count}", total="10.00")
    ordinary = View.invoice
    monkeypatch.setattr(View, "invoice", lambda view, row: ordinary(view, row) | {"customer": {"id": "another form"}})
    with pytest.raises(Rejected) as caught:
        story.source().changed_invoices(NOW - timedelta(days=1), 1)
    assert caught.value.code == "schema_drift"


def test_a_listing_says_whether_more_pages_follow(story: Story) -> None:
    for count in range(101):
        story.wave.add_customer(story.business, f"Customer {count}")
    pages = [story.source().changed_customers(NOW - timedelta(days=1), page) for page in (1, 2, 3)]
    assert [(len(page.records), page.more) for page in pages] == [(100, True), (2, False), (0, False)]
    times = [one.modified_at for page in pages for one in page.records]
    assert times == sorted(times)
