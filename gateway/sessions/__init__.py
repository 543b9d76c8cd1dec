"""Sessions: what was delegated, what was spent, what was touched, and in which order."""
