"""The limits hold across processes, and a worker that died gives its slot back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from pytest_django import Settings

from integrations import limits
from integrations.core.errors import Transient
from integrations.limits import Limiter
from integrations.models import Budget, Connection, Slot
from tests.integrations import accounts

NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_limits(settings: Settings) -> None:
    settings.WAVE_MAX_PER_MINUTE = settings.WAVE_MAX_CONCURRENT = 0


def gate(settings: Settings, *, per_minute: int = 0, concurrent: int = 0, connection: Connection | None = None) -> Limiter:
    settings.WAVE_MAX_PER_MINUTE, settings.WAVE_MAX_CONCURRENT = per_minute, concurrent
    return limits.gate_of(connection or accounts.wave())


def passing(limiter: Limiter) -> Any:
    return limiter("POST", "")


def refusal(limiter: Limiter) -> Transient:
    with pytest.raises(Transient) as raised, passing(limiter):
        pass
    return raised.value


@pytest.mark.parametrize("make", [accounts.wave, accounts.zendesk])
def test_where_nothing_is_known_of_limits_no_statement_runs(make: Any, django_assert_num_queries: Any) -> None:
    connection = make()
    with django_assert_num_queries(0), limits.gate_of(connection)("GET", "/api/v2/users/me"):
        pass


@time_machine.travel(NOW, tick=False)
def test_a_call_too_many_at_the_same_time_waits_a_moment_and_counts_no_try(settings: Settings) -> None:
    limiter = gate(settings, concurrent=2)
    with passing(limiter), passing(limiter):
        error = refusal(limiter)
    assert error.not_before is not None
    assert timedelta(seconds=0.5) <= error.not_before - NOW <= timedelta(seconds=1)
    assert (error.code, error.scope, error.counted, error.unsent) == ("limit", "", False, True)


@time_machine.travel(NOW, tick=False)
def test_a_slot_is_free_again_after_the_call_and_after_an_error(settings: Settings) -> None:
    limiter = gate(settings, concurrent=1)
    with pytest.raises(ZeroDivisionError), passing(limiter):
        raise ZeroDivisionError
    with passing(limiter):
        pass
    assert list(Slot.objects.values_list("slot", "until")) == [(1, NOW)]


def test_the_slot_of_a_worker_that_died_is_free_after_half_a_minute(settings: Settings) -> None:
    limiter = gate(settings, concurrent=1)
    with time_machine.travel(NOW, tick=False) as clock:
        dead = passing(limiter)
        dead.__enter__()
        clock.shift(timedelta(seconds=29))
        refusal(limiter)
        clock.shift(timedelta(seconds=1))
        with passing(limiter):
            pass
        dead.__exit__(None, None, None)  # else the collector ends it, in the middle of some other test's statement


def test_a_late_worker_does_not_give_back_a_slot_that_is_another_workers_now(settings: Settings) -> None:
    limiter = gate(settings, concurrent=1)
    with time_machine.travel(NOW, tick=False) as clock:
        late = passing(limiter)
        late.__enter__()
        clock.shift(timedelta(seconds=31))
        with passing(limiter):
            late.__exit__(None, None, None)
            refusal(limiter)


def test_a_minute_that_is_used_up_says_when_the_next_begins(settings: Settings) -> None:
    limiter = gate(settings, per_minute=3)
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(3):
            with passing(limiter):
                pass
            clock.shift(timedelta(seconds=5))
        error = refusal(limiter)
        assert (error.not_before, error.scope, error.code) == (NOW + timedelta(seconds=60), "connection", "limit")
        assert (error.counted, error.unsent) == (False, True)
        clock.move_to(NOW + timedelta(seconds=60))
        with passing(limiter):
            pass
    assert list(Budget.objects.values_list("bucket", "resets_at", "used")) == [("account", NOW + timedelta(seconds=120), 1)]


@time_machine.travel(NOW, tick=False)
def test_a_refused_minute_gives_the_slot_back(settings: Settings) -> None:
    limiter = gate(settings, per_minute=1, concurrent=1)
    with passing(limiter):
        pass
    assert [refusal(limiter).scope, refusal(limiter).scope] == ["connection", "connection"]


def test_another_connection_has_limits_of_its_own(settings: Settings) -> None:
    first = gate(settings, concurrent=1, per_minute=1)
    second = gate(settings, concurrent=1, per_minute=1, connection=accounts.wave("wave-other"))
    with passing(first), passing(second):
        refusal(first)


def test_a_limit_that_the_operator_lifts_is_none_any_more(settings: Settings) -> None:
    connection = accounts.wave()
    limiter = gate(settings, per_minute=1, connection=connection)
    with passing(limiter):
        refusal(limiter)
    lifted = gate(settings, per_minute=0, connection=connection)
    with passing(lifted), passing(lifted):
        assert Budget.objects.get().used == 1


def test_a_call_costs_three_statements_once_the_rows_are_there(settings: Settings, django_assert_num_queries: Any) -> None:
    limiter = gate(settings, per_minute=9, concurrent=1)
    with passing(limiter):
        pass
    with django_assert_num_queries(3), passing(limiter):
        pass
