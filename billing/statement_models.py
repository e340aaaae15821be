"""The rows of statements: a tenant's finalised months. Written once by `billing.statements.closing`, never changed."""

from typing import Any, NoReturn

from django.db import models

from tenants.errors import Conflict
from tenants.fields import UsdField
from tenants.ids import uuid7
from tenants.models import Tenant


class Finalised(Conflict):
    """Somebody wants to change a finalised statement, or its month."""

    code = "statement_final"


def _refuse() -> NoReturn:
    raise Finalised("A finalised statement is never changed or deleted. Correct it by an adjustment in an open month.")


class WrittenOnce(models.QuerySet[Any]):
    """Rows that can be added and read."""

    def update(self, **_values: Any) -> NoReturn:
        _refuse()

    def delete(self) -> NoReturn:
        _refuse()

    def bulk_update(self, *_args: Any, **_options: Any) -> NoReturn:
        _refuse()


class WrittenOnceModel(models.Model):
    """A row that is saved once."""

    objects = WrittenOnce.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        """Raises Finalised if the row is there already."""
        if not self._state.adding or options.get("force_update"):
            _refuse()
        super().save(*args, **{**options, "force_insert": True})

    def delete(self, *_args: Any, **_options: Any) -> NoReturn:
        """Raises Finalised."""
        _refuse()


class Statement(WrittenOnceModel):
    """One finalised month of one tenant: what it used, at which prices, and what it owes. No row: the month is open.

    Names and time zone are as they were: a tenant that is renamed keeps its old statements.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="statements")
    month = models.DateField(help_text="Its first day. The month is one of billing days, in the tenant's time zone.")
    tenant_slug = models.CharField(max_length=64)
    tenant_name = models.CharField(max_length=200)
    timezone = models.CharField(max_length=64)
    requests = models.BigIntegerField()
    cost_total_usd = UsdField(help_text="The providers' list price, adjustments included.")
    billed_usd = UsdField(help_text="What the tenant owes the platform, adjustments included.")
    sha256 = models.CharField(max_length=64, help_text="Of the document, byte by byte: the JSON download.")
    finalised_at = models.DateTimeField()
    finalised_by = models.CharField(max_length=200)

    class Meta:
        db_table = "billing_statements"
        ordering = ["-month", "tenant_slug"]
        # The judge of two who finalise at once; and the question whether a month of a tenant is still open.
        constraints = [models.UniqueConstraint(fields=["tenant", "month"], name="one_statement_a_month")]
        indexes = [models.Index(fields=["-month", "tenant_slug"], name="statements_newest")]

    def __str__(self) -> str:
        return f"{self.tenant_slug} {self.month:%Y-%m}"


class StatementDocument(WrittenOnceModel):
    """The text of a statement, apart from it so that lists do not carry it."""

    statement = models.OneToOneField(Statement, on_delete=models.PROTECT, primary_key=True, related_name="document")
    packed = models.BinaryField(help_text="The canonical JSON, by zlib.")

    class Meta:
        db_table = "billing_statement_documents"

    def __str__(self) -> str:
        return str(self.statement_id)
