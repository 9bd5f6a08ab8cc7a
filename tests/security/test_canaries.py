"""A secret shows nowhere: not in the database, the logs, the pages, nor in what commands print, whatever goes wrong."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from pytest_django.fixtures import Settings

from audit.models import Attempt
from integrations import configuration, oauth
from integrations.destinations.jira.adapter import JiraDestination
from integrations.models import Connection, Route
from integrations.sandbox.server import Fault, StandIn
from tests.flows.world import WEBHOOK_SECRET, Setup, World
from tests.security.detector import cells, files, leaks, packed
from tests.security.pages import all_pages, shown, superuser

pytestmark = pytest.mark.django_db(transaction=True)

# Ways in beside OAuth, to the same accounts.
MORE = """
[[connection]]
slug = "zendesk-by-token"
system = "zendesk"
auth = "api_token"
subdomain = "acme"
email = "admin@sandbox.example"
api_token = "env:ZENDESK_TOKEN"

[[connection]]
slug = "zendesk-by-client"
system = "zendesk"
auth = "client_credentials"
subdomain = "acme"
client_id = "sandbox-client"
client_secret = "env:ZENDESK_SECRET"

[[connection]]
slug = "jira-by-token"
system = "jira"
auth = "api_token"
site = "acme"
email = "ops@example.com"
api_token = "env:JIRA_TOKEN"
"""


class Play:
    """The world with a canary in each secret; `secrets` grows with every token that is given out."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.secrets: dict[str, str] = {
            "Wave client secret": "canary-wave-client-secret-51f0c3",
            "Wave webhook secret": WEBHOOK_SECRET,
            "Zendesk client secret": "canary-zendesk-client-secret-77ab10",
            "Zendesk API token": "canary-zendesk-api-token-0d9e42",
            "Jira client secret": "canary-jira-client-secret-c2d811",
            "Jira API token": "canary-jira-api-token-64b7fe",
            "SECRET_KEY": settings.SECRET_KEY,
            **{f"Fernet key {number}": key for number, key in enumerate(settings.FERNET_KEYS)},
        }
        world.wave.client_secret = self.secrets["Wave client secret"]
        world.zendesk.client_secret, world.zendesk.api_token = self.secrets["Zendesk client secret"], self.secrets["Zendesk API token"]
        world.jira.client_secret, world.jira.api_token = self.secrets["Jira client secret"], self.secrets["Jira API token"]

    def connect(self) -> None:
        """Connect every account in every way there is."""
        self.world.configure(Setup(oauth=True))
        configuration.apply(MORE, self.environment())
        self.learn_tokens()

    def environment(self) -> dict[str, str]:
        """Return the variables that MORE names."""
        return {
            "ZENDESK_TOKEN": self.secrets["Zendesk API token"],
            "ZENDESK_SECRET": self.secrets["Zendesk client secret"],
            "JIRA_TOKEN": self.secrets["Jira API token"],
        }

    def learn_tokens(self) -> None:
        """Take the tokens that stand now for canaries too."""
        for connection in Connection.objects.select_related("credential"):
            for name in ("access_token", "refresh_token"):
                token = oauth.secrets_of(connection.credential).get(name)
                if token:
                    self.secrets[f"{connection.slug} {name} {len(self.secrets)}"] = token

    def token(self, system: str, name: str = "access_token") -> str:
        """Return a token as it is stored now."""
        return str(oauth.secrets_of(self.world.connection(system).credential)[name])

    def change(self, invoice: str, number: int) -> None:
        """Change an invoice and deliver that; the workers try what is left, and later once more."""
        self.world.wave.change_invoice(invoice, po_number=f"PO-{number}")
        self.world.deliver("invoice.updated", invoice=invoice)
        self.world.settle_later(minutes=20)
        self.learn_tokens()


def echo(play: Play, system: str) -> Any:
    """Return a refusal's body that says back what we sent, in each vendor's shape."""
    sent = f"you sent Authorization: Bearer {play.token(system)}"
    bodies: dict[str, Any] = {
        "wave": {"errors": [{"message": f"refused: {sent}", "extensions": {"code": "BAD_USER_INPUT"}}], "data": None},
        "zendesk": {"error": "RecordInvalid", "description": sent, "details": {"name": [{"description": sent, "error": "Bad"}]}},
        "jira": {"errorMessages": [sent], "errors": {"summary": sent}},
    }
    return bodies[system]


LABELS = {"wave": "Wave client secret", "zendesk": "Zendesk client secret", "jira": "Jira client secret"}
PLACES = {"wave": "/graphql", "zendesk": "/api/v2/custom_objects/.*records", "jira": "/rest/api/3/issue"}
TOKENS = {"wave": "/oauth2/token/", "zendesk": "/oauth/tokens", "jira": "/auth/oauth/token"}


