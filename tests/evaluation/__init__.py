"""Benign tasks and injection attacks, replayed through a running gateway; see docs/reference/evaluation.md."""
