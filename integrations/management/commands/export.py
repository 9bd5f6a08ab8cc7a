"""manage.py export [--output FILE]"""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from integrations import export


class Command(BaseCommand):
    help = "Write the configuration file that `apply` reads, without secrets; applying it here changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output; readable by its owner only")

    def handle(self, *args: Any, **options: Any) -> None:
        text = export.text()
        if options["output"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            _write(options["output"], text)
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {type(error).__name__}", returncode=2) from None


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)  # a file that was there keeps its own mode else
        file.write(text)
