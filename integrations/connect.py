"""Connects accounts in the browser: out to the vendor's consent page, back with a code, tokens stored for the right account."""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import requests
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from integrations import oauth, outgoing, registry, systems
from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Transient
from integrations.core.ports import Account, Back, Consent, Going, Place
from integrations.http import ApiClient
from integrations.models import Connection, Credential, Route
from integrations.oauth import Tokens

WAY_IN = "oauth"
ASKED, ANSWERED, CHOICE = "connect_asked", "connect_answered", "connect_choice"  # in the session
LIVES = timedelta(minutes=10)  # of a state, and of a choice between several places
MOST = 5  # consent pages open at once in one browser
TOKENS = ("access_token", "refresh_token", "api_token")
AGAIN = "press Connect again"

# What a consent page's refusal means: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1
ERRORS = {
    "access_denied": f"access was denied there. To connect, {AGAIN} and approve",
    "invalid_scope": f"a scope was refused. Allow these for your app or client there, then {AGAIN}: {{scopes}}",
    "unauthorized_client": f"the app or client may not be used in this way. Compare it with the steps on the set-up page, then {AGAIN}",
    "invalid_client": f"client id or secret was refused. Check both, then {AGAIN}",
    "invalid_request": f"the request was refused. Compare client id and redirect URI with the steps on the set-up page, then {AGAIN}",
    "redirect_uri_mismatch": f"the redirect URI differs from the registered one. Register {{redirect_uri}}, then {AGAIN}",
    "server_error": f"something went wrong there. Wait a few minutes, then {AGAIN}",
    "temporarily_unavailable": f"it is busy. Wait a few minutes, then {AGAIN}",
    # Of the token endpoint: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    "invalid_grant": f"the code was used already or has expired (it lives {{code_lives}}). {AGAIN.capitalize()} and do not pause",
}


class Refused(Exception):  # noqa: N818 - the design's words
    """The account was not connected and nothing was changed; the message says why and what to do."""

    def __init__(self, message: str, connection: Connection | None = None) -> None:
        super().__init__(message)
        self.connection = connection


@dataclass(frozen=True, slots=True)
class Ending:
    """How a way back ended; without a place, a person has to choose one. `paused` names routes that wait to be resumed."""

    connection: Connection
    place: Place | None = None
    paused: tuple[str, ...] = ()


def redirect_uri(system: str) -> str:
    """Return the address to register at the vendor, one per system, so that no vendor gets another one's code."""
    return f"{settings.PUBLIC_URL}/oauth/{system}/callback/"


def needed_scopes(connection: Connection) -> tuple[str, ...]:
    """Return the scopes that the connection asks for."""
    return _consent(connection).scopes(oauth.account(connection))


# --- Out -------------------------------------------------------------------------------------------------------------


def begin(connection: Connection, session: SessionBase) -> str:
    """Return the address of the vendor's consent page; what must come back is noted in the session. Raises Misconfigured."""
    if connection.auth != WAY_IN:
        raise Misconfigured("this way in has no consent page: enter its secrets and press Ping")
    _expected(connection)
    consent = _consent(connection)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48) if consent.pkce else ""
    going = Going(redirect_uri(connection.system), state, _challenge(verifier))
    url = outgoing.checked_url(consent.authorize(oauth.account(connection), outgoing.vendor_urls(), going))
    entry = {"connection": connection.pk, "system": connection.system, "verifier": verifier, "until": _until()}
    session[ASKED] = dict([*session.get(ASKED, {}).items(), (state, entry)][-MOST:])
    return url


# https://www.rfc-editor.org/rfc/rfc7636#section-4.2
def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode() if verifier else ""


def _until() -> float:
    return (timezone.now() + LIVES).timestamp()


def _consent(connection: Connection) -> Consent:
    return registry.entry(connection.system).consent


def _label(connection: Connection) -> str:
    return registry.entry(connection.system).system.label


# --- Back ------------------------------------------------------------------------------------------------------------


