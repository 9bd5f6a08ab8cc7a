from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.states import BACKOFF_LEAST, BACKOFF_MOST, CLOSED, OPEN, Ending, Facts, Move, Outcome, State, after, after_loss, backoff

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
GIVE_UP = timedelta(hours=72)
SOON = NOW + timedelta(seconds=90)
PAST = NOW - timedelta(seconds=90)

FRESH = Facts(tries=0, first_tried_at=NOW, newer_waits=False)
TRIED = Facts(tries=3, first_tried_at=NOW - timedelta(hours=1), newer_waits=False)
OLD = Facts(tries=9, first_tried_at=NOW - GIVE_UP, newer_waits=False)
FRESH_PASSED = Facts(tries=0, first_tried_at=NOW, newer_waits=True)
TRIED_PASSED = Facts(tries=3, first_tried_at=NOW - timedelta(hours=1), newer_waits=True)
OLD_PASSED = Facts(tries=9, first_tried_at=NOW - GIVE_UP, newer_waits=True)

CREATED = Outcome(Ending.SUCCESS, result="created")
DOWN = Outcome(Ending.TRANSIENT, code="down")
LIMITED = Outcome(Ending.TRANSIENT, code="limited", not_before=SOON)
STALE_LIMIT = Outcome(Ending.TRANSIENT, code="limited", not_before=PAST)
UNCOUNTED = Outcome(Ending.TRANSIENT, code="elsewhere", not_before=SOON, counted=False)
DEAD_GRANT = Outcome(Ending.DISCONNECTED, code="disconnected")
REFUSED = Outcome(Ending.REJECTED, code="invalid")
UNMAPPED = Outcome(Ending.UNMAPPABLE, code="unmappable")


@dataclass(frozen=True)
class Row:
    name: str
    outcome: Outcome
    facts: Facts
    move: Move


# With a jitter of 0 the wait is the least there is.
SHORT = NOW + BACKOFF_LEAST

TABLE = [
    Row("success", CREATED, TRIED, Move(State.SUCCEEDED, 0)),
    Row("success while a newer job waits", CREATED, TRIED_PASSED, Move(State.SUCCEEDED, 0)),
    Row("success after the time to give up", CREATED, OLD, Move(State.SUCCEEDED, 0)),
    Row("rejected", REFUSED, TRIED, Move(State.DEAD, 3, code="invalid")),
    Row("rejected while a newer job waits", REFUSED, TRIED_PASSED, Move(State.DEAD, 3, code="invalid")),
    Row("unmappable", UNMAPPED, FRESH, Move(State.DEAD, 0, code="unmappable")),
    Row("disconnected", DEAD_GRANT, TRIED, Move(State.BLOCKED, 3, code="disconnected")),
    Row("disconnected while a newer job waits", DEAD_GRANT, TRIED_PASSED, Move(State.SUPERSEDED, 3, code="disconnected")),
    Row("disconnected after the time to give up", DEAD_GRANT, OLD, Move(State.BLOCKED, 9, code="disconnected")),
    Row("transient", DOWN, FRESH, Move(State.PENDING, 1, SHORT, code="down")),
    Row("transient again", DOWN, TRIED, Move(State.PENDING, 4, SHORT, code="down")),
    Row("transient with the vendor's time", LIMITED, TRIED, Move(State.PENDING, 4, SOON, SOON, code="limited")),
    Row("transient with a vendor's time in the past", STALE_LIMIT, TRIED, Move(State.PENDING, 4, NOW, PAST, code="limited")),
    Row("transient, not counted", UNCOUNTED, TRIED, Move(State.PENDING, 3, SOON, SOON, code="elsewhere")),
    Row("transient, given up", DOWN, OLD, Move(State.DEAD, 10, code="gave_up")),
    Row("transient with the vendor's time, given up", LIMITED, OLD, Move(State.DEAD, 10, code="gave_up")),
    Row("transient, not counted: never given up", UNCOUNTED, OLD, Move(State.PENDING, 9, SOON, SOON, code="elsewhere")),
    Row("transient while a newer job waits", DOWN, FRESH_PASSED, Move(State.SUPERSEDED, 1, SHORT, code="down")),
    Row(
        "transient with the vendor's time while a newer job waits",
        LIMITED,
        TRIED_PASSED,
        Move(State.SUPERSEDED, 4, SOON, SOON, code="limited"),
    ),
    Row("transient, given up although a newer job waits", DOWN, OLD_PASSED, Move(State.DEAD, 10, code="gave_up")),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_outcome_moves_the_job_as_the_table_says(row: Row) -> None:
    assert after(row.outcome, row.facts, now=NOW, give_up=GIVE_UP, jitter=lambda: 0.0) == row.move


def test_the_table_has_every_ending_with_and_without_a_newer_job() -> None:
    assert {(row.outcome.ending, row.facts.newer_waits) for row in TABLE} >= {
        (ending, newer) for ending in Ending for newer in (True, False) if (ending, newer) != (Ending.UNMAPPABLE, True)
    }


def test_one_moment_before_the_time_to_give_up_the_job_is_tried_again() -> None:
    facts = Facts(tries=9, first_tried_at=NOW - GIVE_UP + timedelta(microseconds=1), newer_waits=False)
    assert after(DOWN, facts, now=NOW, give_up=GIVE_UP, jitter=lambda: 0.0).state == State.PENDING


@pytest.mark.parametrize(
    ("tries", "longest"), [(0, 15), (1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 900), (7, 900), (10, 900), (100_000, 900)]
)
def test_the_longest_wait_doubles_up_to_a_quarter_of_an_hour(tries: int, longest: int) -> None:
    assert (backoff(tries, 0.0), backoff(tries, 1.0)) == (timedelta(seconds=15), timedelta(seconds=longest))


@given(tries=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_no_wait_leaves_its_bounds(tries: int, jitter: float) -> None:
    assert BACKOFF_LEAST <= backoff(tries, jitter) <= BACKOFF_MOST


@given(
    ending=st.sampled_from(Ending),
    tries=st.integers(0, 50),
    hours=st.integers(0, 200),
    newer=st.booleans(),
    counted=st.booleans(),
    wait=st.none() | st.integers(-10_000, 10_000),
)
def test_a_move_is_whole_whatever_happened(ending: Ending, tries: int, hours: int, newer: bool, counted: bool, wait: int | None) -> None:
    not_before = None if wait is None else NOW + timedelta(seconds=wait)
    facts = Facts(tries, NOW - timedelta(hours=hours), newer)
    move = after(Outcome(ending, code="why", not_before=not_before, counted=counted), facts, now=NOW, give_up=GIVE_UP, jitter=lambda: 0.5)
    assert move.state in OPEN or move.state in CLOSED
    assert not (newer and move.state in OPEN)  # two open jobs of one record are impossible
    assert (move.state == State.PENDING) <= (move.due_at is not None)
    assert move.due_at is None or move.due_at >= max(NOW, not_before or NOW)


@pytest.mark.parametrize(("losses", "state"), [(1, State.PENDING), (4, State.PENDING), (5, State.DEAD), (6, State.DEAD)])
def test_the_fifth_lost_worker_in_a_row_ends_a_job(losses: int, state: State) -> None:
    assert after_loss(losses) == state
