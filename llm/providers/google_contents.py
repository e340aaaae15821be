"""A chat's messages as Gemini's: a system instruction and contents of the roles `user` and `model`.

System and developer messages are taken out in order, wherever they stand. Messages of one side in a row become one
content, results of functions first in theirs. Empty text, which it refuses, is left out.

Gemini wants its thought signatures back, from version 3 on strictly: a call of a function without one is a 400. They
come and go in `extra_content.google.thought_signature` of a tool call or message, as Google's own OpenAI endpoint has
it. A call that came from another model has none, nor has one whose client dropped it: then the text that the
documentation names for such histories stands in (ai.google.dev, "Thought signatures").
"""

import mimetypes
import re
from typing import Any
from urllib.parse import urlsplit

import orjson

from llm.errors import InvalidRequest

Json = dict[str, Any]
_NO_SIGNATURE = "skip_thought_signature_validator"
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.=+-]+)*;base64,", re.ASCII | re.IGNORECASE)


class Contents:
    """One chat put into contents. `dropped` names what had no place."""

    def __init__(self, messages: list[Any], *, signatures: bool) -> None:
        """`signatures`: this model insists on them. Raises InvalidRequest naming `messages[i].content[j]`."""
        self.dropped: set[str] = set()
        self.system: list[Json] = []
        self.turns: list[Json] = []
        self._signatures = signatures
        self._names: dict[str, str] = {}  # of the functions called, by the id of the call
        for position, message in enumerate(messages):
            self._message(message, f"messages[{position}]")
        if not self.turns and self.system:  # a chat of instructions alone: they are what is to be answered
            self.system, self.turns = [], [{"role": "user", "parts": self.system}]
        if not self.turns:
            raise InvalidRequest("There is no message with content.", param="messages")
        if self.turns[0]["role"] == "model":  # a chat begins with the user
            self.turns.insert(0, {"role": "user", "parts": [{"text": "."}]})
        for turn in self.turns:
            if turn["role"] == "user":
                turn["parts"].sort(key=lambda part: "functionResponse" not in part)

    def _message(self, message: Any, where: str) -> None:
        if not isinstance(message, dict):
            raise InvalidRequest("A message must be an object.", param=where)
        role = message.get("role")
        if role in ("system", "developer"):
            parts = self._parts(message.get("content"), where)
            if any("text" not in part for part in parts):
                raise InvalidRequest("A system message can hold text only.", param=f"{where}.content")
            self.system += parts
        elif role == "user":
            self._add("user", self._parts(message.get("content"), where))
        elif role == "assistant":
            self._add("model", self._assistant(message, where))
        elif role == "tool":
            self._add("user", self._tool_result(message, where))
        else:
            raise InvalidRequest(f"The role {role!r:.40} is not known to this model's API.", param=f"{where}.role")

    def _add(self, role: str, parts: list[Json]) -> None:
        if not parts:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["parts"] += parts
        else:
            self.turns.append({"role": role, "parts": parts})

    def _parts(self, content: Any, where: str) -> list[Json]:
        if content is None:
            return []
        if isinstance(content, str):
            return [{"text": content}] if content else []
        if not isinstance(content, list):
            raise InvalidRequest("Content must be text or a list of parts.", param=f"{where}.content")
        found = [self._part(part, f"{where}.content[{position}]") for position, part in enumerate(content)]
        return [part for part in found if part is not None]

    def _part(self, part: Any, where: str) -> Json | None:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind is not None and part.get("cache_control"):
            self.dropped.add("cache_control")  # Gemini caches by itself
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if not isinstance(text, str):
                raise InvalidRequest("The text of this part is missing.", param=where)
            return {"text": text} if text else None
        if kind == "image_url":
            image = part.get("image_url")
            if isinstance(image, dict) and image.get("detail", "auto") != "auto":
                self.dropped.add("detail")
            return _image(image.get("url") if isinstance(image, dict) else image, where)
        if kind == "file":
            return _document(part.get("file"), where)
        raise InvalidRequest(
            f"This model's API has no content part of type {str(kind)[:40]!r}, or its price is not metered yet.",
            param=where,
        )

    def _assistant(self, message: Json, where: str) -> list[Json]:
        """Text, then calls of functions. Thoughts stay away: what Gemini wants back of them is the signature."""
        if message.get("function_call"):
            raise InvalidRequest(
                "`function_call` is not supported by this model. Use `tool_calls`.", param=f"{where}.function_call"
            )
        parts = self._parts(message.get("content"), where)
        if isinstance(message.get("refusal"), str) and message["refusal"] and not message.get("content"):
            parts.append({"text": message["refusal"]})
        signature = _signature(message)
        if signature and parts:
            parts[-1]["thoughtSignature"] = signature
        given = message.get("tool_calls")
        calls = [
            self._call(call, f"{where}.tool_calls[{position}]")
            for position, call in enumerate(given if isinstance(given, list) else [])
        ]
        if calls and self._signatures and not any("thoughtSignature" in call for call in calls):
            calls[0]["thoughtSignature"] = _NO_SIGNATURE
        return parts + calls

    def _call(self, call: Any, where: str) -> Json:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest("A tool call needs a `function` with a `name`.", param=where)
        known = _id(call.get("id"), where)
        self._names[known] = function["name"]
        found = {"functionCall": {"id": known, "name": function["name"], "args": _arguments(function.get("arguments"))}}
        signature = _signature(call)
        return found | {"thoughtSignature": signature} if signature else found

    def _tool_result(self, message: Json, where: str) -> list[Json]:
        """The result under the name of the function that was called, which OpenAI's message does not repeat."""
        known = _id(message.get("tool_call_id"), where)
        name = self._names.get(known) or message.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidRequest("No tool call before it has this id.", param=f"{where}.tool_call_id")
        parts = self._parts(message.get("content"), where)
        texts = [part["text"] for part in parts if "text" in part]
        response = _result("\n".join(texts), failed=message.get("is_error") is True)
        result = {"functionResponse": {"id": known, "name": name, "response": response}}
        return [result, *(part for part in parts if "text" not in part)]  # images stand behind the result


