"""Write the stand-in's state in the shapes of Jira's REST answers."""

from collections.abc import Callable, Iterable
from typing import Any

from integrations.sandbox.jira_adf import shown
from integrations.sandbox.jira_site import CUSTOM_TYPES, Comment, Field, Issue, Project, Site, Transition, Workflow, Worklog, stamp

_PAGE_IN_ISSUE = 20  # worklogs and comments that an issue's own answer holds
_SCHEMAS = {
    "summary": "string",
    "textarea": "string",
    "textfield": "string",
    "url": "string",
    "float": "number",
    "labels": "array",
    "datepicker": "date",
    "select": "option",
    "priority": "priority",
    "issuetype": "issuetype",
    "project": "project",
}


def user(site: Site) -> dict[str, Any]:
    """Return the caller, who is the author of everything."""
    return {
        "self": site.link(f"user?accountId={site.account_id}"),
        "accountId": site.account_id,
        "accountType": "atlassian",
        "displayName": "Olive Ops",
        "active": True,
        "timeZone": "Europe/Berlin",
    }


def project(site: Site, value: Project) -> dict[str, Any]:
    """Return a project without its issue types."""
    return {
        "self": site.link(f"project/{value.id}"),
        "id": value.id,
        "key": value.key,
        "name": value.name,
        "projectTypeKey": "business",
        "simplified": False,
        "style": "classic",
    }


def issue_type(site: Site, name: str) -> dict[str, Any]:
    """Return an issue type."""
    return {"self": site.link(f"issuetype/{site.types[name]}"), "id": site.types[name], "name": name, "subtask": False}


def status(site: Site, name: str) -> dict[str, Any]:
    """Return a status with its category."""
    value = site.statuses[name]
    number, label = {"new": (2, "To Do"), "indeterminate": (4, "In Progress"), "done": (3, "Done")}[value.category]
    category = {"self": site.link(f"statuscategory/{number}"), "id": number, "key": value.category, "name": label}
    return {"self": site.link(f"status/{value.id}"), "id": value.id, "name": name, "description": "", "statusCategory": category}


def transition(site: Site, value: Transition, *, fields: bool) -> dict[str, Any]:
    """Return a transition; its name is not the name of the status it leads to."""
    screen = {"fields": {name: field_meta(site.fields[name], required=True) for name in value.screen}} if fields else {}
    return screen | {
        "id": value.id,
        "name": f"Move to {value.to}",
        "to": status(site, value.to),
        "hasScreen": bool(value.screen),
        "isGlobal": False,
        "isInitial": False,
        "isAvailable": True,
        "isConditional": False,
        "looped": False,
    }


def transitions(site: Site, issue: Issue, flow: Workflow, *, fields: bool) -> list[dict[str, Any]]:
    """Return what can be done from the issue's status; nothing without the permission."""
    if "TRANSITION_ISSUES" not in site.permissions:
        return []
    return [transition(site, value, fields=fields) for value in flow.transitions(issue.status)]


def schema(entry: Field) -> dict[str, Any]:
    """Return the JSON schema note of a field."""
    base: dict[str, Any] = {"type": _SCHEMAS[entry.kind]}
    if entry.kind == "labels":
        base["items"] = "string"
    if not entry.custom:
        return base | {"system": entry.id}
    return base | {"custom": CUSTOM_TYPES + entry.kind, "customId": custom_number(entry)}


def custom_number(entry: Field) -> int:
    """Return 10001 of customfield_10001."""
    return int(entry.id.removeprefix("customfield_"))


def field_meta(entry: Field, *, required: bool | None = None) -> dict[str, Any]:
    """Return a field as a create or transition screen shows it."""
    member = "value" if entry.kind == "select" else "name"
    allowed = {"allowedValues": [{member: option} for option in entry.options]} if entry.options else {}
    return allowed | {
        "fieldId": entry.id,
        "key": entry.id,
        "name": entry.name,
        "required": entry.required if required is None else required,
        "hasDefaultValue": entry.id == "priority",
        "operations": ["add", "set", "remove"] if entry.kind == "labels" else ["set"],
        "schema": schema(entry),
    }


