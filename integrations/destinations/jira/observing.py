"""Read many issues in one call, and tell which fields they hold otherwise than a document wants."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.core.documents import Document, Observed, Value
from integrations.core.observing import amount_target, number, same_day, same_moment, same_number, same_text
from integrations.core.ports import FieldRule
from integrations.destinations.jira import adf
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.mapping import ISSUE_KINDS, Fields, IssueKind, RemoteField

MOST = 100
OBSERVES = {"issue": "issue", "status": "issue", "customer_issue": "customer_issue"}
FILLED_BY = {"issue": "invoice", "customer_issue": "customer"}  # whose field mappings fill an issue
_PARTS = {"worklog": "worklogs", "comment": "comments"}  # of the option `payments`: the member of an issue that shows them
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Looker:
    """Reads the issues of one route. `payments` is the option: worklog, comment or off."""

    client: JiraClient
    project: str
    fields: Fields
    rules: Sequence[FieldRule]
    payments: str

    def observe(self, kind: IssueKind, wanted: Mapping[str, str]) -> dict[str, Observed]:
        """Return what the issues of these keys hold, by key; at most one call for known ids and one search for the others."""
        known = {remote_id: key for key, remote_id in wanted.items() if remote_id}
        found = self._fetched(kind, known) if known else {}
        rest = [key for key, remote_id in wanted.items() if not remote_id]
        return found | (self._searched(kind, rest) if rest else {})

    def _fetched(self, kind: IssueKind, known: Mapping[str, str]) -> dict[str, Observed]:
        issues, failed = self.client.fetch_issues(list(known), fields=self._asked(kind), properties=[kind.property])
        # What Jira failed to show is there all the same: a moved issue keeps its id, and one that is gone is not named at all.
        found = {known[one]: Observed(one) for one in failed if one in known}
        return found | {known[one]: self._observed(kind, issue) for issue in issues if (one := str(issue.get("id"))) in known}

    def _searched(self, kind: IssueKind, keys: Sequence[str]) -> dict[str, Observed]:
        """Look issues up by their labels. Where two carry one key neither is shown: a person decides which one is it."""
        labels = {kind.label(key): key for key in keys}
        listed = ", ".join(f'"{label}"' for label in labels)
        jql = f'project = "{self.project}" AND labels IN ({listed}) ORDER BY created ASC'
        seen: dict[str, list[Json]] = {}
        for issue in self.client.search(jql, fields=self._asked(kind), properties=[kind.property], size=MOST):
            for label, key in labels.items():
                if is_ours(issue, kind, label, key):
                    seen.setdefault(key, []).append(issue)
        return {key: self._one(kind, issues) for key, issues in seen.items()}

    def _one(self, kind: IssueKind, issues: Sequence[Json]) -> Observed:
        ids = tuple(sorted({str(issue["id"]) for issue in issues}, key=int))
        return Observed("", twins=ids) if len(ids) > 1 else self._observed(kind, issues[0])

    def _asked(self, kind: IssueKind) -> list[str]:
        """Return the ids of the fields that the plan maps, and what is read beside them."""
        mapped = [remote.id for rule in self._rules(kind) if (remote := self.fields.find(rule.target))]
        part = [self.payments] if kind.kind == "issue" and self.payments in _PARTS else []
        return list(dict.fromkeys([*mapped, "summary", "labels", "status", *part]))

    def amount_field(self, kind: IssueKind) -> RemoteField | None:
        """Return the field that shows what is due, None where no mapping fills one."""
        return self.fields.find(amount_target(self._rules(kind), FILLED_BY[kind.kind]))

    def _rules(self, kind: IssueKind) -> list[FieldRule]:
        return [rule for rule in self.rules if rule.kind == FILLED_BY[kind.kind] and not rule.problem]

    def _observed(self, kind: IssueKind, issue: Json) -> Observed:
        held = {**(issue.get("fields") or {})}
        remote = self.amount_field(kind)
        amount = number(held.get(remote.id)) if remote else None
        return Observed(str(issue["id"]), held, amount, _children(held, self.payments) if kind.kind == "issue" else None)


def _children(held: Json, part: str) -> frozenset[str] | None:
    """Return the ids of the worklogs or comments that an issue's own answer holds, None where these are not all."""
    page = held.get(part) if part in _PARTS else None
    entries = page.get(_PARTS[part]) if isinstance(page, dict) else None
    if not isinstance(page, dict) or not isinstance(entries, list) or int(page.get("total", len(entries) + 1)) > len(entries):
        return None
    return frozenset(str(entry.get("id")) for entry in entries)


def is_ours(issue: Json, kind: IssueKind, label: str, key: str) -> bool:
    """Compare in code: labels can be edited by anybody, and how the search folds case is not known."""
    labels = (issue.get("fields") or {}).get("labels") or []
    planted = (issue.get("properties") or {}).get(kind.property)
    return label in labels and (not isinstance(planted, dict) or planted.get("key") == key)


# --- Comparing ------------------------------------------------------------------------------------------------------
def drift(document: Document, seen: Observed, fields: Fields) -> frozenset[str]:
    """Return the fields that the issue holds otherwise, or `status` of a status document.

    Left out, because no write of ours would mend them: fields that the answer does not have, an empty summary or priority,
    which are never sent, and labels of other people, which are theirs to keep.
    """
    if document.kind == "status":
        return _status(document, seen.held)
    if document.kind not in ISSUE_KINDS:
        return frozenset()
    compared = _comparable(document, seen.held, fields)
    return frozenset(target for target, remote, kind in compared if not _same(kind, document.fields[target], seen.held[remote]))


def _status(document: Document, held: Json) -> frozenset[str]:
    shown = (held.get("status") or {}).get("name")
    same = shown is None or str(shown).casefold() == str(document.fields.get("status")).casefold()
    return frozenset() if same else frozenset({"status"})


def _comparable(document: Document, held: Json, fields: Fields) -> Iterator[tuple[str, str, str]]:
    for target, wanted in document.fields.items():
        remote = fields.find(target)
        if remote is None or remote.id not in held or (wanted is None and target in ("summary", "priority")):
            continue
        yield target, remote.id, "our labels" if target == "labels" else remote.type


def _same(kind: str, wanted: Value, held: Any) -> bool:
    return _COMPARED.get(kind, same_text)(wanted, held)


def _same_document(wanted: Value, held: Any) -> bool:
    return adf.essence(wanted) == adf.essence(held)


def _same_labels(wanted: Value, held: Any) -> bool:
    return set(wanted or ()) == set(held or ())


def _contained(wanted: Value, held: Any) -> bool:
    return set(wanted or ()) <= set(held or ())


def _member(name: str) -> Callable[[Value, Any], bool]:
    """Return the comparison of an option or a priority, which comes back with id, address and more."""

    def same(wanted: Value, held: Any) -> bool:
        return same_text((wanted or {}).get(name), held.get(name) if isinstance(held, dict) else held)

    return same


# By our word for a field's type; what is not named here is text.
_COMPARED: Mapping[str, Callable[[Value, Any], bool]] = {
    "number": same_number,
    "date": same_day,
    "datetime": same_moment,
    "textarea": _same_document,
    "labels": _same_labels,
    "our labels": _contained,
    "option": _member("value"),
    "name": _member("name"),
}
