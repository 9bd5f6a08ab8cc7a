"""The source's limits hold across processes, and a worker that died gives its slot back."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from pytest_django import Settings

from integrations import limits
from integrations.core.errors import Transient
from integrations.models import Slot
from tests.integrations import accounts

NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
Gate = Callable[[], AbstractContextManager[None]]

pytestmark = pytest.mark.django_db


def gate(*, per_minute: int = 0, concurrent: int = 0, pk: int | None = None) -> Gate:
    pk = accounts.wave().pk if pk is None else pk
    return lambda: limits.gate(pk, per_minute=per_minute, concurrent=concurrent)


def refusal(enter: Gate) -> Transient:
    with pytest.raises(Transient) as raised, enter():
        pass
    return raised.value


def test_no_limit_runs_no_statement(settings: Settings, django_assert_num_queries: Any) -> None:
    connection = accounts.wave()
    settings.WAVE_MAX_PER_MINUTE = settings.WAVE_MAX_CONCURRENT = 0
    with django_assert_num_queries(0):
        assert limits.gate_of(connection) is nullcontext
        with limits.gate_of(connection)():
            pass


def test_only_the_source_is_limited(settings: Settings) -> None:
    settings.WAVE_MAX_PER_MINUTE = settings.WAVE_MAX_CONCURRENT = 1
    assert limits.gate_of(accounts.zendesk()) is nullcontext


def test_the_settings_limit_a_wave_connection(settings: Settings) -> None:
    settings.WAVE_MAX_PER_MINUTE, settings.WAVE_MAX_CONCURRENT = 1, 0
    enter = limits.gate_of(accounts.wave())
    with enter():
        pass
    assert refusal(enter).code == "limit"


@time_machine.travel(NOW, tick=False)
def test_a_call_too_many_at_the_same_time_waits_a_moment_and_counts_no_try() -> None:
    enter = gate(concurrent=2)
    with enter(), enter():
        error = refusal(enter)
    assert error.not_before is not None
    assert timedelta(seconds=0.5) <= error.not_before - NOW <= timedelta(seconds=1)
    assert (error.code, error.scope, error.counted, error.unsent) == ("limit", "", False, True)


@time_machine.travel(NOW, tick=False)
def test_a_slot_is_free_again_after_the_call_and_after_an_error() -> None:
    enter = gate(concurrent=1)
    with pytest.raises(ZeroDivisionError), enter():
        raise ZeroDivisionError
    with enter():
        pass
    assert list(Slot.objects.values_list("slot", "until")) == [(1, NOW)]


def test_the_slot_of_a_worker_that_died_is_free_after_half_a_minute() -> None:
    enter = gate(concurrent=1)
    with time_machine.travel(NOW, tick=False) as clock:
        dead = enter()
        dead.__enter__()
        clock.shift(timedelta(seconds=29))
        refusal(enter)
        clock.shift(timedelta(seconds=1))
        with enter():
            pass


def test_a_late_worker_does_not_give_back_a_slot_that_is_another_workers_now() -> None:
    enter = gate(concurrent=1)
    with time_machine.travel(NOW, tick=False) as clock:
        late = enter()
        late.__enter__()
        clock.shift(timedelta(seconds=31))
        with enter():
            late.__exit__(None, None, None)
            refusal(enter)


def test_a_minute_that_is_used_up_says_when_the_next_begins() -> None:
    enter = gate(per_minute=3)
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(3):
            with enter():
                pass
            clock.shift(timedelta(seconds=5))
        error = refusal(enter)
        assert (error.not_before, error.scope, error.code) == (NOW + timedelta(seconds=60), "connection", "limit")
        assert (error.counted, error.unsent) == (False, True)
        clock.move_to(NOW + timedelta(seconds=60))
        with enter():
            pass
    assert list(Slot.objects.values_list("slot", "window_start", "used")) == [(0, NOW + timedelta(seconds=60), 1)]


@time_machine.travel(NOW, tick=False)
def test_a_refused_minute_gives_the_slot_back() -> None:
    enter = gate(per_minute=1, concurrent=1)
    with enter():
        pass
    assert [refusal(enter).scope, refusal(enter).scope] == ["connection", "connection"]


def test_another_connection_has_limits_of_its_own() -> None:
    first, second = gate(concurrent=1, per_minute=1), gate(concurrent=1, per_minute=1, pk=accounts.wave("wave-other").pk)
    with first(), second():
        refusal(first)


def test_a_call_costs_three_statements_once_the_rows_are_there(django_assert_num_queries: Any) -> None:
    enter = gate(per_minute=9, concurrent=1)
    with enter():
        pass
    with django_assert_num_queries(3), enter():
        pass
