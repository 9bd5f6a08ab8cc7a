"""Answer for worklogs and their properties."""

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

from integrations.sandbox import jira_shapes as shapes
from integrations.sandbox.jira_fields import document
from integrations.sandbox.jira_issues import checked_properties, found_property, listed, stored_property
from integrations.sandbox.jira_site import Issue, RefusedError, Site, Worklog, members, page
from integrations.sandbox.server import Request, Response

SHORTEST = 60  # seconds
MOST_WORKLOGS = 10_000
_SIZES = {"w": 144_000, "d": 28_800, "h": 3_600, "m": 60}
_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}")


def list_all(site: Site, request: Request, key: str) -> Response:
    """Return the worklogs of an issue; this read knows no lag."""
    issue, properties = site.issue(key), "properties" in listed(request, "expand")
    logs = [shapes.worklog(site, issue, entry, properties=properties) for entry in issue.worklogs]
    return Response(200, page(request, logs, key="worklogs", most=5000))


def read(site: Site, request: Request, key: str, number: str) -> Response:
    """Return one worklog."""
    issue = site.issue(key)
    return Response(200, shapes.worklog(site, issue, _worklog(issue, number), properties="properties" in listed(request, "expand")))


def add(site: Site, request: Request, key: str) -> Response:
    """Add a worklog."""
    issue, body = site.issue(key), members(request)
    _check_call(site, request)
    if len(issue.worklogs) >= MOST_WORKLOGS:
        raise RefusedError(413, "The issue has reached its limit of worklogs.")
    now = site.clock()
    # Documented as required, but a real site takes now for a missing `started`.
    worklog = Worklog(str(next(site.ids)), _seconds(body), _started(body, now), _comment(body), checked_properties(body), now, now)
    issue.worklogs.append(worklog)
    site.touch(issue)
    return Response(201, shapes.worklog(site, issue, worklog, properties=False))


def edit(site: Site, request: Request, key: str, number: str) -> Response:
    """Change a worklog; members left out stay as they are."""
    issue, body = site.issue(key), members(request)
    old = _worklog(issue, number)
    _check_call(site, request)
    seconds = _seconds(body) if body.keys() & {"timeSpent", "timeSpentSeconds"} else old.seconds
    comment = _comment(body) if "comment" in body else old.comment
    properties = old.properties | checked_properties(body)
    new = replace(old, seconds=seconds, started=_started(body, old.started), comment=comment, properties=properties, updated=site.clock())
    issue.worklogs[issue.worklogs.index(old)] = new
    site.touch(issue)
    return Response(200, shapes.worklog(site, issue, new, properties=False))


def delete(site: Site, request: Request, key: str, number: str) -> Response:
    """Delete one worklog."""
    issue = site.issue(key)
    worklog = _worklog(issue, number)
    _check_call(site, request)
    issue.worklogs.remove(worklog)
    site.touch(issue)
    return Response(204)


def delete_all(site: Site, request: Request, key: str) -> Response:
    """Refuse the bulk delete, which would take other people's worklogs along, and note who called it."""
    site.violations.append(f"DELETE /issue/{key}/worklog without an id is a bulk delete")
    raise RefusedError(400, "This sandbox refuses the bulk delete of worklogs.")


def get_property(site: Site, request: Request, key: str, number: str, name: str) -> Response:
    """Return one property of a worklog."""
    return found_property(_worklog(site.issue(key), number).properties, name)


def list_properties(site: Site, request: Request, key: str, number: str) -> Response:
    """Return the keys of a worklog's properties."""
    issue = site.issue(key)
    base = f"issue/{issue.id}/worklog/{number}/properties"
    return Response(200, {"keys": [{"self": site.link(f"{base}/{name}"), "key": name} for name in _worklog(issue, number).properties]})


def put_property(site: Site, request: Request, key: str, number: str, name: str) -> Response:
    """Set a property of a worklog."""
    return stored_property(_worklog(site.issue(key), number).properties, name, request)


def _worklog(issue: Issue, number: str) -> Worklog:
    for entry in issue.worklogs:
        if entry.id == number:
            return entry
    raise RefusedError(404, f"Cannot find worklog with id: '{number}'.")


def _check_call(site: Site, request: Request) -> None:
    site.require("WORK_ON_ISSUES", 400, "You do not have the permission to associate a worklog to this issue.")
    if not site.time_tracking:
        raise RefusedError(400, "Time tracking is not enabled.")
    adjust = request.arg("adjustEstimate", "auto")
    if adjust not in ("auto", "leave", "new", "manual"):
        raise RefusedError(400, f"Unknown adjustEstimate '{adjust}'.")
    needed = {"new": "newEstimate", "manual": "increaseBy" if request.method == "DELETE" else "reduceBy"}.get(adjust)
    if needed and not request.arg(needed):
        raise RefusedError(400, "You must supply a valid new estimate.")


def _seconds(body: dict[str, Any]) -> int:
    text, seconds = body.get("timeSpent"), body.get("timeSpentSeconds")
    if text is not None and seconds is not None:
        raise RefusedError(400, errors={"timeSpent": "Specify timeSpent or timeSpentSeconds, not both."})
    if text is not None:
        seconds = _parsed(text)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < SHORTEST:
        raise RefusedError(400, errors={"timeLogged": "Worklog must not be null."})
    return seconds


def _parsed(text: Any) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"\d+[wdhm]( \d+[wdhm])*", text):
        raise RefusedError(400, errors={"timeLogged": "Invalid time duration entered."})
    return sum(int(part[:-1]) * _SIZES[part[-1]] for part in text.split())


def _started(body: dict[str, Any], default: datetime) -> datetime:
    text = body.get("started")
    if text is None:
        return default
    try:
        if not isinstance(text, str) or not _STARTED.fullmatch(text):
            raise ValueError(text)
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        raise RefusedError(400, errors={"started": f"Cannot parse '{text}': the form is yyyy-MM-ddTHH:mm:ss.SSSZ, e.g. +0000."}) from None


def _comment(body: dict[str, Any]) -> Any:
    if body.get("comment") is None:
        return None
    try:
        return document(body["comment"])
    except ValueError as error:
        raise RefusedError(400, errors={"comment": str(error)}) from None


_LIST = "/issue/([^/]+)/worklog"
_ONE = f"{_LIST}/([^/]+)"
# https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-worklogs/
# https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-worklog-properties/
ROUTES = (
    ("GET", _LIST, list_all),
    ("POST", _LIST, add),
    ("DELETE", _LIST, delete_all),
    ("GET", _ONE, read),
    ("PUT", _ONE, edit),
    ("DELETE", _ONE, delete),
    ("GET", f"{_ONE}/properties", list_properties),
    ("GET", f"{_ONE}/properties/([^/]+)", get_property),
    ("PUT", f"{_ONE}/properties/([^/]+)", put_property),
)
