"""What the Jira stand-in remembers: projects, workflows, fields, screens, issues, and the switches that tests turn."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.sandbox.server import Request, StandIn
from integrations.sandbox.windows import FixedWindow

CUSTOM_TYPES = "com.atlassian.jira.plugin.system.customfieldtypes:"
SEARCHERS = {
    "textfield": {"textsearcher", "exacttextsearcher"},
    "textarea": {"textsearcher"},
    "url": {"exacttextsearcher"},
    "float": {"exactnumber", "numberrange"},
    "labels": {"labelsearcher"},
    "datepicker": {"daterange"},
    "select": {"multiselectsearcher"},
}
PERMISSIONS = (
    "BROWSE_PROJECTS",
    "CREATE_ISSUES",
    "EDIT_ISSUES",
    "DELETE_ISSUES",
    "TRANSITION_ISSUES",
    "WORK_ON_ISSUES",
    "LINK_ISSUES",
    "ADD_COMMENTS",
)
STATUSES = ("To Do", "In Progress", "Done")
EDGES = {"To Do": ["In Progress"], "In Progress": ["To Do", "Done"], "Done": ["In Progress"]}
DEFAULT_SCREEN = 1
API_TOKEN = "jira-api-token"
CLIENT_SECRET = "jira-secret"


class RefusedError(Exception):
    """Jira says no: the status and the error collection to answer with."""

    def __init__(self, status: int, *messages: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(status, messages, errors)
        self.status = status
        self.body = {"errorMessages": list(messages), "errors": errors or {}}


@dataclass(slots=True)
class Field:
    """A field of the site; `kind` picks the check of its values, `name` need not be unique."""

    id: str
    name: str
    kind: str
    required: bool = False
    options: tuple[str, ...] = ()
    searcher: str = ""

    @property
    def custom(self) -> bool:
        """Say whether somebody made the field; system fields are on every screen."""
        return self.id.startswith("customfield_")


@dataclass(frozen=True, slots=True)
class Status:
    """A workflow status; the names are unique in the site."""

    id: str
    name: str
    category: str  # new | indeterminate | done


@dataclass(frozen=True, slots=True)
class Transition:
    """One edge of a workflow, as seen from the status it leaves."""

    id: str
    to: str
    screen: tuple[str, ...] = ()  # ids of the fields that the transition's screen requires


@dataclass(frozen=True, slots=True)
class Workflow:
    """Statuses by name, the edges between them, the first one, and required fields by target status."""

    statuses: tuple[str, ...]
    edges: dict[str, list[str]]
    initial: str
    screens: dict[str, list[str]]

    def transitions(self, status: str) -> list[Transition]:
        """Return the transitions that leave a status; every edge has its own id."""
        pairs = [(start, to) for start in self.statuses for to in self.edges.get(start, [])]
        edges = enumerate(pairs)
        return [Transition(str(11 + 10 * n), to, tuple(self.screens.get(to, ()))) for n, (start, to) in edges if start == status]


@dataclass(slots=True)
class Project:
    """A project and the workflow of each of its issue types."""

    id: str
    key: str
    name: str
    screen: int
    workflows: dict[str, Workflow]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


@dataclass(slots=True)
class Screen:
    """A screen with its tabs: field ids by tab id."""

    id: int
    name: str
    tabs: dict[int, list[str]]


@dataclass(slots=True)
class Worklog:
    """Time spent on an issue; `comment` is an ADF document."""

    id: str
    seconds: int
    started: datetime
    comment: Any
    properties: dict[str, Any]
    created: datetime
    updated: datetime


@dataclass(slots=True)
class Comment:
    """A comment on an issue; `body` is an ADF document."""

    id: str
    body: Any
    created: datetime


@dataclass(slots=True)
class Issue:
    """An issue: field values by field id, everything else beside them."""

    id: str
    key: str
    project: str
    type: str
    status: str
    created: datetime
    updated: datetime
    values: dict[str, Any]
    properties: dict[str, Any] = field(default_factory=dict)
    worklogs: list[Worklog] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)  # id, globalId, application, relationship, object
    writes: list[datetime] = field(default_factory=list)  # when its latest writes arrived, for the rate limit


@dataclass(slots=True)
class Webhook:
    """A dynamic webhook of the OAuth app."""

    id: int
    url: str
    events: list[str]
    jql_filter: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class AdminWebhook:
    """A webhook that a Jira admin made by hand: it does not end, and signs with its secret where it has one."""

    url: str
    secret: str
    events: tuple[str, ...]


def utc_now() -> datetime:
    """Return the time now, aware."""
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """Write a time as Jira does: 2021-01-17T12:34:00.000+0000."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"