@sensitive_variables()
def finish(system: str, given: Mapping[str, str], session: SessionBase) -> Ending:
    """Take what came back from the consent page of a system, store the tokens and make the connection ready.

    The state is spent whatever happens. Raises Refused.
    """
    asked = _asked(system, given.get("state", ""), session)
    connection = Connection.objects.select_related("credential").filter(pk=asked["connection"], system=system, auth=WAY_IN).first()
    if connection is None:
        raise Refused("The connection was deleted meanwhile, or its way in was changed.")
    try:
        _refuse_error(connection, given)
        tokens = _exchanged(connection, given.get("code", ""), asked["verifier"])
        return _placed(connection, tokens, _places(connection, tokens), session)
    except Misconfigured as error:
        raise Refused(f"{_label(connection)}: {error}.", connection) from None


def _asked(system: str, state: str, session: SessionBase) -> dict[str, Any]:
    """Spend a state and return what was noted with it; one of another session, system or time is none."""
    entries = dict(session.get(ASKED, {}))
    entry: dict[str, Any] | None = entries.pop(state, None)
    answered = session.get(ANSWERED, [])
    if entry is None:
        if state in answered:
            raise Refused(f"This answer was taken already, and counts once. If the account is not connected, {AGAIN}.")
        raise Refused(f"Nobody asked for this answer in this browser, so it was not taken. Open the connection and {AGAIN}.")
    session[ASKED], session[ANSWERED] = entries, [*answered, state][-MOST:]
    if entry["system"] != system:
        raise Refused(f"This answer belongs to another system, so it was not taken. Open the connection and {AGAIN}.")
    if entry["until"] < timezone.now().timestamp():
        raise Refused(f"The answer came later than {_minutes()} minutes, so it was not taken. Open the connection and {AGAIN}.")
    return entry


def _minutes() -> int:
    return round(LIVES.total_seconds() / 60)


def _refuse_error(connection: Connection, given: Mapping[str, str]) -> None:
    if "error" in given:
        raise Refused(_words(connection, given["error"]), connection)
    if not given.get("code"):
        raise Refused(f"{_label(connection)} sent neither a code nor an error: {AGAIN}.", connection)


def _words(connection: Connection, error: str) -> str:
    """Return an OAuth error in words that say what to do."""
    label, known = _label(connection), ERRORS.get(error)
    if known is None:
        return f'{label}: it answered the error "{error[:60]}". Compare it with the steps on the set-up page, then {AGAIN}.'
    filled = known.format(
        scopes=" ".join(needed_scopes(connection)),
        redirect_uri=redirect_uri(connection.system),
        code_lives=_consent(connection).code_lives,
    )
    return f"{label}: {filled}."


@sensitive_variables()
def _exchanged(connection: Connection, code: str, verifier: str) -> Tokens:
    """Turn the code into tokens, and refuse those that lack a scope: some vendors grant less without a word."""
    back = Back(redirect_uri(connection.system), code, verifier)
    held = oauth.secrets_of(connection.credential)
    call = _consent(connection).exchange(oauth.account(connection), held, outgoing.vendor_urls(), back)
    try:
        tokens = oauth.ask(call, system=connection.system)
    except Disconnected as error:
        raise Refused(_words(connection, error.code) if error.code in ERRORS else f"{_label(connection)}: {error}.", connection) from None
    except Transient as error:
        raise Refused(f"{_label(connection)} gave no tokens ({error}): wait a few minutes, then {AGAIN}.", connection) from None
    lacking = lacking_scopes(_consent(connection), oauth.account(connection), tokens)
    if lacking:
        advice = f"Allow them for your app or client there, then {AGAIN} and approve all of them"
        raise Refused(f"{_label(connection)} did not grant what is needed: {', '.join(lacking)}. {advice}.", connection)
    return tokens


def lacking_scopes(consent: Consent, account: Account, tokens: Tokens) -> list[str]:
    """Return the needed scopes that were not granted; an answer without scopes grants what was asked for.

    https://www.rfc-editor.org/rfc/rfc6749#section-5.1
    """
    needed = consent.scopes(account)
    granted = set(tokens.scope.split() or needed) - {"offline_access"}
    if tokens.refresh_token:
        granted.add("offline_access")  # whatever it says: the refresh token is what this scope is for
    return [scope for scope in needed if not {scope, f"{scope.partition(':')[0]}:*"} & granted]


# --- The place -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Bearer:
    """The new token, before it is stored."""

    connection: Connection
    token: str

    def headers(self) -> dict[str, str]:
        """Return the header that proves who we are."""
        access = registry.entry(self.connection.system).access
        return access.headers(oauth.account(self.connection), {"access_token": self.token})

    def renew(self, stale: dict[str, str]) -> bool:
        """Say that there is no other."""
        return False


