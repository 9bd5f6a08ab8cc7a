"""How large a bench is: the whole one for figures, a small one to see that it works."""

from collections.abc import Callable
from dataclasses import dataclass, field

from integrations.bench.clock import Clock


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: its clock, and the rows of the largest table that is measured; everything else is at most as large.

    web    returns the command that serves the site at an address
    """

    rows: int = 1_000_000
    web: Callable[[str], list[str]] = field(default=lambda bind: [])
    clock: Clock = field(default_factory=Clock)

    def most(self, number: int) -> int:
        """Return a number of things to measure, less where the bench is small."""
        return max(1, min(number, self.rows // 10))
