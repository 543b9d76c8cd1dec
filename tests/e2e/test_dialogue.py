"""What passes between an upstream and a client while a call is under way is governed like the call itself.

A real gateway with real policy between the official client and the conformance server, in all four pairs of
eras over HTTP.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import mcp
import pytest
from mcp.shared.exceptions import MCPDeprecationWarning

from tests.conformance import processes
from tests.conformance.client import MODES, talking
from tests.e2e.gateway import Wardgate, rule

pytestmark = pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.MCPDeprecationWarning")

ERAS = ("legacy", "modern")
cells = pytest.mark.parametrize(("upstream", "mode"), [(era, mode) for era in ERAS for mode in MODES])


@pytest.fixture(scope="module")
def wardgate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialogue")
    with ExitStack() as stack:
        upstreams = {}
        for era in ERAS:
            url = stack.enter_context(processes.fixture(folder / f"{era}.log", era=era))
            upstreams[era] = {"url": url, "tools": {"*": {"risk": "read"}}}
            upstreams[f"watched-{era}"] = {**upstreams[era], "mode": "observe"}
        made = Wardgate(folder / "gateway", upstreams)
        stack.callback(made.close)
        yield made.start()


@pytest.fixture
async def govern(wardgate):
    """``await govern(body, …)``: one more module in force, for this test."""

    async def changed(change):
        before = await activated(wardgate)
        change()
        async with asyncio.timeout(10):
            while await activated(wardgate) == before:
                await asyncio.sleep(0.02)

    async def govern(body, **more):
        await changed(lambda: wardgate.policy("extra.rego", rule("extra", body, **more)))

    yield govern
    await changed((wardgate.policies / "extra.rego").unlink)


@pytest.fixture
def through(wardgate):
    def connect(upstream, mode, **options):
        headers = {"authorization": f"Bearer {wardgate.key()}"}
        return talking(f"{wardgate.agents_url}/mcp/{upstream}", mode, headers=headers, **options)

    return connect


async def refused(call) -> str:
    """The text of a call that does not succeed, in whichever form."""
    try:
        result = await call
    except mcp.MCPError as error:
        return str(error)
    return str(result.content)


@cells
async def test_a_way_of_asking_that_policy_hides_is_not_declared_upstream(govern, through, upstream, mode):
    await govern(
        'deny contains {"code": "not_shown", "message": "not shown"} if input.tool.kind == "elicitation"',
        codes=["not_shown"], phase="list",
    )  # fmt: skip
    async with through(upstream, mode) as (client, reached):
        answered = await client.call_tool("test_input_required_result_capabilities", {})
        assert answered.content[0].text == "Answered: sample."
    assert reached.asked == ["sampling/createMessage"]


@cells
async def test_a_question_that_policy_refuses_never_reaches_the_client_and_is_on_record(
    wardgate, govern, through, upstream, mode
):
    code = f"no_passwords_{upstream}_{mode[:4].replace('-', '_')}".lower()
    await govern(
        f'deny contains {{"code": "{code}", "message": "no passwords"}} if '
        '{ input.call.kind == "elicitation"; contains(input.call.args.message, "password") }',
        codes=[code], scope={"kinds": ["elicitation"]},
    )  # fmt: skip
    async with through(upstream, mode) as (client, reached):
        said = await refused(client.call_tool("test_elicitation", {"message": "Your password?"}))
        assert "ada" not in said and reached.asked == []
        if (upstream, mode) == ("modern", "2026-07-28"):
            assert code in said
        record = await wardgate.recorded(lambda record: record.get("code") == code)
        assert record["target"] == f"{upstream}/elicitation/create" and record["action"] == "block"
        fine = await client.call_tool("test_elicitation", {"message": "Your name?"})
        assert '"username": "ada"' in str(fine.content) and reached.asked == ["elicitation/create"]


@cells
async def test_a_clients_answer_is_redacted_before_the_upstream_sees_it(govern, through, upstream, mode):
    await govern(
        'obligation contains {"kind": "redact", "value": {"patterns": {"mail": "[a-z]+@[a-z.]+"}}}',
        phase="result", scope={"kinds": ["elicitation"]},
    )  # fmt: skip
    async with through(upstream, mode) as (client, _):
        result = await client.call_tool("test_elicitation", {"message": "Who are you?"})
    # The tool says what it heard, and its own result is not in scope.
    assert '"email": "[redacted:mail]"' in str(result.content) and '"username": "ada"' in str(result.content)


@cells
async def test_texts_on_the_way_are_redacted_like_the_result(govern, through, upstream, mode):
    await govern(
        'obligation contains {"kind": "redact", "value": {"patterns": {"word": "processing"}}}',
        phase="result", scope={"kinds": ["tool"]},
    )  # fmt: skip
    async with through(upstream, mode, log_level=None if mode == "legacy" else "info") as (client, reached):
        if mode == "legacy":
            await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging", {})
        steps = []

        async def on_progress(done, total, _message):
            steps.append((done, total))

        await client.call_tool("test_tool_with_progress", {}, progress_callback=on_progress)
    assert reached.logged == [
        "Tool execution started", "Tool [redacted:word] data", "Tool execution completed",
    ]  # fmt: skip
    assert steps == [(0, 100), (50, 100), (100, 100)], "numbers alone tell nothing"


@cells
async def test_texts_that_may_not_be_shown_are_dropped_and_the_call_goes_on(govern, through, upstream, mode):
    await govern(
        'deny contains {"code": "no_data", "message": "no"} if contains(input.result.text, "sing data")',
        codes=["no_data"], phase="result", scope={"kinds": ["tool"]},
    )  # fmt: skip
    async with through(upstream, mode, log_level=None if mode == "legacy" else "info") as (client, reached):
        if mode == "legacy":
            await client.set_logging_level("info")
        result = await client.call_tool("test_tool_with_logging", {})
    assert reached.logged == ["Tool execution started", "Tool execution completed"] and not result.is_error


@cells
async def test_observe_mode_lets_pass_and_counts_what_was_not_enforced(
    wardgate, govern, through, upstream, mode
):
    await govern(
        'deny contains {"code": "nothing_asked", "message": "no"} if input.call.kind == "elicitation"',
        codes=["nothing_asked"],
    )  # fmt: skip
    before = await unenforced(wardgate, "policy")
    async with through(f"watched-{upstream}", mode) as (client, reached):
        result = await client.call_tool("test_elicitation", {"message": "Who are you?"})
    assert '"username": "ada"' in str(result.content) and reached.asked == ["elicitation/create"]
    # A modern upstream's question is decided when it is shown, and again with its answer.
    assert await unenforced(wardgate, "policy") - before in (1, 2)
    await wardgate.recorded(
        lambda record: (
            record.get("target") == f"watched-{upstream}/elicitation/create"
            and (record.get("verdict"), record.get("action")) == ("deny", "allow")
        )
    )


@cells
async def test_observe_mode_shows_texts_as_they_are(wardgate, govern, through, upstream, mode):
    await govern(
        'deny contains {"code": "no_data", "message": "no"} if contains(input.result.text, "sing data")',
        codes=["no_data"], phase="result", scope={"kinds": ["tool"]},
    )  # fmt: skip
    before = await unenforced(wardgate, "result")
    level = None if mode == "legacy" else "info"
    async with through(f"watched-{upstream}", mode, log_level=level) as (client, reached):
        if mode == "legacy":
            await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging", {})
    assert "Tool processing data" in reached.logged
    assert await unenforced(wardgate, "result") - before == 1


async def metric(wardgate, name, **labels) -> float:
    _, body = await wardgate.admin("/metrics", "")
    for line in body.decode().splitlines():
        if line.startswith(name) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


async def unenforced(wardgate, stage: str) -> float:
    return await metric(wardgate, "wardgate_unenforced_total", stage=stage, reason="observe")


async def activated(wardgate) -> float:
    """When the policy in force was put in force."""
    return await metric(wardgate, "wardgate_bundle_last_activation_timestamp_seconds")