def failures(play: Play) -> Iterator[tuple[str, Fault]]:
    """Yield all that may go wrong with a call; every system once refuses and says back what we sent."""
    for system, status in (("wave", 200), ("wave", 400), ("zendesk", 422), ("zendesk", 403), ("jira", 400), ("jira", 422)):
        yield system, Fault("status", path=PLACES[system], times=2, status=status, body=echo(play, system))
    for system, path in PLACES.items():
        yield system, Fault("status", path=path, times=2, status=500, body=f"<p>{play.token(system)}</p>")
    for system, kind in (("wave", "html"), ("zendesk", "cut"), ("jira", "reset"), ("jira", "lost"), ("zendesk", "slow")):
        yield system, Fault(kind, path=PLACES[system], seconds=0.4)


def refusals(play: Play) -> Iterator[tuple[str, Fault]]:
    """Yield ways in which a token endpoint refuses, saying back what we sent."""
    for system, path in TOKENS.items():
        sent = f"{play.token(system, 'refresh_token')} {play.secrets[LABELS[system]]}"
        yield system, Fault("status", path=path, times=1, status=500, body={"error": sent})
        yield system, Fault("status", path=path, times=0, status=400, body={"error": "invalid_grant", "error_description": sent})


def expire(play: Play, system: str) -> None:
    """Let an access token run out, so that the next call has to refresh it."""
    if system == "jira":
        play.world.jira.grants.access.clear()
    else:
        getattr(play.world, system).expire(play.token(system))


def printed(*command: str) -> tuple[str, bytes]:
    """Return all that a command prints, also when it fails."""
    out, err = StringIO(), StringIO()
    with suppress(SystemExit):
        try:
            call_command(*command, stdout=out, stderr=err)
        except CommandError as error:
            err.write(str(error))
    return f"command {' '.join(command)}", (out.getvalue() + err.getvalue()).encode()


def logged(caplog: pytest.LogCaptureFixture) -> Iterator[tuple[str, bytes]]:
    """Yield every log record with its arguments and traceback."""
    for record in [*caplog.get_records("setup"), *caplog.get_records("call")]:
        yield f"log {record.name}", f"{logging.Formatter().format(record)} {record.args!r}".encode()


@pytest.fixture
def play(make_world: Callable[[Setup], World], empty_world: World, settings: Settings, caplog: pytest.LogCaptureFixture) -> Play:
    """Return the play before its first act, with every logger at its most talkative."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests", "django.request", "django_q", "integrations", "audit"):
        caplog.set_level(logging.DEBUG, logger=name)
    settings.HTTP_TIMEOUT = 0.2
    return Play(empty_world, settings)


def act(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play everything that may go right and wrong."""
    play.connect()
    world = play.world
    invoice = world.invoice(world.customer())
    world.wave.pay(invoice, "50.00")
    world.sync(invoice)
    for number, (system, fault) in enumerate(failures(play)):
        vendor: StandIn = getattr(world, system)
        vendor.faults.append(fault)
        play.change(invoice, number)
        vendor.faults.clear()
    for system in TOKENS:
        expire(play, system)
        play.change(invoice, 100)
    with monkeypatch.context() as patched:
        patched.setattr(JiraDestination, "write", lambda self, document, bound: int(play.token("jira")))
        play.change(invoice, 200)
    for number, (system, fault) in enumerate(refusals(play)):
        vendor = getattr(world, system)
        expire(play, system)
        vendor.faults.append(fault)
        play.change(invoice, 300 + number)
        vendor.faults.clear()
    body = world.wave.event("invoice.paid", invoice=invoice)
    headers = world.wave.signed_headers(body, "a guessed secret")
    url = f"/webhooks/wave/{world.connection('wave').uuid}/"
    assert world.client.post(url, data=body, content_type="application/json", headers=headers).status_code == 401


def test_no_secret_shows_anywhere(play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    act(play, monkeypatch)
    went = set(Attempt.objects.values_list("ending", flat=True))
    assert {"success", "transient", "rejected", "disconnected"} <= went, "the play must meet every ending to prove anything"
    assert len(play.secrets) > 14, "tokens were refreshed on the way"

    file, wrong = tmp_path / "more.toml", tmp_path / "wrong.toml"
    file.write_text(MORE)
    wrong.write_text(MORE.replace('"env:JIRA_TOKEN"', f'["{play.secrets["Jira API token"]}"]'))
    for name, value in play.environment().items():
        monkeypatch.setenv(name, value)
    commands = [
        ("status", "--json"),
        ("status",),
        ("ping",),
        ("apply", str(file)),
        ("apply", str(wrong)),
        ("provision", "--dry-run"),
        ("provision",),
    ]
    replays = [("replay", "--state", "dead", "--dry-run"), ("replay", "--state", "blocked")]
    outputs = [printed(*command) for command in [*commands, *replays]]
    assert all(text for _, text in outputs)

    client = superuser()
    pages = [shown(path, response) for path, response in all_pages(client)]
    for row in Connection.objects.all():
        pages.append(shown("ping", client.post(reverse("admin:integrations_connection_ping", args=[row.pk]), follow=True)))
    for route in Route.objects.all():
        pages.append(shown("provision", client.post(reverse("admin:integrations_route_provision", args=[route.pk]), follow=True)))
    assert len(pages) > 20

    assert leaks(play.secrets, [*cells(), *packed(), *files(), *logged(caplog), *outputs, *pages]) == []
