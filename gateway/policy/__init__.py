"""The policy engine: Rego modules of security teams, composed and decided.

``load`` reads and gates a folder or pack; ``EmbeddedPolicy`` answers. See docs/explanation/policy.md.
"""

from gateway.policy.bundle import read_bundle
from gateway.policy.library import library_path, packs
from gateway.policy.module import Bundle
from gateway.policy.policy import EmbeddedPolicy, ModuleInfo, load
from gateway.policy.testing import TestReport, TestResult, run_tests

__all__ = [
    "Bundle", "EmbeddedPolicy", "ModuleInfo", "TestReport", "TestResult",
    "library_path", "load", "packs", "read_bundle", "run_tests",
]  # fmt: skip
