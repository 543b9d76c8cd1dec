"""The console: web pages on the admin port for those who review, and for those who look after agents.

Server-rendered, so that a page is the state of the gateway and nothing else; it works without scripts. Every
page has a ``.json`` twin from the same view. What is done goes through the functions of the admin API, so
there is one place that decides who may do what.

To add a page: a file in ``views`` with its ``PAGES`` (and ``ACTS``), a template, and its name in
``views/__init__.py``. A page that has a ``nav`` appears in the menu.
"""

from gateway.surfaces.console.app import create_console
from gateway.surfaces.console.deps import ConsoleDeps, Terms

__all__ = ["ConsoleDeps", "Terms", "create_console"]
