"""The API description as a page: rendered here from the OpenAPI document, without scripts or foreign assets.

An admin port is often reached from places without the internet, and a page that may load nothing cannot be
made to send anything either.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
nav ul{columns:2;padding-left:1.2rem}code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{overflow:auto;padding:.6rem;border:1px solid;border-radius:.3rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0}
section{border-top:1px solid;margin-top:1.5rem}h2{margin-top:2.5rem}
.method{font-weight:700}a{color:inherit}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CSP: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render(document: dict[str, Any]) -> str:
    """One self-contained HTML page for an OpenAPI 3.1 document."""
    operations = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    links = "".join(
        f'<li><a href="#{_anchor(method, path)}"><span class="method">{method}</span> {escape(path)}</a></li>'
        for method, path, _ in operations
    )
    schemas = document.get("components", {}).get("schemas", {})
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"{_prose(info.get('description', ''))}"
        '<p>Machine-readable: <a href="/openapi.json">openapi.json</a></p></header>'
        f'<nav aria-label="Operations"><ul>{links}</ul></nav><main>'
        + "".join(_operation(*each) for each in operations)
        + "<h2>Models</h2>"
        + "".join(_model(name, schema) for name, schema in sorted(schemas.items()))
        + "</main></body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    locked = " · operator key" if operation.get("security") else ""
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}"
        f"{', required' if each.get('required') else ''}</td>"
        f"<td>{_type(each['schema'])}</td><td>{escape(each.get('description', ''))}</td></tr>"
        for each in operation.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td><code>{status}</code></td><td>{escape(answer['description'])}</td>"
        f"<td>{_content(answer)}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f'<section id="{_anchor(method, path)}">'
        f'<h3><span class="method">{method}</span> <code>{escape(path)}</code></h3>'
        f"<p>{escape(operation.get('summary', ''))}{locked}</p>{_prose(operation.get('description', ''))}"
        + (
            f"<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>{rows}</table>"
            if rows
            else ""
        )
        + f"<table><tr><th>Status</th><th></th><th>Body</th></tr>{answers}</table></section>"
    )


def _content(answer: dict[str, Any]) -> str:
    return " ".join(
        _type(media["schema"]) if media.get("schema") else f"<code>{escape(kind)}</code>"
        for kind, media in answer.get("content", {}).items()
    )


def _model(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_type(each)}</td>"
        f"<td>{escape(each.get('description', ''))}</td>"
        f"<td>{_example(each)}</td></tr>"
        for field, each in schema.get("properties", {}).items()
    )
    return (
        f'<section id="model-{escape(name)}"><h3>{escape(name)}</h3>{_prose(schema.get("description", ""))}'
        f"<table><tr><th>Field</th><th>Type</th><th></th><th>Example</th></tr>{rows}</table></section>"
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#model-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(
            f"<code>{escape(str(each))}</code>" for each in schema.get("enum", [schema.get("const")])
        )
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    name = schema.get("format") or schema.get("type", "any JSON")
    return escape(str(name))


def _example(schema: dict[str, Any]) -> str:
    examples = schema.get("examples")
    return f"<code>{escape(json.dumps(examples[0]))}</code>" if examples else ""


def _prose(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part)


def _anchor(method: str, path: str) -> str:
    return escape(f"{method.lower()}{path}".replace("/", "-").replace("{", "").replace("}", ""))
