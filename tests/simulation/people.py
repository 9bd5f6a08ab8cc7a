"""What people do at the destinations with what is ours: the next reconcile brings it back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from integrations.sandbox.jira_site import Issue
from tests.flows.world import World, key_of, label_of
from tests.simulation.stage import Stage

BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class People:
    """Agents and developers with their fingers in our fields; all that is drawn comes from the stage's randomness."""

    stage: Stage
    world: World

    def meddle(self, invoices: Sequence[str], customers: Sequence[str]) -> None:
        """Let somebody edit or delete something that shows one of these records, where it is there yet."""
        ways: Sequence[Callable[[str], str]] = (
            self._edit_record,
            self._delete_record,
            self._delete_payment,
            self._edit_issue,
            self._delete_issue,
            self._delete_worklog,
        )
        of_customers = (self._edit_organization, self._delete_organization)
        way = self.stage.random.choice((*ways, *of_customers))
        node = self.stage.random.choice(customers if way in of_customers else invoices)
        told = way(node)
        if told:
            self.stage.note(f"somebody {told} of {key_of(node).split(':', 2)[2]}")
            self.stage.happened[f"somebody {told}"] += 1

    # --- Zendesk

    def _edit_record(self, invoice: str) -> str:
        found = [one for one in self.world.zendesk.objects.rows["wave_invoice"].records.values() if one.external_id == key_of(invoice)]
        for record in found:
            record.values["po_number"] = BY_HAND
        return "edits the record" if found else ""

    def _delete_record(self, invoice: str) -> str:
        return self._deleted(key_of(invoice), "deletes the record")

    def _delete_payment(self, invoice: str) -> str:
        payments = self.world.wave.invoices[invoice].payments
        return self._deleted(key_of(self.stage.random.choice(payments).id), "deletes a payment's record") if payments else ""

    def _deleted(self, key: str, told: str) -> str:
        try:
            self.world.zendesk.delete_record(key)
        except KeyError:
            return ""
        return told

    def _edit_organization(self, customer: str) -> str:
        found = [one for one in self.world.zendesk.organizations.rows.values() if one.external_id == key_of(customer)]
        for organization in found:
            organization.values["wave_phone"] = BY_HAND
        return "edits the organization" if found else ""

    def _delete_organization(self, customer: str) -> str:
        organizations = self.world.zendesk.organizations
        for organization in [one for one in organizations.rows.values() if one.external_id == key_of(customer)]:
            self.world.zendesk.delete_organization(organization.id)
            return "deletes the organization"
        return ""

    # --- Jira

    def _issues(self, invoice: str) -> list[Issue]:
        label = label_of(invoice)
        return [issue for issue in self.world.jira.issues.values() if label in (issue.values.get("labels") or [])]

    def _edit_issue(self, invoice: str) -> str:
        for issue in self._issues(invoice):
            issue.values["summary"] = BY_HAND
            return "edits the issue"
        return ""

    def _delete_issue(self, invoice: str) -> str:
        for issue in self._issues(invoice):
            del self.world.jira.issues[issue.id]
            return "deletes the issue"
        return ""

    def _delete_worklog(self, invoice: str) -> str:
        for issue in self._issues(invoice):
            if issue.worklogs:
                issue.worklogs.remove(self.stage.random.choice(issue.worklogs))
                return "deletes a worklog"
        return ""
