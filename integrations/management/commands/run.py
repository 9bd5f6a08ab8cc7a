"""manage.py run: web and worker together, on one machine."""

import signal
import subprocess
import sys
import time
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from integrations.management.keycheck import require_keys


class _StopError(Exception):
    """We were told to stop."""


def _stop(signum: int, frame: Any) -> None:
    raise _StopError


class Command(BaseCommand):
    help = "Migrate, then run the web server and the workers until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="address of the web server")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        require_keys()
        signal.signal(signal.SIGTERM, _stop)
        parts = [web(options["bind"]), [sys.executable, sys.argv[0], "worker"]]
        children = [subprocess.Popen(part) for part in parts]  # noqa: S603 - our own commands
        try:
            while all(child.poll() is None for child in children):
                time.sleep(0.5)
        except (KeyboardInterrupt, _StopError):
            pass
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is under way is finished, however often somebody presses
            for child in children:
                child.terminate()
            for child in children:
                child.wait(70)
        if any(child.returncode not in (0, -signal.SIGTERM, -signal.SIGINT) for child in children):
            sys.exit(1)


def web(bind: str) -> list[str]:
    """Return the command that serves the site: threads, for a webhook waits for vendors and not for the processor."""
    options = ["--bind", bind, "--workers", "2", "--threads", "8", "--timeout", "60", "--graceful-timeout", "30", "--no-control-socket"]
    return [sys.executable, "-m", "gunicorn", "connector_site.wsgi", *options]
