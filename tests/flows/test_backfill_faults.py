"""A backfill among faults: what the vendors refuse, lose or never finish is brought all the same, and nothing twice."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Hold, SyncJob
from integrations import backfill, reconcile, report
from integrations.models import Binding, Sweep
from integrations.sandbox.server import Fault, Request, StandIn
from tests.flows.backfilling import FAR, begun, bring, counts, settled, story, to_the_end, turn, unhurried
from tests.flows.test_reconcile import issues, organizations
from tests.flows.world import NO_WRITES, Setup, World

ALL = {"organizations": 3, "wave_invoice": 6, "wave_payment": 0, "issues": 0}


@pytest.fixture(autouse=True)
def no_hurry(empty_world: World) -> Iterator[None]:
    """Let nobody wait."""
    with unhurried(empty_world):
        yield


@pytest.fixture
def told(world: World) -> World:
    """Three customers with two invoices each."""
    story(world, invoices=2)
    return world


def refused(sweep: Sweep) -> dict[str, str]:
    return dict(sweep.options.get("refused") or {})


def proven(world: World, system: str = "zendesk") -> None:
    """Let a reconcile prove that nothing is missing and nothing differs at one destination."""
    sweep, _ = reconcile.begin(world.connection("wave"), started_by="test", route=world.route(system))
    reconcile.carry_on(sweep, deadline=FAR)
    sweep.refresh_from_db()
    told = report.report(sweep)
    assert (told["state"], told["findings"], told["money"]) == ("done", [], [])
    assert world.zendesk.state()["violations"] == world.jira.violations == []


def again_writes_nothing(world: World, system: str, **more: Any) -> None:
    settled(world)
    with world.counting() as counted:
        bring(world, system, **more)
        settled(world)
    assert counted.writes == NO_WRITES


# --- Zendesk's bulk jobs ---------------------------------------------------------------------------------------------


def test_an_account_that_refuses_bulk_is_written_one_by_one_and_it_says_so(told: World) -> None:
    told.zendesk.bulk = False
    sweep = bring(told, "zendesk")
    assert sorted(refused(sweep)) == ["organization", "wave_invoice"], "contacts wait for organizations"
    assert all("403" in why for why in refused(sweep).values())
    assert (sweep.figures["done"], sweep.figures["total"], sweep.figures["failed"]) == (9, 9, 0)
    assert counts(told) == ALL
    asked = [call for call in told.zendesk.calls if re.search("create_many|/jobs", call.path)]
    assert len(asked) == 2, "each kind is tried once, not once per batch"
    proven(told)
    again_writes_nothing(told, "zendesk")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_job_that_breaks_off_is_finished_one_by_one(told: World, after: int) -> None:
    told.zendesk.bulk_users, told.zendesk.jobs_break_after = True, after
    sweep = bring(told, "zendesk")
    settled(told)
    assert counts(told) == ALL
    assert refused(sweep) == {}
    told.zendesk.jobs_break_after = None
    again_writes_nothing(told, "zendesk")
    proven(told)


def test_a_job_that_vanished_is_looked_at_and_nothing_is_doubled(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what it should make is there when it is forgotten."""
    told.zendesk.bulk_users = True
    ordinary = told.zendesk.jobs._run

    def vanish(job: object) -> None:
        told.zendesk.jobs_break_after = 1
        ordinary(job)  # type: ignore[arg-type]
        told.zendesk.jobs.rows.clear()

    monkeypatch.setattr(told.zendesk.jobs, "_run", vanish)
    told.zendesk.jobs_stuck = False
    bring(told, "zendesk")
    settled(told)
    assert counts(told) == ALL
    monkeypatch.setattr(told.zendesk.jobs, "_run", ordinary)
    told.zendesk.jobs_break_after = None
    again_writes_nothing(told, "zendesk")
    proven(told)


