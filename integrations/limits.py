"""Limits per minute and on calls at the same time, shared by all processes through Slot rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from random import random

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from integrations.core.errors import Transient
from integrations.models import Connection, Slot

MINUTE = timedelta(minutes=1)
# Longer than a call may take; the slot of a worker that died with it comes free then.
TAKEN_FOR = timedelta(seconds=30)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
MINUTE_SLOT = 0


def gate_of(connection: Connection) -> Callable[[], AbstractContextManager[None]]:
    """Return what ApiClient enters around each request to this account; without limits it runs no statement."""
    if connection.system != "wave":
        return nullcontext
    per_minute, concurrent = settings.WAVE_MAX_PER_MINUTE, settings.WAVE_MAX_CONCURRENT
    if not per_minute and not concurrent:
        return nullcontext
    return lambda: gate(connection.pk, per_minute=per_minute, concurrent=concurrent)


@contextmanager
def gate(connection_id: int, *, per_minute: int, concurrent: int) -> Iterator[None]:
    """Take a slot for one call and give it back; 0 means no limit. Raises Transient when none is free."""
    taken = _take_slot(connection_id, concurrent) if concurrent else None
    try:
        if per_minute:
            _count(connection_id, per_minute)
        yield
    finally:
        if taken is not None:
            slot, until = taken
            Slot.objects.filter(connection_id=connection_id, slot=slot, until=until).update(until=timezone.now())


def _take_slot(connection_id: int, concurrent: int) -> tuple[int, datetime]:
    slots = range(1, concurrent + 1)
    taken = _take_free(connection_id, concurrent)
    if taken is None and Slot.objects.filter(connection_id=connection_id, slot__in=slots).count() < concurrent:
        _make(connection_id, *slots)
        taken = _take_free(connection_id, concurrent)
    if taken is None:
        soon = timezone.now() + timedelta(seconds=0.5 + random() / 2)  # noqa: S311 - no secret
        raise _full("waiting for a free slot: all calls allowed at the same time are under way", soon)
    return taken


def _take_free(connection_id: int, concurrent: int) -> tuple[int, datetime] | None:
    """Take the first free slot by a conditional UPDATE whose row count decides."""
    now = timezone.now()
    until = now + TAKEN_FOR
    for slot in range(1, concurrent + 1):
        if Slot.objects.filter(connection_id=connection_id, slot=slot, until__lte=now).update(until=until):
            return slot, until
    return None


def _count(connection_id: int, per_minute: int) -> None:
    """Count one call in the minute that began with its first call."""
    if _counted(connection_id, per_minute):
        return
    _make(connection_id, MINUTE_SLOT)
    if _counted(connection_id, per_minute):
        return
    began = Slot.objects.values_list("window_start", flat=True).get(connection_id=connection_id, slot=MINUTE_SLOT)
    next_window = (began or timezone.now()) + MINUTE
    raise _full("waiting for the next minute: all calls allowed in this one are made", next_window, scope="connection")


def _counted(connection_id: int, per_minute: int) -> bool:
    now = timezone.now()
    minute = Slot.objects.filter(connection_id=connection_id, slot=MINUTE_SLOT)
    if minute.filter(window_start__gt=now - MINUTE, used__lt=per_minute).update(used=F("used") + 1):
        return True
    # Of two workers that begin a new minute at once, the second finds it begun and counts in it, in `_count`.
    return bool(minute.filter(window_start__lte=now - MINUTE).update(window_start=now, used=1))


def _make(connection_id: int, *slots: int) -> None:
    """Create rows that are not there yet, free and unused."""
    rows = [Slot(connection_id=connection_id, slot=slot, until=LONG_AGO, window_start=LONG_AGO) for slot in slots]
    Slot.objects.bulk_create(rows, ignore_conflicts=True)


def _full(message: str, not_before: datetime, *, scope: str = "") -> Transient:
    return Transient(message, code="limit", not_before=not_before, scope=scope, counted=False, unsent=True)
