"""A webhook's secrets: two live at once while they are changed, a fingerprint for each, and the time-limited set-up mode."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from integrations.core.errors import Misconfigured
from integrations.models import Connection, Delivery, Intake, WebhookSecret

SETUP_LASTS = timedelta(minutes=15)
SMOOTHED_OVER = 5  # deliveries
LEAST, MOST = 8, 200  # characters of a secret
MOST_SECRETS = 5
WAIT = "Wait for the first delivery that is signed with the newer secret."


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """One secret as it may be shown. `kept_because` says why it cannot be retired yet, "" when it can."""

    fingerprint: str
    added_at: datetime
    verified_at: datetime | None
    newest: bool
    kept_because: str


@sensitive_variables()
def fingerprint(secret: str) -> str:
    """Return what a secret is called on pages: it tells two secrets apart and says nothing about either."""
    return salted_hmac("integrations.webhook_secrets", secret, algorithm="sha256").hexdigest()[:8]


@sensitive_variables()
def stored(intake: Intake) -> list[str]:
    """Return the secrets themselves, in the order in which they were added."""
    found: list[str] = json.loads(intake.secrets)
    return found


@sensitive_variables()
def replace(intake: Intake, wanted: Sequence[str]) -> None:
    """Store this list of secrets; what is known of those that stay is kept."""
    with transaction.atomic():
        Intake.objects.filter(pk=intake.pk).update(secrets=json.dumps(list(wanted)))
        _know(intake, wanted, timezone.now())


def _know(intake: Intake, wanted: Sequence[str], added_at: datetime) -> None:
    """Bring the rows beside the list to one per secret."""
    marks = [fingerprint(secret) for secret in wanted]
    intake.known_secrets.exclude(fingerprint__in=marks).delete()
    for mark in marks:
        WebhookSecret.objects.get_or_create(intake=intake, fingerprint=mark, defaults={"added_at": added_at})


@sensitive_variables()
def add(connection: Connection, secret: str) -> str:
    """Add a secret beside those that are stored; return its fingerprint. Raises Misconfigured."""
    secret = secret.strip()
    if not LEAST <= len(secret) <= MOST or any(letter.isspace() for letter in secret):
        raise Misconfigured(f"A webhook secret is one word of {LEAST} to {MOST} characters: copy it once more.")
    with transaction.atomic():
        intake = _locked(connection)
        live = stored(intake)
        if secret in live:
            raise Misconfigured("This secret is stored already.")
        if len(live) >= MOST_SECRETS:
            raise Misconfigured(f"There are {MOST_SECRETS} secrets already: retire one first.")
        replace(intake, [*live, secret])
    return fingerprint(secret)


@sensitive_variables()
def generate(connection: Connection) -> str:
    """Make a secret, add it, and return it, for it is never shown again. Raises Misconfigured."""
    secret = secrets.token_urlsafe(32)
    add(connection, secret)
    return secret


def retire(connection: Connection, mark: str) -> None:
    """Forget the secret with this fingerprint, so that nothing signed with it is taken any more. Raises Misconfigured."""
    with transaction.atomic():
        intake = _locked(connection)
        known = next((secret for secret in _listed(intake) if secret.fingerprint == mark), None)
        if known is None:
            raise Misconfigured("There is no such secret any more.")
        if known.kept_because:
            raise Misconfigured(known.kept_because)
        replace(intake, [secret for secret in stored(intake) if fingerprint(secret) != mark])


def _locked(connection: Connection) -> Intake:
    Intake.objects.get_or_create(connection=connection)
    return Intake.objects.select_for_update().get(connection=connection)


def listed(connection: Connection) -> list[KnownSecret]:
    """Return the secrets as they may be shown, oldest first. Raises WrongKeyError."""
    intake = Intake.objects.filter(connection=connection).first()
    return _listed(intake) if intake else []


def _listed(intake: Intake) -> list[KnownSecret]:
    marks = [fingerprint(secret) for secret in stored(intake)]
    if set(marks) != set(intake.known_secrets.values_list("fingerprint", flat=True)):
        _know(intake, stored(intake), intake.connection.created_at)  # stored before there were such rows
    rows, last = {row.fingerprint: row for row in intake.known_secrets.all()}, last_verified(intake)
    return [_known([rows[mark] for mark in marks[number:]], last, only=len(marks) == 1) for number in range(len(marks))]


def _known(row_and_newer: Sequence[WebhookSecret], last: Mapping[str, datetime], *, only: bool) -> KnownSecret:
    row, *newer = row_and_newer
    verified_at = last.get(row.fingerprint)
    why = ""
    if only:
        why = "It is the only one: add the new secret first."
    elif verified_at is not None and not any(other.fingerprint in last for other in newer):
        why = WAIT if newer else "It is the newest one that deliveries are signed with."
    return KnownSecret(row.fingerprint, row.added_at, verified_at, newest=not newer, kept_because=why)


# --- What deliveries tell of them --------------------------------------------------------------------------------------


def last_verified(intake: Intake) -> dict[str, datetime]:
    """Return when a delivery last verified with each secret, by fingerprint; a secret that none was signed with is left out."""
    newest = _signed(intake).order_by().values_list("secret").annotate(Max("last_seen_at"))
    # A secret that was retired and added again starts anew.
    added = dict(intake.known_secrets.values_list("fingerprint", "added_at"))
    return {mark: last for mark, last in newest if last >= added[mark]}


def smoothed_skew(intake: Intake) -> float | None:
    """Return by how many seconds the sender's clock is ahead of ours, over the last few deliveries; None while that is not known."""
    newest = _signed(intake).exclude(skew=None).order_by("-last_seen_at").values_list("skew", flat=True)[:SMOOTHED_OVER]
    found = [skew for skew in newest if skew is not None]
    return fmean(found) if found else None


def _signed(intake: Intake) -> QuerySet[Delivery]:
    """Return what was signed with the live secrets, also for another account: several may share one webhook."""
    return Delivery.objects.filter(secret__in=intake.known_secrets.values("fingerprint"))


# --- Set-up mode -----------------------------------------------------------------------------------------------------


def begin_setup(connection: Connection) -> None:
    """Answer 200 to unsigned requests for 15 minutes and do nothing with them: Wave probes an address before it shows the secret."""
    intake, _ = Intake.objects.defer("secrets").get_or_create(connection=connection)
    Intake.objects.filter(pk=intake.pk).update(setup_until=timezone.now() + SETUP_LASTS, probed_at=None)


def end_setup(connection: Connection) -> None:
    """Refuse unsigned requests again."""
    Intake.objects.filter(connection=connection).update(setup_until=None)
