"""What a person should know of a connection's way in: when it ends, and what it cannot do."""

from dataclasses import dataclass
from datetime import date, timedelta

from django.utils import timezone

from integrations import registry
from integrations.core.ports import AuthKind
from integrations.models import Connection, Credential

WARN = timedelta(days=90)  # before the vendor's last day
REMIND = timedelta(days=30)  # before a secret's last day, if it was made on the day it was entered


@dataclass(frozen=True, slots=True)
class Caution:
    """A sentence about a way in; an urgent one asks for something to be done."""

    text: str
    urgent: bool = False


def cautions(connection: Connection, today: date | None = None) -> list[Caution]:
    """Return what holds for the connection's way in today; reads no secret."""
    known = registry.entry(connection.system).system
    kind = known.auth(connection.auth)
    if kind is None:
        return []
    today = today or timezone.now().date()
    found = [Caution(kind.advice)] if kind.advice else []
    return [*found, *_end_of_way(kind, known.label, today), *_end_of_secret(kind, connection, today)]


def _end_of_way(kind: AuthKind, label: str, today: date) -> list[Caution]:
    if kind.ends_on is None:
        return []
    day = f"{kind.ends_on:%d %B %Y}"
    if today >= kind.ends_on:
        return [Caution(f"{label} ended this way in on {day}: choose another one.", urgent=True)]
    left = (kind.ends_on - today).days
    return [Caution(f"{label} ends this way in on {day}, in {left} days: choose another one before.", urgent=kind.ends_on - today <= WARN)]


def _end_of_secret(kind: AuthKind, connection: Connection, today: date) -> list[Caution]:
    if kind.lives is None or connection.pk is None:
        return []
    entered = Credential.objects.values_list("changed_at", flat=True).get(pk=connection.credential_id).date()
    end = entered + kind.lives
    text = f"The secret was entered on {entered:%d %B %Y}, so it ends on {end:%d %B %Y} at the latest: enter a new one before."
    return [Caution(text, urgent=end - today <= REMIND)]
