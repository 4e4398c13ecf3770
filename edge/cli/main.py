"""The `edge` command: finds out what is asked for, does it, and turns every way of failing into an exit code.

A user's mistake never shows a traceback. What a command raises becomes: `Stop`, its own code; a refused file, socket or
port, 4; any other failure of the system, 1; a missing file, 2; Ctrl-C, 130. A reader that stops early (``| head``) is no mistake.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

from edge.cli.catalogue import COMMANDS
from edge.cli.parser import Parser, actions, build, command_word
from edge.cli.terminal import Exit, Stop, answer, nearest, note, paint, printable

__all__ = ["main"]

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EADDRINUSE})
_ABSENT = frozenset({errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EADDRNOTAVAIL})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name. Returns the exit code and raises nothing that a user can cause."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or a locale that lacks a character is no reason to stop
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as done:  # argparse printed a help page
        return int(done.code or 0)
    except Stop as stop:
        return _complain(stop)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # the reader went away; what is still buffered must not fail once more when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FINE
    except OSError as error:
        return _complain(_from_system(error))
    except UnicodeEncodeError:  # bytes that came in as surrogates
        return _complain(Stop(Exit.USAGE, "an argument is not UTF-8"))
    return code


def _dispatch(arguments: list[str]) -> int:
    index = command_word(arguments)
    if index is not None and arguments[index] == "bench":  # has a grammar of its own
        from edge.cli.bench import run as run_bench

        return run_bench(arguments[index + 1 :])
    parser = build()
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise _unknown(parser, args, unknown[0])
    if args.version:
        from edge.cli.versions import report

        answer(report())
        return Exit.FINE
    if args.command is None:
        from edge.cli.start import run as run_start

        return run_start(args)
    module = next(command.module for command in COMMANDS if command.name == args.command)
    code: int = importlib.import_module(module).run(args)
    return code


def _unknown(parser: Parser, args: argparse.Namespace, word: str) -> Stop:
    """What to say about an option or an argument that the command does not take."""
    name = f"edge {args.command}" if args.command else "edge"
    if not word.startswith("-"):
        return Stop(Exit.USAGE, f"{name} takes no {word!r} here", f"{name} --help")
    option = word.partition("=")[0]
    known = [action.option_strings for action in actions(parser, args.command)]
    meant = nearest(option, [string for strings in known for string in strings if string.startswith("--")])
    return Stop(Exit.USAGE, f"{name} has no option {option}", f"Did you mean: {meant}" if meant else f"{name} --help")


def _from_system(error: OSError) -> Stop:
    """A failure of the operating system, in one sentence."""
    what = error.strerror or str(error)
    named = f"{error.filename}: {what}" if error.filename else what
    if error.errno in _REFUSED:
        return Stop(Exit.NOT_PERMITTED, named)
    return Stop(Exit.USAGE if error.errno in _ABSENT else Exit.NOT_FINE, named)


def _complain(stop: Stop) -> int:
    try:
        note(f"{paint('edge:', 'red', sys.stderr)} {printable(stop.message)}")
        if stop.hint:
            note(f"      {printable(stop.hint)}")
    except BrokenPipeError:
        pass
    return stop.code


if __name__ == "__main__":
    sys.exit(main())
