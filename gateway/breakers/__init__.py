"""Circuit breakers on behaviour: small detectors, a state machine for each key, and who may go on.

Nothing here reads a clock, opens a file or draws a random number: events and times (integers of ns) come in,
verdicts and trips come out, the same in any process. All state is msgspec structs, so every key can be
written down and read back. The work for one event does not grow with the past.
"""
