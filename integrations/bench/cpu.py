"""Processor time: this process's own, and what PostgreSQL spends on our connection where it runs on this machine."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.db import connection

from audit.models import SyncJob

ROUNDS, PACES = 15, 300


@dataclass(frozen=True, slots=True)
class Spent:
    """What a piece of work takes, as the median of some rounds.

    ours, server    milliseconds; server is None where it cannot be told
    relative        both together, in units of a fixed piece of work that was done just before
    """

    ours: float
    server: float | None
    relative: float

    @property
    def whole(self) -> float:
        """Both together, in milliseconds."""
        return self.ours + (self.server or 0.0)


def spent(work: Callable[[], object], times: int) -> Spent:
    """Do a piece of work so often in each round, and return what one takes.

    A shared machine is a third faster or slower from one minute to the next: what was measured minutes apart can only be
    compared by what else took how long at that moment.
    """
    rounds = [_round(work, times) for _ in range(ROUNDS)]
    server = [one.server for one in rounds if one.server is not None]
    relative = statistics.median(one.relative for one in rounds)
    return Spent(statistics.median(one.ours for one in rounds), statistics.median(server) if server else None, relative)


def _round(work: Callable[[], object], times: int) -> Spent:
    pace = _pace()
    theirs, began = _server(), time.process_time()
    for _ in range(times):
        work()
    ours, now = (time.process_time() - began) * 1000 / times, _server()
    server = None if theirs is None or now is None else (now - theirs) * 1000 / times
    return Spent(ours, server, (ours + (server or 0.0)) / pace)


def _pace() -> float:
    """Return the milliseconds of a piece of work that no table can make longer: a statement is built and not run."""
    began = time.process_time()
    for _ in range(PACES):
        str(SyncJob.objects.filter(key="a record", route_id=1, settled_at=None).query)
    return (time.process_time() - began) * 1000 / PACES


def _server() -> float | None:
    """Return the seconds that our connection's own process has used at a PostgreSQL on this machine."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        stat = Path(f"/proc/{cursor.fetchone()[0]}/stat")
    try:
        name, _, fields = stat.read_text().rpartition(")")
    except OSError:
        return None
    ticks = fields.split()[11:13]  # utime and stime, man 5 proc_pid_stat
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") if "postgres" in name else None