@sensitive_variables()
def _places(connection: Connection, tokens: Tokens) -> list[Place]:
    entry = registry.entry(connection.system)
    with outgoing.PlainSession() as http:
        bearer = _Bearer(connection, tokens.access_token)
        try:
            return entry.places(lambda url: _client(url, bearer, http), oauth.account(connection), outgoing.vendor_urls())
        except ConnectorError as error:
            advice = f"wait a few minutes, then {AGAIN}" if isinstance(error, Transient) else f"check what the person may do, then {AGAIN}"
            raise Refused(f"{_label(connection)} did not show what the new tokens reach ({error}): {advice}.", connection) from None


def _client(url: str, bearer: _Bearer, http: requests.Session) -> ApiClient:
    return ApiClient(outgoing.checked_url(url), bearer, http, timeout=outgoing.timeout())


@sensitive_variables()
def _placed(connection: Connection, tokens: Tokens, places: list[Place], session: SessionBase) -> Ending:
    """Store the tokens for the only place that fits; several are held until a person has chosen."""
    fitting = _fitting(connection, places)
    if len(fitting) > 1:
        _hold(connection, tokens, fitting, session)
        return Ending(connection)
    return _take(connection, tokens, fitting[0])


def _fitting(connection: Connection, places: list[Place]) -> list[Place]:
    """Return the places that the connection may be for; refuse a silent switch of place or person."""
    consent, expected = _consent(connection), _expected(connection)
    if not places:
        raise Refused(f"The grant reaches no {consent.place_word}. {consent.note} Then {AGAIN}.", connection)
    fitting = [place for place in places if expected in ("", place.id)]
    if not fitting:
        reached = ", ".join(place.name for place in places)
        known = connection.account.get("place_name") or expected
        raise Refused(
            f"This connection is for the {consent.place_word} {known}, but the grant reaches {reached}. Nothing was changed. "
            f"{AGAIN.capitalize()} and choose {known}, or make a new connection for the other {consent.place_word}.",
            connection,
        )
    _refuse_other_person(connection, fitting[0])
    return fitting


def _expected(connection: Connection) -> str:
    """Return the id of the place that the connection is for, "" while that is open. Raises Misconfigured when two are named."""
    consent = _consent(connection)
    connected, configured = str(connection.account.get("place") or ""), consent.place(oauth.account(connection))
    if connected and configured and connected != configured:
        name = connection.account.get("place_name") or connected
        raise Misconfigured(
            f"this connection was connected to the {consent.place_word} {name}, and its settings name {configured} now: "
            f"set them back, or make a new connection for the other {consent.place_word}"
        )
    return connected or configured


def _refuse_other_person(connection: Connection, place: Place) -> None:
    known = str(connection.account.get("person") or "")
    if known and place.person != known:
        name, label = connection.account.get("person_name") or known, _label(connection)
        raise Refused(
            f"{label}: wrong account. This connection works as {name}, but {place.person_name or place.person} consented. "
            f"Nothing was changed. Sign in at {label} as {name} and {AGAIN}; to change the person, press Disconnect first, "
            "or make a new connection.",
            connection,
        )


# --- A choice between several ------------------------------------------------------------------------------------------


@sensitive_variables()
def _hold(connection: Connection, tokens: Tokens, places: list[Place], session: SessionBase) -> None:
    """Keep the tokens encrypted, in a row of no connection, until a place is chosen; rows nobody came back for go."""
    Credential.objects.filter(connections=None, changed_at__lt=timezone.now() - 2 * LIVES).delete()
    pair = {"access_token": tokens.access_token, "refresh_token": tokens.refresh_token}
    waiting = Credential.objects.create(secrets=json.dumps(pair), expires_at=tokens.expires_at, scope=tokens.scope)
    session[CHOICE] = {
        "connection": connection.pk,
        "credential": waiting.pk,
        "until": _until(),
        "places": [asdict(place) for place in places],
    }


def choices(connection: Connection, session: SessionBase) -> list[Place]:
    """Return the places that wait to be chosen from in this browser, none when it took too long."""
    held = session.get(CHOICE, {})
    if held.get("connection") != connection.pk or held["until"] < timezone.now().timestamp():
        return []
    return [Place(**place) for place in held["places"]]


