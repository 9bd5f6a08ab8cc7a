"""Create the custom fields that a route's mappings name, and tell an admin what only a person can do."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.core.errors import ConnectorError, Disconnected, Missing, Rejected
from integrations.core.ports import Plan, Step
from integrations.destinations.jira import mapping
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.mapping import CUSTOM, SYSTEM_FIELDS, Fields

_TYPES = "com.atlassian.jira.plugin.system.customfieldtypes:"
_SEARCHERS = {"textfield": "textsearcher", "float": "exactnumber", "datepicker": "daterange"}
_LABELS = {"textfield": "Short text (plain text only)", "float": "Number", "datepicker": "Date picker"}
_ONE_NAME = re.compile(r"\s*\{\{\s*([a-z_.]+)\s*\}\}\s*")
_NUMBERS = {
    "invoice.total",
    "invoice.due",
    "invoice.paid",
    "customer.outstanding",
    "customer.overdue",
    "customer.open_count",
    "customer.overdue_count",
    "customer.oldest_overdue_days",
}
_DATES = {"invoice.issued_on", "invoice.due_on"}
# What the create call fills besides the mapped fields.
_OURS = {"project", "issuetype", "summary", "labels"}


@dataclass(slots=True)
class Screen:
    """The create screen of one issue type and the targets that are to be on it."""

    issue_type: str
    type_id: str
    targets: list[str]
    fields: list[dict[str, Any]]

    @property
    def ids(self) -> set[str]:
        """The ids of the fields on it."""
        return {field_id(entry) for entry in self.fields}


def field_id(entry: Mapping[str, Any]) -> str:
    """Return the id of a field as a create screen names it."""
    return str(entry.get("fieldId") or entry.get("key") or "")


def remote_kind(template: str) -> str:
    """Return which type of custom field takes what a template makes."""
    match = _ONE_NAME.fullmatch(template)
    name = match[1] if match else ""
    return "float" if name in _NUMBERS else "datepicker" if name in _DATES else "textfield"


def issue_types(plan: Plan) -> dict[str, str]:
    """Return the configured issue type per kind of mapping that becomes issues."""
    options = {"invoice": mapping.INVOICE_ISSUE.option, "customer": mapping.CUSTOMER_ISSUE.option}
    return {kind: str(plan.options.get(option) or "Task") for kind, option in options.items() if kind in plan.kinds}


class Provisioner:
    """One run of provisioning; each target gets exactly one step, `exists` only where it can be written."""

    def __init__(self, client: JiraClient, plan: Plan, *, dry_run: bool) -> None:
        self.client = client
        self.plan = plan
        self.project = str(plan.options.get("project") or "")
        self.dry_run = dry_run
        self.fields = Fields([])
        self.made: set[str] = set()
        self.refused: dict[str, str] = {}

    def run(self) -> list[Step]:
        """Create what is missing; return what was there, was done, or is left to a person."""
        self._learn()
        for target, template in self._custom_targets().items():
            if self.fields.find(target) is None and not target.startswith(CUSTOM) and not self.dry_run:
                self._create(target, remote_kind(template))
        if self.made:
            self._learn()
        screens = self._screens()
        if not self.dry_run and self._put_on_default_screen(screens):
            screens = self._screens()
        missing = self._missing_types(screens)
        return [*missing, *self._field_steps(screens), *self._required_steps(screens)]

    def _learn(self) -> None:
        self.fields = Fields(mapping.custom_fields(self.client.fields()), self.plan.fields)

    def _custom_targets(self) -> dict[str, str]:
        # Resting rules too: provisioning is what wakes them.
        kinds = issue_types(self.plan)
        return {rule.target: rule.template for rule in self.plan.fields if rule.kind in kinds and rule.target not in SYSTEM_FIELDS}

    def _create(self, name: str, kind: str) -> None:
        body = {"name": name, "type": _TYPES + kind, "searcherKey": _TYPES + _SEARCHERS[kind], "description": "Written by ml-connector."}
        try:
            self.client.create_field(body)
            self.made.add(name)
        except (Rejected, Disconnected) as error:
            self._refused(name, error)

    def _refused(self, name: str, error: ConnectorError) -> None:
        """Leave it to a person; a dead grant is another matter."""
        if isinstance(error, Disconnected) and error.code != "scope":
            raise error
        self.refused[name] = _reason(error)

    def _screens(self) -> list[Screen]:
        known = {str(entry.get("name", "")).casefold(): str(entry["id"]) for entry in self.client.issue_types(self.project)}
        found: dict[str, Screen] = {}
        for kind, name in issue_types(self.plan).items():
            type_id = known.get(name.casefold())
            if type_id is None:
                continue
            if type_id not in found:
                found[type_id] = Screen(name, type_id, ["labels"], self.client.create_screen(self.project, type_id))
            found[type_id].targets += [rule.target for rule in self.plan.fields if rule.kind == kind]
        return list(found.values())

    def _missing_types(self, screens: Sequence[Screen]) -> list[Step]:
        there = {screen.issue_type.casefold() for screen in screens}
        names = sorted({name for name in issue_types(self.plan).values() if name.casefold() not in there})
        advice = f"add it to project {self.project}, or choose another type in the route's options"
        return [Step(f'issue type "{name}"', "by_hand", advice) for name in names]

    def _put_on_default_screen(self, screens: Sequence[Screen]) -> bool:
        """Say whether any field was put there; what the account may not do is left to a person."""
        added = False
        for name in sorted(self._absent(screens)):
            try:
                self.client.add_to_default_screen(name)
                added = True
            except Missing:
                continue  # 404 also says that it is there already
            except (Rejected, Disconnected) as error:
                self._refused(name, error)
        return added

    def _absent(self, screens: Sequence[Screen]) -> set[str]:
        """Return the custom fields that are wanted on a screen and not there."""
        wanted = [(screen, remote.id) for screen in screens for remote in map(self.fields.find, screen.targets) if remote]
        return {name for screen, name in wanted if name.startswith(CUSTOM) and name not in screen.ids}

    def _field_steps(self, screens: Sequence[Screen]) -> list[Step]:
        targets = dict.fromkeys(target for screen in screens for target in screen.targets)
        return [self._field_step(target, [screen for screen in screens if target in screen.targets]) for target in targets]

    def _field_step(self, target: str, screens: Sequence[Screen]) -> Step:
        what, remote = f'field "{target}"', self.fields.find(target)
        if remote is None:
            return self._absent_step(what, target)
        lacking = [screen.issue_type for screen in screens if remote.id not in screen.ids]
        if not lacking:
            return Step(what, "created" if target in self.made else "exists", remote.id)
        if self.dry_run and remote.id.startswith(CUSTOM):
            return Step(what, "create", f"put {remote.id} on the default screen")
        where = f"the create and edit screens of {', '.join(lacking)} in project {self.project}"
        return Step(what, "by_hand", f"put {remote.id} on {where}{self.refused.get(remote.id, '')}")

    def _absent_step(self, what: str, target: str) -> Step:
        if target.startswith(CUSTOM):
            return Step(what, "by_hand", "no such field: correct the mapping's target")
        kind = remote_kind(self._custom_targets()[target])
        if self.dry_run:
            return Step(what, "create", _LABELS[kind])
        detail = f'create a custom field "{target}" of type "{_LABELS[kind]}" and put it on the screens of project {self.project}'
        return Step(what, "by_hand", detail + self.refused.get(target, ""))

    def _required_steps(self, screens: Iterable[Screen]) -> list[Step]:
        steps = {}
        for screen in screens:
            filled = _OURS | {remote.id for remote in map(self.fields.find, screen.targets) if remote}
            for entry in screen.fields:
                if entry.get("required") and not entry.get("hasDefaultValue") and field_id(entry) not in filled:
                    what = f"required field {entry.get('name') or field_id(entry)}"
                    steps[what] = Step(what, "by_hand", f"{screen.issue_type} needs it: map it ({field_id(entry)}) or give it a default")
        return list(steps.values())


def _reason(error: ConnectorError) -> str:
    right = "the scopes manage:jira-configuration and manage:jira-project" if error.code == "scope" else '"Administer Jira"'
    return f" (the account lacks {right}, or Jira refused: {error})"
