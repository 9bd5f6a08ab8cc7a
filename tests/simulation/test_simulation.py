"""The gate's share of the simulation; `make simulate` plays more, and longer stories."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.apps import apps

from tests.simulation.watch import SINKS

ROOT = Path(__file__).resolve().parents[2]
CHANGES = 7  # a story of 200 takes thirty times as long, `make simulate` plays those
SHARES = 3
# Tables of what a person enters or we count: nothing that a vendor says comes there.
OUR_OWN_WORDS = {
    "audit_heartbeat",
    "integrations_intake",
    "integrations_keycanary",
    "integrations_route",
    "integrations_showncustomer",
    "integrations_slot",
    "integrations_statusmapping",
    "integrations_webhooksecret",
}


def simulate(*arguments: object, **environment: str) -> tuple[int, str]:
    """Play seeds in a process of their own and return its exit code and what it says."""
    command = [sys.executable, "-m", "tests.simulation", *map(str, arguments), "--processes", "1"]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def share(number: int) -> tuple[int, str]:
    """Play one of the shares of the sixty seeds."""
    return simulate("--first", 1 + number * 60 // SHARES, "--seeds", 60 // SHARES, "--changes", CHANGES)


def test_sixty_seeds_keep_every_promise_and_leave_out_nothing_that_can_happen() -> None:
    with ThreadPoolExecutor(SHARES) as pool:
        shares = list(pool.map(share, range(SHARES)))
    told = "\n".join(words for _, words in shares)
    assert [code for code, _ in shares] == [0] * SHARES, told
    never = [set(re.findall(r"^never: (.*)$", words, re.MULTILINE)[0].split(", ")) for _, words in shares]
    assert set.intersection(*never) <= {"nothing"}, told
    happened = dict.fromkeys(re.findall(r"\d+ ([^,\n]+)", "".join(re.findall(r"^happened: .*$", told, re.MULTILINE))))
    assert {"delete_invoice", "delete_customer", "move", "remove_payment", "a second page", "a reconcile", "422"} <= happened.keys()


def test_no_table_that_keeps_a_vendors_words_is_left_out_of_the_search_for_secrets() -> None:
    models = [model for app in ("audit", "integrations") for model in apps.get_app_config(app).get_models() if not model._meta.proxy]
    assert {model._meta.db_table for model in models} - dict(SINKS).keys() == OUR_OWN_WORDS


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
