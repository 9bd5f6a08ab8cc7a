"""A reconcile's report as values, as CSV that no spreadsheet takes for formulas, and in one line."""

import csv
import re
from typing import Any

import pytest

from integrations import report
from integrations.models import Connection, Disagreement, Finding, Route, Sweep
from tests.fakes import MODIFIED

pytestmark = pytest.mark.django_db
HELD = {"wave-to-zendesk": {"customer": "-5.00", "invoices": ""}}


@pytest.fixture
def sweep(source: Connection, to_zendesk: Route) -> Sweep:
    values = {"source": source, "purpose": "reconcile", "state": "done", "figures": {"customer": 1, "invoice": 2}}
    return Sweep.objects.create(
        **values, created_at=MODIFIED, due_at=MODIFIED, ended_at=MODIFIED, today=MODIFIED.date(), zone="Europe/Berlin"
    )


def finding(sweep: Sweep, route: Route, title: str, **more: Any) -> Finding:
    values = {"kind": "invoice", "key": f"wave:b:invoice:{title}", "reason": "drifted", "fields": ["due", "status"]}
    return Finding.objects.create(sweep=sweep, route=route, title=title, **{**values, **more})


def disagreement(sweep: Sweep, title: str, **more: Any) -> Disagreement:
    values = {"customer_key": "wave:b:customer:7", "currency": "EUR", "outstanding": "-5.00", "open_sum": "1200.50", "held": HELD}
    return Disagreement.objects.create(sweep=sweep, title=title, **{**values, **more})


def table(sweep: Sweep) -> list[list[str]]:
    return list(csv.reader(report.as_csv([report.report(sweep)]).splitlines()))


def test_the_whole_report(sweep: Sweep, to_zendesk: Route) -> None:
    finding(sweep, to_zendesk, "INV-1")
    disagreement(sweep, "Ada")
    assert report.report(sweep) == {
        "id": sweep.pk,
        "source": "wave-main",
        "route": None,
        "dry_run": False,
        "state": "done",
        "problem": "",
        "left_out": {},
        "day": "2026-05-04",
        "zone": "Europe/Berlin",
        "began": "2026-05-04T12:00:00+00:00",
        "ended": "2026-05-04T12:00:00+00:00",
        "records": {"customer": 1, "invoice": 2},
        "by_reason": {"drifted": 1},
        "differing": 1,
        "repairs": 0,
        "repairs_because_a_webhook_was_missed": 0,
        "for_people": 0,
        "disagreements": 1,
        "left_to_jobs": 0,
        "mixed": 0,
        "findings": [
            {
                "route": "wave-to-zendesk",
                "kind": "invoice",
                "key": "wave:b:invoice:INV-1",
                "title": "INV-1",
                "reason": "drifted",
                "means": "edited at the destination",
                "fields": ["due", "status"],
                "job": None,
                "repair": "",
            }
        ],
        "money": [
            {
                "key": "wave:b:customer:7",
                "title": "Ada",
                "currency": "EUR",
                "mixed": False,
                "agrees": False,
                "outstanding": "-5.00",
                "open_sum": "1200.50",
                "held": HELD,
                "invoices": [],
            }
        ],
    }


@pytest.mark.parametrize(
    "title",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\N{NO-BREAK SPACE}=1",
        "\N{FULLWIDTH EQUALS SIGN}1",
        '=HYPERLINK("x")',
    ],
)
def test_what_a_spreadsheet_would_take_for_a_formula_begins_with_an_apostrophe(sweep: Sweep, to_zendesk: Route, title: str) -> None:
    finding(sweep, to_zendesk, title, key="wave:b:invoice:1")
    disagreement(sweep, title)
    text = report.as_csv([report.report(sweep)])
    rows = list(csv.reader(text.split("\r\n")[1:])) if "\r=" not in title and "\n" not in title else []
    assert text.count(f"'{title}".replace('"', '""')) == 2
    assert all(cell[:1] not in ("=", "@", "+", "\t", "\r") for row in rows for cell in row)


@pytest.mark.parametrize("title", ["x;=1+1", 'x";=1+1', 'x; "=1+1', "x;;\N{FULLWIDTH EQUALS SIGN}1", "x;@SUM(A1);-1"])
def test_no_cell_is_taken_for_a_formula_where_a_spreadsheet_splits_at_semicolons(sweep: Sweep, to_zendesk: Route, title: str) -> None:
    finding(sweep, to_zendesk, title, key="wave:b:invoice:1")
    disagreement(sweep, title)
    text = report.as_csv([report.report(sweep)])
    cells = [cell for line in text.splitlines() for cell in line.split(";")]
    assert len(cells) > 3 and [cell for cell in cells if cell.lstrip(' "')[:1] in report.FORMULAS] == []
    assert all(cell[:1] == cell[-1:] == '"' for line in text.splitlines() for cell in re.split(r',(?=")', line))


@pytest.mark.parametrize("title", ["Ada & Sons", "A-1", "3 = three", "O'Neill", "Müller"])
def test_ordinary_names_stay_as_they_are(sweep: Sweep, to_zendesk: Route, title: str) -> None:
    finding(sweep, to_zendesk, title, key="wave:b:invoice:1")
    assert table(sweep)[1][4] == title


def test_amounts_stay_numbers_negative_ones_too(sweep: Sweep) -> None:
    disagreement(sweep, "Ada")
    row = dict(zip(report.HEADER, table(sweep)[1], strict=True))
    assert (row["outstanding"], row["open invoices"], row["shown"]) == ("-5.00", "1200.50", "wave-to-zendesk: -5.00 / -")


def test_several_reports_are_one_table_with_one_header(sweep: Sweep, to_zendesk: Route) -> None:
    finding(sweep, to_zendesk, "INV-1")
    told = report.report(sweep)
    rows = list(csv.reader(report.as_csv([told, told]).splitlines()))
    assert [row[0] for row in rows] == ["what", "record", "record"]


def test_a_record_counts_once_however_many_reasons_it_has(sweep: Sweep, to_zendesk: Route, to_jira: Route) -> None:
    for route, reason in ((to_zendesk, "missed"), (to_zendesk, "drifted"), (to_jira, "lost")):
        finding(sweep, route, "INV-1", reason=reason, job_id=None if reason == "lost" else sweep.source.uuid)
    counted = report.figures(sweep)
    names = ("differing", "repairs", "repairs_because_a_webhook_was_missed", "for_people")
    assert [counted[name] for name in names] == [2, 1, 1, 1]


def test_in_words(sweep: Sweep, to_zendesk: Route) -> None:
    finding(sweep, to_zendesk, "INV-1", reason="missed", job_id=sweep.source.uuid)
    disagreement(sweep, "Ada", mixed=True)
    told = report.in_words(report.report(sweep))
    assert told == (
        "1 customer and 2 invoices: 1 sent for repair (1 because a webhook was missed), the money of 1 customer differs, 1 mixed"
    )
