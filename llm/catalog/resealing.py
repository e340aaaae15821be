"""Every stored provider key sealed anew under the first key of ENCRYPTION_KEY, while requests go on using them."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import transaction

from llm.fields import CannotDecrypt, SealedField
from llm.models import ProviderCredential

BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one provider key. `problem`: why it stays as it is, if it had to change and cannot."""

    credential_id: uuid.UUID
    changed: bool
    problem: str = ""


def reseal_all(*, dry_run: bool) -> Iterator[Outcome]:
    """Each provider key in turn, committed alone: it can be stopped at any moment and run again. Those under the first
    key already are skipped. `dry_run` opens what would change, and changes nothing.
    """
    last: uuid.UUID | None = None
    while True:
        rows = ProviderCredential.objects.order_by("pk")
        batch = list((rows if last is None else rows.filter(pk__gt=last))[:BATCH])
        for row in batch:
            yield _reseal(row.pk, dry_run=dry_run) if _is_old(row) else Outcome(credential_id=row.pk, changed=False)
        if len(batch) < BATCH:
            return
        last = batch[-1].pk


def _is_old(row: ProviderCredential) -> bool:
    return not all(SealedField.is_current(value) for value in (row.sealed, row.previous_sealed) if value is not None)


def _reseal(pk: uuid.UUID, *, dry_run: bool) -> Outcome:
    """Lock the row, since people may rotate or delete it meanwhile, and write its secrets and fingerprint again."""
    with transaction.atomic():
        row = ProviderCredential.objects.select_for_update().filter(pk=pk).first()
        if row is None or not _is_old(row):
            return Outcome(credential_id=pk, changed=False)
        try:
            row.reseal()
        except CannotDecrypt as error:
            return Outcome(credential_id=pk, changed=False, problem=str(error))
        if not dry_run:
            row.save(update_fields=["sealed", "previous_sealed", "fingerprint"])
    return Outcome(credential_id=pk, changed=True)
