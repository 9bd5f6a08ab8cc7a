"""Compares records with what a destination was last given, and in bulk with what it holds now."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice

from django.utils import timezone

from audit.models import SyncJob
from audit.states import OPEN, State
from integrations import bindings, converge
from integrations.core.documents import Document, Link, Observed
from integrations.core.errors import Unmappable
from integrations.core.ports import Destination, Trace
from integrations.core.records import PAYMENT, Snapshot
from integrations.models import Binding, Finding, Route

Reason = Finding.Reason
Place = tuple[str, str]  # kind of remote object, key

# What another look at the record by its job cannot mend.
FOR_PEOPLE = frozenset({Reason.LOST, Reason.TWINS})
# No event told us of these: a webhook was missed, or Wave sends none.
UNTOLD = (Reason.MISSED, Reason.UNBOUND, Reason.DELETED)
HELD_BACK = ("status_unmapped",)


@dataclass(frozen=True, slots=True)
class View:
    """One destination as a sweep looks at it."""

    route: Route
    adapter: Destination


@dataclass(slots=True)
class Difference:
    """A record that a destination does not hold as it should: the fields by reason, and what is to be written whole."""

    key: str
    reasons: dict[Reason, set[str]] = field(default_factory=dict)
    doubted: list[Binding] = field(default_factory=list)

    def follow(self) -> None:
        """Say that it moved because of something else that nobody told us."""
        if Reason.AGED in self.reasons:
            self.add(Reason.MISSED, self.reasons.pop(Reason.AGED))

    def explain(self) -> None:
        """Say that we were told, and that its job ended dead."""
        for reason in self.reasons.keys() & set(UNTOLD):
            self.add(Reason.REFUSED, self.reasons.pop(reason))

    def add(self, reason: Reason, names: Iterable[str] = ()) -> None:
        """Note one more reason."""
        self.reasons.setdefault(reason, set()).update(names)

    @property
    def mendable(self) -> bool:
        """Whether its job can mend something of it."""
        return bool(self.reasons.keys() - FOR_PEOPLE)


@dataclass(slots=True)
class Compared:
    """What came of it; `amounts` are what the records' own objects show as due, for the records that have such objects."""

    differences: list[Difference] = field(default_factory=list)
    amounts: dict[str, Decimal | None] = field(default_factory=dict)
    in_hand: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Look:
    """What is known of one page of records."""

    view: View
    documents: dict[str, list[Document]]
    known: Mapping[Place, Binding]
    children: Mapping[str, list[Binding]]
    held_back: set[str]
    paid: set[str]
    asked: set[Place] = field(default_factory=set)
    seen: dict[Place, Observed] = field(default_factory=dict)


def compare(view: View, kind: str, snapshots: Mapping[str, Snapshot], read_at: datetime) -> Compared:
    """Return how the records of one page differ from what the destination was given and from what it holds. Raises ConnectorError.

    What a job is about to bring, or has brought since the page was read, is in hand and left out.
    """
    view.adapter.prepare()
    found = Compared(in_hand=_in_hand(view.route, kind, snapshots))
    documents = dict(_documents(view, kind, snapshots, found))
    look = _look(view, kind, documents, _paid(view.route, snapshots))
    _observe(look)
    for key, wanted in documents.items():
        found.amounts |= _amount(look, key, wanted)
        difference = _difference(look, key, wanted, read_at)
        if difference is not None and key not in found.in_hand:
            found.differences.append(difference)
    return found


# --- What is known ---------------------------------------------------------------------------------------------------


def _documents(view: View, kind: str, snapshots: Mapping[str, Snapshot], found: Compared) -> Iterator[tuple[str, list[Document]]]:
    trace = Trace(timezone.now(), "")
    for key, snapshot in snapshots.items():
        try:
            yield key, list(view.adapter.documents(kind, snapshot, trace))
        except Unmappable:
            difference = Difference(key)
            difference.add(Reason.UNMAPPABLE)
            found.differences += [difference] if key not in found.in_hand else []


