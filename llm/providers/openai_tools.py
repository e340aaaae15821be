"""Tool calls as OpenAI-compatible vendors send them, put in order. Shared by streams and whole answers.

index       missing, the same for several calls (Gemini), from one, negative: dense from 0, one for each call
id          missing: made; the first that comes counts
name        later than the id: the call waits for it; never: the answer is none
arguments   an object (older Ollama): as JSON text; null or missing: the empty text
"""

from typing import Any

import orjson

from llm.errors import UpstreamInvalid

Json = dict[str, Any]


class _Call:
    """One tool call of a choice, as far as it has come."""

    __slots__ = ("held", "id", "name", "sent", "text")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.held = ""  # arguments that came before the name
        self.text = ""  # arguments, where nothing but their end tells one call from the next
        self.sent = False


class ToolCalls:
    """The tool calls of one choice of a stream. `seed` makes the ids of those that have none."""

    __slots__ = ("_calls", "_given", "_ids", "_seed")

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._calls: list[_Call] = []
        self._given: dict[int, int] = {}  # the provider's index -> ours, for fragments without an id
        self._ids: dict[str, int] = {}

    def mend(self, fragments: list[Any]) -> bool:
        """Put the fragments of one event in order, in place; those that cannot be sent yet, or say nothing, are taken
        out. True if nothing had to be changed."""
        same = True
        kept = []
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise UpstreamInvalid("The provider sent a tool call that is not an object.")
            verdict = self._custom(fragment) if fragment.get("custom") else self._function(fragment)
            if verdict is None:
                same = False
                continue
            kept.append(fragment)
            same = same and verdict
        if len(kept) != len(fragments):
            fragments[:] = kept
        return same

    def check(self) -> None:
        """The choice has ended. Raises UpstreamInvalid for a call that never got a name."""
        if not all(call.sent for call in self._calls):
            raise UpstreamInvalid("The provider sent a tool call without a name.")

    def _custom(self, fragment: Json) -> bool:
        """A custom tool's call (OpenAI): nobody else has them, and they come in order."""
        if not isinstance(fragment["custom"], dict):
            raise UpstreamInvalid("The provider sent a tool call whose tool is not an object.")
        index = self._of(fragment, "x", "")
        self._calls[index].sent = True
        return self._indexed(fragment, index)

    def _function(self, fragment: Json) -> bool | None:
        """True: as it was; False: mended; None: nothing to send."""
        function = fragment.get("function")
        same = isinstance(function, dict)
        if not isinstance(function, dict):
            if function is not None:
                raise UpstreamInvalid("The provider sent a tool call whose function is not an object.")
            function = fragment["function"] = {}
        arguments, as_it_was = _arguments(function)
        name = function.get("name")
        name = name if isinstance(name, str) else ""
        index = self._of(fragment, name, arguments)
        call = self._calls[index]
        call.name = call.name or name
        if call.sent:
            if not same:
                return None  # neither name nor arguments
        elif not call.name:
            call.held += arguments
            return None
        else:
            as_it_was = self._open(call, fragment, function, index) and as_it_was
        return self._indexed(fragment, index) and as_it_was

    def _open(self, call: _Call, fragment: Json, function: Json, index: int) -> bool:
        """The first fragment of a call that is sent says its id and name."""
        same = True
        call.sent = True
        call.id = call.id or f"call_{self._seed}{index}"
        if fragment.get("id") != call.id:
            fragment["id"] = call.id
            same = False
        if function.get("name") != call.name:
            function["name"] = call.name
            same = False
        if call.held:
            function["arguments"] = call.held + function["arguments"]
            same = False
        return same

    def _indexed(self, fragment: Json, index: int) -> bool:
        if fragment.get("index") == index and type(fragment["index"]) is int:
            return True
        fragment["index"] = index
        return False

    def _of(self, fragment: Json, name: str, arguments: str) -> int:
        """Which call a fragment belongs to: one that is known, or a new one."""
        given, known = fragment.get("index"), fragment.get("id")
        given = given if type(given) is int and given >= 0 else None
        known = known if isinstance(known, str) else ""
        last = len(self._calls) - 1
        if known and known in self._ids:
            index = self._ids[known]
        elif given is not None and given not in self._given:
            index = last + 1
        elif known and name:
            index = last + 1  # a new call without an index, or under one that is taken
        elif given is not None:
            index = self._given[given]
        elif last < 0 or (name and not known and not self._goes_on(name, arguments)):
            index = last + 1
        else:
            index = last
        if index > last:
            self._calls.append(_Call())
        call = self._calls[index]
        if known:
            self._ids.setdefault(known, index)
            call.id = call.id or known
        elif given is None:
            call.text += arguments
        if given is not None:
            self._given[given] = index
        return index

    def _goes_on(self, name: str, arguments: str) -> bool:
        """Without index and id: the last call's name once more is that call as long as its arguments are not whole."""
        last = self._calls[-1]
        if last.name != name:
            return False
        if not last.text:
            return bool(arguments)
        try:
            orjson.loads(last.text)
        except orjson.JSONDecodeError:
            return True
        return False


def whole(calls: list[Any], seed: str) -> None:
    """The tool calls of an answer that is not streamed, in place. Raises UpstreamInvalid for one that is none."""
    for position, call in enumerate(calls):
        if not isinstance(call, dict):
            raise UpstreamInvalid("The provider's answer has tool calls that are no list of objects.")
        if not isinstance(call.get("id"), str) or not call["id"]:
            call["id"] = f"call_{seed}{position}"
        if call.get("custom"):
            continue
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise UpstreamInvalid("The provider's answer has a tool call without a name.")
        arguments, _ = _arguments(function)
        function["arguments"] = arguments or "{}"
        call["type"] = "function"


def _arguments(function: Json) -> tuple[str, bool]:
    """The arguments as text, also put there, and whether they were."""
    found = function.get("arguments")
    if isinstance(found, str):
        return found, True
    if found is not None and not isinstance(found, dict | list):
        raise UpstreamInvalid("The provider sent tool arguments that are neither text nor an object.")
    text = "" if found is None else orjson.dumps(found).decode()
    function["arguments"] = text
    return text, False
