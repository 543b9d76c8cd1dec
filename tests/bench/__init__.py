"""What a governed call costs: ``python -m tests.bench`` (see docs/reference/benchmarks.md).

servers.py    the processes: upstream, bare relay, empty server, wardgate; where they are pinned
upstream.py   a trivial MCP upstream, so that what is measured is the way there and not the tool
relay.py      the reference: the same way without any check
traffic.py    the bytes of one realistic call
load.py       the client that sends them and measures, a process of its own
rounds.py     interleaved rounds of load, medians and ratios
stages.py     what each stage of a call costs, measured on the real objects
flatness.py   the same with 10,000 tools, with 1,000 policy modules
profiling.py  where the time goes, function by function
report.py     the table and ``build/bench.json``
"""
