"""manage.py rotate_keys [--dry-run]"""

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from integrations import keys
from integrations.management.keycheck import require_keys


class Command(BaseCommand):
    help = "Encrypt every stored secret with the first of FERNET_KEYS, while everything runs; may be stopped and run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count the rows on each key")

    def handle(self, *args: Any, **options: Any) -> None:
        require_keys()
        left = keys.tally() if options["dry_run"] else self._rotate()
        self._tell(left)
        first = keys.configured()[0].name
        if not options["dry_run"] and sum(left.values()) > left[first]:
            raise CommandError("not every row is on the first key: see above, and run it again", returncode=1)

    def _rotate(self) -> Counter[str]:
        try:
            # disable=None: no bar where nobody looks, in a pipe or a log.
            with tqdm(total=keys.total(), unit=" rows", disable=None, leave=False) as bar:
                return keys.rotate(bar.update)
        except KeyboardInterrupt:
            raise CommandError("stopped: every secret is readable; run it again to go on", returncode=130) from None

    def _tell(self, left: Counter[str]) -> None:
        for number, key in enumerate(keys.configured(), 1):
            says = "encrypts" if number == 1 else "may be taken out of FERNET_KEYS" if not left[key.name] else "still needed"
            self.stdout.write(f"key {number} ({key.name}): {left[key.name]} rows, {says}")
        if left[keys.UNREADABLE]:
            self.stdout.write(f"{keys.UNREADABLE}: {left[keys.UNREADABLE]} rows; put the key that is missing back")
