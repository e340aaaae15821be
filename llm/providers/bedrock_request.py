"""A chat completion request as a Converse request.

Converse says what Anthropic's Messages API says, in other words, for the models of many makers. So a request is first
made Anthropic's (anthropic_request, whose rules and quirks hold here too) and then put into Converse's words. What
differs between makers goes into `additionalModelRequestFields`, by the quirk `maker`:

    claude     top_k, thinking, output_config.effort
    nova       inferenceConfig.topK, reasoningConfig: `low` or `medium`, since `high` refuses a cap on tokens
    gpt-oss    reasoning_effort
    others     nothing: top_k and reasoning_effort are dropped

Sources: the service model in botocore (bedrock-runtime 2023-09-30), docs.aws.amazon.com/bedrock and /nova, and what
langchain-aws sends to which model.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm.calls import Call
from llm.errors import InvalidRequest
from llm.providers import anthropic_request, bedrock_messages

Json = dict[str, Any]

# What a model id begins with, behind the region of an inference profile ("global.", "us."). ARNs do not say it.
_MAKERS = (("anthropic.", "claude"), ("amazon.nova", "nova"), ("openai.gpt-oss", "gpt-oss"))
_EFFORTS = {
    "nova": {"minimal": "low", "low": "low", "medium": "medium", "high": "medium", "xhigh": "medium", "max": "medium"},
    "gpt-oss": {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"},
}
_CACHES = ("claude", "nova")  # whose models take cache points, and the status of a tool's result


def request_body(call: Call) -> tuple[Json, list[str]]:
    """The body and the names of what was dropped. Raises InvalidRequest for what cannot be expressed."""
    bedrock_messages.refuse_links(call.body.get("messages"))
    maker = maker_of(call)
    body, dropped = anthropic_request.request_body(call) if maker == "claude" else _Builder(call, maker).build()
    return _Converse(call, maker, body, dropped).build()


def maker_of(call: Call) -> str:
    """Whose model it is, as far as it matters; empty for all others."""
    model = call.target.model
    said = model.quirks.get("maker")
    if isinstance(said, str):
        return said
    return next((maker for start, maker in _MAKERS if start in model.model_id), "")


class _Builder(anthropic_request.Builder):
    """As for Claude, but for what only Claude is like: thinking, and how temperature, top_p and top_k go together."""

    def __init__(self, call: Call, maker: str) -> None:
        super().__init__(call)
        self.maker = maker

    def _thinking(self) -> None:
        if self.given.get("thinking") is not None:
            self.dropped.append("thinking")
        effort = self.given.get("reasoning_effort")
        if effort is None or effort == "none":
            return
        known = _EFFORTS.get(self.maker)
        if known is None or not self.call.target.model.is_reasoning:
            self.dropped.append("reasoning_effort")
        elif effort not in known:
            raise InvalidRequest(
                "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max.", param="reasoning_effort"
            )
        else:
            self.body["output_config"] = self.body.get("output_config", {}) | {"effort": known[effort]}

    def _sampling(self) -> None:
        temperature = self.given.get("temperature")
        if temperature is None and self.call.temperature is not None and "temperature" not in self.refused:
            temperature = float(self.call.temperature)
        if temperature is not None:
            self.body["temperature"] = min(temperature, 1.0)
        for name in ("top_p", "top_k"):
            if name in self.given:
                self.body[name] = self.given[name]


class _Converse:
    """One request in Anthropic's words put into Converse's."""

    def __init__(self, call: Call, maker: str, body: Json, dropped: list[str]) -> None:
        self.quirks: Mapping[str, Any] = call.target.model.quirks
        self.given, self.maker, self.said, self.dropped = call.body, maker, body, dropped
        self.blocks = bedrock_messages.Blocks(caches=maker in _CACHES, claude=maker == "claude")
        self.more: Json = {}

    def build(self) -> tuple[Json, list[str]]:
        said = self.said
        body: Json = {
            "messages": [
                {"role": turn["role"], "content": self.blocks.content(turn["content"])} for turn in said["messages"]
            ]
        }
        if said.get("system"):
            body["system"] = self.blocks.content(said["system"])
        body["inferenceConfig"] = self._inference()
        tools = self._tools()
        if tools is not None:
            body["toolConfig"] = tools
        wanted = said.get("output_config", {})
        if "format" in wanted:
            structure = {"jsonSchema": {"schema": orjson.dumps(wanted["format"]["schema"]).decode()}}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
        if "effort" in wanted:
            self._effort(wanted["effort"])
        if "service_tier" in said:
            body["serviceTier"] = {"type": said["service_tier"]}
        if "thinking" in said:
            self.more["thinking"] = said["thinking"]
        if self.more:
            body["additionalModelRequestFields"] = self.more
        if "metadata" in said:  # the end user: there is no place for who it is
            self.dropped += [name for name in ("user", "safety_identifier") if self.given.get(name)]
        return body, sorted({*self.dropped, *self.blocks.dropped})

    def _inference(self) -> Json:
        said = self.said
        found: Json = {"maxTokens": said["max_tokens"]}
        for name, ours in (("temperature", "temperature"), ("top_p", "topP"), ("stop_sequences", "stopSequences")):
            if name in said:
                found[ours] = said[name]
        if "top_k" in said:
            if self.maker == "claude":
                self.more["top_k"] = said["top_k"]
            elif self.maker == "nova":
                self.more["inferenceConfig"] = {"topK": said["top_k"]}
            else:
                self.dropped.append("top_k")
        return found

    def _effort(self, effort: str) -> None:
        if self.maker == "claude":
            self.more["output_config"] = {"effort": effort}
        elif self.maker == "nova":
            self.more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": effort}
        else:
            self.more["reasoning_effort"] = effort

    def _tools(self) -> Json | None:
        said = self.said.get("tools")
        if not said:
            return None
        choice: Json = self.said.get("tool_choice") or {"type": "auto"}
        if choice.get("disable_parallel_tool_use"):
            self.dropped.append("parallel_tool_calls")
        kind = choice["type"]
        if kind == "none" and not any("toolUse" in one for one in self._every_block()):
            return None  # none may be called, and none was: there is nothing to define
        if kind in ("any", "tool"):
            kind, said = self._forced(kind, choice, said)
        found: Json = {"tools": [one for tool in said for one in self.blocks.tool(tool)]}
        if kind == "any":
            found["toolChoice"] = {"any": {}}
        elif kind == "tool":
            found["toolChoice"] = {"tool": {"name": choice["name"]}}
        return found  # `auto` is what it does unasked, and some models refuse to be asked

    def _forced(self, kind: str, choice: Json, tools: list[Json]) -> tuple[str, list[Json]]:
        """A forced call, as far as the model lets itself be forced. What is left to force is a JSON schema's tool."""
        forced = self.quirks.get("forced_tool_choice", True)
        if forced is False:
            raise InvalidRequest(
                "This model's API has no JSON schema to answer by. Use `json_object`.", param="response_format"
            )
        if kind == "tool" and forced == "any":  # any of one is that one
            return "any", [tool for tool in tools if tool["name"] == choice["name"]]
        return kind, tools

    def _every_block(self) -> list[Json]:
        return [
            {"toolUse": True}
            for turn in self.said["messages"]
            for block in turn["content"]
            if block["type"] in ("tool_use", "tool_result")
        ]
