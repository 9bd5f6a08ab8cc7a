"""The detector of leaked secrets finds what is planted: else its silence would say nothing."""

import base64
import logging
from urllib.parse import quote

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django_q.tasks import async_task

from integrations.models import Credential
from tests.security.detector import cells, files, leaks, packed

CANARY = "c4n4ry+Planted/9f8e7d6c5b4a"
PLANTED = {
    "plain": f"token={CANARY};".encode(),
    "hexadecimal": CANARY.encode().hex().encode(),
    "quoted": quote(CANARY, safe="").encode(),
    **{f"base64 behind {shift} bytes": base64.b64encode(b"x" * shift + CANARY.encode() + b"tail") for shift in range(4)},
    **{f"basic of user {name}": b"Basic " + base64.b64encode(f"{name}:{CANARY}".encode()) for name in ("a", "ab", "abc")},
    "url-safe base64": base64.urlsafe_b64encode(b"\xfb\xff" + CANARY.encode()),
}


@pytest.mark.parametrize("form", PLANTED)
def test_a_planted_secret_is_found_in_every_form(form: str) -> None:
    assert leaks({"canary": CANARY}, [("here", PLANTED[form])]) == ["canary in here"]


def test_other_text_is_no_leak() -> None:
    texts = [("here", b"c4n4ry+Planted/9f8e7d6c5b4"), ("there", base64.b64encode(b"another secret of the same length"))]
    assert leaks({"canary": CANARY}, texts) == []


@pytest.mark.django_db
def test_a_secret_in_a_column_is_found() -> None:
    Credential.objects.create(secrets="{}", scope=f"read {CANARY}")
    assert leaks({"canary": CANARY}, cells()) == ["canary in integrations_credential.scope"]


@pytest.mark.django_db
def test_an_encrypted_secret_is_no_leak() -> None:
    Credential.objects.create(secrets=CANARY)
    assert leaks({"canary": CANARY}, [*cells(), *packed(), *files()]) == []


@pytest.mark.django_db
def test_a_secret_in_a_packed_session_or_task_is_found() -> None:
    session = SessionStore()
    session["state"] = f"{CANARY}{'x' * 500}"  # long enough to be compressed
    session.save()
    async_task("integrations.tasks.sync", [CANARY])
    assert leaks({"canary": CANARY}, packed()) == ["canary in queued task", "canary in session"]


def test_a_secret_in_a_log_record_is_found(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("integrations").warning("token %s", CANARY)
    assert leaks({"canary": CANARY}, [("log", record.getMessage().encode()) for record in caplog.records]) == ["canary in log"]
