"""The Jira destination against the sandbox: issues, labels, worklogs, comments, deletions, and what each costs in calls."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from integrations.core.documents import Bound, Document, Link, Written
from integrations.core.errors import Missing, Rejected, Transient, Unmappable
from integrations.core.ports import FieldRule
from integrations.core.records import Money, key_digest, record_key
from integrations.destinations.jira.adapter import SYSTEM, JiraDestination
from integrations.sandbox.server import Fault
from tests.jira_world import CONTRACT, CUSTOMER, INVOICE, PAYMENT, TRACE, World, check_body, plan, snapshot, world

LABEL = f"wave-inv-{key_digest(INVOICE.key)}"
MARKER = f"wave-pay-{key_digest(PAYMENT.key)}"


@pytest.fixture
def jira() -> Iterator[World]:
    with world() as found:
        yield found


def paragraph(text: str, href: str = "") -> dict[str, Any]:
    mark = {"marks": [{"type": "link", "attrs": {"href": href}}]} if href else {}
    return {"type": "paragraph", "content": [{"type": "text", "text": text, **mark}]}


def row(name: str, value: str) -> dict[str, Any]:
    cells = [{"type": "tableHeader", "content": [paragraph(name)]}, {"type": "tableCell", "content": [paragraph(value)]}]
    return {"type": "tableRow", "content": cells}


def doc(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "doc", "version": 1, "content": list(blocks)}


def issue_of(jira: World) -> Document:
    return jira.route().documents("invoice", snapshot(), TRACE)[0]


def test_an_invoice_becomes_a_whole_issue_with_worklog_and_status(jira: World) -> None:
    written = jira.bring()

    assert [(entry.created, entry.dropped, entry.notes, entry.withheld) for entry in written] == [(True, {}, (), False)] * 3
    issue = jira.issues()["BILL-1"]
    worklog = issue["worklogs"][0]
    assert issue | {"id": "", "worklogs": []} == {
        "id": "",
        "type": "Task",
        "status": "In Progress",
        "summary": "INV-12 Blue Ltd: 100.50 USD",
        "labels": ["wave", LABEL],
        "duedate": "2026-12-01",
        "description": doc(
            paragraph("Wave invoice INV-12"),
            paragraph("Customer: Blue Ltd"),
            paragraph("Contact: Ann Lee"),
            paragraph("E-mail: ann@example.com"),
            paragraph("Issued: 2026-11-01"),
            paragraph("Due: 2026-12-01"),
            {"type": "table", "content": [row("Total", "100.50 USD"), row("Paid", "40.00 USD"), row("Due", "60.50 USD")]},
            paragraph("Open in Wave", "https://wave.example/invoices/12"),
        ),
        "fields": {
            "Wave invoice id": "12",
            "Wave invoice number": "INV-12",
            "Wave customer": "Blue Ltd",
            "Wave total": 100.5,
            "Wave paid": 40.0,
            "Wave due": 60.5,
            "Wave currency": "USD",
            "Wave synced at": "2026-11-05T09:30:00Z",
            "Wave job id": "job-1",
        },
        "properties": {"wave.invoice": {"key": INVOICE.key}},
        "worklogs": [],
        "comments": [],
        "links": [],
    }
    assert worklog == {
        "id": worklog["id"],
        "timeSpentSeconds": 60,
        "started": "2026-11-03T11:00:00.000+0000",
        "comment": doc(paragraph("Payment 40.00 USD by BANK_TRANSFER on 2026-11-03"), paragraph(MARKER)),
        "properties": {"wave.payment": {"id": PAYMENT.key}},
    }


def test_a_second_run_writes_nothing(jira: World) -> None:
    jira.bring()
    jira.calls()
    assert (jira.bring(), jira.calls()) == ([], [])


def test_the_first_invoice_learns_the_set_up_and_the_second_reads_nothing(jira: World) -> None:
    jira.bring()
    assert jira.calls() == [
        "GET /field",
        "GET /configuration",
        "POST /issue",
        "POST /issue/N/worklog",
        "GET /issue/N",
        "GET /project/BILL/statuses",
        "POST /issue/N/transitions",
    ]
    jira.bring(invoice=replace(INVOICE, key=record_key("b1", "invoice", "13"), payments=()))
    assert jira.calls() == ["POST /issue", "POST /issue/N/transitions"]


def test_a_changed_total_is_one_put(jira: World) -> None:
    jira.bring()
    jira.calls()
    written = jira.bring(invoice=replace(INVOICE, total=Money(Decimal("99.10"), "USD")))
    assert jira.calls() == ["PUT /issue/N"]
    assert written == [Written(written[0].remote_id, facts={"labels": ["wave", LABEL]})]
    issue = jira.issues()["BILL-1"]
    assert (issue["summary"], issue["fields"]["Wave total"]) == ("INV-12 Blue Ltd: 99.10 USD", 99.1)


def test_a_viewed_invoice_changes_nothing(jira: World) -> None:
    jira.bring()
    jira.calls()
    assert (jira.bring(invoice=replace(INVOICE, status="VIEWED")), jira.calls()) == ([], [])


def test_what_wave_emptied_is_emptied_at_jira(jira: World) -> None:
    jira.bring()
    jira.bring(invoice=replace(INVOICE, due_on=None))
    assert jira.issues()["BILL-1"]["duedate"] is None


def test_peoples_labels_stay_and_only_our_own_go(jira: World) -> None:
    words = replace(plan(), fields=(*plan().fields, FieldRule("invoice", "labels", "{{ invoice.po_number }} billing")))
    jira.bring(words, replace(INVOICE, po_number="po-1"))
    jira.site.edit("BILL-1", labels=[*jira.issues()["BILL-1"]["labels"], "vip"])
    jira.bring(words, replace(INVOICE, po_number="po-2"))
    assert jira.issues()["BILL-1"]["labels"] == sorted(["billing", "po-2", "vip", "wave", LABEL])


def test_fields_that_the_site_lacks_are_left_out(jira: World) -> None:
    jira.shape.put("fields", [])
    assert set(issue_of(jira).fields) == {"summary", "description", "duedate", "labels"}
    assert issue_of(jira).trace == {}


def test_a_target_may_be_an_id_or_a_remembered_one(jira: World) -> None:
    jira.shape.put("fields", [{"id": "customfield_1", "name": "A", "type": "number"}, {"id": "customfield_2", "name": "B", "type": "text"}])
    rules = (
        FieldRule("invoice", "customfield_1", "{{ invoice.total }}"),
        FieldRule("invoice", "Elsewhere", "{{ invoice.total }}", remote="customfield_2"),
    )
    issue = jira.route(replace(plan(), fields=rules)).documents("invoice", snapshot(), TRACE)[0]
    assert issue.fields == {
        "customfield_1": Decimal("100.50"),
        "Elsewhere": "100.50",
        "summary": "Wave invoice INV-12",
        "labels": ["wave", LABEL],
    }


def test_of_two_fields_with_one_name_the_first_created_counts(jira: World) -> None:
    jira.site.add_field("wave TOTAL", "textfield")
    jira.bring()
    assert jira.issues()["BILL-1"]["fields"]["Wave total"] == 100.5


def test_an_amount_that_a_double_would_change_is_unmappable(jira: World) -> None:
    adapter = jira.route()
    adapter.prepare()
    exact = replace(INVOICE, total=Money(Decimal("12345678901234567.89"), "USD"))
    with pytest.raises(Unmappable, match="invoice Wave total: Jira cannot keep this number exactly"):
        adapter.documents("invoice", snapshot(exact), TRACE)


@pytest.mark.parametrize("first_run", [True, False], ids=["at create", "at edit"])
def test_fields_that_are_on_no_screen_are_dropped_and_the_rest_is_written(jira: World, first_run: bool) -> None:
    if not first_run:
        jira.bring()
    screen = next(iter(jira.site.screens[1].tabs.values()))
    barred = next(entry.id for entry in jira.site.fields.values() if entry.name == "Wave due")
    screen.remove(barred)
    jira.calls()
    written = jira.bring(invoice=replace(INVOICE, number="INV-99", payments=()))[0]
    reason = f"Field '{barred}' cannot be set. It is not on the appropriate screen, or unknown."
    assert (written.dropped, written.notes) == ({"Wave due": reason}, ())
    assert [call for call in jira.calls() if re.fullmatch("POST /issue|PUT .*", call)] == (
        ["POST /issue"] if first_run else ["PUT /issue/N"]
    ) * 2
    assert jira.issues()["BILL-1"]["fields"]["Wave invoice number"] == "INV-99"


def test_other_refusals_of_fields_are_not_repeated(jira: World) -> None:
    jira.site.add_field("Region", "textfield", required=True)
    with pytest.raises(Rejected, match=r"^POST /rest/api/3/issue: 400$") as caught:
        jira.bring()
    assert (caught.value.code, caught.value.words.split(": ")[1]) == ("fields_refused", "Region is required.")
    assert jira.calls().count("POST /issue") == 1


def test_an_issue_whose_label_cannot_be_set_is_refused(jira: World) -> None:
    body = {"errorMessages": [], "errors": {"labels": "Field 'labels' cannot be set. It is not on the appropriate screen, or unknown."}}
    jira.site.faults.append(Fault("status", "POST", "/issue$", status=400, body=body))
    with pytest.raises(Rejected) as caught:
        jira.bring()
    assert (caught.value.code, jira.issues()) == ("fields_refused", {})


def test_barred_labels_at_an_edit_are_noted_only(jira: World) -> None:
    jira.bring()
    body = {"errorMessages": [], "errors": {"labels": "Field 'labels' cannot be set. It is not on the appropriate screen, or unknown."}}
    jira.site.faults.append(Fault("status", "PUT", "/issue/", status=400, body=body))
    written = jira.bring(invoice=replace(INVOICE, title="New"))[0]
    assert (written.dropped, written.notes) == ({}, ("field_dropped",))


@pytest.mark.parametrize("kind", ["lost", "status", "html", "cut"])
def test_a_create_without_a_clear_answer_is_not_repeated(jira: World, kind: str) -> None:
    jira.site.faults.append(Fault(kind, "POST", "/issue$"))
    with pytest.raises(Transient):
        jira.bring()
    assert jira.calls().count("POST /issue") == 1


def test_a_lost_create_is_found_by_label_and_property(jira: World) -> None:
    jira.site.faults.append(Fault("lost", "POST", "/issue$"))
    with pytest.raises(Transient):
        jira.bring()
    jira.bring(invoice=replace(INVOICE, key=record_key("b1", "invoice", "13")))
    found = jira.route().find(issue_of(jira), Bound())
    assert found == [jira.issues()["BILL-1"]["id"]]


def test_a_label_that_somebody_copied_is_not_ours(jira: World) -> None:
    jira.bring(invoice=replace(INVOICE, key=record_key("b1", "invoice", "13")))
    jira.site.edit("BILL-1", labels=["wave", LABEL])
    assert jira.route().find(issue_of(jira), Bound()) == []


def test_a_look_up_goes_on_to_the_last_page(jira: World) -> None:
    for _ in range(2):
        jira.bound.clear()
        jira.hashes.clear()
        jira.bring()
    jira.site.page_limit = 1
    jira.calls()
    assert sorted(jira.route().find(issue_of(jira), Bound())) == [jira.issues()[key]["id"] for key in ("BILL-1", "BILL-2")]
    assert jira.calls() == ["POST /search/jql"] * 2


def test_an_adopted_issue_is_written_whole_and_its_key_learnt_in_one_call(jira: World) -> None:
    jira.bring()
    number = jira.issues()["BILL-1"]["id"]
    jira.site.issue("BILL-1").properties.clear()
    jira.calls()
    written = jira.route().write(issue_of(jira), Bound(number))
    assert written == Written(number, facts={"labels": ["wave", LABEL], "key": "BILL-1"})
    assert jira.calls() == ["PUT /issue/N"]
    assert jira.issues()["BILL-1"]["properties"] == {"wave.invoice": {"key": INVOICE.key}}


def test_a_deleted_issue_is_lost_after_one_read(jira: World) -> None:
    jira.bring()
    jira.site.delete_issue("BILL-1")
    jira.calls()
    with pytest.raises(Missing) as caught:
        jira.bring(invoice=replace(INVOICE, title="New"))
    assert (caught.value.code, jira.calls()) == ("lost", ["PUT /issue/N", "GET /issue/N"])


def test_a_moved_issue_is_written_by_its_id(jira: World) -> None:
    jira.bring()
    jira.site.add_project("OTHER", "Other")
    key = jira.site.rekey_issue("BILL-1", "OTHER")
    jira.bring(invoice=replace(INVOICE, number="INV-77"))
    assert jira.issues()[key]["summary"] == "INV-77 Blue Ltd: 100.50 USD"


def test_an_issue_that_can_be_read_but_not_written_is_a_refusal(jira: World) -> None:
    jira.bring()
    jira.site.faults.append(Fault("status", "PUT", "/issue/", status=404))
    with pytest.raises(Rejected) as caught:
        jira.bring(invoice=replace(INVOICE, title="New"))
    assert (type(caught.value), caught.value.code) == (Rejected, "no_permission")


# --- Payments


def test_a_changed_payment_changes_its_worklog(jira: World) -> None:
    jira.bring()
    jira.calls()
    jira.bring(invoice=replace(INVOICE, payments=(replace(PAYMENT, paid_on=date(2026, 7, 1)),)))
    assert jira.calls() == ["PUT /issue/N/worklog/N"]
    assert [log["started"] for log in jira.issues()["BILL-1"]["worklogs"]] == ["2026-07-01T10:00:00.000+0000"]


def test_a_worklog_is_quiet_and_leaves_the_estimate(jira: World) -> None:
    jira.bring()
    queries = {call.query for call in jira.site.calls if "worklog" in call.path}
    assert queries == {"notifyUsers=false&adjustEstimate=leave"}


def test_a_worklog_that_somebody_deleted_is_missing(jira: World) -> None:
    jira.bring()
    jira.site.issue("BILL-1").worklogs.clear()
    with pytest.raises(Missing) as caught:
        jira.bring(invoice=replace(INVOICE, payments=(replace(PAYMENT, method="CASH"),)))
    assert caught.value.code == "missing"


@pytest.mark.parametrize("kept", ["property", "marker"])
def test_a_payments_worklog_is_found_among_others(jira: World, kept: str) -> None:
    other = replace(PAYMENT, key=record_key("b1", "payment", "32"))
    jira.bring(invoice=replace(INVOICE, payments=(other, PAYMENT)))
    logs = jira.site.issue("BILL-1").worklogs
    if kept == "property":
        logs[1].comment = doc()
    else:
        logs[1].properties.clear()
    document = jira.route().documents("invoice", snapshot(), TRACE)[1]
    assert jira.route().find(document, jira.known(document)) == [logs[1].id]


def test_what_hangs_on_nothing_is_not_looked_for(jira: World) -> None:
    document = jira.route().documents("invoice", snapshot(), TRACE)[1]
    assert (jira.route().find(document, Bound()), jira.calls()) == ([], [])


def test_a_removed_payment_takes_its_worklog_along_and_no_other(jira: World) -> None:
    other = replace(PAYMENT, key=record_key("b1", "payment", "32"))
    jira.bring(invoice=replace(INVOICE, payments=(PAYMENT, other)))
    issue = jira.bound[("issue", INVOICE.key)].remote_id
    bound = Bound(jira.bound[("worklog", PAYMENT.key)].remote_id, issue)
    jira.route().remove("worklog", bound)
    jira.route().remove("worklog", bound)
    assert [log["properties"] for log in jira.issues()["BILL-1"]["worklogs"]] == [{"wave.payment": {"id": other.key}}]


@pytest.mark.parametrize(
    "bound", [Bound("", "10001"), Bound("10002", ""), Bound("..", "10001"), Bound("10002/..", "10001"), Bound("٣", "10001")]
)
@pytest.mark.parametrize("kind", ["worklog", "comment"])
def test_nothing_is_deleted_without_an_id(jira: World, kind: str, bound: Bound) -> None:
    with pytest.raises(Rejected) as caught:
        jira.route().remove(kind, bound)
    assert (caught.value.code, jira.calls(), jira.site.violations) == ("no_id", [], [])


def test_without_time_tracking_worklogs_are_left_out_and_noted(jira: World) -> None:
    jira.site.time_tracking = False
    jira.bring()
    adapter = jira.route()
    assert [document.kind for document in adapter.documents("invoice", snapshot(), TRACE)] == ["issue", "status"]
    assert (adapter.notes, jira.issues()["BILL-1"]["worklogs"]) == (["time_tracking_off"], [])
    jira.calls()
    adapter.remove("worklog", Bound("10001", "10002"))
    assert jira.calls() == []


def test_time_tracking_that_was_switched_off_meanwhile_withholds_the_worklog(jira: World) -> None:
    jira.shape.put("time_tracking", True)
    jira.site.time_tracking = False
    written = jira.bring()[1]
    assert (written, jira.shape.get("time_tracking")) == (Written("", withheld=True, notes=("time_tracking_off",)), False)


def test_other_refusals_of_a_worklog_stay_refusals(jira: World) -> None:
    jira.site.permissions.remove("WORK_ON_ISSUES")
    with pytest.raises(Rejected) as caught:
        jira.bring()
    assert caught.value.words == "You do not have the permission to associate a worklog to this issue."


def test_payments_can_be_comments(jira: World) -> None:
    jira.bring(plan(payments="comment"))
    issue = jira.issues()["BILL-1"]
    text = doc(paragraph("Payment 40.00 USD by BANK_TRANSFER on 2026-11-03"), paragraph(MARKER))
    assert ([entry["body"] for entry in issue["comments"]], issue["worklogs"]) == ([text], [])
    document = jira.route(plan(payments="comment")).documents("invoice", snapshot(), TRACE)[1]
    assert jira.route().find(document, jira.known(document)) == [issue["comments"][0]["id"]]


@pytest.mark.parametrize("given", [plan(payments="off"), plan(kinds=("invoice",))], ids=["off", "no payment kind"])
def test_payments_can_be_left_out(jira: World, given: Any) -> None:
    assert [document.kind for document in jira.route(given).documents("invoice", snapshot(), TRACE)] == ["issue", "status"]


@pytest.mark.parametrize(
    ("zone", "started"),
    [
        ("America/Vancouver", "2026-11-03T12:00:00.000-0800"),
        ("Asia/Kolkata", "2026-11-03T12:00:00.000+0530"),
        ("Nowhere/At all", "2026-11-03T12:00:00.000+0000"),
    ],
)
def test_a_worklog_starts_at_noon_where_the_business_is(jira: World, zone: str, started: str) -> None:
    read = snapshot()
    read = replace(read, business=replace(read.business, timezone=zone))
    assert jira.route().documents("invoice", read, TRACE)[1].fields["started"] == started


def test_a_payment_without_a_date_starts_when_it_was_entered(jira: World) -> None:
    invoice = replace(INVOICE, payments=(replace(PAYMENT, paid_on=None),))
    assert jira.route().documents("invoice", snapshot(invoice), TRACE)[1].fields["started"] == "2026-11-05T12:00:00.000+0100"


# --- Customers, deletions, statuses without a rule


def test_a_customer_becomes_an_issue_where_the_route_says_so(jira: World) -> None:
    jira.site.add_field("Wave customer id", "textfield")
    customer = replace(CUSTOMER, outstanding=Money(Decimal("60.50"), "USD"))
    jira.bring(plan(customer_issue_type="Story"), None, customer)
    issue = jira.issues()["BILL-1"]
    assert (issue["type"], issue["summary"], issue["labels"]) == ("Story", "Blue Ltd", ["wave", f"wave-cus-{key_digest(CUSTOMER.key)}"])
    assert (issue["fields"]["Wave customer id"], issue["properties"]) == ("7", {"wave.customer": {"key": CUSTOMER.key}})
    assert issue["description"] == doc(
        paragraph("Contact: Ann Lee"), paragraph("E-mail: ann@example.com"), paragraph("Address: Bonn"), paragraph("Outstanding: 60.50 USD")
    )
    assert jira.route(plan(kinds=("invoice",))).documents("customer", snapshot(None, CUSTOMER), TRACE) == []


def test_a_deleted_invoice_is_marked_in_one_call(jira: World) -> None:
    jira.bring()
    jira.calls()
    (document,) = jira.route().gone("invoice", INVOICE.key, TRACE)
    jira.write(jira.route(), document)
    assert jira.calls() == ["PUT /issue/N"]
    issue = jira.issues()["BILL-1"]
    assert (issue["labels"], [entry["body"] for entry in issue["comments"]]) == (
        ["wave", "wave-deleted", LABEL],
        [doc(paragraph("deleted in Wave"))],
    )


def test_deletions_hang_on_the_records_own_issue(jira: World) -> None:
    gone = [jira.route().gone(kind, "k", TRACE) for kind in ("invoice", "customer", "payment")]
    assert [[document.parent for document in documents] for documents in gone] == [[Link("issue", "k")], [Link("customer_issue", "k")], []]
    assert jira.route(plan(kinds=("invoice",))).gone("customer", "k", TRACE) == []


@pytest.mark.parametrize("statuses", [{"PAID": "Done"}, {"SENT": "", "PAID": "Done"}], ids=["no rule", "empty"])
def test_a_state_without_a_status_leaves_it_alone_and_is_noted(jira: World, statuses: dict[str, str]) -> None:
    adapter = jira.route(plan(statuses=statuses))
    assert [document.kind for document in adapter.documents("invoice", snapshot(), TRACE)] == ["issue", "worklog"]
    assert adapter.notes == ["status_unmapped"]


def test_what_the_destination_promises_the_pipeline() -> None:
    assert (JiraDestination.children, JiraDestination.deletable, SYSTEM.summarises) == (
        frozenset({"worklog", "comment"}),
        frozenset(),
        False,
    )
    kinds = {"issue": (False, True), "worklog": (False, False), "status": (True, True)}
    with world() as jira:
        documents = jira.route().documents("invoice", snapshot(), TRACE)
        assert {document.kind: (document.upsert, document.find_lags) for document in documents} == kinds
        assert jira.route().stub(snapshot(), TRACE) is None


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's specification is not beside the repository")
def test_bodies_are_really_checked_against_the_contract(jira: World) -> None:
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        check_body(
            jira.session.contract or {}, "POST", f"{jira.url}/rest/api/3/issue", {"properties": [{"key": "a", "value": 1, "extra": 1}]}
        )
