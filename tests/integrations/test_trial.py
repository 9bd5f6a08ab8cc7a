"""The test delivery: through the public address, and an advice for every way in which it can fail."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests
import responses
from pytest_django.live_server_helper import LiveServer

from integrations import trial
from integrations.core.errors import Misconfigured
from integrations.models import Connection, Delivery

Make = Callable[..., Connection]


@pytest.mark.django_db(transaction=True)
def test_it_arrives_through_the_public_address(wave_connection: Make, live_server: LiveServer, settings: Any) -> None:
    settings.PUBLIC_URL = live_server.url
    sent = trial.send(wave_connection())
    assert (sent.arrived, sent.status, sent.detail, sent.advice) == (True, 200, "ignored", "")
    assert Delivery.objects.get().event_type == "connector.test"


@pytest.mark.django_db
def test_nothing_listens(wave_connection: Make, settings: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.PUBLIC_URL = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sent = trial.send(wave_connection())
    assert (sent.arrived, sent.status, sent.advice) == (False, None, trial.REFUSED)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (requests.exceptions.SSLError("certificate verify failed"), trial.TLS),
        (requests.exceptions.ReadTimeout(), trial.SLOW),
        (requests.exceptions.ConnectTimeout(), trial.SLOW),
        (requests.exceptions.ConnectionError("NameResolutionError"), trial.NAME),
        (requests.exceptions.ChunkedEncodingError(), trial.REFUSED),
    ],
)
def test_no_answer(wave_connection: Make, settings: Any, error: Exception, advice: str) -> None:
    settings.PUBLIC_URL = "https://connector.example.com"
    wave = wave_connection()
    with responses.RequestsMock() as mocked:
        mocked.post(f"https://connector.example.com/webhooks/wave/{wave.uuid}/", body=error)
        sent = trial.send(wave)
    assert (sent.arrived, sent.status, sent.detail, sent.advice) == (False, None, type(error).__name__, advice)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (200, trial.ELSEWHERE),
        (302, trial.ADVICE[301]),
        (308, trial.ADVICE[301]),
        (401, trial.ADVICE[401]),
        (404, trial.ADVICE[404]),
        (418, trial.SERVER),
        (502, trial.ADVICE[502]),
    ],
)
def test_another_answer_has_an_advice_and_no_redirect_is_followed(wave_connection: Make, settings: Any, status: int, advice: str) -> None:
    settings.PUBLIC_URL = "https://connector.example.com"
    wave = wave_connection()
    with responses.RequestsMock() as mocked:
        address = f"https://connector.example.com/webhooks/wave/{wave.uuid}/"
        mocked.post(address, status=status, headers={"Location": "https://evil.example/"}, body="<html>", content_type="text/html")
        sent = trial.send(wave)
        assert len(mocked.calls) == 1
    assert (sent.arrived, sent.status, sent.detail, sent.advice) == (False, status, "", advice)


@pytest.mark.django_db
def test_without_a_secret_nothing_is_sent(wave_connection: Make) -> None:
    with pytest.raises(Misconfigured, match="no webhook secret"):
        trial.send(wave_connection(webhook_secrets=()))
