from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from integrations.core import mapping
from integrations.core.context import NAMES
from integrations.core.errors import Misconfigured, Unmappable
from integrations.core.ports import FieldRule

CONTEXT: dict[str, dict[str, Any]] = {
    "customer": {"name": "Bright & <Bikes>", "email": "", "archived": False, "open_invoices": "INV-1: 5 USD\nINV-2: 4 USD"},
    "invoice": {"total": Decimal("1234.50"), "due_on": date(2026, 11, 20), "number": "INV-7", "status": "SENT", "memo": "x" * 500},
    "nothing": {"at_all": None, "count": 3},
    "trace": {"synced_at": "2026-11-20T12:00:00Z", "job_id": "job-1"},
}


def rule(template: str, target: str = "target", kind: str = "invoice") -> FieldRule:
    return FieldRule(kind, target, template)


def value(template: str, context: dict[str, dict[str, Any]] | None = None) -> Any:
    compared, sent_along = mapping.fill([rule(template)], context or CONTEXT)
    return {**compared, **sent_along}["target"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ invoice.total }}", Decimal("1234.50")),
        ("  {{ invoice.due_on }}\n", date(2026, 11, 20)),
        ("{{ customer.archived }}", False),
        ("{{ nothing.count }}", 3),
        ("{{ nothing.at_all }}", None),
        ("{{ customer.name }}", "Bright & <Bikes>"),
        ('{{ nothing.at_all|default_if_none:"none" }}', "none"),
        ("{{ customer.open_invoices|lines|length }}", 2),
        ("", ""),
        ("plain text", "plain text"),
        ("{# a comment #}", ""),
        ("Due {{ invoice.due_on }} of {{ invoice.total }}{{ nothing.at_all }}", "Due 2026-11-20 of 1234.50"),
        ("{{ customer.name|upper }}!", "BRIGHT & <BIKES>!"),
        ('{{ invoice.due_on|date:"j F Y" }}.', "20 November 2026."),
        ("{{ invoice.due_on|date }}.", "2026-11-20."),
        ("{{ nothing.at_all|date }}.", "."),
        ("{{ invoice.total|floatformat:1 }}", "1234.5"),
        ("{{ customer.archived|yesno:'gone,here' }}", "here"),
        ("{{ customer.open_invoices|lines|join:'; ' }}", "INV-1: 5 USD; INV-2: 4 USD"),
        ("{{ customer.email|default:invoice.number }}", "INV-7"),
        ("{{ invoice.memo|truncatechars:5 }}", "xxxx…"),
        ("{% if invoice.status == 'PAID' %}paid{% elif invoice.total > 1000 %}big{% else %}small{% endif %}", "big"),
        (
            "{% for line in customer.open_invoices|lines %}{{ forloop.counter }}. {{ line }} {% endfor %}",
            "1. INV-1: 5 USD 2. INV-2: 4 USD ",
        ),
        ("{% for line in customer.email|lines %}{{ line }}{% empty %}none{% endfor %}", "none"),
    ],
)
def test_template_gives_value(template: str, expected: Any) -> None:
    found = value(template)
    assert (found, type(found)) == (expected, type(expected))


