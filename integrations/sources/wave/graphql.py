"""One GraphQL request to Wave: its answer's data, and one table of how it fails."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.core.errors import ConnectorError, Disconnected, Rejected, Transient
from integrations.http import Answer, ApiClient, retry_after

THROTTLE_PAUSE = timedelta(seconds=10)
NOT_FOUND = "NOT_FOUND"

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A known GraphQL error code: which failure it is, under which of our codes, in our words."""

    error: type[ConnectorError]
    code: str
    words: str


UNKNOWN = Case(Transient, "unknown_error", "an error that we do not know")

# Closed by default: a code that is not here is UNKNOWN. The first row that fits any error of an answer decides.
CASES: Mapping[str, Case] = {
    # Comes with HTTP 200; here only after the 401 rule has renewed the token in vain.
    "UNAUTHENTICATED": Case(Disconnected, "unauthenticated", "the access token is refused, even renewed"),
    # Documents are validated before the token is looked at: our document is wrong, and stays so.
    "GRAPHQL_VALIDATION_FAILED": Case(Rejected, "schema_drift", "the schema does not take our document"),
    # Our variables are wrong: an id or a date in another form than we send.
    "BAD_USER_INPUT": Case(Rejected, "schema_drift", "our variables are refused"),
    "VARIABLE_VALUE": Case(Rejected, "schema_drift", "our variables are refused"),
    # Reported to pass; reads are safe to repeat.
    "INTERNAL_SERVER_ERROR": Case(Transient, "server_error", "an error inside Wave"),
}


def unauthorized(answer: Answer) -> bool:
    """Tell whether the token was refused: Wave says so with HTTP 200 too."""
    return answer.status == 401 or any(_code(error) == "UNAUTHENTICATED" for error in _errors(answer.data))


def ask(api: ApiClient, query: str, variables: Mapping[str, Any], may_lack: Collection[Path] = ()) -> dict[str, Any]:
    """Send a document and return `data`, where what stands at the paths `may_lack` may not exist.

    Raises Transient, Disconnected or Rejected("schema_drift").
    """
    return ask_many(api, query, variables, may_lack, {})[0]


def ask_many(
    api: ApiClient, query: str, variables: Mapping[str, Any], may_lack: Collection[Path], apart: Mapping[Path, str]
) -> tuple[dict[str, Any], dict[str, ConnectorError]]:
    """Send a document and return `data` and what failed at the paths `apart`, by the names that these give them.

    Errors elsewhere, and errors that name no path, concern everything and are raised as by `ask`.
    """
    # https://developer.waveapps.com/hc/en-us/articles/360018856751 (POST, Bearer token)
    answer = api.send("POST", "", body={"query": query, "variables": dict(variables)})
    call = f"POST graphql {query.split(maxsplit=2)[1].partition('(')[0]}: {answer.status}"
    _raise_for_status(call, answer)
    failures: dict[str, list[dict[str, Any]]] = {}
    for error in _errors(answer.data):
        if not _is_lack(error, may_lack):
            failures.setdefault(_place(error, apart), []).append(error)
    if "" in failures:
        raise _failure(call, failures[""])
    if not answer.ok:
        raise Transient(f"{call} {UNKNOWN.words}", code=UNKNOWN.code, words=answer.text)
    return _data(call, answer), {name: _failure(call, errors) for name, errors in failures.items()}


def nodes(connection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a page."""
    return [edge["node"] for edge in connection.get("edges") or () if edge and edge.get("node")]


def member(parent: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Return the object that is a member of another, None where there is none."""
    found = (parent or {}).get(name)
    return found if isinstance(found, dict) else None


def _raise_for_status(call: str, answer: Answer) -> None:
    if unauthorized(answer):
        raise _failed(call, CASES["UNAUTHENTICATED"], _words(_errors(answer.data)))
    if answer.status == 429:
        until = retry_after(answer.headers) or datetime.now(UTC) + THROTTLE_PAUSE
        raise Transient(f"{call} too many requests", code="rate_limited", not_before=until, scope="connection")
    if answer.status >= 500:
        wait = retry_after(answer.headers)
        raise Transient(f"{call} Wave is down", code="server_error", not_before=wait, scope="connection" if wait else "")


def _data(call: str, answer: Answer) -> dict[str, Any]:
    """Return `data`; an HTML page and a cut body come with status 200 as well."""
    told = answer.data if isinstance(answer.data, dict) else {}
    if isinstance(told.get("data"), dict):
        return dict(told["data"])
    if _errors(told) and told.get("data") is None:
        return {}
    raise Transient(f"{call} the answer is no GraphQL", code="bad_answer", words=answer.text[:200])


def _failure(call: str, failures: list[dict[str, Any]]) -> ConnectorError:
    codes = [_code(error) for error in failures]
    # Next to an error that we do not know, one that no repetition mends still decides; the other order would hide it.
    case = next((case for code, case in CASES.items() if code in codes), UNKNOWN)
    return _failed(call, case, _words(failures))


def _failed(call: str, case: Case, words: str) -> ConnectorError:
    return case.error(f"{call} {case.words}", code=case.code, words=words)


def _is_lack(error: Mapping[str, Any], may_lack: Collection[Path]) -> bool:
    """Tell whether an error only says that a record asked for does not exist.

    One whose path leads deeper is something else: an invoice whose customer cannot be found is not gone.
    """
    code, message, path = _code(error), str(error.get("message", "")), error.get("path")
    if code != NOT_FOUND and (code or "could not be found" not in message):
        return False
    return bool(may_lack) and (not path or (isinstance(path, list) and tuple(path) in may_lack))


def _place(error: Mapping[str, Any], apart: Mapping[Path, str]) -> str:
    """Return the name of the part that an error lies in, "" when it lies in none."""
    path = error.get("path")
    if not isinstance(path, list):
        return ""
    return next((name for start, name in apart.items() if tuple(path[: len(start)]) == start), "")


def _errors(data: Any) -> list[dict[str, Any]]:
    found = data.get("errors") if isinstance(data, dict) else None
    return [error for error in found if isinstance(error, dict)] if isinstance(found, list) else []


def _code(error: Mapping[str, Any]) -> str:
    extensions = error.get("extensions")
    return str(extensions.get("code") or "") if isinstance(extensions, dict) else ""


def _words(errors: list[dict[str, Any]]) -> str:
    """Return what Wave said, with the id that its support asks for."""
    lines = []
    for error in errors:
        extensions = error.get("extensions")
        number = extensions.get("id", "") if isinstance(extensions, dict) else ""
        lines.append(f"{_code(error)} {error.get('message', '')} {number}".strip())
    return "\n".join(lines)
