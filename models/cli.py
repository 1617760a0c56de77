"""`bearwire models`: look at, check, measure, explain and calibrate model bundles; train, tune and export new ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from models import train_cli

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.compare import Comparison
    from models.labelled import Labelled
    from models.predictor import Predictor


@click.group("models")
def models() -> None:
    """Look at, check, measure, explain and calibrate model bundles; train, tune and export new ones."""


for each in (train_cli.train, train_cli.search, train_cli.export, train_cli.add_words):
    models.add_command(each)

BUNDLE = click.argument("bundle", required=False, type=click.Path(path_type=Path))
PROVIDER = click.option("--provider", default="cpu", show_default=True, help="cpu, cuda or tensorrt")
TASK = click.option("--task", default="sentiment", show_default=True, help="which of the bundle's tasks")
LABELLED_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LABELLED_HELP = "labelled texts: .csv, .jsonl (both .gz too) or .parquet"
DATA = click.option("--data", required=True, type=LABELLED_FILE, help=LABELLED_HELP)
DATA_OR_RUN = click.option("--data", type=LABELLED_FILE, help=f"{LABELLED_HELP}; or --run")
RUN = click.option(
    "--run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="measure on all that this training run held back, of every task or that of --task, in place of --data",
)
TEXT_COLUMN = click.option("--text-column", default="text", show_default=True)
LABEL_COLUMN = click.option("--label-column", default="label", show_default=True)
LABEL_NAMES = click.option(
    "--label", "label_names", multiple=True, metavar="WRITTEN=LABEL", help="what a value of the label column means"
)
JSON = click.option("--json", "as_json", is_flag=True, help="machine-readable output")


@models.command()
@BUNDLE
@JSON
def info(bundle: Path | None, as_json: bool) -> None:
    """What a bundle is: its tasks, limits, parent, data, metrics. In a pipe as Markdown."""
    loaded = _load(bundle)
    if as_json:
        _print_json(loaded.manifest)
        return
    from models.model_card import render_model_card

    click.echo(f"version  {loaded.version_id}\npath     {loaded.path}\n")
    card = render_model_card(loaded.manifest)
    if not sys.stdout.isatty():
        click.echo(card, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    plain = "".join(each if each.isprintable() or each == "\n" else "?" for each in card)
    Console().print(Markdown(plain, hyperlinks=False))


@models.command()
@BUNDLE
@PROVIDER
def verify(bundle: Path | None, provider: str) -> None:
    """Check every file, the graph, and that scores do not depend on batch mates. Exit status 1 if not in order."""
    from models.verify import batch_tolerance, verify_predictor

    predictor = _predictor(_load(bundle), provider)
    problems = verify_predictor(predictor)
    for problem in problems:
        click.echo(f"not in order: {problem}", err=True)
    if problems:
        raise SystemExit(1)
    files = predictor.bundle.manifest.files
    size = sum(entry.bytes for entry in files.values()) / 1e6
    found = "graph and batch invariance in order"
    if batch_tolerance(predictor) is None:
        found = f"graph in order; batch invariance is not promised for fp16 on provider {predictor.provider_in_use}"
    click.echo(f"{predictor.version_id}: {len(files)} files ({size:.1f} MB), {found}")


@models.command()
@BUNDLE
@DATA_OR_RUN
@RUN
@TASK
@TEXT_COLUMN
@LABEL_COLUMN
@LABEL_NAMES
@PROVIDER
@click.option("--robustness", is_flag=True, help="also under typos, upper case and missing punctuation")
@JSON
def evaluate(
    bundle: Path | None,
    data: Path | None,
    run: Path | None,
    task: str,
    text_column: str,
    label_column: str,
    label_names: tuple[str, ...],
    provider: str,
    robustness: bool,
    as_json: bool,
) -> None:
    """Accuracy, macro F1, calibration, and the confusion matrix of a bundle on labelled texts."""
    from models.evaluate import evaluate as measure
    from models.evaluate import report

    _check_data_or_run(data, run)
    predictor = _predictor(_load(bundle), provider)
    if data is None:
        assert run is not None
        _evaluate_run(predictor, run, task if _given("task") else None, robustness, as_json)
        return
    rows = _labelled(predictor.labels, data, task, text_column, label_column, label_names)
    labels = predictor.labels[task]
    result = measure(predictor.predict(rows.texts).of_all(task), rows.truth, task=task, labels=labels)
    noisy = {}
    if robustness:
        from models.robustness import robustness as under_noise
        from models.robustness import robustness_table

        noisy = under_noise(lambda texts: predictor.predict(texts).of_all(task), rows, result)
    if as_json:
        import msgspec

        _print_json({**msgspec.to_builtins(result), **({"robustness": noisy} if robustness else {})})
        return
    click.echo(f"{predictor.version_id}, {task}, {data}\n\n{report(result)}")
    if robustness:
        click.echo(f"\n{robustness_table(result, noisy)}")


@models.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@DATA_OR_RUN
@RUN
@TASK
@TEXT_COLUMN
@LABEL_COLUMN
@LABEL_NAMES
@PROVIDER
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="exit status 1 where accuracy differs by more points than this, such as 0.3; with --run on any data set",
)
@JSON
def compare(
    first: Path,
    second: Path,
    data: Path | None,
    run: Path | None,
    task: str,
    text_column: str,
    label_column: str,
    label_names: tuple[str, ...],
    provider: str,
    within: float | None,
    as_json: bool,
) -> None:
    """Two bundles on the same labelled texts: agreement, accuracy, macro F1, calibration, speed."""
    from models.compare import compare as measure
    from models.compare import points_apart

    _check_data_or_run(data, run)
    one, other = _predictor(_load(first), provider), _predictor(_load(second), provider)
    if data is None:
        assert run is not None
        _compare_run(one, other, run, task if _given("task") else None, within, as_json)
        return
    rows = _labelled(one.labels, data, task, text_column, label_column, label_names)
    try:
        result = measure(one, other, rows, task)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        _print_json(result)
    else:
        _show_comparison(one.version_id, other.version_id, result)
    if within is not None and points_apart(result) > within + 1e-9:
        raise click.ClickException(f"accuracy differs by {points_apart(result):.2f} points, more than {within:g}")


def _show_comparison(one: str, other: str, result: Comparison) -> None:
    width = max(len(one), len(other))
    click.echo(f"{'':{width}}  accuracy  macro F1     ECE   texts/s")
    for name, score, speed in (
        (one, result.first, result.first_texts_per_second),
        (other, result.second, result.second_texts_per_second),
    ):
        click.echo(f"{name:{width}}  {score.accuracy:8.4f}  {score.macro_f1:8.4f}  {score.ece:6.4f}  {speed:8.0f}")
    click.echo(
        f"\nsame label for {result.agreement:.2%} of {result.rows} texts; probabilities differ by "
        f"{result.mean_difference:.4f} on average, {result.largest_difference:.4f} at most"
    )


@models.command()
@click.argument("text")
@click.option("--bundle", type=click.Path(path_type=Path), help="default: the shipped bundle")
@TASK
@click.option("--label", help="default: the label the model chose")
@PROVIDER
@JSON
def explain(text: str, bundle: Path | None, task: str, label: str | None, provider: str, as_json: bool) -> None:
    """Which words of TEXT made the model say so."""
    from models.explain import explain as attribute

    if not any(each.isprintable() and not each.isspace() for each in text):
        raise click.UsageError("TEXT has no visible character")
    predictor = _predictor(_load(bundle), provider)
    try:
        words = attribute(predictor, text, task, label)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    row = predictor.predict([text]).probabilities[task][0]
    labels = predictor.labels[task]
    shown = label or labels[int(row.argmax())]
    probability = float(row[labels.index(shown)])
    if as_json:
        _print_json({"task": task, "label": shown, "probability": probability, "words": words})
        return
    click.echo(f"{task}: {shown} ({probability:.3f})")
    for word in sorted(words, key=lambda word: (-word.weight, word.start)):
        click.echo(f"{word.weight:+8.3f}  {word.word}")


def _given(*names: str) -> list[str]:
    """The options among these parameters of the command that stand on the command line."""
    context = click.get_current_context()
    return [
        each.opts[0]
        for each in context.command.params
        if each.name in names and context.get_parameter_source(each.name) is not ParameterSource.DEFAULT
    ]


def _check_data_or_run(data: Path | None, run: Path | None) -> None:
    if (data is None) == (run is None):
        raise click.UsageError("name either labelled texts with --data or a training run with --run")
    if run is not None and (surplus := _given("text_column", "label_column", "label_names")):
        raise click.UsageError(f"{' and '.join(surplus)}: with --data only; a run knows its own columns and labels")


def _evaluate_run(predictor: Predictor, run: Path, task: str | None, robustness: bool, as_json: bool) -> None:
    from models.evaluate_run import evaluate_run, evaluation_table
    from models.labelled import LabelledError

    try:
        measured = evaluate_run(predictor, run, task=task, noise=robustness)
    except LabelledError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        _print_json(measured)
        return
    click.echo(f"{predictor.version_id}, what {run} held back\n\n{evaluation_table(measured)}")


def _compare_run(
    one: Predictor, other: Predictor, run: Path, task: str | None, within: float | None, as_json: bool
) -> None:
    from models.compare_run import compare_run, comparison_table, too_far_apart
    from models.labelled import LabelledError

    try:
        compared = compare_run(one, other, run, task=task)
    except LabelledError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        _print_json(compared)
    else:
        click.echo(f"first   {one.version_id}\nsecond  {other.version_id}\n\n{comparison_table(compared)}")
    apart = too_far_apart(compared, within) if within is not None else []
    if apart:
        raise click.ClickException(f"accuracy differs by more than {within:g} points: {'; '.join(apart)}")


@models.command()
@BUNDLE
@DATA
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="the new bundle")
@TASK
@TEXT_COLUMN
@LABEL_COLUMN
@LABEL_NAMES
@click.option("--version", help="version of the new bundle; else the old one's")
def calibrate(
    bundle: Path | None,
    data: Path,
    output: Path,
    task: str,
    text_column: str,
    label_column: str,
    label_names: tuple[str, ...],
    version: str | None,
) -> None:
    """Write a bundle anew, calibrated on labelled texts.

    Its probabilities then match how often it is right about such texts, and no text gets another label.
    For bundles that were exported from Hugging Face, and for texts unlike those that a bundle was calibrated on. The
    model must not have learned from the texts. What is printed was measured on each half of them under a calibration
    fitted on the other half; what is written was fitted on all.
    """
    from models.bundle import BundleError, plain_name
    from models.calibrate import CalibrationError, fit, report
    from models.calibrate import calibrate as apply
    from models.rewrite import check_free, rewrite

    try:
        check_free(output)
        if version is not None:
            plain_name("--version", version)
    except (BundleError, FileExistsError) as error:
        raise click.ClickException(f"no bundle was written: {error}") from error
    loaded = _load(bundle)
    labels = {each.name: each.labels for each in loaded.tasks}
    rows = _labelled(labels, data, task, text_column, label_column, label_names)
    try:
        fitted = fit(loaded, rows, task)
        written = rewrite(loaded, output, lambda copy: apply(copy, fitted, data.name), version=version)
    except (CalibrationError, BundleError, FileExistsError) as error:
        raise click.ClickException(f"no bundle was written: {error}") from error
    found = fitted.calibration
    click.echo(f"{task} on {len(rows.texts)} texts: temperature {found.temperature:.4g}, exponent {found.exponent:.4g}")
    click.echo(f"fitted on one half, measured on the other: {report(fitted)}")
    click.echo(f"{written.version_id} in {output}")


def _load(path: Path | None) -> Bundle:
    from models.bundle import Bundle, BundleError, default_bundle_path

    try:
        return Bundle.load(default_bundle_path() if path is None or path == Path("default") else path)
    except BundleError as error:
        raise click.ClickException(str(error)) from error


def _predictor(bundle: Bundle, provider: str) -> Predictor:
    from models.bundle import BundleError
    from models.predictor import Predictor
    from models.providers import ProviderError

    try:
        predictor = Predictor(bundle, provider=provider, cache_entries=0)
        predictor.warm_up()
        return predictor
    except (BundleError, ProviderError) as error:
        raise click.ClickException(str(error)) from error


def _labelled(
    labels: Mapping[str, tuple[str, ...]], data: Path, task: str, text: str, label: str, label_names: tuple[str, ...]
) -> Labelled:
    from models.labelled import LabelledError, read_labelled

    if task not in labels:
        raise click.ClickException(f"no task {task!r}; the bundle has {', '.join(labels)}")
    odd = [pair for pair in label_names if "=" not in pair]
    if odd:
        raise click.ClickException(f"--label {odd[0]} is not of the form WRITTEN=LABEL")
    names = dict(pair.split("=", 1) for pair in label_names)
    known = {name.casefold() for name in labels[task]}
    for written, meant in names.items():
        if meant.casefold() not in known:
            raise click.ClickException(
                f"--label {written}={meant}: {meant!r} is not a label of the task ({', '.join(labels[task])})"
            )
    try:
        rows = read_labelled(data, labels[task], text=text, label=label, names=names)
    except LabelledError as error:
        raise click.ClickException(str(error)) from error
    for written in (each for each in names if each not in rows.written):
        click.echo(f"bearwire: note: --label {written}={names[written]}: {data} has no {written!r}", err=True)
    return rows


def _print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
