"""`manage.py statements finalise|verify|show`: close months, prove closed ones, print one."""

import argparse
import json
import sys
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import periods
from billing.statement_models import Statement
from billing.statements import closing, printed, sheet
from billing.statements.document import sha256
from tenants import audit
from tenants.errors import InvalidValue, TollgateError
from tenants.models import Tenant


class Command(BaseCommand):
    help = (
        "finalise closes a month that is over in every time zone, from 12:05 UTC of the next 1st: of every tenant that "
        "has something in it, or of one. verify works finalised statements out again from the usage rows (of days "
        "whose usage is pruned, from their roll-ups) and compares them byte by byte; it exits 1 on any difference, "
        "naming it, and tells on standard error how far it is. show prints one statement, or a draft of it."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb in ("finalise", "verify", "show"):
            one = verbs.add_parser(verb)
            one.add_argument("--month", type=_month, required=verb != "verify", help="As 2026-11.")
            one.add_argument("--tenant", required=verb == "show", help="A slug. Without: all tenants.")
            if verb == "show":
                one.add_argument("--format", choices=("json", "csv", "html"), default="json")

    def handle(self, *_args: Any, **options: Any) -> None:
        tenant = None
        if options["tenant"] is not None:
            tenant = Tenant.objects.filter(slug=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"There is no tenant “{options['tenant']}”.")
        if options["verb"] == "finalise":
            self._finalise(tenant, options["month"])
        elif options["verb"] == "verify":
            self._verify(tenant, options["month"])
        elif tenant is not None:
            self._show(tenant, options["month"], kind=options["format"])

    def _finalise(self, tenant: Tenant | None, month: date) -> None:
        """Each tenant in a transaction of its own; exits 1 if one was refused, after all others."""
        actor, refused = audit.system("statements finalise"), 0
        for one in [tenant] if tenant is not None else closing.open_tenants(month=month):
            try:
                statement = closing.finalise(tenant=one, month=month, actor=actor, now=timezone.now())
            except TollgateError as error:
                refused += 1
                self.stderr.write(f"{one.slug}: {error.message}")
            else:
                self.stdout.write(f"{statement}: {statement.billed_usd.normalize():f} USD, SHA-256 {statement.sha256}")
        if refused:
            sys.exit(1)

    def _verify(self, tenant: Tenant | None, month: date | None) -> None:
        statements = Statement.objects.order_by("month", "tenant_slug", "pk")
        if month is not None:
            statements = statements.filter(month=month)
        if tenant is not None:
            statements = statements.filter(tenant=tenant)
        wrong = number = 0
        of = statements.count()
        for number, statement in enumerate(statements.iterator(), start=1):
            self.stderr.write(f"{number} of {of}: {statement}, {statement.requests:,} requests")
            differences = closing.verify(statement)
            for difference in differences:
                self.stdout.write(str(difference))
            wrong += bool(differences)
        if wrong:
            self.stderr.write(f"{wrong} of {number} statements are not what the ledger says.")
            sys.exit(1)
        self.stdout.write(f"{number} statements recompute byte by byte.")

    def _show(self, tenant: Tenant, month: date, *, kind: str) -> None:
        try:
            text = closing.document(tenant=tenant, month=month, now=timezone.now())
        except TollgateError as error:
            raise CommandError(error.message) from error
        document = json.loads(text)
        if kind == "csv":
            self.stdout.write("".join(sheet.rows(document)), ending="")
        elif kind == "html":
            final = document["status"] == "final"
            self.stdout.write(printed.page(document, sha256=sha256(text) if final else None), ending="")
        else:
            self.stdout.write(text.decode("ascii"), ending="")


def _month(text: str) -> date:
    try:
        return periods.parse(text)
    except InvalidValue as error:
        raise argparse.ArgumentTypeError(error.message) from error
