"""Compare what should be with what was last written, and write only what differs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.utils import timezone

from audit import holds, ledger, trail
from audit.states import Outcome
from integrations import bindings
from integrations.bindings import Begun, Writer
from integrations.core.documents import Bound, Document, Link, Written, changed_fields, hashes
from integrations.core.errors import ConnectorError, Missing, Rejected, Transient
from integrations.core.ports import Destination, Trace
from integrations.core.records import CUSTOMER, Snapshot, kind_of
from integrations.models import Binding, FieldMapping, Route

CLOCKS_APART = timedelta(minutes=5)
UNANSWERED = "no_answer"
PARENT_MISSING = "parent_missing"
PARENT_REMADE = "parent_remade"
REMADE = "remade"
PARENT = "(parent)"  # stands among the digests for the remote object that a document hangs on


@dataclass(slots=True)
class Arrival:
    """One job's snapshot on its way into one destination."""

    route: Route
    adapter: Destination
    writer: Writer
    snapshot: Snapshot
    known: dict[tuple[str, str], Binding] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    results: set[str] = field(default_factory=set)
    carried_out: Callable[[], int] = lambda: 0  # how many requests that may write the destination has answered well
    unmoved: list[tuple[Binding, Document]] = field(default_factory=list)  # what needed no write

    @property
    def trace(self) -> Trace:
        """What the written record says about its origin."""
        return Trace(timezone.now(), str(self.writer.job.pk))


def bring(arrival: Arrival) -> Outcome:
    """Make the destination hold what the snapshot says; raises ConnectorError at the first failure."""
    job = arrival.writer.job
    arrival.adapter.prepare()
    documents = arrival.adapter.documents(job.kind, arrival.snapshot, arrival.trace)
    arrival.notes += arrival.adapter.notes
    shows_children = job.kind != CUSTOMER and "payment" in arrival.route.kinds
    children = _learn_bindings(arrival, documents, arrival.adapter.children if shows_children else ())
    for document in documents:
        _converge(arrival, document)
    bindings.note_modified(arrival.unmoved)
    _remove_children(arrival, documents, children)
    return ledger.outcome_of_success(_result(arrival), notes=dict.fromkeys(arrival.notes))


def bring_deletion(arrival: Arrival) -> Outcome:
    """Carry out what the route wants for a record that no longer exists at the source."""
    job = arrival.writer.job
    deleted = arrival.route.options.get("on_delete") == "delete"
    if deleted:
        _delete_all(arrival)
    arrival.adapter.prepare()
    _end_creates(arrival)
    documents = [
        document
        for document in arrival.adapter.gone(job.kind, job.key, arrival.trace)
        if not (deleted and document.kind in arrival.adapter.deletable)
    ]
    _learn_bindings(arrival, documents)
    for document in documents:
        if document.parent is None or (document.parent.kind, document.parent.key) in arrival.known:
            _mark(arrival, document)
    bindings.note_gone(arrival.route.pk, job.key)
    return ledger.outcome_of_success("deleted")


def _mark(arrival: Arrival, document: Document) -> None:
    """Mark an object whose record has ended; one that somebody has deleted needs no mark, and nobody has to decide."""
    row = arrival.known.get((document.kind, document.key))
    if row is not None and row.state == Binding.State.LOST:
        return
    try:
        _converge(arrival, document)
    except Missing:
        bindings.forget_unmade(arrival.route.pk, document.kind, document.key)


def _end_creates(arrival: Arrival) -> None:
    """Find what a create that was not answered has left, so that the end of the record reaches it; forget the other intents.

    Raises Transient while the destination's index may still lag.
    """
    key, observed = arrival.writer.job.key, arrival.adapter.observes
    own = [row for row in bindings.of_record(arrival.route.pk, key) if row.kind in observed]
    parent = next((row.remote_id for row in own if row.remote_id), "")
    for row in own + bindings.children(arrival.route.pk, key, arrival.adapter.children):
        if row.remote_id:
            continue
        facet = observed.get(row.kind, row.kind) != row.kind  # no object of its own, such as an issue's status
        found = [] if facet else _left_behind(arrival, row, parent)
        if len(found) > 1:
            raise Rejected("more than one remote object carries this record's key", code="twins", words=", ".join(found))
        if found:
            bindings.adopt(row, found[0])
            parent = parent or found[0]
        else:
            bindings.forget(row)


