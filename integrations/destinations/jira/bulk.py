"""Create up to 50 issues in one call, and tell which document became which issue.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-bulk-post
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.core.documents import Bound, Bulk, Document, Written
from integrations.core.errors import ConnectorError, Rejected
from integrations.destinations.jira.issues import Issues, fields_refused, only_barred
from integrations.destinations.jira.mapping import IssueKind
from integrations.destinations.jira.observing import is_ours
from integrations.destinations.jira.refusals import RefusedError, refusal
from integrations.http import Answer

MOST = {"issue": 50, "customer_issue": 50}
PATH = "/rest/api/3/issue/bulk"
IN_ORDER = "bulk_in_order"  # among what is remembered of a route: successes come in the order of the request
REFUSALS = ("forbidden", "missing")  # of the account, not of what was sent
Item = tuple[Document, Bound]
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BulkCreator:
    """Creates the issues of one route."""

    issues: Issues

    def create(self, kind: IssueKind, items: Sequence[Item]) -> Bulk:
        """Create an issue for each document, none of which may have one. Raises Rejected `bulk_refused` or `bulk_failed`, Transient.

        Jira has no idempotency key: after a Transient that is not `unsent` each is looked up before it is made again.
        """
        if any(bound.remote_id for _, bound in items):
            raise ValueError("Jira has no bulk edit: issues that exist are written one by one")
        documents = [document for document, _ in items]
        sent = dict.fromkeys((document.key for document in documents), "")
        try:
            answer = self.issues.client.create_issues([self.issues.creation(kind, document) for document in documents])
        except Rejected as error:
            code = "bulk_refused" if error.code in REFUSALS else "bulk_failed"
            raise Rejected(f"{error}: they are written one by one", code=code, words=error.words) from error
        refused = _refused(documents, _rows(answer, "errors"))
        written = self._made(kind, documents, _rows(answer, "issues"), _rows(answer, "errors"))
        refused = {key: error for key, error in refused.items() if key not in written}
        return Bulk(
            "", kind.kind, done=True, written=written, refused=refused, unknown=frozenset(sent) - written.keys() - refused.keys(), sent=sent
        )

    def _made(self, kind: IssueKind, documents: Sequence[Document], rows: Sequence[Json], errors: Sequence[Json]) -> dict[str, Written]:
        """Tell which document became which issue: by the order of the answer, once one read back has shown that it holds.

        That successes come in the order of the request no document promises, and an issue taken for another record's
        would be written over. So each route's first answer in a day proves it, and where it does not hold all are read back.
        """
        failed = {entry.get("failedElementNumber") for entry in errors}
        succeeded = [document for place, document in enumerate(documents) if place not in failed]
        if len(succeeded) == len(rows) and self.issues.shape.get(IN_ORDER):
            return {one.key: self.issues.made(kind, one, row) for one, row in zip(succeeded, rows, strict=True)}
        found = self._proven(kind, documents, rows)
        ids = [found[one.key].remote_id if one.key in found else "" for one in succeeded]
        if len(rows) > 1 and ids == [str(row.get("id")) for row in rows]:
            self.issues.shape.put(IN_ORDER, True)
        return found

    def _proven(self, kind: IssueKind, documents: Sequence[Document], rows: Sequence[Json]) -> dict[str, Written]:
        """Read the new issues back by id, in one call, and tell them apart by the key that was planted in them.

        The read also shows where they stand, which saves one read each when they are moved on.
        """
        made = {str(row["id"]): row for row in rows if str(row.get("id", "")).isdecimal()}
        found: dict[str, Written] = {}
        for issue in self._read_back(kind, list(made)):
            document = next((one for one in documents if _carries(issue, kind, one)), None)
            if document is not None and str(issue.get("id")) in made:
                status = ((issue.get("fields") or {}).get("status") or {}).get("name")
                if status:
                    self.issues.shape.put(f"initial:{self.issues.issue_type(kind)}", str(status))
                found[document.key] = self.issues.made(kind, document, issue, status=str(status or ""))
        return found

    def _read_back(self, kind: IssueKind, ids: Sequence[str]) -> Sequence[Json]:
        try:
            return self.issues.client.fetch_issues(ids, fields=["labels", "status"], properties=[kind.property])[0] if ids else []
        except ConnectorError:
            # They are there, whoever they are: the caller finds them by their labels.
            return []


def _carries(issue: Json, kind: IssueKind, document: Document) -> bool:
    planted = (issue.get("properties") or {}).get(kind.property)
    return isinstance(planted, dict) and is_ours(issue, kind, kind.label(document.key), document.key)


def _rows(answer: Json, member: str) -> list[Json]:
    found = answer.get(member)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _refused(documents: Sequence[Document], errors: Sequence[Json]) -> dict[str, ConnectorError]:
    """Return why documents were refused, by key; `failedElementNumber` is the place in the request."""
    found = {}
    for entry in errors:
        place, status = entry.get("failedElementNumber"), entry.get("status")
        if isinstance(place, int) and 0 <= place < len(documents) and isinstance(status, int) and 400 <= status < 500:
            found[documents[place].key] = _meaning(refusal("POST", PATH, Answer(status, entry.get("elementErrors"), "")))
    return found


def _meaning(error: ConnectorError) -> ConnectorError:
    if not isinstance(error, RefusedError):
        return error
    if only_barred(error):
        # Alone it is sent once more without the fields that are on no screen.
        return Rejected(f"{error}: fields are on no screen, so it is written alone", code="bulk_refused", words=error.words)
    return fields_refused(error)
