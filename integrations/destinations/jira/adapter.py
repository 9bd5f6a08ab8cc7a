"""Jira as a destination: invoices and customers become issues, payments worklogs, the invoice's state the status."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from integrations.core.documents import Bound, Bulk, Carried, Document, Observed, Written
from integrations.core.errors import Missing
from integrations.core.ports import Access, Check, Plan, Shape, Step, Trace
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, Snapshot
from integrations.destinations.jira import adf, bulk, mapping, oauth, observing
from integrations.destinations.jira.bulk import BulkCreator
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.issues import Issues, properties
from integrations.destinations.jira.mapping import ISSUE_KINDS, PAYMENT_PROPERTY, Fields, IssueKind
from integrations.destinations.jira.oauth import CONSENT
from integrations.destinations.jira.observing import Looker, is_ours
from integrations.destinations.jira.ping import Prober
from integrations.destinations.jira.places import places
from integrations.destinations.jira.provision import Provisioner, issue_types
from integrations.destinations.jira.refusals import RefusedError, unauthorized
from integrations.destinations.jira.system import SYSTEM
from integrations.destinations.jira.transitions import Place, Workflow
from integrations.http import ApiClient

__all__ = ["ACCESS", "CONSENT", "SYSTEM", "JiraDestination", "places", "unauthorized"]
ACCESS = Access(base_url=oauth.base_url, headers=oauth.headers, token_call=oauth.token_call)
STATUS_UNMAPPED = "status_unmapped"
TIME_TRACKING_OFF = "time_tracking_off"
_MOST_FOUND = 5


class JiraDestination:
    """One route's Jira project during one run. `notes` are codes of what `documents` left out on purpose."""

    children: frozenset[str] = frozenset({"worklog", "comment"})
    deletable: frozenset[str] = frozenset()
    observes: Mapping[str, str] = observing.OBSERVES
    observe_most: int = observing.MOST
    bulk_most: Mapping[str, int] = bulk.MOST
    bulk_updates: frozenset[str] = frozenset()
    bulk_upserts: frozenset[str] = frozenset()

    def __init__(self, api: ApiClient, plan: Plan, shape: Shape) -> None:
        self.plan = plan
        self.shape = shape
        self.client = JiraClient(api)
        self.notes: list[str] = []
        self.project = str(plan.options.get("project") or "")
        self.payments = str(plan.options.get("payments") or "worklog") if PAYMENT in plan.kinds else "off"
        named = [name for rule in plan.statuses for name in (rule.status, *rule.via)]
        self.workflow = Workflow(self.client, shape, project=self.project, named=named)
        self.issues = Issues(self.client, plan, shape, self.project)

    def prepare(self) -> None:
        """Learn the site's custom fields, and whether time is tracked, unless that is remembered."""
        if self.shape.get("fields") is None:
            self.shape.put("fields", mapping.custom_fields(self.client.fields()))
        if self.payments == "worklog" and self.shape.get("time_tracking") is None:
            self.shape.put("time_tracking", self.client.time_tracking())

    @property
    def _fields(self) -> Fields:
        return self.issues.fields

    def documents(self, kind: str, snapshot: Snapshot, trace: Trace) -> Sequence[Document]:
        """Return the issue, its payments and its status, or the customer's issue. Raises Unmappable."""
        if kind == CUSTOMER and CUSTOMER in self.plan.kinds:
            found = mapping.customer_issue(self.plan, self._fields, snapshot, trace)
            return [found] if found else []
        if kind == INVOICE and INVOICE in self.plan.kinds:
            return self._of_invoice(snapshot, trace)
        return []

    def _of_invoice(self, snapshot: Snapshot, trace: Trace) -> list[Document]:
        invoice = snapshot.invoice
        if invoice is None:
            return []
        issue = mapping.invoice_issue(self.plan, self._fields, snapshot, invoice, trace)
        # The status last: where a workflow closes paid issues, nothing can be added to them any more.
        status = mapping.status_of(invoice, self.plan.statuses)
        if status is None:
            self.notes.append(STATUS_UNMAPPED)
        payments = mapping.payments(self.plan, snapshot, invoice, trace) if self._shows_payments() else []
        return [issue, *payments, *([status] if status else [])]

    def _shows_payments(self) -> bool:
        if self.payments == "worklog" and self.shape.get("time_tracking") is False:
            self.notes.append(TIME_TRACKING_OFF)
            return False
        return self.payments != "off"

    def stub(self, snapshot: Snapshot, trace: Trace) -> Document | None:
        """Return nothing: no issue hangs on a customer's."""
        return None

    def gone(self, kind: str, key: str, trace: Trace) -> Sequence[Document]:
        """Return the mark on the record's issue."""
        issue = {INVOICE: mapping.INVOICE_ISSUE, CUSTOMER: mapping.CUSTOMER_ISSUE}.get(kind)
        return [mapping.deletion(issue, key)] if issue and kind in self.plan.kinds else []

    # --- Writing

    def write(self, document: Document, bound: Bound) -> Written:
        """Create or replace one object. Raises Missing `lost` for an issue that is gone for good, and ConnectorError."""
        writers: Mapping[str, Callable[[Document, Bound], Written]] = {
            "status": self._write_status,
            "worklog": self._write_worklog,
            "comment": self._write_comment,
            "deletion": self._mark_deleted,
        }
        if document.kind in ISSUE_KINDS:
            return self.issues.write(ISSUE_KINDS[document.kind], document, bound)
        return writers[document.kind](document, bound)

    def _write_status(self, document: Document, bound: Bound) -> Written:
        target = str(document.fields["status"])
        place = self._standing(bound)
        if not bound.changed and place.status.casefold() == target.casefold():
            # A replay by force asks for the truth, not for what we remember.
            place = replace(place, status="")
        place, reached = self.workflow.reach(place, target)
        if not reached:
            return Written(bound.remote_id or bound.parent_id, withheld=True, notes=(STATUS_UNMAPPED,))
        return Written(bound.parent_id, created=not bound.remote_id, facts={"status": place.status, "type": place.issue_type})

    def _standing(self, bound: Bound) -> Place:
        """Return where the issue stands as far as we know; look at a new one if its type's first status is not known.

        What is remembered of an issue says nothing of the one that was made in its place.
        """
        known = "" if bound.remote_id not in ("", bound.parent_id) else str(bound.facts.get("status") or "")
        issue_type = str(bound.facts.get("type") or self.issues.issue_type(mapping.INVOICE_ISSUE))
        place = Place(bound.parent_id, issue_type, known)
        if not place.status and bound.parent_id in self.issues.created:
            place = self.workflow.look(place)
            self.shape.put(f"initial:{issue_type}", place.status)
        return place

    def _write_worklog(self, document: Document, bound: Bound) -> Written:
        values = {**document.fields, **document.trace}
        body = {"timeSpentSeconds": values["timeSpentSeconds"], "started": values["started"], "comment": values["comment"]}
        body["properties"] = properties(PAYMENT_PROPERTY, {"id": document.key})
        try:
            return self._saved(bound, body, self.client.add_worklog, self.client.edit_worklog)
        except RefusedError:
            # Jira's words for it are not known; the switch itself is.
            self.shape.put("time_tracking", self.client.time_tracking())
            if self.shape.get("time_tracking"):
                raise
            return Written(bound.remote_id, withheld=True, notes=(TIME_TRACKING_OFF,))

    def _write_comment(self, document: Document, bound: Bound) -> Written:
        comment = {**document.fields, **document.trace}["comment"]
        body = {"body": comment, "properties": properties(PAYMENT_PROPERTY, {"id": document.key})}
        return self._saved(bound, body, self.client.add_comment, self.client.edit_comment)

    def _saved(
        self, bound: Bound, body: Mapping[str, Any], add: Callable[[str, Any], str], edit: Callable[[str, str, Any], None]
    ) -> Written:
        if bound.remote_id:
            edit(bound.parent_id, bound.remote_id, body)
            return Written(bound.remote_id)
        with self.client.telling_lost(bound.parent_id):
            return Written(add(bound.parent_id, body), created=True)

    def _mark_deleted(self, document: Document, bound: Bound) -> Written:
        comment = adf.document(adf.paragraphs(str(document.fields["comment"])))
        labels = [{"add": label} for label in document.fields["labels"]]
        self.issues.edit(bound.parent_id, {"update": {"labels": labels, "comment": [{"add": {"body": comment}}]}})
        return Written(bound.parent_id, created=not bound.remote_id)

    # --- Finding and removing

    def find(self, document: Document, bound: Bound) -> list[str]:
        """Return the ids of what carries the document's key; issues by the search index, which may lag by minutes."""
        if document.kind in ISSUE_KINDS:
            return self._find_issues(ISSUE_KINDS[document.kind], document.key)
        if not bound.parent_id:
            return []
        entries = self.client.worklogs(bound.parent_id) if document.kind == "worklog" else self.client.comments(bound.parent_id)
        return [str(entry["id"]) for entry in entries if _carries(entry, document.key)]

    def _find_issues(self, kind: IssueKind, key: str) -> list[str]:
        label = kind.label(key)
        jql = f'project = "{self.project}" AND labels = "{label}" ORDER BY created ASC'
        found = self.client.search(jql, fields=["labels"], properties=[kind.property], size=_MOST_FOUND)
        return [str(issue["id"]) for issue in found if is_ours(issue, kind, label, key)]

    def remove(self, kind: str, bound: Bound) -> None:
        """Delete one worklog or comment by its id; one that is gone is no error.

        With time tracking off a worklog can only be left: when the switch is back, it is found again by its payment.
        """
        if kind == "worklog" and self.shape.get("time_tracking") is False:
            return
        delete = self.client.delete_worklog if kind == "worklog" else self.client.delete_comment
        try:
            delete(bound.parent_id, bound.remote_id)
        except Missing:
            return

    # --- Many at once

    def observe(self, kind: str, wanted: Mapping[str, str]) -> Mapping[str, Observed]:
        """Read up to 100 issues. Those without an id are looked up by label, in an index that may lag by minutes."""
        return self._looker.observe(ISSUE_KINDS[kind], wanted)

    def shows_amount(self, kind: str) -> bool:
        """Return whether a field that the site has shows what is due."""
        return self._looker.amount_field(ISSUE_KINDS[kind]) is not None

    @property
    def _looker(self) -> Looker:
        return Looker(self.client, self.project, self._fields, self.plan.fields, self.payments)

    def drift(self, document: Document, seen: Observed) -> frozenset[str]:
        """Return the fields that the issue holds otherwise; `prepare` has told their types."""
        return observing.drift(document, seen, self._fields)

    def carrying(self, kind: str, page: str) -> Carried:
        """Return a page of the project's issues that carry our label and property; the index may lag by minutes."""
        issue = ISSUE_KINDS[kind]
        if issue is mapping.CUSTOMER_ISSUE and CUSTOMER not in self.plan.kinds:
            return Carried(())
        jql = f'project = "{self.project}" AND labels = "{mapping.COMMON_LABEL}" ORDER BY created ASC'
        rows, after = self.client.search_page(jql, fields=["labels"], properties=[issue.property], size=observing.MOST, token=page)
        return Carried(tuple(pair for row in rows if (pair := _carried(row, issue))), after)

    def confirmed(self, document: Document, bound: Bound, seen: Observed) -> None:
        """Return None: an issue that turned up after a bulk call without an answer is written alone, which tells its key."""

    def bulk_calls(self, kind: str, count: int, refused: frozenset[str]) -> int:
        """Return the calls for issues, the scan before them, and a move to its status for each invoice."""
        issue = mapping.INVOICE_ISSUE if kind == INVOICE else mapping.CUSTOMER_ISSUE
        creates = count if issue.kind in refused else -(-count // bulk.MOST[issue.kind])
        return creates + 2 + (count if kind == INVOICE else 0)

    def start_bulk(self, kind: str, items: Sequence[tuple[Document, Bound]]) -> Bulk:
        """Create up to 50 issues; done at once. Which is which the first call reads back, the later ones go by their order.

        Jira has no bulk edit, so none may have an id; what comes back refused is written one by one.
        A status is written afterwards, one POST per hop.
        """
        return BulkCreator(self.issues).create(ISSUE_KINDS[kind], items)

    def follow_bulk(self, bulk: Bulk) -> Bulk:
        """Return what `start_bulk` said: Jira carries it out at once."""
        return bulk

    # --- Ping and provision

    def ping(self) -> list[Check]:
        """Check the login, then what the route needs in its project; a connection without a route has the first only."""
        return Prober(self.client, self.plan, self.project, self.payments).run()

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create missing custom fields and put them on the default screen; forget what was known of the set-up."""
        steps = Provisioner(self.client, self.plan, dry_run=dry_run).run()
        if not dry_run:
            types = issue_types(self.plan).values()
            names = [f"{name}:{issue_type}" for name in ("transitions", "initial") for issue_type in types]
            for name in ("fields", "statuses", "time_tracking", *names):
                self.shape.put(name, None)
        return steps


def _carried(issue: Mapping[str, Any], kind: IssueKind) -> tuple[str, str] | None:
    planted = (issue.get("properties") or {}).get(kind.property)
    key = str(planted.get("key") or "") if isinstance(planted, dict) else ""
    return (key, str(issue["id"])) if key and is_ours(issue, kind, kind.label(key), key) else None


def _carries(entry: Mapping[str, Any], key: str) -> bool:
    """Say whether a worklog or comment shows the payment: by its property, or where that is not given by its marker."""
    planted = [item.get("value") for item in entry.get("properties") or [] if item.get("key") == PAYMENT_PROPERTY]
    if planted:
        return any(isinstance(value, dict) and value.get("id") == key for value in planted)
    return mapping.marker(key) in adf.plain_text(entry.get("comment") or entry.get("body")).split()
