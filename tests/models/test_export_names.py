"""What an exported bundle is called, what it says of where it came from, and what it may replace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.models.tiny_bundle import write_tiny_bundle
from tests.models.tiny_model import write_classifier
from tests.models.training import needs_training

needs_training()

import models.export
import models.export_source
from models.bundle import Bundle
from models.export import export
from models.export_source import ExportError
from models.training.network import positions
from models.training.recipe import Recipe
from models.training.recipe_file import load_recipe
from models.training.run import public_file, public_name

pytestmark = pytest.mark.train

TEXTS = ["orders at the pump maker rise", "profit falls", "the meeting is on tuesday"]
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
RECIPES = Path(models.export.__file__).parent / "recipes"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source") / "my model"
    write_classifier(directory, TEXTS, ["up", "down", "flat"])
    return directory


def exported(source: Path | str, destination: Path, **options: Any) -> Bundle:
    return export(str(source), destination, precision="fp32", texts=TEXTS, say=lambda _: None, **options).bundle


def no_work(*_: object, **__: object) -> None:
    raise AssertionError("the model was opened")


def test_a_directory_gives_its_name_and_nothing_of_where_it_lies(classifier: Path, tmp_path: Path) -> None:
    bundle = exported(classifier, tmp_path / "bundle")
    assert bundle.name == "my-model"
    assert bundle.manifest.parent is not None and bundle.manifest.parent.name == "my model"
    for name in ("bundle.json", "MODEL_CARD.md", "NOTICE"):
        assert str(classifier.parent) not in (tmp_path / "bundle" / name).read_text(encoding="utf-8")


def test_the_id_in_a_configuration_is_the_parent(classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path / "source")
    for written, parent in (("desk/finbert", "desk/finbert"), ("/home/someone/run", "source"), (None, "source")):
        config = json.loads((tmp_path / "source" / "config.json").read_text(encoding="utf-8"))
        (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "_name_or_path": written}))
        found = models.export_source.hub_origin(tmp_path / "source", str(tmp_path / "source"))
        assert (found.name, found.source, found.revision) == (parent, "", "")


def test_a_snapshot_of_the_hub_knows_its_id_and_commit(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--desk--finbert" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for source in ("desk/finbert", str(snapshot)):
        found = models.export_source.hub_origin(snapshot, source)
        assert (found.name, found.source, found.revision) == ("desk/finbert", "desk/finbert", COMMIT)


def test_a_name_of_ones_own_is_taken(classifier: Path, tmp_path: Path) -> None:
    assert exported(classifier, tmp_path / "bundle", name="desk-4").version_id.startswith("desk-4-1.0.0+")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"name": "my model"}, "--name 'my model' is no name"), ({"version": "1 0"}, "--version '1 0' is no name")],
)
def test_a_name_that_no_bundle_may_have_is_refused_before_the_work(
    options: dict[str, str], said: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.export, "open_source", no_work)
    with pytest.raises(ExportError, match=said):
        exported(classifier, tmp_path / "bundle", **options)


def test_a_directory_without_a_letter_of_ascii_needs_a_name(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "模型").symlink_to(tmp_path / "型")
    shutil.copytree(classifier, tmp_path / "型")
    with pytest.raises(ExportError, match="give one with --name"):
        exported(tmp_path / "模型", tmp_path / "bundle")


@pytest.mark.parametrize("name", ["thesis.txt", ".git", "notes/"])
def test_a_bundle_with_other_things_beside_it_is_not_replaced(
    name: str, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    mine = tmp_path / "bundle" / name
    mine.mkdir() if name.endswith("/") else mine.write_text("years of work", encoding="utf-8")
    monkeypatch.setattr(models.export, "open_source", no_work)
    with pytest.raises(ExportError, match=f"holds more than the bundle .*: {name.rstrip('/')}; move it away"):
        exported(classifier, tmp_path / "bundle")
    assert mine.exists()


def test_what_comes_to_lie_there_during_the_work_is_not_destroyed_either(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    check = models.export._check_served

    def put(*arguments: Any) -> None:
        (tmp_path / "bundle" / "thesis.txt").write_text("years of work", encoding="utf-8")
        check(*arguments)

    monkeypatch.setattr(models.export, "_check_served", put)
    with pytest.raises(ExportError, match=r"thesis\.txt"):
        exported(classifier, tmp_path / "bundle")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}
    assert (tmp_path / "bundle" / "thesis.txt").exists()


def test_a_bundle_is_replaced_though_it_is_damaged(classifier: Path, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"")
    assert exported(classifier, tmp_path / "bundle").name == "my-model"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


def test_a_manifest_that_lists_nothing_protects_what_lies_there(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{", encoding="utf-8")
    with pytest.raises(ExportError, match="lists no files"):
        exported(classifier, tmp_path)


def test_a_base_on_this_machine_is_named_without_its_place(tmp_path: Path) -> None:
    assert public_name(str(tmp_path / "encoder")) == "encoder"
    assert public_name("wheel:some_model") == "wheel:some_model"
    assert public_name("desk/encoder") == "desk/encoder"
    assert public_file("../desk/secret.csv") == public_file("~/secret.csv") == "secret.csv"
    assert public_file("desk/labelled.csv") == "desk/labelled.csv"


def test_a_recipe_is_named_by_its_file_only_where_that_is_it() -> None:
    shipped = msgspec.structs.replace(load_recipe(RECIPES / "finance-en.yaml"), search=None)
    assert models.export._recipe_name(shipped) == "models/recipes/finance-en.yaml"
    assert models.export._recipe_name(msgspec.structs.replace(shipped, epochs=77)) == "finance-en"
    desk: Recipe = msgspec.structs.replace(shipped, name="desk")
    assert models.export._recipe_name(desk) == "desk"


@pytest.mark.parametrize(
    ("family", "room"),
    [("bert", 66), ("roberta", 64), ("camembert", 64), ("xlm-roberta", 64), ("mpnet", 64), ("albert", 66)],
)
def test_positions_that_the_padding_takes_are_not_counted(family: str, room: int) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model(family, max_position_embeddings=66, vocab_size=40, **small)
    assert positions(AutoModelForSequenceClassification.from_config(config)) == room
