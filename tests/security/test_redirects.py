"""A redirect is an answer, not an order: nobody else ever gets our credentials."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import responses
from responses.matchers import header_matcher

from integrations import oauth, outgoing, systems
from integrations.core.errors import Transient
from integrations.core.ports import TokenCall
from integrations.models import Connection
from tests.integrations import accounts

ELSEWHERE = "https://evil.example/collect"
STATUSES = (301, 302, 303, 307, 308)
ANYWHERE = re.compile(".*")


def redirecting(mocked: responses.RequestsMock, status: int) -> None:
    for method in ("GET", "POST"):
        mocked.add(method, ANYWHERE, status=status, headers={"Location": ELSEWHERE})


def hosts(mocked: responses.RequestsMock) -> set[str | None]:
    return {urlsplit(str(call.request.url)).hostname for call in mocked.calls}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(("make", "host"), [(accounts.wave, "gql.waveapps.com"), (accounts.zendesk_token, "acme.zendesk.com")])
@pytest.mark.django_db
def test_no_call_to_a_vendor_is_repeated_elsewhere(make: Callable[[], Connection], host: str, status: int) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        redirecting(mocked, status)
        checks = systems.ping(make())
        assert (hosts(mocked), any(check.ok for check in checks)) == ({host}, False)


@pytest.mark.parametrize("status", STATUSES)
def test_a_token_endpoint_that_redirects_gets_no_second_request(status: int) -> None:
    call = TokenCall("https://api.waveapps.com/oauth2/token/", form={"client_secret": "canary"})
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        redirecting(mocked, status)
        with pytest.raises(Transient) as raised:
            oauth.ask(call, system="wave")
        assert (len(mocked.calls), hosts(mocked)) == (1, {"api.waveapps.com"})
    assert "canary" not in str(raised.value)


def test_a_session_follows_nothing_even_when_it_is_told_to() -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked, outgoing.PlainSession() as session:
        mocked.get("https://a.example/", status=302, headers={"Location": ELSEWHERE}, match=[header_matcher({"Authorization": "Bearer x"})])
        mocked.get(ELSEWHERE, status=200)
        answer = session.get("https://a.example/", headers={"Authorization": "Bearer x"}, allow_redirects=True)
        assert (answer.status_code, len(mocked.calls)) == (302, 1)
