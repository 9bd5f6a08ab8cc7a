"""The ledger under any order of requests, claims, settlements, losses and holds."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.conf import settings
from django.db import transaction
from django.db.models import Count
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from audit import holds, ledger
from audit.ledger import Ask
from audit.models import Attempt, Hold, SyncJob
from audit.states import CLOSED, LOSSES_ALLOWED, OPEN, Ending, Outcome, State

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SOURCE = 1
# Few, so that events meet at the same record.
IDENTITIES = [(1, "invoice", "invoice:1"), (2, "invoice", "invoice:1"), (1, "customer", "customer:7")]
SCOPES = ["route:1", "connection:12", f"connection:{SOURCE}", "object:1:invoice:invoice:1"]
OUTCOMES = [
    ledger.outcome_of_success("updated"),
    Outcome(Ending.TRANSIENT, code="down"),
    Outcome(Ending.TRANSIENT, code="elsewhere", counted=False),
    Outcome(Ending.REJECTED, code="invalid"),
    Outcome(Ending.UNMAPPABLE, code="unmappable"),
    Outcome(Ending.DISCONNECTED, code="disconnected"),
]

pytestmark = pytest.mark.django_db


def destination_of(route: int) -> int:
    return route + 10


class LedgerMachine(RuleBasedStateMachine):
    """`attempts` holds every attempt ever opened, stale ones too; `unanswered` the records asked for since their last claim."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ExitStack()
        self.clock = self.world.enter_context(time_machine.travel(NOON, tick=False))
        self.attempts: list[Attempt] = []
        self.unanswered: set[tuple[int, str, str]] = set()
        SyncJob.objects.all().delete()
        Hold.objects.all().delete()

    def teardown(self) -> None:
        self.world.close()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    # --- What may happen ---

    @rule(identity=st.sampled_from(IDENTITIES), force=st.booleans(), derived=st.booleans(), wait=st.sampled_from([0, 0, 60]))
    def request(self, identity: tuple[int, str, str], force: bool, derived: bool, wait: int) -> None:
        route, kind, key = identity
        customer = "customer:7" if kind == "invoice" else ""
        due_at = self.now + timedelta(seconds=wait)
        ask = Ask(
            route, f"route-{route}", SOURCE, destination_of(route), "jira", kind, key, customer, derived=derived, force=force, due_at=due_at
        )
        with transaction.atomic():
            [job] = ledger.request([ask]).jobs
        found = SyncJob.objects.get(pk=job.pk)
        assert (found.route_id, found.kind, found.key) == identity
        assert found.state in OPEN
        assert not (force and not found.force)
        self.unanswered.add(identity)

    @rule()
    def work(self) -> None:
        self._claim(None, redelivery=False)

    @rule(named=st.sets(st.sampled_from(IDENTITIES), min_size=1), redelivery=st.booleans())
    def work_at(self, named: set[tuple[int, str, str]], redelivery: bool) -> None:
        self._claim(named, redelivery=redelivery)

    def _claim(self, named: set[tuple[int, str, str]] | None, *, redelivery: bool) -> None:
        before = {job.pk: job for job in SyncJob.objects.filter(state=State.PENDING)}
        running = {self._identity(job) for job in SyncJob.objects.filter(state=State.RUNNING)}
        ids = None if named is None else [job.pk for job in before.values() if self._identity(job) in named]
        pulled = set(ids or []) if redelivery else set()
        takeable = {pk for pk, job in before.items() if self._is_free(job, pulled=pk in pulled) and self._identity(job) not in running}
        # A derived job goes along with its customer's invoices; it does not lead while one of them is at work.
        at_work = {job.customer_key for job in SyncJob.objects.filter(state=State.RUNNING)}
        leads = {pk for pk in takeable if not (before[pk].derived and before[pk].key in at_work)}
        claim = ledger.claim(ids, started_by="worker", redelivery=redelivery)
        if claim is None:
            assert not leads & (set(before) if ids is None else set(ids))
            return
        assert {job.pk for job in claim.jobs} <= takeable
        assert ids is None or {job.pk for job in claim.jobs} & set(ids)
        assert [attempt.job_id for attempt in claim.attempts] == [job.pk for job in claim.jobs]
        self.attempts += claim.attempts
        self.unanswered -= {self._identity(job) for job in claim.jobs}

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), wait=st.none() | st.sampled_from([30, 600]))
    def settle(self, data: st.DataObject, outcome: Outcome, wait: int | None) -> None:
        attempt = data.draw(st.sampled_from(self.attempts[-4:]))
        job = SyncJob.objects.get(pk=attempt.job_id)
        stands = job.state == State.RUNNING and job.attempt_number == attempt.number
        if outcome.ending is Ending.TRANSIENT and wait is not None:
            outcome = Outcome(Ending.TRANSIENT, code="limited", not_before=self.now + timedelta(seconds=wait), counted=outcome.counted)
        settled = ledger.settle(attempt, outcome)
        assert (settled is not None) == stands
        after = SyncJob.objects.get(pk=job.pk)
        if stands:
            assert after.state != State.RUNNING
            dead = SyncJob.objects.filter(route_id=job.route_id, kind=job.kind, key=job.key, state=State.DEAD, resolved_by=None)
            assert not (after.state == State.SUCCEEDED and dead.exists())
        else:
            assert (after.state, after.tries, after.settled_at) == (job.state, job.tries, job.settled_at)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.attempts[-4:]))
        job = SyncJob.objects.get(pk=attempt.job_id)
        assert ledger.renew(attempt) == (job.state == State.RUNNING and job.attempt_number == attempt.number)

    @rule(seconds=st.sampled_from([0, settings.JOB_LEASE + 1]))
    def reclaim(self, seconds: int) -> None:
        self.clock.shift(seconds)
        lost = {job.pk: job.losses for job in SyncJob.objects.filter(state=State.RUNNING, lease_until__lt=self.now)}
        assert ledger.reclaim() == len(lost)
        for job in SyncJob.objects.filter(pk__in=lost):
            assert job.losses == lost[job.pk] + 1
            assert (job.state == State.DEAD) == (job.losses >= LOSSES_ALLOWED)

    @rule(seconds=st.sampled_from([1, 20, 1000, 73 * 3600]))
    def wait(self, seconds: int) -> None:
        self.clock.shift(seconds)

    @rule(scope=st.sampled_from(SCOPES), seconds=st.sampled_from([30, 600]), lift=st.booleans())
    def hold(self, scope: str, seconds: int, lift: bool) -> None:
        if lift:
            holds.lift(scope)
        else:
            holds.hold(scope, reason="test", until=self.now + timedelta(seconds=seconds))

    @rule(connection=st.sampled_from([SOURCE, 11, 12]), blocked=st.booleans())
    def reconnect(self, connection: int, blocked: bool) -> None:
        if blocked:
            holds.block(connection)
        holds.release(connection)

    # --- What must hold whatever happened ---

    @invariant()
    def at_most_one_open_and_one_running_job_per_record(self) -> None:
        for states in (OPEN, (State.RUNNING,)):
            counts = SyncJob.objects.filter(state__in=states).order_by().values("route_id", "kind", "key").annotate(jobs=Count("pk"))
            assert all(row["jobs"] == 1 for row in counts)

    @invariant()
    def no_ask_is_lost(self) -> None:
        waiting = {self._identity(job) for job in SyncJob.objects.filter(state__in=OPEN)}
        assert self.unanswered <= waiting

    @invariant()
    def each_state_has_its_own_marks(self) -> None:
        for job in SyncJob.objects.all():
            assert (job.settled_at is not None) == (job.state in CLOSED)
            assert (job.lease_until is not None) == (job.state == State.RUNNING)
            assert job.not_before is None or job.state != State.PENDING or job.due_at >= job.not_before
            assert (job.error_code == "") or job.state != State.SUCCEEDED

    @invariant()
    def only_the_newest_attempt_of_a_running_job_is_open(self) -> None:
        for job in SyncJob.objects.prefetch_related("attempts"):
            attempts = list(job.attempts.all())
            assert [attempt.number for attempt in attempts] == list(range(1, job.attempt_number + 1))
            opened = [attempt.number for attempt in attempts if attempt.closed_at is None]
            assert opened == ([job.attempt_number] if job.state == State.RUNNING else [])
            assert sum(attempt.ending == "success" for attempt in attempts) == (job.state == State.SUCCEEDED)

    # --- The model's own idea of what may be taken ---

    @staticmethod
    def _identity(job: SyncJob) -> tuple[int, str, str]:
        return (job.route_id, job.kind, job.key)

    def _is_free(self, job: SyncJob, *, pulled: bool) -> bool:
        covering = {f"route:{job.route_id}", f"connection:{job.source_id}", f"connection:{job.destination_id}"}
        covering.add(f"object:{job.route_id}:{job.kind}:{job.key}")
        if any(hold.until is None or hold.until > self.now for hold in Hold.objects.filter(scope__in=covering)):
            return False
        return job.due_at <= self.now or (pulled and (job.not_before is None or job.not_before <= self.now))


def test_no_order_of_events_breaks_the_ledger() -> None:
    options = hypothesis_settings(
        max_examples=20,
        stateful_step_count=30,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate),  # to shrink a finding takes minutes
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(LedgerMachine, settings=options)
