"""Walk an issue to a status: one transition per hop, over a workflow that is learnt on the way and remembered.

Jira has no "set status" and no path search; it lists only what leaves the current status, for the caller.
https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-transitions-get
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.core.errors import Missing, Transient
from integrations.core.ports import Shape
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.refusals import RefusedError

MOST_HOPS = 5
# [transition id, name of the status it leads to], by the case-folded name of the status it leaves: JSON, as Shape keeps it.
Edge = list[str]
Graph = Mapping[str, list[Edge]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an issue stands; an empty status is not known yet."""

    issue: str
    issue_type: str
    status: str = ""


def usable(transitions: Iterable[Mapping[str, Any]]) -> list[Edge]:
    """Return an edge for each transition that can be taken without asking a person for anything."""
    return [
        [str(entry["id"]), str((entry.get("to") or {}).get("name", ""))]
        for entry in transitions
        if entry.get("isAvailable", True) and not any(_asks(field) for field in (entry.get("fields") or {}).values())
    ]


def _asks(field: Mapping[str, Any]) -> bool:
    return bool(field.get("required")) and not field.get("hasDefaultValue")


def path(graph: Graph, start: str, target: str, named: frozenset[str]) -> list[Edge]:
    """Return the edges to take, none when there is no way; all names are case-folded.

    Ways through statuses that the route names come first, then any learnt way; where neither leads to the target,
    the way to a named status whose own edges nobody has seen yet.
    """
    goals, passable = frozenset({target}), named.__contains__
    found = _shortest(graph, start, goals, passable) or _shortest(graph, start, goals, bool)
    return found or _shortest(graph, start, named - graph.keys(), passable)


def _shortest(graph: Graph, start: str, goals: frozenset[str], passable: Callable[[str], bool]) -> list[Edge]:
    queue: deque[tuple[str, list[Edge]]] = deque([(start, [])])
    seen = {start}
    while queue:
        status, taken = queue.popleft()
        for edge in graph.get(status, []):
            name = edge[1].casefold()
            if name in goals and name != start:
                return [*taken, edge]
            if name not in seen and passable(name):
                seen.add(name)
                queue.append((name, [*taken, edge]))
    return []


class Workflow:
    """The workflows of one project, as far as they are known. `named` are the statuses that may be passed through."""

    def __init__(self, client: JiraClient, shape: Shape, *, project: str, named: Iterable[str]) -> None:
        self.client = client
        self.shape = shape
        self.project = project
        self.named = frozenset(name.casefold() for name in named if name)
        self._fetched: set[tuple[str, str]] = set()  # (issue, status) whose edges come from this very run

    def reach(self, place: Place, target: str) -> tuple[Place, bool]:
        """Move the issue to the target and return where it stands and whether that is the target.

        A target that cannot be reached leaves the issue where it was. Raises Transient, Missing when the issue is gone.
        """
        goal = target.casefold()
        if not self._exists(place.issue_type, goal):
            return place, False
        place = place if place.status else self.look(place)
        origin, left, refused = place, MOST_HOPS, False
        while place.status.casefold() != goal:
            way = path(self._graph(place.issue_type), place.status.casefold(), goal, self.named)
            if not way or len(way) > left:
                if (place.issue, place.status.casefold()) in self._fetched:
                    return self._back(place, origin), False
                place = self.look(place)
            elif self._hop(place, way[0], last=refused):
                place, left = replace(place, status=way[0][1]), left - 1
            elif refused:
                return place, False
            else:
                place, refused = self.look(place), True
            origin = origin if left < MOST_HOPS else place
        return place, True

    def _hop(self, place: Place, edge: Edge, *, last: bool = False) -> bool:
        """Take one edge; False when Jira refuses, and then its status is to be learnt anew."""
        try:
            self.client.transition(place.issue, edge[0])
        except (RefusedError, Missing):
            self._forget(place)
        except Transient as error:
            if error.code != "conflict" or last:
                raise
            self._forget(place)
        else:
            return True
        return False

    def _back(self, place: Place, origin: Place) -> Place:
        """Return to where a search without success began: what cannot be reached leaves the status alone."""
        way = _shortest(self._graph(place.issue_type), place.status.casefold(), frozenset({origin.status.casefold()}), bool)
        for edge in way[:MOST_HOPS]:
            if not self._hop(place, edge):
                break
            place = replace(place, status=edge[1])
        return place

    def look(self, place: Place) -> Place:
        """Read the issue's real status and type, and learn the edges that leave it, in one call."""
        issue = self.client.issue(place.issue)
        fields = issue.get("fields") or {}
        found = Place(place.issue, (fields.get("issuetype") or {}).get("name") or place.issue_type, fields["status"]["name"])
        self._learn(found, usable(self._with_screens(found, issue.get("transitions") or [])))
        return found

    def _with_screens(self, place: Place, transitions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # Only this endpoint is documented to tell what a screen asks for.
        told = all("fields" in entry or not entry.get("hasScreen") for entry in transitions)
        return transitions if told else self.client.transitions(place.issue)

    def _exists(self, issue_type: str, goal: str) -> bool:
        known = self.shape.get("statuses")
        if known is None:
            listed = self.client.project_statuses(self.project)
            known = {entry["name"].casefold(): [status["name"].casefold() for status in entry["statuses"]] for entry in listed}
            self.shape.put("statuses", known)
        # A type that was made after we learnt is no reason to refuse: the walk will tell.
        return goal in known.get(issue_type.casefold(), [goal])

    def _graph(self, issue_type: str) -> dict[str, list[Edge]]:
        return dict(self.shape.get(f"transitions:{issue_type}") or {})

    def _learn(self, place: Place, edges: list[Edge]) -> None:
        """Remember edges; an empty list is not kept: it may only mean that "Transition issues" is not granted."""
        graph, status = self._graph(place.issue_type), place.status.casefold()
        self._fetched.add((place.issue, status))
        kept = {**graph, status: edges} if edges else {name: graph[name] for name in graph if name != status}
        if kept != graph:
            self.shape.put(f"transitions:{place.issue_type}", kept)

    def _forget(self, place: Place) -> None:
        graph = self._graph(place.issue_type)
        graph.pop(place.status.casefold(), None)
        self._fetched.discard((place.issue, place.status.casefold()))
        self.shape.put(f"transitions:{place.issue_type}", graph)
