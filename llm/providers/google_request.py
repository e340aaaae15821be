"""A chat completion request as a generateContent request.

What has no place there is dropped and said so. The cap is always the target's: thoughts count against it. Sources: the
types of googleapis/python-genai 3.6, and ai.google.dev/gemini-api/docs on thinking, function calling and structured
output.
"""

import re
from collections.abc import Mapping
from typing import Any

from llm.calls import Call
from llm.errors import InvalidRequest
from llm.providers import chat_request, google_schema
from llm.providers.google_contents import Contents
from llm.providers.openai import unsupported

Json = dict[str, Any]

_TRANSLATED = frozenset(
    {"messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
     "top_k", "stop", "seed", "n", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "tools",
     "tool_choice", "response_format", "reasoning_effort", "thinking", "functions", "function_call",
     "service_tier"}
)  # fmt: skip
_SAME = {"temperature": "temperature", "top_p": "topP", "top_k": "topK"}
_PENALTIES = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
_MOST_STOPS, _MOST_CANDIDATES = 5, 8
_SEEDS = 2**31  # a seed is an int32
_LEVELS = ("minimal", "low", "medium", "high", "xhigh")
_KNOWN_LEVELS = ("low", "medium", "high")  # what all of Gemini 3.1 and later take
_EFFORTS = {"none": "minimal", "max": "xhigh"} | {level: level for level in _LEVELS}
# Google's own translation of `reasoning_effort` for Gemini 2.5 (ai.google.dev/gemini-api/docs/openai).
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_BUDGET_RANGE = (0, 24_576)
_VERSION = re.compile(r"gemini-(\d+)")


def request_body(call: Call) -> tuple[Json, list[str]]:
    """The body and the names of what was dropped. Raises InvalidRequest for what cannot be expressed."""
    return _Builder(call).build()


def thinking_style(call: Call) -> str:
    """How this model is told to think: by a "level" (Gemini 3 and later), a "budget" (2.5), or "none" if it cannot."""
    model = call.target.model
    said = model.quirks.get("thinking")
    if isinstance(said, str):
        return said
    if not model.is_reasoning:
        return "none"
    found = _VERSION.search(model.model_id)
    return "budget" if found and int(found[1]) < 3 else "level"


class _Builder:
    """One translation. Each step reads `given`, writes `body` and `config`, and notes what it drops."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.quirks: Mapping[str, Any] = call.target.model.quirks
        self.style = thinking_style(call)
        self.refused = unsupported(self.quirks)
        self.given, dropped = chat_request.taken(call)
        self.dropped = set(dropped)
        self.config: Json = {"maxOutputTokens": call.target.output_cap}
        self.body: Json = {}

    def build(self) -> tuple[Json, list[str]]:
        chat_request.refuse_functions(self.given)
        messages = self.given.get("messages")
        chat = Contents(messages if isinstance(messages, list) else [], signatures=self.style == "level")
        self.dropped |= chat.dropped
        if chat.system:
            self.body["systemInstruction"] = {"parts": chat.system}
        self.body["contents"] = chat.turns
        self._tools()
        self._response_format()
        self._thinking()
        self._sampling()
        self._counts()
        self.body["generationConfig"] = self.config
        dropped: list[str] = []
        service_tier = chat_request.service_tier(self.call, self.given, dropped)
        self.dropped.update(dropped)
        if service_tier:
            self.body["serviceTier"] = service_tier
        for name, value in self.given.items():
            usual = name == "parallel_tool_calls"  # its default; that of every other switch is false
            says_nothing = value is usual
            if name not in _TRANSLATED and not says_nothing:
                self.dropped.add(name)
        return self.body, sorted(self.dropped)

    # Tools

    def _tools(self) -> None:
        given = self.given.get("tools") or []
        if not isinstance(given, list):
            raise InvalidRequest("`tools` must be a list.", param="tools")
        tools = [self._tool(tool, f"tools[{position}]") for position, tool in enumerate(given)]
        if not tools:
            return
        calling, tools = _tool_choice(self.given.get("tool_choice"), tools)
        self.body["tools"] = [{"functionDeclarations": tools}]
        if calling is not None:
            self.body["toolConfig"] = {"functionCallingConfig": calling}

    def _tool(self, tool: Any, where: str) -> Json:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            raise InvalidRequest(
                "This model's API takes tools of type `function` only.", param=where, code="unsupported_parameter"
            )
        if not isinstance(function.get("name"), str):
            raise InvalidRequest("A tool needs a name.", param=f"{where}.function.name")
        found: Json = {"name": function["name"]}
        if isinstance(function.get("description"), str):
            found["description"] = function["description"]
        parameters = function.get("parameters")
        if isinstance(parameters, dict) and parameters:
            found["parametersJsonSchema"] = google_schema.cleaned({"type": "object"} | parameters)
        if function.get("strict") is True:
            self.dropped.add("strict")
        if tool.get("cache_control") or function.get("cache_control"):
            self.dropped.add("cache_control")
        return found

    # Answers

    def _response_format(self) -> None:
        said = self.given.get("response_format")
        kind = said.get("type") if isinstance(said, dict) else None
        if said is None or kind == "text":
            return
        self.config["responseMimeType"] = "application/json"
        if kind == "json_object":
            return
        schema = said["json_schema"].get("schema") if isinstance(said.get("json_schema"), dict) else None
        if kind != "json_schema" or not isinstance(schema, dict):
            raise InvalidRequest(
                "`response_format` must be text, json_object, or json_schema with a schema.", param="response_format"
            )
        self.config["responseJsonSchema"] = google_schema.cleaned(schema)

    def _thinking(self) -> None:
        """`reasoning_effort`, or Anthropic's `thinking` from who knows it. Thoughts are asked for with either."""
        name = "thinking" if "thinking" in self.given else "reasoning_effort"
        if name not in self.given:
            return
        effort, budget = (_own_thinking if name == "thinking" else _effort)(self.given[name])
        if self.style == "none":
            if effort != "none":
                self.dropped.add(name)
            return
        config: Json = {"includeThoughts": effort != "none"}
        self.config["thinkingConfig"] = config
        if budget is None:
            return  # how much is left to the model
        if self.style == "budget":
            least, most = self.quirks.get("thinking_budget") or _BUDGET_RANGE
            config["thinkingBudget"] = min(max(budget, least), most)
        else:
            levels = self.quirks.get("thinking_levels") or _KNOWN_LEVELS
            config["thinkingLevel"] = _level(effort or _effort_of(budget), levels)

    def _sampling(self) -> None:
        for name, theirs in _SAME.items():
            if name in self.given:
                self.config[theirs] = self.given[name]
        if "temperature" not in self.given and self.call.temperature is not None and "temperature" not in self.refused:
            self.config["temperature"] = float(self.call.temperature)
        for name, theirs in _PENALTIES.items():
            if self.given.get(name):
                self.config[theirs] = self.given[name]
        if "seed" in self.given:
            # A larger one is folded: it is a name for a sequence of choices, and the same one goes on giving the same.
            self.config["seed"] = self.given["seed"] % _SEEDS
        if self.given.get("logprobs") is True:
            self.config["responseLogprobs"] = True
            if self.given.get("top_logprobs"):
                self.config["logprobs"] = self.given["top_logprobs"]

    def _counts(self) -> None:
        candidates = self.given.get("n", 1)
        if candidates > _MOST_CANDIDATES:
            raise InvalidRequest(f"This model's API gives at most {_MOST_CANDIDATES} choices.", param="n")
        if candidates > 1:
            self.config["candidateCount"] = candidates
        said = self.given.get("stop")
        stops = [one for one in ([said] if isinstance(said, str) else said or []) if one]
        if len(stops) > _MOST_STOPS:
            raise InvalidRequest(f"This model's API takes at most {_MOST_STOPS} stop sequences.", param="stop")
        if stops:
            self.config["stopSequences"] = stops


