"""Hostile subdomains, sites and cloud ids: refused in the form, in the file and where the URL is built; nobody is called."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3.util.connection

from integrations import configuration, outgoing, registry, systems
from integrations.admin.forms import account_form
from integrations.core.errors import Misconfigured
from integrations.core.ports import Account
from integrations.declared import InvalidFile
from integrations.models import Connection
from tests.integrations import accounts

HOSTILE = [
    "169.254.169.254/x#", "169.254.169.254", "127.0.0.1", "localhost/", "[::1]", "0x7f000001.", "2130706433/", "a.b",
    "a..b", "..", ".", "../..", "a@b", "user:pass@evil", "a:443", "a:b", "a/b", "a//b", "//evil.example",
    "https://evil.example", "javascript:alert(1)", "a\\b", "\\\\evil", "a?b", "a#b", "a#", "a;b", "a,b", "a&b=c", "a=b",
    "a%2eb", "a%2Fb", "%61cme", "a%00", "a\x00b", "a\nb", "acme\n", "\nacme", "a\r\nHost: evil", "a\tb", "a b", " acme",
    "acme ", "acme.", ".acme", "-acme", "acme-", "-", "_acme", "a_b", "Acme", "ACME", "\u0430cme", "acm\u00e9",
    "acme\u200b", "a\u3002b", "a\uff0eb", "a\u2024b", "a\uff0fb", "\uff41cme", "acme\u202e", "\u0661\u0662\u0663",
    "\uff41\uff43\uff4d\uff45", "a" * 64, "a" * 1000, "{site}", "${HOST}", "'", "\"", "<b>", "*",
]  # fmt: skip
UUID = "11111111-2222-4333-8444-555555555555"
CLOUD_IDS = [*HOSTILE, f"{UUID}/../x", f"{UUID}\n", f"{{{UUID}}}"]
WAYS = [("zendesk", "api_token", "subdomain"), ("jira", "api_token", "site"), ("jira", "oauth", "cloud_id")]
OTHERS = {"email": "ops@example.com", "client_id": "id"}
CASES = [(*way, value) for way in WAYS for value in (CLOUD_IDS if way[2] == "cloud_id" else HOSTILE)]


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Note every connection and look-up that is tried, and see at the end that there was none."""
    tried: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda address, *args, **kwargs: tried.append(address))
    monkeypatch.setattr(urllib3.util.connection, "create_connection", lambda address, *args, **kwargs: tried.append(address))
    yield tried
    assert tried == []


def given(system: str, auth: str, name: str, value: str) -> dict[str, str]:
    way_in = registry.entry(system).system.auth(auth)
    assert way_in
    return {setting.name: OTHERS.get(setting.name, "") for setting in way_in.settings if OTHERS.get(setting.name)} | {name: value}


def test_there_are_sixty_and_more() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.parametrize(("system", "auth", "name", "value"), [*CASES, *((*way, "") for way in WAYS)])
def test_no_url_is_built(system: str, auth: str, name: str, value: str) -> None:
    with pytest.raises(Misconfigured):
        registry.entry(system).access.base_url(Account("x", system, auth, given(system, auth, name, value)), outgoing.vendor_urls())


@pytest.mark.parametrize(("system", "auth", "name", "value"), [*CASES, *((*way, "") for way in WAYS if way[2] != "cloud_id")])
@pytest.mark.django_db
def test_the_form_refuses_it(system: str, auth: str, name: str, value: str) -> None:
    way_in = registry.entry(system).system.auth(auth)
    assert way_in
    posted = {f"setting_{key}": text for key, text in given(system, auth, name, value).items()} | {"slug": "x"}
    form = account_form(system, way_in, with_secrets=False)(posted)
    # What stands around a name is no part of it: a form strips it, and what is left is what would be stored.
    stored = form.instance.settings[name] if form.is_valid() else None
    assert stored in (None, "acme", UUID)


@pytest.mark.parametrize(("system", "auth", "name", "value"), CASES)
@pytest.mark.django_db
def test_the_file_refuses_it_and_changes_nothing(system: str, auth: str, name: str, value: str) -> None:
    settings = "\n".join(f"{key} = {toml(text)}" for key, text in given(system, auth, name, value).items())
    with pytest.raises(InvalidFile):
        configuration.apply(f'[[connection]]\nslug = "x"\nsystem = "{system}"\nauth = "{auth}"\n{settings}\n', {})
    assert Connection.objects.count() == 0


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.django_db
def test_a_row_that_holds_it_nevertheless_calls_nobody(value: str) -> None:
    row = accounts.zendesk()
    row.settings = {**row.settings, "subdomain": value.replace("\x00", "\\0")}
    row.save()
    assert [check.ok for check in systems.ping(row)] == [False]


def toml(text: str) -> str:
    r"""Return the text as a basic string of TOML, all but plain letters escaped."""
    return '"' + "".join(letter if letter.isascii() and letter.isalnum() else f"\\U{ord(letter):08x}" for letter in text) + '"'
