"""``breakers`` in ``wardgate.yaml``: what stops an agent whose calls have gone wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

from pydantic import Field, model_validator

from gateway.breakers import plugin
from gateway.breakers.settings import TAILS, Caps, Settings, Tail
from gateway.config_identity import LEAST_SECRET
from gateway.section import Name, Section

if TYPE_CHECKING:
    from gateway.scores import Party

DetectorName = Literal[
    "errors", "denials", "rate", "surprise", "tools", "bytes", "cost", "places",
    "repeat", "no_progress", "cycle", "return", "denied", "cap", "canary", "health",
]  # fmt: skip
StatisticalName = Literal["errors", "denials", "rate", "surprise", "tools", "bytes", "cost", "places"]
_ESTIMATING: Final[tuple[str, ...]] = get_args(StatisticalName)


class CapsConfig(Section):
    """Sums that are never to be passed; only a person resets a breaker that this opens."""

    calls: int | None = Field(None, ge=1, description="Calls carried out.")
    writes: int | None = Field(None, ge=0, description="Of these, calls that may change something.")
    irreversible: int | None = Field(None, ge=0, description="Of these, calls that cannot be undone.")
    bytes_out: int | None = Field(None, ge=0, description="Bytes of arguments of calls that write or send.")
    cost_micro_usd: int | None = Field(None, ge=0, description="What the calls cost.")
    depth: int | None = Field(None, ge=0, description="Length of the delegation.")

    def caps(self) -> Caps:
        return Caps(**self.model_dump())


class TailConfig(Section):
    """As 'wardgate breaker calibrate' prints it: alarms a call at threshold h are rate * exp(-h / scale)."""

    rate: float = Field(gt=0, le=1000, description="Of alarms a call, as if the threshold were 0.")
    scale: float = Field(gt=0, le=100, description="How slowly they get fewer.")


class ScoreConfig(Section):
    """A detector elsewhere that posts scores of agents to `/v1/scores/<name>` on the admin port, signed."""

    secret: str = Field(description="What signs the body, at least 32 bytes; ${NAME} expands.")
    key_id: Name = Field("1", description="Sent along, so that a secret can be replaced.")
    tenant: Name = Field("default", description="The tenant whose agents it has an opinion of.")
    first: float = Field(0.5, ge=0, le=1, description="From this score on writes need a person.")
    stop: float = Field(0.9, ge=0, le=1, description="From this score on the agent is stopped.")
    enforce_percent: int = Field(
        0, ge=0, le=100, description="The percentage of agents it acts on; 0 only records."
    )
    per_minute: int = Field(600, ge=1, le=60_000, description="Scores taken in a minute.")

    @model_validator(mode="after")
    def _sound(self) -> ScoreConfig:
        if self.first > self.stop:
            raise ValueError("'first' must not be above 'stop'")
        if not self.secret.startswith("${") and len(self.secret.encode()) < LEAST_SECRET:
            raise ValueError(f"'secret' needs at least {LEAST_SECRET} bytes")
        return self


class BreakersConfig(Section):
    enabled: bool = Field(True, description="False lets everything pass but what the kill switch stops.")
    enforce_percent: dict[Name, Annotated[int, Field(ge=0, le=100)]] = Field(
        default_factory=dict,
        description="For a detector, or one of your own: the percentage of agents it acts on; 0 only "
        "records. When not named 100, and 0 for those that estimate (errors, denials, rate, surprise, tools, "
        "bytes, cost, places).",
    )
    max_open_percent: int = Field(
        10, ge=1, le=100,
        description="The most of a tenant's agents (at least one) that detectors may stop at once; beyond it "
        "writes need a person instead. Caps and canaries are not bound by it.",
    )  # fmt: skip
    false_first_per_day: float = Field(
        1.0, gt=0, le=1000, description="False first responses an agent may see in a day."
    )
    false_open_per_day: float = Field(
        0.1, gt=0, le=1000, description="False stops an agent may see in a day."
    )
    tails: dict[StatisticalName, TailConfig] = Field(
        default_factory=dict, description="Tails of statistics, from calibration; defaults where not named."
    )
    session_caps: CapsConfig = CapsConfig()
    tree_caps: CapsConfig = CapsConfig()
    canaries: tuple[str, ...] = Field(
        (), description="Tools (upstream/name, * for any run of characters) no honest call goes to."
    )
    repeat: int = Field(5, ge=3, description="The same call with the same result in a row that opens.")
    no_progress: int = Field(
        6, ge=3, description="Different calls with the same long answer in a row that open."
    )
    no_progress_short: int = Field(
        20, ge=5,
        description="Different calls with the same short answer (up to 512 bytes) in a row that are slowed "
        "down. A tool that answered otherwise after a long row in the end is given four times that row.",
    )  # fmt: skip
    denied_in_row: int = Field(
        5, ge=2, description="Refusals in a row after which writes need a person; twice as many open."
    )
    denied_total: int = Field(
        20, ge=3,
        description="Refusals in a session that open; twenty calls that go through make up for one of them.",
    )  # fmt: skip
    wait_s: int = Field(60, ge=1, le=3600, description="First wait of an open breaker; doubles each time.")
    throttle_gap_ms: int = Field(1000, ge=1, le=60_000, description="Between calls of an agent slowed down.")
    slow_s: float = Field(60.0, gt=0, description="A call that takes longer counts as slow for its upstream.")

    scores: dict[Name, ScoreConfig] = Field(
        default_factory=dict,
        max_length=50,
        description="Detectors elsewhere, by the name trips have of them.",
    )

    @model_validator(mode="after")
    def _known(self) -> BreakersConfig:
        unknown = set(self.enforce_percent) - set(get_args(DetectorName))
        if unknown:  # looked up only then: it takes some milliseconds
            unknown -= plugin.names()
        if unknown:
            raise ValueError(f"enforce_percent: there is no detector {', '.join(sorted(unknown))}")
        return self

    def parties(self) -> dict[str, Party]:
        """Those who may post, with their secrets read; ``config.load`` has seen that they are there."""
        from gateway.config import expand  # which is made of this module
        from gateway.scores import Party

        return {
            name: Party(
                name=name, secret=expand(each.secret, f"breakers.scores.{name}.secret").encode(),
                key_id=each.key_id, tenant=each.tenant, first=each.first, stop=each.stop,
                per_minute=each.per_minute,
            )
            for name, each in self.scores.items()
        }  # fmt: skip

    def settings(self) -> Settings:
        tails = dict(TAILS)
        for name, each in self.tails.items():
            tails[name] = Tail(each.rate, each.scale, min(TAILS[name].least, each.scale))
        return Settings(
            tails=tails,
            # What compares is sure of itself; what estimates first shows what it would have done here.
            enforce_percent=dict.fromkeys(_ESTIMATING, 0)
            | {str(name): share for name, share in self.enforce_percent.items()}
            | {f"score:{name}": each.enforce_percent for name, each in self.scores.items()},
            max_open_percent=self.max_open_percent,
            false_first=self.false_first_per_day,
            false_open=self.false_open_per_day,
            session_caps=self.session_caps.caps(),
            tree_caps=self.tree_caps.caps(),
            canaries=self.canaries,
            repeat=self.repeat,
            no_progress=self.no_progress,
            no_progress_short=self.no_progress_short,
            denied_guard=self.denied_in_row,
            denied_open=2 * self.denied_in_row,
            denied_total=self.denied_total,
            wait_s=self.wait_s,
            throttle_gap_ms=self.throttle_gap_ms,
            slow_s=self.slow_s,
        )
