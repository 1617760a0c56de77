"""`bearwire models train`, `search`, `export` and `add-words`: the commands that need the extra [train] to run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.export import Precision

RECIPE = click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
DATA = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="where the recipe's data lie; without it, beside the recipe",
)
THREADS = click.option("--threads", type=click.IntRange(min=0), default=0, help="CPU threads, 0 for torch's own")


class TrainCommand(click.Command):
    """Says how to install the extra where a package of it is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`bearwire models {self.name}` needs the Python package {error.name!r}: "
                "install Bearwire with its extra [train]"
            ) from error


@click.command(cls=TrainCommand)
@RECIPE
@DATA
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="the run")
@click.option(
    "--answers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="what the recipe's teacher said (soft labels), kept by an earlier run, in place of training and asking it",
)
@THREADS
def train(recipe: Path, data: Path | None, output: Path, answers: Path | None, threads: int) -> None:
    """Fine-tune a model as RECIPE (YAML) says. Started again after a kill, it goes on."""
    from models.labelled import LabelledError
    from models.train import train as run
    from models.training.recipe import RecipeError
    from models.training.recipe_file import load_recipe

    try:
        run(
            load_recipe(recipe),
            output,
            data=data or recipe.parent,
            recipe_directory=recipe.parent,
            answers=answers,
            threads=threads,
            say=click.echo,
        )
    except (RecipeError, LabelledError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"finished: {output}; export it with `bearwire models export {output} -o DIR`")


@click.command(cls=TrainCommand)
@RECIPE
@DATA
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="the study")
@click.option("--trials", type=click.IntRange(min=1), help="end after so many, in place of the recipe's search.trials")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="end after so long; default: search.hours")
@THREADS
def search(
    recipe: Path, data: Path | None, output: Path, trials: int | None, hours: float | None, threads: int
) -> None:
    """Tune the hyper-parameters of RECIPE (YAML) over its `search.space`. Started again after a kill, it goes on."""
    from models.labelled import LabelledError
    from models.search import BEST, table
    from models.search import search as run
    from models.training.recipe import RecipeError
    from models.training.recipe_file import read_recipe

    place = data or recipe.parent
    try:
        found = run(
            read_recipe(recipe),
            output,
            data=place,
            recipe_directory=recipe.parent,
            where=str(recipe),
            trials=trials,
            hours=hours,
            threads=threads,
            say=click.echo,
        )
    except (RecipeError, LabelledError) as error:
        raise click.ClickException(str(error)) from error
    if not found:
        raise click.ClickException("no trial was finished; start it again to go on, with more --hours")
    click.echo(f"\n{table(found)}\n")
    if found[0].failed:
        raise click.ClickException("every trial failed; choose another output and `search.space`")
    click.echo(f"train the best with `bearwire models train {output / BEST} --data {place} -o RUN`")


@click.command(cls=TrainCommand)
@click.argument("source")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="the bundle")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="int8", show_default=True)
@click.option("--name", help="name of the bundle; else that of the recipe, Hugging Face id or directory")
@click.option("--version", default="1.0.0", show_default=True, help="version of the bundle")
@click.option("--task", help="what the one task of a Hugging Face model is called")
@click.option(
    "--language",
    "languages",
    multiple=True,
    help="a language that a Hugging Face model reads, such as zh; may be repeated; default: en",
)
@click.option("--licence", default="", help="what a Hugging Face model may be used under, such as Apache-2.0")
@click.option("--revision", default="", help="branch, tag, commit or pull request (refs/pr/N) of a Hugging Face id")
@click.option(
    "--before-rounding",
    is_flag=True,
    help="what a run with `quantisation` was before it learned to round, to compare the bundle with",
)
@click.option(
    "--texts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="one text per line to compare the export with torch on",
)
def export(
    source: str,
    output: Path,
    precision: str,
    name: str | None,
    version: str,
    task: str | None,
    languages: tuple[str, ...],
    licence: str,
    revision: str,
    before_rounding: bool,
    texts: Path | None,
) -> None:
    """Write SOURCE (a training run, a Hugging Face directory or id) as a verified ONNX bundle."""
    from models.bundle import BundleError
    from models.export import export as write
    from models.export_source import ExportError
    from models.labelled import LabelledError, read_texts
    from models.training.recipe import RecipeError

    try:
        lines = read_texts(texts) if texts else None
        written = write(
            source,
            output,
            precision=cast("Precision", precision),
            name=name,
            version=version,
            created=datetime.now(UTC).date().isoformat(),
            task=task,
            languages=languages,
            licence=licence,
            revision=revision,
            before_rounding=before_rounding,
            texts=lines,
            say=click.echo,
        )
    except (ExportError, BundleError, RecipeError, LabelledError) as error:
        raise click.ClickException(f"no bundle was written: {error}") from error
    click.echo(f"{written.bundle.version_id} in {output}")


@click.command("add-words", cls=TrainCommand)
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="the new bundle")
@click.option(
    "--texts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="one text per line to learn from, without labels; else the texts that ship with Bearwire (English)",
)
@click.option("--version", help="version of the new bundle; else the old one's")
def add_words(bundle: Path, output: Path, texts: Path | None, version: str | None) -> None:
    """Write BUNDLE anew so that it also scores the words that make a text negative, in the same pass.

    `export` does this by itself; this is for bundles that have none, exported before or left without. One that scores
    words already is refused.
    """
    from models.bundle import SENTIMENT_LABELS, Bundle, BundleError, plain_name
    from models.labelled import LabelledError, read_texts
    from models.rewrite import check_free, rewrite
    from models.word_scores_fit import add_word_scores, word_texts

    try:
        check_free(output)
        if version is not None:
            plain_name("--version", version)
        lines = read_texts(texts) if texts else word_texts()
        source = Bundle.load(bundle)
        source.task("sentiment")
        if source.manifest.word_scores is not None:
            raise BundleError(f"{bundle} scores words already; start from the bundle before")

        def add(copy: Bundle) -> Bundle:
            added = add_word_scores(copy, lines, task="sentiment", label=SENTIMENT_LABELS[0], say=click.echo)
            if added.manifest.word_scores is None:
                raise BundleError(f"{bundle} cannot be given words to score")
            return added

        written = rewrite(source, output, add, version=version)
    except (BundleError, LabelledError, FileExistsError) as error:
        raise click.ClickException(f"no bundle was written: {error}") from error
    click.echo(f"{written.version_id} in {output}")
