"""Write many of Zendesk's objects in one call, carried out as a job, and tell which of them are surely written.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from integrations.core.documents import Bound, Bulk, Document, Written
from integrations.core.errors import Rejected
from integrations.destinations.zendesk.client import Json, ZendeskClient
from integrations.destinations.zendesk.contacts import content as user_content
from integrations.destinations.zendesk.mapping import INVOICE, ORGANIZATION, PAYMENT, USER, Types, record_content
from integrations.destinations.zendesk.organizations import Organizations

MOST = {ORGANIZATION: 100, USER: 100, INVOICE: 100, PAYMENT: 100}
UPDATES = frozenset({ORGANIZATION, INVOICE, PAYMENT})  # which of these users are ours is decided one by one
UPSERTS = frozenset({INVOICE, PAYMENT})
REFUSALS = ("forbidden", "missing")  # of the account, not of what was sent
ENDED = ("completed", "failed", "killed")
Item = tuple[Document, Bound]


@dataclass(frozen=True, slots=True)
class BulkWriter:
    """Starts jobs and reads how they stand; `objects` are the fields of our custom objects, by document kind."""

    client: ZendeskClient
    organizations: Organizations
    objects: Mapping[str, Types]

    def start(self, kind: str, items: Sequence[Item]) -> Bulk:
        """Start a job for documents that all have a remote id, or none. Raises Rejected `bulk_refused` or `bulk_failed`, Transient."""
        sent = {document.key: bound.remote_id for document, bound in items}
        known = set(map(bool, sent.values()))
        if len(known) != 1:
            raise ValueError("a bulk call takes documents that all have a remote id, or that all have none")
        try:
            job = self._job(kind, items, update=known == {True})
        except Rejected as error:
            # One item may have been refused for all: alone each gets an answer of its own.
            code = "bulk_refused" if error.code in REFUSALS else "bulk_failed"
            raise Rejected(f"{error}: they are written one by one", code=code, words=error.words) from error
        return read(Bulk(str(job["id"]), kind, sent=sent), job)

    def _job(self, kind: str, items: Sequence[Item], *, update: bool) -> Json:
        if kind == ORGANIZATION:
            contents = [self.organizations.content(document, bound)[0] for document, bound in items]
            ids = [{"id": int(bound.remote_id)} for _, bound in items if update]
            return self.client.update_organizations(_merged(contents, ids)) if update else self.client.create_organizations(contents)
        if kind == USER:
            return self._users(items, update=update)
        return self.client.upsert_records(kind, [record_content(document, self.objects.get(kind, {})) for document, _ in items])

    def _users(self, items: Sequence[Item], *, update: bool) -> Json:
        """Create users; never create_or_update_many: it takes over whoever has the address, under the customer's name."""
        if update:
            raise ValueError("which of these users are ours is decided one by one")
        # On a user that does not exist yet organization_id takes nobody out of another organization.
        homes = [{"organization_id": int(bound.parent_id)} if bound.parent_id else {} for _, bound in items]
        contents = [user_content(document, with_email=True) for document, _ in items]
        return self.client.create_users(_merged(contents, homes))

    def follow(self, bulk: Bulk) -> Bulk:
        """Ask how a job stands. Raises Missing for one that Zendesk knows no more, a day after it began."""
        return bulk if bulk.done else read(bulk, self.client.job(bulk.id))


def _merged(contents: Sequence[Json], ids: Sequence[Json]) -> list[Json]:
    return [{**one, **content} for one, content in zip(ids, contents, strict=True)]


# --- What a job's status proves ---------------------------------------------------------------------------------------
def read(bulk: Bulk, job: Json) -> Bulk:
    """Return what a job's status says of the documents.

    A job with failed items is still `completed`, and results do not keep to the order of the items: only one that names
    an id which we sent, or carries our key, says what became of a document. All else is unknown and to be observed.
    """
    progress = job.get("progress")
    told = replace(bulk, progress=progress if isinstance(progress, int) else None)
    if job.get("status") not in ENDED:
        return told
    written = _written(bulk, [row for row in job.get("results") or [] if isinstance(row, dict)] if _listed(job) else [])
    return replace(told, done=True, written=written, unknown=frozenset(bulk.sent) - written.keys())


def _listed(job: Json) -> bool:
    return isinstance(job.get("results"), list)


def _written(bulk: Bulk, rows: Sequence[Json]) -> dict[str, Written]:
    keys = {remote_id: key for key, remote_id in bulk.sent.items() if remote_id}
    failed = {str(row.get("id")) for row in rows if not _succeeded(row)}
    found = {}
    for row in rows:
        remote_id = str(row.get("id") or "")
        carried = str(row.get("external_id") or "").lower()
        key = carried if carried in bulk.sent else keys.get(remote_id, "")
        if key and _succeeded(row) and remote_id and remote_id not in failed:
            found[key] = Written(remote_id, created=not bulk.sent[key])
    if len(bulk.sent) != len(rows) or not all(map(_succeeded, rows)):
        return found
    # None failed, so each update did what its id said, and each new record is there under its key, whatever its id.
    if bulk.kind not in UPSERTS:
        return {key: Written(remote_id) for remote_id, key in keys.items()} if len(keys) == len(rows) else found
    if any(row.get("external_id") and str(row["external_id"]).lower() not in bulk.sent and str(row.get("id")) not in keys for row in rows):
        return found
    # One with an id that no result names was deleted there, and is another record now.
    return {key: Written("", created=True) for key, remote_id in bulk.sent.items() if not remote_id} | found


def _succeeded(row: Mapping[str, Any]) -> bool:
    return not row.get("error") and row.get("success", True) is True
