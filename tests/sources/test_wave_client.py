from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import responses
import time_machine

from integrations.core.errors import ConnectorError, Disconnected, Rejected, Transient
from integrations.http import Answer, ApiClient
from integrations.sources.wave import queries
from integrations.sources.wave.client import WaveClient
from integrations.sources.wave.graphql import CASES, THROTTLE_PAUSE, unauthorized

URL = "https://gql.waveapps.com/graphql/public"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Token:
    """Credentials that can be renewed `renewals` times."""

    def __init__(self, renewals: int = 0) -> None:
        self.number = 1
        self.renewals = renewals

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer canary-{self.number}"}

    def renew(self, stale: dict[str, str]) -> bool:
        if self.number > self.renewals:
            return False
        self.number += 1
        return True


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock, time_machine.travel(NOW, tick=False):
        yield mock


def wave(token: Token | None = None) -> WaveClient:
    return WaveClient(ApiClient(URL, token or Token(), requests.Session(), unauthorized=unauthorized))


def error(code: str, path: list[Any] | None = None, message: str = "Ada owes 5") -> dict[str, Any]:
    return {"message": message, "path": path, "extensions": {"code": code, "id": "support-id"}}


def failure(http: responses.RequestsMock, **answer: Any) -> ConnectorError:
    http.post(URL, **answer)
    with pytest.raises(ConnectorError) as caught:
        wave().business("B", invoice="I")
    return caught.value


def facts(found: ConnectorError) -> tuple[Any, ...]:
    return type(found), found.code, getattr(found, "scope", None), getattr(found, "not_before", None)


TABLE = {
    "UNAUTHENTICATED": (Disconnected, "unauthenticated"),
    "GRAPHQL_VALIDATION_FAILED": (Rejected, "schema_drift"),
    "BAD_USER_INPUT": (Rejected, "schema_drift"),
    "VARIABLE_VALUE": (Rejected, "schema_drift"),
    "INTERNAL_SERVER_ERROR": (Transient, "server_error"),
}


def test_every_known_code_is_tried() -> None:
    assert list(TABLE) == list(CASES)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("code", TABLE)
def test_known_code_decides(http: responses.RequestsMock, code: str, status: int) -> None:
    found = failure(http, status=status, json={"errors": [error(code)], "data": None})
    assert (type(found), found.code, found.words) == (*TABLE[code], f"{code} Ada owes 5 support-id")
    assert str(found) == f"POST graphql Invoice: {status} {CASES[code].words}"


SOON = NOW + timedelta(seconds=10)
INVOICE_PATH = ["business", "invoice"]
UNDECIDED: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "unknown code": ({"json": {"errors": [error("TEAPOT")], "data": None}}, (Transient, "unknown_error", "", None)),
    "no code": ({"json": {"errors": [{"message": "?"}]}}, (Transient, "unknown_error", "", None)),
    "strange extensions": ({"json": {"errors": [{"extensions": ["x"]}], "data": None}}, (Transient, "unknown_error", "", None)),
    "partial data": (
        {"json": {"errors": [error("TEAPOT", INVOICE_PATH)], "data": {"business": {"invoice": None}}}},
        (Transient, "unknown_error", "", None),
    ),
    "not found next to another error": (
        {"json": {"errors": [error("NOT_FOUND", INVOICE_PATH), error("TEAPOT")], "data": {"business": None}}},
        (Transient, "unknown_error", "", None),
    ),
    "not found inside the invoice": (
        {"json": {"errors": [error("NOT_FOUND", [*INVOICE_PATH, "customer"])], "data": {"business": {"invoice": None}}}},
        (Transient, "unknown_error", "", None),
    ),
    "HTTP 403": ({"status": 403, "json": {"error": "forbidden"}}, (Transient, "unknown_error", "", None)),
    "HTTP 404": ({"status": 404, "body": "no"}, (Transient, "unknown_error", "", None)),
    "redirect": ({"status": 302, "headers": {"Location": "https://elsewhere.example/"}}, (Transient, "unknown_error", "", None)),
    "HTTP 401": ({"status": 401, "json": {}}, (Disconnected, "unauthenticated", None, None)),
    "HTTP 429": ({"status": 429, "json": {}}, (Transient, "rate_limited", "connection", SOON)),
    "HTTP 429 with a time": (
        {"status": 429, "json": {}, "headers": {"Retry-After": "37"}},
        (Transient, "rate_limited", "connection", NOW + timedelta(seconds=37)),
    ),
    "HTTP 500": ({"status": 500, "json": {"errors": [error("TEAPOT")]}}, (Transient, "server_error", "", None)),
    "HTTP 503 with a time": (
        {"status": 503, "body": "<html>", "headers": {"Retry-After": "60"}},
        (Transient, "server_error", "connection", NOW + timedelta(seconds=60)),
    ),
    "HTML": ({"body": "<html>Down for maintenance</html>"}, (Transient, "bad_answer", "", None)),
    "cut body": ({"body": '{"data": {"business": {"inv'}, (Transient, "bad_answer", "", None)),
    "empty body": ({"body": ""}, (Transient, "bad_answer", "", None)),
    "a list": ({"json": []}, (Transient, "bad_answer", "", None)),
    "no data": ({"json": {"data": None}}, (Transient, "bad_answer", "", None)),
    "no answer": ({"body": requests.exceptions.ReadTimeout("secret")}, (Transient, "no_answer", "", None)),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_anything_else_is_tried_again(http: responses.RequestsMock, case: str) -> None:
    answer, expected = UNDECIDED[case]
    assert facts(failure(http, **answer)) == expected


