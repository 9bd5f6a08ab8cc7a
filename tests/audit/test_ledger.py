import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django_q.models import OrmQ

from audit import holds, ledger, trail
from audit.ledger import Ask, Claim
from audit.models import Attempt, Exchange, Heartbeat, Hold, SyncJob
from audit.states import CLOSED, OPEN, Ending, Outcome, State

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DONE = ledger.outcome_of_success("updated")
DOWN = Outcome(Ending.TRANSIENT, code="down", words="Service Unavailable")
REFUSED = Outcome(Ending.REJECTED, code="invalid")
DEAD_GRANT = Outcome(Ending.DISCONNECTED, code="disconnected")

WAVE, ZENDESK, JIRA = 1, 2, 3


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[time_machine.Traveller]:
    monkeypatch.setattr("audit.ledger.random.random", lambda: 0.0)
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def asked(key: str = "invoice:1", *, route: int = 1, kind: str = "invoice", **more: Any) -> Ask:
    destination = {1: ZENDESK, 2: JIRA}[route]
    return Ask(route, f"route-{route}", WAVE, destination, "zendesk", kind, key, **more)


def request(*asks: Ask) -> list[SyncJob]:
    with transaction.atomic():
        return ledger.request(asks).jobs


def claimed(**more: Any) -> Claim:
    claim = ledger.claim(more.pop("job_ids", None), started_by="worker", **more)
    assert claim is not None
    return claim


def run_once(outcome: Outcome, **more: Any) -> SyncJob:
    claim = claimed(**more)
    settled = [ledger.settle(attempt, outcome) for attempt in claim.attempts]
    assert settled[0] is not None
    return settled[0]


def fresh(job: SyncJob) -> SyncJob:
    return SyncJob.objects.get(pk=job.pk)


def seconds(job: SyncJob) -> float:
    return (fresh(job).due_at - datetime.now(UTC)).total_seconds()


# --- Asking -------------------------------------------------------------------------------------------------------


def test_asking_twice_makes_one_job_and_says_joined() -> None:
    first = ledger.request([asked()])
    second = ledger.request([asked()])
    assert [job.pk for job in second.jobs] == [job.pk for job in first.jobs]
    assert (first.joined, second.joined) == (set(), {first.jobs[0].pk})
    assert SyncJob.objects.count() == 1


def test_a_record_may_be_asked_for_on_each_route_and_kind() -> None:
    jobs = request(asked(), asked(route=2), asked(kind="customer"), asked("invoice:2"))
    assert len({job.pk for job in jobs}) == 4
    assert {job.state for job in jobs} == {State.PENDING}