def field_details(entry: Field) -> dict[str, Any]:
    """Return a field as GET /field lists it."""
    clauses = [f"cf[{custom_number(entry)}]", entry.name] if entry.custom else [entry.id]
    return {
        "id": entry.id,
        "key": entry.id,
        "name": entry.name,
        "custom": entry.custom,
        "orderable": True,
        "navigable": True,
        "searchable": bool(entry.searcher) or not entry.custom,
        "clauseNames": clauses,
        "schema": schema(entry),
    }


def worklog(site: Site, issue: Issue, value: Worklog, *, properties: bool) -> dict[str, Any]:
    """Return a worklog; its properties only where they were asked for."""
    answer = {
        "self": site.link(f"issue/{issue.id}/worklog/{value.id}"),
        "author": user(site),
        "updateAuthor": user(site),
        "created": stamp(value.created),
        "updated": stamp(value.updated),
        "started": stamp(value.started),
        "timeSpent": duration(value.seconds),
        "timeSpentSeconds": value.seconds,
        "id": value.id,
        "issueId": issue.id,
    }
    if value.comment is not None:
        answer["comment"] = value.comment
    if properties:
        answer["properties"] = [{"key": key, "value": content} for key, content in value.properties.items()]
    return answer


def duration(seconds: int) -> str:
    """Write seconds as 1w 2d 3h 4m, a day having 8 hours and a week 5 days; left-over seconds are dropped."""
    parts = []
    for letter, size in (("w", 144_000), ("d", 28_800), ("h", 3_600), ("m", 60)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{letter}")
    return " ".join(parts) or "0m"


def comment(site: Site, issue: Issue, value: Comment) -> dict[str, Any]:
    """Return a comment."""
    return {
        "self": site.link(f"issue/{issue.id}/comment/{value.id}"),
        "id": value.id,
        "author": user(site),
        "updateAuthor": user(site),
        "body": value.body,
        "created": stamp(value.created),
        "updated": stamp(value.created),
        "jsdPublic": True,
    }


def issue_fields(site: Site, issue: Issue) -> dict[str, Any]:
    """Return all fields of an issue, empty ones as null."""
    spent = sum(entry.seconds for entry in issue.worklogs)
    own = {entry.id: _value(entry, issue.values.get(entry.id)) for entry in site.fields.values()}
    return own | {
        "labels": issue.values.get("labels", []),
        "project": project(site, site.projects[issue.project]),
        "issuetype": issue_type(site, issue.type),
        "status": status(site, issue.status),
        "created": stamp(issue.created),
        "updated": stamp(issue.updated),
        "creator": user(site),
        "reporter": user(site),
        "timespent": spent or None,
        "worklog": _part("worklogs", [worklog(site, issue, entry, properties=False) for entry in issue.worklogs]),
        "comment": _part("comments", [comment(site, issue, entry) for entry in issue.comments]),
    }


def _value(entry: Field, value: Any) -> Any:
    if entry.kind == "textarea":
        return shown(value)
    if value is None or not entry.options:
        return value
    return {"value" if entry.kind == "select" else "name": value, "id": str(1 + entry.options.index(value))}


def _part(key: str, entries: list[Any]) -> dict[str, Any]:
    return {"startAt": 0, "maxResults": _PAGE_IN_ISSUE, "total": len(entries), key: entries[:_PAGE_IN_ISSUE]}


def issue(site: Site, value: Issue, wanted: Iterable[str]) -> dict[str, Any]:
    """Return an issue with the wanted fields: names, *all, *navigable, and names to leave out as -name."""
    fields = issue_fields(site, value)
    keep = _chosen(list(wanted), fields)
    answer = {"expand": "names,schema,transitions", "id": value.id, "self": site.link(f"issue/{value.id}"), "key": value.key}
    return answer | {"fields": {name: content for name, content in fields.items() if keep(name)}}


def _chosen(wanted: list[str], fields: dict[str, Any]) -> Callable[[str], bool]:
    names = {name for name in wanted if not name.startswith("-")}
    if "*all" in names or not names:
        names |= set(fields)
    if "*navigable" in names:
        names |= set(fields) - {"worklog", "comment"}
    names -= {name[1:] for name in wanted if name.startswith("-")}
    return names.__contains__
