"""Says what a backfill will take before it begins, and what is left of it while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from integrations import limits, systems
from integrations.core import paging
from integrations.core.records import CUSTOMER, INVOICE, READ_MOST
from integrations.models import Route, Sweep

PAGE = 100  # records that one listing of the source shows


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill will take: records by kind, calls at each end, minutes where the account's limit is known.

    refused   document kinds that the account has refused to take in bulk the last time, with its reason
    """

    records: Mapping[str, int]
    source_calls: int
    destination_calls: int
    minutes: float | None
    refused: Mapping[str, str]

    @property
    def total(self) -> int:
        """The records of all kinds."""
        return sum(self.records.values())


def estimate(route: Route, *, kinds: Sequence[str] = (), since: datetime | None = None) -> Estimate:
    """Ask the source how many records there are; one call there, none at the destination. Raises ConnectorError, Misconfigured."""
    counts = systems.source(route.source).counts(since or paging.BEGINNING)
    wanted = {kind: counts.get(kind, 0) for kind in (kinds or (CUSTOMER, INVOICE)) if kind in route.kinds}
    refused = refusals(route)
    adapter = systems.destination(route)
    calls = sum(adapter.bulk_calls(kind, count, frozenset(refused)) for kind, count in wanted.items() if count)
    # Listed, and read again once they are claimed; paid invoices with their payments are read by twenties.
    reads = sum(2 * -(-count // PAGE) for count in wanted.values()) + -(-wanted.get(INVOICE, 0) // READ_MOST)
    return Estimate(wanted, reads, calls, _minutes(route, reads, calls), refused)


def refusals(route: Route) -> dict[str, str]:
    """Return what the newest backfill of a route found refused."""
    last = route.sweeps.filter(purpose=Sweep.Purpose.BACKFILL).order_by("-created_at", "-pk").first()
    return dict(last.options.get("refused") or {}) if last else {}


def _minutes(route: Route, reads: int, calls: int) -> float | None:
    paces = [(reads, limits.pace(route.source)), (calls, limits.pace(route.destination))]
    known = [count / pace for count, pace in paces if pace]
    return max(known) if known and all(pace for count, pace in paces if count) else None


def seconds_left(sweep: Sweep) -> float | None:
    """Return how long the rest takes at the pace so far, None while there is none."""
    figures = sweep.figures
    passed, total, since = figures.get("passed", 0), figures.get("total", 0), figures.get("listed_at")
    if not (passed and since) or sweep.state != Sweep.State.RUNNING:
        return None
    elapsed: float = (timezone.now() - datetime.fromisoformat(since)).total_seconds()
    return max(0.0, elapsed / int(passed) * (int(total) - int(passed)))


def left_to_their_runs(sweep: Sweep) -> int:
    """Return how many records have passed that were neither brought nor refused: another run has them, or they are due again."""
    figures = sweep.figures
    return max(0, int(figures.get("passed", 0)) - int(figures.get("done", 0)) - int(figures.get("failed", 0)))
