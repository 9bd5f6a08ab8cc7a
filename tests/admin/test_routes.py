"""The browser's pages for routes: options, mappings, pause, provision."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.models import Hold, SyncJob
from integrations import provision
from integrations.core.errors import Disconnected
from integrations.core.ports import Step
from integrations.core.records import STATES, record_key
from integrations.models import Connection, FieldMapping, Route, StatusMapping
from tests.admin.people import binding_of, signed_in
from tests.conftest import BUSINESS

pytestmark = pytest.mark.django_db
LIST = "/admin/integrations/route/"


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


def page(name: str, route: Route) -> str:
    return reverse(f"admin:integrations_route_{name}", args=[route.pk])


def errors_of(answer: Any) -> dict[str, list[str]]:
    return dict(answer.context["adminform"].form.errors)


def form_of(route: Route, **changes: str) -> dict[str, Any]:
    """Return what the change page posts for a route to Jira, mappings and all."""
    data: dict[str, Any] = {"slug": route.slug, "kinds": route.kinds, "option_payments": "worklog", "option_on_delete": "mark"}
    data |= {"option_project": "BILL", "option_invoice_issue_type": "Task", "option_customer_issue_type": "Task"}
    for name, rows, columns in (
        ("field_mappings", route.field_mappings.all(), ("kind", "target", "template")),
        ("status_mappings", route.status_mappings.all(), ("state", "status", "via")),
    ):
        data |= {f"{name}-TOTAL_FORMS": len(rows), f"{name}-INITIAL_FORMS": len(rows)}
        for number, row in enumerate(rows):
            values = {column: getattr(row, column) for column in columns}
            data |= {f"{name}-{number}-{column}": value for column, value in {"id": row.pk, "route": route.pk, **values}.items()}
    return data | changes


def add_address(route: Route) -> str:
    return f"{LIST}add/?source={route.source_id}&destination={route.destination_id}"


def test_adding_asks_for_both_ends_first(route: Route) -> None:
    form = signed_in("Administrator").get(LIST + "add/").context["form"]
    chosen = {name: [row.slug for row in form.fields[name].queryset] for name in ("source", "destination")}
    assert chosen == {"source": ["wave-main"], "destination": ["wave-to-jira-account"]}


def test_a_new_route_begins_with_its_systems_default_mappings_and_leads_to_them(route: Route) -> None:
    data = {"slug": "second", "kinds": ["invoice"], "option_project": "ACCT", "option_payments": "off", "option_on_delete": "mark"}
    answer = signed_in("Administrator").post(add_address(route), data)
    new = Route.objects.get(slug="second")
    assert answer["Location"] == page("change", new)
    assert (new.source, new.destination, new.kinds) == (route.source, route.destination, ["invoice"])
    assert (new.options["project"], new.options["payments"]) == ("ACCT", "off")
    assert (new.field_mappings.exists(), set(new.status_mappings.values_list("state", flat=True))) == (True, set(STATES))


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"option_project": "no key"}, ["option_project"]),
        ({"option_project": ""}, ["option_project"]),
        ({"option_project": "BILL"}, ["__all__"]),
        ({"kinds": ["payment"]}, ["kinds"]),
        ({"option_payments": "cash"}, ["option_payments"]),
        ({"slug": "wave-to-jira"}, ["slug"]),
    ],
)
def test_a_mistake_is_told_beside_its_field(route: Route, change: dict[str, Any], errors: list[str]) -> None:
    data = {"slug": "second", "kinds": ["invoice"], "option_project": "ACCT", "option_payments": "off", "option_on_delete": "mark"}
    answer = signed_in("Administrator").post(add_address(route), {**data, **change})
    assert (list(errors_of(answer)), Route.objects.count()) == (errors, 1)


def test_the_project_is_fixed_once_something_is_bound(route: Route) -> None:
    binding_of(route, 7)
    answer = signed_in("Administrator").post(page("change", route), form_of(route, option_project="ACCT"))
    assert errors_of(answer) == {"__all__": ["the project is fixed once records are bound: make a new route"]}


def test_mappings_are_edited_with_the_route(route: Route) -> None:
    FieldMapping.objects.create(route=route, kind="invoice", target="Old", template="x", remote="customfield_1", problem="refused")
    FieldMapping.objects.create(route=route, kind="invoice", target="Kept", template="x", remote="customfield_2", problem="refused")
    StatusMapping.objects.create(route=route, state="PAID", status="Done")
    changes = {"field_mappings-0-target": "New", "status_mappings-0-status": "Closed", "status_mappings-0-state": "paid"}
    answer = signed_in("Administrator").post(page("change", route), form_of(route, **changes))
    assert answer.status_code == 302
    rows = route.field_mappings.values_list("target", "remote", "problem")
    assert list(rows) == [("New", "", ""), ("Kept", "customfield_2", "refused")]
    assert list(route.status_mappings.values_list("state", "status")) == [("PAID", "Closed")]


def test_a_template_with_a_mistake_is_refused_naming_the_nearest_name(route: Route) -> None:
    FieldMapping.objects.create(route=route, kind="invoice", target="Total", template="{{ invoice.total }}")
    data = form_of(route, **{"field_mappings-0-template": "{{ invoice.totl }}"})
    html = signed_in("Administrator").post(page("change", route), data).content.decode()
    assert ("invoice.total" in html, FieldMapping.objects.get().template) == (True, "{{ invoice.total }}")


@pytest.mark.parametrize("group", ["Viewer", "Operator"])
def test_only_administrators_edit_routes_and_mappings(route: Route, group: str) -> None:
    client = signed_in(group)
    FieldMapping.objects.create(route=route, kind="invoice", target="Total", template="{{ invoice.total }}")
    assert "{{ invoice.total }}" in client.get(page("change", route)).content.decode()
    names = ("change", "pause", "resume", "provision", "delete")
    assert [client.post(page(name, route), form_of(route)).status_code for name in names] == [403] * 5
    assert client.get(page("provision", route)).status_code == 403


def test_pause_holds_the_routes_jobs_until_resume(route: Route) -> None:
    client = signed_in("Administrator")
    client.post(page("pause", route))
    paused = Route.objects.get()
    assert (paused.paused_at is None, list(Hold.objects.values_list("scope", "reason"))) == (False, [(f"route:{route.pk}", "paused")])
    client.post(page("pause", route))
    assert Route.objects.get().paused_at == paused.paused_at
    assert "badge-paused" in client.get(LIST).content.decode()
    client.post(page("resume", route))
    assert (Route.objects.get().paused_at, Hold.objects.count()) == (None, 0)


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_following_a_link_neither_pauses_nor_resumes(route: Route, name: str) -> None:
    assert (signed_in("Administrator").get(page(name, route)).status_code, Hold.objects.count()) == (405, 0)


def test_provision_shows_its_plan_and_creates_on_post(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def plan(given: Route, *, dry_run: bool) -> list[Step]:
        asked.append(dry_run)
        return [Step("field Wave total", "create" if dry_run else "created"), Step("screen", "by_hand", "add it to the Bug screen")]

    monkeypatch.setattr(provision, "provision", plan)
    client = signed_in("Administrator")
    planned = client.get(page("provision", route)).content.decode()
    done = client.post(page("provision", route)).content.decode()
    assert asked == [True, False]
    assert ('value="Create"' in planned, 'value="Create"' in done) == (True, False)
    assert [text for text in ("field Wave total", "by hand", "add it to the Bug screen") if text not in planned] == []


def test_provision_tells_why_it_could_not_ask(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(given: Route, *, dry_run: bool) -> list[Step]:
        raise Disconnected("GET /field answered 401", words="the vendor's own words")

    monkeypatch.setattr(provision, "provision", fail)
    html = signed_in("Administrator").get(page("provision", route)).content.decode()
    assert ("GET /field answered 401" in html, "own words" in html) == (True, False)


def test_the_list_asks_as_often_for_many_routes_as_for_one(
    wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]
) -> None:
    client, counts = signed_in("Viewer"), []
    for numbers in (range(1), range(1, 20)):
        for number in numbers:
            route = jira_route(wave_connection(f"wave-{number}"), f"route-{number}")
            FieldMapping.objects.create(route=route, kind="invoice", target="T", template="x", problem="refused")
        with CaptureQueriesContext(database) as queries:
            client.get(LIST)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 10


# --- Records that a changed mapping touches -----------------------------------------------------------------------


def test_a_changed_mapping_offers_to_run_its_records_again(route: Route) -> None:
    FieldMapping.objects.create(route=route, kind="invoice", target="Total", template="{{ invoice.total }}")
    for number in (7, 8):
        binding_of(route, number, key=record_key(BUSINESS, "invoice", str(number)))
    browser = signed_in("Administrator")
    answer = browser.post(page("change", route), form_of(route, **{"field_mappings-0-template": "{{ invoice.due }}"}), follow=True)
    address = f"{page('rerun', route)}?kind=invoice"
    assert f'<a href="{address}">Run the 2 records this touches again</a>' in answer.content.decode()
    assert "2 records (invoice)" in browser.get(address).content.decode()
    assert SyncJob.objects.count() == 0
    browser.post(address)
    assert sorted((job.kind, job.state) for job in SyncJob.objects.all()) == [("invoice", "pending")] * 2


def test_saving_without_a_change_of_mappings_offers_nothing(route: Route) -> None:
    FieldMapping.objects.create(route=route, kind="invoice", target="Total", template="{{ invoice.total }}")
    binding_of(route, 7)
    answer = signed_in("Administrator").post(page("change", route), form_of(route), follow=True)
    assert "records this touches" not in answer.content.decode()


def test_who_may_only_look_runs_nothing_again(route: Route) -> None:
    binding_of(route, 7)
    assert signed_in("Viewer").post(f"{page('rerun', route)}?kind=invoice").status_code == 403
    assert SyncJob.objects.count() == 0
