"""Jira's own webhooks, pure: what should be registered, who may deliver, and what a delivery hints at."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import responses
import time_machine

from integrations.core.errors import Rejected, Transient
from integrations.core.events import Verdict, VerdictReason
from integrations.core.hooks import Hint, Remote, Wish
from integrations.core.ports import Account
from integrations.destinations.jira.webhook import (
    EVENTS,
    ISSUES,
    KINDS,
    STATUS,
    JiraWebhooks,
    essence,
    expiry,
    identifier,
    parse,
    same,
    verify,
    verify_signature,
    wish,
)
from integrations.http import ApiClient
from integrations.sandbox.jira_webhooks import signature, token
from tests.jira_world import CheckedSession, Token

NOW = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
URL = "https://connector.example.com/webhooks/jira/4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0009/"
BASE = "https://acme.atlassian.net"
SECRET, CLIENT = "the-client-secret", "jira-client"
OAUTH = Account("jira", "jira", "oauth", {"client_id": CLIENT})
BY_TOKEN = Account("jira", "jira", "api_token", {})


# --- What should be registered ------------------------------------------------------------------------------------


def test_all_projects_go_into_one_list_of_one_webhook() -> None:
    options = [{"project": "OPS"}, {"project": "BILL"}, {"project": "OPS"}, {}]
    assert wish(URL, options) == Wish(URL, 'project IN ("BILL", "OPS")', ("jira:issue_updated", "jira:issue_deleted"))


@pytest.mark.parametrize("options", [[], [{}], [{"project": ""}]])
def test_without_a_project_nothing_is_registered(options: list[dict[str, str]]) -> None:
    assert wish(URL, options) is None


@pytest.mark.parametrize(
    ("remote", "fits"),
    [
        (Remote("1", URL, 'project IN ("BILL", "OPS")', EVENTS), True),
        (Remote("1", URL, "project in (BILL,OPS)", EVENTS[::-1]), True),
        (Remote("1", URL, 'project IN ("BILL")', EVENTS), False),
        (Remote("1", URL, 'project IN ("BILL", "OPS")', EVENTS[:1]), False),
        (Remote("1", URL + "x", 'project IN ("BILL", "OPS")', EVENTS), False),
    ],
)
def test_a_listed_webhook_is_known_again_however_its_filter_is_written(remote: Remote, fits: bool) -> None:
    assert same(Wish(URL, 'project IN ("BILL", "OPS")', EVENTS), remote) is fits


NO_TIMES: list[Any] = [None, "", "soon", True, [], {}, 10**30, "9" * 5000, float("inf"), float("nan")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1559392950000, datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        ("1559392950000", datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        (1559392950, datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        ("2019-06-01T12:42:30.000+0000", datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        ("2019-06-01T14:42:30.000+0200", datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        ("2019-06-01T12:42:30Z", datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        ("2019-06-01T12:42:30", datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC)),
        *[(value, None) for value in NO_TIMES],
    ],
)
def test_both_forms_of_an_end_are_understood_and_nonsense_is_none(value: Any, expected: datetime | None) -> None:
    assert expiry(value) == expected


def client() -> JiraWebhooks:
    return JiraWebhooks(ApiClient(BASE, Token(), CheckedSession()))


def test_a_registration_is_what_its_result_says_not_its_status() -> None:
    with responses.RequestsMock() as net:
        net.post(f"{BASE}/rest/api/3/webhook", json={"webhookRegistrationResult": [{"createdWebhookId": 1000}]})
        assert client().register(Wish(URL, "project IN (BILL)", EVENTS)) == "1000"
        assert json.loads(net.calls[0].request.body or b"") == {
            "url": URL,
            "webhooks": [{"events": ["jira:issue_updated", "jira:issue_deleted"], "jqlFilter": "project IN (BILL)"}],
        }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"webhookRegistrationResult": [{"errors": ["The clause watchCount is unsupported", "and more"]}]},
            "The clause watchCount is unsupported; and more",
        ),
        ({"webhookRegistrationResult": []}, ""),
        ({"webhookRegistrationResult": ["?"]}, ""),
        ({}, ""),
    ],
)
def test_a_200_that_registers_nothing_is_a_refusal(answer: dict[str, Any], words: str) -> None:
    with responses.RequestsMock() as net, pytest.raises(Rejected) as refused:
        net.post(f"{BASE}/rest/api/3/webhook", json=answer)
        client().register(Wish(URL, "project IN (BILL)", EVENTS))
    assert (refused.value.code, refused.value.words) == ("not_registered", words)


def test_webhooks_are_listed_to_the_last_page_with_their_ends() -> None:
    entry = {"id": 1000, "url": URL, "events": ["jira:issue_updated"], "jqlFilter": "project = BILL"}
    pages = [{"values": [entry | {"expirationDate": 1559392950000}], "total": 2}, {"values": [entry | {"id": 1001}], "total": 2}]
    with responses.RequestsMock() as net:
        for page in pages:
            net.get(f"{BASE}/rest/api/3/webhook", json=page)
        first = Remote("1000", URL, "project = BILL", ("jira:issue_updated",), datetime(2019, 6, 1, 12, 42, 30, tzinfo=UTC))
        assert client().listed() == [first, Remote("1001", URL, "project = BILL", ("jira:issue_updated",))]


def test_ids_are_refreshed_and_deleted_as_numbers() -> None:
    matching = [responses.matchers.json_params_matcher({"webhookIds": [1000, 1001]})]
    with responses.RequestsMock() as net:
        net.put(f"{BASE}/rest/api/3/webhook/refresh", json={"expirationDate": 1}, match=matching)
        net.delete(f"{BASE}/rest/api/3/webhook", status=202, match=matching)
        client().refresh(["1000", "1001"])
        client().delete(["1000", "1001"])


def test_an_html_page_in_the_place_of_a_refresh_is_no_refresh() -> None:
    with responses.RequestsMock() as net, pytest.raises(Transient):
        net.put(f"{BASE}/rest/api/3/webhook/refresh", body="<html>Down for maintenance</html>")
        client().refresh(["1000"])


# --- Who may deliver ----------------------------------------------------------------------------------------------

AT = int(NOW.timestamp())
CLAIMS = {"iss": CLIENT, "exp": AT + 900, "iat": AT, "sub": "557058:a-person", "jti": "1", "context": {}}


def told(header: str, account: Account = OAUTH, secret: str = SECRET) -> Verdict:
    with time_machine.travel(NOW, tick=False):
        return verify(account, {"client_secret": secret}, [], {"Authorization": header}, b"{}")


@pytest.mark.parametrize(
    "claims",
    [
        CLAIMS,
        {"iss": CLIENT, "exp": AT + 900},
        CLAIMS | {"exp": AT - 119},
        CLAIMS | {"iat": AT + 900, "sub": 7, "jti": 7},
        CLAIMS | {"aud": "somebody"},
    ],
    ids=["all claims", "the least", "within the leeway", "claims that we do not know", "with an audience"],
)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "JWT"])
def test_a_token_of_our_app_is_taken(scheme: str, claims: dict[str, Any]) -> None:
    assert told(f"{scheme} {token(claims, SECRET)}") == Verdict(True)


GOOD = token(CLAIMS, SECRET)
HEAD, MIDDLE, TAIL = GOOD.split(".")
REFUSED = {
    "none": ("", VerdictReason.MISSING),
    "Basic": ("Basic b3BzOmE=", VerdictReason.MISSING),
    "no token": ("Bearer ", VerdictReason.MISSING),
    "forged": (f"Bearer {token(CLAIMS, 'another-secret')}", VerdictReason.MISMATCH),
    "signed with nothing": (f"Bearer {token(CLAIMS, '')}", VerdictReason.MISMATCH),
    "expired": (f"Bearer {token(CLAIMS | {'exp': AT - 121}, SECRET)}", VerdictReason.STALE),
    "alg none": (f"Bearer {token(CLAIMS, SECRET, algorithm='none')}", VerdictReason.MALFORMED),
    "alg HS512": (f"Bearer {token(CLAIMS, SECRET, algorithm='HS512')}", VerdictReason.MALFORMED),
    "alg RS256": (f"Bearer {token(CLAIMS, SECRET, algorithm='RS256')}", VerdictReason.MALFORMED),
    "another issuer": (f"Bearer {token(CLAIMS | {'iss': 'evil'}, SECRET)}", VerdictReason.MALFORMED),
    "issuer as a list": (f"Bearer {token(CLAIMS | {'iss': [CLIENT]}, SECRET)}", VerdictReason.MALFORMED),
    "no issuer": (f"Bearer {token({'exp': AT + 900}, SECRET)}", VerdictReason.MALFORMED),
    "no end": (f"Bearer {token({'iss': CLIENT}, SECRET)}", VerdictReason.MALFORMED),
    "an end that is no number": (f"Bearer {token(CLAIMS | {'exp': 'tomorrow'}, SECRET)}", VerdictReason.MALFORMED),
    "an end without end": (f"Bearer {token(CLAIMS | {'exp': float('inf')}, SECRET)}", VerdictReason.MALFORMED),
    "changed claims": (f"Bearer {HEAD}.{token(CLAIMS | {'sub': 'x'}, SECRET).split('.')[1]}.{TAIL}", VerdictReason.MISMATCH),
    "cut": (f"Bearer {HEAD}.{MIDDLE}", VerdictReason.MALFORMED),
    "no base64": ("Bearer \u00ff.\u00fe.!", VerdictReason.MALFORMED),
    "10,000 dots": ("Bearer " + "." * 10_000, VerdictReason.MALFORMED),
    "NUL": (f"Bearer {GOOD}\x00", VerdictReason.MALFORMED),
}


@pytest.mark.parametrize(("header", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_any_other_token_is_refused(header: str, reason: VerdictReason) -> None:
    assert told(header) == Verdict(False, reason)


def test_an_account_without_a_secret_believes_nobody() -> None:
    assert told(f"Bearer {token(CLAIMS, '')}", secret="") == Verdict(False, VerdictReason.MISMATCH)
    assert told(f"Bearer {token(CLAIMS | {'iss': ''}, SECRET)}", Account("j", "jira", "oauth", {})) == Verdict(
        False, VerdictReason.MISMATCH
    )


def test_the_vendors_own_test_vector_holds() -> None:
    header = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
    assert verify_signature(header, b"Hello World!", ["It's a Secret to Everybody"]) == Verdict(True)


def test_of_several_secrets_the_one_that_fits_is_named() -> None:
    verdict = verify(BY_TOKEN, {}, ["", "older", "newer"], {"X-Hub-Signature": signature(b"{}", "newer")}, b"{}")
    assert (verdict, verdict.secret) == (Verdict(True), 2)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", VerdictReason.MISSING),
        (signature(b"{}", "another"), VerdictReason.MISMATCH),
        (signature(b"{} ", "newer"), VerdictReason.MISMATCH),
        (signature(b"{}", ""), VerdictReason.MISMATCH),
        (signature(b"{}", "newer").replace("sha256", "sha1"), VerdictReason.MALFORMED),
        ("sha256=", VerdictReason.MALFORMED),
        ("sha256=" + "\u00b2" * 64, VerdictReason.MALFORMED),
        ("hello", VerdictReason.MALFORMED),
    ],
)
def test_any_other_signature_is_refused(header: str, reason: VerdictReason) -> None:
    assert verify(BY_TOKEN, {}, ["", "newer"], {"X-Hub-Signature": header}, b"{}") == Verdict(False, reason)


def test_each_way_in_has_one_proof_only() -> None:
    signed = {"X-Hub-Signature": signature(b"{}", "newer")}
    assert verify(OAUTH, {"client_secret": SECRET}, ["newer"], signed, b"{}") == Verdict(False, VerdictReason.MISSING)
    with time_machine.travel(NOW, tick=False):
        assert verify(BY_TOKEN, {"client_secret": SECRET}, ["newer"], {"Authorization": f"Bearer {GOOD}"}, b"{}") == Verdict(
            False, VerdictReason.MISSING
        )


def test_a_delivery_is_known_by_its_identifier() -> None:
    assert [identifier({name: " a-1 "}) for name in ("X-Atlassian-Webhook-Identifier", "x-atlassian-webhook-identifier", "x-other")] == [
        "a-1",
        "a-1",
        "",
    ]


# --- What it hints at ---------------------------------------------------------------------------------------------

ISSUE = {"id": "10001", "key": "BILL-1", "fields": {}}
USER = {"accountId": "557058:a-person"}


def body(event: Any = "jira:issue_updated", *items: Any, **more: Any) -> bytes:
    return json.dumps({"webhookEvent": event, "issue": ISSUE, "user": USER, "changelog": {"items": list(items)}, **more}).encode()


ACTOR = "557058:a-person"


@pytest.mark.parametrize(
    ("delivered", "hint"),
    [
        (body("jira:issue_deleted"), Hint("jira:issue_deleted", "10001", "deleted", ISSUES, ACTOR, ours=False)),
        (
            body("jira:issue_updated", {"field": "status", "toString": "To Do"}),
            Hint("jira:issue_updated", "10001", "status", STATUS, ACTOR),
        ),
        (body("jira:issue_updated", {"fieldId": "status"}), Hint("jira:issue_updated", "10001", "status", STATUS, ACTOR)),
        (
            body("jira:issue_updated", {"field": "project"}, {"field": "Key"}, {"field": "status"}),
            Hint("jira:issue_updated", "10001", "moved", KINDS, ACTOR, ours=False),
        ),
        (body(issue_event_type_name="issue_moved"), Hint("jira:issue_updated", "10001", "moved", KINDS, ACTOR, ours=False)),
        (body("jira:issue_updated", {"field": "summary"}), Hint("jira:issue_updated", "10001", actor=ACTOR)),
        (body(user=None, changelog=None), Hint("jira:issue_updated", "10001")),
        (body(issue={"id": 10001}, user={"accountId": 7}), Hint("jira:issue_updated", "10001")),
        (body("comment_created"), Hint("comment_created")),
        (body("worklog_updated", issue=None), Hint("worklog_updated")),
        (body("jira:issue_created"), Hint("jira:issue_created")),
        (body("user_deleted"), Hint("user_deleted", known=False)),
    ],
)
def test_a_delivery_hints_at_one_thing_and_so_does_what_is_stored_of_it(delivered: bytes, hint: Hint) -> None:
    assert [parse(delivered), parse(essence(delivered))] == [hint, hint]


HOSTILE = {
    "empty": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "a number of 5,000 digits": b'{"webhookEvent": ' + b"9" * 5000 + b"}",
    "no event": b"{}",
    "event is no text": body(7),
    "event with NUL": body("jira:issue\x00"),
    "event of 10,000 letters": body("x" * 10_000),
    "no issue": body(issue=None),
    "issue is a list": body(issue=[]),
    "id is no number": body(issue={"id": "1 OR 1=1"}),
    "id of foreign digits": body(issue={"id": "\u0661"}),
    "id of 100 digits": body(issue={"id": "1" * 100}),
    "id is true": body(issue={"id": True}),
}


@pytest.mark.parametrize("delivered", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_cannot_be_read_hints_at_nothing(delivered: bytes) -> None:
    assert [parse(delivered), parse(essence(delivered))] == [None, None]


@pytest.mark.parametrize("changelog", [7, [], {"items": 7}, {"items": ["status", None, 7, {"field": None, "fieldId": 7}]}])
def test_a_changelog_out_of_shape_says_nothing(changelog: Any) -> None:
    assert parse(body(changelog=changelog)) == Hint("jira:issue_updated", "10001", actor=ACTOR)
