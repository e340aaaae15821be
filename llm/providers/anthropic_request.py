"""A chat completion request as a Messages API request.

What has no place there is dropped and said so. Clamped, not dropped: a temperature above 1 becomes 1, Anthropic's
highest. The cap is always the target's: thinking counts against it, so a budget is cut to fit below it.
"""

from collections.abc import Mapping
from typing import Any

from llm.calls import Call
from llm.errors import InvalidRequest
from llm.providers import anthropic_messages, anthropic_schema, chat_request
from llm.providers.openai import unsupported

Json = dict[str, Any]

# Stands in for `response_format` where a model has no structured outputs; its input is the answer.
STRUCTURED_TOOL = "tollgate_structured_answer"

_TRANSLATED = frozenset(
    {"messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p",
     "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking",
     "user", "safety_identifier", "n", "functions", "function_call", "service_tier"}
)  # fmt: skip
_NO_PENALTY = ("frequency_penalty", "presence_penalty")
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_SHARES = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}  # of the cap
_LEAST_BUDGET, _MOST_BUDGET = 1024, 32_000  # tokens; beyond 32,000 Anthropic wants batches
_JSON_ONLY = "Answer with one valid JSON object and nothing else: no explanation, no code fence."


def request_body(call: Call) -> tuple[Json, list[str]]:
    """The body and the names of what was dropped. Raises InvalidRequest for what cannot be expressed."""
    return Builder(call).build()


