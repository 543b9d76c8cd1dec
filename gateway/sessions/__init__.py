"""What is known of a whole piece of work: its mandate, budgets, labels, provenance and monitors."""
