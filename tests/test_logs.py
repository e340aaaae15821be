"""Log lines: structured, with the request id, and with nothing in them that looks like a key."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tollgate import logs

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "secret",
    [
        "tg_live_0123456789abcdefABCDEF0123456789abcdef",
        "sk-proj-abcdefghijklmnop",
        "sk-ant-api03-abc_def-ghi",
        "gsk_abcdefghijkl",
        "AIzaSyA1234567890abcdefghijklmnop",
        "AQ.Ab8RN6Ib1234567890abcdefghijklmnop",
        "ya29.c.c0ASRK0Gb-1234567890_abcdefgh",
        "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\\n-----END PRIVATE KEY-----",
        "AKIAIOSFODNN7ABCDEFG",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD/Zk2a1iJXmw=",
    ],
)
def test_a_key_never_shows(secret: str) -> None:
    assert logs.redact(f"calling with {secret}, then") == "calling with [redacted], then"
    assert secret not in logs.redact(f'{{"authorization": "Bearer {secret}"}}')


def test_a_bearer_token_of_any_shape_is_hidden_but_the_word_stays() -> None:
    assert logs.redact("authorization: bearer abc.DEF-123==") == "authorization: bearer [redacted]"


@pytest.mark.parametrize("text", ["a risk-free task", "see sk- keys", "no bearer was sent", "model gpt-4o-mini-2024"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert logs.redact(text) == text


def test_values_with_secret_names_are_hidden_whatever_they_look_like() -> None:
    event = {"api_key": "plain", "Authorization": "x", "user_password": "x", "prompt_tokens": 5, "event": "done"}
    assert logs.hide_named_secrets(None, "info", event) == {
        "api_key": "[redacted]",
        "Authorization": "[redacted]",
        "user_password": "[redacted]",
        "prompt_tokens": 5,
        "event": "done",
    }


def emit(log_format: str) -> str:
    """Log from a process of its own: pytest replaces the handlers of this one."""
    code = f"""
import logging, structlog
from tollgate import logs
logs.configure({{"level": "DEBUG", "format": "{log_format}"}})
structlog.contextvars.bind_contextvars(request_id="r-1")
structlog.get_logger("ours").info("sent", key="sk-abcdefghijklmnop", tokens=5)
logging.getLogger("httpx").info("GET https://provider")
logging.getLogger("django.request").warning("Not Found: %s", "/x")
try:
    raise ValueError("Bearer abcdefghijkl")
except ValueError:
    logging.getLogger("theirs").exception("broke")
"""
    path = f"{ROOT}:{ROOT / 'platform'}"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert run.stdout == ""
    assert "abcdefghijkl" not in run.stderr
    assert "https://provider" not in run.stderr
    return run.stderr


def test_production_logs_are_json_with_the_request_id() -> None:
    lines = [json.loads(line) for line in emit("json").splitlines()]
    assert [(line["event"], line["level"], line["logger"], line["request_id"]) for line in lines] == [
        ("sent", "info", "ours", "r-1"),
        ("Not Found: /x", "warning", "django.request", "r-1"),
        ("broke", "error", "theirs", "r-1"),
    ]
    assert lines[0]["tokens"] == 5
    assert "ValueError: Bearer [redacted]" in lines[2]["exception"]


def test_development_logs_are_readable() -> None:
    text = emit("console")
    assert "sent" in text
    assert "ValueError: Bearer [redacted]" in text


@pytest.mark.parametrize("name", ["httpx", "httpcore", "aiohttp"])
def test_http_clients_are_quiet(name: str) -> None:
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
