"""The Jira sites that a new grant reaches, and who granted it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from integrations.core.errors import Misconfigured, Transient
from integrations.core.ports import Account, Place
from integrations.destinations.jira import oauth
from integrations.destinations.jira.client import JiraClient
from integrations.http import ApiClient

RESOURCES = "/oauth/token/accessible-resources"


def places(open_client: Callable[[str], ApiClient], account: Account, urls: Mapping[str, str]) -> list[Place]:
    """Return the Jira sites with the person behind the grant, who is one for all of them. Raises ConnectorError."""
    sites = [site for site in _resources(open_client(urls["ATLASSIAN_API_URL"].rstrip("/"))) if _is_jira(site)]
    if not sites:
        return []
    there = replace(account, settings={**account.settings, "cloud_id": str(sites[0]["id"])})
    caller = JiraClient(open_client(oauth.base_url(there, urls))).myself()
    if not caller.get("accountId"):
        raise Misconfigured("Atlassian does not tell who consented: allow read:jira-user for the app")
    return [_place(site, str(caller["accountId"]), str(caller.get("displayName") or "")) for site in sites]


# https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/#3-1-get-the-cloudid-for-your-site
def _resources(api: ApiClient) -> list[dict[str, Any]]:
    answer = api.send("GET", RESOURCES)
    if not answer.ok or not isinstance(answer.data, list):
        raise Transient(f"GET {RESOURCES} answered {answer.status} without a list of sites", code="bad_answer")
    return [site for site in answer.data if isinstance(site, dict) and site.get("id")]


def _is_jira(site: Mapping[str, Any]) -> bool:
    # The same grant lists Confluence sites too; their scopes tell them apart.
    return any("jira" in str(scope) for scope in site.get("scopes") or ())


def _place(site: Mapping[str, Any], person: str, person_name: str) -> Place:
    cloud_id = str(site["id"]).lower()
    name = f"{site.get('name') or cloud_id} ({site.get('url') or 'no address'})"
    return Place(cloud_id, name, settings={"cloud_id": cloud_id}, person=person, person_name=person_name)
