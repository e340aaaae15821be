"""`manage.py run`: what `make run` calls. Prepares everything, then runs the web server and the worker together."""

import json
import os
import signal
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from llm.models import LLMModel
from tollgate.management.commands.serve import listen
from tollgate.supervisor import ChildFailedError, Program, Supervisor, answers, reachable_host

START_DEADLINE_S = 60
WORKER_PROCESSES = 2


class Command(BaseCommand):
    help = "Bootstrap, then run the web server and the worker with its scheduler until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until Ctrl-C or SIGTERM. Raises CommandError if one of the two ends by itself."""
        listen(settings.HOST, settings.PORT).close()  # say that the port is taken before doing any work
        made = json.loads(_output_of("bootstrap", "--json"))
        model = _sandbox_model()
        _close_databases()
        host = reachable_host(settings.HOST)
        with Supervisor(folder=settings.ROOT, environment=_environment(), grace_s=settings.GRACE_PERIOD_S) as both:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda _number, _frame: both.stopping.set())
            both.start(Program("web server", [sys.executable, str(settings.ROOT / "manage.py"), "serve"]))
            both.start(Program("worker", worker_command()))
            try:
                live = both.wait_until(
                    lambda: answers(host, settings.PORT, "/health/live"), deadline_s=START_DEADLINE_S
                )
                if live:
                    self.stdout.write(welcome(made, model=model, data_dir=settings.TOLLGATE_DATA_DIR))
                    self.stdout.flush()
                both.watch()
            except ChildFailedError as error:
                raise CommandError(f"{error} Everything has been stopped.") from error
            self.stdout.write("Stopping ...")
            killed = both.stop()
        if killed:
            raise CommandError(
                f"Killed after {settings.GRACE_PERIOD_S} s because it would not stop: {', '.join(killed)}."
            )
        self.stdout.write("Stopped.")


def worker_command() -> list[str]:
    """Celery with its scheduler. Without gossip, mingle and heartbeat: one worker has nobody to talk to, and on the
    filesystem broker each of those messages is a file.
    """
    alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    options = ("-B", "--loglevel", "WARNING", "--concurrency", str(WORKER_PROCESSES), *alone)
    return [sys.executable, "-m", "celery", "--quiet", "-A", "tollgate", "worker", *options]


def welcome(made: dict[str, str], *, model: str, data_dir: Path) -> str:
    """What a person needs next: addresses, the login, and lines to paste. `made` is what `bootstrap --json` printed."""
    base = made["base_url"].rstrip("/")
    password = made.get("staff_password") or "as printed by the first run"
    key = made.get("tenant_api_key")
    lines = [
        "",
        f"Tollgate is running at {base}",
        f"  admin      {base}/admin/   {made['staff_username']} / {password}",
        f"  API docs   {base}/api/docs/",
        f"  data in    {data_dir}",
    ]
    if made.get("staff_api_key"):
        lines.append(f"  staff key  {made['staff_api_key']}")
    if key:
        bearer = f"-H 'Authorization: Bearer {key}'"
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        lines += [
            f"  tenant key {key}   (tenant {made['tenant_slug']})",
            "",
            "Try it:",
            "",
            f"curl {base}/v1/chat/completions {bearer} -H 'Content-Type: application/json' -d '{body}'",
            "",
            f"curl {base}/api/v1/me {bearer}",
        ]
    else:
        lines.append("  keys       as printed by the first run; for new ones: manage.py bootstrap --json --new-keys")
    return "\n".join([*lines, "", "Ctrl-C stops everything.", ""])


def _output_of(command: str, *arguments: str) -> str:
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def _close_databases() -> None:
    """Nothing here needs the database any more, and a connection pool has threads: none may run when we fork."""
    connections.close_all()
    for database in connections.all(initialized_only=True):
        if database.vendor == "postgresql":
            database.close_pool()  # type: ignore[attr-defined]  # only PostgreSQL's wrapper has it


def _sandbox_model() -> str:
    """The built-in model that answers without any provider key, as a client names it."""
    found = LLMModel.objects.filter(provider__slug="sandbox", kind="chat", is_active=True).order_by("model_id").first()
    return "auto" if found is None else f"sandbox/{found.model_id}"


def _environment() -> dict[str, str]:
    """For the children: the same, with the code on the path and quiet logs unless a level was asked for."""
    path = [str(settings.ROOT), str(settings.ROOT / "platform"), os.environ.get("PYTHONPATH", "")]
    quiet = {"LOG_LEVEL": "WARNING"} if not os.environ.get("LOG_LEVEL") else {}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(part for part in path if part)}
