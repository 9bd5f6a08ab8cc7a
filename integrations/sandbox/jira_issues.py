"""Answer for issues: create, read, edit, delete, transitions, comments, remote links and properties."""

import json
from typing import Any

from integrations.sandbox import jira_shapes as shapes
from integrations.sandbox.jira_fields import checked, document, new_values, object_in
from integrations.sandbox.jira_site import Comment, Issue, Project, RefusedError, Site, Transition, members, page
from integrations.sandbox.server import Request, Response

MOST_IN_BULK = 50
MOST_IN_FETCH = 100
MOST_PROPERTIES = 5
MOST_COMMENTS = 5_000
MOST_LINKS = 2_000
LONGEST_PROPERTY = 32_768
LONGEST_NAME = 255


def create(site: Site, request: Request) -> Response:
    """Create one issue."""
    return Response(201, _create(site, members(request)))


def create_many(site: Site, request: Request) -> Response:
    """Create up to 50 issues: 201 if any succeeded, 400 when all failed."""
    updates = members(request).get("issueUpdates")
    if not isinstance(updates, list) or not 0 < len(updates) <= MOST_IN_BULK:
        raise RefusedError(400, f"Between 1 and {MOST_IN_BULK} issues can be created at once.")
    issues, errors = [], []
    for index, update in enumerate(updates):
        try:
            issues.append(_create(site, update if isinstance(update, dict) else {}))
        except RefusedError as error:
            errors.append({"status": error.status, "elementErrors": error.body, "failedElementNumber": index})
    # No document says that the created ones come in the order of the request.
    return Response(201 if issues else 400, {"issues": issues[::-1] if site.bulk_reversed else issues, "errors": errors})


def _create(site: Site, body: dict[str, Any]) -> dict[str, Any]:
    fields = body.get("fields")
    if not isinstance(fields, dict):
        raise RefusedError(400, "Issue data must have 'fields'.")
    project = _project(site, fields.get("project"))
    site.require("CREATE_ISSUES", 403, "You do not have permission to create issues in this project.")
    kind = _issue_type(site, project, fields.get("issuetype"))
    values = new_values(site, project, {"priority": "Medium"}, body, creating=True)
    properties, comments, now = checked_properties(body), _comments(body), site.clock()
    status = project.workflows[kind].initial
    issue = Issue(str(next(site.ids)), site.new_key(project.key), project.key, kind, status, now, now, values, properties)
    site.add_issue(issue)
    _add_comments(site, issue, comments)
    answer = {"id": issue.id, "key": issue.key, "self": site.link(f"issue/{issue.id}")}
    return answer | ({"transition": _first_transition(site, issue, body)} if "transition" in body else {})


def _first_transition(site: Site, issue: Issue, body: dict[str, Any]) -> dict[str, Any]:
    # The issue is there even if its transition fails, and the call is a 201 all the same.
    try:
        issue.status = _transition(site, issue, body).to
    except RefusedError as error:
        return {"status": error.status, "errorCollection": error.body}
    return {"status": 200, "errorCollection": {"errorMessages": [], "errors": {}}}


def _project(site: Site, value: Any) -> Project:
    name = value.get("key") or value.get("id") if isinstance(value, dict) else None
    found = [project for project in site.visible_projects() if isinstance(name, str) and name in (project.key, project.id)]
    if not found:
        raise RefusedError(400, errors={"project": "Specify a valid project ID or key"})
    return found[0]


def _issue_type(site: Site, project: Project, value: Any) -> str:
    name = value.get("id") or value.get("name") if isinstance(value, dict) else None
    found = [kind for kind in project.workflows if name in (kind, site.types[kind])]
    if not found:
        raise RefusedError(400, errors={"issuetype": "Specify a valid issue type"})
    return found[0]


