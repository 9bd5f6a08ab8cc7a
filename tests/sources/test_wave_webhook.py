import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.core.events import Event, Verdict, VerdictReason
from integrations.sources.wave import webhook

NOW = 1_800_000_000
BODY = b'{"event_type": "invoice.paid"}'
SECRETS = ["current-secret", "previous-secret"]
UUID = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"


def digest(secret: str = SECRETS[0], at: int | str = NOW, body: bytes = BODY) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def bare(secret: str = SECRETS[0]) -> str:
    return hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()


def verify(
    header: str | None, *, secrets: list[str] = SECRETS, now: float = NOW, body: bytes = BODY, name: str = "X-Wave-Signature"
) -> Verdict:
    headers = {"Content-Type": "application/json"} | ({} if header is None else {name: header})
    return webhook.verify(headers, body, secrets, now, 300)


def node(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# -- signature ---------------------------------------------------------------------------------------------------------------------

OTHER = "0" * 64
RIGHT = {
    "one digest": f"t={NOW},v1={digest()}",
    "spaces": f"t={NOW}, v1={digest()}",
    "any order": f"v1={digest()},t={NOW}",
    "other keys": f"t={NOW},v0=x,scheme=,v1={digest()}",
    "the previous secret": f"t={NOW},v1={digest(SECRETS[1])}",
    "one right of five": f"t={NOW}," + ",".join([f"v1={OTHER}"] * 4) + f",v1={digest()}",
    "old by the tolerance": f"t={NOW - 300},v1={digest(at=NOW - 300)}",
    "early by the tolerance": f"t={NOW + 300},v1={digest(at=NOW + 300)}",
    "a leading zero": f"t=0{NOW},v1={digest(at=f'0{NOW}')}",
}
WRONG: dict[str, tuple[str | None, VerdictReason]] = {
    "none": (None, VerdictReason.MISSING),
    "empty": ("", VerdictReason.MISSING),
    "blank": ("  ", VerdictReason.MISSING),
    "another secret": (f"t={NOW},v1={digest('stolen')}", VerdictReason.MISMATCH),
    "another time": (f"t={NOW + 1},v1={digest()}", VerdictReason.MISMATCH),
    "another time, zero in front": (f"t=0{NOW},v1={digest()}", VerdictReason.MISMATCH),
    "forged and old": (f"t={NOW - 9999},v1={OTHER}", VerdictReason.MISMATCH),
    "old": (f"t={NOW - 301},v1={digest(at=NOW - 301)}", VerdictReason.STALE),
    "from the future": (f"t={NOW + 301},v1={digest(at=NOW + 301)}", VerdictReason.STALE),
    "bare": (bare(), VerdictReason.BARE),
    "bare in capitals": (bare(SECRETS[1]).upper(), VerdictReason.BARE),
    "bare with a scheme": (f"sha256={bare()}", VerdictReason.BARE),
    "bare v1": (f"v1={bare()}", VerdictReason.BARE),
    "bare and forged": (OTHER, VerdictReason.MALFORMED),
    "no time": (f"v1={digest()}", VerdictReason.MALFORMED),
    "no digest": (f"t={NOW}", VerdictReason.MALFORMED),
    "two times": (f"t={NOW},t={NOW},v1={digest()}", VerdictReason.MALFORMED),
    "twice": (f"t={NOW},v1={digest()},t={NOW},v1={digest()}", VerdictReason.MALFORMED),
    "six digests": (f"t={NOW}," + ",".join([f"v1={digest()}"] * 6), VerdictReason.MALFORMED),
    "13 digits": (f"t=1234567890123,v1={digest(at='1234567890123')}", VerdictReason.MALFORMED),
    "a sign": (f"t=+{NOW},v1={digest(at=f'+{NOW}')}", VerdictReason.MALFORMED),
    "a fraction": (f"t={NOW}.0,v1={digest(at=f'{NOW}.0')}", VerdictReason.MALFORMED),
    "digits of another script": ("t=١٢٣,v1=" + digest(at="١٢٣"), VerdictReason.MALFORMED),
    "a line end": (f"t={NOW}\n,v1={digest(at=f'{NOW}')}", VerdictReason.MALFORMED),
    "capitals": (f"t={NOW},v1={digest().upper()}", VerdictReason.MALFORMED),
    "base64": (f"t={NOW},v1={node('x' * 32)}", VerdictReason.MALFORMED),
    "63 digits": (f"t={NOW},v1={digest()[1:]}", VerdictReason.MALFORMED),
    "a right digest beside a malformed one": (f"t={NOW},v1={digest()},v1=xyz", VerdictReason.MALFORMED),
    "a part without a name": (f"t={NOW},v1={digest()},", VerdictReason.MALFORMED),
    "capital names": (f"T={NOW},V1={digest()}", VerdictReason.MALFORMED),
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_signature_is_verified(case: str) -> None:
    assert verify(RIGHT[case]) == Verdict(True)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_signature_is_told_apart(case: str) -> None:
    header, reason = WRONG[case]
    assert verify(header) == Verdict(False, reason)


def test_tampered_body_is_a_mismatch() -> None:
    header = f"t={NOW},v1={digest()}"
    tampered = [BODY + b" ", BODY[:-1], b"", BODY.replace(b"paid", b"sent"), BODY.replace(b'": "', b'":"')]
    assert {verify(header, body=body) for body in tampered} == {Verdict(False, VerdictReason.MISMATCH)}


def test_header_name_is_found_in_any_case() -> None:
    header = f"t={NOW},v1={digest()}"
    assert [verify(header, name=name) for name in ("x-wave-signature", "X-WAVE-SIGNATURE")] == [Verdict(True)] * 2


def test_header_in_two_cases_counts_as_doubled() -> None:
    header = f"t={NOW},v1={digest()}"
    headers = {"X-Wave-Signature": header, "x-wave-signature": header}
    assert webhook.verify(headers, BODY, SECRETS, NOW, 300) == Verdict(False, VerdictReason.MALFORMED)


@pytest.mark.parametrize("secrets", [[], [""]])
def test_nothing_is_verified_without_a_secret(secrets: list[str]) -> None:
    empty = f"t={NOW},v1={digest('')}"
    assert verify(empty, secrets=secrets) == Verdict(False, VerdictReason.MISMATCH)


@given(st.text(max_size=300))
def test_no_header_raises_or_passes(header: str) -> None:
    assert not verify(header).verified


@given(st.lists(st.sampled_from(["t=", "v1=", ",", "=", str(NOW), digest(), bare(), " ", "\x00", "é", "t"]), max_size=12))
def test_pieces_of_a_header_pass_only_as_the_grammar_says(pieces: list[str]) -> None:
    header = "".join(pieces)
    verdict = verify(header)
    times = [part.strip(" \t") for part in header.strip().split(",") if part.strip(" \t").startswith("t=")]
    assert not verdict.verified or (times == [f"t={NOW}"] and f"v1={digest()}" in header)


# -- body --------------------------------------------------------------------------------------------------------------------------


def delivery(**changes: Any) -> bytes:
    told = {"event_id": "evt-1", "event_type": "invoice.paid", "business_id": UUID, "data": {"invoice_id": "24", "customer_id": 7}}
    return json.dumps(told | changes).encode()


def test_delivery_is_read() -> None:
    assert webhook.parse(delivery()) == Event("evt-1", "invoice.paid", UUID, customer="7", invoice="24")


def test_payment_is_read() -> None:
    data = {"payment_id": node(f"Business:{UUID};InvoicePayment:5")}
    assert webhook.parse(delivery(event_type="payment.created", data=data)) == Event("evt-1", "payment.created", UUID, payment="5")


@pytest.mark.parametrize(
    ("given_id", "uuid"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        (node(f"Business:{UUID}"), UUID),
        (node(f"Business:{UUID.upper()}"), UUID),
        (node(f"Business:{UUID};Invoice:5"), ""),
        (node(f"Customer:{UUID}"), ""),
        (UUID.replace("-", ""), ""),
        ("12345", ""),
        (12345, ""),
        (None, ""),
        ([UUID], ""),
        ("=", ""),
        ("é", ""),
        ("x" * 100_000, ""),
    ],
)
def test_business_is_a_uuid_or_nothing(given_id: Any, uuid: str) -> None:
    event = webhook.parse(delivery(business_id=given_id))
    assert event is not None
    assert event.business == uuid


@pytest.mark.parametrize(
    ("given_id", "number"),
    [
        ("2496756670638588934", "2496756670638588934"),
        (2496756670638588934, "2496756670638588934"),
        (" 24 ", "24"),
        (node(f"Business:{UUID};Invoice:24"), "24"),
        (node(f"Business:{UUID};Invoice:24").rstrip("="), "24"),
        (node(f"Business:{UUID};Customer:24"), ""),
        (node(f"Business:{UUID}"), ""),
        (node("Invoice:24"), ""),
        ("-24", ""),
        (-24, ""),
        ("24.0", ""),
        (24.5, ""),
        (True, ""),
        (None, ""),
        ({"id": "24"}, ""),
        ("٢٤", ""),
        ("9" * 41, ""),
        (int("9" * 4000), ""),
        ("24;DROP", ""),
        ("", ""),
    ],
)
def test_invoice_is_a_number_or_nothing(given_id: Any, number: str) -> None:
    assert webhook.parse(delivery(data={"invoice_id": given_id})) == Event("evt-1", "invoice.paid", UUID, invoice=number)


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_strange_data_points_at_nothing(data: Any) -> None:
    assert webhook.parse(delivery(data=data)) == Event("evt-1", "invoice.paid", UUID)


def test_long_values_are_cut() -> None:
    event = webhook.parse(delivery(event_id="e" * 1000, event_type="t" * 1000))
    assert event == Event("e" * 200, "t" * 100, UUID, customer="7", invoice="24")


@pytest.mark.parametrize(("given_id", "event_id"), [(12, "12"), (None, ""), (True, ""), ({}, ""), ([1], "")])
def test_event_id_is_text(given_id: Any, event_id: str) -> None:
    assert webhook.parse(delivery(event_id=given_id)) == Event(event_id, "invoice.paid", UUID, customer="7", invoice="24")


UNREADABLE = {
    "empty": b"",
    "no JSON": b"hello",
    "cut": delivery()[:-5],
    "not UTF-8": b'{"event_type": "\xff\xfe"}',
    "UTF-16": '{"event_type": "x"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + delivery(),
    "NaN": b'{"event_type": "x", "n": NaN}',
    "Infinity": b'{"event_type": "x", "n": [-Infinity]}',
    "a lone surrogate": b'{"event_type": "x", "n": "\\ud800"}',
    "a lone surrogate in a name": b'{"event_type": "x", "n": [{"\\udc00": 1}]}',
    "NUL": b'{"event_type": "x", "n": "a\\u0000b"}',
    "depth": b'{"event_type": "x", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge integer": b'{"event_type": "x", "n": ' + b"9" * 4301 + b"}",
    "a list": b"[1]",
    "null": b"null",
    "no event": b"{}",
    "an event that is no text": b'{"event_type": 5}',
    "an empty event": b'{"event_type": " "}',
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_body_is_none(case: str) -> None:
    assert webhook.parse(UNREADABLE[case]) is None


def test_a_whole_surrogate_pair_is_text() -> None:
    event = webhook.parse(b'{"event_type": "x", "n": "\\ud83d\\ude00"}')
    assert event == Event("", "x", "")


@given(st.binary(max_size=300))
def test_no_body_raises(body: bytes) -> None:
    assert webhook.parse(body) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON, JSON)
def test_any_json_gives_an_event_of_known_forms(event_id: Any, business: Any, data: Any) -> None:
    event = webhook.parse(json.dumps({"event_id": event_id, "event_type": "x", "business_id": business, "data": data}).encode())
    nul = "\\u0000" in json.dumps([event_id, business, data])
    assert nul or (event is not None and event.type == "x" and len(event.id) <= 200 and len(event.business) in (0, 36))
