"""Jira's own webhooks over sockets: they never lapse, and what people do to an issue is noticed at once."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from audit.models import SyncJob
from integrations import bindings, remote_webhooks, tasks, webhook_secrets
from integrations.destinations.jira.webhook import parse
from integrations.models import Binding, Connection, Credential, Delivery, Intake, RemoteWebhook, Route
from integrations.remote_webhooks import WebhookHealth, webhook_health
from integrations.sandbox.jira_site import AdminWebhook, Webhook
from integrations.sandbox.jira_webhooks import Happening, Sent, token
from integrations.sandbox.server import Fault
from tests.flows.expected import issues_of
from tests.flows.world import Apart, Held, Setup, World, key_of

pytestmark = pytest.mark.usefixtures("no_counts")

DAY = timedelta(days=1)
SECRET = "the-admins-webhook-secret"
DELETED = Happening("jira:issue_deleted")
MOVED = Happening(changes={"project": ("Billing", "Operations"), "Key": ("BILL-1", "OPS-1")}, event_type="issue_moved")


def reopened(before: str = "In Progress", after: str = "To Do") -> Happening:
    return Happening(changes={"status": (before, after)})


@pytest.fixture(autouse=True)
def patience(settings: Settings) -> None:
    """Let a story begin however slow the machine is: the deadline of Wave's deliveries is not what is tested here."""
    settings.WEBHOOK_DEADLINE = 30


@pytest.fixture
def world(make_world: Callable[[Setup], World]) -> World:
    return make_world(Setup(oauth=True))


@pytest.fixture
def kept(world: World) -> World:
    """Return the world with its webhook registered."""
    tasks.keep_webhooks()
    return world


def now() -> datetime:
    return datetime.now(UTC)


def row(world: World) -> RemoteWebhook:
    return RemoteWebhook.objects.get(connection=world.connection("jira"))


def url_of(world: World) -> str:
    return f"http://127.0.0.1:8000/webhooks/jira/{world.connection('jira').uuid}/"


def calls(world: World, since: int = 0) -> list[str]:
    """Return the webhook calls that succeeded, in their order."""
    made = [call for call in world.jira.calls[since:] if "/webhook" in call.path and call.status < 300]
    return [f"{call.method} {call.path.rpartition('/rest/api/3')[2]}" for call in made]


def registered(world: World) -> list[tuple[int, str, str]]:
    return [(hook.id, hook.url, hook.jql_filter) for hook in world.jira.webhooks.values()]


def health(world: World) -> WebhookHealth:
    found = webhook_health(world.connection("jira"))
    assert found is not None
    return found


BILL = 'project IN ("BILL")'
ONE_LOOK = ["GET /webhook", "PUT /webhook/refresh", "GET /webhook"]


# --- They never lapse ---------------------------------------------------------------------------------------------


def test_the_first_look_registers_refreshes_and_confirms(world: World) -> None:
    tasks.keep_webhooks()
    assert calls(world) == ["GET /webhook", "POST /webhook", "PUT /webhook/refresh", "GET /webhook"]
    assert registered(world) == [(1000, url_of(world), BILL)]
    found = row(world)
    assert (found.remote_id, found.url, found.query, found.events) == (
        "1000",
        url_of(world),
        BILL,
        ["jira:issue_updated", "jira:issue_deleted"],
    )
    assert (found.problem, found.lease_until, found.lease_owner) == ("", None, "")
    assert found.expires_at is not None
    assert timedelta(days=29, hours=23) < found.expires_at - now() <= timedelta(days=30)
    assert world.connection("jira").account["accountId"] == world.jira.account_id
    told = health(world)
    assert (told.way, told.url, told.ok, told.registered, told.days_left, told.problem, told.advice) == (
        "registered",
        url_of(world),
        True,
        True,
        29,
        "",
        "",
    )


