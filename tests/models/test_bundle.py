"""A bundle that is whole loads; one that is not says which file is wrong and is not loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import SENTIMENT_LABELS, Bundle, BundleError, Task, manifest_sha256, write_manifest
from models.onnx_graph import OnnxError, external_files
from tests.models.tiny_bundle import TASKS, tiny_model, write_apart, write_tiny_bundle


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and seal it again, as someone who means it would."""
    manifest = json.loads((directory / "bundle.json").read_text())
    change(manifest)
    manifest["sha256"] = manifest_sha256(manifest)
    (directory / "bundle.json").write_text(json.dumps(manifest))


def seal(directory: Path, name: str) -> None:
    """Make the manifest agree with the file, as someone who writes both would."""
    content = (directory / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(directory, lambda manifest: manifest["files"].update({name: entry}))


def test_a_whole_bundle_loads_with_its_tasks_and_a_version(tiny: Bundle) -> None:
    bundle = Bundle.load(tiny.path)
    assert [task.name for task in bundle.tasks] == ["sentiment", "topic"]
    assert bundle.task("sentiment").labels == SENTIMENT_LABELS
    assert bundle.version_id.startswith("tiny-1+")
    assert len(bundle.version_id.partition("+")[2]) == 12


def test_a_bundle_has_no_task_by_another_name(tiny: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no task 'mood', only sentiment, topic"):
        tiny.task("mood")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "NOTICE", "MODEL_CARD.md"])
def test_a_missing_file_is_named(bundle_dir: Path, name: str) -> None:
    (bundle_dir / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.load(bundle_dir)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_truncated_file_is_named(bundle_dir: Path, name: str) -> None:
    content = (bundle_dir / name).read_bytes()
    (bundle_dir / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} is truncated"):
        Bundle.load(bundle_dir)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "NOTICE", "bundle.json"])
