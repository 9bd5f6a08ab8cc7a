"""Budgets: taken from by all workers alike, corrected by what the vendor tells."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connections
from pytest_django import Settings
from requests.structures import CaseInsensitiveDict

from integrations import budgets, limits
from integrations.core.errors import Transient
from integrations.http import Answer
from integrations.models import Budget, Connection
from integrations.rates import Told
from tests.integrations import accounts

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PATH = "/api/v2/organizations/1"

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def account(clock: time_machine.Traveller) -> Connection:
    return accounts.zendesk()


def told(*, limit: int = 10, remaining: int = 10, ends: float | None = 60, bucket: str = "account") -> Told:
    return Told(bucket, limit, remaining, None if ends is None else datetime.now(UTC) + timedelta(seconds=ends), 60)


def row() -> tuple[int, int, float]:
    """Return limit, used and seconds until the reset of the only budget."""
    limit, used, resets_at = Budget.objects.values_list("limit", "used", "resets_at").get()
    return limit, used, (resets_at - datetime.now(UTC)).total_seconds()


def answer(headers: dict[str, str], status: int = 200) -> Answer:
    return Answer(status, {}, "", CaseInsensitiveDict(headers))


def call(limiter: limits.Limiter, headers: dict[str, str] | None = None, method: str = "PUT", path: str = PATH) -> None:
    with limiter(method, path) as tell:
        tell(answer(headers or {}))


def made(limiter: limits.Limiter, most: int = 100) -> tuple[int, Transient | None]:
    """Return how many calls pass before the refusal, and that."""
    for count in range(most):
        try:
            call(limiter)
        except Transient as error:
            return count, error
    return most, None


def test_what_is_left_is_used_and_not_more(account: Connection) -> None:
    budgets.learn(account, [told(limit=10, remaining=4, ends=41)])
    count, error = made(limits.gate_of(account))
    assert error is not None
    assert (count, error.code, error.scope, error.not_before) == (4, "limit", "connection", NOW + timedelta(seconds=41))
    assert (error.counted, error.unsent) == (False, True)


def test_a_new_window_begins_when_the_old_one_ends(account: Connection, clock: time_machine.Traveller) -> None:
    budgets.learn(account, [told(limit=10, remaining=0, ends=41)])
    clock.shift(41)
    assert made(limits.gate_of(account))[0] == 10
    assert row() == (10, 10, 60)


def test_bulk_leaves_a_reserve_and_holds_nobody_else(account: Connection, settings: Settings) -> None:
    settings.BUDGET_BULK_SHARE = 0.8
    budgets.learn(account, [told()])
    count, error = made(limits.gate_of(account, limits.BULK))
    assert error is not None
    assert (count, error.scope) == (8, "")
    assert made(limits.gate_of(account))[0] == 2


def test_bulk_comes_to_its_turn_where_the_limit_is_one(account: Connection) -> None:
    budgets.learn(account, [told(limit=1, remaining=1)])
    assert made(limits.gate_of(account, limits.BULK))[0] == 1


@pytest.mark.parametrize(
    ("before", "news", "after"),
    [
        # The customer's other tools have used it.
        (told, {"remaining": 2, "ends": 60}, (10, 8, 60)),
        # An answer that is older than calls of ours that are under way gives nothing back.
        (lambda: told(remaining=1), {"remaining": 5, "ends": 61}, (10, 9, 61)),
        # A later end is a new window.
        (lambda: told(remaining=0), {"remaining": 9, "ends": 90}, (10, 1, 90)),
        # The plan was changed.
        (told, {"limit": 40, "remaining": 30, "ends": 60}, (40, 10, 60)),
        # Without an end, the number left alone counts; nothing left: look again soon.
        (lambda: told(remaining=0), {"remaining": 7, "ends": None}, (10, 3, 60)),
        (told, {"remaining": 0, "ends": None}, (10, 10, 3)),
        # Only a time to wait for.
        (told, {"limit": 0, "remaining": 0, "ends": 93}, (10, 10, 93)),
        (told, {"limit": 0, "remaining": 0, "ends": 5}, (10, 10, 60)),
        # More left than there is.
        (told, {"remaining": 99}, (10, 0, 60)),
    ],
)
def test_what_the_vendor_tells_corrects_the_row(
    account: Connection, before: Any, news: dict[str, Any], after: tuple[int, int, float]
) -> None:
    budgets.learn(account, [before()])
    budgets.learn(account, [told(**news)])
    assert row() == after


def test_a_wait_without_a_limit_is_kept_and_then_nothing_is_in_the_way(account: Connection, clock: time_machine.Traveller) -> None:
    budgets.learn(account, [told(limit=0, remaining=0, ends=30)])
    limiter = limits.gate_of(account)
    assert made(limiter)[0] == 0
    clock.shift(30)
    assert made(limiter, most=3) == (3, None)


def test_an_endpoint_that_is_used_up_stops_neither_other_endpoints_nor_the_account(account: Connection) -> None:
    budgets.learn(account, [told(bucket="PUT organizations/*", remaining=0), told()])
    _, error = made(limits.gate_of(account))
    assert error is not None
    assert error.scope == ""
    call(limits.gate_of(account), path="/api/v2/users/7", method="GET")
    assert dict(Budget.objects.values_list("bucket", "used"))["account"] == 1, "the refused call took nothing from the account"


def test_user_writes_wait_for_their_second_instead_of_another_run(account: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    with time_machine.travel(NOW, tick=False) as clock:

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.shift(seconds)

        monkeypatch.setattr("integrations.limits.time.sleep", sleep)
        limiter = limits.gate_of(account)
        for _ in range(3):
            call(limiter, path="/api/v2/users/create_or_update", method="POST")
    assert slept == [1.0, 1.0]


def test_a_call_costs_one_statement_to_take_and_one_to_learn(account: Connection, django_assert_num_queries: Any) -> None:
    headers = {"x-rate-limit": "200", "x-rate-limit-remaining": "150", "ratelimit-reset": "41"}
    call(limits.gate_of(account), headers)
    limiter = limits.gate_of(Connection.objects.get(pk=account.pk))
    call(limiter, headers)  # the first of a run looks the rows up
    with django_assert_num_queries(2):
        call(limiter, headers)


def test_headers_that_teach_nothing_cost_nothing(account: Connection, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        call(limits.gate_of(account))


def test_a_429_stops_the_call_after_it_even_in_a_run_that_is_under_way(account: Connection) -> None:
    budgets.learn(account, [told()])
    other = limits.gate_of(account)
    call(other)
    refused = Answer(429, None, "Number of allowed API requests per minute exceeded", CaseInsensitiveDict({"Retry-After": "93"}))
    with limits.gate_of(account)("PUT", PATH) as tell:
        tell(refused)
    count, error = made(other)
    assert error is not None
    assert (count, error.not_before) == (0, NOW + timedelta(seconds=93))


@pytest.mark.django_db(transaction=True)
def test_two_workers_racing_take_exactly_what_is_there() -> None:
    connection = accounts.zendesk()
    budgets.learn(connection, [told(limit=50, remaining=30, ends=600)])
    counts: list[int] = []
    start = threading.Barrier(2)

    def work() -> None:
        try:
            limiter = limits.gate_of(Connection.objects.get(pk=connection.pk))
            start.wait(10)
            counts.append(made(limiter)[0])
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (sum(counts), Budget.objects.values_list("used", flat=True).get()) == (30, 50)


@pytest.mark.django_db(transaction=True)
def test_two_workers_racing_begin_a_window_once() -> None:
    connection = accounts.zendesk()
    budgets.learn(connection, [told(limit=50, remaining=0, ends=600)])
    Budget.objects.update(resets_at=datetime.now(UTC))
    taken: list[datetime | None] = []
    start = threading.Barrier(4)

    def work() -> None:
        try:
            row = Budget.objects.get()
            start.wait(10)
            taken.append(budgets.take(row))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (taken, Budget.objects.values_list("used", flat=True).get()) == ([None] * 4, 4)
