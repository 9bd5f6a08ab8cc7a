"""Retry-After is never undercut, whatever its shape."""

from datetime import UTC, datetime, timedelta

import pytest

from integrations.http import retry_after

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAY, WEEK = 86_400, 7 * 86_400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "93"}, 93),
        ({"Retry-After": " 93 "}, 93),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "1e2"}, 100),
        ({"Retry-After": str(DAY)}, DAY),
        ({"Retry-After": str(DAY + 1)}, DAY + 1),
        ({"Retry-After": str(WEEK)}, WEEK),
        ({"Retry-After": "1795176000"}, WEEK),  # a Unix time
        ({"Retry-After": "inf"}, WEEK),
        ({"Retry-After": "Fri, 20 Nov 2026 12:01:33 GMT"}, 93),
        ({"Retry-After": "Fri, 20 Nov 2026 13:01:33 +0100"}, 93),
        ({"Retry-After": "Sat, 21 Nov 2026 12:00:00 GMT"}, DAY),
        # Our clock is a minute ahead of the vendor's, then a minute behind: the longer wait counts.
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT", "Date": "Fri, 20 Nov 2026 11:59:00 GMT"}, 90),
        ({"Retry-After": "Fri, 20 Nov 2026 12:01:30 GMT", "Date": "Fri, 20 Nov 2026 12:01:00 GMT"}, 90),
        ({"Retry-After": "Fri, 20 Nov 2026 12:01:33 GMT", "Date": "yesterday"}, 93),
    ],
)
def test_the_wait_is_at_least_what_the_vendor_says(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers, now=NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "given", ["", "0", "-1", "-0.5", "nan", "-inf", "soon", "Fri, 20 Nov 2026 11:59:59 GMT", "99 Foo 99999999 99:99:99 GMT", "12 34"]
)
def test_what_names_no_time_to_come_leaves_the_wait_to_us(given: str) -> None:
    assert retry_after({"Retry-After": given}, now=NOW) is None


def test_without_the_header_the_wait_is_ours() -> None:
    assert retry_after({}, now=NOW) is None
