"""Money is compared per customer and currency, to the cent, and never added across currencies."""

from collections.abc import Mapping
from decimal import Decimal

import pytest

from integrations.core.agreement import Account, Agreement, Due, Sums, agreements, without
from integrations.core.records import Money

DESK = ("desk",)


def money(amount: str, currency: str = "USD") -> Money:
    return Money(Decimal(amount), currency)


def due(number: str, amount: str, currency: str = "USD", *, opened: bool = True, **held: str | None) -> Due:
    shown = {route: None if value is None else Decimal(value) for route, value in held.items()}
    return Due(number, money(amount, currency), opened, shown)


def account(
    outstanding: Money | None, *invoices: Due, held: Mapping[str, str] | None = None, routes: tuple[str, ...] = ("desk",)
) -> Account:
    return Account(outstanding, {route: Decimal(value) for route, value in (held or {}).items()}, invoices, routes)


def only(account: Account) -> Agreement:
    [found] = agreements(account)
    return found


def test_everything_the_same_agrees() -> None:
    found = only(account(money("30.00"), due("1", "10.00", desk="10.00"), due("2", "20.00", desk="20.0"), held={"desk": "30"}))
    assert found == Agreement("USD", False, Decimal("30.00"), Decimal("30.00"), {"desk": Sums(Decimal(30), Decimal("30.0"))}, ())
    assert found.agrees


@pytest.mark.parametrize(
    "differing",
    [
        account(money("30.01"), due("1", "30.00", desk="30.00"), held={"desk": "30.01"}),
        account(money("30.00"), due("1", "30.00", desk="30.01"), held={"desk": "30.00"}),
        account(money("30.00"), due("1", "30.00", desk="30.00"), held={"desk": "29.99"}),
        account(money("30.00"), due("1", "30.00"), held={"desk": "30.00"}),
        account(money("0.00"), due("1", "0.00", opened=False, desk="5.00"), held={"desk": "0.00"}),
    ],
    ids=["outstanding", "an invoice", "the customer's object", "an open invoice that is missing there", "a paid one still shown as due"],
)
def test_one_cent_anywhere_is_a_disagreement(differing: Account) -> None:
    assert not only(differing).agrees


def test_what_a_destination_does_not_show_is_not_compared() -> None:
    assert only(account(money("30.00"), due("1", "30.00", desk=None))).agrees
    assert only(account(money("30.00"), due("1", "30.00"), routes=())).agrees


def test_a_route_that_is_left_out_hides_nothing_of_the_others() -> None:
    whole = account(
        money("30.00"), due("1", "30.00", desk="1.00", board="2.00"), held={"desk": "1.00", "board": "2.00"}, routes=("desk", "board")
    )
    left = only(without(whole, {"desk"}))
    assert (left.held, left.agrees) == ({"board": Sums(Decimal("2.00"), Decimal("2.00"))}, False)
    assert only(without(whole, {"desk", "board"})).agrees
    assert without(whole, set()) == whole


def test_drafts_count_in_no_sum() -> None:
    assert only(account(money("10.00"), due("1", "10.00", desk="10.00"), due("2", "99.00", opened=False, desk="99.00"))).agrees


def test_two_currencies_are_listed_as_mixed_and_compared_invoice_by_invoice() -> None:
    mixed = account(
        money("17.00", "USD"), due("1", "10.00", "USD", desk="10.00"), due("2", "7.00", "EUR", desk="7.01"), held={"desk": "17.00"}
    )
    euros, dollars = agreements(mixed)
    assert (euros.currency, euros.mixed, euros.outstanding, euros.invoices, euros.agrees) == ("EUR", True, None, ("2",), False)
    assert (dollars.currency, dollars.mixed, dollars.open_sum, dollars.agrees) == ("USD", True, Decimal("10.00"), True)


def test_a_customer_who_owes_nothing_agrees_with_what_shows_nothing() -> None:
    assert only(account(money("0.00"), held={"desk": "0.00"})).agrees
    assert agreements(account(None)) == []


def test_nothing_outstanding_does_not_make_a_second_currency() -> None:
    found = only(account(money("0.00", "USD"), due("1", "5.00", "EUR", desk="5.00"), held={"desk": "0.00"}))
    assert (found.currency, found.mixed, found.agrees) == ("EUR", False, True)
