from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from integrations.core import paging
from integrations.core.records import Changed, Listing

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def changes(moments: Sequence[timedelta]) -> list[Changed]:
    return [Changed(str(number), NOON + moment) for number, moment in enumerate(moments)]


@dataclass
class Book:
    """A source's listing, 100 a page; `tells` whether it says what stands before a page. `asked` counts the requests."""

    records: list[Changed]
    tells: bool = True
    asked: int = 0
    between: Callable[["Book"], None] = lambda book: None
    size: int = field(default=100)

    def ask(self, after: datetime, page: int) -> Listing:
        self.asked += 1
        found = sorted((one for one in self.records if one.modified_at > after), key=lambda one: one.modified_at)
        start = self.size * (page - 1)
        before = found[start - 1].key if 0 < start <= len(found) else "" if page == 1 else None
        shown = Listing(tuple(found[start : start + self.size]), len(found) > start + self.size, before if self.tells else None)
        self.between(self)
        return shown

    def turn_all(self) -> list[str]:
        return [one.key for turned in paging.turn(self.ask, paging.BEGINNING) for one in turned.page.records]

    def touch(self, key: str) -> None:
        """Let a record change: it moves to the end."""
        last = max(one.modified_at for one in self.records)
        self.records = [Changed(key, last + timedelta(minutes=1)) if one.key == key else one for one in self.records]


@pytest.mark.parametrize(("records", "requests"), [(0, 1), (1, 1), (99, 1), (100, 1), (101, 2), (250, 3), (1000, 10), (1990, 20)])
@pytest.mark.parametrize("apart", [timedelta(minutes=1), timedelta(milliseconds=1)])
def test_a_still_listing_costs_one_request_per_page_and_shows_each_record_once(records: int, requests: int, apart: timedelta) -> None:
    book = Book(changes([apart * number for number in range(records)]))
    assert book.turn_all() == [str(number) for number in range(records)]
    assert book.asked == requests


@pytest.mark.parametrize(("records", "requests"), [(100, 1), (101, 6), (250, 8), (1000, 22)])
def test_records_of_one_moment_cost_twice_their_pages_and_two_more(records: int, requests: int) -> None:
    """Their order may differ from request to request, so that all is turned again until nothing new shows."""
    book = Book(changes([timedelta()] * records))
    assert set(book.turn_all()) == {str(number) for number in range(records)}
    assert book.asked == requests


@pytest.mark.parametrize(("records", "requests"), [(100, 1), (250, 3), (1000, 11), (1990, 21)])
def test_where_the_source_does_not_say_what_stands_before_each_page_begins_one_record_back(records: int, requests: int) -> None:
    book = Book(changes([timedelta(minutes=number) for number in range(records)]), tells=False)
    assert set(book.turn_all()) == {str(number) for number in range(records)}
    assert book.asked == requests


def test_a_moment_that_lies_on_two_pages_costs_one_request_more() -> None:
    book = Book(changes([timedelta(minutes=number - (number == 100)) for number in range(250)]))
    assert set(book.turn_all()) == {str(number) for number in range(250)}
    assert book.asked == 4


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("apart", [timedelta(minutes=1), timedelta(milliseconds=1)])
def test_what_changes_or_is_deleted_while_pages_are_turned_hides_nothing(tells: bool, apart: timedelta) -> None:
    book = Book(changes([apart * number for number in range(60)]), tells=tells, size=5)

    def move(book: Book) -> None:
        if book.asked in (2, 3, 5):
            book.touch(str(book.asked))
        if book.asked == 7:
            book.records = [one for one in book.records if one.key != "1"]

    book.between = move
    assert set(book.turn_all()) == {str(number) for number in range(60)}


def test_who_begins_again_where_a_page_was_reached_misses_nothing() -> None:
    moments = [timedelta(seconds=number // 7) for number in range(300)]
    for stop in range(1, 8):
        book, seen, reached = Book(changes(moments), size=50), set[str](), paging.BEGINNING
        for count, turned in enumerate(paging.turn(book.ask, paging.BEGINNING), start=1):
            seen |= set(turned.page.keys)
            reached = turned.reached
            if count == stop:
                break
        seen |= {key for turned in paging.turn(book.ask, reached) for key in turned.page.keys}
        assert seen == {str(number) for number in range(300)}


@pytest.mark.parametrize("inclusive", [False, True])
def test_more_records_of_one_moment_than_a_page_holds_are_all_seen(inclusive: bool) -> None:
    moments = [NOON + timedelta(seconds=10)] * 7 + [NOON + timedelta(seconds=20)]
    records = [Changed(str(number), moment) for number, moment in enumerate(moments)]

    def ask(after: datetime, page: int) -> Listing:
        found = [one for one in records if one.modified_at > after or (inclusive and one.modified_at == after)]
        return Listing(tuple(found[2 * page - 2 : 2 * page]), more=len(found) > 2 * page)

    seen = [one.key for turned in paging.turn(ask, NOON) for one in turned.page.records]
    assert set(seen) == {str(number) for number in range(8)}


def test_records_of_one_moment_that_shift_between_pages_are_all_seen() -> None:
    records = {str(number): Changed(str(number), NOON + timedelta(seconds=1)) for number in range(9)}
    calls = 0

    def ask(after: datetime, page: int) -> Listing:
        nonlocal calls
        calls += 1
        found = sorted((one for one in records.values() if one.modified_at > after), key=lambda one: one.modified_at)
        shown = Listing(tuple(found[2 * page - 2 : 2 * page]), more=len(found) > 2 * page)
        if calls == 2:
            records["0"] = Changed("0", NOON + timedelta(hours=1))
        return shown

    seen = [one.key for turned in paging.turn(ask, NOON) for one in turned.page.records]
    assert set(seen) == set(records)


def test_a_list_that_has_no_end_ends() -> None:
    again = Listing((Changed("1", NOON),), more=True)
    assert [turned.page for turned in paging.turn(lambda after, page: again, NOON)] == [again, again]
