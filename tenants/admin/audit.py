"""The audit log: every change, by whom, with what was before and after. To read only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateTimeFilter

from tenants.admin import dress
from tenants.admin.base import ReadOnlyAdmin, changes, display
from tenants.models import AuditEvent

TONES = {"create": "good", "delete": "bad", "revoke": "bad", "suspend": "bad"}


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Nobody can add, edit or delete a line of it, superusers included."""

    list_display = ["when", "what", "object_label", "object_type", "who", "changed", "reason"]
    list_display_links = ["when"]
    list_filter = [("at", RangeDateTimeFilter), "actor_kind"]
    search_fields = ["object_label", "actor_label", "object_id", "reason"]
    search_help_text = "What was changed, who changed it, an id, or a reason."
    ordering = ["-id"]
    fields = [
        ("when", "what"),
        ("object_type", "object_label", "object_id"),
        ("who", "ip", "request_id"),
        "reason",
        "diff",
    ]
    readonly_fields = ["when", "what", "who", "diff"]

    @display(description="When (UTC)", ordering="id")
    def when(self, obj: AuditEvent) -> str:
        return dress.moment(obj.at)

    @display(description="Action")
    def what(self, obj: AuditEvent) -> SafeString:
        return dress.badge(obj.action, TONES.get(obj.action, "info"))

    @display(description="Who")
    def who(self, obj: AuditEvent) -> SafeString:
        return dress.stack(obj.actor_label, obj.actor_kind)

    @display(description="Changed")
    def changed(self, obj: AuditEvent) -> str:
        return dress.short(", ".join({**obj.before, **obj.after}), 80)

    @display(description="What changed")
    def diff(self, obj: AuditEvent) -> SafeString:
        return render_to_string("tenants/admin/changes.html", {"changed": changes(obj)})

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}
