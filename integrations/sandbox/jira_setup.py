"""Answer for what a set-up asks: the caller, permissions, configuration, projects, create screens, fields and screens."""

import re
from collections.abc import Callable
from typing import Any

from integrations.sandbox import jira_shapes as shapes
from integrations.sandbox.jira_issues import listed
from integrations.sandbox.jira_site import (
    CUSTOM_TYPES,
    DEFAULT_SCREEN,
    PERMISSIONS,
    SEARCHERS,
    RefusedError,
    Screen,
    Site,
    members,
    page,
    stamp,
)
from integrations.sandbox.server import Request, Response

_FIELD_MEMBERS = {"name", "type", "searcherKey", "description"}
LONGEST_NAME = 255
ADMINISTRATORS = ("ADMINISTER", "ADMINISTER_PROJECTS")


def myself(site: Site, request: Request) -> Response:
    """Return the caller."""
    return Response(200, shapes.user(site) | {"emailAddress": site.email, "locale": "en_US"})


def permissions(site: Site, request: Request) -> Response:
    """Return which of the asked permissions the caller has; they must be named."""
    if request.arg("projectKey"):
        site.project(request.arg("projectKey"))
    asked = listed(request, "permissions")
    if not asked:
        raise RefusedError(400, "The 'permissions' query parameter is required.")
    unknown = [name for name in asked if name not in (*PERMISSIONS, *ADMINISTRATORS)]
    if unknown:
        raise RefusedError(400, f"Unrecognized permission: {', '.join(unknown)}")
    return Response(200, {"permissions": {name: _permission(site, name) for name in asked}})


def _permission(site: Site, name: str) -> dict[str, Any]:
    have = site.admin if name in ADMINISTRATORS else name in site.permissions
    kind = "GLOBAL" if name == "ADMINISTER" else "PROJECT"
    return {"id": name, "key": name, "name": name.replace("_", " ").capitalize(), "type": kind, "havePermission": have}


def configuration(site: Site, request: Request) -> Response:
    """Return what the site has switched on."""
    switches = (
        "attachmentsEnabled",
        "issueLinkingEnabled",
        "subTasksEnabled",
        "unassignedIssuesAllowed",
        "votingEnabled",
        "watchingEnabled",
    )
    return Response(200, dict.fromkeys(switches, True) | {"timeTrackingEnabled": site.time_tracking})


def server_info(site: Site, request: Request) -> Response:
    """Return the site's address and version; open to everybody."""
    version = {"version": "1001.0.0-SNAPSHOT", "versionNumbers": [1001, 0, 0], "buildNumber": 100290, "deploymentType": "Cloud"}
    return Response(200, version | {"baseUrl": site.url, "serverTime": stamp(site.clock()), "serverTitle": "Jira"})


def list_projects(site: Site, request: Request) -> Response:
    """Return a page of the projects that the caller may browse."""
    wanted, keys = request.arg("query").lower(), request.query.get("keys", [])
    found = [project for project in site.visible_projects() if wanted in f"{project.key} {project.name}".lower()]
    return Response(200, page(request, [shapes.project(site, project) for project in found if not keys or project.key in keys]))


def get_project(site: Site, request: Request, key: str) -> Response:
    """Return a project with its issue types."""
    project = site.project(key)
    return Response(200, shapes.project(site, project) | {"issueTypes": [shapes.issue_type(site, name) for name in project.workflows]})


def project_statuses(site: Site, request: Request, key: str) -> Response:
    """Return the statuses of each issue type of a project."""
    flows = site.project(key).workflows.items()
    return Response(
        200,
        [shapes.issue_type(site, name) | {"statuses": [shapes.status(site, status) for status in flow.statuses]} for name, flow in flows],
    )


def list_statuses(site: Site, request: Request) -> Response:
    """Return every status of the site."""
    return Response(200, [shapes.status(site, name) for name in site.statuses])


def create_types(site: Site, request: Request, key: str) -> Response:
    """Return the issue types that can be created in a project."""
    project = site.project(key)
    site.require("CREATE_ISSUES", 400, "You do not have permission to create issues in this project.")
    return Response(200, page(request, [shapes.issue_type(site, name) for name in project.workflows], key="issueTypes"))


def create_fields(site: Site, request: Request, key: str, type_id: str) -> Response:
    """Return the fields of a project's create screen."""
    project = site.project(key)
    if type_id not in [site.types[name] for name in project.workflows]:
        raise RefusedError(400, "The issue type is not in the project.")
    return Response(200, page(request, [shapes.field_meta(entry) for entry in site.on_screen(project)], key="fields"))


def list_fields(site: Site, request: Request) -> Response:
    """Return all fields."""
    return Response(200, [shapes.field_details(entry) for entry in site.fields.values()])


def search_fields(site: Site, request: Request) -> Response:
    """Return a page of fields, by type, id or part of the name."""
    kinds, ids, wanted = request.query.get("type", []), listed(request, "id"), request.arg("query").lower()
    found = [
        {"id": entry.id, "key": entry.id, "name": entry.name, "schema": shapes.schema(entry)}
        for entry in site.fields.values()
        if (not kinds or ("custom" if entry.custom else "system") in kinds)
        and (not ids or entry.id in ids)
        and wanted in entry.name.lower()
    ]
    return Response(200, page(request, found))


