"""The command line `bearwire`: a table of commands, each imported only when it is called."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Collection
from importlib import import_module
from typing import Final, NamedTuple

import click

from streamer import __version__
from streamer.escaping import escaped_lines

FAILURE: Final = 1
USAGE: Final = 2
_OUR_PACKAGES: Final = frozenset({"streamer", "models", "alerts"})


class Entry(NamedTuple):
    """Where a command lives, and its line in `bearwire --help` (so that help imports nothing)."""

    module: str
    attribute: str
    summary: str


COMMANDS: Final[dict[str, Entry]] = {
    "demo": Entry("streamer.commands.demo", "demo", "Show it all: a broker, a worker, a news stream, alerts."),
    "worker": Entry("streamer.commands.worker", "worker", "Score documents from Kafka and raise alerts."),
    "classify": Entry("streamer.commands.classify", "classify", "Score texts from a file, without Kafka."),
    "replay": Entry("streamer.commands.replay", "replay", "Publish documents from a file to Kafka."),
    "backtest": Entry("streamer.commands.backtest", "backtest", "Run the worker's core over a file, in one process."),
    "detect": Entry("alerts.cli", "detect", "Find surges in any series of counts."),
    "rules": Entry("alerts.cli", "rules", "Check and test alert rules."),
    "silences": Entry("streamer.commands.silences", "silences", "Keep alerts from being told about, for a while."),
    "alerts": Entry("streamer.commands.alerts", "alerts", "See alerts as they come."),
    "sinks": Entry("streamer.commands.sinks", "sinks", "Sinks, which deliver notifications: list them, send a test."),
    "dead-letters": Entry("streamer.commands.dead_letters", "dead_letters", "List, export and replay dead letters."),
    "models": Entry("models.cli", "models", "Inspect, train, export and compare models."),
    "config": Entry("streamer.commands.config", "config", "Check and show the configuration."),
    "doctor": Entry("streamer.commands.doctor", "doctor", "Say what is and is not in order."),
}


class CommandTable(click.Group):
    """A group whose commands are listed from `COMMANDS` and loaded on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, or None for a name that is not in the table."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else load_command(cmd_name, entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and an unknown name, here or in the group that is named, is answered with the nearest."""
        _refuse_unknown(ctx, COMMANDS, args)
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, click.Group):
            _refuse_unknown(click.Context(command, parent=ctx, info_name=name), command.commands, rest)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing what is in it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _refuse_unknown(ctx: click.Context, known: Collection[str], args: list[str]) -> None:
    import difflib

    if args and args[0] not in known and not args[0].startswith("-"):
        near = difflib.get_close_matches(args[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" `{ctx.command_path} --help` lists the commands."
        ctx.fail(f"No such command {args[0]!r}.{hint}")


def load_command(name: str, entry: Entry) -> click.Command:
    """Imports a command; where its module is not installed, says so instead."""
    try:
        module = import_module(entry.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in _OUR_PACKAGES:
            raise click.ClickException(f"`bearwire {name}` is not part of this installation ({missing})") from None
        raise click.ClickException(
            f"`bearwire {name}` needs the package {missing!r}, which is not installed; "
            "see the extras of the distribution `bearwire`"
        ) from None
    command = getattr(module, entry.attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{entry.module}.{entry.attribute} is no click command")
    return command


@click.command(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command explains itself with --help. Exit status: 0 done, 1 failed, 2 wrong usage or configuration.",
)
@click.version_option(__version__, prog_name="bearwire", message="%(prog)s %(version)s")
def cli() -> None:
    """Bearwire scores finance and news text from Kafka and warns when negative text surges.

    \b
    bearwire demo                      see it work, with a broker of its own
    bearwire config check              is bearwire.yaml right?
    bearwire worker                    run against the Kafka in bearwire.yaml
    bearwire classify news.jsonl       score a file
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits. Errors that explain themselves are printed without a traceback.

    SIGTERM leaves like Ctrl-C does, cleaning up; the worker, the demo and replay have their own idea of it.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    status = run(arguments)
    if status and "streamer.worker.runtime" in sys.modules:
        # The last line is to be why the worker ended, and what the interpreter would collect now complains: an event
        # loop of a client that nobody closed, say.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    try:
        if "_BEARWIRE_COMPLETE" in os.environ:
            cli.main(arguments, prog_name="bearwire")
        # Not `main`: it turns a broken pipe into an exit of its own before we see it.
        with cli.make_context("bearwire", sys.argv[1:] if arguments is None else list(arguments)) as context:
            cli.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not trip over the same pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        return _explain(error)


def _show(error: click.ClickException) -> None:
    """As click does, with our prefix in front of the message in place of its own."""
    shown, message = io.StringIO(), error.format_message()
    error.show(shown)
    click.echo(escaped_lines(shown.getvalue().removesuffix(f"Error: {message}\n")), err=True, nl=False)
    _say(message)


def _say(message: str) -> None:
    click.echo(f"bearwire: {escaped_lines(message)}", err=True)


def _explain(error: Exception) -> int:
    home = type(error).__module__.partition(".")[0]
    if home in _OUR_PACKAGES:
        is_usage = type(error).__name__ in ("ConfigError", "RulesError")
        for line in (str(error).rstrip("\n") or type(error).__name__).split("\n"):
            _say(line)
        return USAGE if is_usage else FAILURE
    if home == "aiokafka":
        from streamer.kafka.client import last_words

        _say(f"{last_words(error)}; `bearwire doctor` looks closer")
        return FAILURE
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        _say(f"{named}{error.strerror}")
        return FAILURE
    raise error


if __name__ == "__main__":
    main()
