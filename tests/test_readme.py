"""The texts tell the truth: commands, make targets, settings, codes and links that they name exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError

from integrations import oauth
from integrations.destinations.jira import refusals as jira
from integrations.destinations.zendesk import refusals as zendesk
from integrations.sources.wave import graphql as wave

ROOT = Path(settings.BASE_DIR)
TEXTS = [*(ROOT / page for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*TEXTS, *sorted((ROOT / "integrations").glob("*/*/README.md"))]
# Nobody should find it in a production file.
DEVELOPMENT_ONLY = {"DEBUG"}
NAMED_CODE = re.compile(r"""\bcode ?= ?"([a-z_]+)\"""")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def section(path: Path, title: str) -> str:
    return path.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def fenced(text: str) -> Iterator[str]:
    """Yield the lines of the code blocks."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind each `manage.py` in code blocks and inline code."""
    inline = re.findall(r"`([^`\n]+)`", prose(text))
    for line in [*fenced(text), *inline]:
        for given in re.findall(r"manage\.py ([a-z].*?)(?= *(?:\)|>|;|\|\|)|$)", line) if "shell -c" not in line else []:
            yield shlex.split(given)


# --- Commands and targets -----------------------------------------------------------------------------------------

DOCUMENTED = [(path, words) for path in TEXTS for words in commands(path.read_text())]


@pytest.mark.parametrize(("path", "words"), DOCUMENTED, ids=[f"{name(path)} {' '.join(words)}" for path, words in DOCUMENTED])
def test_a_documented_command_is_taken_with_its_arguments(path: Path, words: list[str]) -> None:
    command, *arguments = words
    assert command in get_commands()
    try:
        load_command_class(get_commands()[command], command).create_parser("manage.py", command).parse_args(arguments)
    except CommandError as error:
        pytest.fail(f"{name(path)}: manage.py {' '.join(words)}: {error}")


def test_the_command_table_of_the_readme_names_each_command_of_ours() -> None:
    table = section(ROOT / "README.md", "Commands")
    named = re.findall(r"^\| `([a-z_]+)", table, re.MULTILINE)
    assert sorted(named) == sorted(command for command, app in get_commands().items() if app in ("integrations", "audit"))


def test_documented_make_targets_exist() -> None:
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in TEXTS:
        text = path.read_text()
        code = [*fenced(text), *re.findall(r"`([^`\n]+)`", prose(text))]
        named = {target for line in code for target in re.findall(r"^make ([a-z]+)", line)}
        assert named <= rules, f"{name(path)} names {sorted(named - rules)}"


# --- Settings -----------------------------------------------------------------------------------------------------


def read_settings() -> set[str]:
    """Return the variables that the settings read."""
    return set(re.findall(r"""\benv\.\w+\(\s*"([A-Z_]+)\"""", (ROOT / "connector_site" / "settings.py").read_text()))


def test_architecture_lists_exactly_the_variables_that_are_read() -> None:
    table = section(ROOT / "docs" / "architecture.md", "Settings")
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == sorted(read_settings())


def test_the_example_file_lists_exactly_the_variables_that_are_read() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(read_settings() - DEVELOPMENT_ONLY)


# --- Codes --------------------------------------------------------------------------------------------------------


def source() -> str:
    """Return all code of the product but for the sandbox."""
    paths = [*(ROOT / "integrations").rglob("*.py"), *(ROOT / "audit").rglob("*.py")]
    return "".join(path.read_text() for path in paths if "sandbox" not in path.parts)


def codes() -> set[str]:
    """Return the error codes that a job can get."""
    tabled = {case.code for case in jira.CASES} | {case.code for case in zendesk.CASES} | {case.code for case in wave.CASES.values()}
    return {*NAMED_CODE.findall(source()), *tabled, *oauth.REFUSALS}


def explained() -> set[str]:
    """Return the words in the first columns of the tables of codes."""
    columns = re.findall(r"^\|([^|]*)\|", section(ROOT / "docs" / "operating.md", "Codes"), re.MULTILINE)
    return set(re.findall(r"`([a-z_]+)`", "".join(columns)))


def test_operating_explains_every_code() -> None:
    assert sorted(codes() - explained()) == []


def test_operating_explains_no_word_that_the_code_does_not_know() -> None:
    known = set(re.findall(r"""["']([a-z_]+)["']""", source()))
    assert sorted(explained() - known) == []


# --- Links --------------------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_internal_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(path.read_text())):
        file, _, fragment = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{name(path)} links to {link}"
        if fragment:
            assert fragment in [anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose(target.read_text()), re.MULTILINE)]
