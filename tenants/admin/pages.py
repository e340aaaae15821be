"""Pages of their own inside the admin: a form with a few fields and one button, or an answer shown once."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import helpers
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold import widgets

from tenants.errors import TollgateError

_WIDGETS: Mapping[type[forms.Widget], type[Any]] = {
    forms.TextInput: widgets.UnfoldAdminTextInputWidget,
    forms.NumberInput: widgets.UnfoldAdminDecimalFieldWidget,
    forms.Textarea: widgets.UnfoldAdminTextareaWidget,
    forms.CheckboxInput: widgets.UnfoldBooleanSwitchWidget,
}


class MomentInput(forms.DateTimeInput):
    """A moment in UTC, picked with the browser's own calendar: no script to load."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(attrs={"class": " ".join(widgets.INPUT_CLASSES)}, format="%Y-%m-%dT%H:%M")


class DayInput(forms.DateInput):
    """A day, picked with the browser's own calendar."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(attrs={"class": " ".join(widgets.INPUT_CLASSES)}, format="%Y-%m-%d")


class PageForm(forms.Form):
    """A form in the admin's dress."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field, forms.MultipleChoiceField):
                continue
            if isinstance(field, forms.ChoiceField):
                long = isinstance(field, forms.ModelChoiceField)
                kind = widgets.UnfoldAdminSelect2Widget if long else widgets.UnfoldAdminSelectWidget
                dressed: forms.Widget = kind(choices=field.choices)
            elif type(field.widget) in _WIDGETS:
                dressed = _WIDGETS[type(field.widget)](attrs=field.widget.attrs)
            else:
                continue
            dressed.is_required = field.required
            field.widget = dressed
            if isinstance(field, forms.ChoiceField):
                dressed.choices = field.choices  # type: ignore[attr-defined]  # a ModelChoiceField's are read late


class ConfirmForm(PageForm):
    """Are you sure, and why."""

    reason = forms.CharField(
        required=False, max_length=1000, help_text="Kept in the audit log with what changed and who did it."
    )


def refused(form: forms.Form, error: TollgateError, names: Mapping[str, str] | None = None) -> None:
    """A domain error on the field it is about; `names` are fields that are called otherwise here."""
    field = (names or {}).get(error.param or "", error.param)
    form.add_error(field if field in form.fields else None, error.message)


def form_page(
    request: HttpRequest, form: forms.Form, *, title: str, submit: str, back: str, **more: Any
) -> HttpResponse:
    """The form with an `intro` in words above it; `template` may add to it."""
    template = more.pop("template", "tenants/admin/form_page.html")
    context = {
        **admin.site.each_context(request),
        "title": title,
        "form": form,
        "submit": submit,
        "back": back,
        "media": form.media,
        **more,
    }
    return TemplateResponse(request, template, context)


def bulk_page(
    request: HttpRequest, form: forms.Form, queryset: QuerySet[Any], *, title: str, submit: str, intro: str
) -> HttpResponse:
    """A bulk action's form: it comes back to the same action with the same rows."""
    hidden = [(helpers.ACTION_CHECKBOX_NAME, str(row.pk)) for row in queryset]
    hidden += [("action", request.POST.get("action", "")), ("_apply", "1")]
    return form_page(
        request, form, title=title, submit=submit, back=request.get_full_path(), intro=intro, hidden=hidden,
        chosen=list(queryset[:200]),
    )  # fmt: skip
