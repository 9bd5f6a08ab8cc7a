"""What the connection's page and `status` say of an account's limits, its breaker and what waits."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from audit import outages
from audit.models import Attempt, Exchange, Hold, SyncJob
from integrations import capacity, health
from integrations.models import Budget, Connection, Route
from tests.integrations import accounts
from tests.integrations.test_status import job

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def route() -> Route:
    return accounts.route()


def budget(connection: Connection, bucket: str, limit: int, used: int, *, ends: float = 30) -> None:
    Budget.objects.create(connection=connection, bucket=bucket, limit=limit, used=used, window=60, resets_at=NOW + timedelta(seconds=ends))


def run(done: SyncJob, calls: int) -> None:
    """Enter a run that made so many calls to the destination."""
    attempt = Attempt.objects.create(
        job=done, number=1, claim=done.pk, started_by="worker", opened_at=NOW, closed_at=NOW, ending="success", message=""
    )
    Exchange.objects.bulk_create(Exchange(attempt=attempt, system="zendesk", method="PUT", path="/", sent_at=NOW) for _ in range(calls))


def test_the_accounts_own_budget_comes_first_and_a_window_that_ended_is_whole_again(route: Route) -> None:
    account = route.destination
    budget(account, "PUT organizations/*", 100, 99)
    budget(account, "account", 200, 120, ends=-5)
    budget(account, "GET users/*", 100, 7, ends=-7200)
    found = capacity.of(account)
    assert [(use.bucket, use.used, use.limit, use.resets) for use in found.budgets] == [
        ("account", 0, 200, "all there"),
        ("PUT organizations/*", 99, 100, "in 30 s"),
    ]


@pytest.mark.parametrize(
    ("waiting", "used", "seconds"),
    [(10, 100, 0), (33, 100, 0), (34, 100, 30), (100, 100, 30), (101, 100, 90), (1000, 200, 870)],
)
def test_the_time_to_drain_is_what_is_left_and_then_whole_windows(route: Route, waiting: int, used: int, seconds: int) -> None:
    run(job(route, 0, "succeeded"), calls=3)
    for number in range(1, waiting + 1):
        job(route, number, "pending")
    budget(route.destination, "account", 200, used)
    found = capacity.of(route.destination)
    assert (found.waiting, found.drain) == (waiting, timedelta(seconds=seconds))


def test_without_a_limit_or_a_run_the_time_is_unknown(route: Route) -> None:
    assert capacity.of(route.destination).drains == "nothing waits"
    job(route, 1, "pending")
    assert capacity.of(route.destination).drains.startswith("unknown")
    budget(route.destination, "account", 200, 0)
    assert capacity.of(route.destination).drains.startswith("unknown")


def test_the_breaker_is_told_in_words(route: Route, clock: time_machine.Traveller) -> None:
    account = route.destination
    assert capacity.of(account).breaker == "the vendor answers"
    account.failures = 3
    assert capacity.of(account).breaker == "the last 3 calls got no answer"
    outages.begin(f"connection:{account.pk}")
    clock.shift(5)
    told = "the vendor has not answered for 5 s: one call is tried in 10 s; all else waits"
    assert (capacity.of(account).breaker, capacity.of(account).is_open) == (told, True)
    Hold.objects.update(probing=True, probes=2)
    assert capacity.of(account).breaker == (
        "the vendor has not answered for 5 s: one call is under way to see, after 2 in vain; all else waits"
    )


def test_a_vendor_that_is_down_is_failing_even_while_its_probe_is_due(route: Route, clock: time_machine.Traveller) -> None:
    outages.begin(f"connection:{route.destination_id}")
    clock.shift(3600)
    found = health.of(route.destination)
    assert (found.word, [line.name for line in found.problems][:1]) == ("failing", ["vendor"])
