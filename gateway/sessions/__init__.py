"""What is known of a whole piece of work: mandate, budgets, labels, provenance, monitors, progress.

Everything here is pure: no clock, no socket, no file. Times come in as integers of nanoseconds.
"""