def _in_hand(route: Route, kind: str, keys: Iterable[str]) -> set[str]:
    jobs = SyncJob.objects.filter(route_id=route.pk, kind=kind, key__in=list(keys), state__in=(*OPEN, State.RUNNING))
    return set(jobs.values_list("key", flat=True))


def _paid(route: Route, snapshots: Mapping[str, Snapshot]) -> set[str]:
    """Return the invoices that have payments as far as a list can tell, where the route brings payments."""
    if PAYMENT not in route.kinds:
        return set()
    return {key for key, snapshot in snapshots.items() if snapshot.invoice is not None and snapshot.invoice.paid.amount}


def _look(view: View, kind: str, documents: dict[str, list[Document]], paid: set[str]) -> _Look:
    keys = list(documents)
    named = {link.key for wanted in documents.values() for document in wanted for link in _links(document)}
    rows = Binding.objects.filter(route=view.route, key__in={*keys, *named})
    below = Binding.objects.filter(route=view.route, parent__in=keys, kind__in=list(view.adapter.children)).order_by("pk")
    children: dict[str, list[Binding]] = {}
    for row in below:
        children.setdefault(row.parent, []).append(row)
    known = {(row.kind, row.key): row for row in rows}
    return _Look(view, documents, known, children, _held_back(view.route, kind, keys), paid | children.keys())


def _links(document: Document) -> list[Link]:
    return [value for value in (*document.fields.values(), document.parent) if isinstance(value, Link)]


def _held_back(route: Route, kind: str, keys: Sequence[str]) -> set[str]:
    """Return the records of which the newest success left something undone on purpose: asking again would not change that."""
    jobs = SyncJob.objects.filter(route_id=route.pk, kind=kind, key__in=keys, state=State.SUCCEEDED).order_by("created_at")
    newest = dict(jobs.values_list("key", "notes"))
    return {key for key, notes in newest.items() if set(notes) & set(HELD_BACK)}


# --- What is seen ----------------------------------------------------------------------------------------------------


def _observe(look: _Look) -> None:
    adapter = look.view.adapter
    for kind in dict.fromkeys(adapter.observes.values()):
        wanted = dict(_to_observe(look, kind))
        look.asked |= {(kind, key) for key in wanted}
        for part in _parts(wanted, adapter.observe_most):
            look.seen |= {(kind, key): seen for key, seen in adapter.observe(kind, part).items()}


def _to_observe(look: _Look, kind: str) -> Iterator[tuple[str, str]]:
    """Yield key and remote id of the objects of a kind that were surely written."""
    own = (look.known.get((kind, document.key)) for wanted in look.documents.values() for document in wanted if document.kind == kind)
    below = (row for rows in look.children.values() for row in rows if row.kind == kind)
    for row in (*own, *below):
        if row is not None and row.state in (Binding.State.BOUND, Binding.State.IN_DOUBT):
            yield row.key, row.remote_id


def _parts(wanted: Mapping[str, str], most: int) -> Iterator[dict[str, str]]:
    items = iter(wanted.items())
    while part := dict(islice(items, most)):
        yield part


def _amount(look: _Look, key: str, wanted: Sequence[Document]) -> dict[str, Decimal | None]:
    """Return what the record's own object shows as due; None where no amount is shown at all, nothing where the object is missing."""
    if not wanted or not look.view.adapter.shows_amount(wanted[0].kind):
        return {key: None}
    seen = look.seen.get((wanted[0].kind, key))
    return {} if seen is None else {key: seen.amount}


# --- What differs ----------------------------------------------------------------------------------------------------


def _difference(look: _Look, key: str, wanted: Sequence[Document], read_at: datetime) -> Difference | None:
    found = Difference(key)
    for document in wanted:
        row = look.known.get((document.kind, document.key))
        if row is not None and _is_newer(row, document, read_at):
            return None
        _judge(look, found, document, row)
    for row in look.children.get(key, []):
        _judge_child(look, found, row)
    return found if found.reasons else None


