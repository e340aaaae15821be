"""The page that shows what a provider's list of models would make, before it is made."""

import hashlib
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from llm.admin.prices import who
from llm.catalog import model_import
from llm.catalog.model_import import NewModel, Report, Wish
from llm.models import LLMProvider
from tenants.admin import dress
from tenants.admin.base import actor_of, change_url
from tenants.admin.pages import PageForm, form_page
from tenants.errors import TollgateError

_SHOWN = 300


class ImportForm(PageForm):
    """How they are made."""

    activate = forms.BooleanField(
        required=False,
        initial=True,
        label="Active",
        help_text="They can be called at once. Off: requests for them are answered 404 until they are activated.",
    )


def page(request: HttpRequest, provider: LLMProvider, *, opts: Any) -> HttpResponse:
    """The review; once it is sent back, the import. A list that changed in between is shown again, not imported."""
    back = HttpResponseRedirect(change_url(provider))
    form = ImportForm(request.POST if request.method == "POST" else None)
    wish = Wish(
        activate=not form.is_bound or (form.is_valid() and form.cleaned_data["activate"]),
        may_price=request.user.has_perm("llm.add_priceversion"),
        **who(request),
    )
    now = timezone.now()
    try:
        report = model_import.plan(provider=provider, wish=wish, now=now)
        seen = _fingerprint(report)
        if request.method == "POST" and request.POST.get("seen") == seen:
            model_import.make(report=report, provider=provider, actor=actor_of(request), now=now)
            messages.success(request, model_import.in_words(report, provider=provider, wish=wish))
            return back
    except TollgateError as error:
        messages.error(request, error.message)
        return back
    if request.method == "POST":
        messages.warning(request, "The list has changed since you saw it. Nothing was made: look at it again.")
    return form_page(
        request, form, title=f"Import the models of {provider.display_name}", submit="Make these models",
        back=change_url(provider), template="llm/admin/import_page.html", opts=opts, hidden=[("seen", seen)],
        intro="What the provider lists and the catalog lacks; what is there stays. Prices are copied from the "
        "same model in the catalog, never from the list. Without one a model is refused until you set its price. More "
        "than one price is a change in bulk: the models are made, and their prices wait for a second person.",
        report=report, rows=[_row(one) for one in report.created[:_SHOWN]], skipped=report.skipped[:_SHOWN],
        summary=model_import.in_words(report, provider=provider, wish=Wish(dry_run=True)),
    )  # fmt: skip


def _row(one: NewModel) -> dict[str, Any]:
    usd = {price.meter: dress.usd(price.usd_per_1m) for price in one.price.components if not price.above_tokens}
    return {
        "model_id": one.model_id,
        "kind": one.values["kind"],
        "context_window": one.values.get("context_window"),
        "prices": [usd.get("input", dress.NONE), usd.get("output", dress.NONE)] if usd else None,
        "note": f"copied from {one.price.source}" if usd else one.price.why_not,
    }


def _fingerprint(report: Report) -> str:
    """Of what a person reviews: the models to be made, and their prices."""
    seen = repr([(one.model_id, one.price) for one in report.created])
    return hashlib.sha256(seen.encode()).hexdigest()
