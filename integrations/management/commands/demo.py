"""manage.py demo: the whole product against the sandbox, on one machine."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from integrations.demo import stage as stages
from integrations.demo.story import Teller, play
from integrations.management.commands.run import web
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk

CONFIGURATION = Path(stages.__file__).with_name("connector.toml")


class Command(BaseCommand):
    help = "Play the story: web, workers and the sandbox are started, and stay up until Ctrl-C."
    requires_system_checks = []  # the first start has no keys yet: it makes some and starts itself again

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="end after the story; exit 0 only if it ended right")

    def handle(self, *args: Any, **options: Any) -> None:
        if "DEMO_FOLDER" not in os.environ:
            self._start_again(once=options["once"])
        folder = Path(os.environ["DEMO_FOLDER"])
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: take the stage down
        problems: list[str] = []
        try:
            problems = self._show(folder, once=options["once"])
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            problems = [str(error)]
            self.stderr.write(str(error))
        finally:
            connections.close_all()
        if problems:
            sys.exit(1)  # the folder stays, with its logs
        shutil.rmtree(folder, ignore_errors=True)

    def _start_again(self, *, once: bool) -> None:
        """Replace this process by one whose settings are the demonstration's own; nothing of the user's is touched."""
        folder = Path(tempfile.mkdtemp(prefix="ml-connector-demo-"))
        os.environ.update(stages.environment(folder, usual_ports=not once))
        os.chdir(settings.BASE_DIR)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - ourselves

    def _show(self, folder: Path, *, once: bool) -> list[str]:
        wave, zendesk, jira = self._vendors()
        business = wave.add_business("Maple Consulting", timezone="America/Toronto", currency="USD")
        vendors = {"wave": wave, "zendesk": zendesk, "jira": jira}
        with serving(vendors, int(os.environ["DEMO_SANDBOX_PORT"])) as sandbox, stages.standing(folder) as stage:
            self.say("Setting up: database, login, configuration, remote fields")
            password = self._set_up(stage, business)
            stage.start("web", web(settings.PUBLIC_URL.removeprefix("http://")))
            stage.start("worker", [sys.executable, "manage.py", "worker"])
            stage.wait_for(f"{settings.PUBLIC_URL}/healthz")
            teller = Teller(wave, zendesk, jira, self._webhook_url, self.say)
            play(teller, business)
            self._tell_where(sandbox, password, folder)
            wrong = f"The story ended WRONG: {len(teller.problems)} problems, see above."
            self.say(wrong if teller.problems else "The story ended right.")
            if not once:
                self.say("Everything stays up until Ctrl-C.")
                while True:
                    time.sleep(1)
        return teller.problems

    def _vendors(self) -> tuple[Wave, Zendesk, Jira]:
        wave, zendesk = Wave(), Zendesk()
        wave.add_token(os.environ["WAVE_ACCESS_TOKEN"])
        zendesk.client_secret = os.environ["ZENDESK_CLIENT_SECRET"]
        return wave, zendesk, Jira(api_token=os.environ["JIRA_API_TOKEN"])

    def _set_up(self, stage: stages.Stage, business: str) -> str:
        """Return the password of the login made for this run."""
        password = secrets.token_urlsafe(12)
        stage.run("migrate", "--no-input")
        login = {"DJANGO_SUPERUSER_PASSWORD": password, "DJANGO_SUPERUSER_USERNAME": "demo", "DJANGO_SUPERUSER_EMAIL": "demo@example.com"}
        stage.run("createsuperuser", "--no-input", extra=login)
        applied = stage.run("apply", str(CONFIGURATION), extra={"WAVE_BUSINESS_ID": business})
        self._webhook_url = next(line for line in applied.split('"') if "/webhooks/wave/" in line)
        stage.run("ping")
        stage.run("provision")
        return password

    def _tell_where(self, sandbox: str, password: str, folder: Path) -> None:
        self.say("Look around:")
        self.say(f"    admin    {settings.PUBLIC_URL}/admin/   login demo, password {password} (made for this run)")
        for name, what in (("wave", "the accounts"), ("zendesk", "what an agent sees"), ("jira", "what the project team sees")):
            self.say(f"    {name:8} {sandbox}/{name}/   {what}")
        self.say(f"    logs     {folder}")

    def say(self, line: str) -> None:
        """Print one line now, whoever reads along."""
        self.stdout.write(line)
        self.stdout.flush()