def test_many_asks_cost_two_statements(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        ledger.request([asked(f"invoice:{number}") for number in range(20)])


def test_nothing_asked_costs_nothing(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert ledger.request([]).jobs == []


def test_joined_jobs_are_changed_in_one_order_however_they_are_asked_for() -> None:
    """Two requests that change the same jobs would else wait for each other."""
    asks = [asked("invoice:2", route=2), asked("invoice:1", route=2), asked("invoice:1")]
    jobs = request(*asks)
    with CaptureQueriesContext(connection) as captured:
        assert request(*(replace(ask, force=True) for ask in asks)) == jobs
    changes = [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]
    assert [next(job.pk for job in jobs if job.pk.hex in sql.replace("-", "")) for sql in changes] == [job.pk for job in reversed(jobs)]


def test_an_ask_while_the_record_runs_makes_a_job_that_waits() -> None:
    [running] = request(asked())
    claimed()
    [waiting] = request(asked())
    assert (fresh(running).state, fresh(waiting).state) == (State.RUNNING, State.PENDING)
    assert ledger.claim(started_by="worker") is None


def test_a_forced_ask_forces_the_open_job_it_joins() -> None:
    [job] = request(asked())
    request(asked(force=True))
    assert fresh(job).force


def test_a_plain_ask_takes_no_force_away() -> None:
    [job] = request(asked(force=True))
    request(asked())
    assert fresh(job).force


def test_a_derived_job_that_somebody_asks_for_itself_is_derived_no_more() -> None:
    [job] = request(asked(derived=True))
    request(asked())
    assert not fresh(job).derived


def test_news_of_a_record_that_seemed_gone_turn_its_second_look_into_a_first_one_due_now() -> None:
    [job] = request(asked(second_look=True, due_at=NOON + timedelta(minutes=5)))
    request(asked())
    assert (fresh(job).second_look, seconds(job)) == (False, 0)


def test_an_ask_for_a_disconnected_account_starts_blocked() -> None:
    [job] = request(asked(blocked=True))
    assert job.state == State.BLOCKED
    assert ledger.claim(started_by="worker") is None


def test_a_wake_up_vanishes_with_the_transaction_it_belongs_to() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        ledger.request([asked()])
        ledger.wake()
        raise ZeroDivisionError
    assert (SyncJob.objects.count(), OrmQ.objects.count()) == (0, 0)


# --- Claiming -----------------------------------------------------------------------------------------------------


def test_a_claim_takes_the_oldest_due_job(clock: time_machine.Traveller) -> None:
    request(asked("invoice:1"))
    clock.shift(1)
    request(asked("invoice:2"))
    assert [job.key for job in claimed().jobs] == ["invoice:1"]


def test_a_claim_takes_the_same_invoice_on_all_routes_and_its_customer() -> None:
    request(
        asked(customer_key="customer:7"),
        asked(route=2, customer_key="customer:7"),
        asked("customer:7", kind="customer", derived=True),
        asked("customer:8", kind="customer"),
        asked("invoice:2", customer_key="customer:7"),
    )
    claim = claimed()
    assert sorted((job.route_id, job.key) for job in claim.jobs) == [(1, "customer:7"), (1, "invoice:1"), (2, "invoice:1")]
    assert {attempt.claim for attempt in claim.attempts} == {claim.token}


def test_the_jobs_of_a_claim_begin_with_the_one_that_was_due_first(clock: time_machine.Traveller) -> None:
    request(asked(customer_key="customer:7"))
    clock.shift(1)
    request(*[asked("customer:7", kind="customer"), asked(route=2)])
    assert claimed().jobs[0].kind == "invoice"


def test_a_claim_takes_no_namesake_of_another_source() -> None:
    request(asked())
    request(Ask(9, "route-9", 99, JIRA, "jira", "invoice", "invoice:1"))
    assert [job.source_id for job in claimed().jobs] == [WAVE]


def test_a_claim_opens_one_attempt_per_job_and_a_lease(settings: Any) -> None:
    [job] = request(asked())
    claim = claimed()
    running = fresh(job)
    assert (running.state, running.attempt_number, running.first_tried_at) == (State.RUNNING, 1, NOON)
    assert running.lease_until == NOON + timedelta(seconds=settings.JOB_LEASE)
    [attempt] = Attempt.objects.all()
    assert (attempt.job_id, attempt.number, attempt.claim, attempt.started_by, attempt.closed_at) == (
        job.pk,
        1,
        claim.token,
        "worker",
        None,
    )


def test_a_job_that_is_not_due_is_not_taken(clock: time_machine.Traveller) -> None:
    request(asked(due_at=NOON + timedelta(seconds=60)))
    clock.shift(59)
    assert ledger.claim(started_by="worker") is None
    clock.shift(1)
    assert claimed().jobs[0].key == "invoice:1"


def test_named_jobs_are_taken_only_when_due() -> None:
    [job] = request(asked(due_at=NOON + timedelta(seconds=60)))
    assert ledger.claim([job.pk], started_by="worker") is None


def test_only_named_jobs_may_lead() -> None:
    request(asked("invoice:1"))
    [second] = request(asked("invoice:2"))
    assert [job.pk for job in claimed(job_ids=[second.pk]).jobs] == [second.pk]
    assert ledger.claim([uuid.uuid4()], started_by="worker") is None


def test_a_redelivery_takes_a_job_before_its_back_off_ends() -> None:
    [job] = request(asked())
    run_once(DOWN)
    assert seconds(job) > 0
    claim = claimed(job_ids=[job.pk], redelivery=True)
    assert ([taken.pk for taken in claim.jobs], claim.counted) == ([job.pk], False)


def test_a_redelivery_takes_both_of_its_jobs_before_their_back_off_ends() -> None:
    jobs = request(asked(), asked(route=2))
    claim = claimed()
    for attempt in claim.attempts:
        ledger.settle(attempt, DOWN)
    again = claimed(job_ids=[job.pk for job in jobs], redelivery=True)
    assert {job.pk for job in again.jobs} == {job.pk for job in jobs}


def test_no_redelivery_takes_a_job_before_the_vendors_own_time(clock: time_machine.Traveller) -> None:
    jobs = request(asked(), asked(route=2))
    until = NOON + timedelta(seconds=100)
    for attempt in claimed().attempts:
        ledger.settle(attempt, Outcome(Ending.TRANSIENT, code="limited", not_before=until))
    ids = [job.pk for job in jobs]
    clock.shift(99)
    assert ledger.claim(ids, started_by="webhook", redelivery=True) is None
    clock.shift(1)
    assert len(claimed(job_ids=ids, redelivery=True).jobs) == 2


# --- Settling -----------------------------------------------------------------------------------------------------


def test_success_closes_the_job_and_its_attempt(clock: time_machine.Traveller) -> None:
    [job] = request(asked())
    claim = claimed()
    clock.shift(3)
    ledger.settle(claim.attempts[0], ledger.outcome_of_success("created", notes=["status_unmapped"]))
    after, attempt = fresh(job), Attempt.objects.get()
    ended = NOON + timedelta(seconds=3)
    assert (after.state, after.result, after.notes, after.settled_at, after.lease_until) == (
        State.SUCCEEDED,
        "created",
        ["status_unmapped"],
        ended,
        None,
    )
    assert (attempt.ending, attempt.result, attempt.notes, attempt.closed_at) == ("success", "created", ["status_unmapped"], ended)


def test_a_transient_failure_makes_the_job_due_again_with_longer_and_longer_waits(
    clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.ledger.random.random", lambda: 1.0)
    [job] = request(asked())
    waits = []
    for _ in range(8):
        run_once(DOWN)
        waits.append(seconds(job))
        clock.shift(waits[-1])
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert (fresh(job).tries, fresh(job).state) == (8, State.PENDING)


def test_the_vendors_words_stay_on_the_attempt() -> None:
    request(asked())
    [attempt] = claimed().attempts
    ledger.settle(attempt, DOWN, message="PUT /organizations: 503")
    kept = Attempt.objects.get()
    assert (kept.ending, kept.error_code, kept.message, kept.words) == (
        "transient",
        "down",
        "PUT /organizations: 503",
        "Service Unavailable",
    )


def test_a_job_gives_up_after_its_time_and_is_dead(clock: time_machine.Traveller, settings: Any) -> None:
    [job] = request(asked())
    run_once(DOWN)
    clock.shift(settings.JOB_GIVE_UP)
    run_once(DOWN)
    assert (fresh(job).state, fresh(job).error_code) == (State.DEAD, "gave_up")


def test_any_success_resolves_the_dead_letters_of_the_same_record_and_route() -> None:
    [dead] = request(asked())
    run_once(REFUSED)
    [elsewhere] = request(asked(route=2))
    run_once(REFUSED)
    [healer] = request(asked())
    run_once(DONE)
    assert (fresh(dead).state, fresh(dead).resolved_by_id) == (State.DEAD, healer.pk)
    assert fresh(elsewhere).resolved_by_id is None


def test_a_refusal_takes_the_place_of_the_dead_letters_before_it(clock: time_machine.Traveller, settings: Any) -> None:
    letters = []
    for _ in range(2):
        letters += request(asked())
        run_once(REFUSED)
    letters += request(asked())
    run_once(DOWN)
    clock.shift(settings.JOB_GIVE_UP)
    run_once(DOWN)
    first, second, gave_up = (fresh(letter) for letter in letters)
    assert (first.state, first.resolved_by_id, second.resolved_by_id) == (State.DEAD, second.pk, None)
    assert (gave_up.state, gave_up.resolved_by_id) == (State.DEAD, None), "what gave up was not refused: it says nothing of the others"


def test_a_job_that_fails_while_a_newer_one_waits_is_superseded_and_hands_its_tries_on(clock: time_machine.Traveller) -> None:
    [job] = request(asked(force=True))
    run_once(DOWN)
    clock.shift(60)
    [attempt] = claimed().attempts
    [newer] = request(asked())
    until = NOON + timedelta(seconds=200)
    ledger.settle(attempt, Outcome(Ending.TRANSIENT, code="limited", not_before=until))
    after, waiting = fresh(job), fresh(newer)
    assert (after.state, after.settled_at) == (State.SUPERSEDED, NOON + timedelta(seconds=60))
    assert (waiting.state, waiting.tries, waiting.first_tried_at, waiting.due_at, waiting.not_before, waiting.force) == (
        State.PENDING,
        2,
        NOON,
        until,
        until,
        True,
    )


def test_the_customer_that_a_read_has_shown_is_handed_on_too() -> None:
    request(asked(customer_key="wave:b1:customer:3"))
    [attempt] = claimed().attempts
    [newer] = request(asked())  # asked for by who knows the invoice only, which may be gone by now
    ledger.settle(attempt, DOWN)
    assert fresh(newer).customer_key == "wave:b1:customer:3"


def test_a_job_that_succeeds_wakes_the_one_that_waits() -> None:
    request(asked())
    [attempt] = claimed().attempts
    [newer] = request(asked())
    ledger.settle(attempt, DONE)
    assert OrmQ.objects.count() == 1
    assert [job.pk for job in claimed().jobs] == [newer.pk]


def test_nothing_waits_nothing_is_woken() -> None:
    request(asked())
    run_once(DONE)
    assert OrmQ.objects.count() == 0


def test_a_worker_taken_for_dead_settles_nothing(clock: time_machine.Traveller, settings: Any) -> None:
    [job] = request(asked())
    [late] = claimed().attempts
    clock.shift(settings.JOB_LEASE + 1)
    ledger.reclaim()
    [current] = claimed().attempts
    before = fresh(job)
    assert ledger.settle(late, DONE) is None
    assert not ledger.renew(late)
    assert (fresh(job).state, fresh(job).attempt_number) == (before.state, before.attempt_number) == (State.RUNNING, 2)
    assert ledger.settle(current, DONE) is not None
    assert list(Attempt.objects.values_list("number", "ending")) == [(1, "lost"), (2, "success")]


def test_settling_twice_changes_nothing() -> None:
    request(asked())
    [attempt] = claimed().attempts
    assert ledger.settle(attempt, DONE) is not None
    assert ledger.settle(attempt, DOWN) is None
    assert SyncJob.objects.get().state == State.SUCCEEDED


# --- Lost workers -------------------------------------------------------------------------------------------------


def lose(clock: time_machine.Traveller, settings: Any) -> None:
    claimed()
    clock.shift(settings.JOB_LEASE + 1)
    assert ledger.reclaim() == 1


def test_a_lease_that_still_runs_is_nobodys(clock: time_machine.Traveller, settings: Any) -> None:
    request(asked())
    claimed()
    clock.shift(settings.JOB_LEASE)
    assert ledger.reclaim() == 0


def test_a_renewed_lease_keeps_the_job(clock: time_machine.Traveller, settings: Any) -> None:
    request(asked())
    [attempt] = claimed().attempts
    clock.shift(settings.JOB_LEASE - 1)
    assert ledger.renew(attempt)
    clock.shift(settings.JOB_LEASE - 1)
    assert ledger.reclaim() == 0


def test_a_lost_job_comes_back_at_once(clock: time_machine.Traveller, settings: Any) -> None:
    [job] = request(asked())
    lose(clock, settings)
    assert (fresh(job).state, fresh(job).losses, fresh(job).error_code, seconds(job)) == (State.PENDING, 1, "worker_lost", 0)


def test_five_lost_workers_in_a_row_end_a_job_as_crashed(clock: time_machine.Traveller, settings: Any) -> None:
    [job] = request(asked())
    for _ in range(5):
        lose(clock, settings)
    assert (fresh(job).state, fresh(job).error_code, fresh(job).losses) == (State.DEAD, "crashed", 5)
    assert ledger.claim(started_by="worker") is None
    assert list(Attempt.objects.values_list("number", "ending")) == [(number, "lost") for number in range(1, 6)]


def test_a_run_that_ends_begins_the_count_of_losses_anew(clock: time_machine.Traveller, settings: Any) -> None:
    [job] = request(asked())
    for _ in range(4):
        lose(clock, settings)
    run_once(DOWN)
    clock.shift(900)
    lose(clock, settings)
    assert (fresh(job).state, fresh(job).losses) == (State.PENDING, 1)


def test_a_record_that_kills_its_workers_ends_as_crashed_although_newer_jobs_keep_coming(
    clock: time_machine.Traveller, settings: Any
) -> None:
    for _ in range(5):
        request(asked())
        claimed()
        request(asked())
        clock.shift(settings.JOB_LEASE + 1)
        ledger.reclaim()
    assert list(SyncJob.objects.filter(state=State.DEAD).values_list("error_code", flat=True)) == ["crashed"]


# --- Holds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ("route:1", {"2 invoice invoice:1"}),
        (f"connection:{JIRA}", {"1 invoice invoice:1", "1 customer customer:7"}),
        (f"connection:{WAVE}", set()),
        ("object:1:invoice:invoice:1", {"2 invoice invoice:1", "1 customer customer:7"}),
    ],
)
def test_a_hold_stops_what_its_scope_covers(scope: str, left: set[str]) -> None:
    request(asked(customer_key="customer:7"), asked(route=2, customer_key="customer:7"), asked("customer:7", kind="customer"))
    holds.hold(scope, reason="test")
    taken = set()
    while claim := ledger.claim(started_by="worker"):
        taken |= {f"{job.route_id} {job.kind} {job.key}" for job in claim.jobs}
    assert taken == left


def test_no_redelivery_gets_past_a_hold() -> None:
    [job] = request(asked())
    holds.hold(f"connection:{ZENDESK}", reason="limited", until=NOON + timedelta(seconds=60))
    assert ledger.claim([job.pk], started_by="webhook", redelivery=True) is None


def test_a_hold_ends_by_itself(clock: time_machine.Traveller) -> None:
    request(asked())
    holds.hold("route:1", reason="limited", until=NOON + timedelta(seconds=60))
    clock.shift(60)
    assert len(claimed().jobs) == 1


@pytest.mark.parametrize(
    ("ends", "free"),
    [
        ({}, 0),
        ({"route:2": 60}, 0),
        ({"route:1": 60}, 60),
        ({"route:1": 60, f"connection:{WAVE}": 90}, 90),
        ({"route:1": None}, None),
        ({"route:1": -1}, 0),
    ],
)
def test_a_job_is_free_when_its_last_hold_has_ended(ends: dict[str, int | None], free: int | None) -> None:
    [job] = request(asked())
    for scope, end in ends.items():
        holds.hold(scope, reason="test", until=None if end is None else NOON + timedelta(seconds=end))
    assert holds.free_at(job) == (None if free is None else NOON + timedelta(seconds=free))


@pytest.mark.parametrize(
    ("standing", "new", "kept"),
    [(60, 90, 90), (60, 30, 60), (None, 30, None), (60, None, None)],
    ids=["longer", "shorter", "endless stays", "endless wins"],
)
def test_of_two_holds_on_one_scope_the_longer_stands(standing: int | None, new: int | None, kept: int | None) -> None:
    def at(number: int | None) -> datetime | None:
        return None if number is None else NOON + timedelta(seconds=number)

    holds.hold("route:1", reason="first", until=at(standing))
    holds.hold("route:1", reason="second", until=at(new))
    assert Hold.objects.get().until == at(kept)


def test_lifting_with_a_reason_leaves_other_holds() -> None:
    holds.hold("route:1", reason="limited")
    holds.lift("route:1", reason=holds.PAUSED_REASON)
    assert Hold.objects.count() == 1
    holds.lift("route:1")
    assert Hold.objects.count() == 0


# --- Dead grants --------------------------------------------------------------------------------------------------


def test_a_dead_grant_blocks_what_waits_and_what_runs() -> None:
    [running] = request(asked("invoice:1"))
    [attempt] = claimed().attempts
    [waiting] = request(asked("invoice:2"))
    holds.block(ZENDESK)
    ledger.settle(attempt, DEAD_GRANT)
    assert {fresh(running).state, fresh(waiting).state} == {State.BLOCKED}
    assert ledger.claim(started_by="worker") is None


def test_new_work_joins_what_is_blocked() -> None:
    [job] = request(asked())
    holds.block(ZENDESK)
    assert [joined.pk for joined in request(asked())] == [job.pk]


def test_reconnecting_makes_everything_blocked_due_now_and_wakes_a_worker(clock: time_machine.Traveller) -> None:
    jobs = request(asked("invoice:1"), asked("invoice:2"), asked("invoice:1", route=2))
    holds.block(ZENDESK)
    clock.shift(3600)
    assert holds.release(ZENDESK) == 2
    assert [(fresh(job).state, fresh(job).error_code) for job in jobs] == [(State.PENDING, "")] * 3
    assert [seconds(job) for job in jobs] == [0, 0, -3600]
    assert OrmQ.objects.count() == 1


def test_a_job_stays_blocked_while_its_other_end_is_disconnected() -> None:
    to_zendesk, to_jira = request(asked(), asked(route=2))
    holds.block(WAVE)
    holds.block(ZENDESK)
    assert holds.release(WAVE) == 1
    assert (fresh(to_zendesk).state, fresh(to_jira).state) == (State.BLOCKED, State.PENDING)
    assert holds.release(ZENDESK) == 1
    assert fresh(to_zendesk).state == State.PENDING


# --- The record of what was done ----------------------------------------------------------------------------------


def test_an_exchange_is_entered_on_every_attempt_before_its_answer_comes() -> None:
    request(asked(), asked(route=2))
    claim = claimed()
    rows = trail.enter_exchange(claim.attempts, system="wave", method="POST", path="/graphql")
    assert list(Exchange.objects.values_list("method", "path", "status")) == [("POST", "/graphql", None)] * 2
    trail.answer_exchange(rows, status=200, milliseconds=12, request_id="r" * 200)
    assert list(Exchange.objects.values_list("status", "milliseconds", "request_id")) == [(200, 12, "r" * 120)] * 2


def test_a_description_too_long_is_cut() -> None:
    [job] = request(asked())
    trail.describe(job, title="t" * 300, party="p" * 300, amount="1" * 100, customer_key="customer:7")
    after = fresh(job)
    assert (after.title, after.party, after.amount, after.customer_key) == ("t" * 255, "p" * 255, "1" * 40, "customer:7")


def test_the_same_description_again_costs_nothing(django_assert_num_queries: Any) -> None:
    [job] = request(asked())
    trail.describe(job, title="t" * 300, party="", amount="")
    with django_assert_num_queries(0):
        trail.describe(job, title="t" * 300, party="", amount="")


def test_a_gap_in_the_heartbeat_begins_our_memory_anew(clock: time_machine.Traveller) -> None:
    assert trail.remembers_since() is None
    trail.beat()
    clock.shift(60)
    trail.beat()
    assert trail.remembers_since() == NOON
    clock.shift(600)
    assert trail.remembers_since() is None
    trail.beat()
    assert trail.remembers_since() == NOON + timedelta(seconds=660)
    assert Heartbeat.objects.count() == 1


def test_our_memory_is_whole_while_any_machine_lives(clock: time_machine.Traveller) -> None:
    trail.beat("one")
    clock.shift(120)
    trail.beat("two")
    clock.shift(120)
    assert (trail.is_silent("one"), trail.is_silent("two"), trail.remembers_since()) == (True, False, NOON)
    trail.beat("one")
    clock.shift(200)
    trail.beat("two")
    assert trail.remembers_since() == NOON + timedelta(seconds=440)


def test_a_machine_that_went_away_is_forgotten_after_a_day_but_never_the_last(clock: time_machine.Traveller) -> None:
    for name in ("one", "two", "three"):
        trail.beat(name)
        clock.shift(60)
    clock.shift(timedelta(hours=24))
    trail.beat("three")
    trail.forget_machines()
    assert list(Heartbeat.objects.values_list("name", flat=True)) == ["three"]
    clock.shift(timedelta(hours=48))
    trail.forget_machines()
    assert list(Heartbeat.objects.values_list("name", flat=True)) == ["three"]


def test_open_and_closed_are_all_states_but_running() -> None:
    assert set(OPEN) | set(CLOSED) | {State.RUNNING} == set(State)


# --- Batches ------------------------------------------------------------------------------------------------------


def left_by_a_batch(*keys: str, meanwhile: str = "") -> None:
    """Let a batch claim records and not reach them; one of them is asked for while the batch is under way."""
    claim = ledger.claim_records([asked(key) for key in keys], started_by="backfill")
    assert claim is not None
    if meanwhile:
        request(asked(meanwhile))
    ledger.leave(claim.attempts)


def due_now() -> list[str]:
    return sorted(SyncJob.objects.filter(state=State.PENDING, due_at__lte=datetime.now(UTC), not_before=None).values_list("key", flat=True))


def test_what_a_batch_has_left_waits_for_it_and_may_be_claimed_by_it_at_once() -> None:
    left_by_a_batch("invoice:1", "invoice:2")
    assert (due_now(), ledger.anything_due()) == ([], False)
    again = ledger.claim_records([asked("invoice:1"), asked("invoice:2")], started_by="backfill")
    assert again is not None
    assert len(again.jobs) == 2


def test_an_event_during_a_batch_does_not_wait_for_what_the_batch_leaves() -> None:
    left_by_a_batch("invoice:1", "invoice:2", meanwhile="invoice:1")
    assert due_now() == ["invoice:1"]
    assert OrmQ.objects.count() == 1, "and a worker is woken"


def test_an_event_after_a_batch_has_left_its_record_does_not_wait_for_the_next() -> None:
    left_by_a_batch("invoice:1", "invoice:2")
    request(asked("invoice:2"))
    assert due_now() == ["invoice:2"]


def test_an_event_does_not_shorten_the_wait_for_a_vendor_that_is_down(clock: time_machine.Traveller) -> None:
    request(asked("invoice:1"))
    run_once(DOWN)
    due_at = SyncJob.objects.get().due_at
    request(asked("invoice:1"))
    assert SyncJob.objects.get().due_at == due_at > datetime.now(UTC)
