"""`manage.py provision`: the steps in words; refused mappings whose field is there now are tried again."""

import dataclasses
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from integrations import registry
from integrations.core.errors import Disconnected
from integrations.core.ports import Step
from integrations.models import FieldMapping, Route
from tests.integrations import accounts

pytestmark = pytest.mark.django_db

STEPS = [
    Step("organization field wave_due", "exists"),
    Step('field "Wave total"', "created", "customfield_10101"),
    Step("organization field wave_due_on", "by_hand", "add a date field wave_due_on"),
    Step("organization field wave_new", "create"),
]


@dataclasses.dataclass
class Provisioned:
    """An adapter whose provision gives what a test wants; it notes how it was asked."""

    result: list[Step] | Exception
    asked: list[bool] = dataclasses.field(default_factory=list)

    def build(self, *given: Any) -> "Provisioned":
        return self

    def provision(self, *, dry_run: bool) -> list[Step]:
        self.asked.append(dry_run)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def provisioned(monkeypatch: pytest.MonkeyPatch, result: list[Step] | Exception) -> Provisioned:
    adapter = Provisioned(result)
    entry: Any = dataclasses.replace(registry.DESTINATIONS["zendesk"], build=adapter.build)  # type: ignore[arg-type]
    monkeypatch.setitem(registry.DESTINATIONS, "zendesk", entry)
    return adapter


def refused(route: Route, *targets: str) -> None:
    for target in targets:
        FieldMapping.objects.create(route=route, kind="invoice", target=target, template="x", problem="no such field")


def still_refused() -> list[str]:
    return list(FieldMapping.objects.exclude(problem="").order_by("target").values_list("target", flat=True))


def test_the_steps_are_printed_and_work_for_a_person_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts.route()
    adapter = provisioned(monkeypatch, STEPS)
    call_command("provision")
    assert adapter.asked == [False]
    assert capsys.readouterr().out.splitlines() == [
        "wave-to-zendesk (zendesk)",
        "  exists   organization field wave_due",
        '  created  field "Wave total": customfield_10101',
        "  by_hand  organization field wave_due_on: add a date field wave_due_on",
        "  create   organization field wave_new",
        "  Steps marked by_hand are for an administrator of that account. Syncing works without them; their fields stay out.",
    ]


def test_mappings_of_fields_that_are_there_now_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(accounts.route(), "wave_due", "wave_due_on", "Wave total", "wave_new", "wave")
    provisioned(monkeypatch, STEPS)
    call_command("provision", "wave-to-zendesk")
    assert still_refused() == ["wave", "wave_due_on", "wave_new"]


def test_a_dry_run_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    refused(accounts.route(), "wave_due")
    adapter = provisioned(monkeypatch, STEPS[:1])
    call_command("provision", "--dry-run")
    assert (adapter.asked, still_refused()) == ([True], ["wave_due"])
    assert capsys.readouterr().out.splitlines() == [
        "wave-to-zendesk (zendesk, dry run)",
        "  exists   organization field wave_due",
    ]


def test_an_account_that_cannot_be_reached_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    accounts.route()
    provisioned(monkeypatch, Disconnected("the grant is dead"))
    with pytest.raises(SystemExit) as ended:
        call_command("provision")
    assert (ended.value.code, capsys.readouterr().err.splitlines()) == (1, ["  the grant is dead"])


def test_an_unknown_name_ends_with_2_and_the_nearest() -> None:
    accounts.route()
    with pytest.raises(CommandError) as raised:
        call_command("provision", "wave-to-zendek")
    assert (str(raised.value), raised.value.returncode) == ('there is no route "wave-to-zendek" (did you mean "wave-to-zendesk"?)', 2)
