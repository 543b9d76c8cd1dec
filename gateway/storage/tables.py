"""What is stored, as SQLAlchemy Core tables. ``migrations/`` makes them; a test holds the two together.

Columns ending in ``_ns`` are nanoseconds since the epoch. JSON columns hold text, written once and read
rarely, so they are encoded by the writer thread and never touched by SQLAlchemy's JSON type.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

SCHEMA: Final = "0013"
"""The revision this code reads and writes; the head of ``migrations/``."""

metadata = MetaData()

# SQLite gives 64-bit keys only to columns declared exactly INTEGER.
_Sequence = BigInteger().with_variant(Integer(), "sqlite")

records = Table(
    "records",
    metadata,
    # One row per transition of one call; never updated, never deleted (triggers hold that). A read that was
    # answered before its intent was written has one row that says both. There is a column for
    # what is searched or bound to something else; what is only read is in ``body``, because each bound
    # column costs a quarter of a microsecond of every call.
    Column("seq", _Sequence, primary_key=True),
    Column("call_id", Text, nullable=False),  # UUIDv7, so its index also orders by time
    Column("phase", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("agent", Text),
    Column("subject", Text),
    Column("chain", Text),  # JSON, root first
    Column("operator", Text),  # who resolved or erased
    Column("session", Text),
    Column("session_epoch", Integer),
    Column("parent", Text),  # call id
    Column("compensates", Text),  # call id
    Column("target", Text),
    Column("risk", Text),
    Column("digest", Text),
    Column("effect_key", Text),  # NULL: the call id
    Column("verdict", Text),
    Column("action", Text),
    Column("code", Text),
    Column("status", Text),
    Column("outcome_code", Text),
    Column("args_mac", Text),
    Column("result_mac", Text),
    Column("payload", BigInteger),  # id in payloads, whether or not it is still there
    Column("body", Text),  # JSON: see journal/entries.py
)

Index("records_call", records.c.call_id)
Index(
    "records_in_doubt",
    records.c.seq,
    sqlite_where=text("phase = 'in_doubt'"),
    postgresql_where=text("phase = 'in_doubt'"),
)
Index(
    "records_effect",
    records.c.tenant,
    records.c.effect_key,
    sqlite_where=text("effect_key IS NOT NULL"),
    postgresql_where=text("effect_key IS NOT NULL"),
)

snapshots = Table(
    "snapshots",
    metadata,
    # What many records share, by content: the agent, the tool and what was in force, as they were.
    Column("ref", Text, primary_key=True),  # first 32 hex digits of the SHA-256 of the JSON
    Column("json", Text, nullable=False),
)

payloads = Table(
    "payloads",
    metadata,
    # Arguments and results, sealed. Deleting a row is what erasure and retention are.
    Column("id", _Sequence, primary_key=True),  # when it was written, in ns; made unique by counting on
    Column("key_id", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # agent | operator
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),  # of the agent or the operator
    Column("role", Text),  # of an operator
    Column("secret_hash", LargeBinary, nullable=False),  # SHA-256 of a random 256-bit secret
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    Column("replaced_by", Text, ForeignKey("credentials.id")),
    Column("note", Text, nullable=False, server_default=""),
)

Index("credentials_name", credentials.c.kind, credentials.c.tenant, credentials.c.name)

pins = Table(
    "pins",
    metadata,
    # One row for each tool, prompt and template an upstream lists or that was accepted: what was accepted, by
    # whom, and what is listed now. Upstreams belong to the gateway as a whole, so there is no tenant.
    Column("upstream", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # tool | prompt | resource | template
    Column("name", Text, primary_key=True),
    Column("accepted_hash", Text),  # NULL: nobody has accepted it
    Column("accepted_json", LargeBinary),
    Column("accepted_ns", BigInteger),
    Column("accepted_by", Text),
    Column("rejected_hash", Text),  # a definition that somebody looked at and refused
    Column("rejected_ns", BigInteger),
    Column("rejected_by", Text),
    Column("listed", Integer, nullable=False),  # 0 when the upstream no longer lists it
    Column("listed_hash", Text, nullable=False),  # as last listed
    Column("listed_json", LargeBinary, nullable=False),
    Column("shape", Text, nullable=False),  # hash without the name, to recognise what was renamed
    Column("flags", Text, nullable=False),  # separated by spaces
    Column("seen_ns", BigInteger, nullable=False),  # when this definition was first listed
    Column("removed_ns", BigInteger),  # when it went; kept after it came back until that is accepted
)

pinned_upstreams = Table(
    "pinned_upstreams",
    metadata,
    # Upstreams whose first list has been seen: from then on, what is added is new.
    Column("upstream", Text, primary_key=True),
    Column("first_ns", BigInteger, nullable=False),
)

token_revocations = Table(
    "token_revocations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("kind", Text, nullable=False),  # token | subject | agent
    Column("issuer", Text, nullable=False),  # name in the configuration; "" of an agent
    Column("value", Text, nullable=False),  # jti, sub or name
    Column("issued_before_ns", BigInteger),
    Column("created_ns", BigInteger, nullable=False),
    Column("lifted_ns", BigInteger),
    Column("note", Text, nullable=False, server_default=""),
)

policy_bundles = Table(
    "policy_bundles",
    metadata,
    # Bundles as they were received, signatures too, so that they can be verified again. Kept while one of
    # ``policy_rollout`` names them.
    Column("digest", Text, primary_key=True),  # SHA-256 of the bytes
    Column("bytes", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),  # where it came from, for people
    Column("revision", Text, nullable=False),  # of the policy it made when it was stored
    Column("stored_ns", BigInteger, nullable=False),
)

policy_rollout = Table(
    "policy_rollout",
    metadata,
    # Which bundle has which part: ``active`` (absent: what the configuration says), ``source`` (the last good
    # one of the configured source), ``candidate`` (in shadow), and ``before`` (what a step back returns to).
    Column("part", Text, primary_key=True),
    Column("digest", Text),  # NULL of ``before``: what the configuration says
    Column("percent", Integer, nullable=False, server_default="0"),  # of calls, for the candidate
    Column("by", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("seen_ns", BigInteger),  # of ``source``: when it was last verified
)

policy_differences = Table(
    "policy_differences",
    metadata,
    # Calls that a candidate would have decided otherwise; bounded, the oldest go first.
    Column("seq", _Sequence, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("candidate", Text, nullable=False),  # revision
    Column("active", Text, nullable=False),  # revision
    Column("call_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("change", Text, nullable=False),  # tightened | loosened | changed | error
    Column("verdict", Text, nullable=False),  # of the active policy
    Column("code", Text, nullable=False),
    Column("candidate_verdict", Text, nullable=False),
    Column("candidate_code", Text, nullable=False),
    Column("rule", Text, nullable=False),  # module the difference is owed to; "" when none is
)

sessions = Table(
    "sessions",
    metadata,
    # One row for each session that was opened or has been saved once. What never changes, and what it had
    # become when it was last saved; the records since then say the rest.
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("credential", Text, nullable=False),  # "" when any credential of the agent may use it
    Column("subject", Text),
    Column("rolling", Integer, nullable=False),
    Column("parent", Text, nullable=False, server_default=""),
    Column("opened_ns", BigInteger, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("expires_ns", BigInteger),
    Column("closed_ns", BigInteger),
    Column("n", BigInteger, nullable=False, server_default="0"),  # of the newest mark in ``state``
    Column("seen_ns", BigInteger, nullable=False),  # when it was last saved
    Column("mandate_key", Text),  # sealed: it has the words of a user in it
    Column("mandate_nonce", LargeBinary),
    Column("mandate", LargeBinary),
    Column("state_key", Text),
    Column("state_nonce", LargeBinary),
    Column("state", LargeBinary),
)

Index("sessions_agent", sessions.c.tenant, sessions.c.agent)
Index("sessions_seen", sessions.c.seen_ns)
Index("sessions_parent", sessions.c.parent)

session_acts = Table(
    "session_acts",
    metadata,
    # What people and orchestrators did to sessions; never updated, never deleted.
    Column("seq", _Sequence, primary_key=True),
    Column("session", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("act", Text, nullable=False),  # open | close | checkpoint | declassify
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default="{}"),  # JSON
)

Index("session_acts_session", session_acts.c.session)

accounts = Table(
    "accounts",
    metadata,
    # What agents and tenants have used of their budgets, as far as it was last saved.
    Column("scope", Text, primary_key=True),  # "agent:<tenant>/<name>" or "tenant:<name>"
    Column("n", BigInteger, nullable=False),  # of the newest mark in it
    Column("state", LargeBinary, nullable=False),
)

kills = Table(
    "kills",
    metadata,
    # What people stopped; a row is never deleted, only lifted.
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),  # call | session | agent | tool | upstream | tenant | all
    Column("tenant", Text, nullable=False),  # "" of all
    Column("name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("lifted_ns", BigInteger),
    Column("lifted_by", Text),
    Column("lifted_reason", Text),
)

breakers = Table(
    "breakers",
    metadata,
    # Breakers that are not closed, as the gateway last wrote them.
    Column("scope", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("detector", Text, nullable=False),
    Column("since_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False),
    Column("trip", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),  # MessagePack of the whole machine
)

breaker_trips = Table(
    "breaker_trips",
    metadata,
    # Every move of a breaker; only the label is written later, by a person.
    Column("id", Text, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("detector", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON of the whole trip
    Column("label", Text),  # true | false
    Column("label_by", Text),
    Column("label_ns", BigInteger),
)

Index("breaker_trips_at", breaker_trips.c.tenant, breaker_trips.c.at_ns)

breaker_acts = Table(
    "breaker_acts",
    metadata,
    # What people ask of breakers; the gateway carries it out and says when.
    Column("seq", _Sequence, primary_key=True),
    Column("act", Text, nullable=False),  # trip | reset | label
    Column("scope", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("done_ns", BigInteger),
)

breaker_states = Table(
    "breaker_states",
    metadata,
    # What detectors know of an agent; saved now and then.
    Column("tenant", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)

breaker_trees = Table(
    "breaker_trees",
    metadata,
    # Sums of delegations that have caps; saved now and then.
    Column("tenant", Text, primary_key=True),
    Column("tree", Text, primary_key=True),
    Column("totals", LargeBinary, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)

trust_accounts = Table(
    "trust_accounts",
    metadata,
    # What is known of an agent in a domain; its sums are those of the evidence up to a place in the ledger.
    Column("tenant", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    Column("tier", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),  # MessagePack of the whole account
    Column("at_ns", BigInteger, nullable=False),
)

trust_evidence = Table(
    "trust_evidence",
    metadata,
    # The ledger: outcomes the gateway verified. Append-only (triggers hold that).
    Column("seq", _Sequence, primary_key=True),
    Column("ref", Text, nullable=False),  # what must count once
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("good", Float, nullable=False),
    Column("bad", Float, nullable=False),
    Column("call_id", Text, nullable=False),  # of the call that made it; "" of what no single call made
    Column("build", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("print", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("note", Text, nullable=False),
)

Index("trust_evidence_ref", trust_evidence.c.ref, unique=True)
Index(
    "trust_evidence_of",
    trust_evidence.c.tenant,
    trust_evidence.c.agent,
    trust_evidence.c.domain,
    trust_evidence.c.day,
)
Index("trust_evidence_call", trust_evidence.c.call_id)

trust_waiting = Table(
    "trust_waiting",
    metadata,
    # Good outcomes that may still turn out to be none; see ``grace_s``.
    Column("call_id", Text, primary_key=True),
    Column("due_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # MessagePack of the evidence
)

Index("trust_waiting_due", trust_waiting.c.due_ns)

trust_events = Table(
    "trust_events",
    metadata,
    # Signatures, promotions and falls. Append-only; each row carries the hash of the one before it of the
    # same agent and domain.
    Column("seq", _Sequence, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("before", Integer, nullable=False),
    Column("after", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("by", Text, nullable=False),  # the person; "wardgate" when it was none
    Column("credential", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the evidence a signature is about
    Column("ref", Text, nullable=False),  # of what made it: a trip, a call
    Column("at_ns", BigInteger, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

Index("trust_events_of", trust_events.c.tenant, trust_events.c.agent, trust_events.c.domain)

control = Table(
    "control",
    metadata,
    # Counters that only grow; see ``control.py``.
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    # One row for each idempotency key that was seen, until it expires; see ``idempotency.py``.
    Column("id", Text, primary_key=True),  # keyed hash of tenant, credential, subject and the key itself
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("request_mac", Text, nullable=False),  # keyed hash of the request: another one is refused
    Column("call_id", Text, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("status", Integer),  # HTTP status of the answer; NULL until there is one
    Column("size", Integer, nullable=False, server_default="0"),  # bytes of the answer
    Column("key_id", Text),  # the answer, sealed; NULL when it was not kept
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
)

Index("idempotency_expires", idempotency.c.expires_ns)
Index("idempotency_agent", idempotency.c.tenant, idempotency.c.agent)
Index("idempotency_call", idempotency.c.call_id)

approvals = Table(
    "approvals",
    metadata,
    # One row for each call that people must decide about, by the digest of what would be sent. States are
    # those of ``gateway/approvals/machine.py``; every change raises ``version``.
    Column("id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("unsent", Integer, nullable=False),
    Column("tainted", Integer, nullable=False),
    Column("idempotent", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("subject", Text),
    Column("chain", Text, nullable=False),  # JSON: the delegation chain, root first
    Column("session", Text, nullable=False),
    Column("call_id", Text, nullable=False),  # the call that was held first
    Column("target", Text, nullable=False),
    Column("schema_hash", Text, nullable=False),
    Column("risk", Text, nullable=False),
    Column("asked_digest", Text, nullable=False),  # of the call as the agent makes it
    Column("digest", Text, nullable=False),  # of what would be sent: another one after an edit
    Column("effect_key", Text, nullable=False),
    Column("requirements", Text, nullable=False),  # JSON: code, chain and its revision, of each escalation
    Column("rules", Text, nullable=False),  # JSON: stages, escalations, who is excluded
    Column("reasons", Text, nullable=False),  # JSON: findings of the policy
    Column("facts", Text, nullable=False),  # JSON: what the policy was told
    Column("policy_revision", Text, nullable=False),
    Column("key_id", Text),  # the arguments, sealed; NULL when they are no longer kept
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("opened_ns", BigInteger, nullable=False),
    Column("decide_by_ns", BigInteger, nullable=False),
    Column("execute_s", Integer, nullable=False),
    Column("execute_by_ns", BigInteger),  # set by the last vote that was needed
    Column("lease_s", Integer, nullable=False),
    Column("send_by_ns", BigInteger),  # of the current attempt
    Column("lease_until_ns", BigInteger),
    Column("attempt_call", Text),  # call id of the current attempt
    Column("closed_ns", BigInteger),
    Column("closed_by", Text),
    Column("reason_code", Text),
    Column("reason_text", Text),  # for the model
    Column("supersedes", Text, ForeignKey("approvals.id")),
    Column("superseded_by", Text),
    Column("editors", Text, nullable=False),  # JSON
    Column("question", Text),
    Column("asked_by", Text),
    Column("answer", Text),
    Column("next_notice_ns", BigInteger),  # the next reminder or escalation; NULL when there is none
    Column("envelope", Text),  # the opening that let it through instead of votes
    Column("canary", Text),  # JSON of a request that must be rejected and is never carried out; else NULL
)

_LIVE: Final = "state IN ('pending', 'approved', 'executing', 'recovering', 'in_doubt')"
Index(
    "approvals_live",
    approvals.c.tenant,
    approvals.c.asked_digest,
    unique=True,  # one digest waits once: every retry finds the same approval
    sqlite_where=text(_LIVE),
    postgresql_where=text(_LIVE),
)
Index("approvals_digest", approvals.c.tenant, approvals.c.asked_digest)
Index("approvals_state", approvals.c.tenant, approvals.c.state, approvals.c.id)
Index("approvals_call", approvals.c.call_id)
Index("approvals_target", approvals.c.tenant, approvals.c.target, approvals.c.id)
Index("approvals_due", approvals.c.state, approvals.c.decide_by_ns)
Index("approvals_agent", approvals.c.tenant, approvals.c.agent, approvals.c.state)
Index(
    "approvals_canary",
    approvals.c.tenant,
    approvals.c.state,
    sqlite_where=text("canary IS NOT NULL"),
    postgresql_where=text("canary IS NOT NULL"),
)
Index(
    "approvals_notice",
    approvals.c.next_notice_ns,
    sqlite_where=text("next_notice_ns IS NOT NULL"),
    postgresql_where=text("next_notice_ns IS NOT NULL"),
)
Index(
    "approvals_kept",
    approvals.c.closed_ns,
    sqlite_where=text("ciphertext IS NOT NULL"),
    postgresql_where=text("ciphertext IS NOT NULL"),
)

approval_votes = Table(
    "approval_votes",
    metadata,
    # Append-only (triggers hold that); each row carries the hash of the one before it.
    Column("approval_id", Text, ForeignKey("approvals.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # 1, 2, … of the approval
    Column("stage", Integer, nullable=False),
    Column("principal", Text, nullable=False),
    Column("on_behalf", Text, nullable=False),  # of the absent person; "" for their own vote
    Column("credential", Text, nullable=False),
    Column("decision", Text, nullable=False),  # approve | reject
    Column("reason_code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("shown_digest", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

Index(
    "approval_votes_once",
    approval_votes.c.approval_id,
    approval_votes.c.stage,
    approval_votes.c.principal,
    unique=True,
)

approval_events = Table(
    "approval_events",
    metadata,
    # What happened to an approval or a grant besides votes, refused attempts too. Append-only.
    Column("seq", _Sequence, primary_key=True),
    Column("approval_id", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

Index("approval_events_approval", approval_events.c.approval_id)
Index("approval_events_kind", approval_events.c.event, approval_events.c.at_ns)

approval_reviews = Table(
    "approval_reviews",
    metadata,
    # What is measured of each vote, written with it; see gateway/approvals/fatigue.py.
    Column("approval_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # of the vote
    Column("tenant", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("decision", Text, nullable=False),  # approve | reject
    Column("took_ms", BigInteger, nullable=False),  # at most so long the person can have looked at it
    Column("kind", Text, nullable=False),  # normal | earning | canary
    Column("rules", Text, nullable=False),  # JSON: the rules that asked for a person
)

Index(
    "approval_reviews_person",
    approval_reviews.c.tenant,
    approval_reviews.c.principal,
    approval_reviews.c.at_ns,
)
Index("approval_reviews_at", approval_reviews.c.tenant, approval_reviews.c.at_ns)

approval_incidents = Table(
    "approval_incidents",
    metadata,
    # Approved calls that turned out to be wrong, as somebody reports.
    Column("seq", _Sequence, primary_key=True),
    Column("approval_id", Text, ForeignKey("approvals.id"), nullable=False),
    Column("tenant", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
)

Index("approval_incidents_of", approval_incidents.c.tenant, approval_incidents.c.approval_id)

approval_grants = Table(
    "approval_grants",
    metadata,
    # Standing, narrow permissions made from one approval.
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("session", Text),  # NULL: of any session
    Column("target", Text, nullable=False),
    Column("schema_hash", Text, nullable=False),
    Column("matcher", Text, nullable=False),  # JSON: see gateway/approvals/grants.py
    Column("requirements", Text, nullable=False),  # JSON, as of the approval
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("budget_micro_usd", BigInteger, nullable=False),
    Column("spent_micro_usd", BigInteger, nullable=False),
    Column("made_ns", BigInteger, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("made_from", Text, ForeignKey("approvals.id"), nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("policy_revision", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # control epoch; a trip, kill or demotion raises it
    Column("revoked_ns", BigInteger),
    Column("revoked_by", Text),
)

approval_openings = Table(
    "approval_openings",
    metadata,
    # Each time a break-glass envelope was asked for: see gateway/approvals/openings.py.
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),  # of the envelope
    Column("revision", Text, nullable=False),  # of the envelope
    Column("reason", Text, nullable=False),
    Column("duration_s", Integer, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_ns", BigInteger, nullable=False),
    Column("second_by_ns", BigInteger, nullable=False),
    Column("seconded_by", Text),
    Column("opened_ns", BigInteger),
    Column("expires_ns", BigInteger),
    Column("closed_ns", BigInteger),
    Column("closed_by", Text),
    Column("uses", Integer, nullable=False),
    Column("max_uses", Integer, nullable=False),
)

Index("approval_openings_name", approval_openings.c.tenant, approval_openings.c.name)

Index("approval_grants_agent", approval_grants.c.tenant, approval_grants.c.agent, approval_grants.c.target)

console_ended = Table(
    "console_ended",
    metadata,
    # Sign-ins of the console that were ended before their time; a row is of no use after ``until_ns``.
    Column("id", Text, primary_key=True),
    Column("until_ns", BigInteger, nullable=False),
)
