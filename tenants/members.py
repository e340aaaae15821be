"""Who belongs to a tenant. There is always an owner: the last one can be neither removed nor demoted."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from tenants import audit, scoping
from tenants.errors import Conflict, InvalidValue
from tenants.models import Membership, Tenant

Role = Membership.Role


@dataclass(frozen=True, kw_only=True)
class NewMember:
    """Who is to join. `email` is stored for somebody new; of somebody known it must be the one they have."""

    username: str
    email: str = ""
    role: str = Role.DEVELOPER


def find(*, tenant_id: uuid.UUID, reference: str) -> Membership:
    """The member with this user name, else with this user id. Raises NotFound for anybody else."""
    members = scoping.rows(Membership, tenant_id=tenant_id).select_related("user")
    found = members.filter(user__username=reference).first()
    if found is None and reference.isascii() and reference.isdigit() and len(reference) < 10:
        found = members.filter(user_id=int(reference)).first()
    if found is None:
        raise scoping.missing(Membership)
    return found


def add(*, tenant: Tenant, member: NewMember, actor: audit.Actor, now: datetime) -> Membership:
    """Make a user a member; one that there is not yet is made, without a password.

    Raises InvalidValue(param="email") if the name is somebody's whose e-mail address is another one: nobody learns from
    a name alone who is behind it. Raises Conflict if they are a member already.
    """
    with transaction.atomic():
        user = _user(member, actor=actor, now=now)
        try:
            with transaction.atomic():
                row = Membership.objects.create(tenant=tenant, user=user, role=member.role)
        except IntegrityError as error:
            raise Conflict(f"{member.username} is a member already. Change their role instead.") from error
        audit.record(actor=actor, action="create", row=row, before={}, now=now)
    return row


def change_role(*, membership: Membership, role: str, actor: audit.Actor, now: datetime) -> Membership:
    """Raises Conflict for the last owner."""
    with transaction.atomic():
        row = _locked(membership)
        before = audit.state(row)
        if role != Role.OWNER:
            _keep_an_owner(row)
        row.role = role
        row.save(update_fields=["role"])
        audit.record(actor=actor, action="update", row=row, before=before, now=now)
    return row


def remove(*, membership: Membership, actor: audit.Actor, now: datetime) -> None:
    """The user stays, and so do the keys made for them. Raises Conflict for the last owner."""
    with transaction.atomic():
        row = _locked(membership)
        _keep_an_owner(row)
        audit.record(actor=actor, action="delete", row=row, before=audit.state(row), now=now)
        row.delete()


def _user(member: NewMember, *, actor: audit.Actor, now: datetime) -> User:
    known = User.objects.filter(username=member.username).first()
    if known is not None:
        if known.email and known.email.lower() != member.email.lower():
            raise InvalidValue(
                "This user name is taken. If it is the same person, give the e-mail address they are known by; else "
                "choose another name.",
                param="email",
            )
        return known
    made = User(username=member.username, email=member.email)
    made.set_unusable_password()
    made.full_clean()
    made.save()
    audit.record(actor=actor, action="create", row=made, before={}, now=now)
    return made


def _locked(membership: Membership) -> Membership:
    """The row as it is now. The tenant is locked first, so that two owners cannot both leave."""
    Tenant.objects.select_for_update().get(pk=membership.tenant_id)
    row = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if row is None:
        raise scoping.missing(Membership)
    return row


def _keep_an_owner(row: Membership) -> None:
    others = scoping.rows(Membership, tenant_id=row.tenant_id).filter(role=Role.OWNER).exclude(pk=row.pk)
    if row.role == Role.OWNER and not others.exists():
        raise Conflict("This is the tenant's last owner. Make another member an owner first.")
