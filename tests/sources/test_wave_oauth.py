import re
from typing import Any

import pytest

from integrations.core.errors import Misconfigured
from integrations.core.ports import Account, TokenCall
from integrations.sources.wave import adapter

URLS = {"WAVE_GRAPHQL_URL": "https://gql.waveapps.com/graphql/public", "WAVE_OAUTH_URL": "https://api.waveapps.com/oauth2/"}
OAUTH = Account("wave-main", "wave", "oauth", {"client_id": "client"})
TOKEN = Account("wave-main", "wave", "token")
SECRETS = {"client_secret": "canary", "access_token": "access", "refresh_token": "refresh"}
FORM = {"grant_type": "refresh_token", "refresh_token": "refresh", "client_id": "client", "client_secret": "canary"}


def test_address_is_the_operators() -> None:
    assert adapter.ACCESS.base_url(OAUTH, URLS) == "https://gql.waveapps.com/graphql/public"


def test_token_goes_into_the_header() -> None:
    assert adapter.ACCESS.headers(OAUTH, SECRETS) == {"Authorization": "Bearer access"}


@pytest.mark.parametrize("secrets", [{}, {"access_token": ""}])
def test_missing_token_is_named(secrets: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="wave-main"):
        adapter.ACCESS.headers(OAUTH, secrets)


@pytest.mark.parametrize("oauth_url", ["https://api.waveapps.com/oauth2/", "https://api.waveapps.com/oauth2"])
def test_refresh_is_a_form_with_the_client_in_it(oauth_url: str) -> None:
    call = adapter.ACCESS.token_call(OAUTH, SECRETS, URLS | {"WAVE_OAUTH_URL": oauth_url})
    assert call == TokenCall("https://api.waveapps.com/oauth2/token/", form=FORM)


def test_refresh_tells_the_redirect_uri_when_there_is_one() -> None:
    account = Account("wave-main", "wave", "oauth", {"client_id": "client", "redirect_uri": "https://connector.example/back"})
    call = adapter.ACCESS.token_call(account, SECRETS, URLS)
    assert call == TokenCall("https://api.waveapps.com/oauth2/token/", form=FORM | {"redirect_uri": "https://connector.example/back"})


@pytest.mark.parametrize(("account", "secrets"), [(TOKEN, SECRETS), (OAUTH, {"client_secret": "canary"}), (OAUTH, {"refresh_token": ""})])
def test_there_is_no_refresh_without_a_refresh_token(account: Account, secrets: dict[str, Any]) -> None:
    assert adapter.ACCESS.token_call(account, secrets, URLS) is None


def test_ways_in_take_what_the_product_describes() -> None:
    found = {
        kind.name: (tuple(setting.name for setting in kind.settings), kind.secrets, kind.optional_secrets) for kind in adapter.SYSTEM.auths
    }
    assert found == {
        "oauth": (("client_id", "business_id"), ("client_secret",), ("access_token", "refresh_token")),
        "token": (("business_id",), ("access_token",), ()),
    }


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001", True),
        ("QnVzaW5lc3M6NGY5YTdjMTAtNWMxZS00ZDBjLTljNTctMmYxZDVlNWEwMDAx", True),
        ("QnVzaW5lc3M6", False),
        ("12345", False),
    ],
)
def test_business_id_is_a_uuid_or_a_graphql_id(given: str, taken: bool) -> None:
    setting = next(setting for setting in adapter.SYSTEM.auths[0].settings if setting.name == "business_id")
    assert bool(re.fullmatch(setting.pattern, given)) is taken
