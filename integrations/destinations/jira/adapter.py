"""Jira as a destination: invoices and customers become issues, payments worklogs, the invoice's state the status."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from integrations.core.documents import Bound, Document, Written
from integrations.core.errors import ConnectorError, Missing, Rejected
from integrations.core.ports import Access, AuthKind, Check, Plan, Setting, Shape, Step, System, Trace
from integrations.core.records import CUSTOMER, INVOICE, PAYMENT, Snapshot
from integrations.destinations.jira import adf, client, mapping, oauth
from integrations.destinations.jira.client import JiraClient, RefusedError
from integrations.destinations.jira.mapping import ISSUE_KINDS, PAYMENT_PROPERTY, SYSTEM_FIELDS, Fields, IssueKind
from integrations.destinations.jira.oauth import CONSENT
from integrations.destinations.jira.places import places
from integrations.destinations.jira.provision import Provisioner, issue_types
from integrations.destinations.jira.transitions import Place, Workflow
from integrations.http import ApiClient

__all__ = ["ACCESS", "CONSENT", "SYSTEM", "JiraDestination", "places", "unauthorized"]
_PROJECT = "Enter the project's key as it stands before the number in BILL-7."
SYSTEM = System(
    name="jira",
    label="Jira",
    role="destination",
    auths=(
        AuthKind(
            "api_token",
            settings=(
                Setting("site", required=True, pattern=oauth.LABEL, advice='Enter "acme" for acme.atlassian.net.', place=True),
                Setting("email", required=True, pattern=r"[^@\s:]+@[^@\s:]+", advice="Enter the e-mail of the token's owner."),
            ),
            secrets=("api_token",),
            advice="A token without scopes from id.atlassian.com, Security. It lives a year at most: note the day on which it ends.",
            lives=timedelta(days=365),
        ),
        AuthKind(
            "oauth",
            settings=(
                Setting("cloud_id", pattern=oauth.CLOUD_ID, advice="Leave it empty: Connect asks which site, and fills it in.", place=True),
                Setting("client_id", required=True, advice="Copy it from the app's page in the developer console."),
                Setting("create_fields", of=bool, advice="Ask for the right to create custom fields, so that provisioning can."),
            ),
            secrets=("client_secret",),
            optional_secrets=("access_token", "refresh_token"),
            advice="Save client id and secret, then press Connect: Atlassian asks for your consent and for the site.",
        ),
    ),
    options=(
        Setting("project", required=True, pattern=r"[A-Z][A-Z0-9_]{1,9}", advice=_PROJECT),
        Setting("invoice_issue_type", default="Task"),
        Setting("customer_issue_type", default="Task"),
        Setting("payments", choices=("worklog", "comment", "off"), default="worklog"),
        Setting("on_delete", choices=("mark", "delete"), default="mark", advice="Issues are marked either way, never deleted."),
    ),
    defaults=mapping.DEFAULTS,
    statuses={
        **dict.fromkeys(("DRAFT", "SAVED"), "To Do"),
        **dict.fromkeys(("UNPAID", "SENT", "VIEWED", "PARTIAL", "OVERDUE"), "In Progress"),
        **dict.fromkeys(("PAID", "OVERPAID"), "Done"),
    },
    targets={"invoice": frozenset(SYSTEM_FIELDS), "customer": frozenset(SYSTEM_FIELDS), "payment": frozenset({"comment"})},
)
ACCESS = Access(base_url=oauth.base_url, headers=oauth.headers, token_call=oauth.token_call)
unauthorized = client.unauthorized
STATUS_UNMAPPED = "status_unmapped"
TIME_TRACKING_OFF = "time_tracking_off"
_MOST_FOUND = 5
_ADVICE = {
    "scope": "grant the missing scope: read:jira-work, write:jira-work and read:jira-user are needed, then connect again",
    "captcha": "log in at the site once in a browser and solve the CAPTCHA",
    "unauthorized": "connect again, or make a new API token without scopes",
    "missing": "check the project's key, and that the account may browse it",
}


class JiraDestination:
    """One route's Jira project during one run. `notes` are codes of what `documents` left out on purpose."""

    children: frozenset[str] = frozenset({"worklog", "comment"})
    deletable: frozenset[str] = frozenset()

    def __init__(self, api: ApiClient, plan: Plan, shape: Shape) -> None:
        self.plan = plan
        self.shape = shape
        self.client = JiraClient(api)
        self.notes: list[str] = []
        self.project = str(plan.options.get("project") or "")
        self.payments = str(plan.options.get("payments") or "worklog") if PAYMENT in plan.kinds else "off"
        named = [name for rule in plan.statuses for name in (rule.status, *rule.via)]
        self.workflow = Workflow(self.client, shape, project=self.project, named=named)
        self._created: set[str] = set()  # ids of the issues made in this run: they stand in their type's first status

    def prepare(self) -> None:
        """Learn the site's custom fields, and whether time is tracked, unless that is remembered."""
        if self.shape.get("fields") is None:
            self.shape.put("fields", mapping.custom_fields(self.client.fields()))
        if self.payments == "worklog" and self.shape.get("time_tracking") is None:
            self.shape.put("time_tracking", self.client.time_tracking())

    @property
    def _fields(self) -> Fields:
        return Fields(self.shape.get("fields") or [], self.plan.fields)

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
            return self._write_issue(ISSUE_KINDS[document.kind], document, bound)
        return writers[document.kind](document, bound)

    def _write_issue(self, kind: IssueKind, document: Document, bound: Bound) -> Written:
        values = self._fields.on_wire({**document.fields, **document.trace})
        labels = list(document.fields.get("labels") or [])
        if not bound.remote_id:
            return self._create(kind, document.key, values, labels)
        operations = [{"add": label} for label in labels]
        operations += [{"remove": label} for label in bound.facts.get("labels", []) if label not in labels]
        body: dict[str, Any] = {"fields": values, "update": {"labels": operations}}
        adopted = not bound.facts.get("key")
        if adopted:
            body["properties"] = _properties(kind.property, {"key": document.key})
        answer, dropped = self._without_barred(partial(self._edited, bound.remote_id, returning=adopted), body)
        facts = {"labels": labels} | ({"key": str(answer["key"])} if answer.get("key") else {})
        return _told(Written(bound.remote_id, facts=facts, dropped=dropped))

    def _create(self, kind: IssueKind, key: str, values: Mapping[str, Any], labels: list[str]) -> Written:
        issue_type = self._issue_type(kind)
        # null means nothing in a create, and some fields refuse it there.
        given = {name: value for name, value in values.items() if value is not None}
        fields = {"project": {"key": self.project}, "issuetype": {"name": issue_type}, "labels": labels, **given}
        body = {"fields": fields, "properties": _properties(kind.property, {"key": key})}
        answer, dropped = self._without_barred(self.client.create_issue, body, needed=frozenset({"labels"}))
        remote_id = str(answer["id"])
        self._created.add(remote_id)
        first = self.shape.get(f"initial:{issue_type}")
        facts = {"key": str(answer.get("key", "")), "type": issue_type, "labels": labels} | ({"status": first} if first else {})
        return Written(remote_id, created=True, facts=facts, dropped=dropped)

    def _issue_type(self, kind: IssueKind) -> str:
        return str(self.plan.options.get(kind.option) or "Task")

    def _edited(self, issue: str, body: Mapping[str, Any], *, returning: bool = False) -> dict[str, Any]:
        with self.client.telling_lost(issue):
            return self.client.edit_issue(issue, body, returning=returning)

    def _without_barred(
        self, send: Callable[[dict[str, Any]], dict[str, Any]], body: dict[str, Any], needed: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Send a body, once more without the fields that are on no screen; return the answer and what was dropped, by target.

        An issue whose label cannot be set could not be found again: `needed` fields are not dropped.
        """
        try:
            return send(body), {}
        except RefusedError as refusal:
            barred = {name: text for name, text in refusal.fields.items() if "cannot be set" in text.lower()}
            if not barred or barred != refusal.fields or needed & barred.keys():
                raise _fields_refused(refusal) from None
        try:
            return send(_without(body, barred)), self._by_target(barred)
        except RefusedError as refusal:
            raise _fields_refused(refusal) from None

    def _by_target(self, reasons: Mapping[str, str]) -> dict[str, str]:
        found, fields = dict(reasons), self._fields
        for rule in self.plan.fields:
            remote = fields.find(rule.target)
            if remote and remote.id in reasons:
                found.pop(remote.id, None)
                found[rule.target] = reasons[remote.id]
        return found

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
        """Return where the issue stands as far as we know; look at a new one if its type's first status is not known."""
        issue_type = str(bound.facts.get("type") or self._issue_type(mapping.INVOICE_ISSUE))
        place = Place(bound.parent_id, issue_type, str(bound.facts.get("status") or ""))
        if not place.status and bound.parent_id in self._created:
            place = self.workflow.look(place)
            self.shape.put(f"initial:{issue_type}", place.status)
        return place

    def _write_worklog(self, document: Document, bound: Bound) -> Written:
        values = {**document.fields, **document.trace}
        body = {"timeSpentSeconds": values["timeSpentSeconds"], "started": values["started"], "comment": values["comment"]}
        body["properties"] = _properties(PAYMENT_PROPERTY, {"id": document.key})
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
        body = {"body": comment, "properties": _properties(PAYMENT_PROPERTY, {"id": document.key})}
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
        self._edited(bound.parent_id, {"update": {"labels": labels, "comment": [{"add": {"body": comment}}]}})
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
        return [str(issue["id"]) for issue in found if _is_ours(issue, kind, label, key)]

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

    # --- Ping and provision

    def ping(self) -> list[Check]:
        """Check the login, then what the route needs in its project; a connection without a route has the first only."""
        checks = [_checked("login", self._check_login)]
        if not self.project or not checks[0].ok:
            return checks
        for name, check in (
            ("project", self._check_types),
            ("permissions", self._check_permissions),
            ("time tracking", self._check_time_tracking),
        ):
            checks.append(_checked(name, check))
        return checks

    def _check_login(self) -> Check:
        # Jira answers many calls of nobody with 200: only the account's own id proves a login.
        caller = self.client.myself()
        ok = bool(caller.get("accountId"))
        return Check("login", ok, str(caller.get("displayName", "")), "" if ok else "nobody is logged in: enter new credentials")

    def _check_types(self) -> Check:
        known = {str(entry.get("name", "")).casefold() for entry in self.client.issue_types(self.project)}
        missing = sorted({name for name in issue_types(self.plan).values() if name.casefold() not in known})
        advice = f"add {', '.join(missing)} to the project, or choose other issue types in the route's options" if missing else ""
        return Check("project", not missing, self.project, advice)

    def _check_permissions(self) -> Check:
        needed = ["BROWSE_PROJECTS", "CREATE_ISSUES", "EDIT_ISSUES", "TRANSITION_ISSUES"]
        needed += {"worklog": ["WORK_ON_ISSUES"], "comment": ["ADD_COMMENTS"]}.get(self.payments, [])
        have = self.client.permissions(self.project, needed)
        missing = [name for name in needed if not have[name]]
        advice = f"give the account these permissions in {self.project}: {', '.join(missing)}" if missing else ""
        return Check("permissions", not missing, f"{len(needed) - len(missing)} of {len(needed)}", advice)

    def _check_time_tracking(self) -> Check:
        if self.payments != "worklog":
            return Check("time tracking", True, "not needed")
        on = self.client.time_tracking()
        advice = "" if on else 'switch time tracking on, or set the route\'s option "payments" to comment or off'
        return Check("time tracking", on, "on" if on else "off", advice)

    def provision(self, *, dry_run: bool) -> list[Step]:
        """Create missing custom fields and put them on the default screen; forget what was known of the set-up."""
        steps = Provisioner(self.client, self.plan, dry_run=dry_run).run()
        if not dry_run:
            types = issue_types(self.plan).values()
            names = [f"{name}:{issue_type}" for name in ("transitions", "initial") for issue_type in types]
            for name in ("fields", "statuses", "time_tracking", *names):
                self.shape.put(name, None)
        return steps


def _checked(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ConnectorError as error:
        return Check(name, False, str(error), _ADVICE.get(error.code, "try again in a few minutes; then see the attempt's own words"))


def _properties(name: str, value: Any) -> list[dict[str, Any]]:
    return [{"key": name, "value": value}]


def _without(body: Mapping[str, Any], barred: Mapping[str, str]) -> dict[str, Any]:
    kept = dict(body)
    for part in kept.keys() & {"fields", "update"}:
        kept[part] = {name: value for name, value in kept[part].items() if name not in barred}
    return kept


def _fields_refused(refusal: RefusedError) -> Rejected:
    return Rejected(str(refusal), code="fields_refused", words=refusal.words)


def _told(written: Written) -> Written:
    """Report what no mapping can rest for as a note: the hashes of these would never settle otherwise."""
    always = written.dropped.keys() & {"labels", "summary"}
    kept = {target: reason for target, reason in written.dropped.items() if target not in always}
    return replace(written, dropped=kept, notes=("field_dropped",)) if always else written


def _is_ours(issue: Mapping[str, Any], kind: IssueKind, label: str, key: str) -> bool:
    """Compare in code: labels can be edited by anybody, and how the search folds case is not known."""
    labels = (issue.get("fields") or {}).get("labels") or []
    planted = (issue.get("properties") or {}).get(kind.property)
    return label in labels and (not isinstance(planted, dict) or planted.get("key") == key)


def _carries(entry: Mapping[str, Any], key: str) -> bool:
    """Say whether a worklog or comment shows the payment: by its property, or where that is not given by its marker."""
    planted = [item.get("value") for item in entry.get("properties") or [] if item.get("key") == PAYMENT_PROPERTY]
    if planted:
        return any(isinstance(value, dict) and value.get("id") == key for value in planted)
    return mapping.marker(key) in adf.plain_text(entry.get("comment") or entry.get("body")).split()
