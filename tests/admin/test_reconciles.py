"""The pages of reconciles: who may do what, and what they show."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.models import SyncJob
from integrations.models import Connection, Disagreement, Finding, Route, Sweep
from tests.admin.people import job_of, signed_in
from tests.admin.test_pages import INLINE

pytestmark = pytest.mark.django_db


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


@pytest.fixture
def sweep(route: Route) -> Sweep:
    """A dry run that found an edited invoice, one that a person must decide on, and a customer whose money differs."""
    now = timezone.now()
    made = Sweep.objects.create(
        source=route.source,
        purpose="reconcile",
        state="done",
        dry_run=True,
        started_by="ada",
        created_at=now,
        due_at=now,
        ended_at=now,
        today=now.date(),
        zone="Europe/Berlin",
    )
    for number, reason in ((1, "drifted"), (2, "lost")):
        Finding.objects.create(
            sweep=made, route=route, kind="invoice", key=f"wave:b:invoice:{number}", title=f"INV-{number}", reason=reason, fields=["due"]
        )
    Disagreement.objects.create(
        sweep=made,
        customer_key="wave:b:customer:7",
        title="Ada",
        currency="EUR",
        outstanding="5.00",
        open_sum="5.00",
        held={route.slug: {"customer": "", "invoices": "4.99"}},
        invoices=["wave:b:invoice:1"],
    )
    return made


def address(name: str, *args: Any) -> str:
    return reverse(f"admin:integrations_reconcile_{name}", args=args)


def posts(sweep: Sweep) -> dict[str, str]:
    finding, money = sweep.findings.get(reason="drifted"), sweep.disagreements.get()
    return {
        "run": address("run"),
        "repair": address("repair", sweep.pk),
        "repair_one": address("repair_one", sweep.pk, finding.pk),
        "repair_money": address("repair_money", sweep.pk, money.pk),
    }


def pages(sweep: Sweep) -> list[str]:
    return [address("changelist"), address("change", sweep.pk), address("csv", sweep.pk), address("json", sweep.pk)]


# --- Who may ---------------------------------------------------------------------------------------------------------


def test_a_viewer_sees_and_downloads_and_can_neither_run_nor_repair(sweep: Sweep) -> None:
    viewer = signed_in("Viewer")
    assert [viewer.get(one).status_code for one in pages(sweep)] == [200] * 4
    assert {
        name: viewer.post(one, {"what": f"source:{sweep.source_id}"}).status_code for name, one in posts(sweep).items()
    } == dict.fromkeys(posts(sweep), 403)
    shown = "".join(viewer.get(one).content.decode() for one in pages(sweep)[:2])
    assert ("/repair" in shown, 'name="dry_run"' in shown, SyncJob.objects.count()) == (False, False, 0)


def test_who_may_not_even_look_gets_nothing(sweep: Sweep) -> None:
    nobody = signed_in()
    assert {nobody.get(one).status_code for one in pages(sweep)} | {nobody.post(one).status_code for one in posts(sweep).values()} == {403}


def test_what_changes_something_takes_posts_only(sweep: Sweep) -> None:
    operator = signed_in("Operator")
    assert {name: operator.get(one).status_code for name, one in posts(sweep).items()} == dict.fromkeys(posts(sweep), 405)


def test_posts_need_the_forms_token(sweep: Sweep) -> None:
    operator = signed_in("Operator")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert {strict.post(one).status_code for one in posts(sweep).values()} == {403}


# --- Running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_operator_runs_one_of_an_account(route: Route, dry_run: bool) -> None:
    answer = signed_in("Operator").post(address("run"), {"what": f"source:{route.source_id}", **({"dry_run": "on"} if dry_run else {})})
    sweep = Sweep.objects.get()
    assert (sweep.source, sweep.route, sweep.dry_run, sweep.started_by, sweep.state) == (route.source, None, dry_run, "Operator", "running")
    assert (answer.status_code, answer.headers["Location"]) == (302, address("change", sweep.pk))


def test_one_of_a_single_route_and_the_one_that_runs_is_said_so(route: Route, jira_route: Callable[..., Route]) -> None:
    jira_route(route.source, "wave-to-other", project="OTHER")
    operator = signed_in("Operator")
    told = []
    for what in (f"route:{route.pk}", f"route:{route.pk}", f"source:{route.source_id}"):
        shown = operator.post(address("run"), {"what": what}, follow=True).content.decode()
        told.append([word for word in ("It has begun", "It is running already", "Another reconcile of this account") if word in shown])
    assert told == [["It has begun"], ["It is running already"], ["Another reconcile of this account"]]
    assert Sweep.objects.get().route == route


@pytest.mark.parametrize("what", ["", "source:", "route:0", "source:99999999999999999999", "source:²", "route:1 OR 1=1"])
def test_what_cannot_be_chosen_is_not_found(route: Route, what: str) -> None:
    assert (signed_in("Operator").post(address("run"), {"what": what}).status_code, Sweep.objects.count()) == (404, 0)


def test_a_destination_cannot_be_chosen(route: Route) -> None:
    assert signed_in("Operator").post(address("run"), {"what": f"source:{route.destination_id}"}).status_code == 404


# --- Repairing -------------------------------------------------------------------------------------------------------


def test_one_click_repairs_one_record_and_the_button_is_gone(sweep: Sweep) -> None:
    operator = signed_in("Operator")
    assert 'aria-label="Repair INV-1 on wave-to-jira"' in operator.get(address("change", sweep.pk)).content.decode()
    shown = operator.post(posts(sweep)["repair_one"], follow=True).content.decode()
    assert "1 record will be read again and mended." in shown
    assert 'aria-label="Repair INV-1' not in shown and "waits" in shown
    assert [(job.kind, job.key) for job in SyncJob.objects.all()] == [("invoice", "wave:b:invoice:1")]
    assert "It is being mended already." in operator.post(posts(sweep)["repair"], follow=True).content.decode()


def test_repair_all_leaves_what_a_person_must_decide(sweep: Sweep) -> None:
    operator = signed_in("Operator")
    assert "Repair all (1)" in operator.get(address("change", sweep.pk)).content.decode()
    operator.post(posts(sweep)["repair"])
    assert [job.key for job in SyncJob.objects.all()] == ["wave:b:invoice:1"]
    operator.post(address("repair_one", sweep.pk, sweep.findings.get(reason="lost").pk))
    assert SyncJob.objects.count() == 1


def test_a_customers_money_is_repaired(sweep: Sweep) -> None:
    operator = signed_in("Operator")
    shown = operator.post(posts(sweep)["repair_money"], follow=True).content.decode()
    assert "1 record will be read again and mended." in shown
    assert 'aria-label="Repair Ada, EUR"' not in shown
    SyncJob.objects.update(state="succeeded")
    assert "Repair again" in operator.get(address("change", sweep.pk)).content.decode()


def test_a_finding_of_another_report_is_not_repaired_through_this_one(sweep: Sweep, route: Route) -> None:
    other = Sweep.objects.create(source=route.source, purpose="reconcile", state="done", created_at=timezone.now(), due_at=timezone.now())
    operator = signed_in("Operator")
    operator.post(address("repair_one", other.pk, sweep.findings.get(reason="drifted").pk))
    assert operator.post(address("repair_money", other.pk, sweep.disagreements.get().pk)).status_code == 404
    assert not SyncJob.objects.exists()


# --- What is shown ---------------------------------------------------------------------------------------------------


def test_empty_states_say_what_comes_next(route: Route) -> None:
    operator = signed_in("Operator")
    assert "One runs by itself each day" in operator.get(address("changelist")).content.decode()
    Route.objects.all().delete()
    assert "There is no route yet" in operator.get(address("changelist")).content.decode()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"state": "running", "phase": "customer", "problem": "POST /graphql: 503"},
            ["Under way: customer", "POST /graphql: 503", 'http-equiv="refresh"'],
        ),
        ({"state": "failed", "problem": "POST /graphql: 503"}, ["It did not come to its end: POST /graphql: 503"]),
        ({"left_out": {"wave-to-jira": "its account is dead"}}, ["wave-to-jira could not be looked at: its account is dead"]),
    ],
)
def test_each_state_is_told(sweep: Sweep, values: dict[str, Any], words: list[str]) -> None:
    Sweep.objects.filter(pk=sweep.pk).update(**values)
    shown = signed_in("Viewer").get(address("change", sweep.pk)).content.decode()
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize("left", [0, 3])
def test_a_page_does_not_say_that_all_agrees_when_some_was_left_to_jobs(sweep: Sweep, left: int) -> None:
    sweep.findings.all().delete()
    sweep.disagreements.all().delete()
    Sweep.objects.filter(pk=sweep.pk).update(figures={"left_to_jobs": left})
    shown = signed_in("Viewer").get(address("change", sweep.pk)).content.decode()
    words = ["It agrees to the cent", "every record as it should be", "3 records were left to jobs that wait", "What was compared agrees"]
    assert [word in shown for word in words] == [not left, not left, bool(left), bool(left)]


@pytest.mark.parametrize(("result", "words"), [("deleted", "deleted in Wave"), ("unchanged", "but still there")])
def test_what_the_second_look_at_a_missing_record_found_is_shown(sweep: Sweep, route: Route, result: str, words: str) -> None:
    job = job_of(route, 1, state="succeeded", result=result)
    sweep.findings.filter(reason="drifted").update(reason="deleted", job_id=job.pk)
    shown = signed_in("Viewer").get(address("change", sweep.pk)).content.decode()
    assert [one in shown for one in ("deleted in Wave", "but still there")] == [words == "deleted in Wave", words != "deleted in Wave"]


def test_no_page_has_inline_scripts_or_styles_and_names_are_escaped(sweep: Sweep) -> None:
    sweep.findings.update(title="<script>alert(1)</script>")
    sweep.disagreements.update(title="<b>Ada</b>")
    operator = signed_in("Operator")
    shown = [operator.get(one).content.decode() for one in pages(sweep)[:2]]
    assert [INLINE.findall(one) for one in shown] == [[], []]
    assert "<b>Ada" not in shown[1] and "&lt;b&gt;Ada" in shown[1]


def test_the_lists_counts_are_not_multiplied_by_each_other(sweep: Sweep) -> None:
    shown = signed_in("Viewer").get(address("changelist")).content.decode()
    assert ('class="field-differing">2<' in shown, 'class="field-money">1<' in shown) == (True, True)


def test_ten_thousand_findings_are_shown_by_the_page(sweep: Sweep, route: Route) -> None:
    job = job_of(route, 1, state="succeeded")
    rows = (
        Finding(
            sweep=sweep, route=route, kind="invoice", key=f"wave:b:invoice:9{number}", title=f"N-{number}", reason="missed", job_id=job.pk
        )
        for number in range(10_000)
    )
    Finding.objects.bulk_create(rows)
    operator = signed_in("Operator")
    with CaptureQueriesContext(connection) as captured:
        shown = operator.get(f"{address('change', sweep.pk)}?page=3").content.decode()
    assert "101 to 150 of 10002" in shown
    assert ("page=2#findings" in shown, "page=4#findings" in shown, shown.count('class="reason"')) == (True, True, 50)
    assert len(captured) < 40
    assert operator.get(address("json", sweep.pk)).json()["by_reason"] == {"drifted": 1, "lost": 1, "missed": 10_000}


def test_downloads_are_files(sweep: Sweep) -> None:
    viewer = signed_in("Viewer")
    for name, kind in (("csv", "text/csv; charset=utf-8"), ("json", "application/json")):
        answer = viewer.get(address(name, sweep.pk))
        assert (answer.headers["Content-Type"], answer.headers["Content-Disposition"]) == (
            kind,
            f'attachment; filename="reconcile-{sweep.pk}.{name}"',
        )
