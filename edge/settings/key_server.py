"""The keys of the gateway itself: its processes, its logs, its admin listener, the proxies in front of it."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from edge.settings.key_types import Duration, DurationOrOff, Share, Switch, Word, Words, example

__all__ = ["Access", "Admin", "Log", "Server", "TrustedProxies"]


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes and where they keep things."""

    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | UnsetType,
        Meta(description="Worker processes. Default: one for each CPU, because one worker keeps one CPU busy."),
        example(2),
    ] = UNSET
    user: Annotated[
        str,
        Meta(
            description="The user that workers become when edge starts as root. Default: none, so workers stay who started them."
        ),
    ] = ""
    group: Annotated[str, Meta(description="The group that workers take. Default: the user's own.")] = ""
    state_dir: Annotated[
        Word | UnsetType,
        Meta(
            description="Where state is kept across restarts. Default: /var/lib/edge for root, else $XDG_STATE_HOME/edge "
            "(~/.local/state/edge)."
        ),
        example("/var/lib/edge"),
    ] = UNSET
    runtime_dir: Annotated[
        Word | UnsetType,
        Meta(
            description="Where the control socket lies, short because socket paths are limited to 107 bytes. "
            "Default: /run/edge for root, else $XDG_RUNTIME_DIR/edge."
        ),
        example("/run/edge"),
    ] = UNSET
    pid_file: Annotated[
        str, Meta(description="A file for the process id of the supervisor. Default: none."), example("/run/edge/edge.pid")
    ] = ""
    pin: Annotated[Switch, Meta(description="on: each worker runs on one CPU and stays there.")] = "off"
    upgrade: Annotated[
        Literal["auto", "beside", "in-place"],
        Meta(
            description="How edge upgrade and SIGUSR2 start the new program. beside: in a process of its own, and this one ends. "
            "in-place: in this process, for what watches over its number. auto: in-place as process 1, else beside."
        ),
    ] = "auto"
    upgrade_command: Annotated[
        Words,
        Meta(description="The program that an upgrade starts, with its arguments. Default: the command that started this one."),
        example(["/opt/edge/next/bin/edge", "run"]),
    ] = field(default_factory=list)
    drain: Annotated[Duration, Meta(description="How long open requests may go on after a stop was asked for; a total.")] = "30s"
    drain_delay: Annotated[
        DurationOrOff,
        Meta(
            description="Time between answering that it is not ready and taking no more connections, for balancers that look "
            "only now and then."
        ),
    ] = "off"
    watch: Annotated[
        Literal["certificates", "all", "off"],
        Meta(
            description="What is taken over when it changes on disk. certificates: certificates, keys and authorities; "
            "all: the settings file and what it includes as well."
        ),
    ] = "certificates"
    reload_weaker: Annotated[
        Literal["ask", "allow"],
        Meta(
            description="ask: a reload that takes protection away needs edge reload --allow-weaker, or a SIGHUP; one that "
            "follows a change on disk is refused. allow: it is only logged."
        ),
    ] = "ask"
    region: Annotated[str, Meta(description="The region that this node is in, for logs. Default: none.")] = ""
    resolver: Annotated[
        Words | UnsetType,
        Meta(description="Addresses of the DNS servers to ask for upstream names. Default: those of the system."),
        example(["127.0.0.53"]),
    ] = UNSET
    via: Annotated[
        Word,
        Meta(description="The name by which Via speaks of this gateway (RFC 9110 section 7.6.3), instead of the host's name."),
    ] = "edge"


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a log goes and what it holds. A single word is its `to`."""

    to: Annotated[
        Word | UnsetType,
        Meta(
            description='"stdout", "stderr", "syslog", "syslog:/path/to/socket", a file, or "off". '
            "Default: access to stdout, events to stderr."
        ),
        example("stdout"),
    ] = UNSET
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="auto: a readable line on a terminal, JSON otherwise.")
    ] = "auto"
    redact: Annotated[
        Words,
        Meta(description='What is left out: "query", "peer" or a header field. Default: nothing.'),
        example(["query"]),
    ] = field(default_factory=list)
    sample: Annotated[
        Share,
        Meta(description="The share of requests with a status below 400 that are logged; others always are."),
    ] = "100%"


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The access log, the event log and how much is said."""

    access: Annotated[Word | Access, Meta(description="One line for each request: a word or a table."), example("stdout")] = (
        field(default_factory=lambda: Access())
    )
    events: Annotated[
        Word | Access, Meta(description="Failed handshakes, start, stop, upstream health: a word or a table."), example("stderr")
    ] = field(default_factory=lambda: Access())
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severity of events that are logged.")
    ] = "info"


class Admin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener for operators and their tools: health, readiness, metrics, status, reload. Plain HTTP."""

    address: Annotated[
        Words,
        Meta(
            description='An address with its port, or several, or "off". Beyond loopback only what open names goes without the '
            "token. The default address is left out, with a warning, when its port is taken; a written one is then an error."
        ),
    ] = "127.0.0.1:9901"
    token: Annotated[
        Word | UnsetType,
        Meta(
            description='What "Authorization: Bearer" must carry; 16 characters at least. Best from elsewhere: ${file:/path}, '
            "${credential:NAME}. Default: none."
        ),
        example("${file:/run/secrets/admin-token}"),
    ] = UNSET
    open: Annotated[
        list[Literal["health", "metrics", "status"]],
        Meta(description="What is answered without the token, where one is needed: health, metrics, status."),
    ] = field(default_factory=lambda: ["health"])
    names: Annotated[
        Words,
        Meta(
            description="Host names by which it may be asked without the token, besides localhost and addresses. Default: none, "
            "so that no web page can reach it by a name of its own."
        ),
        example(["edge.ops.internal"]),
    ] = field(default_factory=list)


class TrustedProxies(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose X-Forwarded-For and Forwarded are believed."""

    from_: Annotated[
        Words,
        Meta(description="Networks of the proxies in front of edge. Default: none, so nobody can claim another address."),
        example(["10.0.0.0/8"]),
    ] = field(default_factory=list, name="from")
