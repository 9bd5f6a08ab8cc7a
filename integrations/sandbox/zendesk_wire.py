"""The shapes that all answers of the Zendesk stand-in share: errors, pages, times and addresses."""

import math
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from integrations.sandbox.server import Request, Response

Json = dict[str, Any]

LARGEST_PAGE = 100
DEEPEST_OFFSET = 10_000
LARGEST_BATCH = 100


class RefusedError(Exception):
    """A request that Zendesk does not carry out, with the answer it gives instead."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.response = Response(status, body, headers or {})


def invalid(member: str, description: str, code: str = "InvalidValue") -> RefusedError:
    """Return the 422 for one member that fails validation; whole-record problems go under `base`."""
    details = {member: [{"description": description, "error": code}]}
    return RefusedError(422, {"error": "RecordInvalid", "description": "Record validation errors", "details": details})


def taken(member: str, label: str, value: str) -> RefusedError:
    """Return the 422 for a value that must be unique and is not."""
    return invalid(member, f"{label}: {value} has already been taken", "DuplicateValue")


def forbidden(message: str) -> RefusedError:
    """Return the 403 for a scope, a role or a plan that does not reach far enough."""
    return RefusedError(403, {"error": {"title": "Forbidden", "message": message}})


def not_found() -> RefusedError:
    """Return the 404 for an id that is gone or never was."""
    return RefusedError(404, {"error": "RecordNotFound", "description": "Not found"})


def bad_request(message: str) -> RefusedError:
    """Return the 400 for a body or a parameter of the wrong shape."""
    return RefusedError(400, {"error": {"title": "Invalid attribute", "message": message}})


def too_many_values(description: str = "Parameter  cannot specify more than 100 values") -> RefusedError:
    """Return the 400 for a batch beyond the vendor's 100."""
    return RefusedError(400, {"error": "TooManyValues", "description": description, "max_count": LARGEST_BATCH})


def reason(refused: RefusedError) -> str:
    """Return the words of a refusal as bulk job results print them, with their two spaces after the colon."""
    body = refused.response.body
    if isinstance(body, dict) and "details" in body:
        first: str = next(iter(body["details"].values()))[0]["description"]
        return first.replace(": ", ":  ", 1)
    return str(body)


def stamp(moment: datetime) -> str:
    """Write a time as Zendesk does, in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def address(request: Request, path: str) -> str:
    """Return the absolute address of a path under /api/v2/ on the host that was called."""
    return f"http://{request.host}{request.prefix}/api/v2/{path}.json"


def payload(request: Request) -> Json:
    """Return the JSON object in the body; without a JSON content type the vendor sees no members at all."""
    if "json" not in request.headers.get("content-type", ""):
        return {}
    try:
        body = request.json()
    except ValueError:
        raise bad_request("The body is no valid JSON") from None
    if not isinstance(body, dict):
        raise bad_request("The body must be an object")
    return body


def envelope(request: Request, member: str) -> Json:
    """Return the object under the member that a single write is wrapped in."""
    inner = payload(request).get(member)
    if not isinstance(inner, dict):
        raise bad_request(f"You passed an invalid value for the {member} attribute. Invalid parameter: must be an object")
    return inner


def batch(request: Request, member: str, complaint: str = "") -> list[Json]:
    """Return the 1 to 100 objects of a bulk write."""
    items = payload(request).get(member)
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise bad_request(f"You passed an invalid value for the {member} attribute. Invalid parameter: must be an array of objects")
    if len(items) > LARGEST_BATCH:
        raise too_many_values(complaint) if complaint else too_many_values()
    return items


def listed(request: Request, name: str) -> list[str]:
    """Return the comma-separated values of a query parameter, at most 100."""
    values = [value.strip() for value in request.arg(name).split(",") if value.strip()]
    if len(values) > LARGEST_BATCH:
        raise too_many_values()
    return values


def page(request: Request, name: str, rows: list[Json]) -> Response:
    """Answer one page: the cursor shape when a cursor parameter is there, else the offset shape."""
    if "page[size]" in request.query or "page[after]" in request.query:
        return cursor_page(request, name, rows)
    return offset_page(request, name, rows)


def cursor_page(request: Request, name: str, rows: list[Json]) -> Response:
    """Answer one page with `meta` and `links`."""
    size = _number(request, "page[size]", LARGEST_PAGE)
    if size > LARGEST_PAGE:
        raise RefusedError(400, {"errors": [{"code": "InvalidPaginationParameter", "title": "page[size] must be at most 100"}]})
    start = _number(request, "page[after]", 0)
    more = start + size < len(rows)
    after = str(start + size) if more else None
    meta = {"has_more": more, "after_cursor": after, "before_cursor": str(start) if start else None}
    links = {"next": _next(request, "page[after]", after), "prev": None}
    return Response(200, {name: rows[start : start + size], "meta": meta, "links": links})


def offset_page(request: Request, name: str, rows: list[Json]) -> Response:
    """Answer one page with `next_page` and `count`."""
    number, size = _number(request, "page", 1), min(_number(request, "per_page", LARGEST_PAGE), LARGEST_PAGE)
    if number * size > DEEPEST_OFFSET:
        raise RefusedError(400, {"error": "InvalidPaginationDepth", "description": "Please use cursor pagination"})
    end = number * size
    following = _next(request, "page", str(number + 1) if end < len(rows) else None)
    return Response(200, {name: rows[end - size : end], "next_page": following, "previous_page": None, "count": len(rows)})


def _number(request: Request, name: str, default: int) -> int:
    text = request.arg(name, str(default))
    if not text.isdigit():
        raise bad_request(f"Invalid parameter: {name} must be a number")
    return int(text)


def _next(request: Request, name: str, value: str | None) -> str | None:
    if value is None:
        return None
    query = {key: values[0] for key, values in request.query.items()} | {name: value}
    return f"http://{request.host}{request.prefix}{request.path}.json?{urlencode(query)}"


class Window:
    """Counts what happened to a key in the last seconds."""

    def __init__(self) -> None:
        self.marks: dict[str, list[datetime]] = {}

    def wait(self, key: str, limit: int, seconds: float, *, now: datetime) -> int:
        """Count one more and return 0, or return the whole seconds to wait and count nothing."""
        marks = [mark for mark in self.marks.get(key, []) if mark > now - timedelta(seconds=seconds)]
        self.marks[key] = marks
        if len(marks) < limit:
            marks.append(now)
            return 0
        return max(1, math.ceil(seconds - (now - marks[0]).total_seconds()))

    def left(self, key: str, limit: int) -> int:
        """Return how many more the key had at its last count."""
        return limit - len(self.marks.get(key, []))
