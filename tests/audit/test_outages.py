"""A vendor that is down: everything waits, one claim probes, and the wait grows while it is in vain."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import transaction

from audit import holds, ledger, outages
from audit.ledger import Ask, Claim
from audit.models import Hold, SyncJob
from audit.states import Ending, Outcome

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WAVE, ZENDESK, JIRA = 1, 2, 3
SCOPE = f"connection:{ZENDESK}"
DOWN = Outcome(Ending.TRANSIENT, code="no_answer")

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def ask(key: str, destination: int = ZENDESK) -> SyncJob:
    with transaction.atomic():
        asked = Ask(destination, f"route-{destination}", WAVE, destination, "zendesk", "invoice", f"invoice:{key}")
        return ledger.request([asked]).jobs[0]


def claims(count: int = 5) -> list[Claim]:
    """Claim as often as workers might at one moment."""
    return [claim for _ in range(count) if (claim := ledger.claim(started_by="worker"))]


def keys(found: list[Claim]) -> list[list[str]]:
    return [sorted(job.key for job in claim.jobs) for claim in found]


def fail(claim: Claim) -> None:
    """Let the probe be in vain, as the breaker and the pipeline do."""
    outages.begin(SCOPE)
    for attempt in claim.attempts:
        ledger.settle(attempt, DOWN)


def test_one_claim_probes_when_the_wait_ends_and_all_others_see_the_hold_renewed(clock: time_machine.Traveller) -> None:
    jobs = [ask(str(number)) for number in range(4)]
    outages.begin(SCOPE)
    assert claims() == []
    clock.shift(outages.FIRST_WAIT)
    [probe] = claims()
    assert (len(probe.jobs), probe.probes, probe.probe_until) == (1, (SCOPE,), NOON + outages.FIRST_WAIT + outages.PROBE_LEASE)
    assert [holds.free_at(job) for job in jobs if job.pk != probe.jobs[0].pk] == [probe.probe_until] * 3
    assert set(SyncJob.objects.exclude(pk=probe.jobs[0].pk).values_list("tries", "attempt_number", "first_tried_at")) == {(0, 0, None)}


def test_each_probe_in_vain_doubles_the_wait_up_to_four_minutes(clock: time_machine.Traveller) -> None:
    ask("1")
    ask("2")
    outages.begin(SCOPE)
    waits = []
    for _ in range(7):
        until = Hold.objects.get().until
        assert until is not None
        waits.append((until - datetime.now(UTC)).total_seconds())
        clock.move_to(until)
        SyncJob.objects.filter(state="pending").update(due_at=until)
        [probe] = claims()
        fail(probe)
    assert waits == [15, 30, 60, 120, 240, 240, 240]


def test_failures_that_are_no_probe_change_nothing(clock: time_machine.Traveller) -> None:
    outages.begin(SCOPE)
    clock.shift(5)
    outages.begin(SCOPE)  # a call that was under way
    clock.shift(60)
    outages.begin(SCOPE)  # a person's ping
    assert list(Hold.objects.values_list("until", "probes", "probing")) == [(NOON + outages.FIRST_WAIT, 0, False)]


def test_an_hour_of_outage_costs_few_probes(clock: time_machine.Traveller) -> None:
    for number in range(20):
        ask(str(number))
    outages.begin(SCOPE)
    probes = 0
    for _ in range(240):  # every fifteen seconds
        clock.shift(15)
        for claim in claims(2):
            probes += 1
            fail(claim)
    assert probes == 18


def test_the_probe_of_a_worker_that_died_is_free_again_after_a_minute(clock: time_machine.Traveller) -> None:
    ask("1")
    ask("2")
    outages.begin(SCOPE)
    clock.shift(15)
    assert keys(claims()) == [["invoice:1"]]
    clock.shift(59)
    assert claims() == []
    clock.shift(1)
    assert keys(claims()) == [["invoice:2"]]


def test_a_probe_that_made_no_call_is_given_back(clock: time_machine.Traveller) -> None:
    for number in range(3):
        ask(str(number))
    outages.begin(SCOPE)
    clock.shift(15)
    for _ in range(3):
        [probe] = claims()
        ledger.settle(probe.attempts[0], ledger.outcome_of_success("unchanged"))
        assert probe.probe_until is not None
        outages.give_back(probe.probes, probe.probe_until)
    assert set(SyncJob.objects.values_list("state", flat=True)) == {"succeeded"}
    assert Hold.objects.count() == 1, "nobody has seen the vendor yet"


def test_a_late_worker_gives_back_no_probe_of_anothers(clock: time_machine.Traveller) -> None:
    ask("1")
    ask("2")
    outages.begin(SCOPE)
    clock.shift(15)
    [late] = claims()
    clock.shift(60)
    [current] = claims()
    assert late.probe_until is not None
    outages.give_back(late.probes, late.probe_until)
    assert Hold.objects.get().until == current.probe_until


def test_the_same_invoices_job_for_the_other_destination_runs(clock: time_machine.Traveller) -> None:
    ask("1")
    ask("1", destination=JIRA)
    outages.begin(SCOPE)
    assert [[job.destination_id for job in claim.jobs] for claim in claims()] == [[JIRA]]


def test_a_lost_probe_hides_no_work_of_other_accounts(clock: time_machine.Traveller) -> None:
    for number in range(30):  # more than a claim looks at
        ask(str(number))
    ask("late", destination=JIRA)
    outages.begin(SCOPE)
    clock.shift(15)
    found = keys(claims())
    assert (len(found), found[1]) == (2, ["invoice:late"])


def test_where_source_and_destination_are_down_one_claim_probes_both(clock: time_machine.Traveller) -> None:
    ask("1")
    ask("2")
    outages.begin(SCOPE)
    outages.begin(f"connection:{WAVE}")
    clock.shift(15)
    [probe] = claims()
    assert probe.probes == (SCOPE, f"connection:{WAVE}")


def test_where_one_of_two_is_still_held_nobody_probes_the_other(clock: time_machine.Traveller) -> None:
    ask("1")
    outages.begin(SCOPE)
    clock.shift(10)
    outages.begin(f"connection:{WAVE}")
    clock.shift(10)
    assert claims() == []
    clock.shift(5)
    assert len(claims()) == 1


def test_an_outage_is_not_dropped_when_its_wait_ends(clock: time_machine.Traveller) -> None:
    outages.begin(SCOPE)
    holds.hold("route:1", reason="limited", until=NOON)
    clock.shift(600)
    holds.drop_ended_holds()
    assert list(Hold.objects.values_list("scope", flat=True)) == [SCOPE]


def test_a_time_that_the_vendor_names_moves_the_probe_and_never_forward(clock: time_machine.Traveller) -> None:
    outages.begin(SCOPE)
    holds.hold(SCOPE, reason="server_error", until=NOON + timedelta(seconds=5))
    assert Hold.objects.values_list("reason", "until").get() == (outages.REASON, NOON + timedelta(seconds=15))
    holds.hold(SCOPE, reason="server_error", until=NOON + timedelta(seconds=90))
    assert Hold.objects.values_list("reason", "until").get() == (outages.REASON, NOON + timedelta(seconds=90))


@pytest.mark.parametrize(("until", "reason"), [(5, outages.REASON), (90, "limited"), (None, "limited")])
def test_an_outage_takes_the_place_of_a_shorter_hold_only(until: int | None, reason: str) -> None:
    holds.hold(SCOPE, reason="limited", until=None if until is None else NOON + timedelta(seconds=until))
    outages.begin(SCOPE)
    assert Hold.objects.get().reason == reason


@pytest.mark.parametrize(
    ("reason", "until", "free"), [("limited", 0, True), ("limited", 1, False), ("limited", None, False), (outages.REASON, 0, True)]
)
def test_a_poll_may_call_where_nothing_holds_or_as_the_probe(reason: str, until: int | None, free: bool) -> None:
    assert outages.is_free(SCOPE)
    end = None if until is None else NOON + timedelta(seconds=until)
    Hold.objects.create(scope=SCOPE, reason=reason, until=end, created_at=NOON)
    assert outages.is_free(SCOPE) == free
    if reason == outages.REASON:
        assert not outages.is_free(SCOPE), "the probe is another's now"
