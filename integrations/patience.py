"""Waits a moment for a free slot: where jobs take them all, a poll or a sweep would hardly ever come to its turn."""

import time
from collections.abc import Callable
from typing import TypeVar

from django.utils import timezone

from integrations.core.errors import Transient

PATIENCE = 5  # times that a call waits for a free slot, half a second to one each

T = TypeVar("T")


def patiently(ask: Callable[[], T]) -> T:
    """Return what the call returns, tried again while only the limit of calls at the same time stands in its way."""
    for _ in range(PATIENCE):
        try:
            return ask()
        except Transient as error:
            if error.code != "limit" or error.scope or error.not_before is None:
                raise
            time.sleep(min(1.0, max(0.0, (error.not_before - timezone.now()).total_seconds())))
    return ask()
