"""A destination's own webhooks: what should be registered there, what is, and what a delivery from there hints at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Wish:
    """A webhook as it should be registered; `query` is the destination's own words for what it is about."""

    url: str
    query: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remote:
    """A webhook as the destination lists it; `expires_at` is None where that was not told or not understood."""

    id: str
    url: str
    query: str
    events: tuple[str, ...]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """What a delivery of a destination says happened to one of its objects; only a look shows whether it is true.

    event      the destination's own name of the event
    object_id  the remote id, "" when the event is about none
    happened   deleted | moved | status, "" for what we do not mind
    doubts     kinds of documents whose remote object is to be looked at again
    actor      the remote account that did it
    known      False for an event that nobody has told us of
    ours       False for what we never do: it is no echo even where it carries our own account
    """

    event: str
    object_id: str = ""
    happened: str = ""
    doubts: frozenset[str] = frozenset()
    actor: str = ""
    known: bool = True
    ours: bool = True


class Keeper(Protocol):
    """The calls that keep a destination's webhooks. All raise ConnectorError."""

    def own_account(self) -> str:
        """Return the id by which deliveries name us."""

    def listed(self) -> list[Remote]:
        """Return what the app has registered."""

    def register(self, wish: Wish) -> str:
        """Register a webhook and return its id."""

    def refresh(self, ids: Sequence[str]) -> None:
        """Give webhooks a new end; the answer proves nothing."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove webhooks; ones that are gone are no error."""