@settings(max_examples=30)
@given(data=st.data())
def test_any_flipped_bit_is_found(tiny: Bundle, name: str, data: st.DataObject) -> None:
    directory = tiny.path.parent / "flipped"
    if not directory.exists():
        write_tiny_bundle(directory)
    content = bytearray((tiny.path / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (directory / name).write_bytes(content)
    try:
        with pytest.raises(BundleError, match=f"{name} {'' if name == 'bundle.json' else 'was changed'}"):
            Bundle.load(directory)
    finally:
        (directory / name).write_bytes((tiny.path / name).read_bytes())


def test_a_file_swapped_after_loading_is_found_when_it_is_read(bundle_dir: Path) -> None:
    bundle = Bundle.load(bundle_dir)
    content = bytearray((bundle_dir / "model.onnx").read_bytes())
    content[-1] ^= 1
    (bundle_dir / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model.onnx was changed"):
        bundle.read("model.onnx")


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a directory"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'])
def test_a_manifest_that_is_not_one_is_refused(bundle_dir: Path, text: bytes) -> None:
    (bundle_dir / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(bundle_dir)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["tasks"][1].update(labels=["Legal", "Earnings", "Other"]),
        lambda m: m["tasks"][0].update(temperature=3.0),
        lambda m: m.update(languages=["zh"]),
        lambda m: m.update(licence="MIT"),
    ],
)
def test_a_manifest_edited_by_hand_is_found(bundle_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle_dir / "bundle.json").read_text())
    change(manifest)
    (bundle_dir / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"bundle\.json was changed: .*take out its field sha256"):
        Bundle.load(bundle_dir)
    del manifest["sha256"]
    (bundle_dir / "bundle.json").write_text(json.dumps(manifest))
    assert Bundle.load(bundle_dir).name == "tiny"


def test_how_a_manifest_is_laid_out_does_not_matter(bundle_dir: Path) -> None:
    manifest = json.loads((bundle_dir / "bundle.json").read_text())
    turned = dict(reversed(manifest.items()))
    (bundle_dir / "bundle.json").write_text(json.dumps(turned, indent=7))
    assert Bundle.load(bundle_dir).name == "tiny"
    others = {name: value for name, value in manifest.items() if name != "sha256"}
    plain = json.dumps(others, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert manifest["sha256"] == hashlib.sha256(plain.encode()).hexdigest()


@pytest.mark.parametrize("name", ["evil.py", "model.onnx.bak", "bundle.json~"])
def test_a_file_that_is_not_listed_is_named(bundle_dir: Path, name: str) -> None:
    (bundle_dir / name).write_text("left behind")
    with pytest.raises(BundleError, match=rf"{name} is not listed in bundle\.json; move it away"):
        Bundle.load(bundle_dir)


def test_a_link_that_is_not_listed_is_named(bundle_dir: Path) -> None:
    (bundle_dir / "more").symlink_to("/")
    with pytest.raises(BundleError, match="more is not listed"):
        Bundle.load(bundle_dir)


def test_hidden_files_and_directories_may_lie_in_a_bundle(bundle_dir: Path) -> None:
    (bundle_dir / ".DS_Store").write_bytes(b"\0")
    (bundle_dir / "lost+found").mkdir()
    assert Bundle.load(bundle_dir).name == "tiny"


def test_a_manifest_of_another_format_says_what_to_do(bundle_dir: Path) -> None:
    edit(bundle_dir, lambda manifest: manifest.update(format=2))
    with pytest.raises(BundleError, match="format 2 and this version reads format 1; export the model again"):
        Bundle.load(bundle_dir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m["tasks"][0].update(temperature=0), "temperature"),
        (lambda m: m["tasks"][0].update(labels=["positive", "neutral", "negative"]), "orders the labels"),
        (lambda m: m["tasks"][1].update(labels=["A", "A", "B"]), "repeated label"),
        (lambda m: m["tasks"][1].update(name="sentiment"), "task name twice"),
        (lambda m: m["tasks"][1].update(output="sentiment"), "output twice"),
        (lambda m: m.update(name="../evil"), "name"),
        (lambda m: m["files"].pop("model.onnx"), r"does not list model\.onnx"),
        (lambda m: m["files"]["model.onnx"].update(sha256="00"), "sha256"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(
    bundle_dir: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(bundle_dir, change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle_dir)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "..", "", "a/b", "a\\b", "a\0b"])
def test_names_that_lead_out_of_the_bundle_are_refused(bundle_dir: Path, name: str) -> None:
    (bundle_dir.parent / "secret").write_text("not yours")
    edit(bundle_dir, lambda m: m["files"].update({name: {"sha256": "0" * 64, "bytes": 9}}))
    with pytest.raises(BundleError, match=r"only plain file names|U\+0000 in a key of files"):
        Bundle.load(bundle_dir)


def test_a_link_that_leads_out_of_the_bundle_is_refused(bundle_dir: Path) -> None:
    outside = bundle_dir.parent / "outside.onnx"
    (bundle_dir / "model.onnx").rename(outside)
    (bundle_dir / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match=r"model\.onnx is a link that leads out"):
        Bundle.load(bundle_dir)


def test_a_link_inside_the_bundle_is_followed(bundle_dir: Path) -> None:
    (bundle_dir / "..data").mkdir()
    (bundle_dir / "model.onnx").rename(bundle_dir / "..data" / "model.onnx")
    (bundle_dir / "model.onnx").symlink_to("..data/model.onnx")
    assert Bundle.load(bundle_dir).name == "tiny"


@pytest.mark.parametrize("location", ["/etc/passwd", "../weights", "weights"])
def test_tensors_kept_in_files_that_the_manifest_does_not_list_are_refused(tmp_path: Path, location: str) -> None:
    directory = tmp_path / "tiny"
    model = tiny_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    write_tiny_bundle(directory)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"model\.onnx keeps tensors in"):
        seal(directory, "model.onnx")
        Bundle.load(directory)


def test_external_tensors_are_found_in_nested_graphs() -> None:
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "deep.bin"
    body = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [])
    loop = onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    model = onnx.helper.make_model(onnx.helper.make_graph([loop], "outer", [], []))
    assert external_files(model.SerializeToString()) == {"deep.bin"}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf, short enough for a length of one byte."""
    assert number < 16 and len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


LOCATION = field(1, b"location") + field(2, b"/etc/passwd")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (b"\xea\x80\x80\x80\x10" + bytes([len(LOCATION)]) + LOCATION, "beyond 32 bits"),
        (b"\xea\x00" + bytes([len(LOCATION)]) + LOCATION, "in 2 bytes, more than it takes"),
        (b"\x6a" + bytes([len(LOCATION) | 0x80, 0x80, 0]) + LOCATION, "in 3 bytes, more than it takes"),
    ],
)
def test_a_field_cannot_be_hidden_by_how_its_number_is_written(tensor: bytes, message: str) -> None:
    assert external_files(field(7, field(5, field(13, LOCATION)))) == {"/etc/passwd"}
    with pytest.raises(OnnxError, match=message):
        external_files(field(7, field(5, tensor)))


def test_negative_numbers_and_large_lengths_are_read() -> None:
    node = onnx.helper.make_node("Concat", ["x"], ["y"], axis=-1, note="long " * 5000)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    assert external_files(model.SerializeToString()) == set()


@pytest.mark.parametrize("place", ["graph", "nested", "function"])
def test_a_node_that_runs_what_another_file_holds_is_refused(place: str) -> None:
    node = onnx.helper.make_node("EPContext", [], ["c"], domain="com.microsoft", ep_cache_context="../../evil.bin")
    opset = onnx.helper.make_opsetid("com.microsoft", 1)
    functions = []
    if place == "nested":
        body = onnx.helper.make_graph([node], "g", [], [])
        node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    if place == "function":
        functions = [onnx.helper.make_function("own", "f", [], ["c"], [node], [opset])]
        node = onnx.helper.make_node("f", [], ["c"], domain="own")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "outer", [], []), functions=functions)
    with pytest.raises(OnnxError, match="node EPContext"):
        external_files(model.SerializeToString())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_are_refused_without_a_crash(noise: bytes) -> None:
    try:
        external_files(noise)
    except OnnxError:
        return
    onnx.ModelProto.FromString(noise)


def test_the_version_names_everything_a_probability_depends_on(tmp_path: Path) -> None:
    hotter = (Task(name="sentiment", labels=SENTIMENT_LABELS, output="sentiment", temperature=2.0), TASKS[1])
    versions = {
        write_tiny_bundle(tmp_path / "a").version_id,
        write_tiny_bundle(tmp_path / "b", seed=1).version_id,
        write_tiny_bundle(tmp_path / "c", tasks=hotter).version_id,
        write_tiny_bundle(tmp_path / "d", max_tokens=16).version_id,
    }
    assert len(versions) == 4
    assert write_tiny_bundle(tmp_path / "e").version_id in versions
    apart = write_apart(tmp_path / "f")
    versions.add(apart.version_id)
    weights = bytearray((apart.path / "weights.bin").read_bytes())
    weights[-1] ^= 1
    (apart.path / "weights.bin").write_bytes(weights)
    versions.add(write_manifest(apart.path, apart.manifest).version_id)
    assert len(versions) == 6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(description="fine \x1b]0;owned\x07"), "U+001B in description"),
        (lambda m: m.update(licence="MIT\nApache-2.0"), "U+000A in licence"),
        (lambda m: m["tasks"][1]["labels"].__setitem__(0, "\x9b31mred"), r"U+009B in tasks[1].labels[0]"),
        (lambda m: m["data"][0].update(source="x\x7f"), "U+007F in data[0].source"),
        (lambda m: m.update({"a\x1bb": 1}), "U+001B in a key of its top level"),
        (lambda m: m.update(version="1\n"), "U+000A in version"),
    ],
)
def test_what_a_terminal_would_obey_is_refused_by_the_name_of_its_field(
    bundle_dir: Path, change: Callable[[dict[str, Any]], object], field: str
) -> None:
    edit(bundle_dir, change)
    with pytest.raises(BundleError, match=re.escape(f"has the control character {field};")):
        Bundle.load(bundle_dir)


def test_texts_for_people_may_have_lines(bundle_dir: Path) -> None:
    edit(bundle_dir, lambda m: m.update(description="One.\n\n\tTwo.", limitations="Some.\nOthers."))
    assert Bundle.load(bundle_dir).manifest.description == "One.\n\n\tTwo."


def test_the_shipped_bundle_keeps_its_version(shipped: Bundle) -> None:
    """The fingerprint of a bundle without other files of tensors is what it was before those counted."""
    files, manifest = shipped.manifest.files, shipped.manifest
    parts = (files["model.onnx"].sha256, files["tokenizer.json"].sha256, manifest.max_tokens, manifest.tasks)
    digest = hashlib.sha256(msgspec.json.encode((*parts, manifest.word_scores))).hexdigest()[:12]
    assert shipped.version_id == f"{shipped.name}-{shipped.version}+{digest}"


def test_the_model_card_says_what_the_manifest_says(tiny: Bundle) -> None:
    card = tiny.read("MODEL_CARD.md").decode()
    assert "# tiny 1" in card
    assert "negative, neutral, positive" in card
    assert "| words of the tests | training | 40 | Apache-2.0 |" in card


def test_the_shipped_bundle_is_whole_and_small(shipped: Bundle) -> None:
    assert shipped.manifest.sha256
    assert [task.name for task in shipped.tasks] == ["sentiment", "topic"]
    assert "en" in shipped.languages
    assert sum(entry.bytes for entry in shipped.manifest.files.values()) <= 25_000_000


def test_the_shipped_bundle_learned_from_what_anybody_may_use_and_says_from_what(shipped: Bundle) -> None:
    notice = shipped.read("NOTICE").decode()
    assert shipped.manifest.parent.licence == "Apache-2.0"
    assert f"{shipped.manifest.parent.name} (Apache-2.0 licence)" in notice
    learned = [source for source in shipped.manifest.data if source.use != "measuring"]
    assert {source.licence for source in learned} <= {"MIT", "Apache-2.0"}
    assert all(source.name in notice and f"({source.licence} licence)" in notice for source in learned)
    assert {source.name for source in learned} >= {"TFNS", "TFNT"}