def _delete_all(arrival: Arrival) -> None:
    rows = bindings.of_record(arrival.route.pk, arrival.writer.job.key)
    below = bindings.children(arrival.route.pk, arrival.writer.job.key, arrival.adapter.deletable)
    for row in below + [row for row in rows if row.kind in arrival.adapter.deletable]:
        _remove(arrival, row)


def _result(arrival: Arrival) -> str:
    for result in ("created", "updated"):
        if result in arrival.results:
            return result
    return "unchanged"


def _learn_bindings(arrival: Arrival, documents: Sequence[Document], kinds: Iterable[str] = ()) -> list[Binding]:
    """Learn what was written before, and return what of these kinds is bound under the record."""
    pairs: set[tuple[str, str]] = set()
    for document in documents:
        pairs.add((document.kind, document.key))
        links = [*document.fields.values(), document.parent]
        pairs |= {(link.kind, link.key) for link in links if isinstance(link, Link)}
    known = bindings.of(arrival.route.pk, pairs, parent=arrival.writer.job.key, kinds=kinds)
    arrival.known = known.bound
    return known.children


# --- One document -------------------------------------------------------------------------------------------------


def _converge(arrival: Arrival, unresolved: Document, *, again: bool = False) -> None:
    document = _resolved(arrival, unresolved)
    row = _known(arrival, document)
    wanted = digests(document, _remote_id(arrival, document.parent) if document.parent and not document.partial else "")
    vanished = _vanished(document, row, wanted)
    changed = changed_fields(wanted, row.hashes if row else {}) | vanished
    if row is not None and row.state == Binding.State.BOUND and not changed and not arrival.writer.job.force:
        arrival.unmoved.append((row, document))
        arrival.results.add("unchanged")
        return
    full = replace(document, fields={**document.fields, **dict.fromkeys(vanished)})
    try:
        _write(arrival, full, _settle_doubt(arrival, document, row), changed, wanted)
    except Rejected as error:
        if error.code == PARENT_MISSING and not again:
            _converge_under_new_parent(arrival, unresolved)
            return
        if not isinstance(error, Missing):
            raise
        if again or row is None or not row.remote_id or document.kind not in arrival.adapter.children:
            _lose(arrival, document)
            raise
        _converge_anew(arrival, unresolved)


def digests(document: Document, parent_id: str) -> dict[str, str]:
    """Return what is compared with what was last written: one digest per field, links resolved.

    The parent's remote id is one of them: under a parent that was made anew all is written again.
    """
    hanging_on = {PARENT: parent_id} if document.parent and not document.partial else {}
    return hashes({**document.fields, **hanging_on})


def differing(document: Document, row: Binding, wanted: Mapping[str, str]) -> frozenset[str]:
    """Return the fields that are not as they were last written, those that nothing is mapped to any more among them."""
    return changed_fields(wanted, row.hashes) | _vanished(document, row, wanted)


def _vanished(document: Document, row: Binding | None, wanted: Mapping[str, str]) -> frozenset[str]:
    if document.partial or row is None:
        return frozenset()
    return frozenset(name for name in row.hashes if name not in wanted and name != PARENT)


def _known(arrival: Arrival, document: Document) -> Binding | None:
    """Return the document's binding. One that is lost stops the job, until a person forces a new object to be made."""
    row = arrival.known.get((document.kind, document.key))
    if row is None or row.state != Binding.State.LOST:
        return row
    if not arrival.writer.job.force:
        raise Rejected("the remote object has vanished: decide, then replay with force to make a new one", code="lost")
    bindings.forget(row)
    del arrival.known[(document.kind, document.key)]
    return None


def _converge_anew(arrival: Arrival, document: Document) -> None:
    """A child that vanished is made again: nobody's work hangs on it."""
    row = arrival.known.pop((document.kind, document.key))
    bindings.forget(row)
    _converge(arrival, document, again=True)


