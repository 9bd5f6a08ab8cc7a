"""Turns the pages of a listing by time of change, so that nothing is missed although they shift meanwhile."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from integrations.core.records import Dated

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)  # before all that sources know
STEP_BACK = timedelta(seconds=1)  # records of one moment may lie on two pages, and whether `after` includes it is not known


class Page(Protocol):
    """A page of a listing, the oldest change first: `Listing` and `Swept`, which say what the members mean."""

    @property
    def records(self) -> Sequence[Dated]:
        """What could be read of it."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys of all that is on it."""

    @property
    def more(self) -> bool:
        """Whether another page follows."""

    @property
    def previous(self) -> str | None:
        """The key of the record just before the page."""


P = TypeVar("P", bound=Page)
P_co = TypeVar("P_co", bound=Page, covariant=True)


Mark = tuple[str, datetime | None]  # a record's key and time; None where it could not be read


@dataclass(frozen=True, slots=True)
class Place:
    """Where turning goes on: a page of what changed after a moment.

    number   above 1 only within a moment that fills more than a page
    news     whether this pass through that moment has shown anything new so far
    """

    after: datetime
    number: int = 1
    news: bool = False


@dataclass(frozen=True, slots=True)
class Turned(Generic[P_co]):
    """A page as it was read; who stores it and later begins after `reached`, or goes on at `place`, misses nothing.

    `dense`: more is to be turned of its moment; who goes on there says which records of it are known.
    """

    page: P_co
    reached: datetime
    place: Place
    dense: bool


def turn(ask: Callable[[datetime, int], P], after: datetime) -> Iterator[Turned[P]]:
    """Yield the pages of what changed after a moment; `ask` takes a moment and a page's number, from 1. Records may come twice.

    Page numbers are not trusted, for a record that changes meanwhile moves to the end and draws the others forward.
    A page is the next one only if the source says that the record before it is the last that was seen, and is older.
    Else, and where the source says nothing, the listing begins anew at the last moment that was seen.
    A whole listing costs one request per page while nothing moves, and twice that where all its records share a moment.
    """
    return go_on(ask, Place(after))


def go_on(ask: Callable[[datetime, int], P], place: Place, known: Collection[Mark] = ()) -> Iterator[Turned[P]]:
    """Yield the pages from a place on, as `turn`; `known` is what earlier turns have shown of its moment."""
    more = True
    while more:
        place, more = yield from _stretch(ask, place, known)


def _stretch(ask: Callable[[datetime, int], P], place: Place, earlier: Collection[Mark]) -> Generator[Turned[P], None, tuple[Place, bool]]:
    """Yield pages while they join; return where to begin anew and whether there is need to.

    Where that would be no further on, as one moment fills more than a page, all is turned until nothing new shows.
    """
    known = set(earlier)  # of this moment only: what lies further on is not gathered, so that memory stays flat
    after, first, news = place.after, place.number, place.news
    sure, first_pass = first == 1, True
    while True:
        reached, more = after, False
        alone = True
        last: P | None = None
        for number, page in _in_order(ask, after, first):
            if sure and last is not None and not _joins(last, page):
                if _leads_on(reached, after):
                    return Place(reached), True
                sure = False
            alone, last = last is None and first == 1, page
            reached = _reached(page, reached)
            marks = _marks(page)
            unseen = not known.issuperset(marks)
            news = news or unseen
            ends = not page.more or _leads_on(reached, after)
            done = ends and (sure or alone or not news)
            if first_pass or unseen or done:
                onward = Place(reached) if done else Place(after) if ends else Place(after, number + 1, news)
                yield Turned(page, reached if sure or done else after, onward, dense=not done)
            if not (sure and _leads_on(reached, after)):
                known.update(marks)
            if (page.previous is None or not sure) and _leads_on(reached, after):
                more = page.more
                break
        if sure or alone or not news:
            return Place(reached), more
        first, news, first_pass = 1, False, False


def _in_order(ask: Callable[[datetime, int], P], after: datetime, first: int) -> Iterator[tuple[int, P]]:
    """Yield the pages by their numbers; one that shows nothing new is the last, whatever it says."""
    seen: set[str] = set()
    number, more = first - 1, True
    while more:
        number += 1
        page = ask(after, number)
        more = page.more and not seen.issuperset(page.keys)
        seen = set(page.keys)
        yield number, page


def _marks(page: Page) -> set[Mark]:
    """Return what of a page may be known: a record that has changed since is not."""
    read: set[Mark] = {(one.key, one.modified_at) for one in page.records}
    return read | {(key, None) for key in set(page.keys) - {one.key for one in page.records}}


def _joins(last: Page, page: Page) -> bool:
    """Whether nothing can lie between two pages; within one moment the order may differ from request to request."""
    if page.previous not in last.keys:
        return False
    return not last.records or not page.records or page.records[0].modified_at > last.records[-1].modified_at


def _reached(page: Page, reached: datetime) -> datetime:
    return max(reached, page.records[-1].modified_at - STEP_BACK) if page.records else reached


def _leads_on(reached: datetime, after: datetime) -> bool:
    return reached - after >= STEP_BACK
