"""Prove a Jira login and what a route needs in its project, with advice where something is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from integrations.core.errors import ConnectorError
from integrations.core.ports import Check, Plan
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.provision import issue_types

_ADVICE = {
    "scope": "grant the missing scope: read:jira-work, write:jira-work and read:jira-user are needed, then connect again",
    "captcha": "log in at the site once in a browser and solve the CAPTCHA",
    "unauthorized": "connect again, or make a new API token without scopes",
    "missing": "check the project's key, and that the account may browse it",
}


@dataclass(frozen=True, slots=True)
class Prober:
    """Checks one route, or without a project the login only."""

    client: JiraClient
    plan: Plan
    project: str
    payments: str

    def run(self) -> list[Check]:
        """Return the checks that could be made: without a login, or without a project, that is the first only."""
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


def _checked(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except ConnectorError as error:
        return Check(name, False, str(error), _ADVICE.get(error.code, "try again in a few minutes; then see the attempt's own words"))