def test_schema_drift_is_not_hidden_by_an_error_beside_it(http: responses.RequestsMock) -> None:
    found = failure(http, json={"errors": [error("TEAPOT"), error("BAD_USER_INPUT")], "data": None})
    assert facts(found)[:2] == (Rejected, "schema_drift")


def test_errors_tell_no_vendor_words_outside_words(http: responses.RequestsMock) -> None:
    found = failure(http, json={"errors": [error("TEAPOT")], "data": None})
    assert str(found) == "POST graphql Invoice: 200 an error that we do not know"


@pytest.mark.parametrize(
    "told",
    [
        {"errors": [error("NOT_FOUND", INVOICE_PATH)], "data": {"business": {"id": "B", "invoice": None}}},
        {"errors": [{"message": "Node could not be found."}], "data": {"business": {"id": "B", "invoice": None}}},
        {"data": {"business": {"id": "B", "invoice": None}}},
    ],
)
def test_what_does_not_exist_is_null_and_the_rest_is_used(http: responses.RequestsMock, told: dict[str, Any]) -> None:
    http.post(URL, json=told)
    assert wave().business("B", invoice="I") == {"id": "B", "invoice": None}


def test_unknown_business_is_none(http: responses.RequestsMock) -> None:
    http.post(URL, json={"errors": [error("NOT_FOUND", ["business"])], "data": {"business": None}})
    assert wave().business("B") is None


def test_unknown_payment_has_no_invoice(http: responses.RequestsMock) -> None:
    http.post(URL, json={"errors": [error("NOT_FOUND", ["business", "invoicePayment"])], "data": {"business": {"invoicePayment": None}}})
    assert wave().invoice_of_payment("B", "P") == ""


def test_one_request_asks_for_everything(http: responses.RequestsMock) -> None:
    body = {"query": queries.INVOICE_AND_CUSTOMER, "variables": {"business": "B", "invoice": "I", "customer": "C", "page": 1}}
    http.post(URL, json={"data": {"business": {"id": "B"}}}, match=[responses.matchers.json_params_matcher(body)])
    assert wave().business("B", invoice="I", customer="C") == {"id": "B"}
    assert len(http.calls) == 1


def test_refused_token_is_renewed_once_though_the_status_is_200(http: responses.RequestsMock) -> None:
    refusal = {"errors": [error("UNAUTHENTICATED")], "data": None}
    http.post(URL, json=refusal, match=[responses.matchers.header_matcher({"Authorization": "Bearer canary-1"})])
    http.post(URL, json={"data": {"user": {"id": "U"}}}, match=[responses.matchers.header_matcher({"Authorization": "Bearer canary-2"})])
    assert wave(Token(renewals=1)).user() == {"id": "U"}


def test_token_refused_after_renewal_is_a_dead_grant(http: responses.RequestsMock) -> None:
    http.post(URL, json={"errors": [error("UNAUTHENTICATED")], "data": None})
    with pytest.raises(Disconnected):
        wave(Token(renewals=5)).user()
    assert len(http.calls) == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(401, None, ""), True),
        (Answer(200, {"errors": [error("UNAUTHENTICATED")]}, ""), True),
        (Answer(200, {"errors": [error("NOT_FOUND"), error("UNAUTHENTICATED")], "data": {}}, ""), True),
        (Answer(200, {"errors": [error("NOT_FOUND")]}, ""), False),
        (Answer(200, {"errors": "UNAUTHENTICATED"}, ""), False),
        (Answer(200, {"errors": ["UNAUTHENTICATED"]}, ""), False),
        (Answer(200, ["UNAUTHENTICATED"], ""), False),
        (Answer(403, None, ""), False),
    ],
)
def test_unauthorized_answers_are_told_apart(answer: Answer, expected: bool) -> None:
    assert unauthorized(answer) is expected


def test_businesses_are_read_page_by_page(http: responses.RequestsMock) -> None:
    for page in (1, 2):
        told = {"pageInfo": {"currentPage": page, "totalPages": 2}, "edges": [{"node": {"id": str(page)}}, {"node": None}]}
        body = {"query": queries.BUSINESSES, "variables": {"page": page}}
        http.post(URL, json={"data": {"businesses": told}}, match=[responses.matchers.json_params_matcher(body)])
    assert wave().businesses() == [{"id": "1"}, {"id": "2"}]


def test_throttle_pause_is_ten_seconds() -> None:
    assert timedelta(seconds=10) == THROTTLE_PAUSE
