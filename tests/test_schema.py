"""The OpenAPI schema is whole: no view without a description of what it takes and answers."""

import io

import yaml
from django.core.management import call_command


def test_the_schema_validates_without_a_warning() -> None:
    out = io.StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)
    paths = yaml.safe_load(out.getvalue())["paths"]
    assert "/api/v1/llm/chat/completions" in paths
    assert not [path for path in paths if path.endswith("/")]  # each URL is documented once
