"""Guessing passwords is slow, does not lock others out, and leaves no password behind."""

from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from connector_site.login import client_ip

pytestmark = pytest.mark.django_db
RIGHT, WRONG = "a long password of the tests", "wrong-canary"


@pytest.fixture(autouse=True)
def throttle(settings: Any) -> None:
    settings.AXES_ENABLED = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("root", password=RIGHT)
    User.objects.create_superuser("ann", password=RIGHT)


def log_in(name: str, password: str, address: str = "10.0.0.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/admin/login/?next=/admin/", {"username": name, "password": password})


def guess(times: int, address: str = "10.0.0.1") -> list[int]:
    return [log_in("root", WRONG, address).status_code for _ in range(times)]


def test_the_fifth_wrong_password_closes_the_door_even_for_the_right_one() -> None:
    assert guess(5) == [200, 200, 200, 200, 429]
    answer = log_in("root", RIGHT)
    assert (answer.status_code, answer["Retry-After"]) == (429, "900")
    assert "Try again in 15 minutes" in answer.content.decode()


def test_other_names_and_other_places_still_get_in() -> None:
    guess(5)
    assert [log_in("ann", RIGHT).status_code, log_in("root", RIGHT, "10.0.0.2").status_code] == [302, 302]


def test_a_right_password_forgets_the_wrong_ones() -> None:
    assert [*guess(4), log_in("root", RIGHT).status_code, *guess(4)] == [200, 200, 200, 200, 302, 200, 200, 200, 200]


def test_no_password_is_kept() -> None:
    guess(1)
    assert WRONG not in str(AccessAttempt.objects.values().get())


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "1.1.1.1", "10.0.0.1"),  # nobody to believe
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),  # the first was made up by the sender
        (2, "6.6.6.6, 1.1.1.1, 10.0.0.9", "1.1.1.1"),
        (2, "1.1.1.1", "10.0.0.1"),
        (1, "", "10.0.0.1"),
    ],
)
def test_only_our_own_proxies_are_believed(settings: Any, proxies: int, forwarded: str, address: str) -> None:
    settings.PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forwarded)
    assert client_ip(request) == address