def members(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request's body; raise RefusedError when it is none."""
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusedError(400, "Invalid request payload. Refer to the REST API documentation and try again.")
    return body


def page(request: Request, values: list[Any], *, key: str = "values", most: int = 50) -> dict[str, Any]:
    """Cut out the page that startAt and maxResults ask for."""
    start, size = _number(request, "startAt", 0), min(_number(request, "maxResults", most), most)
    part = {"startAt": start, "maxResults": size, "total": len(values), key: values[start : start + size]}
    return part | ({"isLast": start + size >= len(values)} if key == "values" else {})


def _number(request: Request, name: str, default: int) -> int:
    text = request.arg(name, str(default))
    if not text.isdecimal():
        raise RefusedError(400, f"The parameter '{name}' must be a number.")
    return int(text)


class Site(StandIn):
    """The state of one Jira site and the ways in which a test changes it by hand.

    Switches are plain attributes: `admin`, `time_tracking`, `permissions`, `index_lag` (seconds until a new or changed
    issue can be searched), `writes_per_issue` (in 2 s, 0 = no limit), `page_limit` (search results that a page holds at
    most), `unfetchable` (ids that a bulk fetch fails to show), `omit_refresh_token`, `scopes` (what a consent grants at
    most), `webhook_dates_as_text`, `deaf_webhooks` (ids that a refresh ignores). `violations` lists the calls that nobody
    should make.
    """

    name = "jira"

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        *,
        email: str = "ops@example.com",
        api_token: str = API_TOKEN,
        client_id: str = "jira-client",
        client_secret: str = CLIENT_SECRET,
        cloud_id: str = "11111111-2222-4333-8444-555555555555",
        site: str = "acme",
        statuses: Sequence[str] = STATUSES,
        edges: dict[str, list[str]] | None = None,
        initial: str = "",
    ) -> None:
        super().__init__(clock)
        self.email, self.api_token = email, api_token
        self.client_id, self.client_secret, self.cloud_id = client_id, client_secret, cloud_id
        self.url = f"https://{site}.atlassian.net"
        self.account_id = "712020:9d1c7e5e-0b52-4c5e-8f6d-3f0a51b1c0de"
        self.resources: list[dict[str, Any]] = []  # more sites of the same person, as accessible-resources lists them
        self.admin = self.time_tracking = True
        self.permissions = set(PERMISSIONS)
        self.index_lag = 0.0
        self.writes_per_issue = 0
        self.points_per_hour = 0  # of the app, 0 = no limit
        self.burst_per_second = 0  # calls per method and endpoint, 0 = no limit
        self.quota = FixedWindow()
        self.bursts: dict[str, FixedWindow] = {}
        self.page_limit = 100
        self.unfetchable: set[str] = set()
        self.omit_refresh_token = self.webhook_dates_as_text = False
        self.scopes: set[str] | None = None
        self.violations: list[str] = []
        self.notified: list[str] = []  # ids of issues whose watchers were told of an edit
        self.ids = itertools.count(10000)
        self.projects: dict[str, Project] = {}
        self.statuses: dict[str, Status] = {}
        self.types: dict[str, str] = {}
        self.bulk_reversed = False  # whether bulk creates answer in another order than they were asked in
        self.issues: dict[str, Issue] = {}
        self.keys: dict[str, str] = {}  # every key that an issue has or had -> its id
        self.webhooks: dict[int, Webhook] = {}
        self.admin_webhooks: list[AdminWebhook] = []
        self.deaf_webhooks: set[int] = set()
        self.webhook_ids, self.deliveries_sent = itertools.count(1000), itertools.count(1)
        self.screens = {DEFAULT_SCREEN: Screen(DEFAULT_SCREEN, "Default Screen", {1: []})}
        self.fields = {entry.id: entry for entry in _system_fields()}
        self.add_project("BILL", "Billing", statuses=statuses, edges=edges, initial=initial)

    @property
    def person(self) -> str:
        """Who is signed in at Atlassian."""
        return self.email

    def all_sites(self) -> list[dict[str, Any]]:
        """Return this site and the others of the same person; the others show this one's projects."""
        return [{"id": self.cloud_id, "url": self.url, "name": self.url.split("/")[2].split(".")[0]}, *self.resources]

    def add_site(self, name: str, cloud_id: str, scopes: Iterable[str] = ("read:jira-work",)) -> str:
        """Let the person have another site; with Confluence's scopes only it is none of Jira. Return its cloud id."""
        url = f"https://{name}.atlassian.net"
        self.resources.append({"id": cloud_id, "url": url, "name": name, "scopes": list(scopes), "avatarUrl": f"{url}/avatar.png"})
        return cloud_id

    def add_project(
        self,
        key: str,
        name: str,
        *,
        issue_types: Sequence[str] = ("Task", "Story"),
        statuses: Sequence[str] = STATUSES,
        edges: dict[str, list[str]] | None = None,
        initial: str = "",
        transition_fields: dict[str, list[str]] | None = None,
        own_screen: bool = False,
    ) -> Project:
        """Add a project; `edges` defaults to the default workflow, `transition_fields` requires fields on the way into a status."""
        screen = self._new_screen(f"{key} Screen") if own_screen else DEFAULT_SCREEN
        project = Project(str(next(self.ids)), key, name, screen, {})
        for issue_type in issue_types:
            self.types.setdefault(issue_type, str(next(self.ids)))
            project.workflows[issue_type] = self._workflow(statuses, edges, initial, transition_fields)
        self.projects[key] = project
        return project

    def set_workflow(self, key: str, issue_type: str, *, statuses: Sequence[str], edges: dict[str, list[str]], initial: str = "") -> None:
        """Replace the workflow of one issue type of a project."""
        self.projects[key].workflows[issue_type] = self._workflow(statuses, edges, initial, None)

    def _workflow(
        self, statuses: Sequence[str], edges: dict[str, list[str]] | None, initial: str, screens: dict[str, list[str]] | None
    ) -> Workflow:
        first = initial or statuses[0]
        for status in statuses:
            category = "new" if status == first else "done" if status == statuses[-1] else "indeterminate"
            if status not in self.statuses:
                self.statuses[status] = Status(str(next(self.ids)), status, category)
        return Workflow(tuple(statuses), EDGES if edges is None else edges, first, screens or {})

    def _new_screen(self, name: str) -> int:
        number = max(self.screens) + 1
        self.screens[number] = Screen(number, name, {number: []})
        return number

    def add_field(
        self, name: str, kind: str, *, required: bool = False, options: Iterable[str] = (), searcher: str = "", on_screen: bool = True
    ) -> str:
        """Add a custom field of a kind (textfield, float, ...), put it on every screen, return its id."""
        entry = Field(f"customfield_{next(self.ids)}", name, kind, required, tuple(options), searcher)
        self.fields[entry.id] = entry
        for screen in self.screens.values() if on_screen else ():
            next(iter(screen.tabs.values())).append(entry.id)
        return entry.id

    def on_screen(self, project: Project) -> list[Field]:
        """Return the fields that can be set in a project: the system's own and the custom ones on its screen."""
        present = set(itertools.chain.from_iterable(self.screens[project.screen].tabs.values()))
        return [entry for entry in self.fields.values() if entry.id in present or (not entry.custom and entry.id != "resolution")]

    def issue(self, id_or_key: str) -> Issue:
        """Return an issue by id, key in any case, or former key; raise RefusedError 404."""
        found = self.issues.get(self.keys.get(id_or_key.upper(), id_or_key))
        if found is None or "BROWSE_PROJECTS" not in self.permissions:
            raise RefusedError(404, "Issue does not exist or you do not have permission to see it.")
        return found

    def project(self, id_or_key: str) -> Project:
        """Return a project by id or key in any case; raise RefusedError 404."""
        for project in self.visible_projects():
            if id_or_key == project.id or id_or_key.upper() == project.key:
                return project
        raise RefusedError(404, f"No project could be found with key '{id_or_key}'.")

    def visible_projects(self) -> list[Project]:
        """Return the projects that the caller may browse."""
        return list(self.projects.values()) if "BROWSE_PROJECTS" in self.permissions else []

    def workflow(self, issue: Issue) -> Workflow:
        """Return the workflow that an issue follows."""
        return self.projects[issue.project].workflows[issue.type]

    def require(self, permission: str, status: int, text: str) -> None:
        """Raise RefusedError with this status unless the caller has the permission."""
        if permission not in self.permissions:
            raise RefusedError(status, text)

    def require_admin(self, status: int = 403) -> None:
        """Raise RefusedError unless the caller administers Jira."""
        if not self.admin:
            raise RefusedError(status, "You are not authorized to perform this operation. Administrator privileges are required.")

    def touch(self, issue: Issue) -> None:
        """Note a change of the issue; the search index learns of it after `index_lag`."""
        issue.updated = self.clock()

    def indexed(self, issue: Issue) -> bool:
        """Say whether a search finds the issue yet."""
        return self.clock() - issue.updated >= timedelta(seconds=self.index_lag)

    def link(self, path: str) -> str:
        """Return a self link; it shows the site's public address, which nobody should call."""
        return f"{self.url}/rest/api/3/{path}"

    def new_key(self, project: str) -> str:
        """Return the next free issue key of a project; keys of deleted issues are not used again."""
        return f"{project}-{next(self.projects[project].numbers)}"

    def add_issue(self, issue: Issue) -> None:
        """File an issue and remember its key for good."""
        self.issues[issue.id] = issue
        self.keys[issue.key] = issue.id

    def delete_issue(self, id_or_key: str) -> None:
        """Remove an issue, as a person in the browser would."""
        with self.lock:
            del self.issues[self.issue(id_or_key).id]

    def move_issue(self, id_or_key: str, status: str) -> None:
        """Put an issue into a status by hand, whatever the workflow's edges say."""
        with self.lock:
            issue = self.issue(id_or_key)
            if status not in self.workflow(issue).statuses:
                raise ValueError(f"{issue.key} has no status {status!r}")
            issue.status = status
            self.touch(issue)

    def rekey_issue(self, id_or_key: str, project: str) -> str:
        """Move an issue to another project and return its new key; the old key goes on finding it."""
        with self.lock:
            issue = self.issue(id_or_key)
            issue.project, issue.key = project, self.new_key(project)
            self.add_issue(issue)
            self.touch(issue)
            return issue.key

    def edit(self, id_or_key: str, **values: Any) -> None:
        """Overwrite field values of an issue by hand, unchecked; the names are field ids."""
        with self.lock:
            issue = self.issue(id_or_key)
            issue.values.update(values)
            self.touch(issue)


def _system_fields() -> list[Field]:
    return [
        Field("summary", "Summary", "summary", required=True),
        Field("issuetype", "Issue Type", "issuetype", required=True),
        Field("project", "Project", "project", required=True),
        Field("description", "Description", "textarea"),
        Field("environment", "Environment", "textarea"),
        Field("labels", "Labels", "labels"),
        Field("duedate", "Due date", "datepicker"),
        Field("priority", "Priority", "priority", options=("Highest", "High", "Medium", "Low", "Lowest")),
        Field("resolution", "Resolution", "priority", options=("Done", "Won't Do")),
    ]
