"""What the demo says in the terminal. Whatever comes from a text is escaped: no markup, no control characters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from alerts.records import AlertRecord
from streamer.demo.judging import Judgement, Verdict
from streamer.demo.tally import Tally
from streamer.escaping import escaped

_COLOURS = {"warning": "yellow", "high": "dark_orange", "critical": "red"}
_TEXTS_SHOWN = 3


class Screen:
    """Prints the demo's course; on a terminal a bar at the bottom follows the stream's own time."""

    def __init__(self, console: Console, messages: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("messages"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._bar = self._progress.add_task("", total=messages)
        self._day = ""

    def opening(self, page: str, messages: int, days: int) -> None:
        """What is about to happen, and where the page is."""
        self._console.print(
            Panel(
                Text.assemble(
                    f"{messages:,} messages of {days} days of invented news go through a broker of the demo's own "
                    "and one real worker. Alerts appear as they fire.\n\nThe page: ",
                    (page, "bold cyan"),
                ),
                title="Bearwire",
                title_align="left",
                expand=False,
            )
        )

    def started(self) -> None:
        """The stream begins."""
        self._progress.start()

    def published(self, count: int, event_ms: int) -> None:
        """So many messages are out; the news has reached this time."""
        day = _when(event_ms, "%A %d %B")
        if day != self._day:
            self._day = day
            self._console.print(Text(f"── {day} ", style="dim"))
        self._progress.update(self._bar, completed=count, description=_when(event_ms, "%a %H:%M"))

    def alert(self, record: AlertRecord) -> None:
        """One change of an alert: in full when it fires, in a line otherwise."""
        if record.change == "fired":
            self._console.print(_fired(record))
        elif record.change in ("severity_up", "severity_down", "resolved"):
            word = "resolved" if record.change == "resolved" else f"now {record.severity}"
            self._console.print(Text(f"  {_when(record.at_ms)}  {_series(record.series)}: {word}", style="dim"))

    def ended(self) -> None:
        """The stream is over; the bar goes."""
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """One plain line."""
        self._console.print(Text(sentence))

    def summary(self, tally: Tally, changes: int, fired: int, seconds: float, judgement: Judgement) -> None:
        """The figures of the whole run, and what the alerts were worth."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in tally.reasons.most_common())
        p50, p99 = tally.latency_ms(50, 99) or (float("nan"), float("nan"))
        table = Table.grid(padding=(0, 2))
        for name, value in (
            ("texts in", f"{len(tally.published):,}"),
            ("scored", f"{tally.count('scored'):,}"),
            ("late", f"{tally.count('late'):,}"),
            ("dead letters", f"{tally.count('dead'):,}  ({reasons})"),
            ("alerts", f"{fired}  ({changes} changes)"),
            (
                "texts per second",
                f"{len(tally.published) / seconds:,.0f}  (the stream is paced and took {seconds:.1f} s)",
            ),
            ("produce to score", f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms"),
        ):
            table.add_row(Text(name, style="bold"), Text(value))
        self._console.print(Panel(Group(table, Text(), _surges(judgement)), title="Summary", title_align="left"))


def _fired(record: AlertRecord) -> RenderableType:
    seen = record.observed
    colour = _COLOURS.get(record.severity, "red")
    head = Text.assemble(
        (f"▲ {record.severity.upper()} ", f"bold {colour}"),
        (f"{_series(record.series)} ", "bold"),
        (f"at {_when(record.at_ms)}", "dim"),
    )
    figures = Text(
        f"{seen.negative:.0f} negative of {seen.documents:.0f} texts in {seen.window}, "
        f"about {seen.expected_negative:.2g} expected; "
        f"{_counted(record.sources, 'independent source')}, {_counted(record.copies, 'copy', 'copies')} folded in"
    )
    texts = Table.grid(padding=(0, 1))
    for strongest in record.texts[:_TEXTS_SHOWN]:
        source = "" if strongest.source is None else f"  {escaped(strongest.source, 40)}"
        texts.add_row(
            Text(f"{strongest.negative:.0%}", colour), Text.assemble(escaped(strongest.text, 160), (source, "dim"))
        )
    return Group(head, Padding(Group(figures, texts), (0, 0, 0, 2)))


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _surges(judgement: Judgement) -> RenderableType:
    lines = [Text("the stream's true surges", style="bold"), *map(_verdict, judgement.verdicts)]
    nothing = judgement.for_nothing
    lines.append(Text(f"  raised for nothing: {len(nothing)}", style="yellow" if nothing else "green"))
    lines += [Text(f"    {_series(record.series)} at {_when(record.at_ms)}", style="dim") for record in nothing]
    return Group(*lines)


def _verdict(verdict: Verdict) -> Text:
    surge = verdict.surge
    if surge.kind == "positive":
        quiet = verdict.first is None
        said = "no alert, and none was due" if quiet else "alerted, although its texts are positive"
        return Text(f"  {surge.name} (positive): {said}", style="green" if quiet else "red")
    if verdict.first is None or verdict.delay_ms is None:
        return Text(f"  {surge.name} ({surge.shape}): missed", style="red")
    more = f", {len(verdict.others)} further alerts of the same story" if verdict.others else ""
    return Text(
        f"  {surge.name} ({surge.shape}): caught {_duration(verdict.delay_ms)} after its first text "
        f"in {_series(verdict.first.series)}{more}",
        style="green",
    )


def _series(key: str) -> str:
    parts: Sequence[str] = [part.replace(":", " ", 1) for part in key.replace("|topic:", "\ntopic:").split("\n")]
    return escaped(" on ".join(parts), 80)


def _when(at_ms: int, shape: str = "%a %d %b %H:%M UTC") -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(shape)


def _duration(ms: int) -> str:
    minutes = round(ms / 60_000)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
