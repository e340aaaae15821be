"""The only door to tenant rows. What belongs to another tenant reads exactly like what does not exist."""

import uuid
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from tenants.errors import NotFound

M = TypeVar("M", bound=Model)


def rows(model: type[M], *, tenant_id: uuid.UUID) -> QuerySet[M]:
    """This tenant's rows of `model`, which has a `tenant_id`."""
    return model._default_manager.filter(tenant_id=tenant_id)


def one(model: type[M], *, tenant_id: uuid.UUID, **lookup: Any) -> M:
    """This tenant's row.

    Raises NotFound, in the same words whether it is missing or another tenant's.
    """
    try:
        row = rows(model, tenant_id=tenant_id).filter(**lookup).first()
    except (ValueError, TypeError) as error:
        raise missing(model) from error
    if row is None:
        raise missing(model)
    return row


def missing(model: type[Model]) -> NotFound:
    return NotFound(f"There is no such {model._meta.verbose_name}. List what there is to see its id.")