def _converge_under_new_parent(arrival: Arrival, document: Document) -> None:
    """Make an organization that somebody deleted again, with name and key; the customer's job then fills it."""
    links = [link for link in (*document.fields.values(), document.parent) if isinstance(link, Link)]
    for link in links:
        row = arrival.known.pop((link.kind, link.key), None)
        if row is not None:
            bindings.forget_unless_written(row, arrival.writer)
    arrival.notes.append(PARENT_REMADE)
    _converge(arrival, document, again=True)


def _resolved(arrival: Arrival, document: Document) -> Document:
    """Put remote ids in the place of links; an organization that is not bound yet is made with name and key only."""
    fields = {name: _remote_id(arrival, value) if isinstance(value, Link) else value for name, value in document.fields.items()}
    return replace(document, fields=fields)


def _remote_id(arrival: Arrival, link: Link) -> str:
    row = arrival.known.get((link.kind, link.key))
    if row is not None and not row.remote_id and row.state == Binding.State.BOUND:
        _learn_id(arrival, row)
    if row is None or not row.remote_id:
        stub = arrival.adapter.stub(arrival.snapshot, arrival.trace)
        if stub is None or (stub.kind, stub.key) != (link.kind, link.key):
            raise Transient(f"the {link.kind} it belongs to is not there yet", code="parent_missing")
        _make_parent(arrival, stub)
        row = arrival.known[(link.kind, link.key)]
    return row.remote_id


def _make_parent(arrival: Arrival, stub: Document) -> None:
    """Make what a link points at; a wait that the vendor wants for it is its own record's too, and the other way round."""
    until = holds.ends_at(holds.object_scope(arrival.route.pk, kind_of(stub.key), stub.key))
    if until is not None:
        words = f"the {stub.kind} it belongs to may not be written yet"
        raise Transient(words, code="rate_limited", not_before=until, counted=False, unsent=True)
    try:
        _converge(arrival, stub)
    except Transient as error:
        error.record = stub.key
        raise


def _learn_id(arrival: Arrival, row: Binding) -> None:
    """Look up the id of an object that a bulk call wrote by its key: no such call had to tell it."""
    seen = arrival.adapter.observe(row.kind, {row.key: ""}).get(row.key)
    if seen is not None and seen.remote_id:
        bindings.learn_ids([(row, seen.remote_id)])


def _settle_doubt(arrival: Arrival, document: Document, row: Binding | None) -> Binding | None:
    """Before a create that must not be repeated: find what an earlier try, or a lost memory, may have left.

    Returns the binding to go on with; raises Transient while the destination's index may still lag.
    """
    unsure = row is None or not row.remote_id
    if document.upsert or not unsure:
        return row
    if row is None and _remembered(document):
        return None
    found = arrival.adapter.find(document, _bound(arrival, document, row, frozenset()))
    if len(found) > 1:
        raise Rejected("more than one remote object carries this record's key", code="twins", words=", ".join(found))
    if found:
        begun = bindings.begin(arrival.writer, document, parent=_parent_key(document))
        bindings.adopt(begun.row, found[0])
        arrival.known[(document.kind, document.key)] = begun.row
        return begun.row
    look = bindings.next_look(row) if row is not None else None
    if look is not None:
        raise Transient("an earlier create may still turn up", code="create_in_doubt", not_before=look, counted=False)
    return row


def _remembered(document: Document) -> bool:
    """Whether our memory reaches back beyond the record's birth: then no binding means that nothing was written."""
    since = trail.remembers_since()
    return not document.find_lags and since is not None and document.created_at is not None and document.created_at > since + CLOCKS_APART


def _bound(arrival: Arrival, document: Document, row: Binding | None, changed: frozenset[str]) -> Bound:
    parent = arrival.known.get((document.parent.kind, document.parent.key)) if document.parent else None
    return Bound(
        remote_id=row.remote_id if row else "",
        parent_id=parent.remote_id if parent else "",
        facts={**(parent.facts if parent else {}), **(row.facts if row else {})},
        changed=changed,
    )


def _parent_key(document: Document) -> str:
    return document.parent.key if document.parent and document.parent.key != document.key else ""


