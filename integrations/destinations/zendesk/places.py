"""The account that a new grant reaches, and who granted it."""

from collections.abc import Callable, Mapping

from integrations.core.errors import Misconfigured
from integrations.core.ports import Account, Place
from integrations.destinations.zendesk import oauth
from integrations.destinations.zendesk.client import ZendeskClient
from integrations.http import ApiClient


def places(open_client: Callable[[str], ApiClient], account: Account, urls: Mapping[str, str]) -> list[Place]:
    """Return the one account. Raises Misconfigured for a person who could not work there, ConnectorError."""
    user = ZendeskClient(open_client(oauth.base_url(account, urls))).me()
    # https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self answers 200 to anybody.
    if user.get("id") is None or user.get("role") not in ("admin", "agent"):
        raise Misconfigured("the person who consented is neither an admin nor an agent: sign in at Zendesk as one of these")
    subdomain = account.settings["subdomain"]
    return [Place(subdomain, subdomain, person=str(user["id"]), person_name=str(user.get("name") or ""))]
