"""Held calls waiting for people."""
