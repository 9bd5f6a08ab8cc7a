"""Pages of Wave's lists: as lines for polls, as whole records for sweeps, and whether they have shifted."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from integrations.core.errors import ConnectorError, Rejected, Transient
from integrations.core.records import Changed, Dated, Listing, Snapshot, Swept
from integrations.core.zones import zone_of
from integrations.sources.wave import mapping, queries
from integrations.sources.wave.graphql import nodes

T = TypeVar("T")
R = TypeVar("R", bound=Dated)
BAD_FORM = (ArithmeticError, AttributeError, KeyError, TypeError, ValueError)


def parsed(read: Callable[[], T]) -> T:
    """Run the parsing; values in another form than the schema's are drift, and the record itself is not quoted."""
    try:
        return read()
    except BAD_FORM as error:
        raise Rejected(f"POST graphql: the answer has another form than ours ({type(error).__name__})", code="schema_drift") from None


def listing(page: dict[str, Any] | None, kind: str, read: Callable[[dict[str, Any], str], Changed], uuid: str) -> Listing:
    """Return a page for a poll; one line in another form than ours is named and stops no other, all of several are drift."""
    if page is None:
        raise Transient("POST graphql: the business came without a list", code="bad_answer")
    lines = nodes(page)
    records, unreadable = _sorted_out(lines, kind, read, uuid)
    if len(unreadable) == len(lines) > 1:
        raise ValueError
    return Listing(tuple(records), bool(lines) and has_more(page, len(lines)), unreadable=tuple(unreadable))


def has_more(page: Mapping[str, Any], lines: int) -> bool:
    """Tell whether another page follows; where Wave does not say, a full one is followed by another."""
    info = page.get("pageInfo") or {}
    if info.get("totalPages") is None:
        return lines >= queries.PAGE_SIZE
    return bool(info["currentPage"] < info["totalPages"])


def swept(
    found: dict[str, Any] | None,
    page: int,
    kind: str,
    read: Callable[[dict[str, Any], str], R],
    *,
    uuid: str,
    read_at: datetime,
    fallback: str,
) -> Swept[R]:
    """Return a page for a sweep; one record in another form than ours is named and stops no other."""
    if found is None or not isinstance(found.get("page"), dict):
        raise Transient("POST graphql: the business came without a list", code="bad_answer")
    lines = nodes(found["page"])
    records, unreadable = _sorted_out(lines, kind, read, uuid)
    business = mapping.business(found, uuid, fallback)
    return Swept(
        records=tuple(records),
        more=bool(lines) and has_more(found["page"], len(lines)),
        business=business,
        read_at=read_at,
        today=read_at.astimezone(zone_of(business.timezone)).date(),
        unreadable=tuple(unreadable),
        previous=previous(found, page, kind, uuid),
    )


def _sorted_out(lines: list[dict[str, Any]], kind: str, read: Callable[[dict[str, Any], str], R], uuid: str) -> tuple[list[R], list[str]]:
    records: list[R] = []
    unreadable: list[str] = []
    for node in lines:
        try:
            records.append(read(node, uuid))
        except BAD_FORM:
            unreadable.append(mapping.key_of(node, kind, uuid))
    return records, unreadable


def previous(found: Mapping[str, Any] | None, page: int, kind: str, uuid: str) -> str | None:
    """Return the key of what stands before a page, "" before the first."""
    before = nodes((found or {}).get("before") or {})
    return "" if page == 1 else mapping.key_of(before[0], kind, uuid) or None if before else None


def pieced(
    lines: Sequence[Changed], reads: Sequence[Snapshot | ConnectorError], pick: Callable[[Snapshot], R | None]
) -> tuple[list[R], list[str]]:
    """Return the records of a page whose parts were read apart, and the keys of what cannot be read.

    What has changed since it was listed stands further on by now: here its time would hide what lies between.
    """
    records: list[R] = []
    unreadable: list[str] = []
    for line, read in zip(lines, reads, strict=True):
        if isinstance(read, ConnectorError):
            unreadable.append(line.key)
            continue
        record = pick(read)
        if record is not None and record.modified_at == line.modified_at:
            records.append(record)
    return records, unreadable
