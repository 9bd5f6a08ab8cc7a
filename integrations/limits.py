"""What each call to an account passes: slots, budgets and the circuit breaker."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.conf import settings
from django.utils import timezone

from integrations import breaker, budgets, registry, slots
from integrations.core.errors import Misconfigured, Transient
from integrations.http import OUT_OF_TIME, Answer
from integrations.models import Budget, Connection
from integrations.rates import Rates

LIVE, BULK = "live", "bulk"
MINUTE = 60
# Where a second brings a new call, waiting here is cheaper than another claim, which costs a read at the source.
WAIT_HERE = 1.05  # seconds
WAITS = 3


def gate_of(connection: Connection, lane: str = LIVE) -> "Limiter":
    """Return what ApiClient enters around each request to this account; where nothing is known of limits it runs no statement."""
    try:
        rates = registry.entry(connection.system).rates
    except Misconfigured:
        rates = None
    if connection.system != "wave" or rates is None:
        return Limiter(connection, rates, lane, rates.fixed if rates else {})
    per_minute = settings.WAVE_MAX_PER_MINUTE
    fixed = {rates.whole: (per_minute, MINUTE)} if per_minute else {}
    return Limiter(connection, rates, lane, fixed, settings.WAVE_MAX_CONCURRENT)


def pace(connection: Connection) -> float | None:
    """Return how many calls a minute bulk may make at this account as far as is known, None where nothing is."""
    rates = registry.entry(connection.system).rates
    if connection.system == "wave" and settings.WAVE_MAX_PER_MINUTE:
        return float(settings.WAVE_MAX_PER_MINUTE * settings.BUDGET_BULK_SHARE)
    row = Budget.objects.filter(connection=connection, bucket=rates.whole).first() if rates else None
    return float(row.limit / row.window * MINUTE * settings.BUDGET_BULK_SHARE) if row and row.limit and row.window else None


@dataclass(slots=True)
class Limiter:
    """The gate of one client.

    lane        bulk leaves a reserve of each budget to live
    fixed       limits that no answer tells of
    concurrent  calls at the same time, 0 = no limit
    """

    connection: Connection
    rates: Rates | None
    lane: str
    fixed: Mapping[str, tuple[int, int]]
    concurrent: int = 0
    _known: dict[str, Budget] | None = None

    @contextmanager
    def __call__(self, method: str, path: str) -> Iterator[Callable[[Answer], None]]:
        """Let one request pass, or raise Transient; yields what takes the answer. Silence counts as a failure."""
        with slots.taken(self.connection.pk, self.concurrent):
            self._take(method, path)
            try:
                yield partial(self._tell, method, path, timezone.now())
            except Transient as error:
                if error.code != OUT_OF_TIME:  # which says nothing of the vendor
                    breaker.failed(self.connection, weight=breaker.WEIGHT_OF_SILENCE)
                raise

    def _take(self, method: str, path: str) -> None:
        for row in self._falls_under(method, path):
            until = self._taken(row)
            if until is not None:
                raise self._full(row, until)

    def _falls_under(self, method: str, path: str) -> list[Budget]:
        """Return the known budgets of a request, the slowest first: what it refuses is not taken from the others."""
        if self.rates is None:
            return []
        buckets = (self.rates.whole, *self.rates.classify(method, path))
        fixed = {bucket: self.fixed[bucket] for bucket in buckets if bucket in self.fixed}
        if self._known is None and not self.connection.budgeted and not fixed:
            return []
        if self._known is None or not fixed.keys() <= self._known.keys():
            self._known = budgets.known(self.connection, fixed)
        rows = [self._known[bucket] for bucket in buckets if bucket in self._known]
        return sorted(rows, key=lambda row: (row.limit / row.window, row.bucket == self._whole))

    @property
    def _whole(self) -> str:
        return self.rates.whole if self.rates else ""

    def _taken(self, row: Budget) -> datetime | None:
        share = settings.BUDGET_BULK_SHARE if self.lane == BULK else 1.0
        for _ in range(WAITS):
            until = budgets.take(row, share=share)
            wait = 0.0 if until is None else (until - timezone.now()).total_seconds()
            if until is None or wait > WAIT_HERE:
                return until
            time.sleep(max(0.0, wait))
        return budgets.take(row, share=share)

    def _full(self, row: Budget, until: datetime) -> Transient:
        """Hold the account where all its calls are used up; what only this request, or only bulk, has used up waits alone."""
        whole = row.bucket == self._whole and self.lane == LIVE
        words = f"waiting for {row.bucket}: all calls allowed until then are made"
        return Transient(words, code="limit", not_before=until, scope="connection" if whole else "", counted=False, unsent=True)

    def _tell(self, method: str, path: str, sent: datetime, answer: Answer) -> None:
        if breaker.is_down(answer):
            breaker.failed(self.connection, weight=breaker.WEIGHT_OF_ERROR)
        elif self.lane == LIVE and timezone.now() - sent >= breaker.SLOW_CALL:
            breaker.was_slow(self.connection)
        else:
            breaker.answered(self.connection)
        told = self.rates.learn(method, path, answer, timezone.now()) if self.rates else []
        if told:
            budgets.learn(self.connection, told)
            if self._known is None or any(one.bucket not in self._known for one in told):
                self._known = None  # looked up anew by the next request
