"""The model bundle: a directory that holds everything one model needs, and proves that it is intact.

    finance-en/
        model.onnx       input_ids, attention_mask int64[batch, seq]; per task logits float32[batch, labels]
        tokenizer.json   of the `tokenizers` library, normaliser included: a text goes in as it came
        bundle.json      the `Manifest` below: tasks, limits, provenance, SHA-256 of every other file and of itself
        MODEL_CARD.md    made from bundle.json
        NOTICE           licences of the parent model and of the data

Nothing in a bundle is unpickled and no code from it runs. A bundle that does not verify is not loaded.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from models.model_card import render_model_card
from models.onnx_graph import OnnxError, external_files
from models.probabilities import Calibration

FORMAT: Literal[1] = 1
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
MANIFEST = "bundle.json"
CARD = "MODEL_CARD.md"
MAX_MANIFEST_BYTES = 1 << 20
TEXT_FIELDS = ("description", "limitations")
"""Of the manifest: those that may have lines."""

SENTIMENT_LABELS = ("negative", "neutral", "positive")

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class BundleError(Exception):
    """A bundle cannot be used. The message names the file, what is wrong with it, and what to do."""


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """One question the model answers. `output` names its logits in the graph, float32[batch, len(labels)].

    `temperature` and `exponent` calibrate what comes of them (`models.probabilities.softmax`).
    """

    name: Name
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    output: Annotated[str, Meta(min_length=1)]
    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    exponent: Annotated[float, Meta(gt=0.0, le=10.0)] = 1.0

    @property
    def calibration(self) -> Calibration:
        """What makes probabilities of the task's logits."""
        return Calibration(self.temperature, self.exponent)


class ParentModel(Struct, frozen=True, forbid_unknown_fields=True):
    """The published model that training started from."""

    name: str
    licence: str
    source: str = ""
    revision: str = ""


class DataSource(Struct, frozen=True, forbid_unknown_fields=True):
    """Texts that the model learned from (`training`), was tuned on (`validation`) or was only measured on."""

    name: str
    licence: str
    rows: Annotated[int, Meta(ge=0)]
    use: Literal["training", "validation", "measuring"] = "training"
    source: str = ""


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """What one task of exactly this model reached on one data set."""

    task: str
    data: str
    rows: Annotated[int, Meta(ge=1)]
    accuracy: Probability
    macro_f1: Probability
    ece: Probability | None = None


class WordScores(Struct, frozen=True, forbid_unknown_fields=True):
    """An output of the graph, float32[batch, seq], with what every token adds to the log-odds of one label.

    `drop` is what the label's probability lost, on average, without the three heaviest words of a text; `drop_others`
    without three others. Measured on some of `texts` texts, which the fit had not seen.
    """

    task: Name
    label: str
    output: Annotated[str, Meta(min_length=1)]
    drop: float
    drop_others: float
    texts: Annotated[int, Meta(ge=1)]


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of one file of the bundle: hexadecimal SHA-256 and length."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Meta(ge=0)]


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """bundle.json. `files` and `sha256` are filled in by `write_manifest`; `created` is a date (RFC 3339), for people.

    `sha256` is that of all other fields (`manifest_sha256`), so that a damaged or edited manifest is found; a bundle
    may go without.
    """

    format: Literal[1] = 1
    name: Name
    version: Name
    tasks: Annotated[tuple[Task, ...], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=4, le=8192)]
    languages: Annotated[tuple[str, ...], Meta(min_length=1)]
    precision: Literal["fp32", "fp16", "int8"]
    description: str = ""
    licence: str = ""
    created: str = ""
    recipe: str = ""
    parent: ParentModel | None = None
    data: tuple[DataSource, ...] = ()
    metrics: tuple[Metric, ...] = ()
    limitations: str = ""
    word_scores: WordScores | None = None
    files: dict[str, FileEntry] = {}
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""


class _Listing(Struct, frozen=True):
    """The part of a manifest that says which files there are."""

    files: dict[str, object]


