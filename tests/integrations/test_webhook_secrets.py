"""Webhook secrets: rotation without a gap, fingerprints, and what a delivery tells of secret and clock."""

import json
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from integrations import registry, webhook_secrets
from integrations.core.errors import Misconfigured
from integrations.models import Connection, Delivery, Intake, WebhookSecret
from tests.conftest import BUSINESS, WEBHOOK_SECRET

pytestmark = pytest.mark.django_db
Make = Callable[..., Connection]
NEW = "the-new-webhook-secret"
OTHER_BUSINESS = "5f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0002"


def post(connection: Connection, secret: str, number: int = 1, *, late: float = 0, body: bytes = b"") -> int:
    event = {"event_id": str(number), "event_type": "estimate.sent", "business_id": BUSINESS, "data": {}}
    raw = body or json.dumps(event).encode()
    headers = registry.SOURCES["wave"].sign(raw, secret, time.time() - late)
    return Client().post(f"/webhooks/wave/{connection.uuid}/", raw, "application/json", headers=headers).status_code


def shown(connection: Connection) -> list[tuple[str, bool, str]]:
    return [(known.fingerprint, known.verified_at is not None, known.kept_because) for known in webhook_secrets.listed(connection)]


def test_rotation_has_no_gap_and_the_old_one_goes_only_after_the_new_one_was_used(wave_connection: Make) -> None:
    wave = wave_connection()
    old = webhook_secrets.fingerprint(WEBHOOK_SECRET)
    assert post(wave, WEBHOOK_SECRET) == 200
    assert shown(wave) == [(old, True, "It is the only one: add the new secret first.")]

    new = webhook_secrets.add(wave, f" {NEW}\n")
    assert shown(wave) == [(old, True, webhook_secrets.WAIT), (new, False, "")]
    with pytest.raises(Misconfigured, match="Wait for the first delivery"):
        webhook_secrets.retire(wave, old)

    assert [post(wave, WEBHOOK_SECRET, 2), post(wave, NEW, 3)] == [200, 200]
    webhook_secrets.retire(wave, old)
    assert [post(wave, WEBHOOK_SECRET, 4), post(wave, NEW, 5)] == [401, 200]
    assert [row.fingerprint for row in WebhookSecret.objects.all()] == [new]


def test_a_mistyped_new_secret_can_be_taken_back(wave_connection: Make) -> None:
    wave = wave_connection()
    post(wave, WEBHOOK_SECRET)
    webhook_secrets.retire(wave, webhook_secrets.add(wave, NEW))
    assert json.loads(Intake.objects.get().secrets) == [WEBHOOK_SECRET]


@pytest.mark.parametrize("secret", ["", "short", "two words here", "x" * 201, WEBHOOK_SECRET])
def test_what_is_no_new_secret_is_refused(wave_connection: Make, secret: str) -> None:
    wave = wave_connection()
    with pytest.raises(Misconfigured):
        webhook_secrets.add(wave, secret)
    assert json.loads(Intake.objects.get().secrets) == [WEBHOOK_SECRET]


def test_a_fingerprint_says_nothing_of_the_secret(wave_connection: Make) -> None:
    mark = webhook_secrets.add(wave_connection(), NEW)
    assert (len(mark), mark in NEW, NEW in repr(webhook_secrets.listed(Connection.objects.get()))) == (8, False, False)


def test_deliveries_tell_the_senders_clock_over_the_last_few(wave_connection: Make) -> None:
    wave = wave_connection()
    shown(wave)
    assert webhook_secrets.smoothed_skew(wave.intake) is None
    post(wave, WEBHOOK_SECRET, 1, late=100)
    first = Delivery.objects.get()
    assert (round((first.skew or 0) / 10), first.secret) == (-10, webhook_secrets.fingerprint(WEBHOOK_SECRET))
    for number in range(2, 6):
        post(wave, WEBHOOK_SECRET, number)
    assert -25 < (webhook_secrets.smoothed_skew(wave.intake) or 0) < -15
    post(wave, WEBHOOK_SECRET, 6)
    assert -5 < (webhook_secrets.smoothed_skew(wave.intake) or 0) <= 0


def test_one_that_comes_again_tells_what_it_is_signed_with_now(wave_connection: Make) -> None:
    wave = wave_connection()
    post(wave, WEBHOOK_SECRET)
    old, new = shown(wave)[0][0], webhook_secrets.add(wave, NEW)
    assert post(wave, NEW) == 200
    assert (Delivery.objects.get().seen, Delivery.objects.get().secret) == (2, new)
    webhook_secrets.retire(wave, old)


def test_a_secret_that_is_added_again_waits_for_a_delivery_anew(wave_connection: Make) -> None:
    wave = wave_connection()
    old, new = shown(wave)[0][0], webhook_secrets.add(wave, NEW)
    post(wave, NEW, 1)
    webhook_secrets.retire(wave, old)
    webhook_secrets.add(wave, WEBHOOK_SECRET)
    post(wave, WEBHOOK_SECRET, 2)
    webhook_secrets.retire(wave, new)
    webhook_secrets.add(wave, NEW)
    assert shown(wave) == [(old, True, webhook_secrets.WAIT), (new, False, "")]


def test_a_delivery_that_is_handed_to_another_account_proves_the_secret_of_both(wave_connection: Make) -> None:
    wave, other = wave_connection(), wave_connection("wave-other", business=OTHER_BUSINESS)
    assert [mark for mark, *_ in shown(wave)] == [mark for mark, *_ in shown(other)]
    body = json.dumps({"event_id": "1", "event_type": "estimate.sent", "business_id": OTHER_BUSINESS, "data": {}}).encode()
    assert post(wave, WEBHOOK_SECRET, body=body) == 200
    assert Delivery.objects.get().connection == other
    assert [verified for each in (wave, other) for _, verified, _ in shown(each)] == [True, True]


@pytest.mark.usefixtures("no_counts")
def test_a_stale_delivery_tells_how_far_it_was_off_and_does_not_count_as_verified(wave_connection: Make) -> None:
    assert post(wave_connection(), WEBHOOK_SECRET, late=400) == 401
    row = Intake.objects.get()
    assert (Delivery.objects.count(), round((row.stale_skew or 0) / 10), row.stale_signed) == (0, -40, 1)


def test_our_own_test_delivery_is_stored_ignored_and_proves_nothing_of_the_sender(wave_connection: Make) -> None:
    wave = wave_connection()
    assert post(wave, WEBHOOK_SECRET, body=registry.SOURCES["wave"].sample(BUSINESS, "test-1")) == 200
    delivery = Delivery.objects.get()
    assert (delivery.event_type, delivery.decision, delivery.reason, delivery.job_ids) == ("connector.test", "ignored", "by_name", [])
    assert (delivery.secret, delivery.skew, [verified for _, verified, _ in shown(wave)]) == ("", None, [False])


def test_set_up_mode_ends_by_itself_and_shows_the_probe(wave_connection: Make) -> None:
    wave = wave_connection()

    def probe() -> int:
        return Client().post(f"/webhooks/wave/{wave.uuid}/", b"{}", "application/json").status_code

    assert probe() == 401
    webhook_secrets.begin_setup(wave)
    assert (probe(), Intake.objects.get().probed_at is not None, Delivery.objects.count()) == (200, True, 0)
    Intake.objects.update(setup_until=timezone.now() - timedelta(seconds=1))
    assert probe() == 401
    webhook_secrets.begin_setup(wave)
    webhook_secrets.end_setup(wave)
    assert probe() == 401
