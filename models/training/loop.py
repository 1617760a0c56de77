"""The training run: steps over epochs, validation, checkpoints, and the averaged result.

run/recipe.json        what was asked
run/cleaning.json      what cleaning found, per task
run/teachers.json      what models that teach a student, and that other runs trained, were made of
run/learned.keys       hashes of the texts that the run and those models have learned
run/member-0/          one trained member: epochs.jsonl, TensorBoard events, checkpoint/, its model
run/model.safetensors  the result, with config.json, tokenizer.json, temperatures and report.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.evaluate import evaluate
from models.probabilities import softmax
from models.training.batches import Batch, epoch_batches, pad_id
from models.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from models.training.cleaning import Split, between_tasks, clean_and_split
from models.training.compute import Compute
from models.training.losses import LossFunction
from models.training.measure import predict_logits, report_table
from models.training.network import Classifier, HeadLayout, load_classifier, new_classifier, save_classifier
from models.training.optimisation import (
    adapter_state,
    add_lora,
    allocate_ranks,
    freeze,
    make_optimiser,
    merge_lora,
    orthogonality,
    pace_ranks,
    rate_factor,
    restore_adapter,
    set_rates,
)
from models.training.pruning import TEXTS, narrow_feed_forward
from models.training.quantised import CALIBRATION_TEXTS, round_tables, set_ranges
from models.training.recipe import Quantisation, Recipe, RecipeError
from models.training.sources import read_source

EPOCHS = "epochs.jsonl"
Say = Callable[[str], None]
Loss = Callable[[dict[str, Tensor], Batch], Tensor]


class Data(NamedTuple):
    """The cleaned examples of every task of a recipe, by task name; and `unlabelled` texts, for a teacher to answer."""

    splits: dict[str, Split]
    unlabelled: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """All texts to train on, in the order of tasks and examples."""
        return [e.text for split in self.splits.values() for e in split.train] + [*self.unlabelled]


def load_data(recipe: Recipe, roots: dict[str, Path], say: Say) -> Data:
    """Read, clean and split every task's sources, saying what was found."""
    splits = {}
    for task in recipe.tasks:
        examples = [e for source in task.sources for e in read_source(task, source, roots, say)]
        splits[task.name] = clean_and_split(
            task, examples, validation=recipe.validation, seed=recipe.seed, apart=recipe.split == "apart"
        )
    splits = between_tasks(splits)
    for task in recipe.tasks:
        found = splits[task.name].report
        say(
            f"{task.name}: {found.rows} rows, {found.duplicates} duplicates and {found.conflicting} contradictory "
            f"rows dropped, {found.empty} empty, "
            f"{found.html_entities} with HTML entities, {found.urls} with web addresses, "
            f"{found.cashtags} with cashtags, "
            f"{found.leaked} leaks into validation dropped, {found.near_across} near-duplicates left on both sides, "
            f"{found.measured_overlap} measured rows also in training, {found.measured_validation} in validation, "
            f"{found.other_tasks} rows to validate or measure on that another task learns from, "
            f"{found.held_duplicates} duplicates and {found.held_conflicting} contradictory rows kept in "
            "given validation and measured sets; "
            f"{sum(found.train.values())} to train, {sum(found.validation.values())} to validate"
        )
    return Data(splits)


def train_member(
    recipe: Recipe, data: Data, directory: Path, *, member: int, compute: Compute, say: Say, **options: Any
) -> None:
    """Train one member on the labels and leave its model in `directory`; goes on from a checkpoint that lies there."""
    classifier, tokenizer = untrained(recipe, data, compute)
    loss = LossFunction(recipe, data.splits)
    fit(recipe, data, directory, classifier, tokenizer, loss, member, compute, say, **options)


def untrained(recipe: Recipe, data: Data, compute: Compute) -> tuple[Classifier, str]:
    """What a fit begins with, and its tokenizer.json: the base model, narrowed where asked for, and new heads."""
    classifier, tokenizer = new_classifier(recipe)
    if recipe.feed_forward is not None:
        narrow_feed_forward(
            classifier,
            Tokenizer.from_str(tokenizer),
            some_texts(recipe, data, TEXTS),
            width=recipe.feed_forward,
            max_tokens=recipe.train_tokens,
            device=compute.device,
        )
    return classifier, tokenizer


def adapt(classifier: Classifier, recipe: Recipe) -> None:
    """Freeze what is to stand still, and put adapters on where asked for."""
    freeze(classifier, recipe.freeze)
    if recipe.lora is not None:
        add_lora(classifier, recipe.lora, recipe.freeze)


