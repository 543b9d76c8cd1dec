"""The command line. ``main`` is the ``wardgate`` command.

One file per group of commands, each a thin layer over the part it shows. Imports that take time stand
inside the functions, so that ``wardgate --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> None:
    """Run one command. What a user got wrong is a sentence and a remedy; a traceback is our own fault."""
    if sys.argv[1:2] == ["hook"]:
        _hook()
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


def _hook() -> NoReturn:
    """``wardgate hook``, without the rest of the command line, and with an end of its own.

    Its caller runs the tool after every exit code but 2, so whatever goes wrong must end with 2: also an
    import that fails, an option that does not exist, or Ctrl-C.
    """
    code = 2
    try:
        if len(sys.argv) == 2:
            from gateway.cli import pretool

            code = pretool.main()
        else:
            from gateway.cli.app import app

            app(prog_name="wardgate")
        sys.stdout.flush()
    except SystemExit as end:
        code = end.code if end.code in (0, 1) and isinstance(end.code, int) else 2
    except BaseException as error:  # noqa: BLE001  # see above
        code = 2
        sys.stderr.write(f"wardgate: the hook failed ({type(error).__name__}: {error}).\n")
    os._exit(code)  # what is left to do at an ordinary end takes time, and could change the code
