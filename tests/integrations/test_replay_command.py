"""`manage.py replay`, and the replay of deliveries."""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit import trail
from audit.models import SyncJob
from audit.states import State
from integrations import registry
from integrations.models import Connection, Delivery, Route
from integrations.replay import replay_deliveries
from tests.admin.people import delivery_of, job_of
from tests.conftest import BUSINESS

pytestmark = pytest.mark.django_db


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


def run(*args: str, **options: Any) -> str:
    out = StringIO()
    call_command("replay", *args, stdout=out, **options)
    return out.getvalue()


def body(event_type: str = "invoice.updated", business: str = BUSINESS) -> bytes:
    data = {"invoice_id": "77", "customer_id": "5"}
    return json.dumps({"event_id": "1", "event_type": event_type, "business_id": business, "data": data}).encode()


def pending() -> list[SyncJob]:
    return list(SyncJob.objects.filter(state=State.PENDING).order_by("key"))


# --- The command ---------------------------------------------------------------------------------------------------


def test_a_job_is_replayed_by_its_id(route: Route) -> None:
    old = job_of(route, 7)
    told = run(str(old.pk), "--force")
    [new] = pending()
    assert (new.replay_of, new.force) == (old, True)
    assert told.splitlines() == [f"{new.pk}  invoice INV-7 to wave-to-jira  pending  replays {old.pk}", "1 asked for again, 0 joined"]


def test_an_open_job_is_joined_and_said_so(route: Route) -> None:
    open_job = job_of(route, 7, state=State.PENDING)
    assert run(str(open_job.pk)).splitlines() == [
        f"{open_job.pk}  invoice INV-7 to wave-to-jira  pending  joined, asked for already",
        "0 asked for again, 1 joined",
    ]


def test_state_and_route_select_what_is_not_resolved(route: Route, zendesk_route: Callable[..., Route]) -> None:
    other = zendesk_route(route.source)
    dead, _, elsewhere = job_of(route, 1, error_code="rejected"), job_of(route, 2, state=State.BLOCKED), job_of(other, 3)
    assert run("--state", "dead", "--dry-run").splitlines() == [
        "would replay 2 jobs",
        f"{dead.pk}  invoice INV-1 to wave-to-jira  dead rejected",
        f"{elsewhere.pk}  invoice INV-3 to wave-to-zendesk  dead",
    ]
    assert run("--route", "wave-to-jira", "--dry-run").splitlines()[0] == "would replay 2 jobs"
    assert run("--route", "wave-to-jira", "--state", "blocked", "--dry-run").splitlines()[0] == "would replay 1 jobs"


def test_a_dry_run_changes_nothing(route: Route) -> None:
    old, delivery = job_of(route, 7), delivery_of(route, body())
    told = run(str(old.pk), "--delivery", str(delivery.pk), "--dry-run")
    assert told.startswith("would replay 1 jobs and 1 deliveries\n")
    assert (list(SyncJob.objects.all()), Delivery.objects.get().job_ids) == ([old], [])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], '"nonsense" is no id of a job'),
        ([str(uuid.UUID(int=5))], f"there is no job {uuid.UUID(int=5)}"),
        (["--delivery", str(uuid.UUID(int=5))], f"there is no delivery {uuid.UUID(int=5)}"),
        (["--route", "wave-to-jra"], 'there is no route "wave-to-jra" (did you mean "wave-to-jira"?)'),
        ([], "say what to replay"),
        ([str(uuid.UUID(int=5)), "--state", "dead"], "not both"),
    ],
)
def test_a_wrong_call_is_a_clear_error_with_exit_2_and_replays_nothing(route: Route, args: list[str], said: str) -> None:
    known = job_of(route, 7)
    given = [*args[:1], str(known.pk)] if args and not args[0].startswith("--") and len(args) == 1 else args
    with pytest.raises(CommandError) as raised:
        run(*given)
    assert said in str(raised.value)
    assert (raised.value.returncode, pending()) == (2, [])


