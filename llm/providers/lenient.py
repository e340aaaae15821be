"""What vendors of the OpenAI dialect send that is not quite what it should be: JSON that is nearly JSON, and errors in
every shape but the documented one."""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from llm.errors import UpstreamInvalid

# MiniMax fails under 200, in `base_resp.status_code` (platform.minimax.io, "Error Codes"). Others are its own fault.
_MINIMAX = {1002: 429, 1004: 401, 1008: 402, 1026: 400, 1027: 400, 2013: 400}
_CODES = ("code", "status", "status_code")
_FAILED = ("error", "failed", "failure")


def loads(payload: bytes) -> Any:
    """JSON as Python's own `json` writes it (NaN and Infinity: they become null), as it comes from a text that was cut
    anywhere (half a character, half a surrogate pair: U+FFFD), and with control characters in its strings.

    Slower than orjson by far, so for what orjson refuses. Raises UpstreamInvalid.
    """
    try:
        found = json.loads(payload.decode("utf-8-sig", "replace"), parse_constant=lambda _: None, strict=False)
        text = json.dumps(found, ensure_ascii=False)
        # Once more through orjson, so that numbers too are what it would have made of them, and can write.
        return orjson.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError) as error:
        raise UpstreamInvalid("The provider sent what is not JSON.") from error


def error_in(said: Mapping[str, Any]) -> Any:
    """The error that an object reports, in whichever way; None if it reports none.

    {"error": {...}}, {"error": "text"}, {"error": true, "message": ...}, {"type": "error"}, {"object": "error"} (vLLM),
    {"code": 429, "message": ...}, {"status": "failed"}, {"success": false}, {"detail": ...} (FastAPI), and MiniMax's
    base_resp. What lies beside `choices` is only looked at where it cannot be anything else.
    """
    error = said.get("error")
    if error:
        if isinstance(error, Mapping):
            return error
        return {**said, "message": error} if isinstance(error, str) else said
    base = said.get("base_resp")
    if isinstance(base, Mapping) and base.get("status_code"):
        code = base["status_code"]
        return {"code": _MINIMAX.get(code, 503) if type(code) is int else 503, "message": base.get("status_msg")}
    if said.get("choices"):
        return None
    if said.get("type") == "error" or said.get("object") == "error" or said.get("success") is False:
        return said
    return said if _fails(said) or said.get("detail") or said.get("errors") else None


def _fails(said: Mapping[str, Any]) -> bool:
    """Whether a code or status says that something failed."""
    for name in _CODES:
        value = said.get(name)
        if value in _FAILED:
            return True
        if str(value).isdecimal() and len(str(value)) == 3 and str(value)[0] in "45":
            return True
    return False