class Bundle:
    """A verified bundle on disk.

    Attributes: `path`, `manifest`, and out of it `name`, `version`, `tasks`, `max_tokens`, `languages`,
    `precision`; `external`, the names of the files in which the graph keeps tensors; `version_id` goes into every
    score and alert.
    """

    def __init__(self, path: Path, manifest: Manifest, external: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.manifest = manifest
        self.name = manifest.name
        self.version = manifest.version
        self.tasks = manifest.tasks
        self.max_tokens = manifest.max_tokens
        self.languages = manifest.languages
        self.precision = manifest.precision
        self.external = external
        self.version_id = _version_id(manifest, external)

    def __repr__(self) -> str:
        return f"Bundle({self.version_id}, {str(self.path)!r})"

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read and verify the bundle at `path`: its manifest, the size and SHA-256 of every file, the tensors
        that the graph keeps in other files.

        Raises BundleError, naming the file, where anything is missing, truncated, altered, unlisted or out of place.
        """
        manifest = _read_manifest(path)
        _check_unlisted(path, manifest)
        for name in manifest.files:
            if name != MODEL:
                _read_checked(path, manifest, name)
        return cls(path, manifest, _external_files(path, manifest, _read_checked(path, manifest, MODEL)))

    def task(self, name: str) -> Task:
        """The task of that name; BundleError with the names there are if it has none."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise _error(self.path / MANIFEST, f"has no task {name!r}, only {', '.join(t.name for t in self.tasks)}")

    def read(self, name: str) -> bytes:
        """The bytes of a file of the bundle, checked against the manifest as they are read."""
        return _read_checked(self.path, self.manifest, name)

    def read_external(self) -> dict[str, bytes]:
        """The files in which the graph keeps tensors, by name, each checked as `read` does."""
        return {name: self.read(name) for name in sorted(self.external)}


def unlisted(directory: Path) -> list[str]:
    """What lies in a bundle's directory and does not belong to it: names of files and directories, sorted.

    The bundle may be damaged. Raises BundleError where its manifest does not even list files.
    """
    try:
        listing = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=_Listing)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _error(directory / MANIFEST, f"lists no files: {error}") from error
    return sorted({file.name for file in directory.iterdir()} - {MANIFEST, *listing.files})


def plain_name(option: str, name: str) -> str:
    """`name`, where a manifest may hold it as a name or version; else BundleError, which names the `option`."""
    wrong = f"{option} {name!r} is no name for it; use letters, digits, dots, hyphens and underscores"
    if name.endswith("\n"):
        raise BundleError(wrong)
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError as error:
        raise BundleError(f"{wrong} ({error})") from error


def control_characters(value: object, field: str = "") -> Iterator[tuple[str, str]]:
    """The control characters, as U+000A, in the keys and strings of a manifest, and the field of each: a terminal would
    obey them. Texts for people may have lines and tabs."""
    if isinstance(value, str):
        allowed = "\n\t" if field in TEXT_FIELDS else ""
        odd = (c for c in value if unicodedata.category(c) == "Cc" and c not in allowed)
        yield from ((f"U+{ord(c):04X}", field) for c in odd)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from control_characters(key, f"a key of {field or 'its top level'}")
            yield from control_characters(inner, f"{field}.{key}" if field else key)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from control_characters(inner, f"{field}[{number}]")


def default_bundle_path() -> Path:
    """The English finance bundle that ships inside the package."""
    return Path(__file__).parent / "bundles" / "finance-en"


def write_manifest(directory: Path, manifest: Manifest) -> Bundle:
    """Finish a bundle: write MODEL_CARD.md, hash every file in `directory`, write bundle.json, load it again.

    `directory` already holds model.onnx, tokenizer.json and NOTICE; `manifest.files` is ignored and replaced.
    Raises BundleError where the result would not load.
    """
    (directory / CARD).write_text(render_model_card(manifest), encoding="utf-8")
    files: dict[str, FileEntry] = {}
    for file in sorted(directory.iterdir()):
        if file.name == MANIFEST or file.name.startswith("."):
            continue
        content = _inside(directory, file.name).read_bytes()
        files[file.name] = FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    complete = msgspec.structs.replace(manifest, files=files, sha256="")
    seal = manifest_sha256(msgspec.json.decode(msgspec.json.encode(complete), type=dict[str, object]))
    text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(complete, sha256=seal)), indent=2)
    draft = directory / f".{MANIFEST}.new"
    draft.write_bytes(text + b"\n")
    draft.replace(directory / MANIFEST)
    return Bundle.load(directory)


def manifest_sha256(fields: Mapping[str, object]) -> str:
    """The SHA-256 that a manifest of these fields carries: of all of them but itself, as JSON with sorted keys, without
    spaces, in UTF-8."""
    others = {name: value for name, value in fields.items() if name != "sha256"}
    return hashlib.sha256(msgspec.json.encode(others, order="sorted")).hexdigest()


