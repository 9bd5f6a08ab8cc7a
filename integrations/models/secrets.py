"""The encrypted field that holds every secret, and the only place that knows its library."""

from typing import Any

from cryptography.fernet import InvalidToken
from fernet_fields import EncryptedTextField

from integrations.core.errors import Misconfigured


class WrongKeyError(Misconfigured):
    """A stored secret cannot be decrypted with any of FERNET_KEYS; a person has to mend that, what depends on it waits."""


class SecretTextField(EncryptedTextField):  # type: ignore[misc]  # the library has no types
    """Text that the database sees only encrypted.

    The library would encrypt the text of an SQL expression, and would raise a wordless error for a wrong key.
    """

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """Encrypt the value; refuse SQL expressions, whose *text* would be stored."""
        if hasattr(value, "resolve_expression"):
            raise TypeError(f"{self.name}: bulk_update() and expressions cannot encrypt; assign the value and save()")
        return super().get_db_prep_save(value, connection)

    def from_db_value(self, value: Any, expression: Any, connection: Any, *args: Any) -> Any:
        """Decrypt the value; raise WrongKeyError naming the field when no key fits."""
        try:
            return super().from_db_value(value, expression, connection, *args)
        except InvalidToken:
            raise WrongKeyError(
                f"{self.model._meta.label}.{self.name} was encrypted with a key that FERNET_KEYS lacks: add the old key to FERNET_KEYS"
            ) from None
