"""Callables for the tests of Python upstreams: good ones, hostile ones, and ones that cannot be typed."""
