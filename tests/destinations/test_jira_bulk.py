"""Issues created in bulk: what each becomes, what is told of it, and how it may fail."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import responses

from integrations.core.documents import Bound, Bulk, Document, Written
from integrations.core.errors import Rejected, Transient
from integrations.core.records import key_digest, record_key
from integrations.destinations.jira.adapter import JiraDestination
from integrations.destinations.jira.mapping import INVOICE_ISSUE
from integrations.http import ApiClient
from integrations.sandbox.server import Fault
from tests.jira_world import CONTRACT, CUSTOMER, INVOICE, TRACE, CheckedSession, Memory, Token, World, check_body, plan, snapshot, world

REST = "https://acme.atlassian.net/rest/api/3"


@pytest.fixture
def jira() -> Iterator[World]:
    with world() as found:
        yield found


def key(number: int) -> str:
    return record_key("b1", "invoice", str(number))


def label(number: int) -> str:
    return f"wave-inv-{key_digest(key(number))}"


def ready(jira: World) -> JiraDestination:
    adapter = jira.route()
    adapter.prepare()
    jira.calls()
    return adapter


def documents(adapter: JiraDestination, count: int) -> list[list[Document]]:
    """Return the documents of invoices 1 to `count`."""
    invoices = [replace(INVOICE, key=key(number), number=f"INV-{number}", payments=()) for number in range(1, count + 1)]
    return [list(adapter.documents("invoice", snapshot(invoice), TRACE)) for invoice in invoices]


def items(adapter: JiraDestination, count: int) -> list[tuple[Document, Bound]]:
    return [(issue, Bound()) for issue, *_ in documents(adapter, count)]


def test_fifty_issues_are_one_create_and_one_read(jira: World) -> None:
    adapter = ready(jira)
    bulk = adapter.start_bulk("issue", items(adapter, 50))
    assert jira.calls() == ["POST /issue/bulk", "POST /issue/bulkfetch"]
    assert (bulk.id, bulk.done, bulk.refused, bulk.unknown) == ("", True, {}, frozenset())
    issues = {issue["id"]: issue for issue in jira.issues().values()}
    assert {one: issues[written.remote_id]["properties"]["wave.invoice"]["key"] for one, written in bulk.written.items()} == {
        key(number): key(number) for number in range(1, 51)
    }
    assert adapter.follow_bulk(bulk) is bulk


def test_a_bulk_create_makes_what_a_single_one_makes(jira: World) -> None:
    adapter = ready(jira)
    [first, second] = items(adapter, 2)
    single = adapter.write(*first)
    [bulk] = adapter.start_bulk("issue", [second]).written.values()
    one, other = jira.issues()["BILL-1"], jira.issues()["BILL-2"]
    assert single == Written(one["id"], created=True, facts={"key": "BILL-1", "type": "Task", "labels": ["wave", label(1)]})
    assert bulk == Written(
        other["id"], created=True, facts={"key": "BILL-2", "type": "Task", "labels": ["wave", label(2)], "status": "To Do"}
    )
    own = {"id", "summary", "labels", "properties", "description"}
    assert {name: one[name] for name in one.keys() - own - {"fields"}} == {name: other[name] for name in other.keys() - own - {"fields"}}
    assert one["fields"] | {"Wave invoice id": "2", "Wave invoice number": "INV-2"} == other["fields"]


def test_what_a_bulk_create_made_has_no_drift_and_its_status_costs_one_post(jira: World) -> None:
    adapter = ready(jira)
    pairs = [(issue, status) for issue, status in documents(adapter, 2)]
    bulk = adapter.start_bulk("issue", [(issue, Bound()) for issue, _ in pairs])
    seen = adapter.observe("issue", {one: written.remote_id for one, written in bulk.written.items()})
    assert [adapter.drift(issue, seen[issue.key]) for issue, _ in pairs] == [frozenset(), frozenset()]
    assert [adapter.drift(status, seen[status.key]) for _, status in pairs] == [{"status"}, {"status"}]
    jira.calls()
    later = jira.route()
    for _, status in pairs:
        written = bulk.written[status.key]
        later.write(status, Bound("", written.remote_id, written.facts, frozenset({"status"})))
    calls = jira.calls()
    assert (calls.count("POST /issue/N/transitions"), {issue["status"] for issue in jira.issues().values()}) == (2, {"In Progress"})
    assert calls.count("GET /issue/N") == 1


def test_customers_issues_are_created_likewise(jira: World) -> None:
    adapter = ready(jira)
    [issue] = adapter.documents("customer", snapshot(None, CUSTOMER), TRACE)
    bulk = adapter.start_bulk("customer_issue", [(issue, Bound())])
    assert (list(bulk.written), bulk.kind) == ([CUSTOMER.key], "customer_issue")


def test_what_jira_refuses_is_told_by_its_place_and_the_rest_is_written(jira: World) -> None:
    adapter = ready(jira)
    given = items(adapter, 4)
    given[1] = (replace(given[1][0], fields={**given[1][0].fields, "priority": {"name": "Silly"}}), Bound())
    bulk = adapter.start_bulk("issue", given)
    assert (sorted(bulk.written), sorted(bulk.refused), bulk.unknown) == ([key(1), key(3), key(4)], [key(2)], frozenset())
    assert (bulk.refused[key(2)].code, bulk.refused[key(2)].words) == ("fields_refused", "priority: Option value 'Silly' is not valid")
    assert {written.facts["labels"][1] for written in bulk.written.values()} == {label(1), label(3), label(4)}


def test_when_all_are_refused_each_has_its_reason(jira: World) -> None:
    adapter = ready(jira)
    given = [(replace(issue, fields={**issue.fields, "priority": {"name": "Silly"}}), bound) for issue, bound in items(adapter, 2)]
    bulk = adapter.start_bulk("issue", given)
    assert {one: error.code for one, error in bulk.refused.items()} == {key(1): "fields_refused", key(2): "fields_refused"}
    assert not bulk.written and not bulk.unknown
    assert jira.calls() == ["POST /issue/bulk"]


def test_an_issue_with_a_field_on_no_screen_is_left_to_the_single_way(jira: World) -> None:
    adapter = ready(jira)
    hidden = next(entry.id for entry in jira.site.fields.values() if entry.name == "Wave paid")
    for screen in jira.site.screens.values():
        screen.tabs = {tab: [name for name in names if name != hidden] for tab, names in screen.tabs.items()}
    [given] = items(adapter, 1)
    bulk = adapter.start_bulk("issue", [given])
    assert {one: error.code for one, error in bulk.refused.items()} == {key(1): "bulk_refused"}
    assert list(adapter.write(*given).dropped) == ["Wave paid"]


def test_issues_that_exist_are_not_for_a_bulk_call(jira: World) -> None:
    adapter = ready(jira)
    [(issue, _)] = items(adapter, 1)
    with pytest.raises(ValueError, match="no bulk edit"):
        adapter.start_bulk("issue", [(issue, Bound("10001"))])
    assert (adapter.bulk_updates, jira.calls()) == (frozenset(), [])


def test_a_call_that_is_refused_as_a_whole_is_written_one_by_one(jira: World) -> None:
    adapter = ready(jira)
    with pytest.raises(Rejected) as caught:
        adapter.start_bulk("issue", items(adapter, 51))
    assert caught.value.code == "bulk_failed"


@pytest.mark.parametrize("kind", ["lost", "cut", "html"])
def test_without_a_clear_answer_all_are_in_doubt(jira: World, kind: str) -> None:
    adapter = ready(jira)
    jira.site.faults.append(Fault(kind, path="/issue/bulk$", status=503))
    with pytest.raises(Transient) as caught:
        adapter.start_bulk("issue", items(adapter, 2))
    assert not caught.value.unsent
    found = adapter.observe("issue", {key(1): "", key(2): ""})
    assert sorted(found) == ([] if kind == "html" else [key(1), key(2)])


def test_a_limit_was_surely_not_carried_out(jira: World) -> None:
    adapter = ready(jira)
    jira.site.faults.append(Fault("status", path="/issue/bulk$", status=429))
    with pytest.raises(Transient) as caught:
        adapter.start_bulk("issue", items(adapter, 2))
    assert caught.value.unsent


def test_what_cannot_be_read_back_is_unknown(jira: World) -> None:
    adapter = ready(jira)
    jira.site.faults.append(Fault("status", path="bulkfetch", status=500))
    bulk = adapter.start_bulk("issue", items(adapter, 2))
    assert (dict(bulk.written), set(bulk.unknown), len(jira.issues())) == ({}, {key(1), key(2)}, 2)


def test_an_issue_that_the_read_does_not_show_is_unknown(jira: World) -> None:
    adapter = ready(jira)
    adapter.start_bulk("issue", items(adapter, 1))
    jira.site.unfetchable.add(str(int(max(jira.site.issues, key=int)) + 1))
    bulk = adapter.start_bulk("issue", [item for item in items(adapter, 3) if item[0].key != key(1)])
    assert (sorted(bulk.written), set(bulk.unknown)) == ([key(3)], {key(2)})


# --- Answer by answer

RAN: dict[str, Any] = {"errorMessages": [], "errors": {}}
ANSWERS: list[tuple[Any, dict[str, str], set[str]]] = [
    ({"issues": [], "errors": [{"status": 403, "elementErrors": RAN, "failedElementNumber": 0}]}, {key(1): "forbidden"}, {key(2)}),
    ({"issues": [], "errors": [{"status": 429, "elementErrors": RAN, "failedElementNumber": 1}]}, {key(2): "rate"}, {key(1)}),
    ({"issues": [], "errors": [{"status": 500, "elementErrors": RAN, "failedElementNumber": 1}]}, {}, {key(1), key(2)}),
    ({"issues": [], "errors": [{"status": 400, "elementErrors": RAN, "failedElementNumber": 2}]}, {}, {key(1), key(2)}),
    ({"issues": [], "errors": [{"status": 400, "elementErrors": RAN, "failedElementNumber": "0"}, None, 3]}, {}, {key(1), key(2)}),
    ({"issues": None, "errors": None}, {}, {key(1), key(2)}),
    ({"issues": [{"id": "x"}, {"key": "BILL-1"}]}, {}, {key(1), key(2)}),
]


@pytest.mark.parametrize(("body", "refused", "unknown"), ANSWERS)
def test_what_an_answer_does_not_tell_is_unknown(body: Any, refused: dict[str, str], unknown: set[str]) -> None:
    shape = Memory()
    shape.put("fields", [])
    adapter = JiraDestination(ApiClient("https://acme.atlassian.net", Token(), CheckedSession()), plan(), shape)
    with responses.RequestsMock() as net:
        net.post(f"{REST}/issue/bulk", status=201, json=body)
        bulk = adapter.start_bulk("issue", items(adapter, 2))
    assert ({one: error.code for one, error in bulk.refused.items()}, set(bulk.unknown), dict(bulk.written)) == (refused, unknown, {})
    assert bulk == Bulk("", "issue", done=True, refused=bulk.refused, unknown=frozenset(unknown), sent={key(1): "", key(2): ""})


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's contract is not here")
def test_the_body_fits_the_vendors_specification(jira: World) -> None:
    adapter = ready(jira)
    contract = jira.session.contract
    assert contract is not None
    body = {"issueUpdates": [adapter.issues.creation(INVOICE_ISSUE, issue) for issue, _ in items(adapter, 2)]}
    check_body(contract, "POST", f"{REST}/issue/bulk", body)
    schema = contract["components"]["schemas"]["BulkOperationErrorResult"]["properties"]
    assert set(schema) == {"elementErrors", "failedElementNumber", "status"}
