"""python -m playground."""

import atexit
import logging
import os
import sys
from contextlib import suppress

from playground.cli.main import main


def _exit(status: int) -> None:
    """End the process at once: to take a loaded trio apart, object by object, lasts a second."""
    with suppress(OSError):  # as where the reader of a pipe has gone
        sys.stdout.flush()
        sys.stderr.flush()
    logging.shutdown()
    atexit._run_exitfuncs()
    os._exit(status)


_exit(main())
