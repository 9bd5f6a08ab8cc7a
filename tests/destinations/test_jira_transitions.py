"""Walking an issue to its status: what is learnt, what is remembered, and when the status is left alone."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from integrations.core.documents import Bound, Written
from integrations.core.errors import Missing, Transient
from integrations.core.ports import StatusRule
from integrations.core.records import record_key
from integrations.destinations.jira.transitions import path, usable
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import Fault
from tests.jira_world import INVOICE, TRACE, World, plan, snapshot, world

PAID = replace(INVOICE, status="PAID", payments=())
SENT = replace(INVOICE, payments=())
LONG = ("Open", "Ready", "Sent", "Checked", "Closed")
CHAIN = {first: [second] for first, second in pairwise(LONG)}


@pytest.fixture
def jira() -> Iterator[World]:
    with world() as found:
        yield found


def status(jira: World) -> str:
    return str(jira.issues()["BILL-1"]["status"])


def test_a_paid_invoice_is_walked_hop_by_hop(jira: World) -> None:
    written = jira.bring(invoice=PAID)[-1]
    assert (status(jira), written.facts) == ("Done", {"status": "Done", "type": "Task"})
    assert jira.calls().count("POST /issue/N/transitions") == 2


def test_with_the_workflow_known_each_hop_is_one_call(jira: World) -> None:
    jira.bring(invoice=PAID)
    jira.calls()
    jira.bring(invoice=replace(PAID, key=record_key("b1", "invoice", "13")))
    assert jira.calls() == ["POST /issue", "POST /issue/N/transitions", "POST /issue/N/transitions"]


def test_an_issue_that_is_there_already_is_not_moved(jira: World) -> None:
    jira.bring(invoice=replace(SENT, status="DRAFT"))
    jira.calls()
    jira.bring(invoice=replace(SENT, status="DRAFT", key=record_key("b1", "invoice", "13")))
    assert jira.calls() == ["POST /issue"]


def test_names_are_matched_whatever_their_case(jira: World) -> None:
    jira.bring(plan(statuses={"SENT": "in progress"}), SENT)
    assert status(jira) == "In Progress"


def test_an_issue_that_somebody_moved_is_walked_from_where_it_is(jira: World) -> None:
    jira.bring(invoice=SENT)
    jira.site.move_issue("BILL-1", "To Do")
    jira.calls()
    jira.bring(invoice=PAID)
    assert status(jira) == "Done"
    assert [call for call in jira.calls() if "transitions" in call] == ["POST /issue/N/transitions"] * 2


def test_a_replay_by_force_asks_where_the_issue_stands(jira: World) -> None:
    jira.bring(invoice=PAID)
    jira.site.move_issue("BILL-1", "To Do")
    document = jira.route().documents("invoice", snapshot(PAID), TRACE)[-1]
    jira.route().write(document, replace(jira.known(document), changed=frozenset()))
    assert status(jira) == "Done"


def test_what_was_learnt_wrongly_is_forgotten_after_one_refusal(jira: World) -> None:
    jira.bring(invoice=SENT)
    jira.shape.put("transitions:Task", {"in progress": [["999", "Done"]]})
    jira.calls()
    jira.bring(invoice=PAID)
    assert (status(jira), jira.calls()) == ("Done", ["POST /issue/N/transitions", "GET /issue/N", "POST /issue/N/transitions"])


def test_a_hop_refused_twice_is_left_and_noted(jira: World) -> None:
    jira.bring(invoice=SENT)
    jira.site.faults.append(Fault("status", "POST", "transitions", times=0, status=400))
    jira.calls()
    written = jira.bring(invoice=PAID)[-1]
    assert (written.withheld, written.notes, status(jira)) == (True, ("status_unmapped",), "In Progress")
    assert jira.calls().count("POST /issue/N/transitions") == 2


def test_a_conflict_is_tried_once_more_then_later(jira: World) -> None:
    jira.bring(invoice=SENT)
    jira.site.faults.append(Fault("status", "POST", "transitions", times=0, status=409))
    with pytest.raises(Transient, match="409"):
        jira.bring(invoice=PAID)
    assert jira.calls().count("POST /issue/N/transitions") == 3  # one of them led to In Progress


def test_a_status_that_the_type_has_not_costs_no_transition(jira: World) -> None:
    given = plan(statuses={"SENT": "Invoiced"})
    written = jira.bring(given, SENT)[-1]
    assert (written.withheld, written.notes, status(jira)) == (True, ("status_unmapped",), "To Do")
    assert [call for call in jira.calls() if "transitions" in call] == []


def test_without_the_permission_the_status_stays_and_nothing_is_remembered(jira: World) -> None:
    jira.site.permissions.remove("TRANSITION_ISSUES")
    written = jira.bring(invoice=SENT)[-1]
    assert (written.withheld, written.notes, status(jira)) == (True, ("status_unmapped",), "To Do")
    jira.site.permissions.add("TRANSITION_ISSUES")
    jira.bring(invoice=SENT)
    assert status(jira) == "In Progress"


def test_a_search_without_success_leaves_the_status_where_it_was() -> None:
    edges = {"To Do": ["In Progress"], "In Progress": ["To Do"]}
    with world(Jira(edges=edges)) as jira:
        written = jira.bring(invoice=PAID)[-1]
        assert (written.withheld, status(jira)) == (True, "To Do")
        jira.calls()
        assert jira.bring(invoice=PAID)[-1].withheld
        assert [call for call in jira.calls() if "transitions" in call] == []


@pytest.mark.parametrize(
    ("via", "expected"), [(("Ready", "Sent", "Checked"), "Closed"), (("Ready", "Sent"), "Open"), ((), "Open")], ids=["all", "a gap", "none"]
)
def test_unknown_statuses_are_entered_only_where_the_route_names_them(via: tuple[str, ...], expected: str) -> None:
    back = {second: [*CHAIN.get(second, []), first] for first, seconds in CHAIN.items() for second in seconds}
    given = replace(plan(), statuses=(StatusRule("SENT", "Open"), StatusRule("PAID", "Closed", via)))
    with world(Jira(statuses=LONG, edges={**CHAIN, **back}, initial="Open")) as jira:
        jira.bring(given, PAID)
        assert status(jira) == expected


def test_more_than_five_hops_are_not_walked() -> None:
    names = tuple(f"S{number}" for number in range(7))
    edges = {first: [second] for first, second in pairwise(names)}
    given = replace(plan(), statuses=(StatusRule("PAID", "S6", names[1:6]),))
    with world(Jira(statuses=names, edges=edges, initial="S0")) as jira:
        assert jira.bring(given, PAID)[-1].withheld
        assert jira.calls().count("POST /issue/N/transitions") == 5


def test_a_screen_that_asks_for_a_field_is_not_entered() -> None:
    site = Jira()
    site.add_project("PAY", "Pay", transition_fields={"Done": ["resolution"]})
    with world(site) as jira:
        written = jira.bring(plan(project="PAY"), PAID)[-1]
        assert (written.withheld, jira.issues()["PAY-1"]["status"]) == (True, "To Do")


def test_an_issue_that_is_gone_is_lost(jira: World) -> None:
    jira.bring(invoice=SENT)
    document = jira.route().documents("invoice", snapshot(PAID), TRACE)[-1]
    bound = replace(jira.known(document), changed=frozenset({"status"}))
    jira.site.delete_issue("BILL-1")
    with pytest.raises(Missing) as caught:
        jira.route().write(document, bound)
    assert caught.value.code == "lost"


def test_an_issue_of_unknown_status_is_looked_at_once(jira: World) -> None:
    jira.bring(invoice=SENT)
    number = jira.issues()["BILL-1"]["id"]
    jira.calls()
    document = jira.route().documents("invoice", snapshot(SENT), TRACE)[-1]
    written = jira.route().write(document, Bound("", number, changed=frozenset({"status"})))
    assert written == Written(number, created=True, facts={"status": "In Progress", "type": "Task"})
    assert jira.calls() == ["GET /issue/N"]


def transition(number: str, to: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "to": {"name": to}, **more}


def test_only_transitions_that_ask_for_nothing_are_usable() -> None:
    asks = {"fields": {"resolution": {"required": True}}}
    answers = {"fields": {"resolution": {"required": True, "hasDefaultValue": True}, "labels": {"required": False}}}
    listed = [transition("1", "A"), transition("2", "B", **asks), transition("3", "C", **answers), transition("4", "D", isAvailable=False)]
    assert usable(listed) == [["1", "A"], ["3", "C"]]


@pytest.mark.parametrize(
    ("start", "target", "expected"),
    [
        ("a", "b", ["1"]),
        ("a", "c", ["2", "3"]),  # through the named "x", though "y" is as short and comes first
        ("a", "d", ["9", "4"]),  # only through "y", which nobody named
        ("a", "nowhere", ["1"]),  # "b" is named and nobody has seen what leaves it
        ("c", "a", []),
    ],
)
def test_the_path_prefers_what_the_route_names(start: str, target: str, expected: list[str]) -> None:
    graph = {"a": [["9", "Y"], ["1", "B"], ["2", "X"]], "x": [["3", "C"]], "y": [["8", "C"], ["4", "D"]], "c": []}
    assert [edge[0] for edge in path(graph, start, target, frozenset({"b", "x", "c"}))] == expected
