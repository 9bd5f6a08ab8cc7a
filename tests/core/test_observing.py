"""Values are one in every form that a vendor gives back, and a cent is a difference."""

import re
import unicodedata
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.core.observing import amount_target, number, same_day, same_moment, same_number, same_text
from integrations.core.ports import FieldRule

CENTS = st.decimals(min_value=-10_000_000, max_value=10_000_000, places=2)


@given(CENTS)
def test_an_amount_is_itself_as_number_text_and_double_of_any_precision(amount: Decimal) -> None:
    forms: list[Any] = [amount, float(amount), str(amount), f"{amount:.4f}", f" {amount} ", f"{amount:E}"]
    assert [form for form in forms if not same_number(str(amount), form)] == []
    assert {number(form) for form in forms} == {amount}


@given(CENTS, st.sampled_from([Decimal("0.01"), Decimal("-0.01")]))
def test_a_cent_is_a_difference(amount: Decimal, cent: Decimal) -> None:
    assert not same_number(str(amount), float(amount + cent)) and not same_number(amount, str(amount + cent))


@pytest.mark.parametrize(
    ("wanted", "held", "same"),
    [(None, None, True), (None, "", True), ("0.00", None, False), (None, 0, False), (3, "3", True), ("x", "x", True), (1, True, False)],
)
def test_an_empty_number_is_not_nought(wanted: Any, held: Any, same: bool) -> None:
    assert same_number(wanted, held) is same


@given(st.text())
def test_a_text_is_itself_with_other_line_ends_blanks_around_it_and_decomposed_letters(words: str) -> None:
    # A line end that is \r\n already stays one.
    other = unicodedata.normalize("NFD", re.sub(r"\r\n|\r|\n", "\r\n", f"  {words}\n"))
    assert same_text(words, other)


@pytest.mark.parametrize(
    ("wanted", "held", "same"),
    [
        (None, "", True),
        ("", None, True),
        ("Acme", "ACME", False),
        ("a b", "a  b ", True),
        ("a\nb", "a b", False),
        ("12", 12, True),
        (True, "true", True),
        (Decimal("1.50"), "1.50", True),
        ("1.50", "1.5", False),
    ],
)
def test_texts(wanted: Any, held: Any, same: bool) -> None:
    assert same_text(wanted, held) is same


@given(st.dates())
def test_a_day_is_itself_with_any_time_behind_it(shown: date) -> None:
    assert same_day(shown.isoformat(), f"{shown.isoformat()}T00:00:00+00:00") and same_day(shown, shown.isoformat())
    assert not same_day(shown.isoformat(), None) and not same_day(None, shown.isoformat())


def test_a_moment_is_itself_in_every_zone() -> None:
    assert same_moment("2026-11-01T10:00:00.000+0100", "2026-11-01T09:00:00.000+0000")
    assert not same_moment("2026-11-01T10:00:00.000+0100", "2026-11-01T10:00:00.000+0000")
    assert same_moment(None, None) and not same_moment("2026-11-01T10:00:00.000+0100", None)


def test_the_amount_stands_where_a_template_shows_it_and_nothing_else() -> None:
    rules = [
        FieldRule("invoice", "name", "{{ invoice.number }} {{ invoice.due }}"),
        FieldRule("invoice", "total", "{{ invoice.total }}"),
        FieldRule("customer", "owed", "{{customer.outstanding}}"),
        FieldRule("invoice", "open", "{{  invoice.due }} "),
    ]
    assert [amount_target(rules, kind) for kind in ("invoice", "customer", "payment", "contact")] == ["open", "owed", "", ""]
