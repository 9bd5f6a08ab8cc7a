"""Wave's GraphQL API: one method per question, and one table of how it fails."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.core.errors import ConnectorError, Disconnected, Rejected, Transient
from integrations.http import Answer, ApiClient, retry_after
from integrations.sources.wave import queries

THROTTLE_PAUSE = timedelta(seconds=10)
NOT_FOUND = "NOT_FOUND"

Path = tuple[str, ...]
BUSINESS: Path = ("business",)
INVOICE: Path = ("business", "invoice")
CUSTOMER: Path = ("business", "customer")
OPEN_INVOICES: Path = ("business", "openInvoices")
PAYMENT: Path = ("business", "invoicePayment")


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


@dataclass(frozen=True, slots=True)
class WaveClient:
    """The questions we ask. Ids are GraphQL ids; answers are the JSON members of `data`, null for what does not exist.

    All raise Transient, Disconnected or Rejected("schema_drift").
    """

    api: ApiClient

    def business(self, business: str, *, invoice: str = "", customer: str = "") -> dict[str, Any] | None:
        """Return the business with an invoice (payments included), a customer and their first page of open invoices."""
        query, may_lack = {
            (False, False): (queries.BUSINESS, ()),
            (True, False): (queries.INVOICE, (INVOICE,)),
            (False, True): (queries.CUSTOMER, (CUSTOMER, OPEN_INVOICES)),
            (True, True): (queries.INVOICE_AND_CUSTOMER, (INVOICE, CUSTOMER, OPEN_INVOICES)),
        }[bool(invoice), bool(customer)]
        variables: dict[str, Any] = {"business": business}
        variables |= {"invoice": invoice} if invoice else {}
        variables |= {"customer": customer, "page": 1} if customer else {}
        return _member(self._ask(query, variables, (BUSINESS, *may_lack)), "business")

    def open_invoices(self, business: str, customer: str, page: int) -> dict[str, Any] | None:
        """Return one page of a customer's invoices, the largest amount due first."""
        found = self._ask(queries.OPEN_INVOICES, {"business": business, "customer": customer, "page": page})
        return _member(_member(found, "business"), "openInvoices")

    def changed_customers(self, business: str, after: str, page: int) -> dict[str, Any] | None:
        """Return one page of the customers modified after a moment (ISO 8601), the oldest change first."""
        return self._changed(queries.CHANGED_CUSTOMERS, "customers", {"business": business, "after": after, "page": page})

    def changed_invoices(self, business: str, after: str, page: int) -> dict[str, Any] | None:
        """Return one page of the invoices modified after a moment (ISO 8601), the oldest change first."""
        return self._changed(queries.CHANGED_INVOICES, "invoices", {"business": business, "after": after, "page": page})

    def _changed(self, query: str, name: str, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        return _member(_member(self._ask(query, variables), "business"), name)

    def invoice_of_payment(self, business: str, payment: str) -> str:
        """Return the GraphQL id of the invoice that a payment belongs to, empty when there is no such payment."""
        found = self._ask(queries.INVOICE_OF_PAYMENT, {"business": business, "payment": payment}, (PAYMENT,))
        invoice = _member(_member(_member(found, "business"), "invoicePayment"), "invoice")
        return str((invoice or {}).get("id") or "")

    def user(self) -> dict[str, Any]:
        """Return the user behind the token."""
        return _member(self._ask(queries.USER, {}), "user") or {}

    def businesses(self) -> list[dict[str, Any]]:
        """Return all businesses that the token reaches, archived ones too."""
        found: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            answer = _member(self._ask(queries.BUSINESSES, {"page": page}), "businesses") or {}
            found += nodes(answer)
            page, pages = page + 1, (_member(answer, "pageInfo") or {}).get("totalPages") or 1
        return found

    def first_customer(self, business: str) -> None:
        """Ask for one customer, to see whether we may (customer:read)."""
        self._ask(queries.CUSTOMERS_PAGE, {"business": business})

    def first_invoice(self, business: str) -> None:
        """Ask for one invoice, to see whether we may (invoice:read)."""
        self._ask(queries.INVOICES_PAGE, {"business": business})

    def _ask(self, query: str, variables: Mapping[str, Any], may_lack: Collection[Path] = ()) -> dict[str, Any]:
        # https://developer.waveapps.com/hc/en-us/articles/360018856751 (POST, Bearer token)
        answer = self.api.send("POST", "", body={"query": query, "variables": dict(variables)})
        call = f"POST graphql {query.split(maxsplit=2)[1].partition('(')[0]}: {answer.status}"
        _raise_for_status(call, answer)
        failures = [error for error in _errors(answer.data) if not _is_lack(error, may_lack)]
        if failures:
            raise _failure(call, failures)
        if not answer.ok:
            raise Transient(f"{call} {UNKNOWN.words}", code=UNKNOWN.code, words=answer.text)
        return _data(call, answer)


def nodes(connection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a page."""
    return [edge["node"] for edge in connection.get("edges") or () if edge and edge.get("node")]


def _member(parent: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
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
