"""What the tool servers of the evaluation offer: one module a suite, each with a list ``TOOLS``."""
