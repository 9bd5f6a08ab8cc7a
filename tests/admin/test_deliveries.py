"""The browser's pages for deliveries and remote objects."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.models import SyncJob
from audit.states import State
from integrations.models import Binding, Connection, Delivery, Route
from tests.admin.people import THEN, binding_of, delivery_of, job_of, signed_in

pytestmark = pytest.mark.django_db
DELIVERIES, BINDINGS = "/admin/integrations/delivery/", "/admin/integrations/binding/"


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


def page(name: str, row: Delivery | Binding) -> str:
    return reverse(f"admin:integrations_{row._meta.model_name}_{name}", args=[row.pk])


def shown(address: str) -> str:
    return signed_in("Viewer").get(address).content.decode()


@pytest.mark.parametrize(
    "query", ["?q=INV-7", "?q=Customer 7", "?q=invoice:7", "?q=invoice.paid", "?event_type=invoice.paid", "?decision__exact=accepted"]
)
def test_deliveries_are_found_by_invoice_number_customer_event_and_decision(route: Route, query: str) -> None:
    job = job_of(route, 7)
    wanted = delivery_of(route, subject=job.key, event_type="invoice.paid")
    delivery_of(route, event_type="estimate.created", decision="ignored", subject="wave:b:invoice:8")
    assert list(signed_in("Viewer").get(DELIVERIES + query).context["cl"].result_list) == [wanted]


def test_a_listed_delivery_is_called_what_its_newest_job_learnt(route: Route) -> None:
    job = job_of(route, 7, title="INV-7, as it was")
    job_of(route, 7, title="INV-7b", created_at=job.created_at + timedelta(days=1))
    delivery_of(route, subject=job.key)
    html = shown(DELIVERIES)
    assert ("INV-7b" in html, "as it was" in html, "Customer 7" in html, "7.00 EUR" in html) == (True, False, True, True)


def test_the_page_of_a_delivery_shows_its_body_jobs_and_their_replays(route: Route) -> None:
    job = job_of(route, 7, error_code="rejected")
    replay = job_of(route, 7, state=State.SUCCEEDED, replay_of=job)
    html = shown(page("change", delivery_of(route, b'{"name":"M\xc3\xbcller <b>"}', job_ids=[str(job.pk)], subject=job.key)))
    wanted = ("&quot;name&quot;: &quot;Müller &lt;b&gt;&quot;", str(job.pk), str(replay.pk), "rejected", "badge-succeeded")
    assert [text for text in wanted if text not in html] == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"a\x00b", "a\\u0000b"),
        (json.dumps("\ud800").encode(), "\\ud800"),
        (b"[" * 20_000, "[[[["),
        (b"1" * 5000, "1111"),
        (b"", "<pre"),
    ],
)
def test_a_body_in_any_state_can_be_looked_at(route: Route, body: bytes, text: str) -> None:
    assert text in shown(page("change", delivery_of(route, body, decision="quarantined", reason="unreadable")))


def test_a_delivery_is_replayed_by_button_and_by_action(route: Route) -> None:
    jobs = [job_of(route, number) for number in (1, 2)]
    deliveries = [delivery_of(route, job_ids=[str(job.pk)], subject=job.key) for job in jobs]
    client = signed_in("Operator")
    client.post(page("replay", deliveries[0]), {"confirmed": "yes"})
    client.post(DELIVERIES, {"action": "replay_selected", "_selected_action": [str(deliveries[1].pk)], "confirmed": "yes"})
    assert list(SyncJob.objects.filter(state=State.PENDING).order_by("key").values_list("replay_of", flat=True)) == [job.pk for job in jobs]


def test_a_delivery_that_names_nothing_says_that_nothing_was_replayed(route: Route) -> None:
    answer = signed_in("Operator").post(page("replay", delivery_of(route)), {"confirmed": "yes"}, follow=True)
    assert [message.level_tag for message in answer.context["messages"]] == ["warning"]
    assert not SyncJob.objects.exists()


def test_who_may_only_look_replays_no_delivery(route: Route) -> None:
    assert signed_in("Viewer").post(page("replay", delivery_of(route)), {"confirmed": "yes"}).status_code == 403


@pytest.mark.parametrize("group", ["Viewer", "Administrator"])
def test_nobody_changes_deliveries_or_bindings(route: Route, group: str) -> None:
    client = signed_in(group)
    rows: list[Delivery | Binding] = [delivery_of(route), binding_of(route, 7)]
    answers = [client.post(page(name, row), {"post": "yes"}).status_code for row in rows for name in ("change", "delete")]
    assert answers == [403, 403, 403, 403]


@pytest.mark.parametrize("query", ["?q=INV-7", "?q=invoice:7", "?q=10007", "?state__exact=lost", "?kind=worklog", "?key=wave:b:invoice:7"])
def test_bindings_are_found_by_title_key_remote_id_and_filters(route: Route, query: str) -> None:
    wanted = binding_of(route, 7, state="lost", kind="worklog")
    binding_of(route, 8)
    assert list(signed_in("Viewer").get(BINDINGS + query).context["cl"].result_list) == [wanted]


def test_the_page_of_a_binding_leads_to_the_job_that_wrote_it(route: Route) -> None:
    job = job_of(route, 7)
    html = shown(page("change", binding_of(route, 7, job_id=job.pk, hashes={"summary": "1", "duedate": "2"}, facts={"key": "BILL-7"})))
    wanted = (reverse("admin:audit_syncjob_change", args=[job.pk]), "duedate, summary", "BILL-7", "10007")
    assert [text for text in wanted if text not in html] == []


@pytest.mark.parametrize("address", [DELIVERIES, BINDINGS])
def test_lists_ask_the_database_as_often_for_many_rows_as_for_one(route: Route, address: str) -> None:
    client = signed_in("Operator")
    counts = []
    for more in (range(1), range(1, 60)):
        for number in more:
            delivery_of(route, subject=f"wave:b:invoice:{number}", received_at=THEN + timedelta(minutes=number))
            binding_of(route, number)
        with CaptureQueriesContext(database) as queries:
            assert client.get(address).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12
