"""One worker's turn at a backfill, and the ways in which it ends early."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from integrations import systems
from integrations.core import paging
from integrations.core.errors import ConnectorError
from integrations.core.ports import Destination, Source
from integrations.core.records import CUSTOMER, INVOICE
from integrations.models import Route, Sweep


@dataclass(slots=True)
class Calls:
    """A recorder that counts: what is read for a batch is no single job's attempt."""

    made: int = 0

    def sending(self, method: str, path: str) -> Any:
        """Count one."""
        self.made += 1

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Keep nothing."""

    def taken(self) -> int:
        """Return how many there were since the last time."""
        made, self.made = self.made, 0
        return made


@dataclass(slots=True)
class Pass:
    """One worker's turn; both times are a time.monotonic().

    deadline    when no further batch is begun
    last        when nothing more is sent: a batch that has begun gets some time beyond the deadline
    """

    sweep: Sweep
    route: Route
    reader: Source
    adapter: Destination
    deadline: float
    last: float
    calls: Calls
    source_auth: systems.ConnectionAuth
    own_auth: systems.ConnectionAuth

    @property
    def kinds(self) -> list[str]:
        """The kinds of record to bring."""
        chosen = self.sweep.options.get("kinds") or [CUSTOMER, INVOICE]
        return [kind for kind in chosen if kind in self.route.kinds]

    @property
    def since(self) -> datetime:
        """The moment after which a record must have changed to be brought."""
        given = self.sweep.options.get("since")
        return datetime.fromisoformat(given) if given else paging.BEGINNING


class SourceFailed(Exception):  # noqa: N818 - which end it was decides what is held
    """The source could not be read in a phase that writes to the destination."""

    def __init__(self, why: ConnectorError) -> None:
        super().__init__(str(why))
        self.why = why


class Halted(Exception):  # noqa: N818 - not an error: the turn ends here
    """What concerns all that is still to come was met, and is held already: the rest waits for another turn."""

    def __init__(self, why: ConnectorError) -> None:
        super().__init__(str(why))
        self.why = why
