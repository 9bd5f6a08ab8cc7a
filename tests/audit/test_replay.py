"""Replay of jobs: what is asked for, what is joined, and how the ends are told."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from audit import holds, ledger, replay, trail
from audit.models import SyncJob
from audit.states import State
from integrations.models import Connection, Route
from tests.admin.people import job_of, job_values

pytestmark = pytest.mark.django_db


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


def test_replay_makes_a_pending_job_that_names_the_old_one_and_what_it_was_about(route: Route) -> None:
    old = job_of(route, 7, customer_key="wave:b:customer:1", error_code="rejected")
    [replayed] = replay.replay([old], force=True)
    new = SyncJob.objects.get(pk=replayed.job.pk)
    carried = ("route_id", "route_slug", "source_id", "destination_id", "system", "kind", "key", "customer_key", "title", "party", "amount")
    assert (replayed.joined, new.state, new.replay_of, new.force, new.error_code) == (False, State.PENDING, old, True, "")
    assert [getattr(new, name) for name in carried] == [getattr(old, name) for name in carried]


@pytest.mark.parametrize("state", [State.PENDING, State.BLOCKED])
def test_replay_joins_a_job_that_is_open_already(route: Route, state: State) -> None:
    old, open_job = job_of(route, 7), job_of(route, 7, state=state)
    [replayed] = replay.replay([old])
    assert (replayed.job, replayed.joined, SyncJob.objects.count()) == (open_job, True, 2)


def test_replay_of_a_record_that_runs_waits_behind_it(route: Route) -> None:
    running = job_of(route, 7, state=State.RUNNING)
    [replayed] = replay.replay([running])
    assert (replayed.joined, replayed.job.state, replayed.job.replay_of) == (False, State.PENDING, running)


def test_several_jobs_of_one_record_lead_to_one_new_job(route: Route) -> None:
    olds = [job_of(route, 7), job_of(route, 8), job_of(route, 7)]
    replayed = replay.replay(olds)
    assert [item.old for item in replayed] == olds
    assert [item.joined for item in replayed] == [False, False, True]
    assert replayed[0].job == replayed[2].job


def test_replay_of_two_thousand_jobs_is_one_request(route: Route) -> None:
    SyncJob.objects.bulk_create([SyncJob(**job_values(route, number), state=State.DEAD) for number in range(2000)])
    assert sum(not item.joined for item in replay.replay(SyncJob.objects.all())) == 2000
    assert SyncJob.objects.filter(state=State.PENDING).values("key").distinct().count() == 2000


def test_replay_for_a_disconnected_account_waits_as_blocked(route: Route) -> None:
    holds.block(route.destination_id)
    [replayed] = replay.replay([job_of(route, 7)])
    assert (replayed.job.state, replayed.joined) == (State.BLOCKED, False)
    holds.release(route.destination_id)
    assert SyncJob.objects.get(pk=replayed.job.pk).state == State.PENDING


def test_replay_of_nothing_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "wake", lambda ids: pytest.fail("woken"))
    assert replay.replay([]) == []


def test_unsettled_jobs_are_dead_ones_that_nothing_resolved_and_blocked_ones(route: Route) -> None:
    healed = job_of(route, 3, state=State.SUCCEEDED)
    dead, blocked = job_of(route, 1), job_of(route, 2, state=State.BLOCKED)
    job_of(route, 3, resolved_by=healed)
    assert list(replay.unsettled()) == [dead, blocked]
    assert list(replay.unsettled(states=[State.DEAD], route_id=route.pk)) == [dead]
    assert list(replay.unsettled(route_id=route.pk + 1)) == []


def test_each_hold_that_covers_a_job_is_named(route: Route) -> None:
    job = job_of(route, 7, state=State.PENDING)
    scopes = [f"connection:{route.source_id}", f"object:{route.pk}:invoice:{job.key}", f"route:{route.pk}"]
    for scope in (*scopes, f"route:{route.pk + 1}", f"object:{route.pk}:customer:{job.key}"):
        holds.hold(scope, reason="rate_limited")
    assert sorted(hold.scope for hold in holds.holds_on(job)) == scopes


def test_ends_yields_what_ended_and_what_only_a_person_can_set_going(route: Route) -> None:
    dead, blocked, paused = job_of(route, 1), job_of(route, 2, state=State.BLOCKED), job_of(route, 3, state=State.PENDING)
    holds.hold(f"route:{route.pk}", reason=holds.PAUSED_REASON)
    assert set(replay.ends([dead, blocked, paused])) == {dead, blocked, paused}


def test_ends_follows_a_superseded_job_to_the_one_that_took_its_place(route: Route) -> None:
    superseded = job_of(route, 1, state=State.SUPERSEDED)
    heir = job_of(route, 1, state=State.SUCCEEDED, created_at=superseded.created_at + timedelta(days=1))
    trail.beat()
    assert list(replay.ends([superseded], every=0)) == [heir]


def test_ends_says_at_once_that_no_worker_is_alive(route: Route) -> None:
    with pytest.raises(replay.NoWorkerError, match="no worker is alive"):
        list(replay.ends([job_of(route, 1, state=State.PENDING)]))
