"""Counts of calls in windows with a fixed end, as the stand-ins' rate limits count them."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class FixedWindow:
    """What was used in the window that ends at `ends`; the next one begins with the first call after it."""

    used: int = 0
    ends: datetime = LONG_AGO

    def take(self, limit: int, ends: datetime, *, now: datetime) -> bool:
        """Count one call, in a window that would end at `ends` if it began now; False when the window is used up."""
        if now >= self.ends:
            self.used, self.ends = 0, ends
        if self.used >= limit:
            return False
        self.used += 1
        return True

    def seconds_left(self, now: datetime) -> int:
        """Return the whole seconds until the window ends, rounded up."""
        return max(1, math.ceil((self.ends - now).total_seconds()))


def next_hour(now: datetime) -> datetime:
    """Return the next full hour (UTC), when points are given anew."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
