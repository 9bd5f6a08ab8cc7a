"""The gate's share of the simulation; `make simulate` plays more, and longer stories."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGES = 12  # a story of 200 takes twenty times as long, `make simulate` plays those
SHARES = 3


def simulate(*arguments: object, **environment: str) -> tuple[int, str]:
    """Play seeds in a process of their own and return its exit code and what it says."""
    command = [sys.executable, "-m", "tests.simulation", *map(str, arguments), "--processes", "1"]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("share", range(SHARES))
def test_sixty_seeds_keep_every_promise(share: int) -> None:
    code, told = simulate("--first", 1 + share * 60 // SHARES, "--seeds", 60 // SHARES, "--changes", CHANGES)
    assert code == 0, told


def test_a_seed_takes_the_same_steps_each_time() -> None:
    runs = [simulate("--seed", 12, "--changes", CHANGES, PYTHONHASHSEED=given)[1] for given in ("1", "2")]
    digests = [re.findall(r"(\d+) steps.*digest (\w+)", told) for told in runs]
    assert digests[0]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("bug", ("no-intent", "unchecked-settling", "early-watermark", "read-before-claim"))
def test_a_bug_put_in_on_purpose_is_found(bug: str) -> None:
    code, told = simulate("--bug", bug, "--find", "--seeds", 6)
    assert code == 0, told


# Of the deletion each third point: `--crash deletion` stops at all of them, in half a minute.
@pytest.mark.parametrize(
    ("flow", "share"), (("customer", "0/1"), ("invoice", "0/1"), ("payment", "0/1"), ("poll", "0/1"), ("deletion", "0/3"))
)
def test_a_process_may_end_at_each_commit_and_call(flow: str, share: str) -> None:
    code, told = simulate("--crash", flow, "--share", share)
    assert code == 0, told
