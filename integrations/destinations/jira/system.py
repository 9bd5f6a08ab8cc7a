"""What the product must know to offer Jira: the ways in, a route's options, the default mappings and statuses."""

from datetime import timedelta

from integrations.core.ports import AuthKind, Setting, System
from integrations.destinations.jira import mapping, oauth
from integrations.destinations.jira.mapping import SYSTEM_FIELDS

_PROJECT = "Enter the project's key as it stands before the number in BILL-7."
SYSTEM = System(
    name="jira",
    label="Jira",
    role="destination",
    auths=(
        AuthKind(
            "api_token",
            settings=(
                Setting("site", required=True, pattern=oauth.LABEL, advice='Enter "acme" for acme.atlassian.net.', place=True),
                Setting("email", required=True, pattern=r"[^@\s:]+@[^@\s:]+", advice="Enter the e-mail of the token's owner."),
            ),
            secrets=("api_token",),
            advice="A token without scopes from id.atlassian.com, Security. It lives a year at most: note the day on which it ends.",
            lives=timedelta(days=365),
        ),
        AuthKind(
            "oauth",
            settings=(
                Setting("cloud_id", pattern=oauth.CLOUD_ID, advice="Leave it empty: Connect asks which site, and fills it in.", place=True),
                Setting("client_id", required=True, advice="Copy it from the app's page in the developer console."),
                Setting("create_fields", of=bool, advice="Ask for the right to create custom fields, so that provisioning can."),
            ),
            secrets=("client_secret",),
            optional_secrets=("access_token", "refresh_token"),
            advice="Save client id and secret, then press Connect: Atlassian asks for your consent and for the site.",
        ),
    ),
    options=(
        Setting("project", required=True, pattern=r"[A-Z][A-Z0-9_]{1,9}", advice=_PROJECT),
        Setting("invoice_issue_type", default="Task"),
        Setting("customer_issue_type", default="Task"),
        Setting("payments", choices=("worklog", "comment", "off"), default="worklog"),
        Setting("on_delete", choices=("mark", "delete"), default="mark", advice="Issues are marked either way, never deleted."),
    ),
    defaults=mapping.DEFAULTS,
    statuses={
        **dict.fromkeys(("DRAFT", "SAVED"), "To Do"),
        **dict.fromkeys(("UNPAID", "SENT", "VIEWED", "PARTIAL", "OVERDUE"), "In Progress"),
        **dict.fromkeys(("PAID", "OVERPAID"), "Done"),
    },
    targets={"invoice": frozenset(SYSTEM_FIELDS), "customer": frozenset(SYSTEM_FIELDS), "payment": frozenset({"comment"})},
)
