"""Contacts: a customer's address becomes a user and a member of the organization; users of other origin stay as they are."""

from contextlib import suppress

from integrations.core.documents import Bound, Document, Written
from integrations.core.errors import Missing, Rejected
from integrations.destinations.zendesk.client import Json, Saved, ZendeskClient


def write(client: ZendeskClient, document: Document, bound: Bound) -> Written:
    """Create or change the user of a customer, and put the user into the organization `bound.parent_id`.

    The facts say whether the user is `ours`, and in which organization we put it.
    """
    saved, facts = _save(client, document, bound)
    if bound.parent_id and facts.get("organization") != bound.parent_id:
        _join(client, saved.id, bound.parent_id)
        facts = {**facts, "organization": bound.parent_id}
    return Written(saved.id, saved.created, facts)


def _save(client: ZendeskClient, document: Document, bound: Bound) -> tuple[Saved, Json]:
    facts, moved = dict(bound.facts), "email" in bound.changed
    if bound.remote_id and "ours" not in facts:
        return _adopt(client, document, bound.remote_id)
    if bound.remote_id and facts.get("ours"):
        with suppress(Missing):
            return client.update_user(bound.remote_id, content(document, with_email=moved)), facts
        return _find_or_create(client, document)
    if bound.remote_id and not moved:
        return Saved(bound.remote_id, False, {}), facts  # somebody else's user: nothing of theirs is ours to change
    return _find_or_create(client, document, not_ours=bound.remote_id)


def _adopt(client: ZendeskClient, document: Document, remote_id: str) -> tuple[Saved, Json]:
    """Take a user that a bulk call made, or a bulk read found by the key: whether it is ours, the user itself shows."""
    rows = client.show_users([remote_id])
    if not rows:
        return _find_or_create(client, document)
    if str(rows[0].get("external_id")).lower() == document.key:
        return _keyed(client, document, rows[0])
    return Saved(remote_id, False, rows[0]), {"ours": False}


def _keyed(client: ZendeskClient, document: Document, user: Json) -> tuple[Saved, Json]:
    """Take a user who carries our key for ours: only users that we make are given one, so an answer got lost.

    What the customer has changed since then is written now.
    """
    moved = not _same(user.get("email"), str(document.fields["email"]))
    if moved or not _says(user, document):
        return client.update_user(str(user["id"]), content(document, with_email=moved)), {"ours": True}
    return Saved(str(user["id"]), False, user), {"ours": True}


def _find_or_create(client: ZendeskClient, document: Document, *, not_ours: str = "") -> tuple[Saved, Json]:
    """Return the user who carries the key or the address, or a new one, with what to remember.

    `not_ours` is the user of another origin who had the customer's former address.
    """
    keyed = client.users_keyed(document.key)
    mine = _only([user for user in keyed if str(user.get("id")) != not_ours], "the key")
    if mine is not None:
        return _keyed(client, document, mine)
    user = _only(_addressed(client, str(document.fields["email"])), "the e-mail address")
    if user is not None:
        return Saved(str(user["id"]), False, user), {"ours": False}
    made = content(document, with_email=True)
    saved = client.upsert_user(_without_key(made) if keyed else made)
    return saved, {"ours": saved.created}


def _addressed(client: ZendeskClient, email: str) -> list[Json]:
    """Return the users who have exactly this address: the search may show others, and their user is not the customer's."""
    return [user for user in client.users_with_email(email) if _has_address(client, user, email)]


def _has_address(client: ZendeskClient, user: Json, email: str) -> bool:
    if _same(user.get("email"), email):
        return True
    with suppress(Missing):  # deleted or merged since the index saw it
        return any(_same(address, email) for address in client.addresses(str(user.get("id"))))
    return False


def _same(one: str | None, other: str) -> bool:
    return (one or "").casefold() == other.casefold()


def _join(client: ZendeskClient, user: str, organization: str) -> None:
    try:
        client.add_membership(user, organization)
    except Rejected as error:
        # 422 says "already a member" and "no such organization" alike.
        if error.code == "forbidden" or organization not in client.memberships(user):
            client.require_organization(organization)
            raise


def content(document: Document, *, with_email: bool) -> Json:
    """Return the members of a user write.

    Never role, custom_role_id or organization_id: they make agents, or take the user out of all other organizations.
    A changed address is added beside the old one, so that mail from both is recognised.
    https://developer.zendesk.com/api-reference/ticketing/users/users/
    """
    standard = {name: document.fields[name] for name in ("name", "phone") if name in document.fields}
    keyed = {**standard, "external_id": document.key}
    return {**keyed, "email": document.fields["email"], "skip_verify_email": True} if with_email else keyed


def _without_key(content: Json) -> Json:
    return {name: value for name, value in content.items() if name != "external_id"}


def _says(user: Json, document: Document) -> bool:
    """Say whether a user looks exactly as we would write it."""
    return all((user.get(name) or None) == document.fields.get(name) for name in ("name", "phone"))


def _only(rows: list[Json], what: str) -> Json | None:
    if len(rows) > 1:
        ids = ", ".join(str(row.get("id")) for row in rows)
        raise Rejected(f"GET /api/v2/users/search: several users have {what}: {ids}", code="ambiguous")
    return rows[0] if rows else None
