"""The drift page: our cost against what providers said in their answers, or against an uploaded invoice."""

from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import INPUT_CLASSES

from billing import drift, invoices, periods
from tenants.admin import dress
from tenants.admin.pages import PageForm, form_page
from tenants.errors import InvalidValue

MOST_ROWS = 1_000


class DriftForm(PageForm):
    """What to compare, and how the invoice's columns are called."""

    month = forms.CharField(max_length=7, help_text="As 2026-11; days are UTC.")
    provider = forms.CharField(
        max_length=64, required=False, help_text="A slug, such as openai. Empty: all, by what their answers said."
    )
    invoice = forms.FileField(
        required=False,
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv", "class": " ".join(INPUT_CLASSES)}),
        help_text="CSV with a head line. It is compared and not kept. Empty: what the provider's answers said.",
    )
    day_column = forms.CharField(max_length=100, required=False, help_text="Empty: a usual name, such as date.")
    model_column = forms.CharField(max_length=100, required=False, help_text="Empty: a usual name, such as model.")
    cost_column = forms.CharField(
        max_length=100, required=False, help_text="In USD. Empty: a usual name, such as cost."
    )
    aliases = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Models by the invoice's names, one a line: gpt-4o-2024-08-06=gpt-4o.",
    )
    tolerance = forms.DecimalField(min_value=0, max_value=1000, initial=1, help_text="Percent of theirs.")

    def clean_month(self) -> date:
        try:
            return periods.parse(self.cleaned_data["month"])
        except InvalidValue as error:
            raise forms.ValidationError(error.message) from error

    def clean_aliases(self) -> dict[str, str]:
        pairs = [line.partition("=") for line in self.cleaned_data["aliases"].splitlines() if line.strip()]
        if any(not theirs.strip() or not ours.strip() for theirs, _, ours in pairs):
            raise forms.ValidationError("One a line, as gpt-4o-2024-08-06=gpt-4o.")
        return {theirs.strip(): ours.strip() for theirs, _, ours in pairs}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if values.get("invoice") and not values.get("provider"):
            self.add_error("provider", "Say whose invoice it is.")
        return values

    def report(self) -> drift.Report:
        """Raises InvalidValue for an invoice that cannot be read, or a month whose usage is pruned."""
        values = self.cleaned_data
        tolerance = drift.Tolerance(percent=values["tolerance"])
        upload = values.get("invoice")
        if not upload:
            return drift.reported(month=values["month"], provider=values["provider"] or None, tolerance=tolerance)
        if upload.size > invoices.MOST_BYTES:
            raise InvalidValue(f"The invoice is larger than {invoices.MOST_BYTES // 1024**2} MiB.", param="invoice")
        columns = invoices.Columns(
            day=values["day_column"],
            model=values["model_column"],
            cost=values["cost_column"],
            aliases=values["aliases"],
        )
        invoice = invoices.read(upload.read(), month=values["month"], columns=columns)
        return drift.invoiced(month=values["month"], provider=values["provider"], invoice=invoice, tolerance=tolerance)


def page(request: HttpRequest) -> HttpResponse:
    """The form, and the table once it is sent. It starts with this month, as the answers said."""
    if not request.user.has_perm("billing.view_usagerecord"):
        raise PermissionDenied
    present = {"month": f"{periods.current(timezone='UTC', now=timezone.now()):%Y-%m}", "tolerance": "1"}
    form = DriftForm(request.POST, request.FILES) if request.method == "POST" else DriftForm(present)
    report = None
    if form.is_valid():
        try:
            report = form.report()
        except InvalidValue as error:
            form.add_error("month" if error.param == "month" else "invoice", error.message)
    return form_page(
        request, form, title="Drift", submit="Compare", back=reverse("admin:drift"), back_label="Start again",
        template="billing/admin/drift.html", report=report,
        rows=[] if report is None else [_cells(row) for row in _worst(report)],
        total=None if report is None else _cells(report.total),
        hidden_rows=0 if report is None else max(0, len(report.rows) - MOST_ROWS),
        intro="Our list price of each model and day against the provider's own figure. What tenants' own keys used is "
        "on their invoices, not yours; attempts that were lost to a fallback may be on yours and are not in ours.",
    )  # fmt: skip


def _worst(report: drift.Report) -> list[drift.Row]:
    """All, in order; of too many those that differ most."""
    if len(report.rows) <= MOST_ROWS:
        return report.rows
    return sorted(report.rows, key=lambda row: -abs(row.difference))[:MOST_ROWS]


def _cells(row: drift.Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "day": "" if row.day is None else row.day.isoformat(),
        "requests": f"{row.requests:,}",
        "sums": [dress.usd(row.ours), dress.usd(row.theirs), dress.usd(row.difference)],
        "percent": dress.NONE if row.percent is None else f"{row.percent} %",
        "verdict": _verdict(beyond=row.beyond),
    }


def _verdict(*, beyond: bool) -> SafeString:
    return dress.badge("beyond", "bad") if beyond else dress.badge("within", "good")
