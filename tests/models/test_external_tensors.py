"""Tensors that a graph keeps in other files come from verified bytes, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from models.bundle import Bundle, BundleError
from models.predictor import Predictor
from models.providers import GraphError, ModelSession, _give_external
from tests.models.tiny_bundle import write_apart


def said(bundle: Bundle) -> np.ndarray:
    return Predictor(bundle, threads=1).predict(["record profit"]).probabilities["sentiment"]


def test_tensors_in_a_file_of_the_bundle_are_found(tmp_path: Path, tiny: Bundle) -> None:
    bundle = write_apart(tmp_path / "apart")
    assert bundle.external == {"weights.bin"}
    assert np.array_equal(said(bundle), said(tiny))


def test_a_file_of_tensors_that_is_overwritten_does_not_change_a_model_in_service(tmp_path: Path, tiny: Bundle) -> None:
    predictor = Predictor(write_apart(tmp_path / "apart"), cache_entries=0)
    weights = tmp_path / "apart" / "weights.bin"
    with weights.open("r+b") as file:
        file.write(bytes(weights.stat().st_size))
    assert np.array_equal(predictor.predict(["record profit"]).probabilities["sentiment"], said(tiny))


def test_a_file_of_tensors_that_is_changed_after_the_check_is_not_used(tmp_path: Path) -> None:
    bundle = write_apart(tmp_path / "apart")
    weights = tmp_path / "apart" / "weights.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(BundleError, match=r"weights\.bin was changed"):
        Predictor(bundle)


def test_a_tensor_of_a_nested_graph_is_not_looked_for_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime takes from memory only what the outermost graph needs, and looks for the rest where it runs."""
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[512], data_location=1)
    for key, value in (("location", "weights.bin"), ("length", "2048")):
        weight.external_data.add(key=key, value=value)
    answer = [helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [512])]
    body = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "body", [], answer, [weight])
    branch = helper.make_node("If", ["c"], ["o"], then_branch=body, else_branch=body)
    asked = [helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])]
    graph = helper.make_graph([branch], "g", asked, answer)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(2048))
    with pytest.raises(GraphError, match=r"weights\.bin"):
        ModelSession(model.SerializeToString(), external={"weights.bin": bytes(2048)})


def test_an_onnxruntime_that_takes_no_tensors_from_memory_is_named() -> None:
    class Older:
        def add_session_config_entry(self, key: str, value: str) -> None:
            """Takes any."""

    _give_external(Older(), {})
    with pytest.raises(GraphError, match=r"weights\.bin, which onnxruntime takes from memory since 1\.24"):
        _give_external(Older(), {"weights.bin": b""})
