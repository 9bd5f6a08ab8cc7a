"""The groups that every installation has."""

import pytest
from django.contrib.auth.models import Group, Permission

from integrations.groups import ensure_groups

pytestmark = pytest.mark.django_db
OURS = ("audit", "integrations")


def codenames(group: str) -> set[str]:
    return set(Group.objects.get(name=group).permissions.values_list("codename", flat=True))


def test_a_viewer_may_look_at_everything_and_do_nothing() -> None:
    everything = Permission.objects.filter(content_type__app_label__in=OURS, codename__startswith="view_")
    assert codenames("Viewer") == set(everything.values_list("codename", flat=True))
    assert {"view_syncjob", "view_delivery", "view_binding", "view_connection", "view_route"} <= codenames("Viewer")


def test_an_operator_may_also_replay_reconcile_and_backfill() -> None:
    assert codenames("Operator") - codenames("Viewer") == {"replay_syncjob", "replay_delivery", "run_sweep"}


def test_an_administrator_may_also_edit_routes_and_mappings_and_connect_accounts() -> None:
    edits = {f"{verb}_{model}" for verb in ("add", "change", "delete") for model in ("route", "fieldmapping", "statusmapping")}
    assert codenames("Administrator") - codenames("Operator") == {
        *edits,
        "add_connection",
        "change_connection",
        "connect_connection",
    }


def test_a_later_migrate_restores_what_is_missing_and_keeps_what_was_added() -> None:
    viewer, added = Group.objects.get(name="Viewer"), Permission.objects.get(codename="add_user")
    viewer.permissions.set([added])
    ensure_groups()
    assert {"add_user", "view_syncjob"} <= codenames("Viewer")
    assert Group.objects.count() == 3
