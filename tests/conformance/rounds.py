"""Tools and a prompt that need the client's input, in one round or several.

Written for the modern era, where each round is a request of its own. Over a legacy connection the same
functions ask in the middle of the call, so that a gateway between the eras can be held to both.
"""

from __future__ import annotations

import mcp_types as types

from tests.conformance.tools import tool
from tests.conformance.turn import ToolError, Turn, filled, form, sample, spoken

_NAME = {"type": "string"}
_OK = {"type": "boolean"}


def _name() -> types.ElicitRequest:
    return form("What is your name?", name=_NAME)


@tool()
async def test_input_required_result_elicitation(turn: Turn) -> str:
    """Asks the user for a name."""
    answers = await turn.ask({"user_name": _name()})
    return f"Hello, {filled(answers['user_name'], 'name')}!"


@tool()
async def test_input_required_result_sampling(turn: Turn) -> str:
    """Asks the client's model."""
    answers = await turn.ask({"capital_question": sample("What is the capital of France?", 100)})
    return f"The model says: {spoken(answers['capital_question'])}"


@tool()
async def test_input_required_result_list_roots(turn: Turn) -> str:
    """Asks for the client's roots."""
    answers = await turn.ask({"client_roots": types.ListRootsRequest()})
    roots = [str(root.uri) for root in answers["client_roots"].roots]
    return f"{len(roots)} roots: {', '.join(roots)}"


@tool()
async def test_input_required_result_request_state(turn: Turn) -> str:
    """Asks for confirmation and insists on its own state coming back."""
    await _confirmed(turn)
    return "state-ok: confirmed"


@tool()
async def test_input_required_result_tampered_state(turn: Turn) -> str:
    """Asks for confirmation; a state that is not its own is refused before it gets here."""
    await _confirmed(turn)
    return "state-ok: untouched"


async def _confirmed(turn: Turn) -> None:
    kept = {"asked": "confirm"}
    question = {"confirm": form("Please confirm", ok=_OK)}
    await turn.ask(question, carry=kept)
    if turn.modern and turn.carried != kept:
        raise ToolError("The answer came without the state of the question")


@tool()
async def test_input_required_result_multiple_inputs(turn: Turn) -> str:
    """Asks the user, the model and for the roots at once."""
    answers = await turn.ask(
        {
            "user_name": _name(),
            "greeting": sample("Generate a greeting", 50),
            "client_roots": types.ListRootsRequest(),
        },
        carry={"asked": "all"},
    )
    name, greeting = filled(answers["user_name"], "name"), spoken(answers["greeting"])
    return f"{greeting} {name}, with {len(answers['client_roots'].roots)} roots"


@tool()
async def test_input_required_result_multi_round(turn: Turn) -> str:
    """Asks for a name and, knowing it, for a colour."""
    known = dict(turn.carried or {})
    if "name" not in known:
        first = {"step1": form("Step 1: What is your name?", name=_NAME)}
        known["name"] = filled((await turn.ask(first, carry=known))["step1"], "name")
    second = {"step2": form("Step 2: What is your favorite color?", color={"type": "string"})}
    color = filled((await turn.ask(second, carry=known))["step2"], "color")
    return f"{known['name']} likes {color}."


@tool()
async def test_input_required_result_capabilities(turn: Turn) -> str:
    """Asks only what the client says it can answer."""
    questions: dict[str, types.InputRequest] = {}
    if turn.declares("sampling"):
        questions["sample"] = sample("Say hello", 50)
    if turn.declares("elicitation"):
        questions["user_name"] = _name()
    answers = await turn.ask(questions, carry={"asked": sorted(questions)}) if questions else {}
    return f"Answered: {', '.join(sorted(answers)) or 'nothing'}."


async def context_prompt(turn: Turn) -> str:
    """Asks what the prompt is to be about."""
    question = form("What context should the prompt use?", context={"type": "string"})
    answers = await turn.ask({"user_context": question})
    return f"Use this context: {filled(answers['user_context'], 'context')}"
