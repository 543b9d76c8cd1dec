"""HTTP APIs described by an OpenAPI document."""
