"""Every span and attribute name, in one place, because those of GenAI and MCP are still moving.

``gen_ai.*`` and ``mcp.*`` follow OpenTelemetry semantic conventions 1.41 (``docs/gen-ai/mcp.md``, development
status; since moved to ``semantic-conventions-genai``, which has no release). ``gen_ai.security.*`` follows an
open proposal there and is experimental. ``wardgate.*`` is ours. ``docs/reference/traces.md`` explains each.
"""

from __future__ import annotations

from typing import Final

from gateway.model import QUESTIONS

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
SCOPE: Final = "wardgate"

# -- resource -------------------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"

# -- spans ----------------------------------------------------------------------------------------------
POLICY_SPAN: Final = "run_guardrail policy"
RECORD_SPAN: Final = "wardgate.record.write"
APPROVAL_REQUEST_SPAN: Final = "wardgate.approval.request"
APPROVAL_SPAN: Final = "wardgate.approval"
METHODS: Final = {
    "tool": "tools/call",
    "prompt": "prompts/get",
    "resource": "resources/read",
    "completion": "completion/complete",
    "subscription": "resources/subscribe",
    **{kind: method for method, kind in QUESTIONS.items()},
}

# -- of existing conventions ----------------------------------------------------------------------------
MCP_METHOD: Final = "mcp.method.name"
OPERATION: Final = "gen_ai.operation.name"
TOOL_NAME: Final = "gen_ai.tool.name"
PROMPT_NAME: Final = "gen_ai.prompt.name"
AGENT_ID: Final = "gen_ai.agent.id"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
ERROR_TYPE: Final = "error.type"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"

# -- proposed: guardrails -------------------------------------------------------------------------------
TARGET_TYPE: Final = "gen_ai.security.target.type"
TARGET_SUBTYPE: Final = "gen_ai.security.target.subtype"
GUARDRAIL: Final = "gen_ai.security.guardrail.name"
POLICY_ID: Final = "gen_ai.security.policy.id"
POLICY_VERSION: Final = "gen_ai.security.policy.version"
POLICY_RULES: Final = "gen_ai.security.policy.rule.id"
VERDICT_TYPE: Final = "gen_ai.security.verdict.type"
VERDICT_REASON: Final = "gen_ai.security.verdict.reason"
ACTION_TYPE: Final = "gen_ai.security.action.type"

# -- ours -----------------------------------------------------------------------------------------------
DECISION_ID: Final = "wardgate.decision.id"
OUTCOME: Final = "wardgate.outcome"
MODE: Final = "wardgate.mode"
SURFACE: Final = "wardgate.surface"
UPSTREAM: Final = "wardgate.upstream"
RISK: Final = "wardgate.tool.risk"
REASON: Final = "wardgate.reason"
MEMOISED: Final = "wardgate.policy.memoised"
SAMPLED_BECAUSE: Final = "wardgate.sampled_because"
APPROVAL_ID: Final = "wardgate.approval.id"
APPROVAL_RESOLUTION: Final = "wardgate.approval.resolution"
APPROVAL_CHAINS: Final = "wardgate.approval.chains"
APPROVAL_ACTOR: Final = "wardgate.approval.actor"
DETECTOR: Final = "wardgate.breaker.detector"

DECISION_EVENT: Final = "wardgate.decision"
TRIP_EVENT: Final = "wardgate.breaker.trip"
