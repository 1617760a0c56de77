"""Models that learned to compute in 8 bits: training, the graph, and what it must keep to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.models.training import needs_training

needs_training()

import onnx
import onnxruntime
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from torch import nn

import models.training.quantised
from models.export import export
from models.export_parity import check_parity
from models.export_source import ExportError, open_source
from models.int8 import INPUT_STEPS, WEIGHT_STEPS, Int8Error, Layer, affine, to_int8
from models.predictor import Predictor
from models.probabilities import softmax
from models.quantise import is_stored, quantise_blocks
from models.train import train
from models.training.network import load_classifier
from models.training.quantised import (
    QuantisedLinear,
    plain_layers,
    quantise_layers,
    quantised_layers,
    round_tables,
    set_ranges,
)
from models.training.run import RECIPE, kept_recipe
from tests.models.test_train import CPU, DESK, recipe_for
from tests.models.tiny_model import write_encoder

pytestmark = pytest.mark.train
TEXTS = [text for texts in DESK.values() for text in texts]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    base = tmp_path_factory.mktemp("base")
    filler = " ".join(f"{a}{b}" for a in "qwxyz" for b in "abcdefghijklmnopqrstuvwxyz")
    write_encoder(base, [*TEXTS, filler])  # so many words that the bundle stores their table in 8 bits
    directory = tmp_path_factory.mktemp("run")
    recipe = recipe_for(base, "intent", DESK, epochs=12, quantisation={"epochs": 4, "rate": 0.2})
    train(recipe, directory, data=base, recipe_directory=base, threads=1, say=lambda _: None)
    return directory, recipe


def test_a_run_with_quantisation_is_exported_to_a_graph_that_multiplies_whole_numbers(
    desk: tuple[Path, Any], tmp_path: Path
) -> None:
    said: list[str] = []
    written = export(str(desk[0]), tmp_path / "bundle", precision="int8", say=said.append)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "as_it_runs.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "as_it_runs.onnx")).graph.node]
    layers = 2
    assert kinds.count("MatMulIntegerToFloat") == 4 * layers
    assert "SkipLayerNormalization" not in kinds
    assert written.parity.agreement == 1.0 and written.parity.largest_difference < 1e-3
    assert written.parity.alone_equal == written.parity.alone
    assert f"same weights unrounded, in fp32: same label {written.parity.unrounded_agreement:.2%}" in " ".join(said)


def test_an_8_bit_graph_scores_a_text_alone_as_in_any_batch(desk: tuple[Path, Any], tmp_path: Path) -> None:
    written = export(str(desk[0]), tmp_path / "bundle", precision="int8", say=lambda _: None)
    predictor = Predictor(written.bundle, cache_entries=0)
    together = predictor.predict(TEXTS).probabilities["intent"]
    for at in np.random.default_rng(3).permutation(len(TEXTS)).tolist():
        assert np.array_equal(predictor.predict([TEXTS[at]]).probabilities["intent"][0], together[at])


def test_the_same_run_can_be_exported_in_full_precision(desk: tuple[Path, Any], tmp_path: Path) -> None:
    written = export(str(desk[0]), tmp_path / "bundle", precision="fp32", say=lambda _: None)
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "bundle" / "model.onnx")).graph.node}
    assert "QuantizeLinear" not in kinds
    assert written.parity.agreement == 1.0


def test_a_graph_that_rounds_is_compared_with_its_weights_unrounded_too(desk: tuple[Path, Any], tmp_path: Path) -> None:
    """Here with the very weights, and with such as say the contrary of them."""
    bundle = export(str(desk[0]), tmp_path / "bundle", precision="int8", say=lambda _: None).bundle
    model = open_source(str(desk[0]), None, rounded=True)
    plain = open_source(str(desk[0]), None)
    assert model.unrounded is not None and plain.unrounded is None
    said = [Predictor(bundle).predict([text]).of_all("intent").argmax() for text in TEXTS]
    tokenizer = Tokenizer.from_str(model.tokenizer)
    same = 0
    for text, label in zip(TEXTS, said, strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        wanted = model.unrounded(ids, np.ones_like(ids))["intent"]
        assert np.array_equal(wanted, plain.reference(ids, np.ones_like(ids))["intent"])
        same += int(wanted.argmax() == label)
    found = check_parity(bundle.path / "model.onnx", model, TEXTS)
    assert found.unrounded_agreement == same / len(TEXTS)
    contrary = model._replace(unrounded=lambda ids, mask: {"intent": -plain.reference(ids, mask)["intent"]})
    found = check_parity(bundle.path / "model.onnx", contrary, TEXTS)
    assert (found.agreement, found.unrounded_agreement) == (1.0, 0.0)
    assert check_parity(bundle.path / "model.onnx", plain, TEXTS).unrounded_agreement is None


def test_a_run_is_exported_as_it_was_before_it_learned_to_round(desk: tuple[Path, Any], tmp_path: Path) -> None:
    options: dict[str, Any] = {"precision": "fp32", "say": lambda _: None}
    bundle = export(str(desk[0]), tmp_path / "before", before_rounding=True, **options).bundle
    after = export(str(desk[0]), tmp_path / "after", **options).bundle
    member, tokenizer, _ = load_classifier(desk[0] / "member-0")
    unlike = 0.0
    for text in TEXTS:
        ids = torch.tensor([Tokenizer.from_str(tokenizer).encode(text).ids])
        with torch.inference_mode():
            wanted = softmax(member(ids, torch.ones_like(ids))["intent"].numpy(), *bundle.tasks[0].calibration)
        assert np.abs(Predictor(bundle).predict([text]).of_all("intent") - wanted).max() < 1e-4
        unlike = max(unlike, np.abs(Predictor(after).predict([text]).of_all("intent") - wanted).max())
    assert unlike > 1e-3
    assert {(each.task, each.data, each.rows) for each in bundle.manifest.metrics} == {
        (each.task, each.data, each.rows) for each in after.manifest.metrics
    }


def test_what_was_never_rounded_has_no_before(desk: tuple[Path, Any], tmp_path: Path) -> None:
    shutil.copytree(desk[0], tmp_path / "run")
    (tmp_path / "run" / "member-0" / "model.safetensors").unlink()
    with pytest.raises(
        ExportError, match=r"--before-rounding: the run keeps no .*member-0/model\.safetensors any more"
    ):
        open_source(str(tmp_path / "run"), None, before_rounding=True)
    recipe = msgspec.structs.replace(kept_recipe(desk[0] / RECIPE), quantisation=None)
    (tmp_path / "run" / RECIPE).write_bytes(msgspec.json.encode(recipe))
    with pytest.raises(ExportError, match=r"--before-rounding: .* has not learned to round \(`quantisation`\); leave"):
        open_source(str(tmp_path / "run"), None, before_rounding=True)
    with pytest.raises(ExportError, match=r"--before-rounding: .* is no training run; leave it out"):
        open_source(str(desk[0] / "member-0"), None, before_rounding=True)


def test_what_a_rounded_run_holds_is_what_its_bundle_stores(desk: tuple[Path, Any]) -> None:
    table = load_classifier(desk[0])[0].encoder.get_input_embeddings().weight.detach().numpy()
    numbers, scales = quantise_blocks(table, 1)
    assert is_stored(table.shape, 1)
    assert np.array_equal((numbers * scales.astype(np.float32)).reshape(table.shape), table)


@pytest.mark.parametrize("line", ["rounding the layers", "rounded epoch 3 step 0"])
def test_a_run_killed_while_it_learns_to_round_comes_out_the_same(
    desk: tuple[Path, Any], tmp_path: Path, line: str
) -> None:
    directory, recipe = desk
    base = Path(recipe.base)

    class Killed(Exception):
        pass

    def say(said: str) -> None:
        if line in said:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, tmp_path, data=base, recipe_directory=base, threads=1, say=say)
    train(recipe, tmp_path, data=base, recipe_directory=base, threads=1, say=lambda _: None)
    assert (tmp_path / "model.safetensors").read_bytes() == (directory / "model.safetensors").read_bytes()


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-5, 0.05, 30.0]))
def test_embeddings_learn_to_live_with_what_the_bundle_stores_without_loss(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    encoder = nn.Sequential(nn.Embedding(1024, 32), nn.Embedding(2, 32))
    for table in encoder:
        table.weight.data = torch.from_numpy((rng.normal(size=tuple(table.weight.shape)) * size).astype(np.float32))
    before = [table.weight.detach().numpy().copy() for table in encoder]
    round_tables(encoder)
    rounded, small = (table.weight.detach().numpy() for table in encoder)
    numbers, scales = quantise_blocks(rounded, 1)
    assert np.array_equal((numbers * scales.astype(np.float32)).reshape(rounded.shape), rounded)
    assert 0 < np.abs(rounded - before[0]).max() <= scales.max() * 0.51
    assert np.array_equal(small, before[1]), "a table that the bundle stores in full is left as it is"
    assert [table.weight.requires_grad for table in encoder] == [False, True]


def test_plain_layers_take_the_rounding_back(desk: tuple[Path, Any]) -> None:
    rounded = open_source(str(desk[0]), None, rounded=True)
    plain = open_source(str(desk[0]), None)
    assert len(rounded.rounded) == 12 and plain.rounded == ()
    ids = np.array([[2, 5, 6, 7, 3]])
    mask = np.ones_like(ids)
    difference = np.abs(rounded.reference(ids, mask)["intent"] - plain.reference(ids, mask)["intent"]).max()
    assert 0.0 < difference < 1.0


def graph_of(weight: Any) -> Any:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "one", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 1.0, 40.0]))
def test_the_graph_rounds_as_the_layer_did_in_training(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    layer = nn.Linear(24, 10, bias=False)
    layer.weight.data = torch.from_numpy(rng.normal(size=(10, 24)).astype(np.float32))
    rounded = QuantisedLinear(layer)
    rounded.input_range.copy_(torch.tensor([-1.5 * size, 2.5 * size]))
    x = (rng.normal(size=(7, 24)) * size).astype(np.float32)
    (found,) = quantised_layers(nn.Sequential(rounded))
    model = to_int8(graph_of(np.ascontiguousarray(found.weight.T)), [found])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    said = session.run(None, {"x": x})[0]
    wanted = rounded(torch.from_numpy(x)).detach().numpy()
    # One input that lies on the border of two steps may go either way.
    step = affine(-1.5 * size, 2.5 * size)[0]
    assert np.abs(said - wanted).max() <= step * float(np.abs(found.weight).max()) * 1.01
    exact = rounded.eval()(torch.from_numpy(x)).detach().numpy()
    assert np.abs(said - exact).max() <= 1e-6 * np.abs(said).max(), "no input goes another way"


def test_projections_side_by_side_are_found_and_must_share_a_range() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(8, 6)).astype(np.float32) for _ in range(3)]
    model = graph_of(np.concatenate(parts).T.copy())
    converted = to_int8(model, [Layer(part, -1.0, 1.0) for part in reversed(parts)])
    assert [node.op_type for node in converted.graph.node].count("MatMul") == 1
    assert [node.op_type for node in converted.graph.node].count("QuantizeLinear") == 1
    with pytest.raises(Int8Error, match="different ranges"):
        to_int8(model, [Layer(part, -1.0, float(at)) for at, part in enumerate(parts, 1)])


def test_a_trained_layer_that_the_graph_lacks_is_an_error() -> None:
    model = graph_of(np.ones((4, 4), dtype=np.float32))
    with pytest.raises(Int8Error, match="1 of 1 layers"):
        to_int8(model, [Layer(np.zeros((4, 4), dtype=np.float32), -1.0, 1.0)])


@given(st.floats(-1e4, 0.0), st.floats(0.0, 1e4))
def test_zero_is_exact_and_the_range_is_covered(low: float, high: float) -> None:
    scale, zero = affine(low, high)
    assert 0 <= zero <= INPUT_STEPS and scale > 0
    assert (0 - zero) * scale <= low + 0.51 * scale
    assert (INPUT_STEPS - zero) * scale >= high - 0.51 * scale


def test_two_products_fit_into_the_sixteen_bits_of_old_processors() -> None:
    assert 2 * INPUT_STEPS * WEIGHT_STEPS < 2**15


def test_ranges_hold_what_every_channel_brings(desk: tuple[Path, Any]) -> None:
    """Also a channel in which an outlier stands, which a sample with gaps would pass over."""
    classifier, tokenizer, _ = load_classifier(desk[0])
    plain_layers(classifier.encoder)
    sizes = []
    for channel in (3, 40):
        with torch.no_grad():
            classifier.encoder.embeddings.LayerNorm.weight.fill_(1.0)
            classifier.encoder.embeddings.LayerNorm.weight[channel] = 40.0
        set_ranges(classifier, Tokenizer.from_str(tokenizer), TEXTS, max_tokens=32, device=CPU.device)
        first = classifier.encoder.encoder.layer[0].attention.self.query
        sizes.append(float(first.input_range.abs().max()))
        plain_layers(classifier.encoder)
    assert min(sizes) > 10.0


def test_layers_that_share_an_input_share_its_range(desk: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.training.quantised, "SAMPLE", 300)
    classifier, tokenizer, _ = load_classifier(desk[0])
    plain_layers(classifier.encoder)
    set_ranges(classifier, Tokenizer.from_str(tokenizer), TEXTS, max_tokens=32, device=CPU.device)
    for layer in classifier.encoder.encoder.layer:
        read = layer.attention.self
        assert torch.equal(read.query.input_range, read.key.input_range)
        assert torch.equal(read.query.input_range, read.value.input_range)


def test_rounded_layers_multiply_in_fp32_under_autocast() -> None:
    torch.manual_seed(1)
    rounded = QuantisedLinear(nn.Linear(64, 16))
    rounded.input_range.copy_(torch.tensor([-3.0, 3.0]))
    x = torch.randn(5, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = rounded(x)
    assert torch.equal(under, rounded(x))


def test_only_layers_of_the_encoder_are_rounded() -> None:
    encoder = nn.Module()
    encoder.layer = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])
    encoder.pooler = nn.Sequential(nn.Linear(4, 4))
    quantise_layers(encoder)
    assert [type(module) for module in encoder.modules()].count(QuantisedLinear) == 1
    assert isinstance(encoder.get_submodule("layer.0.0"), QuantisedLinear)
    plain_layers(encoder)
    assert isinstance(encoder.get_submodule("layer.0.0"), nn.Linear)
