"""The groups that every installation has, made after each migrate once Django has made the permissions."""

from collections.abc import Iterable

from django.apps import apps

APPS = ("audit", "integrations")
REPLAY = ("replay_syncjob", "replay_delivery", "run_sweep")
EDIT = (
    *(f"{verb}_{model}" for model in ("route", "fieldmapping", "statusmapping") for verb in ("add", "change", "delete")),
    "add_connection",
    "change_connection",
    "connect_connection",
)


def ensure_groups() -> None:
    """Create Viewer, Operator and Administrator, or give them what they lack; what somebody added to them stays."""
    permissions = apps.get_model("auth", "Permission").objects.filter(content_type__app_label__in=APPS)
    known = dict(permissions.values_list("codename", "pk"))
    view = [codename for codename in known if codename.startswith("view_")]
    for name, codenames in (("Viewer", view), ("Operator", [*view, *REPLAY]), ("Administrator", [*view, *REPLAY, *EDIT])):
        _ensure(name, [known[codename] for codename in codenames])


def _ensure(name: str, permissions: Iterable[int]) -> None:
    group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=name)
    group.permissions.add(*permissions)