def test_rules_that_mention_the_trace_are_sent_along_and_not_compared() -> None:
    rules = [
        rule("{{ invoice.number }}", "number"),
        rule("{{ trace.job_id }}", "job"),
        rule("{% if invoice.total %}at {{ trace.synced_at }}{% endif %}", "when"),
        rule("a backtrace. of nothing", "words"),
    ]
    assert mapping.fill(rules, CONTEXT) == (
        {"number": "INV-7", "words": "a backtrace. of nothing"},
        {"job": "job-1", "when": "at 2026-11-20T12:00:00Z"},
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ customer.nmae }}", 'unknown name "customer.nmae" (did you mean "customer.name"?)'),
        ("{{ customer }}", 'unknown name "customer"'),
        ("{{ customer.name.upper }}", 'unknown name "customer.name.upper" (did you mean "customer.name"?)'),
        ("{% if customer.emial %}x{% endif %}", 'unknown name "customer.emial" (did you mean "customer.email"?)'),
        ("{% if not customer.name and customer.nam %}x{% endif %}", 'unknown name "customer.nam" (did you mean "customer.name"?)'),
        ("{{ customer.name|default:customer.nam }}", 'unknown name "customer.nam" (did you mean "customer.name"?)'),
        ("{% for line in lines %}{{ line }}{% endfor %}", 'unknown name "lines"'),
        ("{% for line in line %}{{ line }}{% endfor %}", 'unknown name "line"'),
        ("{% for line in customer.name %}{% endfor %}{{ line }}", 'unknown name "line"'),
        ("{% for line in customer.name %}{{ line.upper }}{% endfor %}", 'unknown name "line.upper"'),
        ("{{ invoice.total }}", 'unknown name "invoice.total"'),
        ("{{ customer.name|ljust:9 }}", 'unknown filter "ljust"'),
        ("{{ customer.name|trunctechars:9 }}", 'unknown filter "trunctechars" (did you mean "truncatechars"?)'),
        ("{{ customer.name|safe }}", 'unknown filter "safe"'),
        ("{% load l10n %}", 'unknown tag "load": known are if, for'),
        ("{% include 'x' %}", 'unknown tag "include": known are if, for'),
        ("{% extends 'x' %}", 'unknown tag "extends": known are if, for'),
        ("{% verbatim %}x{% endverbatim %}", 'unknown tag "verbatim": known are if, for'),
        ("{% if customer.name %}{% endfi %}", 'unknown tag "endfi" (did you mean "endif"?): known are if, for, elif, else, endif'),
        (
            "{% for a in customer.name %}{% for b in customer.name %}{% endfor %}{% endfor %}",
            '"for" inside "for" is not possible in a mapping',
        ),
        ("{% if 1 %}" * 5000, "the template is nested too deeply"),
        ("x" * 65_537, "the template is longer than 65536 characters"),
    ],
)
def test_check_names_the_mistake(template: str, message: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        mapping.check("customer", template)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("template", ["{{ }}", "{% if %}{% endif %}", "{{ customer.name|date:1:2 }}", "{{ customer._x }}", "{% for x %}"])
def test_check_refuses_what_django_cannot_read(template: str) -> None:
    with pytest.raises(Misconfigured):
        mapping.check("customer", template)


def test_check_refuses_an_unknown_kind() -> None:
    with pytest.raises(Misconfigured, match='unknown kind "invioce"'):
        mapping.check("invioce", "x")


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_check_takes_every_name_of_its_kind(kind: str) -> None:
    mapping.check(kind, "".join(f"{{{{ {name} }}}}" for name in sorted(NAMES[kind])))


def test_loop_variables_are_known_inside_the_loop() -> None:
    mapping.check("customer", "{% for line in customer.recent_changes|lines %}{{ forloop.counter }} {{ line|upper }}{% endfor %}")


def test_output_is_cut_while_it_is_made() -> None:
    body = "y" * 1000
    assert value(f"{{% for letter in invoice.memo %}}{body}{{{{ letter }}}}{{% endfor %}}") == ((body + "x") * 500)[:65_536]


def test_a_long_value_is_cut() -> None:
    assert value("{{ invoice.memo }}", {"invoice": {"memo": "x" * 70_000}}) == "x" * 65_536


def test_chained_joins_stay_small() -> None:
    assert len(value("{{ invoice.memo|join:invoice.memo|join:invoice.memo|join:invoice.memo }}")) == 65_536


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ payment.amount }}", 'field mapping invoice target: unknown name "payment.amount"'),
        ("{{ invoice.total|nope }}", 'field mapping invoice target: unknown filter "nope"'),
        ("{{ nothing.count|first }}", "field mapping invoice target: its template cannot work with this record (TypeError)"),
        (
            "{{ invoice.total|floatformat:9999999 }}",
            "field mapping invoice target: its template cannot work with this record (ValueError)",
        ),
    ],
)
def test_fill_names_the_row_that_cannot_work(template: str, message: str) -> None:
    with pytest.raises(Unmappable) as caught:
        value(template)
    assert str(caught.value) == message


def test_a_moment_would_be_shown_as_iso() -> None:
    assert value("at {{ x.y }}", {"x": {"y": datetime(2026, 11, 20, 12, tzinfo=UTC)}}) == "at 2026-11-20T12:00:00+00:00"
