"""How a command speaks and ends: data on standard output, the rest on standard error, and an exit code.

0 answered, 1 an answer is withheld (the convergence gate failed, or the data cannot tell), 2 the user's mistake (one
line on standard error), 70 a defect of this package (with its traceback), 130 interrupted.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future

import typer

from bayes_prehoc.errors import InputError

__all__ = [
    "ANSWERED",
    "DEFECT",
    "INTERRUPTED",
    "MISTAKE",
    "WITHHELD",
    "as_document",
    "as_records",
    "exit_code",
    "patiently",
    "print_out",
    "say",
]

ANSWERED, WITHHELD, MISTAKE, DEFECT, INTERRUPTED = 0, 1, 2, 70, 130
HEARTBEAT_S = 30
# The base class of every error in how a command was called; typer exports only this descendant of it.
_UsageError = typer.BadParameter.__base__


def exit_code(command: Callable[[], int | None]) -> int:
    """Run a command; what it raises becomes a code, and words on standard error."""
    try:
        code = command() or ANSWERED
        # typer makes a code of Ctrl-C, and says nothing.
        return _interrupted() if code == INTERRUPTED else code
    except InputError as error:
        return _mistake(str(error))
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx else "bayes-prehoc"
        return _mistake(f"{error.format_message().rstrip('.')}. Try: {path} --help")
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except OSError as error:
        if error.filename is None:
            return _defect()
        return _mistake(f"{error.filename}: {error.strerror}. Check the place, its permissions and the disk.")
    except Exception:
        return _defect()


def patiently(what: str, function: Callable, *args, **kwargs):
    """Call a function in a thread of its own, so that this one can show signs of life and hear Ctrl-C.

    Compiled code hears nothing until it is finished, which may be minutes later.
    """
    answer, start = Future(), time.monotonic()

    def work():
        try:
            answer.set_result(function(*args, **kwargs))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        try:
            return answer.result(timeout=HEARTBEAT_S)
        except TimeoutError:
            if answer.done():
                raise
            say(f"{what}: {time.monotonic() - start:.0f} s")
        except KeyboardInterrupt:
            if answer.done():
                raise
            # Leaving in an orderly way would wait for the compiled code.
            code = _interrupted()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def print_out(text: str) -> None:
    """Print data; nothing for an empty text."""
    try:
        if text:
            typer.echo(text)
    except BrokenPipeError:
        # Whoever reads our output has read enough; nothing more can be said to them, not even while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print progress or a complaint."""
    typer.echo(text, err=True)


def as_document(content) -> str:
    """Strict JSON: not a number is an error, not an invention."""
    return json.dumps(content, indent=2, allow_nan=False)


def as_records(frame) -> list[dict]:
    """Rows of a DataFrame as JSON objects, missing as null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def _mistake(message: str) -> int:
    say("Error: " + " ".join(message.split()))
    return MISTAKE


def _interrupted() -> int:
    say("Interrupted. What was saved stays, what was still being computed is lost: run the same command again.")
    return INTERRUPTED


def _defect() -> int:
    traceback.print_exc()
    say("This is a defect of bayes-prehoc, not a mistake of yours: please report it with the lines above.")
    return DEFECT
