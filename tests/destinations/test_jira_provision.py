"""Ping and provision against the sandbox: what holds, what is created, and what is left to an admin."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from integrations.core.ports import Check, FieldRule, Plan, Step
from integrations.destinations.jira.provision import remote_kind
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import Fault, serving
from tests.jira_world import INVOICE, World, plan

INVOICES = plan(kinds=("invoice", "payment"))
MADE = ("Wave invoice id", "Wave invoice number", "Wave customer", "Wave currency", "Wave synced at", "Wave job id")
NUMBERS = ("Wave total", "Wave paid", "Wave due")


@pytest.fixture
def jira() -> Iterator[World]:
    """A site that nobody has provisioned."""
    site = Jira()
    with serving({"jira": site}) as url:
        yield World(site, url)


def changes(steps: list[Step]) -> dict[str, str]:
    return {step.what.removeprefix('field "').rstrip('"'): step.change for step in steps}


SYSTEM_STEPS = dict.fromkeys(("labels", "summary", "description", "duedate"), "exists")


def test_a_dry_run_creates_nothing(jira: World) -> None:
    steps = jira.route(INVOICES).provision(dry_run=True)
    assert changes(steps) == SYSTEM_STEPS | dict.fromkeys(MADE + NUMBERS, "create")
    assert {call.split()[0] for call in jira.calls()} == {"GET"}


def test_missing_fields_are_created_with_their_type_and_put_on_the_screen(jira: World) -> None:
    steps = jira.route(INVOICES).provision(dry_run=False)
    assert changes(steps) == SYSTEM_STEPS | dict.fromkeys(MADE + NUMBERS, "created")
    kinds = {entry["name"]: entry["kind"] for entry in jira.site.state()["fields"]}
    assert kinds == dict.fromkeys(MADE, "textfield") | dict.fromkeys(NUMBERS, "float")
    jira.bring(INVOICES)
    assert set(jira.issues()["BILL-1"]["fields"]) == set(MADE + NUMBERS)


def test_provisioning_again_finds_everything_there(jira: World) -> None:
    jira.route(INVOICES).provision(dry_run=False)
    jira.calls()
    steps = jira.route(INVOICES).provision(dry_run=False)
    assert set(changes(steps).values()) == {"exists"}
    assert {call.split()[0] for call in jira.calls()} == {"GET"}


def test_provisioning_forgets_what_was_known_of_the_set_up(jira: World) -> None:
    jira.bring(INVOICES, replace(INVOICE, status="PAID"))
    assert None not in jira.shape.values.values()
    jira.route(INVOICES).provision(dry_run=False)
    assert set(jira.shape.values) == {"fields", "statuses", "time_tracking", "transitions:Task", "initial:Task"}
    assert set(jira.shape.values.values()) == {None}


def test_resting_rules_are_provisioned_too(jira: World) -> None:
    rules = tuple(replace(rule, problem="cannot be set") for rule in INVOICES.fields)
    steps = jira.route(replace(INVOICES, fields=rules)).provision(dry_run=False)
    assert changes(steps) == SYSTEM_STEPS | dict.fromkeys(MADE + NUMBERS, "created")


def test_without_the_right_an_admin_is_told_what_to_add(jira: World) -> None:
    jira.site.admin = False
    steps = {step.what: step for step in jira.route(INVOICES).provision(dry_run=False)}
    reason = ' (the account lacks "Administer Jira", or Jira refused: POST /rest/api/3/field: 400)'
    assert steps['field "Wave total"'] == Step(
        'field "Wave total"',
        "by_hand",
        f'create a custom field "Wave total" of type "Number" and put it on the screens of project BILL{reason}',
    )


def test_a_field_that_is_on_no_screen_is_never_called_there(jira: World) -> None:
    jira.site.add_project("OWN", "Own", own_screen=True)
    own = replace(
        INVOICES, options={**INVOICES.options, "project": "OWN"}, fields=(FieldRule("invoice", "Wave total", "{{ invoice.total }}"),)
    )
    (labels, total) = jira.route(own).provision(dry_run=False)
    remote = next(entry["id"] for entry in jira.site.state()["fields"])
    assert labels.change == "exists"
    assert total == Step('field "Wave total"', "by_hand", f"put {remote} on the create and edit screens of Task in project OWN")


def test_a_missing_scope_for_fields_is_left_to_an_admin(jira: World) -> None:
    body = {"code": 401, "message": "Unauthorized; scope does not match"}
    jira.site.faults.append(Fault("status", "POST", "/field$", times=0, status=401, body=body))
    rules = (FieldRule("invoice", "Wave total", "{{ invoice.total }}"),)
    (_, total) = jira.route(replace(INVOICES, fields=rules)).provision(dry_run=False)
    assert total.change == "by_hand"
    assert "manage:jira-configuration" in total.detail


def test_required_fields_that_nothing_fills_are_named(jira: World) -> None:
    region = jira.site.add_field("Region", "textfield", required=True)
    steps = jira.route(INVOICES).provision(dry_run=True)
    assert steps[-1] == Step("required field Region", "by_hand", f"Task needs it: map it ({region}) or give it a default")
    mapped = replace(INVOICES, fields=(*INVOICES.fields, FieldRule("invoice", "Region", "Bonn")))
    assert [step.what for step in jira.route(mapped).provision(dry_run=True) if "required" in step.what] == []


def test_an_unknown_issue_type_is_left_to_a_person(jira: World) -> None:
    steps = jira.route(plan(kinds=("invoice",), invoice_issue_type="Bill")).provision(dry_run=True)
    assert steps == [Step('issue type "Bill"', "by_hand", "add it to project BILL, or choose another type in the route's options")]


def test_a_target_by_id_that_does_not_exist_is_named(jira: World) -> None:
    rules = (FieldRule("invoice", "customfield_1", "{{ invoice.total }}"),)
    (_, step) = jira.route(replace(INVOICES, fields=rules)).provision(dry_run=False)
    assert step == Step('field "customfield_1"', "by_hand", "no such field: correct the mapping's target")


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{ invoice.total }}", "float"),
        ("{{invoice.due_on}}", "datepicker"),
        ("{{ invoice.number }}", "textfield"),
        ("{{ invoice.total }} x", "textfield"),
    ],
)
def test_a_new_field_takes_what_its_template_makes(template: str, kind: str) -> None:
    assert remote_kind(template) == kind


# --- Ping

GOOD = [
    Check("login", True, "Olive Ops"),
    Check("project", True, "BILL"),
    Check("permissions", True, "5 of 5"),
    Check("time tracking", True, "on"),
]


def test_a_ping_proves_what_the_route_needs(jira: World) -> None:
    assert jira.route().ping() == GOOD


def test_a_connection_without_a_route_checks_the_login_only(jira: World) -> None:
    assert jira.route(Plan("", (), {"project": None}, ())).ping() == GOOD[:1]


def test_a_wrong_token_fails_the_login_and_nothing_else_is_asked(jira: World) -> None:
    (check,) = jira.route(token="wrong").ping()
    assert (check.name, check.ok, check.advice) == ("login", False, "connect again, or make a new API token without scopes")
    assert jira.calls() == ["GET /myself"]


def test_an_answer_to_nobody_is_no_login(jira: World) -> None:
    jira.site.faults.append(Fault("status", "GET", "/myself", status=200, body={}))
    assert jira.route().ping() == [Check("login", False, "", "nobody is logged in: enter new credentials")]


def test_missing_permissions_are_named(jira: World) -> None:
    jira.site.permissions -= {"TRANSITION_ISSUES", "WORK_ON_ISSUES"}
    advice = "give the account these permissions in BILL: TRANSITION_ISSUES, WORK_ON_ISSUES"
    assert jira.route().ping()[2] == Check("permissions", False, "3 of 5", advice)


def test_a_wrong_project_says_where_to_look(jira: World) -> None:
    checks = jira.route(plan(project="NONE")).ping()
    assert [(check.name, check.ok) for check in checks] == [
        ("login", True),
        ("project", False),
        ("permissions", False),
        ("time tracking", True),
    ]
    assert checks[1].advice == "check the project's key, and that the account may browse it"


def test_missing_issue_types_are_named(jira: World) -> None:
    check = jira.route(plan(invoice_issue_type="Bill")).ping()[1]
    assert check == Check("project", False, "BILL", "add Bill to the project, or choose other issue types in the route's options")


@pytest.mark.parametrize(("payments", "ok"), [("worklog", False), ("comment", True), ("off", True)])
def test_time_tracking_matters_where_payments_are_worklogs(jira: World, payments: str, ok: bool) -> None:
    jira.site.time_tracking = False
    assert jira.route(plan(payments=payments)).ping()[3].ok is ok
