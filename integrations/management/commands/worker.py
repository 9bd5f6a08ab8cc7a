"""manage.py worker: run django-q2's cluster and look after it."""

import contextlib
import signal
import subprocess
import sys
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError
from django_q.tasks import async_task

from audit import ledger, trail
from integrations import backfill, sweeping
from integrations.management.keycheck import require_keys

LOOK_EVERY = 1.0  # seconds
STOP_PATIENCE = 60  # seconds: a cluster that is told to stop finishes what it has fetched
STALE_AFTER = trail.HEARTBEAT_GAP
ASK_AFTER = 60.0  # seconds without a beat of this machine


class _StopError(Exception):
    """We were told to stop."""


def _stop(signum: int, frame: Any) -> None:
    raise _StopError


class Command(BaseCommand):
    help = "Run the workers of this machine: start a cluster, wake it when a job falls due, restart it when its heartbeat is stale."

    def handle(self, *args: Any, **options: Any) -> None:
        require_keys()
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        cluster = self._start()
        try:
            while True:
                time.sleep(LOOK_EVERY)
                if cluster.poll() is not None or self._is_stale():
                    self.stderr.write("the worker cluster is gone or hangs: starting a new one")
                    self._end(cluster, patience=5)
                    cluster = self._start()
                self._wake()
        except _StopError:
            for sign in (signal.SIGTERM, signal.SIGINT):  # told twice, by Ctrl-C and by `run`: once is enough
                signal.signal(sign, signal.SIG_IGN)
            self._end(cluster, patience=STOP_PATIENCE)
            with contextlib.suppress(DatabaseError):
                trail.beat(stopped=True)

    def _start(self) -> subprocess.Popen[bytes]:
        self._started = time.monotonic()
        async_task("integrations.tasks.beat")  # the schedule's first beat may be a minute away
        return subprocess.Popen([sys.executable, sys.argv[0], "qcluster"])  # noqa: S603 - our own command

    def _is_stale(self) -> bool:
        """Whether this machine's cluster has had time to beat and did not: one killed idle worker hangs it silently."""
        running = time.monotonic() - self._started
        if running < ASK_AFTER:
            return False
        with contextlib.suppress(DatabaseError):
            if not trail.is_silent(settings.WORKER_NAME, for_longer_than=ASK_AFTER):
                return False
            # Another machine may have taken all the tasks so far: one each second, and some come here.
            async_task("integrations.tasks.beat")
            return running >= STALE_AFTER.total_seconds() and trail.is_silent(settings.WORKER_NAME)
        return False

    def _wake(self) -> None:
        """Wake a worker for a job that fell due, or a backfill that waited for its limit; django-q2 has no delays of its own."""
        with contextlib.suppress(DatabaseError):
            if ledger.anything_due():
                ledger.wake()
            if backfill.anything_due():
                sweeping.wake("backfill")

    def _end(self, cluster: subprocess.Popen[bytes], *, patience: float) -> None:
        cluster.terminate()
        try:
            cluster.wait(patience)
        except subprocess.TimeoutExpired:
            cluster.kill()
            cluster.wait()
