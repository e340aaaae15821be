"""A chat completion request as a request of Cohere's Chat API v2.

What has no place there is dropped and said so. Clamped, not dropped: `top_p` to 0.01..0.99, `top_k` to 500 and
penalties to 1, Cohere's limits. Cohere's own fields (`documents`, `citation_options`, `safety_mode`, `strict_tools`)
pass through, for who knows them.
"""

from collections.abc import Mapping
from typing import Any

from llm.calls import Call
from llm.errors import InvalidRequest
from llm.providers import chat_request, cohere_messages, cohere_schema
from llm.providers.openai import unsupported
from llm.providers.openai_request import cache_marks

Json = dict[str, Any]

_OWN = ("documents", "citation_options", "safety_mode", "strict_tools")
_TRANSLATED = frozenset(
    {*_OWN, "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
     "top_p", "top_k", "stop", "seed", "frequency_penalty", "presence_penalty", "logprobs", "tools", "tool_choice",
     "parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "n", "functions", "function_call"}
)  # fmt: skip
_PENALTIES = ("frequency_penalty", "presence_penalty")
_MOST_STOPS = 5
_LEAST_P, _MOST_P, _MOST_K = 0.01, 0.99, 500
# `high` and more are Cohere's plain "enabled", as in its own Compatibility API; less is a share of the cap.
_EFFORTS = dict.fromkeys((None, "none", "high", "xhigh", "max")) | {"minimal": 0.1, "low": 0.2, "medium": 0.5}


def request_body(call: Call) -> tuple[Json, list[str]]:
    """The body and the names of what was dropped. Raises InvalidRequest for what cannot be expressed."""
    return _Builder(call).build()


class _Builder:
    """One translation. Each step reads `given`, writes `body`, and notes what it drops."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.quirks: Mapping[str, Any] = call.target.model.quirks
        self.refused = unsupported(self.quirks)
        self.given, self.dropped = chat_request.taken(call)
        self.body: Json = {"model": call.target.model.model_id, "max_tokens": call.target.output_cap}

    def build(self) -> tuple[Json, list[str]]:
        self._refuse()
        reasoning = self.call.target.model.is_reasoning
        self.body["messages"], dropped = cohere_messages.messages(self.given.get("messages"), reasoning=reasoning)
        self.dropped += dropped + cache_marks(self.given)
        self._tools()
        self._response_format()
        self._thinking()
        self._sampling()
        self._stop()
        for name in _OWN:
            if name in self.given:
                self.body[name] = self.given[name]
        if self.call.stream:
            self.body["stream"] = True
        for name, value in self.given.items():
            said_nothing = value is False or (name == "top_logprobs" and value == 0)
            if name not in _TRANSLATED and not said_nothing:
                self.dropped.append(name)
        return self.body, sorted(set(self.dropped))

    def _refuse(self) -> None:
        chat_request.refuse_choices(self.given)
        chat_request.refuse_functions(self.given)

    # Tools

    def _tools(self) -> None:
        given = self.given.get("tools") or []
        if not isinstance(given, list):
            raise InvalidRequest("`tools` must be a list.", param="tools")
        functions = [_function(tool, f"tools[{position}]") for position, tool in enumerate(given)]
        choice, functions = self._tool_choice(functions)
        forced = self.quirks.get("forced_tool_choice", True)
        if not functions or (choice == "NONE" and not forced):
            return
        strict = [function.pop("strict", None) is True for function in functions]
        if all(strict):
            self.body["strict_tools"] = True
            for function in functions:
                function["parameters"] = cohere_schema.strict(function["parameters"])
        elif any(strict):
            self.dropped.append("strict")  # Cohere knows it for all tools of a request only
        self.body["tools"] = [{"type": "function", "function": function} for function in functions]
        if choice is not None and forced:
            self.body["tool_choice"] = choice
        elif choice is not None:
            self.dropped.append("tool_choice")
        if self.given.get("parallel_tool_calls") is False:
            self.dropped.append("parallel_tool_calls")

    def _tool_choice(self, functions: list[Json]) -> tuple[str | None, list[Json]]:
        """The choice, and the tools it leaves: to name a function is to leave that one and require a call."""
        said = self.given.get("tool_choice")
        if said in (None, "auto"):
            return None, functions
        if said == "none":
            return "NONE", functions
        if said == "required":
            return "REQUIRED", functions
        if isinstance(said, dict) and said.get("type") == "function":
            return "REQUIRED", _named([said], functions)
        if isinstance(said, dict) and said.get("type") == "allowed_tools":
            allowed = said.get("allowed_tools", said)
            listed = allowed.get("tools") if isinstance(allowed, dict) else None
            mode = "REQUIRED" if isinstance(allowed, dict) and allowed.get("mode") == "required" else None
            return mode, _named(listed if isinstance(listed, list) else [], functions)
        raise InvalidRequest("`tool_choice` must be auto, none, required, or name a function.", param="tool_choice")

    # Answers

    def _response_format(self) -> None:
        said = self.given.get("response_format")
        kind = said.get("type") if isinstance(said, dict) else None
        if said is None or kind == "text":
            return
        wanted: Json = {"type": "json_object"}
        if kind == "json_schema":
            schema = said["json_schema"].get("schema") if isinstance(said.get("json_schema"), dict) else None
            if not isinstance(schema, dict):
                raise InvalidRequest("`response_format` needs a schema.", param="response_format")
            wanted["json_schema"] = cohere_schema.strict(schema)
        elif kind != "json_object":
            raise InvalidRequest("`response_format` must be text, json_object or json_schema.", param="response_format")
        if self.body.get("tools") and self.body.get("tool_choice") == "NONE":
            del (
                self.body["tools"],
                self.body["tool_choice"],
            )  # no tool is to be called: left out, it need not be refused
        if self.body.get("tools"):
            raise InvalidRequest(
                "This model's API takes `response_format` or `tools`, not both. Leave one of them out.",
                param="response_format",
                code="unsupported_parameter",
            )
        self.body["response_format"] = wanted

    def _thinking(self) -> None:
        """`reasoning_effort`, or Anthropic's or Cohere's own `thinking`. Unasked, reasoning models reason."""
        effort, own = self.given.get("reasoning_effort"), self.given.get("thinking")
        if effort not in _EFFORTS:
            raise InvalidRequest(
                "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max.", param="reasoning_effort"
            )
        if own is not None and not isinstance(own, dict):
            raise InvalidRequest("`thinking` must be an object.", param="thinking")
        off = effort == "none" if own is None else own.get("type") == "disabled"
        if not self.call.target.model.is_reasoning:
            self.dropped += [name for name in ("reasoning_effort", "thinking") if name in self.given and not off]
        elif off:
            self.body["thinking"] = {"type": "disabled"}
        elif own is not None:
            self.body["thinking"] = {"type": "enabled"} | _budget(own.get("token_budget", own.get("budget_tokens")))
        elif effort is not None:
            share = _EFFORTS[effort]
            budget = None if share is None else int(self.call.target.output_cap * share)
            self.body["thinking"] = {"type": "enabled"} | _budget(budget)

    def _sampling(self) -> None:
        if self.call.temperature is not None and "temperature" not in self.refused:
            self.given.setdefault("temperature", float(self.call.temperature))
        if "temperature" in self.given:
            self.body["temperature"] = self.given["temperature"]
        if "top_p" in self.given:
            self.body["p"] = min(max(self.given["top_p"], _LEAST_P), _MOST_P)
        if "top_k" in self.given:
            self.body["k"] = min(self.given["top_k"], _MOST_K)
        for name in _PENALTIES:
            value = self.given.get(name, 0)
            if value < 0:
                self.dropped.append(name)  # Cohere does not reward what it has said
            elif value > 0:
                self.body[name] = min(value, 1)
        seed = self.given.get("seed")
        if seed is not None and seed >= 0:
            self.body["seed"] = seed
        elif seed is not None:
            self.dropped.append("seed")
        if self.given.get("logprobs"):
            self.body["logprobs"] = True

    def _stop(self) -> None:
        said = self.given.get("stop")
        stops = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        kept = [one for one in stops if isinstance(one, str) and one]
        if len(kept) > _MOST_STOPS:
            raise InvalidRequest(f"This model's API takes at most {_MOST_STOPS} `stop` strings.", param="stop")
        if kept:
            self.body["stop_sequences"] = kept


def _budget(tokens: Any) -> Json:
    return {"token_budget": max(1, tokens)} if type(tokens) is int else {}


def _function(tool: Any, where: str) -> Json:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type", "function") != "function":
        raise InvalidRequest(
            "This model's API takes tools of type `function` only.", param=where, code="unsupported_parameter"
        )
    if not isinstance(function.get("name"), str):
        raise InvalidRequest("A tool needs a name.", param=f"{where}.function.name")
    parameters = function.get("parameters")
    found: Json = {
        "name": function["name"],
        "parameters": parameters if isinstance(parameters, dict) else {"type": "object", "properties": {}},
    }
    if isinstance(function.get("description"), str):
        found["description"] = function["description"]
    if function.get("strict") is True:
        found["strict"] = True
    return found


def _named(listed: list[Any], functions: list[Json]) -> list[Json]:
    """Those of the tools that are named. Raises InvalidRequest for one that is not among them."""
    known = {function["name"]: function for function in functions}
    names = []
    for one in listed:
        function = one.get("function", one) if isinstance(one, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if name not in known:
            raise InvalidRequest("`tool_choice` names a tool that is not among `tools`.", param="tool_choice")
        names.append(name)
    if not names:
        raise InvalidRequest("`allowed_tools` must name at least one tool.", param="tool_choice")
    return [known[name] for name in dict.fromkeys(names)]
