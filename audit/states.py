"""The one retry machine: what a run's outcome makes of its job. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db.models import TextChoices


class State(TextChoices):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    BLOCKED = "blocked"
    SUCCEEDED = "succeeded"
    SUPERSEDED = "superseded"
    DEAD = "dead"


OPEN = (State.PENDING, State.BLOCKED)
CLOSED = (State.SUCCEEDED, State.SUPERSEDED, State.DEAD)

BACKOFF_LEAST = timedelta(seconds=15)
BACKOFF_MOST = timedelta(minutes=15)
LOSSES_ALLOWED = 5  # lost workers in a row before a job is taken for their killer


class Ending(StrEnum):
    """How a run ended, named by what happens next."""

    SUCCESS = "success"
    TRANSIENT = "transient"
    DISCONNECTED = "disconnected"
    REJECTED = "rejected"
    UNMAPPABLE = "unmappable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run reports when it ends.

    result      of a success: created | updated | unchanged | deleted | ignored
    reason      for people and reports, our own words: not_found, forwarded ...
    code        of a failure
    words       the vendor's own, kept on the attempt only
    not_before  the vendor's earliest time
    counted     False: this run does not raise the back-off
    notes       codes of things left undone on purpose, e.g. status_unmapped
    """

    ending: Ending
    result: str = ""
    reason: str = ""
    code: str = ""
    words: str = ""
    not_before: datetime | None = None
    counted: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What the machine must know of the job: runs that counted before this one, and when the first began."""

    tries: int
    first_tried_at: datetime
    newer_waits: bool


@dataclass(frozen=True, slots=True)
class Move:
    """Where the job goes; `due_at` is set for pending only."""

    state: State
    tries: int
    due_at: datetime | None = None
    not_before: datetime | None = None
    code: str = ""


def backoff(tries: int, jitter: float) -> timedelta:
    """Return the full-jitter wait after so many counted tries; `jitter` is drawn from [0, 1)."""
    ceiling = min(BACKOFF_MOST, BACKOFF_LEAST * (1 << min(tries, 10)))
    return BACKOFF_LEAST + (ceiling - BACKOFF_LEAST) * jitter


def after(outcome: Outcome, facts: Facts, *, now: datetime, give_up: timedelta, jitter: Callable[[], float]) -> Move:
    """Return the job's next state. The table of docs/architecture.md, row by row."""
    if outcome.ending is Ending.SUCCESS:
        return Move(State.SUCCEEDED, 0)
    if outcome.ending in (Ending.REJECTED, Ending.UNMAPPABLE):
        return Move(State.DEAD, facts.tries, code=outcome.code)
    if outcome.ending is Ending.DISCONNECTED:
        state = State.SUPERSEDED if facts.newer_waits else State.BLOCKED
        return Move(state, facts.tries, code=outcome.code)
    return _again(outcome, facts, now=now, give_up=give_up, jitter=jitter)


def _again(outcome: Outcome, facts: Facts, *, now: datetime, give_up: timedelta, jitter: Callable[[], float]) -> Move:
    tries = facts.tries + outcome.counted
    if outcome.counted and now - facts.first_tried_at >= give_up:
        return Move(State.DEAD, tries, code="gave_up")
    due_at = max(now, outcome.not_before) if outcome.not_before else now + backoff(tries, jitter())
    state = State.SUPERSEDED if facts.newer_waits else State.PENDING
    return Move(state, tries, due_at, outcome.not_before, code=outcome.code)


def after_loss(losses: int) -> State:
    """Return the state of a job whose worker vanished, by how often in a row that has happened."""
    return State.DEAD if losses >= LOSSES_ALLOWED else State.PENDING
