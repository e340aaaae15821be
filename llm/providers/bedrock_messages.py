"""Content in Anthropic's blocks as Converse's, both ways.

A cache point stands behind the block that Anthropic marks. A document has a name and goes with a text. An image is its
bytes: a link cannot be expressed.
"""

import hashlib
import re
from typing import Any

from llm.errors import InvalidRequest

Json = dict[str, Any]
_LONGEST_ID = 64  # characters of a tool call's id
_LONGEST_NAME = 150  # of a document's name, where 200 are allowed
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\-()\[\] ]+")
_NOTHING = "(no output)"
_OWN = ("document", "search_result")  # Anthropic's own parts, which travel unread


def refuse_links(messages: Any) -> None:
    """Raises InvalidRequest naming the part that Converse has nothing for."""
    for position, message in enumerate(messages if isinstance(messages, list) else []):
        content = message.get("content") if isinstance(message, dict) else None
        for number, part in enumerate(content if isinstance(content, list) else []):
            where = f"messages[{position}].content[{number}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in _OWN:
                raise InvalidRequest(f"This model's API has no content part of type {kind!r}.", param=where)
            if kind == "image_url":
                image = part.get("image_url")
                url = image.get("url") if isinstance(image, dict) else image
                if isinstance(url, str) and not url.startswith("data:"):
                    raise InvalidRequest(
                        "This model's API takes no links: give the image as a base64 data URL.", param=where
                    )


class Blocks:
    """The blocks of one request. `caches`: its model takes cache points and a result's status."""

    def __init__(self, *, caches: bool, claude: bool) -> None:
        self._caches, self._claude = caches, claude
        self._documents = 0
        self.dropped: set[str] = set()

    def content(self, blocks: list[Json]) -> list[Json]:
        found: list[Json] = []
        for block in blocks:
            one = self._block(block)
            if one is None:
                continue
            found.append(one)
            inner = block["content"] if block["type"] == "tool_result" and "content" in block else []
            marks = [part["cache_control"] for part in (*inner, block) if "cache_control" in part]
            if marks:
                found += self._cache_point(marks[-1])
        if any("document" in one for one in found) and not any("text" in one for one in found):
            found.append({"text": "."})
        return found or [{"text": "."}]  # a turn of thinking alone, which this model does not take back

    def tool(self, tool: Json) -> list[Json]:
        """A definition, and its cache point: only Claude's tools have one."""
        spec: Json = {"name": tool["name"], "inputSchema": {"json": tool["input_schema"]}}
        if tool.get("description"):
            spec["description"] = tool["description"]
        if tool.get("strict"):
            spec["strict"] = True
        if "cache_control" not in tool:
            return [{"toolSpec": spec}]
        if not self._claude:
            self.dropped.add("cache_control")
            return [{"toolSpec": spec}]
        return [{"toolSpec": spec}, *self._cache_point(tool["cache_control"])]

    def _cache_point(self, mark: Json) -> list[Json]:
        if not self._caches:
            self.dropped.add("cache_control")
            return []
        point: Json = {"type": "default"}
        if self._claude and mark.get("ttl") == "1h":
            point["ttl"] = "1h"
        return [{"cachePoint": point}]

    def _block(self, block: Json) -> Json | None:
        kind = block["type"]
        if kind == "text":
            return {"text": block["text"]}
        if kind == "image":
            source = block["source"]
            return {"image": {"format": source["media_type"].split("/")[1], "source": {"bytes": source["data"]}}}
        if kind == "document":
            return {"document": self._document(block)}
        if kind == "tool_use":
            return {"toolUse": {"toolUseId": _id(block["id"]), "name": block["name"], "input": block["input"]}}
        if kind == "tool_result":
            return {"toolResult": self._result(block)}
        return self._reasoning(block)

    def _reasoning(self, block: Json) -> Json | None:
        """Only Claude signs its thinking, and takes it back; the others refuse it."""
        if not self._claude:
            return None
        if block["type"] == "redacted_thinking":
            return {"reasoningContent": {"redactedContent": block["data"]}}
        text = {"text": block.get("thinking") or "", "signature": block["signature"]}
        return {"reasoningContent": {"reasoningText": text}}

    def _document(self, block: Json) -> Json:
        self._documents += 1
        name = " ".join(_NOT_IN_NAMES.sub(" ", str(block.get("title") or "document")).split())[:_LONGEST_NAME].strip()
        if self._documents > 1:  # names must differ
            name = f"{name} {self._documents}".strip()
        return {"format": "pdf", "name": name or "document", "source": {"bytes": block["source"]["data"]}}

    def _result(self, block: Json) -> Json:
        content = [one for one in map(self._block, block.get("content") or ()) if one is not None]
        found: Json = {"toolUseId": _id(block["tool_use_id"]), "content": content or [{"text": _NOTHING}]}
        if block.get("is_error") and self._caches:
            found["status"] = "error"
        return found


def _id(given: str) -> str:
    """The same id in call and result, within Converse's length (Gemini's can be longer)."""
    return given if len(given) <= _LONGEST_ID else "call_" + hashlib.blake2b(given.encode(), digest_size=24).hexdigest()
