"""Labelled texts to measure a model on: a text and a label column of a CSV, JSONL or Parquet file; and plain texts."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

csv.field_size_limit(1 << 26)
_MORE = "\0more"


class LabelledError(ValueError):
    """A file of labelled texts cannot be used. The message names the file, the row and what was expected."""


class Labelled(NamedTuple):
    """Texts and, for each, the index of its true label: int64[n]; and what the label column held, each value once."""

    texts: list[str]
    truth: NDArray[np.int64]
    written: frozenset[str] = frozenset()


def read_labelled(
    file: Path,
    labels: Sequence[str],
    *,
    text: str = "text",
    label: str = "label",
    names: Mapping[str, str] | None = None,
    hint: str = "--label {}=LABEL",
) -> Labelled:
    """Every row of `file` (.csv, .jsonl, .parquet; the first two .gz too), in order.

    `names` translates what the label column holds into a label of the model, such as {"0": "negative"};
    without an entry the value itself must be a label, in any case. Raises LabelledError, whose `hint` is how to say
    what such a value means.
    """
    index = {name.casefold(): at for at, name in enumerate(labels)}
    translate = names or {}
    texts: list[str] = []
    truth: list[int] = []
    found: set[str] = set()
    for number, row in enumerate(_rows(file), start=1):
        if text not in row or label not in row:
            raise LabelledError(f"{file}, row {number}: expected columns {text!r} and {label!r}, found {list(row)}")
        cell, said = (_decoded(row[name], file, number, name) for name in (text, label))
        written = str(said).strip()
        meant = translate.get(written, written)
        at = index.get(meant.casefold())
        if at is None and written in translate:
            raise LabelledError(
                f"{file}, row {number}: {written!r} means {meant!r}, which is not a label of the task "
                f"({', '.join(labels)})"
            )
        if at is None:
            raise LabelledError(
                f"{file}, row {number}: {written!r} is not a label of the task ({', '.join(labels)}); "
                f"say what it means with {hint.format(written)}"
            )
        texts.append(str(cell or ""))
        truth.append(at)
        found.add(written)
    if not texts:
        raise LabelledError(f"{file} has no rows")
    return Labelled(texts, np.array(truth, dtype=np.int64), frozenset(found))


def read_texts(file: Path) -> list[str]:
    """The lines of a text file that hold something. Raises LabelledError where it is not UTF-8 or has no such line."""
    texts = []
    for number, line in enumerate(file.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            odd = f"0x{line[error.start]:02x}"
            raise LabelledError(
                f"{file}, line {number}: expected UTF-8, found the byte {odd}; save the file in UTF-8"
            ) from error
        if text:
            texts.append(text)
    if not texts:
        raise LabelledError(f"{file} has no texts; expected one per line")
    return texts


def _decoded(cell: object, file: Path, number: int, column: str) -> object:
    """A cell; where some writer of Parquet left a text marked as mere bytes, the text."""
    try:
        return cell.decode() if isinstance(cell, bytes) else cell
    except UnicodeDecodeError as error:
        raise LabelledError(f"{file}, row {number}: the column {column!r} holds bytes that are no UTF-8") from error


def _rows(file: Path) -> Iterator[Mapping[str, object]]:
    if not file.is_file():
        raise LabelledError(f"{file} does not exist")
    try:
        yield from _rows_of(file)
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error, OSError) as error:
        raise LabelledError(f"{file} cannot be read: {error}") from error


def _rows_of(file: Path) -> Iterator[Mapping[str, object]]:
    suffix = Path(file.name.removesuffix(".gz")).suffix
    if suffix == ".parquet":
        if file.suffix == ".gz":
            raise LabelledError(f"{file}: Parquet compresses by itself and is not read from .gz; unpack it first")
        import pyarrow as pa
        from pyarrow import parquet

        try:
            for batch in parquet.ParquetFile(file).iter_batches():
                yield from batch.to_pylist()
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise LabelledError(f"{file} cannot be read: {error}") from error
        return
    if suffix not in (".csv", ".jsonl"):
        raise LabelledError(f"{file} is neither .csv, .jsonl nor .parquet")
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as raw:
        if suffix == ".csv":
            reader = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""), restkey=_MORE)
            for cells in reader:
                if any(cell.strip() for cell in cells.pop(_MORE, ())):
                    raise LabelledError(
                        f"{file}, line {reader.line_num}: more cells than the first line names; put a text with commas "
                        "in quotes"
                    )
                yield cells
            return
        for number, line in enumerate(raw, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                try:
                    yield msgspec.json.decode(line, type=dict[str, object])
                except msgspec.DecodeError as error:
                    raise LabelledError(f"{file}, line {number}: not a JSON object: {error}") from error
