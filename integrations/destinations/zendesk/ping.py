"""The ping: a connection passes only when a real resource answers to a real agent with all the scopes."""

from collections.abc import Callable
from contextlib import suppress

from integrations.core.errors import ConnectorError, Misconfigured, Transient
from integrations.core.ports import Check, Plan
from integrations.destinations.zendesk.client import ZendeskClient
from integrations.destinations.zendesk.refusals import right

SCOPE_ADVICE = 'Correct the scope of the connection, "read write" fits always, and the allowed scopes of the OAuth client.'


def ping(client: ZendeskClient, plan: Plan) -> list[Check]:
    """Return one check each for the user, a resource and, with a token, the granted scopes."""
    checks = [
        _checked("credentials", "/api/v2/users/me", lambda: _check_user(client)),
        _checked("organizations", "/api/v2/organizations/count", lambda: _check_organizations(client)),
    ]
    if not _has_token(client):
        return checks
    return [*checks, _checked("scopes", "/api/v2/oauth/tokens/current", lambda: _check_scopes(client, plan))]


def _has_token(client: ZendeskClient) -> bool:
    with suppress(Misconfigured):
        return client.api.auth.headers().get("Authorization", "").startswith("Bearer ")
    return False


def _check_user(client: ZendeskClient) -> Check:
    user = client.me()
    # https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self answers 200 to anybody.
    if user.get("id") is None:
        return Check("credentials", False, "Zendesk sees an anonymous user", "Connect again: the credentials are not accepted.")
    if user.get("role") not in ("admin", "agent"):
        return Check("credentials", False, f"user {user['id']} is {user.get('role')}", "Connect as an admin or an agent.")
    return Check("credentials", True, f"{user.get('name') or 'user'} ({user['id']}), {user['role']}")


def _check_organizations(client: ZendeskClient) -> Check:
    return Check("organizations", True, f"about {client.count_organizations()}")


def _check_scopes(client: ZendeskClient, plan: Plan) -> Check:
    granted = client.scopes()
    lacking = [scope for scope in _needed(plan) if not {scope, scope.split(":")[-1]} & set(granted)]
    if not lacking:
        return Check("scopes", True, " ".join(granted))
    # A misspelt scope still yields a token, which is then refused everywhere.
    return Check("scopes", False, f"granted: {' '.join(granted) or 'nothing'}; lacking: {', '.join(lacking)}", SCOPE_ADVICE)


def _needed(plan: Plan) -> list[str]:
    areas = ["organizations"]
    areas += ["users"] if plan.options.get("contacts", True) else []
    areas += ["custom_objects"] if plan.options.get("invoice_storage", "auto") == "custom_object" else []
    return [f"{area}:{verb}" for area in areas for verb in ("read", "write")]


def _checked(name: str, path: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Misconfigured as error:
        return Check(name, False, str(error), "Correct the connection.")
    except ConnectorError as error:
        # Never the vendor's words: checks are stored and printed.
        advice = f"Needs {right(path)}." if error.code == "forbidden" else "Check the subdomain and connect again."
        return Check(name, False, str(error), "Try again later." if isinstance(error, Transient) else advice)
