"""The browser's pages for jobs: columns, filters, search, attempts, replay, and nothing that changes history."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import holds
from audit.models import SyncJob
from audit.states import State
from integrations.models import Connection, Route
from tests.admin.people import THEN, attempt_of, job_of, job_values, signed_in

pytestmark = pytest.mark.django_db
LIST = "/admin/audit/syncjob/"


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


def listed(query: str) -> list[str]:
    result = signed_in("Viewer").get(LIST + query).context["cl"].result_list
    return sorted(job.title for job in result)


def page(name: str, job: SyncJob) -> str:
    return reverse(f"admin:audit_syncjob_{name}", args=[job.pk])


def test_the_list_shows_invoice_customer_amount_and_outcome(route: Route) -> None:
    job_of(route, 7, error_code="rejected")
    html = signed_in("Viewer").get(LIST).content.decode()
    shown = [text for text in ("INV-7", "Customer 7", "7.00 EUR", "wave-to-jira", "rejected", "badge-dead") if text not in html]
    assert shown == []


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("?q=INV-2", ["INV-2"]),
        ("?q=customer 3", ["INV-3"]),
        ("?q=wave:b:invoice:1", ["INV-1"]),
        ("?state__exact=succeeded", ["INV-3"]),
        ("?attention=yes", ["INV-1", "INV-2"]),
        ("?system=jira&kind=invoice&route_slug=wave-to-jira", ["INV-1", "INV-2", "INV-3", "INV-4"]),
        ("?route_slug=another", []),
        ("?key=wave:b:invoice:4", ["INV-4"]),
    ],
)
def test_jobs_are_found_by_words_and_filters(route: Route, query: str, titles: list[str]) -> None:
    healed = job_of(route, 3, state=State.SUCCEEDED)
    job_of(route, 1)
    job_of(route, 2, state=State.BLOCKED)
    job_of(route, 4, resolved_by=healed)
    assert listed(query) == titles


def test_a_job_is_found_by_its_id_with_or_without_hyphens(route: Route) -> None:
    job = job_of(route, 1)
    job_of(route, 2)
    assert (listed(f"?q={job.pk}"), listed(f"?q={job.pk.hex}")) == (["INV-1"], ["INV-1"])


def test_the_list_asks_the_database_as_often_for_ten_thousand_jobs_as_for_one(route: Route) -> None:
    client = signed_in("Operator")
    counts = []
    for total in (1, 10_000):
        have = SyncJob.objects.count()
        rows = [SyncJob(**job_values(route, number), state=State.DEAD) for number in range(have, total)]
        SyncJob.objects.bulk_create(rows, batch_size=1000)
        with CaptureQueriesContext(
            database,
        ) as queries:
            assert client.get(LIST).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


def test_the_page_shows_attempts_exchanges_and_the_vendors_words(route: Route) -> None:
    job = job_of(route, 7)
    attempt_of(job, message="POST /api/v2/things answered 422", words="<b>Name</b> is taken")
    holds.hold(f"route:{route.pk}", reason="paused")
    html = signed_in("Viewer").get(page("change", job)).content.decode()
    wanted = ("POST /api/v2/things answered 422", "&lt;b&gt;Name&lt;/b&gt; is taken", "<td>422</td>", "81 ms", "Held: paused")
    assert [text for text in wanted if text not in html] == []


def test_the_pages_of_a_replay_link_to_each_other(route: Route) -> None:
    old = job_of(route, 7)
    new = job_of(route, 7, state=State.SUCCEEDED, replay_of=old)
    client = signed_in("Viewer")
    assert f'href="{page("change", new)}"' in client.get(page("change", old)).content.decode()
    assert f'href="{page("change", old)}"' in client.get(page("change", new)).content.decode()


@pytest.mark.parametrize("group", ["Viewer", "Operator", "Administrator"])
def test_nobody_adds_changes_or_deletes_history(route: Route, group: str) -> None:
    job, client = job_of(route, 7), signed_in(group)
    answers = [
        client.get(LIST + "add/").status_code,
        client.post(page("change", job), {"title": "forged"}).status_code,
        client.post(page("delete", job), {"post": "yes"}).status_code,
    ]
    assert answers == [403, 403, 403]
    assert list(SyncJob.objects.values_list("title", flat=True)) == ["INV-7"]


def test_the_replay_button_asks_first_then_leads_to_the_new_job(route: Route) -> None:
    old, client = job_of(route, 7), signed_in("Operator")
    assert page("replay", old) in client.get(page("change", old)).content.decode()
    assert (client.get(page("replay", old)).status_code, SyncJob.objects.count()) == (200, 1)
    answer = client.post(page("replay", old), {"confirmed": "yes", "force": "yes"})
    new = SyncJob.objects.get(state=State.PENDING)
    assert (answer["Location"], new.replay_of, new.force) == (page("change", new), old, True)
    assert LogEntry.objects.get().get_change_message() == "Replayed."


def test_the_replay_of_an_open_job_says_that_it_joined(route: Route) -> None:
    open_job = job_of(route, 7, state=State.PENDING)
    answer = signed_in("Operator").post(page("replay", open_job), {"confirmed": "yes"}, follow=True)
    assert [str(message) for message in answer.context["messages"]] == ["1 job joined: it is asked for already."]


def test_the_action_confirms_then_replays_all_selected(route: Route) -> None:
    jobs = [job_of(route, number) for number in (1, 2)]
    client = signed_in("Operator")
    data = {"action": "replay_selected", "_selected_action": [str(job.pk) for job in jobs]}
    asked = client.post(LIST, {**data, "index": "0"})
    assert (asked.status_code, SyncJob.objects.count()) == (200, 2)
    assert [f'value="{job.pk}"' in asked.content.decode() for job in jobs] == [True, True]
    client.post(LIST, {**data, "confirmed": "yes"})
    assert set(SyncJob.objects.exclude(replay_of=None).values_list("replay_of", flat=True)) == {job.pk for job in jobs}


def test_the_action_reaches_all_pages_of_a_filtered_list_and_nothing_else(route: Route) -> None:
    SyncJob.objects.bulk_create([SyncJob(**job_values(route, number), state=State.DEAD) for number in range(120)])
    job_of(route, 500, state=State.SUCCEEDED)
    one = SyncJob.objects.filter(state=State.DEAD)[:1].get()
    data = {"action": "replay_selected", "_selected_action": [str(one.pk)], "select_across": "1", "confirmed": "yes"}
    signed_in("Operator").post(LIST + "?state__exact=dead", data)
    assert SyncJob.objects.filter(state=State.PENDING).count() == 120


def test_who_may_only_look_is_offered_no_replay_and_gets_none(route: Route) -> None:
    job, client = job_of(route, 7), signed_in("Viewer")
    assert (page("replay", job) in client.get(page("change", job)).content.decode(), client.post(page("replay", job)).status_code) == (
        False,
        403,
    )
    client.post(LIST, {"action": "replay_selected", "_selected_action": [str(job.pk)], "confirmed": "yes"})
    assert list(SyncJob.objects.all()) == [job]


@pytest.mark.parametrize("name", ["change", "replay"])
def test_staff_without_permission_see_nothing(route: Route, name: str) -> None:
    job, client = job_of(route, 7), signed_in()
    assert (client.get(LIST).status_code, client.get(page(name, job)).status_code) == (403, 403)


def test_holds_are_listed(route: Route) -> None:
    holds.hold("connection:1", reason="rate_limited", until=THEN + timedelta(days=9999))
    assert "rate_limited" in signed_in("Viewer").get("/admin/audit/hold/").content.decode()
