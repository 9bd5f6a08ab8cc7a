"""Ten thousand secrets change their key: killed half way and run again, every one readable all the time."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet
from pytest_django import Settings

from integrations import keys
from integrations.models import Credential, KeyCanary
from tests.processes.site import Site, until

ROWS = 10_000
OLD, NEW = Fernet.generate_key(), Fernet.generate_key()
BOTH = f"{NEW.decode()},{OLD.decode()}"
COLUMN = keys.Column("secrets", "integrations_credential", "secrets", "id")


@pytest.fixture
def processes(transactional_db: None, tmp_path: Path) -> Iterator[Site]:
    """Yield what starts processes, without a world around them."""
    site = Site(None, tmp_path)  # type: ignore[arg-type]
    yield site
    site.close()


def secret(pk: int) -> bytes:
    return json.dumps({"number": pk}).encode()


@pytest.fixture
def on_old_key(processes: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Store many secrets on the old key; the canary too."""
    settings.FERNET_KEYS = BOTH.split(",")
    KeyCanary.objects.all().delete()
    monkeypatch.setitem(Credential._meta.get_field("secrets").__dict__, "fernet", Fernet(OLD))
    Credential.objects.bulk_create([Credential(pk=pk, secrets=secret(pk).decode()) for pk in range(1, ROWS + 1)])
    return processes


def wrong() -> list[int]:
    """Return the rows that the two keys do not read as what they were."""
    fernet = MultiFernet([Fernet(NEW), Fernet(OLD)])
    return [pk for rows in COLUMN.rows(size=2000) for pk, token in rows if fernet.decrypt(token) != secret(pk)]


def on_new_key() -> int:
    new = keys.configured()[0]
    return sum(new.fits(token) for rows in COLUMN.rows(size=2000) for _, token in rows)


def test_a_rotation_that_is_killed_half_way_is_finished_by_the_next(on_old_key: Site) -> None:
    rotate = (sys.executable, "manage.py", "rotate_keys")
    first = on_old_key.start("first", *rotate, FERNET_KEYS=BOTH)
    until(lambda: on_new_key() > ROWS // 4, "it is well under way")
    on_old_key.kill(first)
    done = on_new_key()
    assert ROWS // 4 < done < ROWS, on_old_key.log("first")
    assert wrong() == []

    second = on_old_key.start("second", *rotate, FERNET_KEYS=BOTH)
    looked = 0
    while second.poll() is None:
        assert wrong() == []
        looked += 1
    assert (second.returncode, wrong(), looked > 0) == (0, [], True), on_old_key.log("second")
    new, old = (key.name for key in keys.configured())
    told = [f"key 1 ({new}): {ROWS} rows, encrypts", f"key 2 ({old}): 0 rows, may be taken out of FERNET_KEYS"]
    assert on_old_key.log("second").splitlines() == told
    assert (on_new_key(), keys.tally()[old]) == (ROWS, 0)
