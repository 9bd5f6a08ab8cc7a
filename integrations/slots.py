"""Calls to one account at the same time, limited across all processes through Slot rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import random

from django.utils import timezone

from integrations.core.errors import Transient
from integrations.models import Slot

# Longer than a call may take; the slot of a worker that died with it comes free then.
TAKEN_FOR = timedelta(seconds=30)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@contextmanager
def taken(connection_id: int, concurrent: int) -> Iterator[None]:
    """Take a slot for one call and give it back; 0 means no limit. Raises Transient when none is free."""
    if not concurrent:
        yield
        return
    slot, until = _take(connection_id, concurrent)
    try:
        yield
    finally:
        Slot.objects.filter(connection_id=connection_id, slot=slot, until=until).update(until=timezone.now())


def _take(connection_id: int, concurrent: int) -> tuple[int, datetime]:
    slots = range(1, concurrent + 1)
    found = _take_free(connection_id, concurrent)
    if found is None and Slot.objects.filter(connection_id=connection_id, slot__in=slots).count() < concurrent:
        Slot.objects.bulk_create((Slot(connection_id=connection_id, slot=slot, until=LONG_AGO) for slot in slots), ignore_conflicts=True)
        found = _take_free(connection_id, concurrent)
    if found is None:
        soon = timezone.now() + timedelta(seconds=0.5 + random() / 2)  # noqa: S311 - no secret
        words = "waiting for a free slot: all calls allowed at the same time are under way"
        raise Transient(words, code="limit", not_before=soon, counted=False, unsent=True)
    return found


def _take_free(connection_id: int, concurrent: int) -> tuple[int, datetime] | None:
    """Take the first free slot by a conditional UPDATE whose row count decides."""
    now = timezone.now()
    until = now + TAKEN_FOR
    for slot in range(1, concurrent + 1):
        if Slot.objects.filter(connection_id=connection_id, slot=slot, until__lte=now).update(until=until):
            return slot, until
    return None
