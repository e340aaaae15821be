"""Groups of permissions for common roles, made where they are missing. What staff changed of one stays so."""

from collections.abc import Mapping, Sequence

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

ROLES: Mapping[str, Sequence[str]] = {
    "Price approvers": (
        *("llm.view_llmprovider", "llm.view_llmmodel", "llm.view_priceversion", "llm.add_priceversion"),
        *("llm.view_priceproposal", "llm.approve_prices", "llm.view_pricetask", "llm.change_pricetask"),
        *("llm.view_pricepolicy", "llm.change_pricepolicy", "tenants.view_auditevent"),
        *("llm.view_correctionrun", "llm.add_correctionrun", "billing.view_adjustment"),
    ),
}


def ensure_roles() -> list[str]:
    """Make the groups that are not there; the names of those made."""
    made = []
    for name, permissions in ROLES.items():
        group, created = Group.objects.get_or_create(name=name)
        if created:
            wanted = Q(pk__in=())
            for permission in permissions:
                app, _, codename = permission.partition(".")
                wanted |= Q(content_type__app_label=app, codename=codename)
            group.permissions.set(Permission.objects.filter(wanted))
            made.append(name)
    return made