def some_texts(recipe: Recipe, data: Data, number: int) -> list[str]:
    """At most `number` texts to train on, of all tasks, chosen by the recipe's seed."""
    texts = data.texts[: len(data.texts) - len(data.unlabelled)]
    chosen = np.random.default_rng(recipe.seed).choice(len(texts), min(number, len(texts)), replace=False)
    return [texts[at] for at in sorted(chosen.tolist())]


def fit(
    recipe: Recipe,
    data: Data,
    directory: Path,
    classifier: Classifier,
    tokenizer_json: str,
    loss_of: Loss,
    member: int,
    compute: Compute,
    say: Say,
    *,
    called: str = "",
    checkpoint_steps: int = 200,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Move `classifier` so that `loss_of` falls over the recipe's epochs and leave it in `directory`.

    `member` tells apart the data orders of models that share a recipe; what is said of it names it so, or as it is
    `called`. `after_epoch` is told how many epochs are done once each is validated and saved, and where a run goes on;
    what it raises ends the run, which can go on later. Raises RecipeError where the weights run away.
    """
    layout, called = layout_of(recipe), called or f"member {member}"
    tokenizer = Tokenizer.from_str(tokenizer_json)
    texts = len(data.texts)
    adapt(classifier, recipe)
    classifier.to(compute.device)
    optimiser = make_optimiser(classifier, recipe.optimiser)
    checkpoint = directory / "checkpoint"
    losses = {name: torch.full((texts,), torch.nan) for name in ("now", "before")}
    progress = load_checkpoint(checkpoint, classifier, optimiser, losses) or Progress(0, 0, 0, -1.0, 0)
    restore_adapter(classifier, losses)
    if progress.epoch or progress.step:
        say(f"{called}: going on in epoch {progress.epoch + 1} after step {progress.step}")
    if progress.epoch and after_epoch is not None:
        after_epoch(progress.epoch)

    def saved() -> dict[str, Tensor]:
        return {**losses, **adapter_state(classifier)}

    classifier.train()
    with _board(directory) as board:
        while progress.epoch < recipe.epochs:
            epoch = progress.epoch
            if recipe.patience and epoch and epoch - 1 - progress.best_epoch >= recipe.patience:
                say(f"{called}: stopped early, epoch {progress.best_epoch + 1} was best")
                break
            batches = _epoch(recipe, data, tokenizer, member, epoch, losses["before"].numpy())
            before = progress.steps_before
            pace_ranks(classifier, before, before + len(batches) * (recipe.epochs - epoch))
            for step in range(progress.step, len(batches)):
                torch.manual_seed(hash((recipe.seed, member, epoch, step)) % (1 << 62))
                done = (epoch + step / len(batches)) / recipe.epochs
                set_rates(optimiser, rate_factor(done, recipe.optimiser))
                each = _step(
                    classifier, optimiser, batches[step], loss_of, recipe, compute, progress.steps_before + step
                )
                if not bool(torch.isfinite(each).all()):
                    raise _run_away(f"{called}, epoch {epoch + 1}, step {step}")
                losses["now"][batches[step].text] = each
                if step % 50 == 0:
                    mean = float(each.mean())
                    board.add_scalar("train/loss", mean, progress.steps_before + step)
                    say(f"{called} epoch {epoch + 1} step {step}/{len(batches)} loss {mean:.4f}")
                if (step + 1) % checkpoint_steps == 0:
                    save_checkpoint(checkpoint, classifier, optimiser, progress._replace(step=step + 1), saved())
            losses["before"] = losses["now"].clone()
            progress = Progress(epoch + 1, 0, progress.steps_before + len(batches), progress.best, progress.best_epoch)
            mean = _validate(recipe, data, classifier, tokenizer, epoch, directory, board, compute, say)
            if mean > progress.best:
                progress = progress._replace(best=mean, best_epoch=epoch)
                if recipe.patience:
                    save_classifier(classifier, tokenizer_json, layout, directory / "best")
            save_checkpoint(checkpoint, classifier, optimiser, progress, saved())
            if after_epoch is not None:
                after_epoch(progress.epoch)
    if recipe.patience and (directory / "best").is_dir():
        from safetensors.torch import load_file

        classifier.load_state_dict(load_file(directory / "best" / "model.safetensors"))
    if recipe.lora is not None:
        merge_lora(classifier)
    save_classifier(classifier, tokenizer_json, layout, directory)


def paced(recipe: Recipe, epochs: int, rate: float) -> Recipe:
    """The recipe with other epochs, and with the optimiser's rates multiplied by `rate`."""
    rates = {name: getattr(recipe.optimiser, name) * rate for name in ("rate", "head_rate")}
    optimiser = msgspec.structs.replace(recipe.optimiser, **rates)
    return msgspec.structs.replace(recipe, epochs=epochs, optimiser=optimiser)


def fit_quantised(
    recipe: Recipe,
    settings: Quantisation,
    data: Data,
    directory: Path,
    *,
    start: Path,
    loss: Loss,
    compute: Compute,
    say: Say,
) -> None:
    """Go on from the model in `start`, rounded as an int8 bundle is, and leave the result in `directory`."""
    classifier, tokenizer, _ = load_classifier(start)
    classifier.dropout.p = recipe.head_dropout
    round_tables(classifier.encoder)
    set_ranges(
        classifier,
        Tokenizer.from_str(tokenizer),
        some_texts(recipe, data, CALIBRATION_TEXTS),
        max_tokens=recipe.train_tokens,
        device=compute.device,
    )
    say("rounding the layers to 8 bits")
    changed = msgspec.structs.replace(paced(recipe, settings.epochs, settings.rate), lora=None)
    fit(changed, data, directory, classifier, tokenizer, loss, recipe.members + 1, compute, say, called="rounded")


def layout_of(recipe: Recipe) -> HeadLayout:
    """What a saved run says about its heads."""
    return HeadLayout(
        tasks={task.name: task.labels for task in recipe.tasks},
        pooling=recipe.pooling,
        max_tokens=recipe.max_tokens,
    )


def _epoch(
    recipe: Recipe,
    data: Data,
    tokenizer: Tokenizer,
    member: int,
    epoch: int,
    losses: NDArray[np.float32],
) -> list[Batch]:
    return epoch_batches(
        [data.splits[task.name].train for task in recipe.tasks],
        tokenizer,
        noise=recipe.augmentation,
        exponent=recipe.sampling,
        batch=recipe.batch,
        max_tokens=recipe.train_tokens,
        pad_id=pad_id(tokenizer),
        rng=np.random.default_rng((recipe.seed, member, epoch)),
        losses=losses,
        thinning=recipe.thinning,
        unlabelled=data.unlabelled,
    )


def _step(
    classifier: Classifier,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    loss_of: Loss,
    recipe: Recipe,
    compute: Compute,
    number: int,
) -> Tensor:
    """Step `number` of a run, from 0; returns each text's loss, float32[n], on the CPU."""
    batch = Batch(*(tensor.to(compute.device) for tensor in batch))
    with compute.autocast():
        logits = classifier(batch.ids, batch.mask)
    each = loss_of(logits, batch)
    ((each * batch.weight).mean() + orthogonality(classifier)).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(classifier.parameters(), recipe.optimiser.clip)
    optimiser.step()
    allocate_ranks(classifier, number)
    optimiser.zero_grad(set_to_none=True)
    return each.detach().cpu()


def _validate(
    recipe: Recipe,
    data: Data,
    classifier: Classifier,
    tokenizer: Tokenizer,
    epoch: int,
    directory: Path,
    board: Any,
    compute: Compute,
    say: Say,
) -> float:
    """Report every task's validation split; returns the mean accuracy over tasks."""
    accuracies = []
    entry: dict[str, object] = {"epoch": epoch + 1}
    for task in recipe.tasks:
        examples = data.splits[task.name].validation
        if not examples:
            continue
        logits = predict_logits(
            classifier,
            tokenizer,
            [e.text for e in examples],
            max_tokens=recipe.train_tokens,
            compute=compute,
        )
        if not np.isfinite(logits[task.name]).all():
            raise _run_away(f"{task.name} after epoch {epoch + 1}")
        result = evaluate(
            softmax(logits[task.name]).astype(np.float32),
            np.array([e.label for e in examples]),
            task=task.name,
            labels=task.labels,
        )
        say(f"epoch {epoch + 1}, {task.name}\n{report_table(result)}")
        board.add_scalar(f"validation/{task.name}/accuracy", result.accuracy, epoch + 1)
        board.add_scalar(f"validation/{task.name}/macro_f1", result.macro_f1, epoch + 1)
        entry[task.name] = msgspec.to_builtins(result)
        accuracies.append(result.accuracy)
    with (directory / EPOCHS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
    return float(np.mean(accuracies)) if accuracies else 0.0


def _run_away(where: str) -> RecipeError:
    return RecipeError(
        f"{where}: the model's answers are no numbers any more, its weights have run away; lower `optimiser.rate` or "
        "`optimiser.head_rate`"
    )


def _board(directory: Path) -> Any:
    """A TensorBoard writer in `directory`."""
    from torch.utils.tensorboard import SummaryWriter

    directory.mkdir(parents=True, exist_ok=True)
    return SummaryWriter(str(directory))  # type: ignore[no-untyped-call]