def _read_manifest(path: Path) -> Manifest:
    if not path.is_dir():
        raise _error(path, "is not a directory; a model bundle is one", hint="check the configured model.bundle")
    file = _inside(path, MANIFEST)
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise _error(file, f"is longer than {MAX_MANIFEST_BYTES} bytes")
    raw = file.read_bytes()
    try:
        head = msgspec.json.decode(raw, type=dict[str, object])
        for character, field in control_characters(head):
            raise _error(file, f"has the control character {character} in {field}")
        if head.get("format") != FORMAT:
            raise _error(
                file,
                f"has format {head.get('format')!r} and this version reads format {FORMAT}",
                hint="export the model again with this version of bearwire",
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
        digest = manifest_sha256(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _error(file, f"is not a valid manifest: {error}") from error
    if manifest.sha256 and digest != manifest.sha256:
        raise _error(
            file,
            f"was changed: its fields have SHA-256 {digest[:12]}… where it says {manifest.sha256[:12]}…",
            hint="restore or export the bundle again; if the change is yours, take out its field sha256",
        )
    _check_tasks(file, manifest.tasks)
    _check_word_scores(file, manifest)
    for required in (MODEL, TOKENIZER):
        if required not in manifest.files:
            raise _error(file, f"does not list {required}")
    return manifest


def _check_tasks(file: Path, tasks: tuple[Task, ...]) -> None:
    for what, values in (("task name", [t.name for t in tasks]), ("output", [t.output for t in tasks])):
        if len(set(values)) != len(values):
            raise _error(file, f"uses a {what} twice: {', '.join(values)}")
    for task in tasks:
        if len(set(task.labels)) != len(task.labels) or "" in task.labels:
            raise _error(file, f"has an empty or repeated label in task {task.name!r}: {', '.join(task.labels)}")
        if set(task.labels) == set(SENTIMENT_LABELS) and task.labels != SENTIMENT_LABELS:
            raise _error(file, f"orders the labels of {task.name!r} as {task.labels}, expected {SENTIMENT_LABELS}")


def _check_word_scores(file: Path, manifest: Manifest) -> None:
    scored = manifest.word_scores
    if scored is not None and not any(
        task.name == scored.task and scored.label in task.labels and scored.output != task.output
        for task in manifest.tasks
    ):
        raise _error(file, f"scores words for {scored.label!r} of {scored.task!r}, which is no label of a task")


def _check_unlisted(path: Path, manifest: Manifest) -> None:
    """Every file is listed. Directories and hidden files may lie there (a mounted volume's, a file manager's): nothing
    is ever read from them."""
    for file in sorted(path.iterdir()):
        if file.name == MANIFEST or file.name in manifest.files or file.name.startswith("."):
            continue
        if file.is_symlink() or not file.is_dir():
            raise _error(file, f"is not listed in {MANIFEST}", hint="move it away, or export the bundle again")


def _external_files(path: Path, manifest: Manifest, model: bytes) -> frozenset[str]:
    """The files beside the graph in which it keeps tensors: only such as the manifest lists and hashes."""
    try:
        found = frozenset(external_files(model))
    except OnnxError as error:
        raise _error(path / MODEL, f"is not an ONNX model that can be used: {error}") from error
    outside = found - manifest.files.keys()
    if outside:
        raise _error(path / MODEL, f"keeps tensors in {sorted(outside)[0]!r}, which {MANIFEST} does not list")
    return found


def _read_checked(path: Path, manifest: Manifest, name: str) -> bytes:
    entry = manifest.files.get(name)
    if entry is None:
        raise _error(path / name, f"is not listed in {MANIFEST}")
    file = _inside(path, name)
    size = file.stat().st_size
    if size != entry.bytes:
        state = "truncated" if size < entry.bytes else "too long"
        raise _error(file, f"is {state}: {size} bytes where {MANIFEST} says {entry.bytes}")
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise _error(file, f"was changed: SHA-256 {digest[:12]}… where {MANIFEST} says {entry.sha256[:12]}…")
    return content


def _inside(directory: Path, name: str) -> Path:
    """`directory / name`, an existing regular file that also lies there once links are followed."""
    file = directory / name
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise _error(directory / MANIFEST, f"names the file {name!r}; only plain file names are allowed")
    if not file.is_file():
        raise _error(file, "is missing or not a regular file")
    if not file.resolve().is_relative_to(directory.resolve()):
        raise _error(file, "is a link that leads out of the bundle")
    return file


def _version_id(manifest: Manifest, external: frozenset[str]) -> str:
    """Name, version and a fingerprint of all that a probability depends on; `external` are files of tensors."""
    parts = (
        manifest.files[MODEL].sha256,
        manifest.files[TOKENIZER].sha256,
        manifest.max_tokens,
        manifest.tasks,
        *([manifest.word_scores] if manifest.word_scores else []),
        *([[(name, manifest.files[name].sha256) for name in sorted(external)]] if external else []),
    )
    fingerprint = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:12]
    return f"{manifest.name}-{manifest.version}+{fingerprint}"


def _error(file: Path, wrong: str, *, hint: str = "restore or export the bundle again") -> BundleError:
    return BundleError(f"{file} {wrong}; {hint}")