def create_field(site: Site, request: Request) -> Response:
    """Create a custom field; without the right this is a 400, not a 403. It is on no screen yet."""
    site.require_admin(400)
    body = members(request)
    if body.keys() - _FIELD_MEMBERS:
        raise RefusedError(400, f"Unrecognized members: {', '.join(sorted(body.keys() - _FIELD_MEMBERS))}")
    name, kind, searcher = body.get("name"), str(body.get("type", "")).removeprefix(CUSTOM_TYPES), body.get("searcherKey")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= LONGEST_NAME:
        raise RefusedError(400, errors={"name": "The name must have between 1 and 255 characters."})
    if kind not in SEARCHERS or not str(body["type"]).startswith(CUSTOM_TYPES):
        raise RefusedError(400, errors={"type": f"The custom field type '{body.get('type')}' does not exist."})
    if searcher is not None and searcher not in [CUSTOM_TYPES + name for name in SEARCHERS[kind]]:
        raise RefusedError(400, errors={"searcherKey": f"The searcher '{searcher}' does not fit the type."})
    made = site.add_field(name, kind, searcher=str(searcher or "").removeprefix(CUSTOM_TYPES), on_screen=False)
    return Response(201, shapes.field_details(site.fields[made]))


def add_to_default(site: Site, request: Request, field_id: str) -> Response:
    """Put a field on the default screen's first tab; 404 also when it is there already."""
    site.require_admin()
    tabs = site.screens[DEFAULT_SCREEN].tabs
    if field_id not in site.fields or any(field_id in tab for tab in tabs.values()):
        raise RefusedError(404, f"The field with id '{field_id}' was not found or is already on the screen.")
    next(iter(tabs.values())).append(field_id)
    return Response(200, {})


def list_screens(site: Site, request: Request) -> Response:
    """Return a page of screens."""
    site.require_admin()
    return Response(
        200, page(request, [{"id": screen.id, "name": screen.name, "description": ""} for screen in site.screens.values()], most=100)
    )


def list_tabs(site: Site, request: Request, screen_id: str) -> Response:
    """Return the tabs of a screen."""
    return Response(200, [{"id": tab, "name": "Field Tab"} for tab in _screen(site, screen_id).tabs])


def list_tab_fields(site: Site, request: Request, screen_id: str, tab_id: str) -> Response:
    """Return the fields on a tab."""
    system = [entry.id for entry in site.fields.values() if not entry.custom and entry.id != "resolution"]
    return Response(200, [{"id": name, "name": site.fields[name].name} for name in system + _tab(site, screen_id, tab_id)])


def add_tab_field(site: Site, request: Request, screen_id: str, tab_id: str) -> Response:
    """Put a field on a tab; 400 when it is on the screen already."""
    tab, field_id = _tab(site, screen_id, tab_id), str(members(request).get("fieldId"))
    if field_id not in site.fields:
        raise RefusedError(400, f"The field with id '{field_id}' does not exist.")
    if any(field_id in fields for fields in _screen(site, screen_id).tabs.values()) or not site.fields[field_id].custom:
        raise RefusedError(400, f"The field with id '{field_id}' already exists on the screen.")
    tab.append(field_id)
    return Response(200, {"id": field_id, "name": site.fields[field_id].name})


def _screen(site: Site, screen_id: str) -> Screen:
    site.require_admin()
    screen = site.screens.get(int(screen_id)) if re.fullmatch(r"\d+", screen_id) else None
    if screen is None:
        raise RefusedError(404, "The screen does not exist.")
    return screen


def _tab(site: Site, screen_id: str, tab_id: str) -> list[str]:
    tabs = {str(number): fields for number, fields in _screen(site, screen_id).tabs.items()}
    if tab_id not in tabs:
        raise RefusedError(404, "The screen tab does not exist.")
    return tabs[tab_id]


# https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/ : the groups myself, permissions, jira-settings,
# server-info, projects, workflow-statuses, issues (createmeta), issue-fields, screens, screen-tabs, screen-tab-fields.
ROUTES: tuple[tuple[str, str, Callable[..., Response]], ...] = (
    ("GET", "/myself", myself),
    ("GET", "/mypermissions", permissions),
    ("GET", "/configuration", configuration),
    ("GET", "/serverInfo", server_info),
    ("GET", "/project/search", list_projects),
    ("GET", "/project/([^/]+)", get_project),
    ("GET", "/project/([^/]+)/statuses", project_statuses),
    ("GET", "/status", list_statuses),
    ("GET", "/issue/createmeta/([^/]+)/issuetypes", create_types),
    ("GET", "/issue/createmeta/([^/]+)/issuetypes/([^/]+)", create_fields),
    ("GET", "/field", list_fields),
    ("GET", "/field/search", search_fields),
    ("POST", "/field", create_field),
    ("POST", "/screens/addToDefault/([^/]+)", add_to_default),
    ("GET", "/screens", list_screens),
    ("GET", "/screens/([^/]+)/tabs", list_tabs),
    ("GET", "/screens/([^/]+)/tabs/([^/]+)/fields", list_tab_fields),
    ("POST", "/screens/([^/]+)/tabs/([^/]+)/fields", add_tab_field),
)