class Builder:
    """One translation. Each step reads `given`, writes `body`, and notes what it drops."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.quirks: Mapping[str, Any] = call.target.model.quirks
        self.refused = unsupported(self.quirks)
        self.given, self.dropped = chat_request.taken(call)
        self.system: list[Json] = []
        self.turns: list[Json] = []
        self.body: Json = {"model": call.target.model.model_id, "max_tokens": call.target.output_cap}

    def build(self) -> tuple[Json, list[str]]:
        self._refuse()
        messages = self.given.get("messages")
        self.system, self.turns = anthropic_messages.system_and_turns(messages if isinstance(messages, list) else [])
        self._tools()
        self._response_format()
        self._thinking()
        self._sampling()
        self._stop()
        user = self.given.get("user") or self.given.get("safety_identifier")
        if isinstance(user, str):
            self.body["metadata"] = {"user_id": user}
        service_tier = chat_request.service_tier(self.call, self.given, self.dropped)
        if service_tier:
            self.body["service_tier"] = service_tier
        if self.system:
            self.body["system"] = self.system
        self.body["messages"] = self.turns
        if self.call.stream:
            self.body["stream"] = True
        for name, value in self.given.items():
            said_nothing = value is False or (name in _NO_PENALTY and value == 0)
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
        tools = [self._tool(tool, f"tools[{position}]") for position, tool in enumerate(given)]
        if not tools:
            # Turns that call tools need these defined, also when none may be called any more.
            names = anthropic_messages.called_tools(self.turns)
            if names:
                self.body["tools"] = [{"name": name, "input_schema": _input_schema(None)} for name in names]
                self.body["tool_choice"] = {"type": "none"}
            return
        choice, tools = self._tool_choice(tools)
        self.body["tools"] = tools
        if choice is not None:
            self.body["tool_choice"] = choice

    def _tool(self, tool: Any, where: str) -> Json:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            raise InvalidRequest(
                "This model's API takes tools of type `function` only.", param=where, code="unsupported_parameter"
            )
        if not isinstance(function.get("name"), str):
            raise InvalidRequest("A tool needs a name.", param=f"{where}.function.name")
        found: Json = {"name": function["name"], "input_schema": _input_schema(function.get("parameters"))}
        if isinstance(function.get("description"), str):
            found["description"] = function["description"]
        if function.get("strict") is True and self._native():
            found["strict"] = True
            found["input_schema"] = anthropic_schema.strict(found["input_schema"])
        cache = tool.get("cache_control") or function.get("cache_control")
        if isinstance(cache, dict):
            found["cache_control"] = cache
        return found

    def _tool_choice(self, tools: list[Json]) -> tuple[Json | None, list[Json]]:
        """The choice, and the tools it leaves."""
        said = self.given.get("tool_choice")
        choice: Json | None = None
        if said in ("auto", "none"):
            choice = {"type": said}
        elif said == "required":
            choice = {"type": "any"}
        elif isinstance(said, dict) and said.get("type") == "function" and isinstance(said.get("function"), dict):
            choice = {"type": "tool", "name": _known(said["function"].get("name"), tools, "tool_choice")}
        elif isinstance(said, dict) and said.get("type") == "allowed_tools":
            choice, tools = _allowed(said.get("allowed_tools", said), tools)
        elif said is not None:
            raise InvalidRequest("`tool_choice` must be auto, none, required, or name a function.", param="tool_choice")
        if choice is not None and choice["type"] in ("any", "tool") and self.quirks.get("forced_tool_choice") is False:
            self.dropped.append("tool_choice")
            choice = {"type": "auto"}
        if self.given.get("parallel_tool_calls") is False and (choice is None or choice["type"] != "none"):
            choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
        return choice, tools

    # Answers

    def _native(self) -> bool:
        return str(self.quirks.get("structured_outputs", "native")) == "native"

    def _response_format(self) -> None:
        said = self.given.get("response_format")
        kind = said.get("type") if isinstance(said, dict) else None
        if said is None or kind == "text":
            return
        if kind == "json_object":  # there is no JSON without a schema: it has to be asked for
            self.system.append({"type": "text", "text": _JSON_ONLY})
            return
        schema = said["json_schema"].get("schema") if isinstance(said.get("json_schema"), dict) else None
        if kind != "json_schema" or not isinstance(schema, dict):
            raise InvalidRequest(
                "`response_format` must be text, json_object, or json_schema with a schema.", param="response_format"
            )
        if self._native():
            self.body["output_config"] = {"format": {"type": "json_schema", "schema": anthropic_schema.strict(schema)}}
            return
        tool = {
            "name": STRUCTURED_TOOL,
            "description": "Gives the final answer.",
            "input_schema": _input_schema(schema),
        }
        others = self.body.get("tools", []) if self.body.get("tool_choice") != {"type": "none"} else []
        self.body["tools"] = [*others, tool]
        self.body["tool_choice"] = {"type": "any"} if others else {"type": "tool", "name": STRUCTURED_TOOL}

    def _thinking(self) -> None:
        """`reasoning_effort`, or Anthropic's own `thinking` from who knows it. A forced tool call excludes both."""
        effort, own = self.given.get("reasoning_effort"), self.given.get("thinking")
        if own is not None:
            self._own_thinking(own)
            return
        if effort is None:
            return
        if effort != "none" and effort not in _EFFORTS:
            raise InvalidRequest(
                "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max.", param="reasoning_effort"
            )
        style = self.quirks.get("thinking") or ("adaptive" if "temperature" in self.refused else "budget")
        if style == "none" or not self.call.target.model.is_reasoning:
            self.dropped.append("reasoning_effort")
        elif style == "adaptive":
            # No thinking at all is refused by some of these models; the least effort comes closest on all.
            self.body.setdefault("output_config", {})["effort"] = _EFFORTS.get(effort, "low")
            if effort != "none" and not self._forced():
                self.body["thinking"] = {"type": "adaptive", "display": "summarized"}
        elif effort != "none":
            self._budget(int(self.call.target.output_cap * _SHARES[effort]), "reasoning_effort")

    def _own_thinking(self, own: Any) -> None:
        if not isinstance(own, dict):
            raise InvalidRequest("`thinking` must be an object.", param="thinking")
        if own.get("type") == "enabled":
            wanted = own.get("budget_tokens")
            self._budget(wanted if type(wanted) is int else _LEAST_BUDGET, "thinking")
        elif own.get("type") == "disabled" or not self._forced():
            self.body["thinking"] = own
        else:
            self.dropped.append("thinking")

    def _budget(self, wanted: int, name: str) -> None:
        """Think for so many tokens at most; the rest of the cap is for the answer."""
        cap = self.call.target.output_cap
        if cap <= _LEAST_BUDGET or self._forced() or anthropic_messages.resumes_without_thinking(self.turns):
            self.dropped.append(name)
            return
        budget = min(max(wanted, _LEAST_BUDGET), _MOST_BUDGET, cap - 1)
        self.body["thinking"] = {"type": "enabled", "budget_tokens": budget}

    def _forced(self) -> bool:
        return self.body.get("tool_choice", {}).get("type") in ("any", "tool")

    def _sampling(self) -> None:
        """Thinking goes with temperature 1 and top_p from 0.95; Claude 4.1 and later take one of the two."""
        temperature, top_p = self.given.get("temperature"), self.given.get("top_p")
        if temperature is None and top_p is None and self.call.temperature is not None:
            temperature = None if "temperature" in self.refused else float(self.call.temperature)
        thinks = self.body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        if thinks and temperature is not None:
            if "temperature" in self.given and temperature != 1:
                self.dropped.append("temperature")
            temperature = None
        if top_p is not None and temperature is not None:
            if temperature == 1:
                temperature = None  # the default: it says nothing
            else:
                self.dropped += ["top_p"] if top_p != 1 else []
                top_p = None
        if thinks and top_p is not None and top_p < 0.95:
            self.dropped.append("top_p")
            top_p = None
        if temperature is not None:
            self.body["temperature"] = min(temperature, 1.0)
        if top_p is not None:
            self.body["top_p"] = top_p
        if "top_k" in self.given:
            if thinks:
                self.dropped.append("top_k")
            else:
                self.body["top_k"] = self.given["top_k"]

    def _stop(self) -> None:
        said = self.given.get("stop")
        stops = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        kept = [one for one in stops if isinstance(one, str) and one.strip()]  # white space alone is refused
        if len(kept) < len(stops):
            self.dropped.append("stop")
        if kept:
            self.body["stop_sequences"] = kept


def _input_schema(parameters: Any) -> Json:
    schema = dict(parameters) if isinstance(parameters, dict) else {}
    schema["type"] = "object"
    schema.setdefault("properties", {})
    return schema


def _known(name: Any, tools: list[Json], where: str) -> str:
    if not isinstance(name, str) or name not in {tool["name"] for tool in tools}:
        raise InvalidRequest("`tool_choice` names a tool that is not among `tools`.", param=where)
    return name


def _allowed(said: Any, tools: list[Json]) -> tuple[Json, list[Json]]:
    """OpenAI's `allowed_tools`: fewer tools, and whether one must be called."""
    listed = said.get("tools") if isinstance(said, dict) else None
    names = set()
    for one in listed if isinstance(listed, list) else []:
        function = one.get("function", one) if isinstance(one, dict) else {}
        names.add(_known(function.get("name") if isinstance(function, dict) else None, tools, "tool_choice"))
    if not names:
        raise InvalidRequest("`allowed_tools` must name at least one tool.", param="tool_choice")
    mode = "any" if said.get("mode") == "required" else "auto"
    return {"type": mode}, [tool for tool in tools if tool["name"] in names]
