"""A clock that stands still while nobody waits: only calls and sleeps take time, so that a run tells the same on any machine."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from integrations.bench.clock import Clock
from integrations.http import Answer, ApiClient

Shift = Callable[[timedelta], object]


@dataclass(slots=True)
class Still(Clock):
    """A clock that goes on only when it is shifted."""

    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self.begun + self.ahead


@contextmanager
def unhurried(
    shift: Callable[[timedelta], object], *, latency: float = 0.0, between: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Let sleeps, and so many seconds for each call to a vendor, pass on a clock that `shift` moves; nobody waits.

    `between` is called after each call, as other processes would go on meanwhile.
    """
    passed, send = [0.0], ApiClient.send

    def sleep(seconds: float) -> None:
        passed[0] += seconds
        shift(timedelta(seconds=seconds))

    def sent(client: ApiClient, *args: Any, **more: Any) -> Answer:
        try:
            return send(client, *args, **more)
        finally:
            sleep(latency)
            between()

    began = time.monotonic()
    with (
        patch.object(time, "sleep", sleep),
        patch.object(time, "monotonic", lambda: began + passed[0]),
        patch.object(ApiClient, "send", sent),
    ):
        yield