def _is_newer(row: Binding, document: Document, read_at: datetime) -> bool:
    """Whether the object was written after the page was read, or from a newer state of the record."""
    if row.written_at is not None and row.written_at > read_at:
        return True
    return bool(row.source_modified_at and document.modified_at and row.source_modified_at > document.modified_at)


def _judge(look: _Look, found: Difference, document: Document, row: Binding | None) -> None:
    if document.key in look.held_back and _is_facet(document) and _was_withheld(look, document):
        return
    resolved = None if row is None else _resolved(look, document)
    if row is None or resolved is None:
        found.add(Reason.UNBOUND)
    elif row.state == Binding.State.LOST:
        found.add(Reason.LOST)
    elif row.state != Binding.State.BOUND:
        found.add(Reason.UNFINISHED)
    else:
        _judge_bound(look, found, resolved, row)


def _was_withheld(look: _Look, document: Document) -> bool:
    """Whether this very state could not be reached; where another one is mapped by now, that is tried."""
    whole = look.known.get((document.parent.kind, document.parent.key)) if document.parent else None
    return whole is not None and bindings.withheld(whole, document.kind) == converge.digests(document, whole.remote_id)


def _is_facet(document: Document) -> bool:
    """Whether it is a part of the record's own object, such as an issue's status, and no object of its own."""
    return document.parent is not None and document.parent.key == document.key


def _judge_bound(look: _Look, found: Difference, document: Document, row: Binding) -> None:
    parent = look.known.get((document.parent.kind, document.parent.key)) if document.parent else None
    changed = converge.differing(document, row, converge.digests(document, parent.remote_id if parent else ""))
    same = row.source_modified_at == document.modified_at
    if changed or (not same and _hides_payments(look, document)):
        found.add(Reason.AGED if same else Reason.MISSED, changed - {converge.PARENT})
    place = (look.view.adapter.observes.get(document.kind, ""), document.key)
    if place not in look.asked:
        return
    seen = look.seen.get(place)
    if seen is None:
        _doubt(found, Reason.ABSENT, row)
    elif seen.twins:
        found.add(Reason.TWINS)
    elif (drift := look.view.adapter.drift(document, seen) - changed) and row.facts.get("ours", True):
        # What we did not make, such as a user of somebody else's with the customer's address, is left as it is.
        _doubt(found, Reason.DRIFTED, row, drift)


def _hides_payments(look: _Look, document: Document) -> bool:
    """Whether a change of the record may be one of its payments alone: no list shows those, and their sum may be what it was."""
    return document.key in look.paid and not document.partial and not _is_facet(document)


def _judge_child(look: _Look, found: Difference, row: Binding) -> None:
    """A child is not in the source's lists: that it is still there is all that can be seen."""
    own = look.seen.get((row.kind, row.key))
    above = next((seen for (_, key), seen in look.seen.items() if key == row.parent and seen.children is not None), None)
    missing = (row.kind, row.key) in look.asked and own is None
    missing |= above is not None and above.children is not None and row.remote_id not in above.children
    if row.remote_id and row.state == Binding.State.BOUND and missing:
        _doubt(found, Reason.ABSENT, row)


def _doubt(found: Difference, reason: Reason, row: Binding, names: Iterable[str] = ()) -> None:
    found.add(reason, names)
    found.doubted.append(row)


def _resolved(look: _Look, document: Document) -> Document | None:
    """Put remote ids in the place of links; None where one is not there."""
    rows = {link: look.known.get((link.kind, link.key)) for link in _links(document)}
    if any(row is None or not row.remote_id for row in rows.values()):
        return None
    ids = {link: row.remote_id for link, row in rows.items() if row is not None}
    return replace(document, fields={name: ids[value] if isinstance(value, Link) else value for name, value in document.fields.items()})


def doubt(differences: Iterable[Difference]) -> None:
    """Have what is held otherwise written whole by its job. Call inside the transaction that asks for the jobs."""
    rows = [row for difference in differences for row in difference.doubted]
    if rows:
        bindings.doubt(rows)
