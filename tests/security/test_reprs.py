"""What is printed of our own values, in a traceback or by hand, shows no secret."""

import json
from datetime import UTC, datetime

import pytest

from integrations import oauth, systems, trial, webhook_secrets
from integrations.accounts import Entered
from integrations.core.ports import TokenCall
from integrations.models import Credential, Intake
from tests.integrations import accounts
from tests.integrations.accounts import CANARIES

pytestmark = pytest.mark.django_db


def test_no_value_shows_a_secret() -> None:
    wave, (first, second, *_) = accounts.wave(), CANARIES
    Intake.objects.update(secrets=json.dumps([first]))
    auth = systems.ConnectionAuth(wave)
    auth.headers()
    values = [
        oauth.Tokens(first, datetime.now(UTC), second),
        TokenCall("https://example.com/token", form={"client_secret": first}),
        TokenCall("https://example.com/token", json={"client_secret": first}),
        Entered({"access_token": first}, (second,)),
        oauth.account(wave),
        oauth.token_call(wave),
        auth,
        systems.client(wave),
        wave,
        Credential.objects.get(),
        Intake.objects.get(),
        webhook_secrets.listed(wave),
        trial.Trial("https://example.com", True, 200, 1, "ignored"),
    ]
    assert [value for value in values if "canary" in f"{value!r}{value}"] == []
