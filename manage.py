#!/usr/bin/env python
"""Start here. Puts `platform/` on the path, then runs Django's command line."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main() -> None:
    for folder in (ROOT, ROOT / "platform"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tollgate.settings")
    from django.core.management import execute_from_command_line  # Django reads the settings named just above

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
