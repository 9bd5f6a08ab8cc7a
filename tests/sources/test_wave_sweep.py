from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from integrations.core import paging
from integrations.core.errors import Rejected, Transient
from integrations.core.records import Swept
from integrations.sandbox.server import Fault
from integrations.sandbox.wave_graphql import View
from tests.wave_story import NOW, UUID, Story, number

LONG_AGO = paging.BEGINNING


def customers(story: Story, count: int) -> None:
    """Let there be so many customers."""
    for place in range(1, count):
        story.wave.add_customer(story.business, f"Customer {place}")


def key(kind: str, node: str) -> str:
    return f"wave:{UUID}:{kind}:{number(node)}"


@pytest.mark.parametrize(("records", "requests"), [(99, 1), (100, 1), (250, 3), (1000, 10)])
def test_a_sweep_of_customers_costs_one_request_per_page(story: Story, records: int, requests: int) -> None:
    customers(story, records)
    seen = [one.key for turned in paging.turn(story.source().sweep_customers, LONG_AGO) for one in turned.page.records]
    assert seen == [key("customer", node) for node in story.wave.customers]
    assert story.asked() == requests


@pytest.mark.parametrize(("records", "requests"), [(100, 1), (250, 3)])
def test_a_sweep_of_invoices_costs_one_request_per_page(story: Story, records: int, requests: int) -> None:
    for place in range(records):
        story.wave.add_invoice(story.customer, f"INV-{place}", total="10.00")
    seen = [one.key for turned in paging.turn(story.source().sweep_invoices, LONG_AGO) for one in turned.page.records]
    assert seen == [key("invoice", node) for node in story.wave.invoices]
    assert story.asked() == requests


def test_records_of_one_moment_are_all_swept_at_twice_the_price(story: Story) -> None:
    customers(story, 250)
    for row in story.wave.customers.values():
        row.modified_at = NOW
    turned = list(paging.turn(story.source().sweep_customers, LONG_AGO))
    assert {one.key for page in turned for one in page.page.records} == {key("customer", node) for node in story.wave.customers}
    assert story.asked() == 8


def test_a_sweep_brings_what_a_single_read_brings_but_payments(story: Story) -> None:
    invoice = story.wave.add_invoice(story.customer, "INV-7", total="120.00", status="SENT", po_number="PO-1")
    story.wave.pay(invoice, "50.00")
    read = story.source().read(invoice=number(invoice), customer=number(story.customer))
    assert read.invoice is not None
    assert read.customer is not None
    assert len(read.invoice.payments) == 1
    source = story.source()
    assert source.sweep_customers(LONG_AGO, 1) == Swept((read.customer,), False, read.business, NOW, read.today, previous="")
    listed = replace(read.invoice, payments=())
    assert source.sweep_invoices(LONG_AGO, 1) == Swept((listed,), False, read.business, NOW, read.today, previous="")


def test_a_page_tells_what_stands_just_before_it(story: Story) -> None:
    customers(story, 201)
    keys = [key("customer", node) for node in story.wave.customers]
    pages = [story.source().sweep_customers(LONG_AGO, page) for page in (1, 2, 3, 4)]
    assert [page.previous for page in pages] == ["", keys[99], keys[199], None]
    assert [page.more for page in pages] == [True, True, False, False]


def test_only_what_was_modified_after_a_moment_is_swept_and_counted(story: Story) -> None:
    story.wave.add_invoice(story.customer, "INV-1", total="10.00")
    later = story.wave.add_invoice(story.customer, "INV-2", total="10.00")
    at = story.wave.invoices[later].modified_at - timedelta(milliseconds=1)
    source = story.source()
    assert [one.number for one in source.sweep_invoices(at, 1).records] == ["INV-2"]
    before = story.asked()
    assert [source.counts(LONG_AGO), source.counts(at)] == [{"customer": 1, "invoice": 2}, {"customer": 0, "invoice": 1}]
    assert story.asked() - before == 2


def test_a_record_in_another_form_is_named_and_the_others_are_read(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    customers(story, 150)
    poison = [list(story.wave.customers)[place] for place in (20, 99, 100)]
    ordinary = View.customer

    def odd(view: View, row: Any) -> dict[str, Any]:
        shown = ordinary(view, row)
        return shown | {"overdueAmount": {"minorUnitValue": 0, "currency": {"code": "USD", "exponent": 99}}} if row.id in poison else shown

    monkeypatch.setattr(View, "customer", odd)
    turned = list(paging.turn(story.source().sweep_customers, LONG_AGO))
    read = {one.key for page in turned for one in page.page.records}
    named = {one for page in turned for one in page.page.unreadable}
    assert named == {key("customer", node) for node in poison}
    assert read | named == {key("customer", node) for node in story.wave.customers}


@pytest.mark.parametrize(
    ("kind", "member"), [("customer", "createdAt"), ("customer", "name"), ("invoice", "createdAt"), ("invoice", "customer")]
)
def test_a_record_that_fails_inside_wave_is_named_and_its_page_is_read_in_parts(
    story: Story, monkeypatch: pytest.MonkeyPatch, kind: str, member: str
) -> None:
    """An invoice of a list must not be null in Wave's schema: its failure takes the page with it."""
    customers(story, 150)
    for place, customer in enumerate(list(story.wave.customers)):
        story.wave.add_invoice(customer, f"INV-{place}", total="10.00", status="SENT")
    nodes = list(story.wave.customers if kind == "customer" else story.wave.invoices)
    poison = nodes[120]
    ordinary = getattr(View, kind)

    def fail(view: View, row: Any) -> Any:
        shown = ordinary(view, row)
        return shown | {member: None} if row.id == poison else shown

    monkeypatch.setattr(View, kind, fail)
    source = story.source()
    sweep: Any = source.sweep_customers if kind == "customer" else source.sweep_invoices
    turned = list(paging.turn(sweep, LONG_AGO))
    assert [one.key for page in turned for one in page.page.records] == [key(kind, node) for node in nodes if node != poison]
    assert [one for page in turned for one in page.page.unreadable] == [key(kind, poison)]
    assert story.asked() == 2 + 1 + 3  # two pages, the second once more as a list and in parts of twenty


def test_a_page_of_which_nothing_can_be_read_is_an_error_and_names_nobody(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = View.customer
    monkeypatch.setattr(View, "customer", lambda view, row: ordinary(view, row) | {"createdAt": None})
    with pytest.raises(Transient) as caught:
        story.source().sweep_customers(LONG_AGO, 1)
    assert caught.value.code == "server_error"


@pytest.mark.parametrize(
    ("body", "error", "code"),
    [
        ({"data": {"business": None}}, Transient, "bad_answer"),
        ({"data": {"business": {"page": None}}}, Transient, "bad_answer"),
        ({"data": {"business": {"page": {"edges": [7]}}}}, Rejected, "schema_drift"),
    ],
)
def test_an_answer_in_another_form_is_an_error(story: Story, body: Any, error: type[Exception], code: str) -> None:
    story.wave.faults.append(Fault("status", status=200, body=body))
    with pytest.raises(error) as caught:
        story.source().sweep_invoices(LONG_AGO, 1)
    assert getattr(caught.value, "code", "") == code


def test_counts_that_wave_does_not_tell_are_drift(story: Story) -> None:
    story.wave.faults.append(Fault("status", status=200, body={"data": {"business": {"customers": {"pageInfo": {"totalCount": None}}}}}))
    with pytest.raises(Rejected) as caught:
        story.source().counts(LONG_AGO)
    assert caught.value.code == "schema_drift"
