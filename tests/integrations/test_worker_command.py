"""The supervisor: a cluster that hangs silently is replaced. Real processes are at tests/processes/test_worker.py."""

import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.utils import timezone
from django_q.models import OrmQ

from audit.models import Heartbeat
from integrations import backfill
from integrations.management.commands import worker
from integrations.models import Sweep
from tests.integrations import accounts

pytestmark = pytest.mark.django_db

STARTED_LONG_AGO = worker.STALE_AFTER.total_seconds() + 1


class Cluster:
    """A cluster as the supervisor sees it: it runs, and says what was done to it."""

    pid = 2**30  # no process has it

    def __init__(self) -> None:
        self.told: list[str] = []

    def poll(self) -> int | None:
        return None

    def terminate(self) -> None:
        self.told.append("terminate")

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            self.told.append("wait")
        return 0


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Put back what the command does to the process's signals."""
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


def supervise(monkeypatch: pytest.MonkeyPatch, *, looks: int, age: float = STARTED_LONG_AGO) -> list[Cluster]:
    """Let the supervisor look so often, then tell it to stop; return the clusters it started, each `age` seconds ago."""
    command = worker.Command(stderr=StringIO())
    clusters: list[Cluster] = []

    def start() -> Cluster:
        command._started = time.monotonic() - (age if not clusters else 0)
        clusters.append(Cluster())
        return clusters[-1]

    def look(seconds: float) -> None:
        nonlocal looks
        looks -= 1
        if looks <= 0:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(command, "_start", start)
    monkeypatch.setattr("integrations.management.commands.worker.time.sleep", look)
    command.handle()
    return clusters


def beat(seconds_ago: float, name: str = settings.WORKER_NAME) -> None:
    now = timezone.now()
    Heartbeat.objects.create(name=name, since=now - timedelta(hours=1), beat_at=now - timedelta(seconds=seconds_ago))


def test_a_cluster_whose_heartbeat_is_stale_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    beat(seconds_ago=STARTED_LONG_AGO)
    assert [cluster.told for cluster in supervise(monkeypatch, looks=3)] == [["terminate", "wait"], ["terminate", "wait"]]


def test_another_machine_that_beats_hides_no_hung_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    beat(seconds_ago=STARTED_LONG_AGO)
    beat(seconds_ago=1, name="another-machine")
    assert len(supervise(monkeypatch, looks=2)) == 2


def test_a_machine_that_other_machines_left_without_tasks_asks_for_one_before_it_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    beat(seconds_ago=100)
    assert len(supervise(monkeypatch, looks=3)) == 1
    assert OrmQ.objects.count() == 3


def test_a_machine_that_stops_in_good_order_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    supervise(monkeypatch, looks=1, age=1)
    assert list(Heartbeat.objects.values_list("name", "stopped")) == [(settings.WORKER_NAME, True)]


def test_a_cluster_that_never_beat_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(supervise(monkeypatch, looks=2)) == 2


def test_a_cluster_that_beats_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    beat(seconds_ago=5)
    assert [cluster.told for cluster in supervise(monkeypatch, looks=3)] == [["terminate", "wait"]]


def test_a_young_cluster_is_given_time_for_its_first_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(supervise(monkeypatch, looks=3, age=1)) == 1


def test_a_backfill_whose_limit_has_come_back_does_not_wait_for_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, _ = backfill.begin(accounts.route(), started_by="test")
    Sweep.objects.filter(pk=sweep.pk).update(due_at=timezone.now() + timedelta(seconds=30))
    beat(seconds_ago=5)
    supervise(monkeypatch, looks=1)
    assert woken() == []
    Sweep.objects.filter(pk=sweep.pk).update(due_at=timezone.now())
    supervise(monkeypatch, looks=1)
    assert woken() == ["integrations.tasks.backfill"]


def woken() -> list[str]:
    return [row.task["func"] for row in OrmQ.objects.order_by("pk")]
