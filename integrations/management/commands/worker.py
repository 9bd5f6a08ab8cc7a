"""manage.py worker: run django-q2's cluster and look after it."""

import contextlib
import os
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


class Command(BaseCommand):
    help = "Run the workers of this machine: start a cluster, wake it when a job falls due, restart it when its heartbeat is stale."

    _told_to_stop = False

    def handle(self, *args: Any, **options: Any) -> None:
        require_keys()
        self._listen()
        cluster = self._start()
        while not self._told_to_stop:
            if cluster.poll() is not None or self._is_stale():
                self.stderr.write("the worker cluster is gone or hangs: starting a new one")
                self._end(cluster, patience=5)
                cluster = self._start()
            self._wake()
            time.sleep(LOOK_EVERY)
        self._end(cluster, patience=STOP_PATIENCE)
        with contextlib.suppress(DatabaseError):
            trail.beat(stopped=True)

    def _listen(self) -> None:
        """Take note when we are told to stop, by a terminal that closes too: the cluster hears of it through us only."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(signal.SIGHUP, self._stop)

    def _stop(self, signum: int, frame: Any) -> None:
        # Only noted: raised here, it could get lost with a cluster that is being started, or come twice, by Ctrl-C and by `run`.
        self._told_to_stop = True

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a cluster in a group of its own, so that all of it can be ended together."""
        self._started = time.monotonic()
        async_task("integrations.tasks.beat")  # the schedule's first beat may be a minute away
        return subprocess.Popen([sys.executable, sys.argv[0], "qcluster"], start_new_session=True)  # noqa: S603 - our own command

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
            patience = STALE_AFTER.total_seconds()
            return running >= patience and trail.is_silent(settings.WORKER_NAME, for_longer_than=patience)
        return False

    def _wake(self) -> None:
        """Wake a worker for a job that fell due, or a backfill that waited for its limit; django-q2 has no delays of its own."""
        with contextlib.suppress(DatabaseError):
            if ledger.anything_due():
                ledger.wake()
            if backfill.anything_due():
                sweeping.wake("backfill")

    def _end(self, cluster: subprocess.Popen[bytes], *, patience: float) -> None:
        """Tell a cluster to finish, and kill what is left of it: its main process waits for the others without an end."""
        cluster.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            cluster.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(cluster.pid, signal.SIGKILL)  # the group outlives its leader: workers would keep their database connections
        cluster.wait()