def checked_properties(body: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that a body sets, by key; raise RefusedError for malformed ones."""
    entries = body.get("properties") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and {"key", "value"} == entry.keys() for entry in entries):
        raise RefusedError(400, "'properties' must be a list of keys with values.")
    return {entry["key"]: checked_property(entry["key"], entry["value"]) for entry in entries}


def checked_property(key: Any, value: Any) -> Any:
    """Return a property's value; raise RefusedError when it is empty or too long."""
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_NAME:
        raise RefusedError(400, "The length of the property key must be between 1 and 255 characters.")
    if value is None or len(json.dumps(value)) > LONGEST_PROPERTY:
        raise RefusedError(400, "The property value must be valid, non-empty JSON of at most 32768 characters.")
    return value


def _comments(body: dict[str, Any]) -> list[Any]:
    operations = object_in(body, "update").get("comment", [])
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise RefusedError(400, errors={"comment": "data was not an array of operations"})
    return [_comment_body(operation.get("add")) for operation in operations]


def _comment_body(value: Any) -> Any:
    try:
        return document(value.get("body") if isinstance(value, dict) else None)
    except ValueError as error:
        raise RefusedError(400, errors={"comment": str(error)}) from None


def _add_comments(site: Site, issue: Issue, bodies: list[Any]) -> None:
    if len(issue.comments) + len(bodies) > MOST_COMMENTS:
        raise RefusedError(413, "The issue has reached its limit of comments.")
    issue.comments += [Comment(str(next(site.ids)), body, site.clock()) for body in bodies]


def read(site: Site, request: Request, key: str) -> Response:
    """Return an issue, found by id, key in any case, or a former key."""
    issue = site.issue(key)
    answer = shapes.issue(site, issue, listed(request, "fields") or ["*all"])
    if "properties" in request.query:
        answer["properties"] = chosen_properties(issue, listed(request, "properties"))
    expand = listed(request, "expand")
    if "transitions" in expand or "transitions.fields" in expand:
        answer["transitions"] = shapes.transitions(site, issue, site.workflow(issue), fields="transitions.fields" in expand)
    return Response(200, answer)


def listed(request: Request, name: str) -> list[str]:
    """Return the members of a query parameter that is repeated or separated by commas."""
    return [part.strip() for value in request.query.get(name, []) for part in value.split(",") if part.strip()]


def chosen_properties(issue: Issue, names: list[str]) -> dict[str, Any]:
    """Return the named properties of an issue that exist, or all of them for *all."""
    return {key: value for key, value in issue.properties.items() if key in names or "*all" in names}


def fetch_many(site: Site, request: Request) -> Response:
    """Return up to 100 issues by id or key, by rising id; unknown ones are left out, those of `unfetchable` are reported beside them."""
    body = members(request)
    names, properties = body.get("issueIdsOrKeys"), body.get("properties") or []
    if not isinstance(names, list) or not 0 < len(names) <= MOST_IN_FETCH or not all(isinstance(name, str) for name in names):
        raise RefusedError(400, f"Between 1 and {MOST_IN_FETCH} issues can be fetched at once.")
    if len(properties) > MOST_PROPERTIES:
        raise RefusedError(400, f"At most {MOST_PROPERTIES} properties can be asked for.")
    found = {issue.id: issue for name in names if (issue := _browsed(site, name))}
    shown = [issue for issue in sorted(found.values(), key=lambda issue: int(issue.id)) if issue.id not in site.unfetchable]
    issues = [shapes.issue(site, one, body.get("fields") or ["*navigable"]) for one in shown]
    if properties:
        issues = [answer | {"properties": chosen_properties(one, properties)} for one, answer in zip(shown, issues, strict=True)]
    errors = [{"id": one, "errorMessage": "The issue could not be loaded."} for one in found if one in site.unfetchable]
    return Response(200, {"issues": issues, "issueErrors": errors})


def _browsed(site: Site, name: str) -> Issue | None:
    try:
        return site.issue(name)
    except RefusedError:
        return None


def edit(site: Site, request: Request, key: str) -> Response:
    """Edit an issue; a transition in the body is ignored, as Jira does. Only an administrator may keep it from the watchers."""
    issue, body = site.issue(key), members(request)
    site.require("EDIT_ISSUES", 403, "You do not have permission to edit issues in this project.")
    quiet = request.arg("notifyUsers") == "false"
    if quiet and not site.admin:
        raise RefusedError(403, "To discard the user notification either admin or project admin permissions are required.")
    values = new_values(site, site.projects[issue.project], issue.values, body, creating=False)
    properties, comments = checked_properties(body), _comments(body)
    _add_comments(site, issue, comments)
    issue.values, issue.properties = values, issue.properties | properties
    site.touch(issue)
    if not quiet:
        site.notified.append(issue.id)
    return Response(200, shapes.issue(site, issue, ["*navigable"])) if request.arg("returnIssue") == "true" else Response(204)


def delete(site: Site, request: Request, key: str) -> Response:
    """Delete an issue."""
    issue = site.issue(key)
    site.require("DELETE_ISSUES", 403, "You do not have permission to delete issues in this project.")
    del site.issues[issue.id]
    return Response(204)


def list_transitions(site: Site, request: Request, key: str) -> Response:
    """Return the transitions that leave the issue's status."""
    issue = site.issue(key)
    fields = "transitions.fields" in listed(request, "expand")
    return Response(200, {"expand": "transitions", "transitions": shapes.transitions(site, issue, site.workflow(issue), fields=fields)})


def do_transition(site: Site, request: Request, key: str) -> Response:
    """Take one edge of the workflow, with the fields of its screen and comments."""
    issue, body = site.issue(key), members(request)
    edge = _transition(site, issue, body)
    values, comments = _screen_values(site, edge, object_in(body, "fields")), _comments(body)
    _add_comments(site, issue, comments)
    issue.values |= values
    issue.status = edge.to
    site.touch(issue)
    return Response(204)


def _transition(site: Site, issue: Issue, body: dict[str, Any]) -> Transition:
    asked = body.get("transition")
    number = str(asked.get("id", "")) if isinstance(asked, dict) else ""
    if not number.isdecimal():
        raise RefusedError(400, "'transition' identifier must be an integer")
    edges = site.workflow(issue).transitions(issue.status) if "TRANSITION_ISSUES" in site.permissions else []
    for edge in edges:
        if edge.id == number:
            return edge
    raise RefusedError(400, f"Transition id '{number}' is not valid for this issue.")


def _screen_values(site: Site, edge: Transition, fields: dict[str, Any]) -> dict[str, Any]:
    errors = {name: f"{site.fields[name].name} is required." for name in edge.screen if fields.get(name) in (None, "", [])}
    values = {}
    for name, value in fields.items():
        try:
            if name not in edge.screen:
                raise ValueError(f"Field '{name}' cannot be set. It is not on the appropriate screen, or unknown.")
            values[name] = checked(site.fields[name], value)
        except ValueError as error:
            errors[name] = str(error)
    if errors:
        raise RefusedError(400, errors=errors)
    return values


def list_comments(site: Site, request: Request, key: str) -> Response:
    """Return the comments of an issue."""
    issue = site.issue(key)
    return Response(200, page(request, [shapes.comment(site, issue, entry) for entry in issue.comments], key="comments", most=100))


def add_comment(site: Site, request: Request, key: str) -> Response:
    """Add a comment; its body is an ADF document."""
    issue = site.issue(key)
    body = _comment_body(members(request))
    site.require("ADD_COMMENTS", 400, "You do not have the permission to comment on this issue.")
    _add_comments(site, issue, [body])
    site.touch(issue)
    return Response(201, shapes.comment(site, issue, issue.comments[-1]))


def list_links(site: Site, request: Request, key: str) -> Response:
    """Return the remote links of an issue, or the one with the asked globalId."""
    issue = site.issue(key)
    given = [{name: content for name, content in entry.items() if content is not None} for entry in issue.links]
    links = [entry | {"self": site.link(f"issue/{issue.id}/remotelink/{entry['id']}")} for entry in given]
    if "globalId" not in request.query:
        return Response(200, links)
    for entry in links:
        if entry.get("globalId") == request.arg("globalId"):
            return Response(200, entry)
    raise RefusedError(404, "The remote issue link could not be found.")


def put_link(site: Site, request: Request, key: str) -> Response:
    """Create a remote link, or replace the whole of the one with the same globalId."""
    issue, body = site.issue(key), members(request)
    _check_link(body)
    site.require("LINK_ISSUES", 403, "You do not have permission to link issues in this project.")
    content = {name: body.get(name) for name in ("globalId", "application", "relationship", "object")}
    old = [entry for entry in issue.links if entry["globalId"] and entry["globalId"] == content["globalId"]]
    link: dict[str, Any] = old[0] if old else {"id": next(site.ids)}
    if not old and len(issue.links) >= MOST_LINKS:
        raise RefusedError(413, "The issue has reached its limit of remote links.")
    link.update(content)
    issue.links += [] if old else [link]
    site.touch(issue)
    return Response(200 if old else 201, {"id": link["id"], "self": site.link(f"issue/{issue.id}/remotelink/{link['id']}")})


def _check_link(body: dict[str, Any]) -> None:
    content, name = body.get("object"), body.get("globalId", "")
    if not isinstance(content, dict) or not all(isinstance(content.get(member), str) and content[member] for member in ("url", "title")):
        raise RefusedError(400, errors={"object": "'url' and 'title' are required."})
    if name is not None and (not isinstance(name, str) or len(name) > LONGEST_NAME):
        raise RefusedError(400, errors={"globalId": "The globalId must be a string of at most 255 characters."})


def delete_link(site: Site, request: Request, key: str) -> Response:
    """Delete the remote link with the asked globalId."""
    issue = site.issue(key)
    site.require("LINK_ISSUES", 403, "You do not have permission to link issues in this project.")
    kept = [entry for entry in issue.links if entry["globalId"] != request.arg("globalId")]
    if "globalId" not in request.query or len(kept) == len(issue.links):
        raise RefusedError(404 if "globalId" in request.query else 400, "No remote issue link with this globalId.")
    issue.links = kept
    return Response(204)


def list_properties(site: Site, request: Request, key: str) -> Response:
    """Return the keys of an issue's properties."""
    issue = site.issue(key)
    keys = [{"self": site.link(f"issue/{issue.id}/properties/{name}"), "key": name} for name in issue.properties]
    return Response(200, {"keys": keys})


def get_property(site: Site, request: Request, key: str, name: str) -> Response:
    """Return one property of an issue."""
    return found_property(site.issue(key).properties, name)


def found_property(properties: dict[str, Any], name: str) -> Response:
    """Return one of the properties; raise RefusedError 404."""
    if name not in properties:
        raise RefusedError(404, f"The property {name} does not exist.")
    return Response(200, {"key": name, "value": properties[name]})


def put_property(site: Site, request: Request, key: str, name: str) -> Response:
    """Set a property of an issue."""
    issue = site.issue(key)
    site.require("EDIT_ISSUES", 403, "You do not have permission to edit issues in this project.")
    return stored_property(issue.properties, name, request)


def stored_property(properties: dict[str, Any], name: str, request: Request) -> Response:
    """Set or replace one of the properties with the request's body: 201 when new, else 200."""
    try:
        value = checked_property(name, request.json())
    except ValueError:
        raise RefusedError(400, "The property value must be valid, non-empty JSON.") from None
    status = 200 if name in properties else 201
    properties[name] = value
    return Response(status, {})


def delete_property(site: Site, request: Request, key: str, name: str) -> Response:
    """Remove a property of an issue."""
    issue = site.issue(key)
    found_property(issue.properties, name)
    del issue.properties[name]
    return Response(204)


_KEY = "/issue/([^/]+)"
# https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/ and the groups issue-comments,
# issue-remote-links, issue-properties beside it. The fixed paths stand before the ones with a key.
ROUTES = (
    ("POST", "/issue", create),
    ("POST", "/issue/bulk", create_many),
    ("POST", "/issue/bulkfetch", fetch_many),
    ("GET", _KEY, read),
    ("PUT", _KEY, edit),
    ("DELETE", _KEY, delete),
    ("GET", f"{_KEY}/transitions", list_transitions),
    ("POST", f"{_KEY}/transitions", do_transition),
    ("GET", f"{_KEY}/comment", list_comments),
    ("POST", f"{_KEY}/comment", add_comment),
    ("GET", f"{_KEY}/remotelink", list_links),
    ("POST", f"{_KEY}/remotelink", put_link),
    ("DELETE", f"{_KEY}/remotelink", delete_link),
    ("GET", f"{_KEY}/properties", list_properties),
    ("GET", f"{_KEY}/properties/([^/]+)", get_property),
    ("PUT", f"{_KEY}/properties/([^/]+)", put_property),
    ("DELETE", f"{_KEY}/properties/([^/]+)", delete_property),
)
