"""manage.py apply connector.toml"""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from integrations import configuration
from integrations.declared import InvalidFile
from integrations.management.keycheck import require_keys


class Command(BaseCommand):
    help = "Apply a configuration file: connections and routes. Safe to repeat; prints one JSON line per object."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--prune", action="store_true", help="pause the routes and mark the connections that the file does not name; nothing is deleted"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {type(error).__name__}", returncode=2) from None
        require_keys()
        try:
            lines = configuration.apply(text, prune=options["prune"])
        except InvalidFile as error:
            raise CommandError(f"{path}: nothing was changed\n{error}", returncode=2) from None
        for line in lines:
            self.stdout.write(json.dumps(line))
