"""``python -m gateway.cli``: the command line of the interpreter at hand."""

from gateway.cli import main

main()
