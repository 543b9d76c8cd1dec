"""Held calls waiting for people.

``machine.py`` has the states and what may follow on what, ``chain.py`` who must agree, ``store.py`` the two
in the database, ``claim.py`` the one transaction between an approval and its effect, ``queue.py`` the port
that the pipeline asks, and ``desk.py`` what reviewers do.
"""
