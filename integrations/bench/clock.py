"""A clock that can be set forward: hours pass in a bench without anybody waiting for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from django.utils import timezone


@dataclass(slots=True)
class Clock:
    """The machine's clock, set forward by `ahead`; it runs on."""

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return datetime.now(UTC) + self.ahead

    def shift(self, by: timedelta) -> None:
        """Let time pass."""
        self.ahead += by

    def move_to(self, moment: datetime) -> None:
        """Let time pass until then; it never goes back."""
        self.ahead += max(timedelta(0), moment - self.now())

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let this process go by this clock: production code asks `timezone.now()` for every time it stores or compares.

        Deadlines of a run and the signature's window (time.monotonic, time.time) stay the machine's.
        """
        with patch.object(timezone, "now", self.now):
            yield
