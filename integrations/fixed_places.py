"""Keeps a connection at the place its records are bound at: another place is another connection."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db.models import Q

from integrations import oauth, registry, rules
from integrations.core.errors import Misconfigured
from integrations.core.ports import Account
from integrations.models import Binding, Connection


def check_place_kept(connection: Connection, settings: Mapping[str, Any]) -> None:
    """Refuse settings that would lead a stored connection elsewhere while records are bound through it."""
    stored = Connection.objects.filter(pk=connection.pk).first()
    if stored is None:
        return
    before = oauth.account(stored)
    after = replace(before, settings={name: str(value) for name, value in settings.items()})
    # A way in that has no such setting leads there by other means; one that has it must not be emptied and filled anew.
    names = [setting.name for setting in rules.auth_kind(stored.system, connection.auth).settings if setting.place]
    moved = [name for name in names if _moves(before, after, name)]
    if moved and Binding.objects.filter(Q(route__source=stored) | Q(route__destination=stored)).exists():
        raise Misconfigured(f'setting "{moved[0]}" is fixed once records are bound: make a new connection')


def _moves(before: Account, after: Account, name: str) -> bool:
    if not before.settings.get(name):
        return False
    return not after.settings.get(name) or _place(before, name) != _place(after, name)


def _place(account: Account, name: str) -> str:
    """Return what the setting stands for: a business has two spellings."""
    source = registry.SOURCES.get(account.system)
    return source.business(account) if source else account.settings[name]
