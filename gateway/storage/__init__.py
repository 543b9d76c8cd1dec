"""Durable storage: tables, migrations, the storage key, credentials.

    tables.py       what is stored (SQLAlchemy Core)
    database.py     opening it: settings, migrations, one gateway a file
    crypto.py       the storage key and the keys derived from it
    credentials.py  keys of agents and operators
    revocations.py  revoked tokens
    control.py      counters by which a running gateway notices changes made by the command line

Nothing here is on the path of a call: the journal's writer thread and the command line use it.
"""
