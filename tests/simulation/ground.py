"""The ground that production code stands on here: clock, sleep, randomness, database and wake-ups belong to the stage."""

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import time_machine
from django.db import OperationalError, connections, transaction

from audit import ledger
from integrations import inbox, outgoing, sweeping, systems, tasks
from integrations.sources.wave import queries
from tests.simulation.stage import START, Actor, ProcessEnd, Stage

WRITES = ("INSERT", "UPDATE", "DELETE")
MONOTONIC = 100_000.0  # at START
NO_FAULTS: Callable[[str], bool] = lambda point: False  # noqa: E731


class Ground:
    """What the patched production code meets; one stage after the other stands on it."""

    def __init__(self, clock: time_machine.Traveller) -> None:
        self.clock = clock
        self.stage: Stage | None = None
        self.send: Callable[..., Any] = self._nobody
        self.dies: Callable[[str], bool] = NO_FAULTS  # asked at each point where a process can end
        self.refuses: Callable[[str], bool] = NO_FAULTS  # asked at each statement that takes the database's write lock
        self.woken: Callable[[str, Sequence[str]], object] = lambda name, ids: None
        self.stalls: Callable[[str], float] = lambda point: 0.0  # seconds that a process stands still at a point
        self.settled: Callable[[], object] = lambda: None
        self.refused: Callable[[], object] = lambda: None
        self.is_over: Callable[[int], bool] = lambda attempt: False  # whether an attempt was closed already
        self.randomness = random.Random(0)

    @staticmethod
    def _nobody(request: Any, **more: Any) -> Any:
        raise AssertionError("nobody answers")

    @property
    def actor(self) -> Actor | None:
        """The process that runs, None while the director prepares."""
        if self.stage is None or self.stage.running is self.stage.director:
            return None
        return self.stage.running

    def reseed(self, seed: int) -> None:
        """Let everything drawn from now on follow from the seed."""
        self.randomness = random.Random(f"ground {seed}")
        random.seed(f"product {seed}")
        tasks._beaten_at = -tasks.BEAT_EVERY  # what a process remembers begins anew

    def point(self, name: str) -> None:
        """Pass a point at which the process may end."""
        actor = self.actor
        if actor is None or self.stage is None:
            return
        if actor.dead or self.stage.over:
            raise ProcessEnd
        if not (actor.work and actor.work.safe) and self.dies(name):
            actor.dead = True
            raise ProcessEnd

    # --- What production code calls

    def monotonic(self) -> float:
        """Stand for time.monotonic."""
        return MONOTONIC + (self.stage.seconds if self.stage else 0.0)

    def sleep(self, seconds: float) -> None:
        """Stand for time.sleep."""
        if self.stage is not None and self.actor is not None:
            self.stage.pause(seconds)

    def urandom(self, size: int) -> bytes:
        """Stand for os.urandom."""
        return self.randomness.randbytes(size)

    def async_task(self, name: str, ids: Sequence[str] = (), **more: Any) -> None:
        """Stand for django-q2's queue: a wake-up commits or vanishes with the transaction."""
        told = list(ids)
        transaction.on_commit(lambda: self.woken(name, told))

    def settle(self, ordinary: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Stand for ledger.settle, and tell that it was done."""
        attempt = args[0]
        over = self.actor is not None and self.is_over(attempt.pk)
        job = ordinary(*args, **more)
        if self.actor is not None and job is not None and self.stage is not None:
            if over:
                self.stage.violate(f"{self.actor.name} settles a job that was given to another worker")
            self.settled()
        return job

    # --- The database

    def stand(self, actor: Actor) -> None:
        """Watch this thread's connection; call it in the actor's own thread, once in each of its lives."""
        connection = connections["default"]
        if getattr(connection, "watched", None) == (id(self.stage), actor.life):
            return
        connection.watched = (id(self.stage), actor.life)  # type: ignore[attr-defined]
        connection.execute_wrappers.append(partial(self._statement, actor, connection))
        connection.commit = partial(self._commit, actor, connection.commit)  # type: ignore[method-assign]

    def bury(self, actor: Actor) -> None:
        """Take connection and memory from a process that has ended; what it had not committed is rolled back."""
        actor.touched.clear()
        found = connections["default"]
        if found.connection is not None:
            found.connection.close()
        del connections["default"]
        systems._sessions.__dict__.pop("by_connection", None)
        if actor.pool == "web":
            inbox._uncounted.clear()

    def _statement(self, actor: Actor, connection: Any, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if actor.dead or self.stage is None or self.stage.over:
            raise ProcessEnd
        outermost = not connection.in_atomic_block
        taking = outermost and (sql.startswith(WRITES) or sql.startswith("BEGIN"))
        if taking and not (actor.work and actor.work.safe) and self.refuses(sql):
            actor.troubled = True
            self.refused()
            self.stage.note("the database is locked")
            self.stage.happened["a locked database"] += 1
            raise OperationalError("database is locked")
        result = execute(sql, params, many, context)
        if outermost and " RETURNING " in sql:
            _end(context["cursor"])
        if sql.startswith("BEGIN"):
            actor.touched.clear()  # of a transaction that was rolled back
        if sql.startswith(WRITES):
            actor.touched[sql.split('"')[1]] = None
            if outermost:
                self._committed(actor)
        return result

    def _commit(self, actor: Actor, commit: Callable[[], None]) -> None:
        self.point("before commit")
        commit()
        self._committed(actor)

    def _committed(self, actor: Actor) -> None:
        what = ", ".join(name.partition("_")[2] for name in actor.touched) or "nothing"
        actor.touched.clear()
        if self.stage is None or self.actor is None:
            return
        self.stage.note(f"committed {what}")
        self.point(f"after commit of {what}")
        seconds = self.stalls(what)
        if seconds:
            self.stage.happened["a process stands still"] += 1
            self.stage.pause(seconds)


@contextmanager
def prepared_ground() -> Iterator[Ground]:
    """Yield the ground with production code standing on it; everything is put back afterwards."""
    traveller = time_machine.travel(START, tick=False)
    with traveller as clock:
        ground = Ground(clock)
        with (
            mock.patch.object(time, "monotonic", ground.monotonic),
            mock.patch.object(time, "sleep", ground.sleep),
            mock.patch.object(os, "urandom", ground.urandom),
            mock.patch.object(random, "_urandom", ground.urandom),
            mock.patch.object(outgoing, "HTTPAdapter", lambda **options: _Mounted(ground)),
            mock.patch.object(ledger, "async_task", ground.async_task),
            mock.patch.object(sweeping, "async_task", ground.async_task),
            mock.patch.object(ledger, "settle", partial(ground.settle, ledger.settle)),
        ):
            yield ground


def _end(cursor: Any) -> None:
    """Bring a statement to its end: SQLite holds the write lock until its rows are fetched, and who sent it may stand still before."""
    rows = iter(cursor.fetchall())
    cursor.fetchone = lambda: next(rows, None)


class _Mounted:
    """What `requests` takes for an adapter."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def send(self, request: Any, **more: Any) -> Any:
        """Hand the prepared request over."""
        return self.ground.send(request, **more)

    def close(self) -> None:
        """Hold nothing that could be closed."""


def use_database(path: Path) -> None:
    """Point Django at a database file; connections that are open are closed first."""
    connections["default"].close()
    del connections["default"]
    connections.settings["default"]["NAME"] = str(path)


def use_pages(size: int) -> None:
    """Let Wave's lists have so many lines to a page, in all that the product asks."""
    asked = f"pageSize: {queries.PAGE_SIZE}"
    for name, text in vars(queries).items():
        if isinstance(text, str) and asked in text:
            setattr(queries, name, re.sub(rf"{asked}\b", f"pageSize: {size}", text))
    queries.PAGE_SIZE = size
