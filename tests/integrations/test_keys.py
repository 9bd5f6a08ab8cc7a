"""Keys: which one a secret is on, how it gets to the first, and that nothing runs with the wrong ones."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from pytest_django import Settings

from integrations import keys, tasks
from integrations.models import Connection, Credential, Intake, KeyCanary
from integrations.models.secrets import SecretTextField, WrongKeyError
from tests.integrations import accounts
from tests.integrations.test_apply import stored
from tests.processes.site import ROOT, environment

pytestmark = pytest.mark.django_db
OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
ModelNames = ((Credential, "secrets"), (Intake, "secrets"), (KeyCanary, "word"))


@pytest.fixture
def use(settings: Settings) -> Iterator[Callable[..., None]]:
    """Yield what starts everything anew with these keys, as a new process would."""
    fields = [model._meta.get_field(name) for model, name in ModelNames]

    def forget() -> None:
        keys.check_once.cache_clear()
        for field in fields:
            for name in ("keys", "fernet_keys", "fernet"):
                field.__dict__.pop(name, None)

    def start(*given: str) -> None:
        settings.FERNET_KEYS = list(given)
        forget()

    yield start
    forget()


@pytest.fixture
def on_old_key(use: Callable[..., None]) -> Connection:
    """Store an account with its webhook secret and the canary on the old key."""
    use(OLD)
    KeyCanary.objects.all().delete()
    keys.plant()
    connection = accounts.wave()
    intake = Intake(pk=connection.intake.pk, connection=connection, secrets=json.dumps(["canary-webhook"]))
    intake.save()
    return connection


def raw() -> list[bytes]:
    return [bytes(value) for model, name in ModelNames for value in stored(model, name)]


def tokens() -> dict[Any, bytes]:
    """Return the stored secrets of all credentials by primary key."""
    column = next(column for column in keys.columns() if column.label == "integrations.Credential.secrets")
    return {pk: token for rows in column.rows() for pk, token in rows}


def readable(connection: Connection) -> bool:
    intake = Intake.objects.get(connection=connection)
    return (accounts.held(connection), json.loads(intake.secrets)) == (accounts.WAVE_SECRETS, ["canary-webhook"])


def command(**options: Any) -> str:
    out = StringIO()
    call_command("rotate_keys", stdout=out, **options)
    return out.getvalue()


def name_of(key: str, use: Callable[..., None]) -> str:
    use(key)
    return keys.configured()[0].name


# --- Rotating --------------------------------------------------------------------------------------------------------


def test_every_column_of_secrets_is_found() -> None:
    assert {column.label for column in keys.columns()} >= {
        "integrations.Credential.secrets",
        "integrations.Intake.secrets",
        "integrations.KeyCanary.word",
    }
    assert SecretTextField.__mro__[1].__name__ == "EncryptedTextField"


def test_rotation_moves_everything_to_the_first_key_and_keeps_every_secret(on_old_key: Connection, use: Callable[..., None]) -> None:
    before = Credential.objects.values("version", "changed_at").get(pk=on_old_key.credential_id)
    use(NEW, OLD)
    assert readable(on_old_key)
    seen: list[int] = []
    first, old = (key.name for key in keys.configured())
    assert keys.rotate(seen.append) == {first: 3, old: 0, keys.UNREADABLE: 0}
    assert sum(seen) == keys.total() == 3
    # A refresh that is under way compares the version: a rotation must not make its answer worthless.
    assert Credential.objects.values("version", "changed_at").get(pk=on_old_key.credential_id) == before
    use(NEW)
    assert readable(on_old_key)
    keys.check()


def test_rotating_again_writes_nothing(on_old_key: Connection, use: Callable[..., None]) -> None:
    use(NEW, OLD)
    keys.rotate()
    before = raw()
    keys.rotate()
    assert raw() == before


def test_a_value_that_changed_meanwhile_is_not_overwritten_and_rotated_in_the_next_pass(
    on_old_key: Connection, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(OLD)  # a worker that was started before still encrypts with the old key
    changed = SecretTextField().fernet.encrypt(b'{"access_token": "newer"}')
    use(NEW, OLD)
    ordinary = keys.Column.replace
    raced: list[Any] = []

    def racing(column: keys.Column, pk: Any, old: bytes, new: bytes) -> bool:
        if column.label == "integrations.Credential.secrets" and not raced:
            raced.append(pk)
            assert ordinary(column, pk, old, changed)
        return ordinary(column, pk, old, new)

    monkeypatch.setattr(keys.Column, "replace", racing)
    left = keys.rotate()
    assert (len(raced), left[keys.configured()[0].name]) == (1, 3)
    assert accounts.held(on_old_key) == {"access_token": "newer"}


def test_a_secret_that_no_key_fits_is_left_alone_and_told(on_old_key: Connection, use: Callable[..., None]) -> None:
    use(OTHER)
    lost = Credential.objects.create(secrets='{"a": "b"}')
    use(NEW, OLD)
    before = tokens()[lost.pk]
    with pytest.raises(CommandError) as raised:
        command()
    assert raised.value.returncode == 1
    assert (tokens()[lost.pk], readable(on_old_key)) == (before, True)
    assert keys.tally()[keys.UNREADABLE] == 1


def test_the_command_reports_the_rows_on_each_key_and_shows_no_key(on_old_key: Connection, use: Callable[..., None]) -> None:
    old, new = name_of(OLD, use), name_of(NEW, use)
    use(NEW, OLD)
    before = raw()
    assert command(dry_run=True) == f"key 1 ({new}): 0 rows, encrypts\nkey 2 ({old}): 3 rows, still needed\n"
    assert raw() == before
    said = command()
    assert said == f"key 1 ({new}): 3 rows, encrypts\nkey 2 ({old}): 0 rows, may be taken out of FERNET_KEYS\n"
    assert [key for key in (OLD, NEW) if key in said + repr(keys.configured())] == []


def test_many_rows_are_read_in_batches(on_old_key: Connection) -> None:
    Credential.objects.bulk_create([Credential(secrets=json.dumps({"number": number})) for number in range(25)])
    column = next(column for column in keys.columns() if column.label == "integrations.Credential.secrets")
    batches = [[pk for pk, _ in rows] for rows in column.rows(size=10)]
    assert [len(batch) for batch in batches] == [10, 10, 6]
    assert [pk for batch in batches for pk in batch] == list(Credential.objects.order_by("pk").values_list("pk", flat=True))


# --- The proof at start-up -------------------------------------------------------------------------------------------


def test_the_canary_is_planted_by_migrate() -> None:
    assert [row.word for row in KeyCanary.objects.all()] == [keys.CANARY_WORD]
    before = raw()
    call_command("migrate", verbosity=0)
    assert raw() == before


def test_with_the_wrong_key_nothing_starts_and_nothing_is_written(on_old_key: Connection, use: Callable[..., None], tmp_path: Any) -> None:
    use(OTHER)
    before = raw()
    keys.plant()
    file = tmp_path / "connector.toml"
    file.write_text('[[connection]]\nslug = "wave-main"\nsystem = "wave"\nauth = "oauth"\nclient_secret = "new"\n')
    for command_line in (["apply", str(file)], ["worker"], ["rotate_keys"], ["rotate_keys", "--dry-run"]):
        with pytest.raises(CommandError) as raised:
            call_command(*command_line)
        assert (str(raised.value), raised.value.returncode) == (keys.WRONG, 2)
    for task in (tasks.sync, tasks.sweep, tasks.refresh):
        with pytest.raises(WrongKeyError):
            task()
    assert raw() == before
    use(NEW, OLD)
    tasks.refresh()
    assert readable(on_old_key)


def test_without_a_canary_the_secrets_prove_the_keys(on_old_key: Connection, use: Callable[..., None]) -> None:
    KeyCanary.objects.all().delete()
    use(OTHER)
    keys.plant()
    assert KeyCanary.objects.count() == 0, "a canary of the wrong key would prove that key right"
    with pytest.raises(WrongKeyError):
        keys.check()
    use(OLD)
    keys.check()
    keys.plant()
    assert [row.word for row in KeyCanary.objects.all()] == [keys.CANARY_WORD]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("right", [True, False])
def test_the_web_server_starts_with_the_right_key_only(right: bool) -> None:
    KeyCanary.objects.all().delete()
    keys.plant()
    settings = environment() | ({} if right else {"FERNET_KEYS": OTHER})
    start = [sys.executable, "-c", "import connector_site.wsgi"]
    ended = subprocess.run(start, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, keys.WRONG in ended.stderr) == ((0, False) if right else (1, True)), ended.stderr
    assert OTHER not in ended.stderr


@pytest.mark.django_db(transaction=True)
def test_a_new_database_proves_nothing_and_passes(tmp_path: Any) -> None:
    settings = {**os.environ, **environment(), "DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite3'}"}
    start = [sys.executable, "-c", "import connector_site.wsgi"]
    assert subprocess.run(start, cwd=ROOT, env=settings, capture_output=True, timeout=60, check=False).returncode == 0