@sensitive_variables()
def choose(connection: Connection, place_id: str, session: SessionBase) -> Ending:
    """Store the tokens that were held for this place. Raises Refused."""
    chosen = [place for place in choices(connection, session) if place.id == place_id]
    if not chosen:
        raise Refused(f"The choice is not open any more: {AGAIN}.", connection)
    waiting = Credential.objects.filter(pk=session.pop(CHOICE)["credential"], connections=None).first()
    if waiting is None or waiting.expires_at is None:
        raise Refused(f"The choice is not open any more: {AGAIN}.", connection)
    pair = oauth.secrets_of(waiting)
    waiting.delete()
    tokens = Tokens(pair["access_token"], waiting.expires_at, pair["refresh_token"], waiting.scope)
    try:
        return _take(connection, tokens, _fitting(connection, chosen)[0])
    except Misconfigured as error:
        raise Refused(f"{_label(connection)}: {error}.", connection) from None


# --- Storing -----------------------------------------------------------------------------------------------------------


@sensitive_variables()
def _take(connection: Connection, tokens: Tokens, place: Place) -> Ending:
    """Store tokens and place; the connection is ready then, and so is every other one that shares the grant."""
    _refuse_second(connection, place)
    with transaction.atomic():
        own = connection.credential_id
        credential = Credential.objects.select_for_update().get(pk=_shared(connection, place) or own)
        oauth.store(_cleared(credential, connection), tokens)
        Connection.objects.filter(pk=connection.pk).update(
            credential=credential,
            settings=_settings_for(connection, place),
            account={**connection.account, **_memory(place)},
        )
        Credential.objects.filter(pk=own, connections=None).delete()
        for row in credential.connections.filter(Q(pk=connection.pk) | Q(status=Connection.Status.NEEDS_RECONNECT)):
            systems.mark_ready(row)
    connection.refresh_from_db()
    return Ending(connection, place, paused_routes(connection))


def _refuse_second(connection: Connection, place: Place) -> None:
    """Refuse to connect a source twice: its records would be read for two, and a delivery belongs to one."""
    if connection.system not in registry.SOURCES or connection.account.get("place") == place.id:
        return
    consent = _consent(connection)
    for other in Connection.objects.filter(system=connection.system).exclude(pk=connection.pk):
        if consent.place(oauth.account(other)) == place.id:
            message = (
                f"The {consent.place_word} {place.name} is connected already, as {other.slug}: use that connection. Nothing was changed."
            )
            raise Refused(message, connection)


def _shared(connection: Connection, place: Place) -> int | None:
    """Return the credential of the same grant where the vendor keeps one per app and person: two copies would kill each other."""
    if not _consent(connection).one_grant:
        return None
    others = Connection.objects.filter(system=connection.system, auth=WAY_IN).exclude(pk=connection.pk).order_by("pk")
    client = connection.setting("client_id")
    return next(
        (row.credential_id for row in others if row.account.get("person") == place.person and row.setting("client_id") == client), None
    )


@sensitive_variables()
def _cleared(credential: Credential, connection: Connection) -> Credential:
    """Take the old pair out of a credential, and put the client's secret that just proved right into it."""
    held = json.loads(credential.secrets)
    proven = oauth.secrets_of(connection.credential).get("client_secret")
    kept = {name: value for name, value in held.items() if name not in TOKENS} | ({"client_secret": proven} if proven else {})
    rows = Credential.objects.filter(pk=credential.pk)
    # The version tells a worker that is refreshing the old token that its answer is worth nothing any more.
    rows.update(secrets=json.dumps(kept), version=F("version") + 1, expires_at=None, scope="", changed_at=timezone.now())
    return rows.get()


def _settings_for(connection: Connection, place: Place) -> dict[str, Any]:
    """Return the settings that choose the place, as they are where they do so already."""
    chosen = _consent(connection).place(oauth.account(connection)) == place.id
    return dict(connection.settings) if chosen else {**connection.settings, **place.settings}


def _memory(place: Place) -> dict[str, str]:
    return {"place": place.id, "place_name": place.name, "person": place.person, "person_name": place.person_name}


def paused_routes(connection: Connection) -> tuple[str, ...]:
    """Return the names of the connection's routes that wait to be resumed."""
    routes = Route.objects.filter(Q(source=connection) | Q(destination=connection)).exclude(paused_at=None)
    return tuple(routes.order_by("slug").values_list("slug", flat=True))
