"""manage.py sandbox: run the stand-ins for Wave, Zendesk and Jira alone."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from integrations.sandbox.jira import Jira
from integrations.sandbox.server import serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk


class Command(BaseCommand):
    help = "Serve the stand-ins for Wave, Zendesk and Jira on loopback and print the settings that point to them."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8800)

    def handle(self, *args: Any, **options: Any) -> None:
        wave, zendesk, jira = Wave(), Zendesk(), Jira()
        business = wave.add_business("Maple Consulting")
        token = wave.add_token()
        with serving({"wave": wave, "zendesk": zendesk, "jira": jira}, options["port"]) as base:
            for line in (
                f"WAVE_GRAPHQL_URL={base}/wave/graphql/public",
                f"WAVE_OAUTH_URL={base}/wave/oauth2/",
                f"ZENDESK_URL={base}/zendesk",
                f"JIRA_SITE_URL={base}/jira",
                f"JIRA_API_URL={base}/jira/ex/{{cloud_id}}",
                f"ATLASSIAN_AUTH_URL={base}/jira/auth",
                f"ATLASSIAN_API_URL={base}/jira/api",
                f"# Wave: business_id {business}, access_token {token}",
                f"# Zendesk: client_id {zendesk.client_id}, client_secret {zendesk.client_secret}",
                f"# Jira: email {jira.email}, api_token {jira.api_token}, project BILL",
                f"# Pages: {base}/wave/ {base}/zendesk/ {base}/jira/ - faults: POST {base}/control/<system>/faults",
            ):
                self.stdout.write(line)
            self.stdout.flush()
            try:
                while True:
                    time.sleep(1)
            except KeyboardInterrupt:
                pass