def _image(url: Any, where: str) -> Json:
    if not isinstance(url, str):
        raise InvalidRequest("The image's URL is missing.", param=where)
    if url.startswith("https://"):
        kind = mimetypes.guess_type(urlsplit(url).path)[0] or ""
        return {"fileData": {"fileUri": url, "mimeType": kind if kind.startswith("image/") else "image/jpeg"}}
    found = _DATA_URL.match(url)
    if found is None or not found[1].lower().startswith("image/"):
        raise InvalidRequest("An image must be an https URL, or a base64 data URL of an image.", param=where)
    kind = found[1].lower().replace("image/jpg", "image/jpeg")
    return {"inlineData": {"mimeType": kind, "data": url[found.end() :]}}


def _document(file: Any, where: str) -> Json:
    data = file.get("file_data") if isinstance(file, dict) else None
    found = _DATA_URL.match(data) if isinstance(data, str) else None
    if found is None or not isinstance(data, str) or found[1].lower() != "application/pdf":
        raise InvalidRequest("A file must be given as `file_data`, a base64 data URL of a PDF.", param=where)
    return {"inlineData": {"mimeType": "application/pdf", "data": data[found.end() :]}}


def _signature(given: Json) -> str:
    """`extra_content.google.thought_signature` of a tool call or a message; "" if there is none."""
    extra = given.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) else ""


def _arguments(arguments: Any) -> Json:
    """Arguments as the object Gemini wants. A model's broken JSON is kept as text, so that the chat can go on."""
    if isinstance(arguments, dict):
        return arguments
    try:
        found = orjson.loads(arguments or "{}")
    except (orjson.JSONDecodeError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"arguments": str(arguments)}


def _result(text: str, *, failed: bool) -> Json:
    """A result as an object: as it is if it is one, else under the key that Gemini reads results and errors from."""
    if failed:
        return {"error": text}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"output": text}


def _id(given: Any, where: str) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidRequest("The tool call's id is missing.", param=where)
    return given
