"""What the gateway shows of itself to upstreams: credentials and signed assertions."""
