"""Begins, takes and ends sweeps: one worker at a time carries one on, under a lease, and nothing is stored without it."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from integrations.core.paging import Mark, Place, Turned
from integrations.models import Connection, Route, Sweep

LEASE = timedelta(seconds=150)  # more than a page may take; renewed with each page that is stored
OPEN = (Sweep.State.RUNNING, Sweep.State.PAUSED)
FAILURES_ALLOWED = 5  # in a row, of one step
PAUSE_AFTER_FAILURE = timedelta(minutes=1)
DELETED = "it was deleted meanwhile, as its route or account was"
TRIES = 3  # to begin one where another seems to be open


class LeaseLost(Exception):  # noqa: N818 - not an error: another worker carries the sweep on, or a person ended it
    """The lease is somebody else's now: nothing more is stored."""


def begin(
    source: Connection,
    purpose: str,
    *,
    phase: str,
    started_by: str,
    route: Route | None = None,
    dry_run: bool = False,
    options: Mapping[str, Any] | None = None,
) -> tuple[Sweep, bool]:
    """Begin a sweep, or return the open one of its kind with False."""
    now = timezone.now()
    values: dict[str, Any] = {"source": source, "route": route, "purpose": purpose, "phase": phase, "started_by": started_by}
    values |= {"dry_run": dry_run, "options": dict(options or {}), "created_at": now, "due_at": now}
    only: dict[str, Any] = {"source": source} if purpose == Sweep.Purpose.RECONCILE else {"route": route}
    for _ in range(TRIES):
        try:
            return _made(values), True
        except IntegrityError:
            standing = open_of(purpose).filter(**only).first()
        if standing is not None:
            return standing, False
        # The one in the way has ended since: now there is room.
    return _made(values), True


def _made(values: Mapping[str, Any]) -> Sweep:
    with transaction.atomic():
        return Sweep.objects.create(**values)


def open_of(purpose: str) -> QuerySet[Sweep]:
    """Return the sweeps of a kind that have not ended."""
    return Sweep.objects.filter(purpose=purpose, state__in=OPEN).select_related("source", "route")


def due(purpose: str) -> QuerySet[Sweep]:
    """Return the running sweeps of a kind that somebody could carry on now, the oldest first."""
    now = timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    running = Sweep.objects.filter(free, purpose=purpose, state=Sweep.State.RUNNING, due_at__lte=now)
    return running.select_related("source", "route").order_by("due_at", "pk")


def wake(task: str) -> None:
    """Have a worker carry the sweeps of a kind on, without waiting for the schedule."""
    async_task(f"integrations.tasks.{task}")


def take(sweep: Sweep) -> bool:
    """Take the lease by a conditional UPDATE whose row count decides."""
    now = timezone.now()
    owner = str(uuid.uuid4())
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    taken = Sweep.objects.filter(free, pk=sweep.pk, state=Sweep.State.RUNNING).update(lease_owner=owner, lease_until=now + LEASE)
    return bool(taken) and read_again(sweep)


def read_again(sweep: Sweep, fields: Sequence[str] | None = None) -> bool:
    """Read how it stands now; of one that is not there any more, say that it has ended, and False."""
    try:
        sweep.refresh_from_db(fields=fields)
    except Sweep.DoesNotExist:
        sweep.state, sweep.problem = Sweep.State.CANCELLED, DELETED
        return False
    return True


def keep(sweep: Sweep, **values: Any) -> None:
    """Store how far it is and renew the lease; call inside the transaction that stores what came of it. Raises LeaseLost.

    One that a person has paused meanwhile stores how far it came, too.
    """
    mine = Sweep.objects.filter(pk=sweep.pk, lease_owner=sweep.lease_owner, state__in=OPEN)
    if not mine.update(lease_until=timezone.now() + LEASE, problem="", failures=0, **values):
        raise LeaseLost
    for name, value in {"failures": 0, **values}.items():
        setattr(sweep, name, value)


def place_of(sweep: Sweep, first: datetime) -> Place:
    """Return where a phase that turns pages goes on, or begins."""
    number, _, news = sweep.cursor.partition(" ")
    return Place(sweep.reached, int(number or 1), bool(news)) if sweep.reached else Place(first)


def known_of(sweep: Sweep, kind: str) -> set[Mark]:
    """Return what the lines tell of the moment at which a phase goes on; a key alone stands for what could not be read."""
    lines = sweep.lines.filter(key__contains=f":{kind}:", modified_at__gte=sweep.reached) if sweep.reached else sweep.lines.none()
    told = dict(lines.values_list("key", "modified_at"))
    return {*told.items(), *((key, None) for key in told), ("", None)}


def keep_page(sweep: Sweep, turned: Turned[Any], **values: Any) -> None:
    """Do as `keep`, and store where the next turn goes on: also within a moment that has more records than one can read."""
    place = turned.place
    cursor = f"{place.number}{' news' if place.news else ''}" if place.number > 1 else ""
    keep(sweep, reached=place.after, cursor=cursor, **values)


def note(sweep: Sweep, **values: Any) -> None:
    """Store something on the way and renew the lease, where it is ours: also while a person has paused or ended it."""
    Sweep.objects.filter(pk=sweep.pk, lease_owner=sweep.lease_owner).update(lease_until=timezone.now() + LEASE, **values)
    for name, value in values.items():
        setattr(sweep, name, value)


def give_back(sweep: Sweep, **values: Any) -> None:
    """Free the lease, and store why or until when, where it is still ours; what a person has ended stays ended."""
    mine = Sweep.objects.filter(pk=sweep.pk, lease_owner=sweep.lease_owner)
    state = values.pop("state", None)
    if state is not None:
        mine.filter(state=Sweep.State.RUNNING).update(state=state)
    mine.update(lease_until=None, lease_owner="", **values)
    read_again(sweep)


def end(sweep: Sweep, state: str, **values: Any) -> None:
    """End it, and forget what only a running sweep needs. Raises LeaseLost."""
    with transaction.atomic():
        keep(sweep, state=state, ended_at=timezone.now(), **values)
        sweep.lines.all().delete()
