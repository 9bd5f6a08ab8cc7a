"""Organizations: found by their key, under a name that no other organization has."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from integrations.core.documents import Bound, Document, Written
from integrations.core.errors import Missing, Rejected, Transient
from integrations.core.records import number_of
from integrations.destinations.zendesk.client import Json, Saved, ZendeskClient
from integrations.destinations.zendesk.mapping import Types, organization_content, suffixed

INDEX_LAG = timedelta(seconds=60)  # how long to wait for a search to see what was just written


@dataclass(frozen=True, slots=True)
class Organizations:
    """Writes organizations; `numbers` tells customers of one name apart, by key."""

    client: ZendeskClient
    types: Types
    numbers: Mapping[str, str]

    def content(self, document: Document, bound: Bound) -> tuple[Json, Json]:
        """Return the members of a write, and what we remember of its name where that had to be changed."""
        content = organization_content(document, self.types)
        facts = _name_facts(bound, str(document.fields.get("name") or ""))
        return content | ({"name": facts["written_name"]} if facts else {}), facts

    def write(self, document: Document, bound: Bound) -> Written:
        """Create or replace one organization; one whose name another Wave customer has gets the number behind it."""
        content, facts = self.content(document, bound)
        try:
            saved = self._save(content, bound)
        except Rejected as error:
            if error.code != "name_taken":
                raise
            content["name"] = self._free_name(document, content["name"], error)
            facts = {"wanted_name": str(document.fields.get("name") or ""), "written_name": content["name"]}
            saved = self._save_renamed(document, content, bound)
        return Written(saved.id, saved.created, facts, notes=("name_suffixed",) if facts else ())

    def _save(self, content: Json, bound: Bound) -> Saved:
        if bound.remote_id:
            with suppress(Missing):  # deleted or merged away: the key finds or makes its successor
                return self.client.update_organization(bound.remote_id, content)
        return self.client.upsert_organization(content)

    def _save_renamed(self, document: Document, content: Json, bound: Bound) -> Saved:
        try:
            return self._save(content, bound)
        except Rejected as error:
            raise self._name_taken(document, [], error) if error.code == "name_taken" else error from error

    def _free_name(self, document: Document, name: str, error: Rejected) -> str:
        """Return a free name where other Wave customers have this one; refuse to touch anybody else's organization."""
        holders = self.client.organizations_named(name)
        number = self.numbers.get(document.key) or number_of(document.key)
        ours = all(str(holder.get("external_id") or "").lower().startswith("wave:") for holder in holders)
        if not holders:
            # The search lags behind the check of the name: most likely we made the holder just now, for another customer.
            raise Transient(
                f"{error}; no search shows by whom yet",
                code="name_taken_unseen",
                words=error.words,
                not_before=datetime.now(UTC) + INDEX_LAG,
                unsent=True,
            ) from error
        if not ours:
            raise self._name_taken(document, holders, error)
        return suffixed(str(document.fields["name"]), number)

    def _name_taken(self, document: Document, holders: Sequence[Json], error: Rejected) -> Rejected:
        links = " ".join(f"{self.client.api.base_url}/agent/organizations/{holder.get('id')}" for holder in holders)
        advice = f"rename the customer in Wave or that organization in Zendesk, or set its external id to {document.key} to adopt it"
        return Rejected(f"{error}: {advice}", code="name_taken", words=f"{links} {error.words}".strip())


def _name_facts(bound: Bound, wanted: str) -> Json:
    """Return what we remember of a name that had to be changed, as long as the same one is wanted."""
    if bound.facts.get("wanted_name") != wanted:
        return {}
    return {"wanted_name": wanted, "written_name": bound.facts["written_name"]}