@pytest.mark.parametrize("seconds", [10.0, float("inf")])
def test_a_job_that_never_ends_is_given_up_once_and_said(told: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Whether one turn waits for it or many: what it was for is written alone, and no other job is begun for that kind."""
    told.zendesk.bulk_users, told.zendesk.jobs_stuck = True, True
    monkeypatch.setattr("integrations.bringing.MOST", 1)
    sweep = begun(told, "zendesk", kinds=["customer"])
    in_turns(told, sweep, seconds)
    assert refused(sweep) == {"organization": "its bulk job did not come to an end within 5 minutes"}
    made = [call for call in told.zendesk.calls if "create_many" in call.path]
    assert len(made) == 1
    assert sweep.figures["done"] == 3
    told.zendesk.jobs_stuck = False
    settled(told)
    assert counts(told)["organizations"] == 3
    again_writes_nothing(told, "zendesk", kinds=["customer"])


def in_turns(world: World, sweep: Sweep, seconds: float) -> Sweep:
    """Carry it on to its end in turns of so many seconds."""
    for _ in range(500):
        if sweep.state != "running":
            break
        turn(world, sweep, deadline=time.monotonic() + seconds)
    assert (sweep.state, sweep.problem) == ("done", "")
    return sweep


# --- Jira's bulk creates ---------------------------------------------------------------------------------------------

BULK = "/issue/bulk$"


def test_a_site_that_refuses_bulk_is_written_one_by_one_and_it_says_so(told: World) -> None:
    told.jira.faults.append(Fault("status", "POST", BULK, times=0, status=403, body={"errorMessages": ["no bulk"], "errors": {}}))
    sweep = bring(told, "jira")
    assert list(refused(sweep)) == ["issue"]
    assert "403" in refused(sweep)["issue"]
    assert sum(call.path.endswith("/issue/bulk") for call in told.jira.calls) == 1
    assert (sweep.figures["done"], len(issues(told))) == (6, 6)
    proven(told, "jira")
    again_writes_nothing(told, "jira")


@pytest.mark.parametrize("lag", [0, 20])
@pytest.mark.parametrize("kind", ["lost", "cut", "status", "reset"])
def test_a_bulk_create_without_an_answer_doubles_no_issue(told: World, kind: str, lag: int) -> None:
    """Whether it was carried out or not, and however long the index takes to show it."""
    told.jira.index_lag = lag
    told.jira.faults.append(Fault(kind, "POST", BULK, status=502))
    bring(told, "jira")
    settled(told)
    assert len(issues(told)) == len(told.jira.issues) == 6
    told.jira.index_lag = 0
    proven(told, "jira")
    again_writes_nothing(told, "jira")


def test_an_issue_that_a_bulk_create_refuses_is_told_with_its_reason_and_holds_nothing_up(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(jira_fields={"invoice": {"priority": "{{ invoice.number }}"}}))
    customer = world.customer()
    for name in ("High", "No priority", "Low"):
        world.invoice(customer, name)
    world.clock.shift(timedelta(hours=1))
    sweep = bring(world, "jira")
    assert (sweep.figures["done"], sweep.figures["failed"], len(issues(world))) == (2, 1, 2)
    [failure] = backfill.failures(sweep, most=10)
    assert (failure.job.title, failure.job.error_code) == ("No priority", "fields_refused")
    assert failure.reason.startswith("POST /rest/api/3/issue: 400")


def test_twins_at_jira_are_left_to_a_person_and_the_others_arrive(told: World) -> None:
    bring(told, "jira")
    settled(told)
    first = min(told.jira.issues.values(), key=lambda issue: int(issue.id))
    told.jira.add_issue(replace(first, id=str(next(told.jira.ids)), key=told.jira.new_key("BILL")))
    Binding.objects.all().delete()
    SyncJob.objects.all().delete()
    sweep = bring(told, "jira")
    assert (sweep.figures["done"], sweep.figures["failed"], sweep.figures["passed"]) == (5, 1, 6)
    told.settle_later()
    assert set(SyncJob.objects.values_list("state", "error_code")) == {("succeeded", ""), ("dead", "twins")}
    assert len(told.jira.issues) == 7
    assert [(one.job.error_code, one.reason) for one in backfill.failures(sweep, most=10)] == [
        ("twins", "more than one remote object carries this record's key")
    ]


# --- Fields that are refused -----------------------------------------------------------------------------------------


def test_an_organization_field_that_vanished_meanwhile_is_learnt_of_and_the_rest_arrives(told: World) -> None:
    bring(told, "zendesk", kinds=["customer"])  # so that the account's fields are remembered
    for row in list(told.zendesk.organizations.rows):
        told.zendesk.delete_organization(row)
    Binding.objects.all().delete()
    del told.zendesk.organizations.fields.rows["wave_outstanding"]
    bring(told, "zendesk", kinds=["customer"])
    settled(told)
    assert all("wave_outstanding" not in row and row["wave_open_count"] == 0 for row in organizations(told).values())
    assert len(organizations(told)) == 3


def test_a_value_that_an_organization_field_refuses_fails_its_record_alone(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(zendesk_fields={"customer": {"wave_tier": "{{ customer.name }}"}}))
    options = [{"name": "Gold", "value": "gold"}, {"name": "Silver", "value": "silver"}]
    field = {"key": "wave_tier", "title": "Tier", "type": "dropdown", "custom_field_options": options}
    world.zendesk.organizations.fields.create(field)
    for name in ("gold", "Lead", "silver"):
        world.invoice(world.customer(name, email=f"{name}@example.com"), f"INV-{name}")
    world.clock.shift(timedelta(hours=1))
    sweep = bring(world, "zendesk")
    assert sorted(organizations(world)) == ["Lead", "gold", "silver"]
    [failure] = backfill.failures(sweep, most=10)
    assert (failure.job.title, failure.job.error_code) == ("Lead", "invalid")
    assert failure.reason == "POST /api/v2/organizations/create_or_update: 422 a value is not accepted"


# --- Names that are taken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 90])
def test_customers_of_one_name_all_arrive_although_zendesk_takes_each_name_once(world: World, lag: int) -> None:
    """A bulk job refuses the second; alone it gets its number, once the search shows whose the name is."""
    world.zendesk.search_lag = lag
    for number, name in enumerate(("Acme", "acme", "Acme", "Beta")):
        world.invoice(world.customer(name, email=f"c{number}@example.com"), f"INV-{number}")
    world.clock.shift(timedelta(hours=1))
    sweep = bring(world, "zendesk")
    settled(world)
    assert sorted(name.split(" ")[0].casefold() for name in organizations(world)) == ["acme"] * 3 + ["beta"]
    assert (counts(world)["wave_invoice"], backfill.failures(sweep, most=10)) == (4, [])


def test_a_name_that_somebody_elses_organization_has_stops_that_customer_alone(world: World) -> None:
    world.zendesk.add_organization("Acme")
    for number, name in enumerate(("Acme", "Beta")):
        world.invoice(world.customer(name, email=f"c{number}@example.com"), f"INV-{number}")
    world.clock.shift(timedelta(hours=1))
    sweep = bring(world, "zendesk")
    assert sorted((one.job.title, one.job.error_code) for one in backfill.failures(sweep, most=10)) == [
        ("Acme", "name_taken"),
        ("INV-0", "name_taken"),
    ]
    assert (sweep.figures["done"], sweep.figures["failed"]) == (2, 2)
    assert sorted(organizations(world)) == ["Acme", "Beta"]


# --- An account goes away in the middle ------------------------------------------------------------------------------


def after(vendor: StandIn, calls: int, then: Callable[[], None]) -> None:
    """Do something once, when a vendor has been called so many times more."""
    left, ordinary = [calls], vendor.take_fault

    def take(request: Request) -> Fault | None:
        left[0] -= 1
        if left[0] == 0:
            then()
        return ordinary(request)

    vendor.__dict__["take_fault"] = take


@pytest.mark.parametrize(("system", "calls"), [("zendesk", 12), ("jira", 1), ("jira", 7)])
def test_a_destination_that_is_down_costs_few_calls_and_when_it_is_back_all_arrives(
    world: World, system: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.bringing.MOST", 3)
    story(world, customers=4, invoices=3)
    vendor = world.stand_ins[system]
    after(vendor, calls, lambda: vendor.faults.append(Fault("status", times=0)))
    sweep = begun(world, system)
    problems, began = set(), timezone.now()
    for _ in range(8):
        turn(world, sweep)
        world.settle_later(minutes=1)
        problems.add(sweep.problem)
    minutes = (timezone.now() - began).total_seconds() / 60
    in_vain = [call for call in vendor.calls if call.status == 503]
    assert (sweep.state, len(in_vain) <= minutes + 5) == ("running", True)
    assert any("held: vendor_down" in problem for problem in problems)
    assert bool(sweep.figures.get("passed")) == (calls > 1), "it was in the middle"
    vendor.faults.clear()
    to_the_end(world, sweep)
    settled(world)
    assert not Hold.objects.exists()
    assert sweep.figures["passed"] == sweep.figures["total"]
    proven(world, system)
    again_writes_nothing(world, system)


@pytest.mark.parametrize("calls", [1, 5, 6])
def test_a_dead_grant_makes_it_rest_and_once_connected_again_it_goes_on(told: World, calls: int) -> None:
    sweep = begun(told, "jira")
    after(told.jira, calls, lambda: setattr(told.jira, "api_token", "another"))
    turn(told, sweep)
    assert (sweep.state, told.connection("jira").status) == ("paused", "needs_reconnect")
    assert sweep.problem == "jira: the credentials of api_token were refused: enter new ones or connect again"
    with told.counting() as counted:
        told.settle_later(minutes=5, rounds=2)
        assert backfill.resume(sweep)
        turn(told, sweep)
    assert (sweep.state, sweep.problem, counted.jira) == ("paused", "jira-main must be connected again; then resume", [])
    told.reconnect(Setup())
    assert backfill.resume(sweep)
    sweep.refresh_from_db()
    to_the_end(told, sweep)
    settled(told)
    assert len(issues(told)) == 6
    proven(told, "jira")
