"""Values on their way into Jira: the form of each field's type, and documents that the schema takes."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from integrations.core import mapping as templates
from integrations.core.errors import Unmappable
from integrations.destinations.jira import adf
from integrations.destinations.jira.adapter import SYSTEM
from integrations.destinations.jira.mapping import DEFAULTS, Fields, convert, custom_fields, field_type, stamp
from integrations.rules import checked_options
from integrations.sandbox.jira_adf import is_document

PREFIX = "com.atlassian.jira.plugin.system.customfieldtypes:"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "  two\nlines\x00 ", "two lines"),
        ("text", "x" * 300, "x" * 255),
        ("text", Decimal("1E+2"), "100"),
        ("text", 3, "3"),
        ("text", True, "true"),
        ("text", date(2026, 1, 2), "2026-01-02"),
        ("text", "\x00", None),
        ("summary", "a\r\nb", "a b"),
        ("number", Decimal("100.50"), Decimal("100.50")),
        ("number", " 12 ", Decimal("12")),
        ("date", date(2026, 1, 2), "2026-01-02"),
        ("date", "2026-01-02", "2026-01-02"),
        ("datetime", "2026-11-05T09:30:00Z", "2026-11-05T09:30:00.000+0000"),
        ("labels", "b a b", ["a", "b"]),
        ("option", "Red", {"value": "Red"}),
        ("name", "High", {"name": "High"}),
        ("textarea", "a\n\n b", adf.document([adf.paragraph(adf.text("a")), adf.paragraph(adf.text("b"))])),
        *(
            (kind, empty, None)
            for kind in ("text", "number", "date", "datetime", "labels", "option", "name", "textarea")
            for empty in ("", None)
        ),
    ],
)
def test_values_take_the_form_of_their_field(kind: str, value: Any, expected: Any) -> None:
    assert convert("invoice X", kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("number", "twelve", "no_number"),
        ("number", "NaN", "inexact"),
        ("number", "1e999", "inexact"),
        ("number", Decimal("0.12345678901234567890"), "inexact"),
        ("number", date(2026, 1, 2), "no_number"),
        ("date", "soon", "no_date"),
        ("datetime", "soon", "no_date"),
    ],
)
def test_what_the_field_cannot_take_is_unmappable_and_names_the_row(kind: str, value: Any, code: str) -> None:
    with pytest.raises(Unmappable, match=r"^invoice Wave total: ") as caught:
        convert("invoice Wave total", kind, value)
    assert (caught.value.code, caught.value.words) == (code, str(value))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "custom": f"{PREFIX}textarea"}, "textarea"),
        ({"type": "string", "custom": f"{PREFIX}textfield"}, "text"),
        ({"type": "number", "custom": f"{PREFIX}float"}, "number"),
        ({"type": "date"}, "date"),
        ({"type": "datetime"}, "datetime"),
        ({"type": "array", "items": "string"}, "labels"),
        ({"type": "option"}, "option"),
        ({"type": "any"}, "text"),
        ({}, "text"),
    ],
)
def test_a_fields_schema_is_read(schema: dict[str, Any], expected: str) -> None:
    assert field_type(schema) == expected


def test_custom_fields_are_remembered_in_the_order_of_their_making() -> None:
    listed: list[dict[str, Any]] = [
        {"id": "customfield_10100", "name": "B", "schema": {"type": "number"}},
        {"id": "summary", "name": "Summary"},
        {"id": "customfield_9999", "name": "b ", "schema": {"type": "date"}},
    ]
    rows = custom_fields(listed)
    assert rows == [{"id": "customfield_9999", "name": "b ", "type": "date"}, {"id": "customfield_10100", "name": "B", "type": "number"}]
    found = Fields(rows)
    names = ("B", "customfield_10100", "customfield_1", "C")
    assert [remote and remote.id for remote in map(found.find, names)] == ["customfield_9999", "customfield_10100", None, None]


def test_on_the_wire_amounts_are_numbers_and_nulls_are_kept_where_jira_takes_them() -> None:
    fields = Fields([{"id": "customfield_1", "name": "A", "type": "number"}])
    values = {"A": Decimal("100.10"), "duedate": None, "summary": None, "priority": None, "labels": ["x"], "gone": 1}
    assert fields.on_wire(values) == {"customfield_1": 100.1, "duedate": None}


def test_times_have_milliseconds_and_an_offset_without_colon() -> None:
    assert stamp(datetime(2021, 1, 17, 12, 34, tzinfo=UTC)) == "2021-01-17T12:34:00.000+0000"


@pytest.mark.parametrize("text", ["", "a", "\n\n", "a\x00\nb\ud800", "\x0b", "line\n" * 5000, "x" * 100_000])
def test_any_text_makes_a_valid_document_of_bounded_size(text: str) -> None:
    made = adf.document([*adf.paragraphs(text), adf.table([("Total", text), ("", "")])])
    assert is_document(made)
    assert len(adf.paragraphs(text)) <= adf.MOST_LINES


@pytest.mark.parametrize(
    ("href", "linked"), [("https://wave.example/1", True), ("javascript:alert(1)", False), ("", False), ("https://a b", False)]
)
def test_only_web_addresses_become_links(href: str, linked: bool) -> None:
    assert ("marks" in adf.link("Open", href)[0]) is linked


def test_text_is_read_back_from_any_shape() -> None:
    made = adf.document([adf.paragraph([*adf.text("a"), *adf.text("b")]), adf.paragraph(adf.text("c"))])
    assert adf.plain_text(made).split() == ["ab", "c"]
    assert [adf.plain_text(shape) for shape in (None, "text", {"content": None})] == ["", "", " "]


@pytest.mark.parametrize("row", DEFAULTS, ids=lambda row: f"{row.kind} {row.target}")
def test_each_default_is_a_mapping_that_can_be_saved_and_never_shows_the_state(row: Any) -> None:
    templates.check(row.kind, row.template)
    assert "status" not in row.template


def test_a_new_route_needs_only_a_project() -> None:
    expected = {
        "project": "BILL",
        "invoice_issue_type": "Task",
        "customer_issue_type": "Task",
        "payments": "worklog",
        "on_delete": "mark",
    }
    assert checked_options("jira", {"project": "BILL"}) == expected


def test_every_state_of_wave_has_a_status() -> None:
    names = {"To Do": {"DRAFT", "SAVED"}, "In Progress": {"UNPAID", "SENT", "VIEWED", "PARTIAL", "OVERDUE"}, "Done": {"PAID", "OVERPAID"}}
    assert {status: {state for state, given in SYSTEM.statuses.items() if given == status} for status in names} == names
