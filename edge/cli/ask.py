"""Asking the running gateway: finds its socket, asks, and turns every way of not getting an answer into an exit code.

The socket is `--socket`, else the one in the `runtime_dir` of the file that `--config` or `$EDGE_CONFIG` names, else that of the
file that would be read by default, else the usual places. Nobody there: 3. Somebody else's: 4.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.cli.locate import sockets
from edge.cli.terminal import Exit, Stop
from edge.control.client import ask as ask_at

__all__ = ["TIMEOUT", "Answer", "ask", "find", "refusal", "said"]

Answer = dict[str, Any]
TIMEOUT = 10.0  # seconds


def find(args: argparse.Namespace, request: Mapping[str, Any], timeout: float = TIMEOUT) -> tuple[Path, Answer]:
    """Where somebody answered, and the answer, which may be a refusal. Raises Stop when nobody could be asked."""
    looked = sockets(args, os.environ)
    denied: PermissionError | None = None
    stale: Path | None = None
    for path in looked:
        try:
            return path, ask_at(path, request, timeout)
        except PermissionError as error:
            denied = denied or PermissionError(error.errno, error.strerror, os.fspath(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ConnectionRefusedError:
            stale = stale or path
        except TimeoutError:
            raise Stop(Exit.NOT_FINE, f"{path}: no answer within {timeout:g} s", "Wait longer: --timeout 5m") from None
        except ConnectionError as error:
            raise Stop(Exit.NOT_FINE, f"{path}: {error}", "Did the gateway end? Its event log says why.") from None
    if denied is not None:
        hint = "As root, or as the user who started the gateway." if os.geteuid() else ""
        raise Stop(Exit.NOT_PERMITTED, f"{denied.filename}: {denied.strerror}", hint)
    if stale is not None:
        raise Stop(Exit.NO_GATEWAY, f"{stale}: nobody answers; the gateway that made it is gone", "Start one: edge run")
    raise Stop(
        Exit.NO_GATEWAY,
        f"no running gateway; looked at {', '.join(map(str, looked))}",
        "Start one: edge run. If one runs elsewhere: --socket PATH, or --config FILE",
    )


def ask(args: argparse.Namespace, op: str, *, timeout: float = TIMEOUT, **more: object) -> Answer:
    """The answer to one operation. Raises Stop when there is none, or when it is a refusal."""
    _, answer = find(args, {"op": op, **more}, timeout)
    if not answer.get("ok"):
        raise refusal(answer)
    return answer


def refusal(answer: Answer) -> Stop:
    """What a refusal says, as the end of the command."""
    error, detail = str(answer.get("error") or "refused"), str(answer.get("detail") or "")
    if error == "unknown-operation":
        return Stop(Exit.NOT_FINE, "the running gateway is of a version that does not know this", "Upgrade it: edge help reload")
    return Stop(Exit.NOT_FINE, f"{error}: {detail}" if detail else error)


def said(answer: Answer) -> dict[str, object]:
    """What an answer holds, for `--json`: without the words of the protocol."""
    return {key: value for key, value in answer.items() if key not in ("ok", "version")}
