"""The append-only account of each call: ``intent → result | not_sent | in_doubt → reconciled``.

journal.py     the port: what the pipeline calls
writer.py      one thread, one transaction a batch
entries.py     what is handed to the thread, and its rows
recovery.py    what a crash left behind
resolution.py  a person says what became of a call in doubt; erasure
retention.py   payloads grow old
query.py       reading it all again
display.py     payloads with what must not be shown taken out
"""
