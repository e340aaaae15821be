"""A statement as a page made for printing: one HTML file with its own stylesheet, A4, nothing loaded from anywhere."""

from decimal import Decimal
from typing import Any

from django.template.loader import render_to_string

METERS = {
    "input": "Input tokens",
    "output": "Output tokens",
    "cache_read": "Cached input tokens",
    "cache_write_5m": "Cache writes, kept 5 minutes",
    "cache_write_1h": "Cache writes, kept 1 hour",
    "reasoning": "Reasoning tokens",
    "audio_input": "Audio input tokens",
    "audio_output": "Audio output tokens",
    "audio_cache_read": "Cached audio input tokens read",
    "image_input": "Image input tokens",
    "image_output": "Image output tokens",
    "image_cache_read": "Cached image input tokens read",
    "video_input": "Video input tokens",
    "video_output": "Video output tokens",
    "citation": "Citation tokens",
    "image": "Images",
    "request": "Requests",
    "search": "Searches",
}


def page(document: dict[str, Any], *, sha256: str | None) -> str:
    """The page; `sha256` is the finalised document's."""
    names = {kind: {row[f"{kind}_id"]: row["name"] for row in document[f"{kind}s"]} for kind in ("key", "config")}
    total = document["totals"]
    return render_to_string(
        "billing/statement.html",
        {
            "statement": document,
            "title": f"Statement {document['month']}",
            "draft": document["status"] == "draft",
            "sha256": sha256,
            "bill": _bill(total),
            "billed": usd(total["billed_usd"]),
            "paid": _paid(total),
            "cost": usd(total["cost_usd"]),
            "figures": [
                ("Requests", count(total["requests"])),
                ("Input tokens", count(total["prompt_tokens"])),
                ("of them cached", count(total["cached_tokens"])),
                ("Output tokens", count(total["completion_tokens"])),
            ],
            "models": [_model(row) for row in sorted(document["models"], key=_dearest)],
            "groups": [
                ("By day", "Day", [(row["day"], "", _cells(row)) for row in document["days"]]),
                ("By key", "API key", _named(document["keys"], "key_id", "without a key")),
                ("By config", "Config", _named(document["configs"], "config_id", "without a config")),
            ],
            "total_cells": _cells(total),
            "adjustments": [_adjustment(row, names["key"]) for row in document["adjustments"]],
            "adjusted": (usd(total["adjustments_list_usd"]), usd(total["adjustments_usd"])),
        },
    )


def usd(text: str) -> str:
    """An exact amount for people: as many places as it has, at least two."""
    amount = Decimal(text)
    whole, _, part = f"{abs(amount):f}".partition(".")
    return f"{'-' if amount < 0 else ''}${int(whole):,}.{part.ljust(2, '0')}"


def count(number: int) -> str:
    return f"{number:,}"


def _dearest(row: dict[str, Any]) -> tuple[Decimal, Decimal, str, str]:
    return -Decimal(row["billed_usd"]), -Decimal(row["list_usd"]), row["provider"], row["model"]


def _bill(total: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, why, amount) of each part that makes up what is owed; parts of nothing are left out."""
    parts = [
        ("Usage at the providers’ list prices", "", total["list_usd"]),
        ("Paid to providers with own keys", "billed to you by them", _negative(total["own_key_list_usd"])),
        ("Replaced by your own prices", "", _negative(total.get("own_price_list_usd", "0"))),
        ("Usage at your own prices", "", total.get("own_price_usd", "0")),
        ("Markup", "on requests with the platform’s keys", total["markup_usd"]),
        ("Fee for own keys", "on requests with your own provider keys", total["own_key_fee_usd"]),
        ("Adjustments", "each is listed below", total["adjustments_usd"]),
    ]
    return [(what, why, usd(amount)) for place, (what, why, amount) in enumerate(parts) if not place or amount != "0"]


def _paid(total: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, amount) of what prepaid credit paid and what is left to pay, if it paid anything."""
    if total.get("prepaid_usd", "0") == "0":
        return []
    return [("Paid from prepaid credit", usd(_negative(total["prepaid_usd"]))), ("Due, USD", usd(total["due_usd"]))]


def _negative(text: str) -> str:
    return "0" if text == "0" else f"{-Decimal(text):f}"


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        count(row["requests"]), count(row["total_tokens"]), usd(row["cost_usd"]), usd(row["adjustments_usd"]),
        usd(row["billed_usd"]),
    ]  # fmt: skip


def _named(rows: list[dict[str, Any]], column: str, nobody: str) -> list[tuple[str, str, list[str]]]:
    return [
        (row["name"] or (nobody if row[column] is None else "no name"), row[column] or "", _cells(row)) for row in rows
    ]


def _model(row: dict[str, Any]) -> dict[str, Any]:
    lines = _lines(row, "")
    sums = [("List price", row["list_usd"])]
    own_price = row.get("own_price_list_usd", "0") != "0" or row.get("own_price_usd", "0") != "0"
    if row["own_key"]:
        sums += [("Paid to the provider with your own key", _negative(row["own_key_list_usd"]))]
        sums += [("Fee for own keys", row["own_key_fee_usd"])]
    else:
        if own_price:
            lines += [(f"{name}, at your own price", *cells) for name, *cells in _lines(row, "own_price_")]
            sums += [("Replaced by your own prices", _negative(row["own_price_list_usd"]))]
            sums += [("At your own prices", row["own_price_usd"])]
        sums += [("Markup", row["markup_usd"])]
    sums += [("Adjustments", row["adjustments_usd"])]
    return {
        "name": "/".join(part for part in (row["provider"], row["model"]) if part) or "No model",
        "own_key": row["own_key"],
        "requests": count(row["requests"]),
        "lines": lines,
        "sums": [(name, usd(amount)) for place, (name, amount) in enumerate(sums) if not place or amount != "0"],
        "billed": usd(row["billed_usd"]),
    }


def _lines(row: dict[str, Any], prefix: str) -> list[tuple[str, ...]]:
    """(what, quantity, unit price, amount) of each line, at list price (no prefix) or at own prices."""
    lines: list[tuple[str, ...]] = []
    for line in row[f"{prefix}lines"]:
        name = METERS.get(line["meter"], line["meter"])
        if line["priced_as"] != line["meter"]:
            name += f", at the price of {METERS.get(line['priced_as'], line['priced_as']).lower()}"
        if "service_tier" in line:
            name += f", service tier {line['service_tier']}"
        price = f"{usd(line['unit_price_usd'])} per {count(line['unit_quantity'])}"
        lines.append((name, count(line["quantity"]), price, usd(line["amount_usd"])))
    for key, name in (("unitemised_usd", "Charged without price lines"), ("rounding_usd", "Rounding of each request")):
        if row[prefix + key] != "0":
            lines.append((name, "", "", usd(row[prefix + key])))
    return lines


def _adjustment(row: dict[str, Any], keys: dict[str | None, str]) -> dict[str, Any]:
    about = [f"request {row['request_id']}"] if row["request_id"] else []
    about += [f"{row['count']} adjustments"] if row["count"] != 1 else []
    about += [f"key {keys.get(row['key_id']) or row['key_id']}"] if row["key_id"] else []
    about += ["/".join(part for part in (row["provider"], row["model"]) if part)] if row["model"] else []
    return {
        "day": row["day"],
        "reason": row["reason"],
        "about": ", ".join(about),
        "list": usd(row["list_usd"]),
        "billed": usd(row["billed_usd"]),
    }
