"""The closed list of reason codes the gateway itself gives.

Every refusal carries one code of this list or one that a policy bundle declares in its METADATA. The same
word stands in the record, the metric label, the span, the log line, the answer to the agent and the docs,
so a person who sees it in one place can look it up in all others.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Party(StrEnum):
    """Who can do something about a refusal."""

    AGENT = "agent"  # change the call
    OPERATOR = "operator"  # change configuration or policy
    UPSTREAM = "upstream"  # the tool server misbehaved
    GATEWAY = "gateway"  # our own fault or limit


class Reason(NamedTuple):
    """What one code means.

    ``retryable`` says that the identical call may succeed later without anybody changing anything; an
    ``unavailable`` reason is never counted as a denial by breakers or trust.
    """

    code: str
    title: str
    message: str  # shown to the model; a plain sentence
    remedy: str  # what would be accepted instead
    party: Party
    retryable: bool = False
    unavailable: bool = False


def sentence(text: str) -> str:
    """Text of a policy as a sentence that others can follow: "above the limit" becomes "Above the limit."."""
    text = text.strip()
    if not text:
        return ""
    if text.split(maxsplit=1)[0].isalpha():  # a name such as "bank/pay" or "example.com" stays as it is
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?…" else text + "."


_ALL: Final = (
    # -- identity ------------------------------------------------------------------------------------
    Reason("no_credential", "No credential", "The request carried no credential.",
           "Send a key as 'Authorization: Bearer …'.", Party.AGENT),
    Reason("bad_credential", "Malformed or unknown credential", "The credential is malformed or unknown.",
           "Ask an operator for a valid key: 'wardgate keys new'.", Party.AGENT),
    Reason("revoked_credential", "Revoked credential", "The credential has been revoked.",
           "Ask an operator for a new key, or the issuer for a new token.", Party.AGENT),
    Reason("expired_credential", "Expired credential", "The credential has expired.",
           "Get a new token, or ask an operator to rotate the key: 'wardgate keys rotate'.", Party.AGENT),
    Reason("not_yet_valid", "Credential not yet valid", "The credential is not valid yet.",
           "Check the clocks of the token's issuer and of this gateway.", Party.OPERATOR),
    Reason("wrong_issuer", "Token of another issuer", "The token comes from an issuer this gateway does not trust.",
           "Get a token from an issuer of 'identity.issuers'.", Party.AGENT),
    Reason("wrong_audience", "Token for somebody else", "The token was issued for another service.",
           "Ask the issuer for a token whose audience is this gateway.", Party.AGENT),
    Reason("unknown_agent", "No such agent", "The credential is valid, and names no agent of this gateway.",
           "Ask an operator to map it to an agent: 'agents' of the issuer, or 'subjects' of the proxy.", Party.OPERATOR),
    Reason("insufficient_scope", "Scope missing", "The token lacks a scope that is needed here.",
           "Ask the issuer for a token with the scopes that are named.", Party.AGENT),
    Reason("issuer_unavailable", "Keys of the issuer not available",
           "The keys of the token's issuer are not available, so the token cannot be checked.",
           "Retry later.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("untrusted_proxy", "Identity header of somebody who may not set it",
           "The request carries a header that only the trusted proxy may set.",
           "Send a key or a token of your own.", Party.AGENT),
    Reason("wrong_role", "Role not sufficient", "This credential may not do that.",
           "Use a credential with the needed role.", Party.OPERATOR),
    # -- shape of the request ------------------------------------------------------------------------
    Reason("malformed_json", "Malformed JSON", "The body is not valid JSON.",
           "Send one JSON object, UTF-8, without NaN, duplicate keys or lone surrogates.", Party.AGENT),
    Reason("duplicate_key", "Duplicate JSON key", "An object in the body has the same key twice.",
           "Send each key once: two readers of the body could disagree on its meaning.", Party.AGENT),
    Reason("number_out_of_range", "Number out of range", "A number in the body is not finite, beyond 64 bits, or a fraction beyond 2^53, which has lost digits.",
           "Send large identifiers as strings.", Party.AGENT),
    Reason("too_deep", "JSON nested too deeply", "The body is nested too deeply.",
           "Flatten the arguments.", Party.AGENT),
    Reason("too_large", "Request too large", "The request is larger than this gateway accepts.",
           "Send less, or a reference to the data.", Party.AGENT),
    Reason("args_too_large", "Arguments too large to decide", "The arguments are larger than policy can be asked about.",
           "Send smaller arguments, or a reference to the data.", Party.AGENT),
    Reason("batch_refused", "JSON-RPC batch", "JSON-RPC batches are not accepted.",
           "Send one message a request.", Party.AGENT),
    Reason("invalid_request", "Invalid request", "The message is not a valid request of this protocol.",
           "See the message for the field.", Party.AGENT),
    Reason("header_mismatch", "Header and body disagree", "A protocol header does not match the body.",
           "Send headers that repeat the body exactly, or none.", Party.AGENT),
    Reason("unsupported_version", "Unsupported protocol version", "This protocol version is not supported.",
           "Use one of the versions the answer lists.", Party.AGENT),
    Reason("origin_refused", "Host or Origin refused", "The Host or Origin header is not allowed.",
           "Add the host to 'server.allowed_hosts'.", Party.OPERATOR),
    Reason("unknown_session", "Unknown session", "The session id is unknown, expired or belongs to somebody else.",
           "Initialize again.", Party.AGENT),
    Reason("bad_request_state", "State of another round",
           "The requestState is not one that belongs to this request, or it has been used.",
           "Start the call again without requestState and inputResponses.", Party.AGENT),
    Reason("unknown_method", "Unknown method", "This method is not offered here.",
           "Use a method the server lists.", Party.AGENT),
    # -- catalog -------------------------------------------------------------------------------------
    Reason("unknown_upstream", "Unknown upstream", "There is no such upstream.",
           "See the list of tools.", Party.AGENT),
    Reason("unknown_tool", "Unknown tool", "There is no such tool.", "See the list of tools.", Party.AGENT),
    Reason("not_visible", "Tool not visible to this agent", "There is no such tool.",
           "See the list of tools.", Party.AGENT),
    Reason("tool_quarantined", "Definition not accepted",
           "This tool's definition is new or has changed, and an operator has not accepted it yet; nothing was sent.",
           "Ask an operator to look at it: 'wardgate tools diff'.", Party.OPERATOR),
    Reason("runs_elsewhere", "Tool runs elsewhere", "This gateway decides about this tool and does not run it.",
           "Run it where it lives, after asking 'POST /v1/decide'.", Party.AGENT),
    Reason("not_a_read", "Not a read", "A call may be verified only by a tool that has no effect; nothing was sent.",
           "Describe a tool with 'risk: read' as the verifier.", Party.OPERATOR),
    Reason("no_route", "No route for this request", "No configured route says which tool this request is.",
           "Add the method and path to the upstream's 'routes'.", Party.OPERATOR),
    Reason("invalid_arguments", "Arguments do not fit the tool", "The arguments do not fit the tool.",
           "Send the arguments the tool's schema asks for.", Party.AGENT),
    # -- policy --------------------------------------------------------------------------------------
    Reason("no_rule_allows", "No rule allows this", "No policy rule allows this call.",
           "Ask the owner of the policy to allow it.", Party.OPERATOR),
    Reason("policy_error", "Policy could not be evaluated", "A policy rule failed to evaluate, so the call is refused.",
           "The owner of the policy has been given the details.", Party.OPERATOR),
    Reason("policy_undefined", "Policy gave no answer", "The policy gave no answer, so the call is refused.",
           "The owner of the policy has been given the details.", Party.OPERATOR),
    Reason("policy_bad_shape", "Policy answered nonsense", "The policy's answer has an unknown shape, so the call is refused.",
           "The owner of the policy has been given the details.", Party.OPERATOR),
    Reason("policy_unavailable", "Policy engine not available", "The policy engine is not available, so the call is refused.",
           "Retry later.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("policy_timeout", "Policy engine too slow",
           "The policy engine did not answer in time, so the call is refused.",
           "Retry later.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("policy_mismatch", "Policy engine holds another revision",
           "The policy engine does not hold the policy that is in force, so the call is refused.",
           "Retry in a moment: the engine is given the policy again.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("policy_stale", "Policy not verified for too long",
           "The source of the policy has not been reachable and verified for too long, so the call may not go on by itself.",
           "Retry when the operators have restored the source of the policy.", Party.OPERATOR,
           retryable=True, unavailable=True),
    Reason("undeclared_code", "Policy used an undeclared reason code",
           "The policy's answer uses a reason code it does not declare, so the call is refused.",
           "Declare the code in the module's METADATA.", Party.OPERATOR),
    Reason("obligation_conflict", "Obligations cannot be met",
           "The obligations of the policy contradict each other or are unknown, so the call is refused.",
           "The owner of the policy has been given the details.", Party.OPERATOR),
    Reason("result_unredactable", "Result cannot be redacted",
           "The result holds what must not be shown, and what is left without it would not be what the tool declares; it is withheld.",
           "Ask for something narrower, or ask the owner of the policy.", Party.OPERATOR),
    Reason("modified_again", "Modified call was modified again",
           "The policy changed the call again after its own change, so the call is refused.",
           "Write the obligation so that its own result satisfies it.", Party.OPERATOR),
    Reason("approval_needed", "Needs a person", "This call needs the approval of a person.",
           "Wait for the approval, then call again with the same arguments.", Party.AGENT, retryable=True),
    Reason("approvals_not_configured", "Needs a person, and none can be asked",
           "This call needs the approval of a person, and this gateway has no approval queue.",
           "Use an action within the unattended limits, or ask an operator.", Party.OPERATOR),
    # -- sessions ------------------------------------------------------------------------------------
    Reason("no_such_session", "No such session of this agent",
           "There is no such session, or it belongs to somebody else.",
           "Use the id that opening the session gave you, with the credential and the user it was opened for.",
           Party.AGENT),
    Reason("session_closed", "Session ended", "This piece of work has been ended.",
           "Ask whoever gave it to you; do not go on.", Party.OPERATOR),
    Reason("may_not_open_sessions", "May not open sessions", "This credential may not open sessions.",
           "Work in the session you have, or ask an operator for 'mints' on this agent.", Party.OPERATOR),
    Reason("bad_mandate", "Mandate not valid", "The mandate cannot be given as it is.",
           "Change what the answer names; it says what would be accepted.", Party.AGENT),
    Reason("mandate_expired", "Mandate expired", "The time of this mandate has passed.",
           "Ask whoever gave the mandate for a new one.", Party.OPERATOR),
    Reason("budget_exceeded", "Budget used up", "The budget does not allow this call.",
           "See what is left, and do what fits, or ask whoever gave the mandate.", Party.OPERATOR),
    Reason("amount_unreadable", "Amount cannot be read",
           "What this call would cost cannot be read from its arguments.",
           "Give the amount as a plain number.", Party.AGENT),
    # -- approvals -----------------------------------------------------------------------------------
    Reason("unknown_chain", "Approval chain not configured",
           "This call needs approval by a chain of people that is not configured, so it is refused.",
           "Configure the chain that the policy names under 'approvals.chains'.", Party.OPERATOR),
    Reason("approval_impossible", "Nobody could approve it",
           "Nobody who may approve this call can: too few people are left besides those it comes from.",
           "Issue keys to more approvers, or change the chain under 'approvals.chains'.", Party.OPERATOR),
    Reason("approvals_full", "Too many calls wait for approval", "Too many calls wait for approval already.",
           "Wait until some of them are decided.", Party.AGENT, retryable=True),
    Reason("approval_rejected", "Rejected by a person", "A person has rejected this call.",
           "Do not make this call again; do something else, or ask your user.", Party.AGENT),
    Reason("approval_expired", "Approval ran out of time",
           "Nobody approved this call in time, or it was not made in time, so it is refused.",
           "Ask your user whether it is still wanted before making the call again.", Party.AGENT),
    Reason("approval_cancelled", "Approval cancelled", "The approval of this call was cancelled.",
           "Do something else, or ask your user.", Party.AGENT),
    Reason("approval_under_way", "Approved and being carried out", "This call was approved and is being carried out.",
           "Wait for the first call with these arguments.", Party.AGENT, retryable=True),
    Reason("approval_done", "Approved and carried out",
           "This call was approved and has been carried out; it is not done a second time.",
           "Use what the first call gave. For a second one of the same kind, wait some minutes.", Party.AGENT),
    Reason("approval_failed", "Approved, and not done",
           "This call was approved and made, and it is proven that it had no effect: the tool refused it, or it was "
           "never sent.",
           "Find out why before making the call again.", Party.AGENT),
    Reason("approval_changed", "Approval changed meanwhile",
           "Something the approval rests on changed just before the call was made; nothing was sent.",
           "Call again with the same arguments.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("approval_lapsed", "Too late to send",
           "The call was approved and could not be sent in time, or an authority was taken back; nothing was sent.",
           "Call again with the same arguments.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("approval_stale", "Not what is there any more",
           "The approval is not what you looked at any more, so nothing was decided.",
           "Look at it again, and send its version in If-Match and its digest in the body.", Party.OPERATOR),
    Reason("approval_closed", "Decided already", "The approval does not wait for this any more; nothing was changed.",
           "See its state.", Party.OPERATOR),
    Reason("approval_votes_altered", "Votes were altered",
           "The recorded votes of this approval do not fit together, so they are not relied on.",
           "Find out who wrote to the database; cancel the approval.", Party.OPERATOR),
    Reason("vote_conflict", "Voted otherwise already", "You have voted on this approval already, and otherwise.",
           "See its votes; a vote does not change.", Party.OPERATOR),
    Reason("self_approval", "Own call", "This call comes from you, under one of your names, so you cannot decide about it.",
           "Ask somebody else of the chain.", Party.OPERATOR),
    Reason("not_entitled", "Not of this chain", "The chain of this approval does not ask you at this stage.",
           "Ask one of those it names.", Party.OPERATOR),
    Reason("reason_required", "Reason missing", "This decision needs a reason.",
           "Give a reason; for a rejection one of the codes too.", Party.OPERATOR),
    Reason("edit_refused", "Edited call refused",
           "The edited arguments do not fit the tool, or policy refuses them, so nothing was changed.",
           "See the detail; edit again, or reject the call.", Party.OPERATOR),
    Reason("grant_refused", "No grant for this", "There can be no such grant.",
           "See the detail; approve the call once instead.", Party.OPERATOR),
    Reason("not_similar", "Calls too different, or too risky, for one decision",
           "These calls cannot be decided in one step.",
           "Decide each of them, or name up to 20 low-risk calls of one tool.", Party.OPERATOR),
    # -- limits and state ----------------------------------------------------------------------------
    Reason("overloaded", "Too many calls in flight", "Too many calls are in flight.",
           "Retry after the given time.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("shutting_down", "Shutting down", "The gateway is shutting down.",
           "Retry after the given time.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("state_unavailable", "State store unavailable", "The state store is not available, so the call is refused.",
           "Retry later.", Party.GATEWAY, retryable=True, unavailable=True),
    Reason("breaker_open", "Breaker open", "A circuit breaker stopped this agent or tool.",
           "Do not repeat the call. Wait for the time that is named, or ask an operator to look at the trip.",
           Party.AGENT),
    Reason("breaker_throttled", "Slowed down by a breaker", "A circuit breaker slowed this agent or tool down.",
           "Call again after the given time, and no faster than that.", Party.AGENT, retryable=True),
    Reason("breaker_guarded", "Breaker asks for a person",
           "A circuit breaker is wary of this agent, so calls that change something need the approval of a person.",
           "Wait for the approval, or go on with calls that only read.", Party.AGENT),
    Reason("killed", "Stopped by a person", "An operator stopped this.",
           "Stop, and tell your user. Only an operator can lift it: 'wardgate kill --lift'.", Party.OPERATOR),
    Reason("duplicate_effect", "Effect already done",
           "The effect this call asks for has already been done or is being done.",
           "Look up the result of the earlier call.", Party.AGENT),
    Reason("in_doubt", "Outcome of the same call unknown",
           "The outcome of an identical call is not known yet, so it is not sent again.",
           "Check whether the effect happened before asking again.", Party.GATEWAY),
    # -- journal -------------------------------------------------------------------------------------
    Reason("journal_unavailable", "Record could not be written",
           "The call could not be recorded, so it was not made.", "Retry later.",
           Party.GATEWAY, retryable=True, unavailable=True),
    Reason("outcome_unrecorded", "Outcome could not be recorded",
           "The call was made, and its outcome could not be recorded, so its result is withheld.",
           "Check whether the effect happened before asking again.", Party.GATEWAY, unavailable=True),
    # -- upstream ------------------------------------------------------------------------------------
    Reason("upstream_unavailable", "Upstream not reachable", "The tool server could not be reached; nothing was sent.",
           "Retry later.", Party.UPSTREAM, retryable=True, unavailable=True),
    Reason("credential_unavailable", "No credential for the upstream",
           "The gateway has no credential for this tool server that it may use for you; nothing was sent.",
           "Ask an operator; retry when the credential has been set up or renewed.", Party.OPERATOR,
           retryable=True, unavailable=True),
    Reason("credential_refused", "Upstream refused the gateway's credential",
           "The tool server did not accept the gateway's credential; it did not carry out the call.",
           "Ask an operator to renew the credential.", Party.OPERATOR, unavailable=True),
    Reason("upstream_timeout", "Upstream did not answer in time",
           "The tool server did not answer in time; the call may or may not have had its effect.",
           "Check whether the effect happened before asking again.", Party.UPSTREAM, unavailable=True),
    Reason("upstream_lost", "Connection to upstream lost",
           "The connection to the tool server was lost; the call may or may not have had its effect.",
           "Check whether the effect happened before asking again.", Party.UPSTREAM, unavailable=True),
    Reason("upstream_bad_answer", "Upstream answered nonsense",
           "The tool server's answer was not valid; the call may or may not have had its effect.",
           "Check whether the effect happened before asking again.", Party.UPSTREAM, unavailable=True),
    Reason("upstream_error", "Upstream refused", "The tool server answered with an error.",
           "See the message of the tool server.", Party.UPSTREAM),
    Reason("cancelled", "Given up by the client",
           "The client gave the call up; if it was under way, it may or may not have had its effect.",
           "Check whether the effect happened before asking again.", Party.AGENT, unavailable=True),
    Reason("input_refused", "Question not answered",
           "The tool server asked for something that policy refused or the client did not answer, so the call ended.",
           "Allow the question in policy, or answer it.", Party.AGENT),
    Reason("client_declined", "Client declined", "The client did not answer the question it was asked.",
           "Answer the question, or call again.", Party.AGENT),
    Reason("result_too_large", "Result too large", "The tool's result is larger than this gateway passes on.",
           "Ask for less.", Party.AGENT),
    Reason("result_withheld", "Result withheld",
           "The call was made, and its result is withheld by policy.",
           "See the reason given by the policy.", Party.OPERATOR),
    # -- decisions carried out elsewhere, and repeated requests ---------------------------------------
    Reason("unknown_decision", "No such decision", "There is no such decision of this caller.",
           "Use the decision id or the idempotency key of your own call to 'POST /v1/decide'.", Party.AGENT),
    Reason("already_settled", "Settled otherwise", "This decision has already been settled with another outcome.",
           "Look the decision up; its outcome does not change.", Party.AGENT),
    Reason("decision_lapsed", "Decision not settled in time",
           "The decision was not settled in time, so the outcome of its call is in doubt.",
           "Report 'ok' if it happened; whatever else, an operator must resolve it.", Party.AGENT),
    Reason("key_reused", "Idempotency key of another request",
           "This idempotency key was used with another request.", "Use a new key for a new request.", Party.AGENT),
    Reason("key_in_use", "First request still under way", "The first request with this idempotency key is under way.",
           "Retry after the given time.", Party.AGENT, retryable=True),
    Reason("answer_not_kept", "Answer not kept",
           "The call with this idempotency key was made, and its answer is not kept.",
           "Look the decision up; it says what became of the call.", Party.GATEWAY),
    # -- administration ------------------------------------------------------------------------------
    Reason("not_found", "Nothing there", "There is nothing at this address.",
           "See /openapi.json for the addresses there are.", Party.AGENT),
    Reason("definition_changed", "Another definition by now",
           "The definition named is not the one that is listed now, so nothing was accepted.",
           "Look at the definition again and name its hash.", Party.OPERATOR),
    Reason("reload_refused", "New configuration refused",
           "The new configuration or policy is not valid; what was in force stays in force.",
           "Fix what the detail names and reload again.", Party.OPERATOR),
    # -- ourselves -----------------------------------------------------------------------------------
    Reason("gateway_error", "Fault in the gateway", "The gateway failed, so the call is refused.",
           "Retry later; the operators have been given the details.", Party.GATEWAY, retryable=True, unavailable=True),
)  # fmt: skip

REASONS: Final[dict[str, Reason]] = {reason.code: reason for reason in _ALL}
assert len(REASONS) == len(_ALL), "reason codes are unique"
