"""The command line. ``main`` is the ``wardgate`` command.

One file per group of commands, each a thin layer over the part it shows. Imports that take time stand
inside the functions, so that ``wardgate --help`` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run one command. What a user got wrong is a sentence and a remedy; a traceback is our own fault."""
    from gateway.cli.app import app
    from gateway.cli.output import INTERRUPTED, NOT_DONE, Failure, note
    from gateway.errors import ConfigError

    try:
        app(prog_name="wardgate")
    except Failure as failure:
        note(f"wardgate: {failure.sentence}")
        if failure.remedy:
            note(f"  → {failure.remedy}")
        sys.exit(failure.code)
    except ConfigError as error:
        note(f"wardgate: {error}")
        sys.exit(NOT_DONE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left, as in 'wardgate decisions tail | head'.
        sys.stderr.close()
        sys.exit(0)
