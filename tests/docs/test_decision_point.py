"""What the how-to about decision points shows is accepted by the gateway as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from gateway.config_upstream import UpstreamConfig

PAGE = (Path(__file__).parents[2] / "docs/how-to/use-as-a-decision-point.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_upstreams_it_shows_are_valid():
    shown = [
        document for text in blocks("yaml") if (document := yaml.safe_load(text)) and "upstreams" in document
    ]
    assert len(shown) == 2
    for document in shown:
        for section in document["upstreams"].values():
            assert UpstreamConfig.model_validate(section).elsewhere


def test_the_settings_of_claude_code_name_every_event_the_hook_knows():
    (text,) = blocks("json")
    hooks = json.loads(text)["hooks"]
    assert set(hooks) == {"PreToolUse", "PostToolUse", "PostToolUseFailure"}
    for (entry,) in hooks.values():
        (hook,) = entry["hooks"]
        # Killed by its own client, a hook lets the tool run: the gateway must be given up on before that.
        assert hook["command"] == "wardgate hook" and hook["timeout"] > 10


def test_the_filter_of_envoy_does_not_open_when_the_gateway_is_down():
    text = next(text for text in blocks("yaml") if "ext_authz" in text)
    config = yaml.safe_load(text)["http_filters"][0]["typed_config"]
    assert config["failure_mode_allow"] is False
    assert config["with_request_body"]["allow_partial_message"] is False
    assert config["http_service"]["path_prefix"].startswith("/v1/ext_authz/")
