"""Which tools there are, what the operator says of them, and keeping both up to date."""