def _tool_choice(said: Any, tools: list[Json]) -> tuple[Json | None, list[Json]]:
    """The function calling config, and the tools it leaves."""
    if said is None:
        return None, tools
    if said in ("auto", "none"):
        return {"mode": said.upper()}, tools
    if said == "required":
        return {"mode": "ANY"}, tools
    if isinstance(said, dict) and said.get("type") == "function" and isinstance(said.get("function"), dict):
        return {"mode": "ANY", "allowedFunctionNames": [_known(said["function"].get("name"), tools)]}, tools
    if isinstance(said, dict) and said.get("type") == "allowed_tools":
        allowed = said.get("allowed_tools", said)
        listed = allowed.get("tools") if isinstance(allowed, dict) else None
        names = []
        for one in listed if isinstance(listed, list) else []:
            function = one.get("function", one) if isinstance(one, dict) else {}
            names.append(_known(function.get("name") if isinstance(function, dict) else None, tools))
        if not names:
            raise InvalidRequest("`allowed_tools` must name at least one tool.", param="tool_choice")
        if allowed.get("mode") == "required":
            return {"mode": "ANY", "allowedFunctionNames": list(dict.fromkeys(names))}, tools
        # Names may be given with ANY only: without it, what is not allowed is not declared.
        return {"mode": "AUTO"}, [tool for tool in tools if tool["name"] in names]
    raise InvalidRequest("`tool_choice` must be auto, none, required, or name a function.", param="tool_choice")


def _known(name: Any, tools: list[Json]) -> str:
    if not isinstance(name, str) or name not in {tool["name"] for tool in tools}:
        raise InvalidRequest("`tool_choice` names a tool that is not among `tools`.", param="tool_choice")
    return name


def _effort(said: Any) -> tuple[str | None, int | None]:
    """(effort, its budget in tokens) of `reasoning_effort`."""
    if said not in _EFFORTS:
        raise InvalidRequest(
            "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max.", param="reasoning_effort"
        )
    return said, _BUDGETS[said]


def _own_thinking(own: Any) -> tuple[str | None, int | None]:
    """(effort, budget) of Anthropic's `thinking`; without a budget how much is left to the model."""
    if not isinstance(own, dict):
        raise InvalidRequest("`thinking` must be an object.", param="thinking")
    if own.get("type") == "disabled":
        return "none", 0
    budget = own.get("budget_tokens")
    return None, budget if type(budget) is int and own.get("type") == "enabled" else None


def _effort_of(budget: int) -> str:
    """The least effort whose budget is as large."""
    return next((effort for effort in ("low", "medium") if budget <= _BUDGETS[effort]), "high")


def _level(effort: str, levels: Any) -> str:
    """The model's level for an effort: the same, else the next higher it has, else its highest."""
    wanted = _LEVELS.index(_EFFORTS[effort])
    known = sorted((level for level in levels if level in _LEVELS), key=_LEVELS.index)
    return next((level for level in known if _LEVELS.index(level) >= wanted), known[-1] if known else "high")
