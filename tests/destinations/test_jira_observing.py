"""Issues read in bulk: which are found, what it costs, and what counts as drift."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from integrations.core.documents import Document, Observed, Value
from integrations.core.errors import Rejected, Transient
from integrations.core.ports import FieldRule, Plan
from integrations.core.records import Payment, key_digest, record_key
from integrations.destinations.jira import adf, observing
from integrations.destinations.jira.adapter import JiraDestination
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.mapping import Fields
from integrations.http import ApiClient
from integrations.sandbox.jira_adf import shown
from integrations.sandbox.server import Fault
from tests.jira_world import CONTRACT, CUSTOMER, INVOICE, PAYMENT, TRACE, CheckedSession, Token, World, check_body, plan, snapshot, world

LABEL = f"wave-inv-{key_digest(INVOICE.key)}"
REST = "https://acme.atlassian.net/rest/api/3"


@pytest.fixture
def jira() -> Iterator[World]:
    with world() as found:
        yield found


def ready(jira: World, given: Plan | None = None) -> JiraDestination:
    adapter = jira.route(given)
    adapter.prepare()
    return adapter


def id_of(jira: World, kind: str = "issue", key: str = INVOICE.key) -> str:
    return jira.bound[kind, key].remote_id


def drifts(jira: World, given: Plan | None = None) -> dict[str, frozenset[str]]:
    """Return what a run that knows the issue finds to differ, by kind of document."""
    adapter = ready(jira, given)
    found = {}
    for document in adapter.documents("invoice", snapshot(), TRACE):
        if document.kind in adapter.observes:
            seen = adapter.observe(adapter.observes[document.kind], {document.key: id_of(jira)})
            found[document.kind] = adapter.drift(document, seen[document.key])
    return found


def test_what_was_just_written_has_no_drift(jira: World) -> None:
    jira.bring()
    assert drifts(jira) == {"issue": frozenset(), "status": frozenset()}


def test_each_edit_by_hand_is_drift_of_that_field(jira: World) -> None:
    jira.bring()
    ids = {field.name: field.id for field in jira.site.fields.values()}
    due, number = ids["Wave due"], ids["Wave invoice number"]
    jira.site.edit(id_of(jira), **{due: 60.51, number: None, "duedate": "2026-12-02", "labels": ["wave", "urgent"]})
    jira.site.move_issue(id_of(jira), "Done")
    assert drifts(jira) == {"issue": {"Wave due", "Wave invoice number", "duedate", "labels"}, "status": {"status"}}


def test_an_amount_in_the_descriptions_table_is_drift_and_a_label_of_others_is_none(jira: World) -> None:
    jira.bring()
    issue = jira.site.issue("BILL-1")
    description = str(issue.values["description"]).replace("60.50 USD", "60.05 USD")
    jira.site.edit("BILL-1", description=ast.literal_eval(description), labels=[*issue.values["labels"], "urgent"])
    assert drifts(jira) == {"issue": {"description"}, "status": frozenset()}


def test_a_customers_issue_is_observed_likewise(jira: World) -> None:
    rules = (*plan().fields, FieldRule("customer", "Wave due", "{{ customer.outstanding }}"))
    given = replace(plan(), fields=rules)
    owing = replace(CUSTOMER, outstanding=INVOICE.due)
    jira.bring(given, invoice=None, customer=owing)
    adapter = ready(jira, given)
    [document] = adapter.documents("customer", snapshot(None, owing), TRACE)
    seen = adapter.observe("customer_issue", {document.key: id_of(jira, "customer_issue", CUSTOMER.key)})[document.key]
    assert (seen.amount, seen.children, adapter.drift(document, seen)) == (Decimal("60.5"), None, frozenset())
    jira.site.edit(seen.remote_id, summary="Another")
    assert adapter.drift(document, adapter.observe("customer_issue", {document.key: ""})[document.key]) == {"summary"}
    shown = [adapter.shows_amount(kind) for kind in ("customer_issue", "issue")]
    assert (shown, ready(jira).shows_amount("customer_issue")) == ([True, True], False)


# --- Reading


def test_a_hundred_known_issues_cost_one_call_that_asks_for_what_is_mapped_only(jira: World) -> None:
    jira.bring()
    adapter = ready(jira)
    jira.calls()
    wanted = {record_key("b1", "invoice", str(number)): str(20000 + number) for number in range(99)} | {INVOICE.key: id_of(jira)}
    found = adapter.observe("issue", wanted)
    assert (list(found), jira.calls()) == ([INVOICE.key], ["POST /issue/bulkfetch"])
    seen = found[INVOICE.key]
    names = {field.id: field.name for field in jira.site.fields.values()}
    assert {names.get(name, name) for name in seen.held} == {
        *("Summary", "Description", "Due date", "Labels", "status", "worklog"),
        *("Wave invoice id", "Wave invoice number", "Wave customer", "Wave total", "Wave paid", "Wave due", "Wave currency"),
        *("Wave synced at", "Wave job id"),
    }
    assert (seen.remote_id, seen.amount) == (id_of(jira), Decimal("60.5"))


def test_worklogs_come_along_as_long_as_they_come_whole(jira: World) -> None:
    jira.bring()
    children = [ready(jira).observe("issue", {INVOICE.key: id_of(jira)})[INVOICE.key].children]
    paid = tuple(Payment(record_key("b1", "payment", str(40 + n)), PAYMENT.amount, PAYMENT.paid_on, "CASH") for n in range(20))
    jira.bring(invoice=replace(INVOICE, payments=(PAYMENT, *paid)))
    children += [ready(jira).observe("issue", {INVOICE.key: id_of(jira)})[INVOICE.key].children]
    assert children == [{id_of(jira, "worklog", PAYMENT.key)}, None]


@pytest.mark.parametrize(("payments", "count"), [("comment", 1), ("off", None)])
def test_comments_come_along_where_payments_are_comments(jira: World, payments: str, count: int | None) -> None:
    given = plan(payments=payments)
    jira.bring(given)
    children = ready(jira, given).observe("issue", {INVOICE.key: ""})[INVOICE.key].children
    assert (None if children is None else len(children)) == count


def test_an_issue_that_jira_fails_to_show_exists_and_has_no_drift(jira: World) -> None:
    jira.bring()
    jira.site.unfetchable.add(id_of(jira))
    assert ready(jira).observe("issue", {INVOICE.key: id_of(jira)}) == {INVOICE.key: Observed(id_of(jira))}
    assert drifts(jira) == {"issue": frozenset(), "status": frozenset()}


def test_what_has_no_id_is_looked_up_in_one_search(jira: World) -> None:
    others = [replace(INVOICE, key=record_key("b1", "invoice", str(number)), payments=()) for number in (13, 14)]
    for invoice in (INVOICE, *others):
        jira.bring(invoice=invoice)
    adapter = ready(jira)
    jira.calls()
    wanted = {INVOICE.key: id_of(jira)} | {invoice.key: "" for invoice in others} | {record_key("b1", "invoice", "99"): ""}
    found = adapter.observe("issue", wanted)
    assert {key: seen.remote_id for key, seen in found.items()} == {one.key: id_of(jira, "issue", one.key) for one in (INVOICE, *others)}
    assert jira.calls() == ["POST /issue/bulkfetch", "POST /search/jql"]


def test_a_copied_label_does_not_make_an_issue_ours(jira: World) -> None:
    jira.bring()
    copy = jira.site.issue("BILL-1")
    stranger = {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S", "labels": copy.values["labels"]}
    properties = [{"key": "wave.invoice", "value": {"key": record_key("b1", "invoice", "13")}}]
    ready(jira).client.create_issue({"fields": stranger, "properties": properties})
    assert ready(jira).observe("issue", {INVOICE.key: ""})[INVOICE.key].remote_id == id_of(jira)


def test_two_issues_of_one_key_are_shown_as_twins(jira: World) -> None:
    jira.bring()
    fields = {"project": {"key": "BILL"}, "issuetype": {"name": "Task"}, "summary": "S", "labels": ["wave", LABEL]}
    twin = ready(jira).client.create_issue({"fields": fields})["id"]
    assert ready(jira).observe("issue", {INVOICE.key: ""}) == {INVOICE.key: Observed("", twins=(id_of(jira), twin))}


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's contract is not here")
def test_the_bodies_fit_the_vendors_specification(jira: World) -> None:
    assert jira.session.contract is not None
    good: dict[str, Any] = {"issueIdsOrKeys": ["10000"], "fields": ["summary"], "properties": ["wave.invoice"]}
    check_body(jira.session.contract, "POST", f"{REST}/issue/bulkfetch", good)
    jira.bring()
    assert list(ready(jira).observe("issue", {INVOICE.key: id_of(jira), record_key("b1", "invoice", "13"): ""})) == [INVOICE.key]


def offline() -> JiraClient:
    return JiraClient(ApiClient("https://acme.atlassian.net", Token(), CheckedSession()))


def test_an_answer_without_issues_or_an_id_that_is_none_is_an_error() -> None:
    with responses.RequestsMock() as net:
        net.post(f"{REST}/issue/bulkfetch", json={})
        with pytest.raises(Transient):
            offline().fetch_issues(["1"], fields=[], properties=[])
        with pytest.raises(Rejected):
            offline().fetch_issues([""], fields=[], properties=[])
        assert len(net.calls) == 1


def test_what_jira_cannot_answer_is_raised(jira: World) -> None:
    jira.bring()
    jira.site.faults.append(Fault("status", path="bulkfetch", status=503))
    with pytest.raises(Transient):
        ready(jira).observe("issue", {INVOICE.key: id_of(jira)})


# --- Drift, form by form

FIELDS = Fields(
    [
        {"id": f"customfield_{10000 + place}", "name": kind, "type": kind}
        for place, kind in enumerate(("text", "number", "date", "datetime", "labels", "option", "textarea"))
    ]
)
IDS = {"text": "customfield_10000", "number": "customfield_10001", "date": "customfield_10002", "datetime": "customfield_10003"}
IDS |= {"labels": "customfield_10004", "option": "customfield_10005", "textarea": "customfield_10006"}


def doc(*lines: str) -> dict[str, Any]:
    return adf.document([adf.paragraph(adf.text(line)) for line in lines])


ROWS: list[tuple[str, Value, Any, bool]] = [
    ("text", "INV-12", " INV-12 ", True),
    ("text", None, None, True),
    ("text", "x", None, False),
    ("number", Decimal("60.50"), 60.5, True),
    ("number", Decimal("60.10"), 60.1, True),
    ("number", Decimal(60), 60.0, True),
    ("number", Decimal("60.50"), 60.51, False),
    ("number", None, None, True),
    ("number", None, 0.0, False),
    ("number", Decimal(0), None, False),
    ("date", "2026-12-01", "2026-12-01", True),
    ("date", "2026-12-01", "2026-12-02", False),
    ("datetime", "2026-11-03T12:00:00.000+0100", "2026-11-03T11:00:00.000+0000", True),
    ("datetime", "2026-11-03T12:00:00.000+0100", "2026-11-03T12:00:00.000+0000", False),
    ("labels", ["a", "b"], ["b", "a"], True),
    ("labels", None, [], True),
    ("labels", ["a"], ["a", "b"], False),
    ("option", {"value": "red"}, {"value": "red", "id": "1", "self": "https://x"}, True),
    ("option", {"value": "red"}, {"value": "blue", "id": "2"}, False),
    ("option", {"value": "red"}, None, False),
    ("option", None, None, True),
    ("textarea", doc("a", "b"), doc("a", "", "b"), True),
    ("textarea", None, doc(), True),
    ("textarea", doc("a"), None, False),
    ("textarea", doc("a"), "a", False),
]
OWN: list[tuple[str, str, Value, Any, bool]] = [(name, IDS[name], want, held, same) for name, want, held, same in ROWS] + [
    ("summary", "summary", "A B", "A B", True),
    ("summary", "summary", "A", "B", False),
    ("summary", "summary", None, "B", True),
    ("priority", "priority", {"name": "High"}, {"name": "High", "id": "2", "iconUrl": "https://x"}, True),
    ("priority", "priority", {"name": "High"}, {"name": "Low", "id": "4"}, False),
    ("priority", "priority", None, {"name": "Low", "id": "4"}, True),
    ("labels", "labels", ["wave", "x"], ["other", "wave", "x"], True),
    ("labels", "labels", ["wave", "x"], ["wave"], False),
    ("unknown", "customfield_10999", "x", "y", True),
]


@pytest.mark.parametrize(("name", "remote", "want", "held", "same"), [row for row in OWN if (row[0], row[1]) != ("labels", IDS["labels"])])
def test_values_in_the_vendors_own_forms(name: str, remote: str, want: Value, held: Any, same: bool) -> None:
    document = Document("issue", INVOICE.key, {name: want})
    assert observing.drift(document, Observed("1", {remote: held}), FIELDS) == (set() if same else {name})


@pytest.mark.parametrize(("want", "held", "same"), [row[1:] for row in ROWS if row[0] == "labels"])
def test_a_field_of_labels_is_ours_alone(want: Value, held: Any, same: bool) -> None:
    document = Document("issue", INVOICE.key, {IDS["labels"]: want})
    assert observing.drift(document, Observed("1", {IDS["labels"]: held}), FIELDS) == (set() if same else {IDS["labels"]})


def test_a_field_that_jira_does_not_show_is_no_drift() -> None:
    document = Document("issue", INVOICE.key, {"summary": "A", "labels": ["wave"], "number": Decimal(1)})
    assert observing.drift(document, Observed("1"), FIELDS) == frozenset()


@pytest.mark.parametrize(("held", "same"), [({"name": "in progress"}, True), ({"name": "Done"}, False), (None, True)])
def test_a_status_is_its_name_without_case(held: Any, same: bool) -> None:
    document = Document("status", INVOICE.key, {"status": "In Progress"})
    assert observing.drift(document, Observed("1", {"status": held}), FIELDS) == (set() if same else {"status"})


def test_kinds_that_nobody_observes_have_no_drift() -> None:
    assert observing.drift(Document("worklog", PAYMENT.key, {"comment": doc("a")}), Observed("1", {"comment": None}), FIELDS) == set()


# --- Documents in Jira's own form

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
LINES = st.lists(WORDS, max_size=4)


@given(LINES, st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
def test_a_document_says_the_same_with_ids_layouts_and_without_empty_nodes(lines: list[str], rows: list[tuple[str, str]]) -> None:
    given = adf.document([*(adf.paragraph(adf.text(line)) for line in lines), adf.table(rows)])
    kept = shown(given)
    kept["content"] = [node for node in kept["content"] if node["type"] != "paragraph" or node.get("content")]
    assert adf.essence(kept) == adf.essence(given)


@given(LINES, st.integers(min_value=0, max_value=3), WORDS)
def test_a_document_says_something_else_with_another_line(lines: list[str], place: int, line: str) -> None:
    marked = [*lines[:place], f"x{line}", *lines[place:]]
    assert adf.essence(doc(*lines)) != adf.essence(doc(*marked))


def test_texts_that_jira_cut_are_one_and_links_count() -> None:
    cut = adf.document([adf.paragraph([*adf.text("Open in "), *adf.text("Wave"), *adf.link("here", "https://x.example/1")])])
    whole = adf.document([adf.paragraph([*adf.text("Open in Wave"), *adf.link("here", "https://x.example/1")])])
    elsewhere = adf.document([adf.paragraph([*adf.text("Open in Wave"), *adf.link("here", "https://x.example/2")])])
    assert adf.essence(cut) == adf.essence(whole) != adf.essence(elsewhere)
    assert adf.essence(whole) == [(("Open in Wave", ""), ("here", "https://x.example/1"))]


def test_cards_breaks_and_lists_are_read_too() -> None:
    card = {"type": "inlineCard", "attrs": {"url": "https://x.example"}}
    item = {
        "type": "listItem",
        "content": [{"type": "paragraph", "content": [*adf.text("a"), {"type": "hardBreak"}, *adf.text("b"), card]}],
    }
    assert adf.essence(adf.document([{"type": "bulletList", "content": [item]}, {"type": "rule"}])) == [(("a bhttps://x.example", ""),)]
    assert (adf.essence(None), adf.essence("a"), adf.essence({"type": "doc"})) == ([], [], [])


def test_a_search_reads_page_after_page(jira: World) -> None:
    jira.site.page_limit = 1
    numbers = ["20", "21", "22"]
    for number in numbers:
        jira.bring(invoice=replace(INVOICE, key=record_key("b1", "invoice", number), payments=()))
    found = ready(jira).observe("issue", {record_key("b1", "invoice", number): "" for number in numbers})
    assert len(found) == 3
