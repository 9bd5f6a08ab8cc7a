"""Records of custom objects: single writes, upserts, bulk jobs, search, and the way back from an organization."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import ACTING_USER, Account
from integrations.sandbox.zendesk_jobs import Jobs, Step
from integrations.sandbox.zendesk_objects import CustomObject, CustomObjects, Record, record_with
from integrations.sandbox.zendesk_organizations import Organizations, external_id_of
from integrations.sandbox.zendesk_wire import (
    LARGEST_BATCH,
    Json,
    RefusedError,
    address,
    bad_request,
    cursor_page,
    envelope,
    invalid,
    listed,
    not_found,
    payload,
    reason,
    taken,
    too_many_values,
)

KNOWN = frozenset({"name", "external_id", "custom_object_fields"})
LARGEST_RECORD = 32 * 1024  # bytes
STANDARD = ("created_at", "updated_at", "name", "external_id")
WRITES = ("create", "update", "create_or_update_by_external_id", "create_or_update_by_name")
DELETES = ("delete", "delete_by_external_id")
SORTS = ("id", "-id", "updated_at", "-updated_at")


class Records:
    """Everything under /custom_objects/{key}/records and /jobs."""

    def __init__(self, account: Account, jobs: Jobs, objects: CustomObjects, organizations: Organizations) -> None:
        self.account = account
        self.jobs = jobs
        self.objects = objects
        self.organizations = organizations
        base = r"/api/v2/custom_objects/(\w+)/records"
        account.route("GET", base, self.list_all)
        account.route("POST", base, self.post)
        account.route("PATCH", base, self.upsert)
        account.route("DELETE", base, self.delete_by_external_id)
        account.route("GET", f"{base}/count", self.count)
        account.route("POST", f"{base}/search", self.search)
        account.route("GET", f"{base}/([^/]+)", self.get)
        account.route("PATCH", f"{base}/([^/]+)", self.patch)
        account.route("DELETE", f"{base}/([^/]+)", self.delete)
        account.route("POST", r"/api/v2/custom_objects/(\w+)/jobs", self.start_job)
        colon = "(?::|%3A)"
        account.route(
            "GET",
            rf"/api/v2/zen{colon}organization/(\d+)/relationship_fields/(\d+)/zen{colon}custom_object{colon}(\w+)",
            self.list_pointing_back,
        )

    # Rows

    def find(self, custom_object: CustomObject, record_id: str) -> Record:
        """Return a record by id; raise 404."""
        if record_id not in custom_object.records:
            raise not_found()
        return custom_object.records[record_id]

    def by_external_id(self, custom_object: CustomObject, external_id: str | None) -> Record | None:
        """Return the record with exactly this external id, case included."""
        return record_with(custom_object, lambda record: external_id and record.external_id == external_id)

    def by_name(self, custom_object: CustomObject, name: str | None) -> Record | None:
        """Return the record with this name; raise 400 where names are not unique."""
        if not custom_object.name_rules()["is_unique"]:
            raise bad_request("Names of this custom object are not unique")
        return record_with(custom_object, lambda record: record.name == name)

    def create(self, custom_object: CustomObject, body: Json) -> Record:
        """Add a record; raise 422 and change nothing when a member does not fit."""
        changes = self._checked(custom_object, body, None)
        name = changes["name"] if "name" in changes else _next_number(custom_object)
        now = self.account.now()
        record = Record(self.account.new_record_id(), name, changes.get("external_id"), changes.get("values", {}), now, now)
        custom_object.records[record.id] = record
        return record

    def update(self, custom_object: CustomObject, record: Record, body: Json) -> Record:
        """Change only the sent attributes and fields."""
        changes = self._checked(custom_object, body, record)
        record.name = changes.get("name", record.name)
        record.external_id = changes.get("external_id", record.external_id)
        record.values |= changes.get("values", {})
        record.updated_at = self.account.now()
        return record

    def _checked(self, custom_object: CustomObject, body: Json, record: Record | None) -> Json:
        self.account.report("record", body, known=KNOWN | {"id"})
        changes: Json = {}
        numbered = custom_object.name_rules()["autoincrement_enabled"]
        if numbered and "name" in body:
            raise invalid("name", "Name: is numbered automatically and may not be sent")
        if "name" in body or (record is None and not numbered):
            changes["name"] = self._free_name(custom_object, body.get("name"), record)
        if "external_id" in body:
            changes["external_id"] = self._free_external_id(custom_object, external_id_of(body), record)
        if body.get("custom_object_fields") is not None:
            changes["values"] = custom_object.fields.clean(body["custom_object_fields"])
            if len(json.dumps(changes["values"]).encode()) > LARGEST_RECORD:
                raise invalid("base", "Record: is larger than 32 KB", "RecordTooLarge")
        return changes

    def _free_name(self, custom_object: CustomObject, name: Any, record: Record | None) -> str:
        if not isinstance(name, str) or not name.strip():
            raise invalid("name", "Name: cannot be blank", "BlankValue")
        if custom_object.name_rules()["is_unique"] and record_with(custom_object, lambda other: other is not record and other.name == name):
            raise taken("name", "Name", name)
        return name

    def _free_external_id(self, custom_object: CustomObject, external_id: str | None, record: Record | None) -> str | None:
        other = self.by_external_id(custom_object, external_id)
        if external_id and other is not None and other is not record:
            raise taken("external_id", "External", external_id)
        return external_id

    def pointing_to(self, custom_object: CustomObject, target: str, value: str) -> list[Record]:
        """Return the records with a lookup to this object, e.g. of zen:organization."""
        keys = [definition.key for definition in custom_object.fields.rows.values() if definition.target == target]
        return [record for record in custom_object.records.values() if any(record.values.get(key) == value for key in keys)]

    def shown(self, request: Request, custom_object: CustomObject, record: Record) -> Json:
        """Return a record as the API answers it."""
        return {
            "id": record.id,
            "url": address(request, f"custom_objects/{custom_object.key}/records/{record.id}"),
            "name": record.name,
            "external_id": record.external_id,
            "custom_object_key": custom_object.key,
            "custom_object_fields": custom_object.fields.shown(record.values),
            "created_at": record.created_at,
            "updated_at": record.updated_at,
            "created_by_user_id": str(ACTING_USER),
            "updated_by_user_id": str(ACTING_USER),
        }

    def _answer(self, request: Request, custom_object: CustomObject, record: Record, *, status: int = 200) -> Response:
        return Response(status, {"custom_object_record": self.shown(request, custom_object, record)})

    def _page(self, request: Request, custom_object: CustomObject, records: list[Record]) -> Response:
        return cursor_page(request, "custom_object_records", [self.shown(request, custom_object, record) for record in records])

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_records/

    def list_all(self, request: Request, key: str) -> Response:
        """Answer a page of all records, or of those with the filtered external ids, case included."""
        custom_object = self.objects.find(key)
        records = list(custom_object.records.values())
        if "filter[external_ids]" in request.query:
            keys = listed(request, "filter[external_ids]")
            records = [record for record in records if record.external_id in keys]
        if "filter[ids]" in request.query:
            ids = listed(request, "filter[ids]")
            records = [record for record in records if record.id in ids]
        return self._page(request, custom_object, _sorted(request, records))

    def post(self, request: Request, key: str) -> Response:
        """Create one."""
        custom_object = self.objects.find(key)
        record = self.create(custom_object, envelope(request, "custom_object_record"))
        return self._answer(request, custom_object, record, status=201)

    def upsert(self, request: Request, key: str) -> Response:
        """Create or change the one with the external id, or with the unique name, of the query."""
        custom_object, body = self.objects.find(key), envelope(request, "custom_object_record")
        if bool(request.arg("external_id")) == bool(request.arg("name")):
            raise bad_request("Exactly one of external_id and name is required")
        member = "external_id" if request.arg("external_id") else "name"
        if body.get(member, request.arg(member)) != request.arg(member):
            raise bad_request(f"{member} of the query and of the body differ")
        record = self._upserted(custom_object, member, body | {member: request.arg(member)})
        return self._answer(request, custom_object, record)

    def _upserted(self, custom_object: CustomObject, member: str, body: Json) -> Record:
        find = self.by_external_id if member == "external_id" else self.by_name
        record = find(custom_object, body[member])
        return self.create(custom_object, body) if record is None else self.update(custom_object, record, body)

    def get(self, request: Request, key: str, record_id: str) -> Response:
        """Read one."""
        custom_object = self.objects.find(key)
        return self._answer(request, custom_object, self.find(custom_object, record_id))

    def patch(self, request: Request, key: str, record_id: str) -> Response:
        """Change one."""
        custom_object = self.objects.find(key)
        record = self.update(custom_object, self.find(custom_object, record_id), envelope(request, "custom_object_record"))
        return self._answer(request, custom_object, record)

    def delete(self, request: Request, key: str, record_id: str) -> Response:
        """Delete one."""
        custom_object = self.objects.find(key)
        del custom_object.records[self.find(custom_object, record_id).id]
        return Response(204)

    def delete_by_external_id(self, request: Request, key: str) -> Response:
        """Delete the one with the external id of the query."""
        self._drop(self.objects.find(key), request.arg("external_id"))
        return Response(204)

    def _drop(self, custom_object: CustomObject, external_id: str) -> str:
        record = self.by_external_id(custom_object, external_id)
        if record is None:
            raise not_found()
        del custom_object.records[record.id]
        return record.id

    def count(self, request: Request, key: str) -> Response:
        """Answer the number of records."""
        return Response(200, {"count": {"value": len(self.objects.find(key).records), "refreshed_at": self.account.now()}})

    def search(self, request: Request, key: str) -> Response:
        """Find by filter and by words in the name, in an index that lags."""
        custom_object = self.objects.find(key)
        wanted = payload(request).get("filter")
        if not isinstance(wanted, dict | None):
            raise bad_request("filter must be an object")
        words = request.arg("query").casefold()
        found = [
            record
            for record in custom_object.records.values()
            if self._indexed(record) and words in record.name.casefold() and (wanted is None or _accepts(wanted, record))
        ]
        return self._page(request, custom_object, _sorted(request, found))

    def _indexed(self, record: Record) -> bool:
        written = datetime.strptime(record.updated_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        return not self.account.search_lag or self.account.clock() - written >= timedelta(seconds=self.account.search_lag)

    # https://developer.zendesk.com/api-reference/custom-data/custom-objects/custom_object_record_bulk_jobs/

    def start_job(self, request: Request, key: str) -> Response:
        """Do the same to up to 100 records, later."""
        custom_object = self.objects.find(key)
        job = envelope(request, "job")
        action, items = job.get("action"), job.get("items")
        shape = dict if action in WRITES else str
        if action not in (*WRITES, *DELETES) or not isinstance(items, list) or not all(isinstance(item, shape) for item in items):
            raise bad_request("You passed an invalid value for the action or items attribute")
        if len(items) > LARGEST_BATCH:
            raise too_many_values()
        return self.jobs.start(f"{action} {key}", [self._step(custom_object, action, item) for item in items], status=201)

    def _step(self, custom_object: CustomObject, action: str, item: Any) -> Step:
        def step(index: int) -> Json:
            try:
                status, record_id = self._act(custom_object, action, item)
            except RefusedError as refused:
                return {"index": index, "action": action, "error": "RecordFailed", "details": reason(refused), "success": False}
            return {"index": index, "action": action, "id": record_id, "status": status, "success": True}

        return step

    def _act(self, custom_object: CustomObject, action: str, item: Any) -> tuple[str, str]:
        if action == "create":
            return "Created", self.create(custom_object, item).id
        if action == "update":
            return "Updated", self.update(custom_object, self.find(custom_object, item.get("id", "")), item).id
        if action == "delete":
            del custom_object.records[self.find(custom_object, item).id]
            return "Deleted", item
        if action == "delete_by_external_id":
            return "Deleted", self._drop(custom_object, item)
        return self._act_by(custom_object, action.removeprefix("create_or_update_by_"), item)

    def _act_by(self, custom_object: CustomObject, member: str, item: Json) -> tuple[str, str]:
        if not isinstance(item.get(member), str) or not item[member]:
            raise invalid(member, f"{member}: cannot be blank", "BlankValue")
        before = len(custom_object.records)
        record = self._upserted(custom_object, member, item)
        return ("Created" if len(custom_object.records) > before else "Updated"), record.id

    # https://developer.zendesk.com/api-reference/ticketing/lookup_relationships/lookup_relationships/

    def list_pointing_back(self, request: Request, organization_id: str, field_id: str, key: str) -> Response:
        """Answer the records that point to an organization through one lookup field."""
        custom_object = self.objects.find(key)
        definition = custom_object.fields.find(field_id)
        self.organizations.find(organization_id)
        if definition.target != "zen:organization":
            raise not_found()
        found = [record for record in custom_object.records.values() if record.values.get(definition.key) == organization_id]
        return self._page(request, custom_object, found)


def _next_number(custom_object: CustomObject) -> str:
    rules = custom_object.name_rules()
    number = rules["autoincrement_next_sequence"]
    rules["autoincrement_next_sequence"] = number + 1
    return f"{rules['autoincrement_prefix']}{number:0{rules['autoincrement_padding']}d}"


def _sorted(request: Request, records: list[Record]) -> list[Record]:
    sort = request.arg("sort", "id")
    if sort not in SORTS:
        raise bad_request(f"sort must be one of {', '.join(SORTS)}")
    return sorted(records, key=lambda record: (getattr(record, sort.lstrip("-")), record.id), reverse=sort.startswith("-"))


def _accepts(wanted: Json, record: Record) -> bool:
    results = []
    for name, condition in wanted.items():
        if name in ("$and", "$or"):
            parts = [_accepts(part, record) for part in condition]
            results.append(all(parts) if name == "$and" else any(parts))
        elif isinstance(condition, dict) and set(condition) == {"$eq"}:
            results.append(_attribute(record, name) == condition["$eq"])
        else:
            raise bad_request(f"The filter on {name} is not supported by the sandbox; use $eq")
    return all(results)


def _attribute(record: Record, name: str) -> Any:
    if name.startswith("custom_object_fields."):
        return record.values.get(name.removeprefix("custom_object_fields."))
    if name not in STANDARD:
        raise bad_request(f"{name} is not an attribute of a record")
    return getattr(record, name)