@pytest.mark.parametrize("as_text", [False, True], ids=["ends as numbers", "ends as texts"])
def test_over_31_simulated_days_it_never_ends_and_is_refreshed_daily(world: World, as_text: bool) -> None:
    world.jira.webhook_dates_as_text = as_text
    end = now() + 31 * DAY
    while now() < end:
        tasks.keep_webhooks()
        assert [hook.expires - now() > 28 * DAY for hook in world.jira.webhooks.values()] == [True]
        assert health(world).ok
        world.clock.shift(timedelta(hours=3))
    made = calls(world)
    assert (made.count("POST /webhook"), made.count("DELETE /webhook")) == (1, 0)
    assert 30 <= made.count("PUT /webhook/refresh") <= 32
    assert registered(world) == [(1000, url_of(world), BILL)]


def test_a_refresh_that_silently_ignored_an_id_is_noticed_and_mended(kept: World) -> None:
    kept.jira.deaf_webhooks = {1000}
    kept.clock.shift(DAY)
    tasks.keep_webhooks()
    assert registered(kept) == [(1001, url_of(kept), BILL)]
    assert (row(kept).remote_id, row(kept).problem, health(kept).ok, health(kept).days_left) == ("1001", "", True, 29)


def test_what_is_not_confirmed_even_when_registered_anew_is_told(kept: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.sandbox.jira_webhooks._date", lambda site, hook: None)
    kept.clock.shift(DAY)
    tasks.keep_webhooks()
    told = health(kept)
    assert (told.ok, told.advice) == (False, "it is registered, but not confirmed")
    assert told.problem == "the webhook was registered anew, and still is not confirmed by what the site lists"


def test_a_round_ends_with_its_budget_and_the_next_one_goes_on(world: World) -> None:
    assert (remote_webhooks.keep_due(budget=0), calls(world)) == (0, [])
    assert (remote_webhooks.keep_due(budget=60), len(registered(world))) == (1, 1)


def test_a_second_round_within_the_day_makes_no_call(kept: World) -> None:
    mark = len(kept.jira.calls)
    kept.clock.shift(timedelta(hours=23))
    tasks.keep_webhooks()
    assert kept.jira.calls[mark:] == []


def test_one_that_somebody_removed_is_registered_again(kept: World) -> None:
    kept.jira.webhooks.clear()
    kept.clock.shift(DAY)
    tasks.keep_webhooks()
    assert ([hook[1:] for hook in registered(kept)], health(kept).ok) == ([(url_of(kept), BILL)], True)


def test_one_that_ended_while_no_worker_ran_is_replaced(kept: World) -> None:
    kept.clock.shift(40 * DAY)
    told = health(kept)
    assert (told.ok, told.days_left) == (False, -11)
    tasks.keep_webhooks()
    assert ([number for number, *_ in registered(kept)], health(kept).ok, health(kept).days_left) == ([1001], True, 29)
    assert calls(kept).count("POST /webhook") == 2


def test_the_last_seven_days_are_an_alarm_and_no_longer_wait_for_the_day(kept: World) -> None:
    kept.clock.shift(timedelta(hours=2))
    RemoteWebhook.objects.update(expires_at=now() + 6 * DAY)
    assert (health(kept).ok, health(kept).advice[:29]) == (False, "it ends in less than 7 days: ")
    mark = len(kept.jira.calls)
    tasks.keep_webhooks()
    assert calls(kept, mark) == ONE_LOOK
    assert health(kept).ok


def test_two_days_without_confirmation_are_an_alarm(kept: World) -> None:
    kept.jira.faults.append(Fault("status", path="/webhook", times=0, status=503))
    kept.clock.shift(timedelta(hours=49))
    tasks.keep_webhooks()
    told = health(kept)
    assert (told.ok, told.advice[:35]) == (False, "it was not confirmed for 2 days: se")
    assert told.problem == "GET /rest/api/3/webhook: 503"


def test_a_new_route_changes_the_project_list_without_a_gap(kept: World) -> None:
    kept.jira.add_project("OPS", "Operations")
    route = kept.route("jira")
    Route.objects.create(slug="second", source=route.source, destination=route.destination, kinds=["invoice"], options={"project": "OPS"})
    mark = len(kept.jira.calls)
    tasks.keep_webhooks()
    assert registered(kept) == [(1001, url_of(kept), 'project IN ("BILL", "OPS")')]
    assert calls(kept, mark) == ["GET /webhook", "POST /webhook", "DELETE /webhook", "PUT /webhook/refresh", "GET /webhook"]


def test_without_routes_our_webhook_is_removed(kept: World) -> None:
    Route.objects.filter(destination=kept.connection("jira")).delete()
    tasks.keep_webhooks()
    assert (registered(kept), row(kept).remote_id, webhook_health(kept.connection("jira"))) == ([], "", None)
    mark = len(kept.jira.calls)
    tasks.keep_webhooks()
    assert kept.jira.calls[mark:] == []


def test_orphans_are_removed_and_other_peoples_webhooks_left_alone(kept: World) -> None:
    other = Connection.objects.create(slug="other", system="jira", auth="oauth", credential=kept.connection("jira").credential)
    base = "http://127.0.0.1:8000/webhooks/jira/"
    ends = now() + 20 * DAY
    urls = {
        7: f"{base}00000000-0000-4000-8000-000000000000/",  # a connection that is gone
        8: f"http://old.example/webhooks/jira/{kept.connection('jira').uuid}/",  # before we moved
        9: f"{base}{other.uuid}/",
        10: "https://elsewhere.example/hook",
    }
    for number, url in urls.items():
        kept.jira.webhooks[number] = Webhook(number, url, ["jira:issue_updated"], BILL, ends)
    kept.clock.shift(DAY)
    tasks.keep_webhooks()
    assert sorted(number for number, *_ in registered(kept)) == [9, 10, 1000]


def test_an_address_of_somebody_else_that_keeps_ours_out_is_told(world: World) -> None:
    world.jira.webhooks[7] = Webhook(7, "https://elsewhere.example/hook", ["jira:issue_updated"], BILL, now() + 20 * DAY)
    tasks.keep_webhooks()
    told = health(world)
    assert (told.ok, told.registered, told.advice) == (False, False, "it is not registered")
    assert told.problem == (
        "POST /rest/api/3/webhook: nothing was registered: Only a single URL per app is allowed to be registered via REST API"
    )


def test_a_missing_scope_is_told_and_stops_nothing_else(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(oauth=True))
    connection = world.connection("jira")
    poor = world.jira.grant(["read:jira-work", "write:jira-work", "read:jira-user", "offline_access"])
    secrets = json.dumps({"client_secret": world.jira.client_secret, "access_token": poor["access_token"]})
    Credential.objects.filter(pk=connection.credential_id).update(secrets=secrets)
    tasks.keep_webhooks()
    assert "manage:jira-webhook" in health(world).problem
    assert world.connection("jira").status == "ready"


def test_a_registration_whose_answer_was_lost_is_adopted(world: World) -> None:
    world.jira.faults.append(Fault("lost", method="POST", path="/webhook"))
    tasks.keep_webhooks()
    assert (len(registered(world)), row(world).remote_id, health(world).ok) == (1, "", False)
    tasks.keep_webhooks()
    assert (registered(world), row(world).remote_id, health(world).ok) == ([(1000, url_of(world), BILL)], "1000", True)


def test_a_registration_is_remembered_even_if_the_refresh_after_it_fails(world: World) -> None:
    world.jira.faults.append(Fault("status", method="PUT", path="/webhook/refresh"))
    tasks.keep_webhooks()
    assert (row(world).remote_id, row(world).problem) == ("1000", "PUT /rest/api/3/webhook/refresh: 503")
    tasks.keep_webhooks()
    assert (registered(world), health(world).ok) == ([(1000, url_of(world), BILL)], True)


def test_two_schedulers_at_once_make_one_registration(threaded_world: Callable[[Setup], World]) -> None:
    world = threaded_world(Setup(oauth=True))
    with Apart() as apart:
        with Held(world.jira, "GET", "/webhook") as held:
            first = apart.run(tasks.keep_webhooks)
            held.wait()
            others = [apart.run(tasks.keep_webhooks) for _ in range(6)]
            for other in others:
                other.result()
        first.result()
    assert registered(world) == [(1000, url_of(world), BILL)]
    assert calls(world) == ["GET /webhook", "POST /webhook", "PUT /webhook/refresh", "GET /webhook"]


def test_eight_schedulers_in_a_race_make_one_registration(threaded_world: Callable[[Setup], World]) -> None:
    world = threaded_world(Setup(oauth=True))
    with Apart() as apart:
        for result in [apart.run(tasks.keep_webhooks) for _ in range(8)]:
            result.result()
    assert calls(world).count("POST /webhook") == 1
    assert registered(world) == [(1000, url_of(world), BILL)]


def test_a_worker_that_died_with_the_lease_holds_nobody_up_for_long(world: World) -> None:
    connection = world.connection("jira")
    RemoteWebhook.objects.create(connection=connection, lease_until=now() + timedelta(minutes=5), lease_owner="dead")
    tasks.keep_webhooks()
    assert registered(world) == []
    world.clock.shift(timedelta(minutes=6))
    tasks.keep_webhooks()
    assert len(registered(world)) == 1


@pytest.mark.parametrize("status", ["needs_reconnect", "incomplete"])
def test_an_account_that_is_not_ready_is_not_called(world: World, status: str) -> None:
    Connection.objects.filter(slug="jira-main").update(status=status)
    mark = len(world.jira.calls)
    tasks.keep_webhooks()
    assert (world.jira.calls[mark:], health(world).ok) == ([], False)


def test_our_webhook_can_be_removed_before_the_grant_is_given_up(kept: World) -> None:
    assert remote_webhooks.remove(kept.connection("jira"))
    assert (registered(kept), row(kept).remote_id) == ([], "")


# --- Only what is verified ----------------------------------------------------------------------------------------


def deliver(sent: Sent, **headers: str) -> HttpResponse:
    """Post a delivery as it was sent; headers given here replace its own, empty ones take them away."""
    given = {name: value for name, value in {**sent.headers, **headers}.items() if value and name != "Content-Type"}
    response = Client().post(urlsplit(sent.url).path, data=sent.body, content_type="application/json", headers=given)
    assert isinstance(response, HttpResponse)
    return response


def sent_of(world: World, happening: Happening, issue: str = "BILL-1") -> Sent:
    [sent] = world.jira.deliveries(issue, happening)
    return sent


def stored() -> list[tuple[str, str, str, int]]:
    rows = Delivery.objects.filter(connection__system="jira").order_by("received_at")
    return [(row.event_type, row.decision, row.reason, row.seen) for row in rows]


def counted(world: World) -> dict[str, int]:
    found = Intake.objects.get(connection__system="jira")
    return {name: getattr(found, name) for name in ("unsigned", "forged", "stale_signed")}


def bearer(world: World, *, secret: str = "", algorithm: str = "HS256", **changes: Any) -> str:
    claims = {"iss": world.jira.client_id, "exp": int(now().timestamp()) + 900} | changes
    return f"Bearer {token(claims, secret or world.jira.client_secret, algorithm=algorithm)}"


@pytest.mark.parametrize(
    ("proof", "counter"),
    [
        (lambda world: "", "unsigned"),
        (lambda world: bearer(world, secret="another-secret"), "forged"),
        (lambda world: bearer(world, exp=int(now().timestamp()) - 200), "stale_signed"),
        (lambda world: bearer(world, algorithm="none"), "unsigned"),
        (lambda world: bearer(world, iss="evil"), "unsigned"),
    ],
    ids=["no token", "forged", "expired", "alg none", "another issuer"],
)
def test_what_is_not_verified_is_refused_counted_and_leaves_nothing(kept: World, proof: Callable[[World], str], counter: str) -> None:
    kept.synced()
    jobs = SyncJob.objects.count()
    response = deliver(sent_of(kept, DELETED), Authorization=proof(kept))
    assert (response.status_code, stored(), SyncJob.objects.count()) == (401, [], jobs)
    assert counted(kept) == {"unsigned": 0, "forged": 0, "stale_signed": 0} | {counter: 1}
    assert set(Binding.objects.filter(route=kept.route("jira")).values_list("state", flat=True)) == {"bound"}


def test_who_is_not_verified_makes_no_row(kept: World) -> None:
    kept.synced()
    Intake.objects.filter(connection__system="jira").delete()
    assert deliver(sent_of(kept, DELETED), Authorization="").status_code == 401
    assert not Intake.objects.filter(connection__system="jira").exists()
    assert deliver(sent_of(kept, DELETED)).status_code == 200


def test_unknown_addresses_methods_and_sizes_are_refused(kept: World, settings: Settings) -> None:
    kept.synced()
    sent = sent_of(kept, DELETED)
    gone = replace(sent, url="http://x/webhooks/jira/00000000-0000-4000-8000-000000000000/")
    zendesk = replace(sent, url=f"http://x/webhooks/zendesk/{kept.connection('zendesk').uuid}/")
    swapped = replace(sent, url=f"http://x/webhooks/jira/{kept.connection('wave').uuid}/")
    assert [deliver(one).status_code for one in (gone, zendesk, swapped)] == [404, 404, 404]
    assert Client().get(urlsplit(sent.url).path).status_code == 405
    settings.WEBHOOK_MAX_BYTES = len(sent.body) - 1
    assert deliver(sent).status_code == 413
    assert stored() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\x00", b"[" * 100_000, b'{"webhookEvent": "jira:issue\\u0000"}', b'{"webhookEvent": "jira:issue_deleted"}', b"null"],
    ids=["empty", "cut", "no UTF-8", "deep", "NUL", "no issue", "null"],
)
def test_a_verified_body_that_cannot_be_read_is_kept_and_answered_200(kept: World, body: bytes) -> None:
    kept.synced()
    assert deliver(replace(sent_of(kept, DELETED), body=body)).status_code == 200
    assert stored() == [("", "quarantined", "unreadable", 1)]


@pytest.mark.parametrize("identifier", ["", "\u00ff" * 50, "x" * 7000])
def test_a_strange_identifier_is_no_obstacle(kept: World, identifier: str) -> None:
    kept.synced()
    sent = sent_of(kept, DELETED)
    assert [deliver(sent, **{"X-Atlassian-Webhook-Identifier": identifier}).status_code for _ in range(2)] == [200, 200]
    assert stored() == [("jira:issue_deleted", "accepted", "deleted", 2)]


def test_no_secret_gets_into_logs_rows_or_answers(kept: World, caplog: pytest.LogCaptureFixture) -> None:
    kept.synced()
    caplog.set_level(logging.DEBUG)
    sent = sent_of(kept, DELETED)
    answers = [deliver(sent), deliver(sent, Authorization=bearer(kept, iss="evil"))]
    kept.jira.faults.append(Fault("status", path="/webhook", status=500))
    kept.clock.shift(DAY)
    tasks.keep_webhooks()
    held = json.loads(kept.connection("jira").credential.secrets)
    told = " ".join([caplog.text, *(answer.content.decode() for answer in answers), row(kept).problem, repr(health(kept))])
    assert [name for name, secret in held.items() if isinstance(secret, str) and secret in told] == []
    assert sent.headers["Authorization"].removeprefix("Bearer ") not in told


# --- What people do is noticed ------------------------------------------------------------------------------------


def mark(world: World) -> int:
    return len(world.jira.calls)


def test_a_deleted_issue_is_lost_at_once(kept: World) -> None:
    _, invoice = kept.synced()
    sent = sent_of(kept, DELETED)
    kept.jira.delete_issue("BILL-1")
    assert deliver(sent).status_code == 200
    kept.settle()
    job = kept.job("jira")
    assert (job.state, job.error_code, kept.binding("issue").state) == ("dead", "lost", "lost")
    [row] = Delivery.objects.filter(connection__system="jira")
    assert (row.decision, row.reason, row.subject, row.job_ids) == ("accepted", "deleted", key_of(invoice), [str(job.pk)])
    assert parse(bytes(row.body)) == parse(sent.body)


def test_of_a_body_only_what_is_read_is_stored_and_no_names(kept: World) -> None:
    kept.synced()
    sent = sent_of(kept, Happening(changes={"assignee": ("", "Pat Doe")}))
    assert deliver(sent).status_code == 200
    [row] = Delivery.objects.filter(connection__system="jira")
    assert json.loads(bytes(row.body)) == {
        "webhookEvent": "jira:issue_updated",
        "issue_event_type_name": json.loads(sent.body)["issue_event_type_name"],
        "issue": {"id": kept.jira.issue("BILL-1").id},
        "user": {"accountId": json.loads(sent.body)["user"]["accountId"]},
        "changelog": {"items": [{"field": "assignee"}]},
    }


def test_a_second_word_of_a_deletion_makes_no_second_dead_letter_and_no_new_issue(kept: World) -> None:
    kept.synced()
    first, second = sent_of(kept, DELETED), sent_of(kept, DELETED)
    kept.jira.delete_issue("BILL-1")
    for sent in (first, second):
        assert deliver(sent).status_code == 200
        kept.settle()
    assert stored() == [("jira:issue_deleted", "accepted", "deleted", 1), ("jira:issue_deleted", "ignored", "lost", 1)]
    assert (SyncJob.objects.filter(state="dead").count(), kept.jira.issues) == (1, {})


@pytest.mark.parametrize("status", ["To Do", "Done"])
def test_a_status_that_was_moved_by_hand_is_restored_at_once(kept: World, status: str) -> None:
    kept.synced()
    before = issues_of(kept)
    kept.jira.move_issue("BILL-1", status)
    assert deliver(sent_of(kept, reopened("In Progress", status))).status_code == 200
    kept.settle()
    assert (issues_of(kept), kept.job("jira").state, kept.binding("status").state) == (before, "succeeded", "bound")
    assert stored() == [("jira:issue_updated", "accepted", "status", 1)]


def test_a_status_that_stands_as_it_should_is_looked_at_and_left_alone(kept: World) -> None:
    kept.synced()
    start = mark(kept)
    assert deliver(sent_of(kept, reopened("To Do", "In Progress"))).status_code == 200
    kept.settle()
    assert [(call.method, call.status) for call in kept.jira.calls[start:]] == [("GET", 200)]


def test_an_issue_that_was_moved_to_another_project_is_written_whole_again(kept: World) -> None:
    kept.synced()
    kept.jira.add_project("OPS", "Operations")
    sent = sent_of(kept, MOVED)
    kept.jira.rekey_issue("BILL-1", "OPS")
    kept.jira.edit("OPS-1", summary="something else")
    assert deliver(sent).status_code == 200
    kept.settle()
    issue = kept.jira.state()["issues"]["OPS-1"]
    assert (issue["summary"] != "something else", kept.job("jira").state, kept.binding("issue").state) == (True, "succeeded", "bound")


def test_the_same_identifier_again_is_answered_200_and_adds_no_row(kept: World) -> None:
    kept.synced()
    sent = sent_of(kept, reopened())
    jobs = SyncJob.objects.count()
    assert [deliver(sent).status_code for _ in range(3)] == [200, 200, 200]
    retried = replace(sent, body=sent.body + b" ")
    assert deliver(retried, **{"X-Atlassian-Webhook-Retry": "1"}).status_code == 200
    assert (stored(), SyncJob.objects.count()) == ([("jira:issue_updated", "accepted", "status", 4)], jobs + 1)


def test_the_same_delivery_from_many_sides_at_once_is_one(threaded_world: Callable[[Setup], World]) -> None:
    world = threaded_world(Setup(oauth=True))
    tasks.keep_webhooks()
    world.synced()
    sent, jobs = sent_of(world, reopened()), SyncJob.objects.count()
    with Apart() as apart:
        answers = [apart.run(deliver, sent) for _ in range(6)]
    assert [answer.result().status_code for answer in answers] == [200] * 6
    assert (stored(), SyncJob.objects.count()) == ([("jira:issue_updated", "accepted", "status", 6)], jobs + 1)


def test_the_echo_of_our_own_write_is_ignored(kept: World) -> None:
    kept.synced()
    jobs = SyncJob.objects.count()
    assert deliver(sent_of(kept, replace(reopened("To Do", "In Progress"), actor=kept.jira.account_id))).status_code == 200
    assert (stored(), SyncJob.objects.count()) == ([("jira:issue_updated", "ignored", "echo", 1)], jobs)
    assert kept.binding("status").state == "bound"


def test_a_deletion_is_never_our_echo_for_we_delete_no_issue(kept: World) -> None:
    kept.synced()
    assert deliver(sent_of(kept, replace(DELETED, actor=kept.jira.account_id))).status_code == 200
    assert stored() == [("jira:issue_deleted", "accepted", "deleted", 1)]


def test_an_issue_that_is_not_ours_is_ignored(kept: World) -> None:
    kept.synced()
    other = kept.jira.deliveries("BILL-1", DELETED)[0]
    body = other.body.replace(f'"id": "{kept.jira.issue("BILL-1").id}"'.encode(), b'"id": "99999"', 1)
    assert deliver(replace(other, body=body)).status_code == 200
    assert stored() == [("jira:issue_deleted", "ignored", "not_ours", 1)]


def test_a_number_that_is_a_worklogs_is_no_issues(kept: World) -> None:
    _, invoice = kept.synced()
    kept.wave.pay(invoice, "20.00")
    kept.sync(invoice)
    worklog = kept.binding("worklog").remote_id
    sent = sent_of(kept, DELETED)
    body = sent.body.replace(f'"id": "{kept.jira.issue("BILL-1").id}"'.encode(), f'"id": "{worklog}"'.encode(), 1)
    deliver(replace(sent, body=body))
    assert stored() == [("jira:issue_deleted", "ignored", "not_ours", 1)]


@pytest.mark.parametrize(
    ("happening", "decided"),
    [
        (Happening(changes={"assignee": ("", "Pat")}), ("jira:issue_updated", "ignored", "other_change", 1)),
        (Happening("comment_created"), ("comment_created", "ignored", "by_name", 1)),
        (Happening("user_deleted"), ("user_deleted", "unknown", "unknown_event", 1)),
    ],
)
def test_what_else_happens_is_recorded_and_asks_for_nothing(kept: World, happening: Happening, decided: tuple[str, str, str, int]) -> None:
    kept.synced()
    kept.jira.webhooks[1000].events.append(happening.event)
    jobs = SyncJob.objects.count()
    assert deliver(sent_of(kept, happening)).status_code == 200
    assert (stored(), SyncJob.objects.count()) == ([decided], jobs)


def test_a_hint_is_answered_at_once_without_a_call(kept: World) -> None:
    kept.synced()
    sent = sent_of(kept, reopened())
    with kept.counting() as made:
        assert deliver(sent).status_code == 200
    assert (made.wave, made.jira, kept.job("jira").state) == ([], [], "pending")


def test_a_change_while_we_write_is_looked_at_after_the_write(threaded_world: Callable[[Setup], World]) -> None:
    world = threaded_world(Setup(oauth=True))
    tasks.keep_webhooks()
    _, invoice = world.synced()
    world.wave.pay(invoice, "120.00")
    with Apart() as apart:
        with Held(world.jira, "POST", "/transitions", answered=True) as held:
            paid = apart.run(world.deliver_now, "invoice.paid", invoice)
            held.wait()
            world.jira.move_issue("BILL-1", "To Do")
            assert deliver(sent_of(world, reopened("Done", "To Do"))).status_code == 200
        assert paid.result().status_code == 200
    assert world.binding("status").state == "in_doubt"
    world.settle()
    assert (world.jira.issue("BILL-1").status, world.binding("status").state) == ("Done", "bound")


def test_doubt_never_revives_what_is_lost(kept: World) -> None:
    kept.synced()
    lost = kept.binding("issue")
    bindings.lose(lost)
    bindings.doubt([lost])
    assert kept.binding("issue").state == "lost"


def test_a_blocked_account_keeps_the_hint_for_later(kept: World) -> None:
    kept.synced()
    sent = sent_of(kept, reopened())
    Connection.objects.filter(slug="jira-main").update(status="needs_reconnect")
    assert deliver(sent).status_code == 200
    assert kept.job("jira").state == "blocked"


# --- An admin's webhook, for API tokens ---------------------------------------------------------------------------


@pytest.fixture
def by_token(make_world: Callable[[Setup], World]) -> World:
    """Return a world with an API token, and a webhook that an admin made."""
    world = make_world(Setup())
    webhook_secrets.add(world.connection("jira"), SECRET)
    world.jira.admin_webhooks.append(AdminWebhook(url_of(world), SECRET, ("jira:issue_updated", "jira:issue_deleted")))
    return world


def test_an_admins_webhook_is_taken_by_its_signature(by_token: World) -> None:
    by_token.synced()
    before = issues_of(by_token)
    by_token.jira.move_issue("BILL-1", "To Do")
    assert deliver(sent_of(by_token, reopened())).status_code == 200
    by_token.settle()
    assert (issues_of(by_token), stored()) == (before, [("jira:issue_updated", "accepted", "status", 1)])
    [known] = webhook_secrets.listed(by_token.connection("jira"))
    assert (known.fingerprint, known.verified_at is not None) == (webhook_secrets.fingerprint(SECRET), True)


@pytest.mark.parametrize("header", ["", "sha256=" + "0" * 64, "sha1=1234", "t=1,v1=2"])
def test_another_signature_is_refused(by_token: World, header: str) -> None:
    by_token.synced()
    assert deliver(sent_of(by_token, DELETED), **{"X-Hub-Signature": header}).status_code == 401
    assert stored() == []


def test_a_token_does_not_open_an_admins_webhook(by_token: World) -> None:
    by_token.synced()
    assert deliver(sent_of(by_token, DELETED), **{"X-Hub-Signature": "", "Authorization": bearer(by_token)}).status_code == 401


def test_the_schedule_learns_who_we_are_and_registers_nothing(by_token: World) -> None:
    start = mark(by_token)
    for _ in range(2):
        tasks.keep_webhooks()
    assert [call.path for call in by_token.jira.calls[start:]] == ["/rest/api/3/myself"]
    assert by_token.connection("jira").account["accountId"] == by_token.jira.account_id
    assert health(by_token) == WebhookHealth("by_hand", url_of(by_token), ok=True, registered=True)


def test_an_echo_that_cannot_be_told_yet_is_one_look_and_no_loop(by_token: World) -> None:
    by_token.synced()
    start = mark(by_token)
    assert deliver(sent_of(by_token, replace(reopened("To Do", "In Progress"), actor=by_token.jira.account_id))).status_code == 200
    by_token.settle()
    assert [call for call in by_token.jira.calls[start:] if call.method != "GET"] == []
