"""`bearwire demo`."""

from __future__ import annotations

import asyncio

import click

DEFAULT_SPEED = 18_000.0


class Speed(click.ParamType):
    """`18000` or `18000x` times real time, or `max` (None)."""

    name = "speed"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """The factor. Fails, with what was expected, for anything else."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        if text == "max":
            return None
        try:
            speed = float(text.removesuffix("x"))
        except ValueError:
            speed = 0.0
        if not 1.0 <= speed < float("inf"):
            self.fail(
                f"{value!r} is no speed: expected a number of at least 1, such as 18000 or 600x, or max", param, ctx
            )
        return speed


@click.command()
@click.option(
    "--speed",
    type=Speed(),
    default=DEFAULT_SPEED,
    show_default="18000x, six days in half a minute",
    metavar="FACTOR|max",
    help="How many times faster than real time the news is published.",
)
@click.option(
    "--bundle",
    default="default",
    metavar="DIRECTORY",
    help="The model bundle to show; the one that comes with Bearwire where not given.",
)
@click.option("--keep", is_flag=True, help="Leave the worker running at the end, to look at its page; Ctrl-C ends it.")
def demo(speed: float | None, bundle: str, keep: bool) -> None:
    """Show it all: a broker in memory, one worker, a stream of invented news, and its alerts as they fire.

    Needs nothing but the extra `demo` of the distribution. Ends by itself with a summary. Exit status 1: something
    broke, the message says what.
    """
    from rich.console import Console

    from streamer.demo.runner import Demo
    from streamer.demo.screen import Screen
    from streamer.demo.stream import read_messages
    from streamer.demo.surges import read_surges

    messages = read_messages()
    screen = Screen(Console(highlight=False), len(messages))
    try:
        asyncio.run(Demo(messages, read_surges(), screen, speed=speed, bundle=bundle, keep=keep).run())
    except asyncio.CancelledError:
        raise click.Abort from None
