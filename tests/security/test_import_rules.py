"""Who may import whom, read from the source; pyproject.toml holds the layers, this file what they cannot say."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = [path for name in ("audit", "connector_site", "integrations") for path in sorted((ROOT / name).rglob("*.py"))]
MAKE_BELIEVE = (
    "integrations/sandbox/",
    "integrations/demo/",
    "integrations/bench/",
    "integrations/management/commands/bench.py",
    "integrations/management/commands/demo.py",
    "integrations/management/commands/sandbox.py",
)


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every module or name that a file imports, with its statement."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def importers(*modules: str) -> list[str]:
    """Return the product's files that import one of the modules, or something in it."""
    found = (path for path in PRODUCT for name, _ in imports(path) if any(f"{name}.".startswith(f"{module}.") for module in modules))
    return sorted({str(path.relative_to(ROOT)) for path in found})


def test_the_product_never_needs_the_sandbox_or_the_tests() -> None:
    assert [
        path for path in importers("integrations.sandbox", "integrations.demo", "integrations.bench") if not path.startswith(MAKE_BELIEVE)
    ] == []
    assert importers("tests") == []


def test_one_file_knows_the_library_of_encrypted_fields() -> None:
    assert importers("fernet_fields") == ["integrations/models/secrets.py"]


@pytest.mark.parametrize("system", ["sources/wave", "destinations/zendesk", "destinations/jira"])
def test_a_system_knows_only_http_rates_and_the_core(system: str) -> None:
    own = f"integrations.{system.replace('/', '.')}"
    allowed = (own, "integrations.core", "integrations.http", "integrations.rates")
    folder = sorted((ROOT / "integrations" / system).glob("*.py"))
    assert len(folder) > 3
    ours = {name for path in folder for name, _ in imports(path) if name.split(".")[0] in ("integrations", "audit", "connector_site")}
    assert sorted(name for name in ours if not name.startswith(allowed)) == []
    assert sorted(name for path in folder for name, _ in imports(path) if name.startswith("django.")) == []


def test_no_call_switches_certificates_off_or_follows_a_redirect() -> None:
    given = [
        (str(path.relative_to(ROOT)), word.arg, word.value.value)
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg in ("verify", "allow_redirects") and isinstance(word.value, ast.Constant)
    ]
    assert ("integrations/http.py", "allow_redirects", False) in given
    assert [one for one in given if one[1:] not in (("allow_redirects", False), ("verify", True))] == []
