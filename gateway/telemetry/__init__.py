"""How the gateway is watched: metrics, traces and logs.

- ``metrics``: every metric there is, as a table, and the registry that holds them
- ``cardinality``: which label values may appear
- ``tracecontext``: W3C ``traceparent``, read and written
- ``tracing``: which calls are traced, and the span tree of one that is
- ``semconv``: every attribute and span name
- ``export``: the bounded way to the collector
- ``logs``: structured logs that hold no secret
- ``telemetry``: the port of ``gateway.ports``, made of the above

Arguments, results and credentials are in none of them. Telemetry never delays or refuses a call: when it
cannot keep up it drops, and counts what it dropped.
"""
