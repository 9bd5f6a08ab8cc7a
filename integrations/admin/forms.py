"""Forms for accounts and routes: a field per setting that the system asks for; secrets go in and never come out."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError

from integrations import accounts, fixed_places, registry, rules
from integrations.accounts import Entered
from integrations.core.errors import Misconfigured
from integrations.core.ports import AuthKind, Setting
from integrations.core.records import KINDS
from integrations.models import Connection, FieldMapping, Route, StatusMapping
from integrations.models.secrets import WrongKeyError

SETTING, SECRET, OPTION = "setting_", "secret_", "option_"
ACRONYMS = {"oauth": "OAuth", "api": "API", "id": "ID"}


class WriteOnlyTextarea(forms.Textarea):
    """A text area that never shows what was typed into it before."""

    def format_value(self, value: Any) -> None:
        """Show nothing."""


def secret_input() -> forms.PasswordInput:
    """Return an input that neither shows nor keeps a secret, nor lets the browser offer one."""
    return forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password", "class": "vTextField"})


def in_words(name: str) -> str:
    """Return a setting's name as a label: client_id is Client ID."""
    words = [ACRONYMS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def setting_field(setting: Setting, values: Mapping[str, Any]) -> forms.Field:
    """Return the form field for one setting, holding its value or its default."""
    initial = values.get(setting.name, setting.default)
    common = {"label": in_words(setting.name), "help_text": setting.advice, "initial": initial}
    if setting.of is bool:
        return forms.BooleanField(required=False, **common)
    if setting.choices:
        return forms.ChoiceField(choices=[(word, word) for word in setting.choices], required=setting.required, **common)
    return forms.CharField(required=setting.required, widget=AdminTextInputWidget(), **common)


def given(cleaned: Mapping[str, Any], settings: Iterable[Setting], prefix: str) -> dict[str, Any]:
    """Return what was entered for these settings, by their own names."""
    return {setting.name: cleaned.get(prefix + setting.name) for setting in settings}


def blamed(message: str, settings: Iterable[Setting], prefix: str) -> str | None:
    """Return the field that a refusal names, None for the whole form."""
    return next((prefix + setting.name for setting in settings if f'"{setting.name}"' in message), None)


class AccountForm(forms.ModelForm[Connection]):
    """A connection of one system by one way in; `account_form` makes the class for each."""

    system: ClassVar[str]
    auth: ClassVar[AuthKind]
    with_secrets: ClassVar[bool]

    class Meta:
        model = Connection
        fields = ("slug",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            del self.fields["slug"]
        for setting in self.auth.settings:
            self.fields[SETTING + setting.name] = setting_field(setting, self.instance.settings)
            self.fields[SETTING + setting.name].disabled = self._is_locked()
        if self.with_secrets:
            self._add_secrets()

    def _is_locked(self) -> bool:
        """Whether the stored secrets would go elsewhere with other settings, and this person may not connect."""
        if self.with_secrets or not self.instance.pk:
            return False
        try:
            return bool(accounts.held(self.instance))
        except WrongKeyError:  # secrets are there, only not readable
            return True

    def _add_secrets(self) -> None:
        stored = accounts.held(self.instance) if self.instance.pk and self.instance.auth == self.auth.name else frozenset()
        for name in (*self.auth.secrets, *self.auth.optional_secrets):
            required = name in self.auth.secrets and name not in stored
            hint = "Stored. Leave empty to keep it." if name in stored else ("" if required else "Not stored; may be left empty.")
            self.fields[SECRET + name] = forms.CharField(label=in_words(name), required=required, widget=secret_input(), help_text=hint)
        if self.system in registry.SOURCES:
            self._add_webhook_secrets()

    def _add_webhook_secrets(self) -> None:
        area = WriteOnlyTextarea(attrs={"rows": 3, "class": "vLargeTextField", "autocomplete": "off", "spellcheck": "false"})
        hint = "One per line. They are accepted beside those that are stored, so that a secret can be changed without a gap."
        self.fields["webhook_secrets"] = forms.CharField(label="Webhook secrets", required=False, widget=area, help_text=hint)
        if self.instance.pk:
            label = "Forget the webhook secrets stored before"
            self.fields["forget_webhook_secrets"] = forms.BooleanField(label=label, required=False)

    def names(self, prefix: str) -> list[str]:
        """Return the names of the fields that begin so."""
        return [name for name in self.fields if name.startswith(prefix)]

    def clean(self) -> dict[str, Any]:
        """Check the settings against what the way in takes."""
        cleaned = super().clean() or self.cleaned_data
        if self.instance.pk and self.instance.auth != self.auth.name and self._is_locked():
            raise ValidationError("Another way in takes the permission to connect accounts.")
        self.instance.system, self.instance.auth = self.system, self.auth.name
        if not self.errors:
            try:
                checked = rules.checked_settings(self.system, self.auth.name, given(cleaned, self.auth.settings, SETTING))
                fixed_places.check_place_kept(self.instance, checked)
                self.instance.settings = checked
            except Misconfigured as error:
                self.add_error(blamed(str(error), self.auth.settings, SETTING), str(error))
        return cleaned

    def entered(self) -> Entered:
        """Return the secrets that were typed in."""
        cleaned = self.cleaned_data
        secrets = {name.removeprefix(SECRET): cleaned[name] for name in self.names(SECRET) if cleaned.get(name)}
        lines = (line.strip() for line in cleaned.get("webhook_secrets", "").splitlines())
        return Entered(secrets, tuple(line for line in lines if line), cleaned.get("forget_webhook_secrets", False))


def account_form(system: str, auth: AuthKind, *, with_secrets: bool) -> type[AccountForm]:
    """Return the form class for accounts of this system by this way in."""
    return type("AccountForm", (AccountForm,), {"system": system, "auth": auth, "with_secrets": with_secrets})


class RouteForm(forms.ModelForm[Route]):
    """A route between two given connections; `route_form` makes the class for each pair."""

    source: ClassVar[Connection]
    destination: ClassVar[Connection]

    kinds = forms.MultipleChoiceField(
        choices=[(kind, kind) for kind in KINDS],
        widget=forms.CheckboxSelectMultiple,
        initial=list(KINDS),
        help_text="Payments are shown with their invoice.",
    )

    class Meta:
        model = Route
        fields = ("slug", "kinds")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = registry.entry(self.destination.system).system.options
        for setting in self.options:
            self.fields[OPTION + setting.name] = setting_field(setting, self.instance.options)

    def clean(self) -> dict[str, Any]:
        """Hand the ends and options to the row, whose own rules are checked next."""
        cleaned = super().clean() or self.cleaned_data
        self.instance.source, self.instance.destination = self.source, self.destination
        self.instance.options = {name: value for name, value in given(cleaned, self.options, OPTION).items() if value not in (None, "")}
        return cleaned

    def _update_errors(self, errors: ValidationError) -> None:
        """Show what the row says of its options beside the option it names: the form has no field for all of them."""
        named = getattr(errors, "error_dict", {})
        for error in named.pop("options", []):
            message = " ".join(error.messages)
            self.add_error(blamed(message, self.options, OPTION), message)
        if named or not hasattr(errors, "error_dict"):
            super()._update_errors(errors)  # type: ignore[misc]  # the stubs leave it out


def route_form(source: Connection, destination: Connection) -> type[RouteForm]:
    """Return the form class for routes between these connections."""
    return type("RouteForm", (RouteForm,), {"source": source, "destination": destination})


class EndsForm(forms.Form):
    """The first question about a new route: from where to where."""

    source = forms.ModelChoiceField(Connection.objects.none())
    destination = forms.ModelChoiceField(Connection.objects.none())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, systems in (("source", registry.SOURCES), ("destination", registry.DESTINATIONS)):
            field = self.fields[name]
            if isinstance(field, forms.ModelChoiceField):
                field.queryset = Connection.objects.filter(system__in=systems)


class FieldMappingForm(forms.ModelForm[FieldMapping]):
    """A field mapping; one that is changed is tried again at the destination."""

    class Meta:
        model = FieldMapping
        fields = ("kind", "target", "template")
        widgets = {"target": AdminTextInputWidget(), "template": forms.Textarea(attrs={"rows": 2, "cols": 60, "spellcheck": "false"})}

    def clean(self) -> dict[str, Any]:
        """Forget what the destination said of the row as it was."""
        cleaned = super().clean() or self.cleaned_data
        if {"target", "kind"} & set(self.changed_data):
            self.instance.remote = ""
        if self.changed_data:
            self.instance.problem = ""
        return cleaned


class StatusMappingForm(forms.ModelForm[StatusMapping]):
    """A status mapping."""

    class Meta:
        model = StatusMapping
        fields = ("state", "status", "via")
