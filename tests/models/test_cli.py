"""`bearwire models ...` answers in words or JSON, and errors in words."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from models import compare
from models.bundle import Bundle, Manifest, write_manifest
from models.cli import models
from models.compare import Comparison
from tests.models.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data.csv").write_text("text,label\nrecord profit,1\nfraud lawsuit,0\n")
    return tmp_path / "data.csv"


NAMES = ("--label", "1=positive", "--label", "0=negative")


def test_help_lists_every_command() -> None:
    text = run("--help").output
    assert all(
        name in text
        for name in ("info", "verify", "evaluate", "compare", "explain", "calibrate", "train", "search", "export")
    )


def test_info_shows_the_card_or_the_manifest(tiny: Bundle) -> None:
    assert tiny.version_id in run("info", tiny.path).output
    assert json.loads(run("info", tiny.path, "--json").output)["tasks"][0]["name"] == "sentiment"


def test_verify_is_quiet_about_a_good_bundle(tiny: Bundle) -> None:
    result = run("verify", tiny.path)
    assert result.exit_code == 0, result.output
    assert "in order" in result.output


def test_verify_names_what_is_broken(bundle_dir: Path) -> None:
    (bundle_dir / "NOTICE").unlink()
    result = run("verify", bundle_dir)
    assert result.exit_code == 1
    assert "NOTICE is missing" in result.output


def test_verify_finds_a_model_that_looks_across_texts(tmp_path: Path, tiny: Bundle) -> None:
    write_across(tmp_path / "b", tiny.manifest)
    result = run("verify", tmp_path / "b")
    assert result.exit_code == 1
    assert "task 'topic' scores a text differently in another batch" in result.output


def test_verify_does_not_ask_of_fp16_on_a_processor_what_nobody_promises(tmp_path: Path, tiny: Bundle) -> None:
    write_across(tmp_path / "b", msgspec.structs.replace(tiny.manifest, precision="fp16"))
    result = run("verify", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "graph in order; batch invariance is not promised for fp16 on provider cpu" in result.output


def write_across(directory: Path, manifest: Manifest) -> None:
    """A bundle whose topics depend on the batch."""
    write_tiny_bundle(directory)
    model = onnx.load(directory / "model.onnx")
    model.graph.node[-1].output[0] = "apart"
    nodes = [
        onnx.helper.make_node("ReduceMax", ["apart"], ["largest_in_batch"], axes=[0], keepdims=1),
        onnx.helper.make_node("Sub", ["apart", "largest_in_batch"], ["below_largest"]),
        onnx.helper.make_node("Abs", ["below_largest"], ["topic"]),
    ]
    model.graph.node.extend(nodes)
    onnx.save(model, directory / "model.onnx")
    write_manifest(directory, manifest)


def test_verify_finds_a_model_that_errs_in_full_batches_alone(tmp_path: Path, tiny: Bundle) -> None:
    write_tiny_bundle(tmp_path / "b")
    model = onnx.load(tmp_path / "b" / "model.onnx")
    model.graph.node[-1].output[0] = "right"
    model.graph.node.extend(
        [
            onnx.helper.make_node("Shape", ["right"], ["rows"], start=0, end=1),
            onnx.helper.make_node("Cast", ["rows"], ["size"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Sub", ["size", "most"], ["beyond"]),
            onnx.helper.make_node("Relu", ["beyond"], ["error"]),
            onnx.helper.make_node("Add", ["error", "one"], ["factor"]),
            onnx.helper.make_node("Mul", ["right", "factor"], ["topic"]),
        ]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([127], np.float32), "most"))
    onnx.save(model, tmp_path / "b" / "model.onnx")
    write_manifest(tmp_path / "b", tiny.manifest)
    result = run("verify", tmp_path / "b")
    assert result.exit_code == 1
    assert "task 'topic' scores a text differently in another batch" in result.output


def test_evaluate_measures(tiny: Bundle, data: Path) -> None:
    found = json.loads(run("evaluate", tiny.path, "--data", data, *NAMES, "--json").output)
    assert (found["rows"], found["accuracy"]) == (2, 1.0)
    assert "accuracy 1.0000" in run("evaluate", tiny.path, "--data", data, *NAMES).output


def test_evaluate_says_how_to_name_labels(tiny: Bundle, data: Path) -> None:
    result = run("evaluate", tiny.path, "--data", data)
    assert result.exit_code == 1
    assert "--label 1=LABEL" in result.output


def test_evaluate_says_what_is_meant_where_that_is_no_label(tiny: Bundle, data: Path) -> None:
    result = run("evaluate", str(tiny.path), "--data", str(data), "--label", "1=negatve")
    assert result.exit_code == 1
    assert "--label 1=negatve: 'negatve' is not a label of the task (negative, neutral, positive)" in result.output


def test_a_label_for_what_the_file_does_not_hold_is_refused_or_noted(tiny: Bundle, data: Path) -> None:
    result = run("evaluate", tiny.path, "--data", data, *NAMES, "--label", "bad=negativ")
    assert result.exit_code == 1
    assert "--label bad=negativ: 'negativ' is not a label of the task (negative, neutral, positive)" in result.output
    result = run("evaluate", tiny.path, "--data", data, *NAMES, "--label", "bad=Negative")
    assert result.exit_code == 0
    assert result.stderr == f"bearwire: note: --label bad=Negative: {data} has no 'bad'\n"


def test_what_was_no_utf8_on_the_command_line_is_explained_all_the_same(tiny: Bundle) -> None:
    result = run("explain", "fraud \udcff lawsuit", "--bundle", str(tiny.path))
    assert result.exit_code == 0, result.output
    assert "fraud" in result.output


def test_compare_puts_two_bundles_side_by_side(tiny: Bundle, bundle_dir: Path, data: Path) -> None:
    output = run("compare", tiny.path, bundle_dir, "--data", data, *NAMES).output
    heads, *scores = output.splitlines()[:3]
    assert heads.split() == ["accuracy", "macro", "F1", "ECE", "texts/s"]
    for line, version in zip(scores, (tiny.version_id, Bundle.load(bundle_dir).version_id), strict=True):
        assert re.fullmatch(rf"{re.escape(version)} +1\.0000 +\d\.\d{{4}} +0\.\d{{4}} +[1-9]\d*", line)
    assert "same label for 100.00% of 2 texts" in output
    found = json.loads(run("compare", tiny.path, bundle_dir, "--data", data, *NAMES, "--json").output)
    for each in ("first", "second"):
        assert {"accuracy", "macro_f1", "ece"} <= found[each].keys()
        assert found[f"{each}_texts_per_second"] > 0
    assert (found["task"], found["rows"], found["agreement"], found["largest_difference"]) == ("sentiment", 2, 1.0, 0.0)


def test_compare_fails_where_accuracy_differs_by_more_points_than_allowed(
    tiny: Bundle, bundle_dir: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = run("compare", tiny.path, bundle_dir, "--data", data, *NAMES, "--within", 0)
    assert same.exit_code == 0, same.output
    measured = compare.compare

    def one_point_better(*arguments: Any) -> Comparison:
        found = measured(*arguments)
        scores = [msgspec.structs.replace(found.first, accuracy=accuracy) for accuracy in (0.853, 0.85)]
        return msgspec.structs.replace(found, first=scores[0], second=scores[1])

    monkeypatch.setattr(compare, "compare", one_point_better)
    arguments = ("compare", tiny.path, bundle_dir, "--data", data, *NAMES)
    for shape in ((), ("--json",)):
        apart = run(*arguments, *shape, "--within", 0.2)
        assert apart.exit_code == 1
        assert "accuracy differs by 0.30 points, more than 0.2" in apart.output
        assert run(*arguments, *shape, "--within", 0.3).exit_code == 0
        assert run(*arguments, *shape).exit_code == 0


def test_explain_lists_words_heaviest_first(tiny: Bundle) -> None:
    output = run("explain", "company fraud today", "--bundle", tiny.path).output.splitlines()
    assert output[0].startswith("sentiment: negative")
    assert output[1].endswith("fraud")
    found = json.loads(run("explain", "company fraud today", "--bundle", tiny.path, "--json").output)
    assert len(found["words"]) == 3


def test_info_is_markdown_in_a_pipe_and_tables_on_a_terminal(tiny: Bundle) -> None:
    assert "## Tasks\n\n| task |" in run("info", tiny.path).output
    code = "import sys; from models.cli import models; models(['info', sys.argv[1]])"
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        command = [sys.executable, "-c", code, str(tiny.path)]
        shown = subprocess.Popen(command, stdout=theirs, cwd=ROOT, env={**os.environ, "COLUMNS": "70", "TERM": "xterm"})
        os.close(theirs)
        said = b""
        with suppress(OSError):  # what Linux says once the other end is closed
            while part := terminal.read(65536):
                said += part
    assert shown.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    assert "##" not in text and "|" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("path", "version"))) <= 70
    assert "negative, neutral, positive" in text


@pytest.mark.parametrize("text", ["", " \t", "\u200b"])
def test_there_is_nothing_to_explain_in_a_text_that_cannot_be_seen(tiny: Bundle, text: str) -> None:
    result = run("explain", text, "--bundle", tiny.path)
    assert result.exit_code == 2
    assert "TEXT has no visible character" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "x", "--task", "mood"), "no task 'mood'"),
        (("explain", "x", "--provider", "cuda"), "provider 'cuda' was asked for"),
    ],
)
def test_errors_are_one_line_without_a_traceback(tiny: Bundle, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments, "--bundle", tiny.path)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("module", "package", "arguments"),
    [
        ("models.train", "torch", ("train", "data.csv", "-o", "run")),
        ("models.search", "optuna", ("search", "data.csv", "-o", "study")),
        ("models.export", "onnx", ("export", "run", "-o", "bundle")),
        ("models.word_scores_fit", "onnx", ("add-words", ".", "-o", "bundle")),
    ],
)
def test_a_command_of_the_train_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, data: Path, module: str, package: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(data.parent)
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    result = run(*arguments)
    assert result.exit_code == 1
    assert (
        f"`bearwire models {arguments[0]}` needs the Python package {package!r}: "
        "install Bearwire with its extra [train]" in result.output
    )


@pytest.mark.parametrize("command", ["train", "search", "export", "add-words"])
def test_a_command_of_the_train_extra_explains_itself_without_it(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--output" in result.output
