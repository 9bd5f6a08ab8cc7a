"""`make test`: every check the project must pass, one after the other, on SQLite and where one answers on PostgreSQL."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parent.parent
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
PYTHON = sys.executable
# What never touches the product's database, brings its own, or looks at what is the same on any, needs no second run on another engine.
ENGINE_FREE = (
    "core",
    "sandbox",
    "sources",
    "destinations",
    "browser",
    "admin",
    "security",
    "simulation",
    "test_readme.py",
    "processes/test_bench.py",
    "processes/test_demo.py",
    "flows/test_backfill_memory.py",
    "flows/test_backfill_pace.py",
    "flows/test_payloads.py",
)
# What takes long and uses the database in ordinary ways is run once, on PostgreSQL where it answers, which is the stricter one.
ON_ONE = (
    "flows/test_backfill_faults.py",
    "flows/test_call_economy.py",
    "flows/test_documents.py",
    "flows/test_doubt.py",
    "flows/test_jira_webhooks.py",
    "flows/test_limits.py",
    "flows/test_reconcile_drift.py",
    "flows/test_refused_refresh.py",
    "processes/test_crashes.py",
    "processes/test_rotation.py",
)
BIN = Path(PYTHON).parent


def environment(**more: str) -> dict[str, str]:
    """Return an environment with throw-away keys and an https address, as `check --deploy` wants it."""
    keys = {"SECRET_KEY": secrets.token_urlsafe(60), "FERNET_KEYS": Fernet.generate_key().decode()}
    # Bytecode is kept, or each of the many processes would compile the tests and the product anew.
    python = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
    return {**os.environ, **keys, **python, "PUBLIC_URL": "https://connector.example.com", "DEBUG": "0", **more}


def postgres_answers() -> bool:
    """Say whether a PostgreSQL can be used for tests."""
    parts = urlsplit(POSTGRES)
    try:
        psycopg.connect(
            host=parts.hostname, port=parts.port or 5432, user=parts.username, password=parts.password, connect_timeout=2
        ).close()
    except psycopg.Error:
        return False
    return True


def step(name: str, *command: str, env: dict[str, str]) -> bool:
    """Run one check, print how it went, and return whether it passed."""
    started = time.monotonic()
    print(f"--- {name}", flush=True)  # noqa: T201 - this is the report
    passed = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0
    print(f"--- {name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
    return passed


def without(names: Sequence[str]) -> list[str]:
    """Return the options that leave out these files and folders of the tests."""
    return [f"--ignore=tests/{name}" for name in names]


def main() -> int:
    """Run all checks, also after one has failed, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        sqlite = environment(DATABASE_URL=f"sqlite:///{folder}/check.sqlite3")
        plain = {**sqlite, "PUBLIC_URL": "http://127.0.0.1:8000"}
        # More workers than cores: some tests wait. Few tests at a time for each: the long ones come first.
        workers = os.environ.get("TEST_WORKERS", str((os.cpu_count() or 2) + 2))
        tests = [PYTHON, "-m", "pytest", "-n", workers, "--maxschedchunk", "4", "tests"]
        postgres = postgres_answers()
        results = [
            step("ruff", str(BIN / "ruff"), "check", ".", env=sqlite),
            step("ruff format", str(BIN / "ruff"), "format", "--check", ".", env=sqlite),
            step("mypy", PYTHON, "-m", "mypy", "audit", "connector_site", "integrations", "tests", env=sqlite),
            step("import rules", str(BIN / "lint-imports"), "--no-cache", env=sqlite),
            step("check --deploy", PYTHON, "manage.py", "check", "--deploy", "--fail-level", "WARNING", env=sqlite),
            step("makemigrations --check", PYTHON, "manage.py", "makemigrations", "--check", "--dry-run", env=sqlite),
            step("pytest on SQLite", *tests, *without(ON_ONE if postgres else ()), env=plain),
        ]
        if postgres:
            results.append(step("pytest on PostgreSQL", *tests, *without(ENGINE_FREE), env={**plain, "DATABASE_URL": POSTGRES}))
        else:
            print("--- pytest on PostgreSQL: skipped, none answers at", urlsplit(POSTGRES).hostname, flush=True)  # noqa: T201
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