def test_waiting_without_a_worker_says_so_at_once_and_keeps_what_was_asked_for(route: Route) -> None:
    with pytest.raises(CommandError, match="no worker is alive") as raised:
        run(str(job_of(route, 7).pk), "--wait")
    assert (raised.value.returncode, len(pending())) == (1, 1)


@pytest.mark.parametrize(("state", "result", "code"), [(State.SUCCEEDED, "updated", 0), (State.DEAD, "", 1)])
def test_waiting_prints_each_result_and_fails_for_a_dead_one(
    route: Route, monkeypatch: pytest.MonkeyPatch, state: State, result: str, code: int
) -> None:
    def work(seconds: float) -> None:
        SyncJob.objects.filter(state=State.PENDING).update(state=state, result=result)

    monkeypatch.setattr("audit.replay.time.sleep", work)
    trail.beat()
    out = StringIO()
    try:
        call_command("replay", str(job_of(route, 7).pk), "--wait", stdout=out)
        ended = 0
    except CommandError as error:
        ended = error.returncode
    assert (ended, out.getvalue().splitlines()[-1].split()[5:]) == (code, [str(state), *([result] if result else [])])


# --- Deliveries ----------------------------------------------------------------------------------------------------


def test_a_delivery_is_replayed_through_its_jobs(route: Route) -> None:
    old = job_of(route, 7)
    delivery = delivery_of(route, body(), job_ids=[str(old.pk)], subject=old.key)
    [replayed] = replay_deliveries([delivery])
    assert (replayed.old, replayed.joined, replayed.job.replay_of) == (old, False, old)


def test_deliveries_that_share_a_job_replay_it_once(route: Route) -> None:
    old = job_of(route, 7)
    deliveries = [delivery_of(route, body(), job_ids=[str(old.pk)], event_hash=name) for name in "ab"]
    assert [item.old for item in replay_deliveries(deliveries)] == [old]


@pytest.mark.parametrize(
    ("event_type", "decision", "reason"),
    [("invoice.updated", "accepted", "no_route"), ("invoice.reversed", "unknown", "unknown_event")],
)
def test_a_delivery_that_led_to_no_job_is_asked_about_anew(route: Route, event_type: str, decision: str, reason: str) -> None:
    delivery = delivery_of(route, body(event_type), event_type=event_type, decision=decision, reason=reason)
    [replayed] = replay_deliveries([delivery], force=True)
    key = f"wave:{BUSINESS}:invoice:77"
    assert (replayed.job.key, replayed.job.force, replayed.joined) == (key, True, False)
    noted = Delivery.objects.get()
    assert (noted.decision, noted.reason, noted.subject, noted.job_ids) == ("accepted", "", key, [str(replayed.job.pk)])


def test_a_delivery_of_a_business_that_was_connected_since_goes_there(
    wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]
) -> None:
    received = jira_route(wave_connection())
    other = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0002"
    home = jira_route(wave_connection("wave-second", business=other), "second")
    delivery = delivery_of(received, body(business=other), decision="ignored", reason="business_not_connected")
    assert [(item.job.route_slug, item.job.key) for item in replay_deliveries([delivery])] == [(home.slug, f"wave:{other}:invoice:77")]


@pytest.mark.parametrize("content", [b"\xff", b"{}", body("estimate.created")])
def test_a_delivery_that_names_no_record_replays_nothing(route: Route, content: bytes) -> None:
    delivery_of(route, content, decision="quarantined", reason="unreadable")
    assert (replay_deliveries(Delivery.objects.all()), SyncJob.objects.count()) == ([], 0)


def test_the_signature_is_not_checked_again(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(registry.SOURCES["wave"], verify=lambda *given: pytest.fail("verified again"))
    monkeypatch.setitem(registry.SOURCES, "wave", entry)
    assert len(replay_deliveries([delivery_of(route, body())])) == 1
