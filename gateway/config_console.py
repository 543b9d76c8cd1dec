"""``console`` of ``wardgate.yaml``: the web pages for reviewers on the admin port."""

from __future__ import annotations

from pydantic import Field, field_validator

from gateway.config_identity import secure_url
from gateway.section import Section


class ConsoleConfig(Section):
    enabled: bool = Field(True, description="Serve the console at /console of the admin port.")
    url: str | None = Field(
        None,
        description="Where people reach it from outside, such as https://wardgate.example.com/console; "
        "links in notifications and the return from an identity provider need it.",
    )
    hours: float = Field(8.0, gt=0, le=24, description="Longest time somebody stays signed in, in hours.")
    idle_minutes: float = Field(
        60.0, ge=5, le=1440, description="Minutes after which somebody who does nothing is signed out."
    )

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is None:
            return None
        secure_url(value)
        value = value.rstrip("/")
        if not value.endswith("/console"):
            raise ValueError("must end with /console")
        return value
