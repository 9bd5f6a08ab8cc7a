"""`manage.py ping`: each check with what to do about it, and an exit code."""

import pytest
from django.core.management import CommandError, call_command

from integrations import systems
from integrations.core.ports import Check
from integrations.models import Connection
from tests.integrations import accounts

pytestmark = pytest.mark.django_db

RESULTS = {
    "wave-main": [Check("token", ok=True, detail="user ann"), Check("business", ok=True)],
    "zendesk-acme": [Check("token", ok=True), Check("role", ok=False, detail="end-user", advice="use an admin's client")],
}


@pytest.fixture(autouse=True)
def pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    def ping(connection: Connection) -> list[Check]:
        return RESULTS[connection.slug]

    monkeypatch.setattr(systems, "ping", ping)


def test_one_connection_that_holds_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    accounts.route()
    call_command("ping", "wave-main")
    assert capsys.readouterr().out.splitlines() == ["wave-main (wave, oauth)", "  ok     token: user ann", "  ok     business"]


def test_all_connections_are_pinged_and_a_failure_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    accounts.route()
    with pytest.raises(SystemExit) as ended:
        call_command("ping")
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "wave-main (wave, oauth)",
        "  ok     token: user ann",
        "  ok     business",
        "zendesk-acme (zendesk, client_credentials)",
        "  ok     token",
        "  FAILED role: end-user",
        "         use an admin's client",
    ]


def test_an_unknown_name_ends_with_2_and_the_nearest() -> None:
    accounts.route()
    with pytest.raises(CommandError) as raised:
        call_command("ping", "wave-mian")
    assert (str(raised.value), raised.value.returncode) == ('there is no connection "wave-mian" (did you mean "wave-main"?)', 2)
