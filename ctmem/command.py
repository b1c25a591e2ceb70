"""The shell of all commands: what is wrong is one line on stderr, never a traceback, and an exit status.

    def main(arguments=None):
        options = new_parser().parse_args(arguments)
        return run_command(lambda: work(options), "stopped; the same command goes on")

Exit status: 0 done, 1 an error, 2 a command line that cannot be read, 130 stopped from the keyboard. A command may
give 2 to whatever was wrong with what it was handed (`bad_input`), so that scripts can tell that from a full disk.

Source: this project.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ERRORS = (
    ArithmeticError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
BAD_INPUT = (ImportError, LookupError, TypeError, ValueError, FileExistsError, FileNotFoundError, IsADirectoryError,
             NotADirectoryError, PermissionError)  # fmt: skip
MOST_SEED = 2**62  # numbers may be added to a seed


def forgiving_output() -> None:
    """Lets a command print to any console or pipe: a sign that its encoding lacks, as "↑" or "×", becomes a "?"."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, too, and whose help any console can show."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        forgiving_output()

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        self.exit(2, f"error: {' '.join(message.split())} (`{self.prog} --help` lists the options)\n")


def folder(text: str) -> Path:
    """The folder that an option names, as its `type`.

    Raises:
        argparse.ArgumentTypeError: an empty text, which a variable that is not set leaves.
    """
    if not text:
        raise argparse.ArgumentTypeError("must be a folder, got an empty text")
    return Path(text)


def run_command(
    work: Callable[[], object], stopped: str = "stopped", *, bad_input: int = 1, debug: bool = False
) -> int:
    """Does the work of a command, and returns the exit status.

    Args:
        work: raises what is wrong.
        stopped: what is said when it is stopped from the keyboard, unless the interrupt itself says more.
        bad_input: the status where something was wrong with what came in, and not with the machine.
        debug: the traceback of an error stands above its line.
    """
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            work()
        except KeyboardInterrupt as stop:
            _say(str(stop) or stopped)
            return 130
        except ERRORS as error:
            if debug:
                traceback.print_exc()
            _say(f"error: {str(error) or type(error).__name__}")
            return bad_input if isinstance(error, BAD_INPUT) else 1
    return 0


def end_quietly_until_begun() -> None:
    """Ctrl-C while a command is still importing ends it without a traceback; called by `ctmem` under `python -m`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(*_: Any) -> None:
    """Ends the program at once."""
    _say("stopped before it began")
    os._exit(130)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line."""
    _say(f"warning: {message}")


def _say(text: str) -> None:
    """One line on stderr."""
    print(" ".join(text.split()), file=sys.stderr, flush=True)
