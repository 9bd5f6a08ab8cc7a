from decimal import Decimal
from typing import Any

import pytest
from graphql import GraphQLError

from integrations.core.errors import ConnectorError, Rejected, Transient
from integrations.core.records import READ_MOST, Asked
from integrations.sandbox.server import Fault
from integrations.sandbox.wave_graphql import View, failure, refusal
from tests.wave_story import Story, number


def invoices(story: Story, count: int) -> list[Asked]:
    """Let there be so many invoices, each of a customer of its own, with a payment; return what asks for them."""
    asked = []
    for place in range(count):
        customer = story.wave.add_customer(story.business, f"Customer {place}")
        invoice = story.wave.add_invoice(customer, f"INV-{place}", total="100.00", status="SENT")
        story.wave.pay(invoice, f"{place + 1}.00")
        asked.append(Asked(number(invoice), number(customer)))
    return asked


@pytest.mark.parametrize("count", [1, 2, READ_MOST])
def test_many_are_read_in_one_request_as_each_would_be_alone(story: Story, count: int) -> None:
    asked = [*invoices(story, count - 1), Asked(customer=number(story.customer))]
    alone = [story.source().read(invoice=one.invoice, customer=one.customer) for one in asked]
    before = story.asked()
    assert story.source().read_many(asked) == alone
    assert story.asked() - before == 1


def test_one_customer_of_many_invoices_is_asked_for_once(story: Story) -> None:
    wanted = [number(story.wave.add_invoice(story.customer, f"INV-{place}", total="10.00", status="SENT")) for place in range(3)]
    asked = [Asked(wanted[0], number(story.customer)), Asked(wanted[1], number(story.customer)), Asked(wanted[2]), Asked(wanted[2])]
    bodies: list[Any] = []
    source = story.source()
    send = source.api.session.request
    source.api.session.request = lambda *args, **more: bodies.append(more["json"]) or send(*args, **more)  # type: ignore[method-assign, func-returns-value]
    found = source.read_many(asked)
    assert sorted(bodies[0]["variables"]) == ["business", "c0", "i0", "i1", "i2"]
    assert len(bodies) == 1
    assert found == [story.source().read(invoice=one.invoice, customer=one.customer) for one in asked]


def test_what_is_gone_is_none_in_its_own_place(story: Story) -> None:
    there, gone = invoices(story, 2)
    story.wave.delete_invoice(next(node for node in story.wave.invoices if number(node) == gone.invoice))
    story.wave.delete_customer(next(node for node in story.wave.customers if number(node) == gone.customer))
    assert story.source().read_many([gone, there]) == [
        story.source().read(invoice=one.invoice, customer=one.customer) for one in (gone, there)
    ]


def test_an_error_of_one_record_stands_in_its_place(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = invoices(story, 4)
    ordinary = View.invoice

    def odd(view: View, row: Any) -> dict[str, Any]:
        if row.number == asked[1].invoice:
            raise GraphQLError("oops", extensions={"code": "INTERNAL_SERVER_ERROR"})
        shown = ordinary(view, row)
        if row.number == asked[2].invoice:
            shown["amountPaid"] = {"minorUnitValue": Decimal(1), "currency": {"code": "USD", "exponent": 99}}
        return shown

    alone = [story.source().read(invoice=one.invoice) for one in asked]
    monkeypatch.setattr(View, "invoice", odd)
    found = story.source().read_many([Asked(one.invoice) for one in asked])
    assert [found[0], found[3]] == [alone[0], alone[3]]
    assert [(type(one), getattr(one, "code", "")) for one in found[1:3]] == [(Transient, "server_error"), (Rejected, "schema_drift")]


def test_an_error_deep_in_one_record_is_not_taken_for_its_end(story: Story) -> None:
    asked = invoices(story, 2)
    error = {**failure("NOT_FOUND", "Node could not be found."), "path": ["business", "i0", "customer"]}
    body = {"errors": [error], "data": {"business": {"id": story.business, "name": "Acme", "i0": None, "i1": None}}}
    story.wave.faults.append(Fault("status", status=200, body=body))
    first, second = story.source().read_many([Asked(one.invoice) for one in asked])
    assert (type(first), getattr(first, "code", ""), getattr(second, "invoice", "")) == (Transient, "unknown_error", None)


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault("status", status=503), Transient, "server_error"),
        (Fault("status", status=429), Transient, "rate_limited"),
        (Fault("status", status=200, body=refusal("INTERNAL_SERVER_ERROR", "oops")), Transient, "server_error"),
        (Fault("status", status=200, body=refusal("BAD_USER_INPUT", "no")), Rejected, "schema_drift"),
        (Fault("status", status=200, body=refusal("TOO_COMPLEX", "no")), Transient, "unknown_error"),
        (Fault("status", status=200, body={"data": {"business": None}}), Transient, "business_missing"),
        (Fault("cut"), Transient, "bad_answer"),
    ],
)
def test_an_error_that_names_no_record_is_everybodys(story: Story, fault: Fault, error: type[ConnectorError], code: str) -> None:
    asked = invoices(story, 2)
    story.wave.faults.append(fault)
    with pytest.raises(error) as caught:
        story.source().read_many(asked)
    assert (type(caught.value), caught.value.code) == (error, code)


def test_an_answer_that_leaves_a_record_out_does_not_say_that_it_is_gone(story: Story) -> None:
    asked = invoices(story, 2)
    story.wave.faults.append(Fault("status", status=200, body={"data": {"business": {"id": story.business, "name": "A", "i1": None}}}))
    first, second = story.source().read_many([Asked(one.invoice) for one in asked])
    assert (getattr(first, "code", ""), getattr(second, "invoice", "")) == ("schema_drift", None)


def test_more_than_a_page_of_open_invoices_turns_further_pages(story: Story) -> None:
    for place in range(101):
        story.wave.add_invoice(story.customer, f"INV-{place}", total=f"{place + 1}.00", status="SENT")
    asked = [*invoices(story, 1), Asked(customer=number(story.customer))]
    before = story.asked()
    found = story.source().read_many(asked)
    assert [len(getattr(one, "open_invoices", ())) for one in found] == [1, 101]
    assert story.asked() - before == 2
