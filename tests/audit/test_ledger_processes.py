"""Eight real processes at one ledger while SIGKILL takes them at random."""

import fcntl
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction

from audit import ledger
from audit.ledger import Ask, Claim
from audit.models import Attempt, SyncJob
from audit.states import CLOSED, Ending, Outcome, State

WORKERS, JOBS, RECORDS, KILLS = 8, 500, 50, 10
LEASE = 3  # seconds
MOST_SECONDS = 120
ROUTES = (1, 2)
KEYS = [f"invoice:{number}" for number in range(RECORDS)]


def ask(route: int, key: str) -> Ask:
    return Ask(route, f"route-{route}", 1, route + 10, "jira", "invoice", key)


def spawn(work: Callable[[], None]) -> int:
    """Fork a process that does the work; it ends with 1 where that raises."""
    pid = os.fork()
    if pid:
        return pid
    try:
        random.seed(os.getpid())
        skip_the_disk()
        work()
        connections.close_all()
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)


def skip_the_disk() -> None:
    """Commit without waiting for the disk: what a killed process committed is safe all the same, only a power cut is not survived."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=OFF" if connection.vendor == "sqlite" else "SET synchronous_commit TO off")


def produce(folder: Path) -> None:
    """Ask for random records until there have been so many jobs, most of them while others of the record run."""
    made: set[Any] = set()
    while len(made) < JOBS:
        keys = random.sample(KEYS, 5)
        with transaction.atomic():
            requested = ledger.request([ask(route, key) for key in keys for route in ROUTES])
        made |= {job.pk for job in requested.jobs}
        time.sleep(0.002)
    (folder / "all asked").touch()


def consume(folder: Path) -> None:
    """Claim, work and settle until everything that was asked for is closed."""
    swept = 0.0
    while True:
        if time.monotonic() > swept + 0.5:
            ledger.reclaim()
            swept = time.monotonic()
        claim = ledger.claim(started_by="worker")
        if claim is not None:
            run(claim, folder)
        elif (folder / "all asked").exists() and not SyncJob.objects.exclude(state__in=CLOSED).exists():
            return
        else:
            time.sleep(0.1)


def run(claim: Claim, folder: Path) -> None:
    """Do a little work on each job, with the record's file locked; a record that is locked already has two workers."""
    for job, attempt in zip(claim.jobs, claim.attempts, strict=True):
        with (folder / f"{job.route_id} {job.key}").open("w") as record:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not was_given_away(job):
                    (folder / f"two workers at {job.route_id} {job.key}").touch()
            if ledger.renew(attempt):
                time.sleep(random.uniform(0, 0.004))
            fails = job.attempt_number == 1 and random.random() < 0.1
            now = Outcome(Ending.TRANSIENT, code="down", not_before=job.due_at)
            ledger.settle(attempt, now if fails else ledger.outcome_of_success("updated"))


def was_given_away(job: SyncJob) -> bool:
    """Say whether a worker lost this record by its lease: on a busy machine one may stand still for longer, and be alive."""
    return Attempt.objects.filter(job__route_id=job.route_id, job__key=job.key, ending="lost").exists()


def kill_at_random(workers: set[int], folder: Path) -> None:
    """Kill one worker after the other, each replaced at once."""
    for _ in range(KILLS):
        time.sleep(random.uniform(0.05, 0.3))
        victim = random.choice(sorted(workers))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        workers.remove(victim)
        if os.WIFEXITED(status):  # it had found nothing more to do
            assert os.WEXITSTATUS(status) == 0
        workers.add(spawn(lambda: consume(folder)))


def wait_for(pids: set[int], end: float) -> None:
    """Wait until all have ended well; raise TimeoutError after the end, a time.monotonic()."""
    while pids:
        for pid in sorted(pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pids.remove(pid)
                assert os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > end:
            raise TimeoutError("workers are still at it")
        time.sleep(0.02)


@pytest.fixture
def workers() -> Iterator[set[int]]:
    """Return the set of processes of a test; what is left of them at its end is killed."""
    pids: set[int] = set()
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.django_db(transaction=True)
def test_each_job_is_settled_once_and_no_record_has_two_workers_although_workers_are_killed(
    workers: set[int], tmp_path: Path, settings: Any
) -> None:
    settings.JOB_LEASE = LEASE
    random.seed(7)
    connections.close_all()  # a child must not share its parent's
    workers.add(spawn(lambda: produce(tmp_path)))
    producer = set(workers)
    workers |= {spawn(lambda: consume(tmp_path)) for _ in range(WORKERS)}
    killable = workers - producer
    workers -= killable
    try:
        kill_at_random(killable, tmp_path)
    finally:
        workers |= killable
    wait_for(workers, time.monotonic() + MOST_SECONDS)

    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("two workers")] == []
    jobs = list(SyncJob.objects.all())
    assert len(jobs) >= JOBS
    assert {job.state for job in jobs} <= {State.SUCCEEDED, State.SUPERSEDED}
    attempts: dict[Any, list[Attempt]] = {job.pk: [] for job in jobs}
    for attempt in Attempt.objects.order_by("number"):
        attempts[attempt.job_id].append(attempt)
    for job in jobs:
        own = attempts[job.pk]
        assert [attempt.number for attempt in own] == list(range(1, job.attempt_number + 1))
        assert all(attempt.closed_at is not None for attempt in own)
        assert [attempt.ending for attempt in own[:-1] if attempt.ending not in ("lost", "transient")] == []
        assert (own[-1].ending == "success") == (job.state == State.SUCCEEDED)
    assert Attempt.objects.filter(ending="lost").exists()  # else nobody was killed in the middle of something
