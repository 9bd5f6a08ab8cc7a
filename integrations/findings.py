"""Stores what a page of a reconcile has shown, and asks for the jobs that mend it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from audit import ledger
from audit.models import SyncJob
from audit.states import State
from integrations import asking, comparing
from integrations.comparing import Compared, Difference, Reason
from integrations.models import Finding, Line, Route, Sweep

# Another job would end dead as the last one did, until a mapping or this product is changed: one dead letter a record is enough.
HOPELESS = frozenset({Reason.UNMAPPABLE, Reason.UNREADABLE})


@dataclass(frozen=True, slots=True)
class About:
    """What records are called and, of invoices, whose they are; by key."""

    titles: Mapping[str, str]
    customers: Mapping[str, str] = field(default_factory=dict)


def store_lines(lines: Iterable[Line]) -> None:
    """Store what later pages must know of these records; a record that comes twice is as it was told last."""
    Line.objects.bulk_create(
        {line.key: line for line in lines}.values(),
        update_conflicts=True,
        unique_fields=["sweep", "key"],
        update_fields=["customer_key", "number", "status", "due", "currency", "due_on", "held", "modified_at"],
    )


def left_to_jobs(sweep: Sweep, compared: Mapping[str, Compared]) -> int:
    """Return how many records of a page nobody compared as a job about them waits, once per route. Call before its lines are stored.

    Records come twice at times: those of an earlier page were counted with it.
    """
    left = [key for found in compared.values() for key in found.in_hand]
    passed = set(sweep.lines.filter(key__in=left).values_list("key", flat=True)) if left else set()
    return sum(key not in passed for key in left)


def note(sweep: Sweep, route: Route, kind: str, differences: Sequence[Difference], about: About, *, second_look: bool = False) -> None:
    """Store what one destination lacks; where this is no dry run, ask for the jobs that mend it. Call inside a transaction."""
    dead = _dead(route, kind, [one.key for one in differences])
    for one in differences:
        if one.key in dead:
            one.explain()
    hopeless = {one.key for one in differences if one.key in dead and not one.reasons.keys() - HOPELESS}
    wanted = [one for one in differences if one.mendable and one.key not in hopeless]
    jobs = {} if sweep.dry_run else _asked(sweep, route, kind, wanted, second_look=second_look)
    rows = [
        Finding(
            sweep=sweep,
            route=route,
            kind=kind,
            key=one.key,
            customer_key=about.customers.get(one.key, ""),
            title=about.titles.get(one.key, "")[:255],
            reason=reason,
            fields=sorted(names),
            job_id=jobs[one.key].pk if one.key in jobs else None,
        )
        for one in differences
        for reason, names in one.reasons.items()
    ]
    Finding.objects.bulk_create(rows, ignore_conflicts=True)


def _asked(sweep: Sweep, route: Route, kind: str, mended: Sequence[Difference], *, second_look: bool) -> dict[str, SyncJob]:
    comparing.doubt(mended)
    asks = [asking.ask(sweep.source, route, kind, one.key, second_look=second_look) for one in mended]
    jobs = asking.requested(asks)
    if jobs:
        ledger.wake()
    return dict(zip((one.key for one in mended), jobs, strict=True))


def _dead(route: Route, kind: str, keys: Sequence[str]) -> set[str]:
    """Return which of these records have a dead letter that nothing has resolved."""
    jobs = SyncJob.objects.filter(route_id=route.pk, kind=kind, key__in=keys, state=State.DEAD, resolved_by=None)
    return set(jobs.values_list("key", flat=True)) if keys else set()
