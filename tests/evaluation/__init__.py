"""Benign tasks and injection attacks, replayed through a running gateway (docs/reference/evaluation.md)."""
