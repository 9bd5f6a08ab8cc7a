"""Nothing that looks like a secret gets into the log, in whatever shape it is logged."""

import logging
import sys
from typing import Any

import pytest
from django.conf import settings

from connector_site.redaction import Redact, redacted

CANARY = "cAn4ry-0123456789abcdef"
SHAPES = [
    f"Authorization: Bearer {CANARY}",
    f"'Authorization': 'Basic {CANARY}='",
    f"client_secret={CANARY}&grant_type=refresh_token",
    f'{{"access_token": "{CANARY}", "expires_in": 3600}}',
    f"{{'refresh_token': '{CANARY}'}}",
    f"api_token: {CANARY}",
    f"password={CANARY}",
    f"GET /oauth/wave/callback/?code={CANARY}&state={CANARY} HTTP/1.1",
    f"code_verifier={CANARY}",
    f"https://user:{CANARY}@example.com/x",
    f"jwt eyJhbGciOiJIUzI1NiJ9.{CANARY}.{CANARY}",
]


@pytest.mark.parametrize("text", SHAPES)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    assert CANARY not in redacted(text)
    assert "[secret]" in redacted(text)


def test_a_webhook_signature_is_hidden_and_the_rest_stays() -> None:
    assert redacted(f"X-Wave-Signature: t=1789,v1={'ab' * 32} refused") == "X-Wave-Signature: t=1789,v1=[secret] refused"
    assert (
        redacted("invoice 2496 of Basic Ltd: POST /oauth/token answered 403") == "invoice 2496 of Basic Ltd: POST /oauth/token answered 403"
    )


@pytest.mark.parametrize("text", SHAPES)
def test_messages_arguments_and_tracebacks_are_redacted(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        failed = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "it said %s", (text,), failed)
    assert Redact().filter(record)
    assert CANARY not in logging.Formatter().format(record)


def test_arguments_that_do_not_fit_are_redacted_too() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "no place", (f"Bearer {CANARY}",), None)
    Redact().filter(record)
    assert record.getMessage() == "no place ('Bearer [secret]',)"


def test_every_handler_has_the_filter() -> None:
    logged: dict[str, dict[str, Any]] = settings.LOGGING  # type: ignore[assignment]
    assert [handler["filters"] for handler in logged["handlers"].values()] == [["redact"]]
    assert logged["loggers"]["django.server"]["handlers"] == ["console"]
