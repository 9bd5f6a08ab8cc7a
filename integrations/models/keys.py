"""The row that tells whether the keys we were started with are those that the secrets were stored with."""

from django.db import models

from integrations.models.secrets import SecretTextField


class KeyCanary(models.Model):
    """One known word, encrypted at the first migrate; never written again except by `rotate_keys`."""

    ONLY = 1  # its primary key

    word = SecretTextField()
    planted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"canary of {self.planted_at:%Y-%m-%d}"