def _write(arrival: Arrival, document: Document, row: Binding | None, changed: frozenset[str], wanted: Mapping[str, str]) -> None:
    begun = bindings.begin(arrival.writer, document, parent=_parent_key(document), known=row)
    if begun.row.remote_id and not (row and row.remote_id):
        # Its maker may have read later than this job: to write now could bring an older version back.
        bindings.abandon(begun)
        raise Transient("another job has made the same object meanwhile", code="made_elsewhere", not_before=timezone.now(), counted=False)
    carried_out = arrival.carried_out()
    try:
        written = arrival.adapter.write(document, _bound(arrival, document, row, changed))
    except ConnectorError as error:
        _after_failure(document, begun, error, partly=arrival.carried_out() > carried_out)
        raise
    if written.withheld:
        bindings.abandon(begun)
        arrival.notes += written.notes
        whole = arrival.known.get((document.parent.kind, document.parent.key)) if document.parent else None
        if whole is not None and whole.key == document.key:
            bindings.note_withheld(whole, document.kind, wanted)
        return
    before = begun.row.remote_id
    bindings.done(begun.row, document, written, wanted, arrival.writer)
    arrival.known[(document.kind, document.key)] = begun.row
    if before not in ("", begun.row.remote_id):
        arrival.notes.append(REMADE)
    arrival.notes += written.notes
    made = document.key == arrival.writer.job.key and written.created and begun.before != Binding.State.BOUND
    arrival.results.add("created" if made else "updated")
    _rest(arrival, written)


def _after_failure(document: Document, begun: Begun, error: ConnectorError, *, partly: bool) -> None:
    """Keep the doubt only where there is one: a refusal and an unsent request changed nothing, but for what went well before them."""
    if not isinstance(error, Transient) or error.unsent:
        if not partly:
            bindings.abandon(begun)
    elif not document.upsert and not begun.row.remote_id and not document.find_lags and error.code != UNANSWERED:
        bindings.look_at_once(begun.row)
    elif not document.upsert and not begun.row.remote_id and error.not_before is None:
        error.not_before = bindings.next_look(begun.row)


def _lose(arrival: Arrival, document: Document) -> None:
    """Mark what has vanished: the object itself, or the one it hangs on."""
    link = document.parent if document.upsert or document.kind in arrival.adapter.children else None
    row = arrival.known.get((link.kind, link.key) if link else (document.kind, document.key))
    if row is not None:
        bindings.lose(row)


def _rest(arrival: Arrival, written: Written) -> None:
    """Let a mapping rest whose field the destination does not take, until provision has mended it."""
    kinds = ("customer", "contact") if arrival.writer.job.kind == CUSTOMER else ("invoice", "payment")
    for target, reason in written.dropped.items():
        FieldMapping.objects.filter(route=arrival.route, target=target, kind__in=kinds).update(problem=reason[:500])
        arrival.notes.append("field_dropped")


# --- Children that are gone ---------------------------------------------------------------------------------------


def _remove_children(arrival: Arrival, documents: Sequence[Document], children: Iterable[Binding]) -> None:
    wanted = {(document.kind, document.key) for document in documents}
    for row in children:
        if (row.kind, row.key) not in wanted:
            _remove(arrival, row)
            arrival.results.add("updated")


def _remove(arrival: Arrival, row: Binding) -> None:
    """Remove one object. A create or a bulk call that did not tell the id may have made one too: it is looked for by its key."""
    parents = bindings.of_record(arrival.route.pk, row.parent)
    parent = parents[0].remote_id if parents else ""
    for remote_id in [row.remote_id] if row.remote_id else _left_behind(arrival, row, parent):
        if not ledger.renew(arrival.writer.attempt):
            raise bindings.ClaimLost
        arrival.adapter.remove(row.kind, Bound(remote_id, parent, row.facts))
    bindings.forget(row)


def _left_behind(arrival: Arrival, row: Binding, parent: str) -> list[str]:
    """Return the ids of what carries the binding's key; raise Transient while an unanswered create may still turn up."""
    found = list(arrival.adapter.find(Document(row.kind, row.key, {}), Bound("", parent, row.facts)))
    look = None if found or row.state != Binding.State.CREATING else bindings.next_look(row)
    if look is not None:
        raise Transient("an earlier create may still turn up", code="create_in_doubt", not_before=look, counted=False)
    return found
