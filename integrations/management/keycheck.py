"""Commands that read or write secrets refuse to start with the wrong keys."""

from django.core.management.base import CommandError

from integrations import keys
from integrations.models.secrets import WrongKeyError


def require_keys() -> None:
    """Raise CommandError (exit 2) unless FERNET_KEYS fits this database."""
    try:
        keys.check()
    except WrongKeyError as error:
        raise CommandError(str(error), returncode=2) from None
