"""Create and edit issues: labels, property and fields, and once more without the fields that are on no screen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from integrations.core.documents import Bound, Document, Written
from integrations.core.errors import Rejected
from integrations.core.ports import Plan, Shape
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.mapping import Fields, IssueKind
from integrations.destinations.jira.refusals import RefusedError

QUIET = "edits_quietly"  # among what is remembered of a route
ADMINISTRATORS = ("ADMINISTER", "ADMINISTER_PROJECTS")


@dataclass(slots=True)
class Issues:
    """Writes the issues of one route; `created` are the ids made in this run: they stand in their type's first status."""

    client: JiraClient
    plan: Plan
    shape: Shape
    project: str
    created: set[str] = field(default_factory=set)

    @property
    def fields(self) -> Fields:
        """The site's custom fields, as far as they are known."""
        return Fields(self.shape.get("fields") or [], self.plan.fields)

    def write(self, kind: IssueKind, document: Document, bound: Bound) -> Written:
        """Create or replace one issue; fields that are on no screen are dropped."""
        if not bound.remote_id:
            return self._create(kind, document)
        labels = _labels(document)
        operations = [{"add": label} for label in labels]
        operations += [{"remove": label} for label in bound.facts.get("labels", []) if label not in labels]
        body: dict[str, Any] = {"fields": self._values(document), "update": {"labels": operations}}
        adopted = not bound.facts.get("key")
        if adopted:
            body["properties"] = properties(kind.property, {"key": document.key})
        answer, dropped = self._without_barred(partial(self.edit, bound.remote_id, returning=adopted), body)
        facts = {"labels": labels} | ({"key": str(answer["key"])} if answer.get("key") else {})
        return _told(Written(bound.remote_id, facts=facts, dropped=dropped))

    def creation(self, kind: IssueKind, document: Document) -> dict[str, Any]:
        """Return the body of a create: label and property go along, so that no issue exists without its key."""
        # null means nothing in a create, and some fields refuse it there.
        given = {name: value for name, value in self._values(document).items() if value is not None}
        place = {"project": {"key": self.project}, "issuetype": {"name": self.issue_type(kind)}, "labels": _labels(document)}
        return {"fields": {**place, **given}, "properties": properties(kind.property, {"key": document.key})}

    def made(self, kind: IssueKind, document: Document, answer: Mapping[str, Any], *, status: str = "") -> Written:
        """Return what to remember of a new issue; `status` is where it stands, if that was seen."""
        remote_id, issue_type = str(answer["id"]), self.issue_type(kind)
        self.created.add(remote_id)
        first = status or self.shape.get(f"initial:{issue_type}")
        facts = {"key": str(answer.get("key", "")), "type": issue_type, "labels": _labels(document)}
        return Written(remote_id, created=True, facts=facts | ({"status": first} if first else {}))

    def _create(self, kind: IssueKind, document: Document) -> Written:
        answer, dropped = self._without_barred(self.client.create_issue, self.creation(kind, document), needed=frozenset({"labels"}))
        return replace(self.made(kind, document, answer), dropped=dropped)

    def _values(self, document: Document) -> dict[str, Any]:
        return self.fields.on_wire({**document.fields, **document.trace})

    def issue_type(self, kind: IssueKind) -> str:
        """Return the name of the type that issues of this kind get."""
        return str(self.plan.options.get(kind.option) or "Task")

    def edit(self, issue: str, body: Mapping[str, Any], *, returning: bool = False) -> dict[str, Any]:
        """Edit an issue, quietly where that is wanted and allowed; raise Missing `lost` when it is gone for good."""
        with self.client.telling_lost(issue):
            if self.plan.quiet and self._may_be_quiet():
                try:
                    return self.client.edit_issue(issue, body, returning=returning, quiet=True)
                except Rejected as error:
                    if error.code != "forbidden":
                        raise
                    self.shape.put(QUIET, False)  # no administrator any more
            return self.client.edit_issue(issue, body, returning=returning)

    def _may_be_quiet(self) -> bool:
        """Say whether the account may edit without telling the watchers; asked once a day, for whoever may not is refused the edit."""
        if self.shape.get(QUIET) is None:
            self.shape.put(QUIET, any(self.client.permissions(self.project, ADMINISTRATORS).values()))
        return bool(self.shape.get(QUIET))

    def _without_barred(
        self, send: Callable[[dict[str, Any]], dict[str, Any]], body: dict[str, Any], needed: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Send a body, once more without the fields that are on no screen; return the answer and what was dropped, by target.

        An issue whose label cannot be set could not be found again: `needed` fields are not dropped.
        """
        try:
            return send(body), {}
        except RefusedError as refusal:
            barred = dict(refusal.fields)
            if not only_barred(refusal) or needed & barred.keys():
                raise fields_refused(refusal) from None
        try:
            return send(_without(body, barred)), self._by_target(barred)
        except RefusedError as refusal:
            raise fields_refused(refusal) from None

    def _by_target(self, reasons: Mapping[str, str]) -> dict[str, str]:
        found, fields = dict(reasons), self.fields
        for rule in self.plan.fields:
            remote = fields.find(rule.target)
            if remote and remote.id in reasons:
                found.pop(remote.id, None)
                found[rule.target] = reasons[remote.id]
        return found


def only_barred(refusal: RefusedError) -> bool:
    """Say whether Jira refuses nothing but fields that are on no screen, without which the rest would be taken."""
    return bool(refusal.fields) and all("cannot be set" in text.lower() for text in refusal.fields.values())


def _labels(document: Document) -> list[str]:
    return list(document.fields.get("labels") or [])


def properties(name: str, value: Any) -> list[dict[str, Any]]:
    """Return one property as bodies carry it."""
    return [{"key": name, "value": value}]


def _without(body: Mapping[str, Any], barred: Mapping[str, str]) -> dict[str, Any]:
    kept = dict(body)
    for part in kept.keys() & {"fields", "update"}:
        kept[part] = {name: value for name, value in kept[part].items() if name not in barred}
    return kept


def fields_refused(refusal: RefusedError) -> Rejected:
    """Return the error of content that Jira does not take."""
    return Rejected(str(refusal), code="fields_refused", words=refusal.words)


def _told(written: Written) -> Written:
    """Report what no mapping can rest for as a note: the hashes of these would never settle otherwise."""
    always = written.dropped.keys() & {"labels", "summary"}
    kept = {target: reason for target, reason in written.dropped.items() if target not in always}
    return replace(written, dropped=kept, notes=("field_dropped",)) if always else written
