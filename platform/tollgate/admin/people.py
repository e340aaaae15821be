"""Staff and their groups. A change of password, groups or permissions is an audit row like any other change."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants import audit
from tenants.admin.base import ModelAdmin, actor_of, display, reason_of

admin.site.unregister(User)
admin.site.unregister(Group)

RIGHTS = ("groups", "user_permissions", "permissions")


def rights_of(row: Any) -> dict[str, list[str]]:
    """The names of the row's groups and permissions."""
    if row.pk is None:
        return {}
    return {name: sorted(map(str, getattr(row, name).all())) for name in RIGHTS if hasattr(row, name)}


class RightsAudited:
    """Groups and permissions are no fields of the row, so they are compared here."""

    def save_related(self, request: HttpRequest, form: "ModelForm[Any]", formsets: Any, change: bool) -> None:
        before = rights_of(form.instance)
        super().save_related(request, form, formsets, change)  # type: ignore[misc]  # a mixin of ModelAdmin
        after = rights_of(form.instance)
        if before == after:
            return
        event = audit.record(
            actor=actor_of(request),
            action="rights",
            row=form.instance,
            before=audit.state(form.instance),
            now=timezone.now(),
            reason=reason_of(request),
        )
        if event is not None:
            changed = [name for name in after if before.get(name) != after[name]]
            event.before = {name: before.get(name, []) for name in changed}
            event.after = {name: after[name] for name in changed}
            event.save(update_fields=["before", "after"])


@admin.register(User)
class UserAdmin(RightsAudited, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg, misc]
    """People who may log in: staff to this site, members to their tenant's console."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "staff", "active", "last_login"]
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]

    @display(description="Staff", boolean=True, ordering="is_staff")
    def staff(self, obj: User) -> bool:
        return obj.is_staff

    @display(description="Active", boolean=True, ordering="is_active")
    def active(self, obj: User) -> bool:
        return obj.is_active

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Django's page; what it changes is recorded as changed, without the value."""
        with transaction.atomic():
            user = self.get_object(request, id)
            was = None if user is None else user.password
            response: HttpResponse = super().user_change_password(request, id, form_url)
            now = None if user is None else User.objects.filter(pk=user.pk).values_list("password", flat=True).first()
            if user is not None and was != now:
                audit.record(
                    actor=actor_of(request),
                    action="password",
                    row=user,
                    before=audit.state(user),
                    now=timezone.now(),
                )
        return response


@admin.register(Group)
class GroupAdmin(RightsAudited, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    """A set of permissions, given to several people at once."""
