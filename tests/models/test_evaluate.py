"""Measures of a model, against worked examples and their definitions."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from models.compare import compare
from models.evaluate import evaluate, report
from models.labelled import Labelled, LabelledError, read_labelled
from models.predictor import Predictor
from models.probabilities import expected_calibration_error
from tests.models.tiny_bundle import TASKS, write_tiny_bundle

LABELS = ("negative", "neutral", "positive")


def one_hot(said: list[int], confidence: float = 0.8) -> np.ndarray:
    table = np.full((len(said), 3), (1 - confidence) / 2, dtype=np.float32)
    table[np.arange(len(said)), said] = confidence
    return table


def test_a_worked_example() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    result = evaluate(one_hot([0, 1, 1, 1, 2, 0]), truth, task="sentiment", labels=LABELS)
    assert result.accuracy == pytest.approx(4 / 6)
    assert result.confusion == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert result.per_label["neutral"].precision == pytest.approx(2 / 3)
    assert result.per_label["neutral"].recall == 1
    assert result.macro_f1 == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert result.ece == pytest.approx(0.8 - 4 / 6)


def test_macro_f1_leaves_out_labels_that_nobody_named() -> None:
    result = evaluate(one_hot([0, 0, 1]), np.array([0, 0, 1]), task="sentiment", labels=LABELS)
    assert result.macro_f1 == 1


def test_stated_confidence_that_is_kept_has_no_calibration_error() -> None:
    truth = np.array([0] * 80 + [1] * 10 + [2] * 10)
    assert expected_calibration_error(one_hot([0] * 100), truth) == pytest.approx(0, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(0.34, 1)), max_size=50))
def test_calibration_error_is_a_share(rows: list[tuple[int, int, float]]) -> None:
    table = np.concatenate([np.zeros((0, 3), np.float32), *(one_hot([said], p) for said, _, p in rows)])
    truth = np.array([true for _, true, _ in rows], dtype=np.int64)
    assert 0 <= expected_calibration_error(table, truth) <= 1


def test_the_report_names_every_label_and_the_totals() -> None:
    text = report(evaluate(one_hot([0, 1]), np.array([0, 2]), task="sentiment", labels=LABELS))
    assert all(label in text for label in LABELS)
    assert "accuracy 0.5000" in text


def test_csv_jsonl_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [("Record, profit", "positive"), ("a lawsuit\nin two lines", "Negative"), ("“plain” 公司", "neutral")]
    csv = 'text,label\n"Record, profit",positive\n"a lawsuit\nin two lines",Negative\n“plain” 公司,neutral\n'
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + csv.encode())
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(csv.encode()))
    jsonl = "".join(f'{{"text": {text!a}, "label": "{label}"}}\n' for text, label in rows).replace("'", '"')
    (tmp_path / "a.jsonl").write_text("\n" + jsonl)
    parquet.write_table(
        pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), tmp_path / "a.parquet"
    )
    for name in ("a.csv", "a.csv.gz", "a.jsonl", "a.parquet"):
        found = read_labelled(tmp_path / name, LABELS)
        assert found.texts == [text for text, _ in rows], name
        assert found.truth.tolist() == [2, 0, 1], name


def test_labels_and_columns_may_have_other_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("tweet,mood\nup,1\ndown,0\n")
    names = {"0": "negative", "1": "positive"}
    found = read_labelled(tmp_path / "a.csv", LABELS, text="tweet", label="mood", names=names)
    assert found.truth.tolist() == [2, 0]
    assert found.written == {"0", "1"}


def test_texts_that_parquet_has_as_bytes_are_utf_8(tmp_path: Path) -> None:
    columns = {"text": ["für 公司".encode()], "label": [b"neutral"], "digest": [b"\xff"]}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert read_labelled(tmp_path / "a.parquet", LABELS).texts == ["für 公司"]
    parquet.write_table(pa.table({"text": [b"\xff"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(LabelledError, match=r"a\.parquet, row 1: the column 'text' holds bytes that are no UTF-8"):
        read_labelled(tmp_path / "a.parquet", LABELS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,7\n", r"row 1: '7' is not a label of the task .* --label 7=LABEL"),
        ("a.csv", "body,label\nx,neutral\n", "expected columns 'text' and 'label', found"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.csv", "label,text\nneutral,a loss, at last\n", "line 2: more cells than the first line names"),
        ("a.jsonl", "{\n", "line 1: not a JSON object"),
        ("a.csv", "text,label\nx\udcff,neutral\n", "a.csv cannot be read"),
        ("a.csv.gz", "plain", "a.csv.gz cannot be read"),
        ("a.parquet", "PAR1 plain", "a.parquet cannot be read"),
        ("a.parquet.gz", "PAR1", "unpack it first"),
        ("a.txt", "x", "neither"),
    ],
)
def test_unusable_files_say_where_and_why(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LabelledError, match=message):
        read_labelled(tmp_path / name, LABELS)


def test_a_model_agrees_with_itself(predictor: Predictor) -> None:
    data = Labelled(["record profit", "fraud lawsuit"], np.array([2, 0]))
    result = compare(predictor, predictor, data, "sentiment")
    assert (result.agreement, result.largest_difference) == (1, 0)
    assert result.first.accuracy == 1
    assert result.first_texts_per_second > 0


def test_models_with_other_labels_are_not_compared(predictor: Predictor, tmp_path: Path) -> None:
    from models.bundle import Task

    other = Predictor(write_tiny_bundle(tmp_path / "b", tasks=(TASKS[0], Task("topic", ("X", "Y", "Z"), "topic"))))
    with pytest.raises(ValueError, match="only models with the same labels"):
        compare(predictor, other, Labelled(["a"], np.array([0])), "topic")
