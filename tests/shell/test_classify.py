from __future__ import annotations

import base64
import codecs
import gzip
import io
import os
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from click.testing import Result
from pyarrow import parquet

import streamer.commands.classify
import streamer.commands.terminal
import streamer.offline.sources
from models.model_set import Answer
from streamer.config.load import environment_name
from streamer.config.settings import Config
from streamer.offline.classify import CHUNK_LINES, Tally, classify_chunks
from streamer.offline.lines import Chunk, Line, LineSource
from streamer.offline.sources import SourceError, open_source
from tests.shell.commands import bearwire, process_arguments
from tests.shell.words import WordScorer

LIMITS = Config().document_limits


@pytest.fixture(autouse=True)
def word_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(streamer.commands.classify, "load_models", lambda settings: WordScorer())
    monkeypatch.chdir(tmp_path)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in result.stdout_bytes.splitlines()]


def test_each_line_gets_sentiment_topic_and_model() -> None:
    (line,) = lines(bearwire("classify", input='{"id":"a","text":"bad"}'))
    assert line == {
        "id": "a",
        "sentiment": {"negative": 0.9, "neutral": 0.05, "positive": 0.05},
        "topic": {"label": "Macro", "score": 0.75, "scores": {"Earnings": 0.25, "Macro": 0.75}},
        "model": WordScorer.version_id,
    }


def test_order_is_kept_over_many_chunks_and_the_line_number_is_the_id() -> None:
    text = "".join(f'{{"text":"{"bad" if n % 3 else "good"} {n}"}}\n' for n in range(3 * CHUNK_LINES + 7))
    found = lines(bearwire("classify", input=text))
    assert [line["id"] for line in found] == [str(n + 1) for n in range(3 * CHUNK_LINES + 7)]
    assert all((line["sentiment"]["negative"] > 0.5) == bool(n % 3) for n, line in enumerate(found))


def test_bad_lines_go_to_the_rejects_with_their_bytes() -> None:
    source = b'{"text":"bad"}\n\nnot json\n{"text":"\xff"}\r\n{"text":""}\n{"text":"good"}'
    Path("in.jsonl").write_bytes(source)
    result = bearwire("classify", "in.jsonl", "-o", "out.jsonl", "--rejects", "rejects.jsonl")
    assert result.exit_code == 0, result.output
    assert [orjson.loads(line)["id"] for line in Path("out.jsonl").read_bytes().splitlines()] == ["1", "6"]
    rejects = [orjson.loads(line) for line in Path("rejects.jsonl").read_bytes().splitlines()]
    assert [(reject["line"], reject["reason"]) for reject in rejects] == [
        (3, "invalid_json"),
        (4, "invalid_utf8"),
        (5, "empty_text"),
    ]
    assert rejects[0]["original"] == "not json"
    assert base64.b64decode(rejects[1]["original_base64"]) == b'{"text":"\xff"}'
    assert "2 texts scored" in result.stderr
    assert "3 rejected (see rejects.jsonl)" in result.stderr
    assert "texts/s" in result.stderr


def test_without_a_rejects_file_the_first_bad_lines_are_shown_escaped() -> None:
    result = bearwire("classify", input="\x1b[31mred\n" * 9)
    assert result.exit_code == 0
    assert result.stderr.count("invalid_json") == 5
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("others", ["skip", "dead_letter"])
def test_a_language_without_a_model_is_counted_or_rejected_as_configured(
    others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment_name("model.other_languages"), others)
    source = '{"text":"bad","lang":"en"}\n{"text":"male","lang":"it"}\n{"text":"good"}\n'
    result = bearwire("classify", "--rejects", "bad.jsonl", input=source)
    assert [line["id"] for line in lines(result)] == ["1", "3"]
    skipped = others == "skip"
    assert ("1 skipped in a language that no model reads" in result.stderr) == skipped
    assert Path("bad.jsonl").read_bytes().count(b"no_model_for_language") == (0 if skipped else 1)


def test_a_language_that_the_only_model_does_not_read_is_scored_and_counted() -> None:
    source = (
        '{"text":"bad","lang":"en-GB"}\n{"text":"male","lang":"it"}\n{"text":"好","lang":"zh-CN"}\n{"text":"good"}\n'
    )
    result = bearwire("classify", input=source)
    assert len(lines(result)) == 4
    assert "0 rejected, 2 in a language that no model reads scored by the default one all the same;" in result.stderr


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.csv", "in.csv.gz", "in.parquet"])
def test_files_are_read_by_their_name(name: str) -> None:
    rows = [{"id": "a", "text": "bad, day"}, {"id": "b", "text": 'a "good"\nday'}]
    if name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), name)
    else:
        csv = b'id,text\na,"bad, day"\nb,"a ""good""\nday"\n'
        content = csv if ".csv" in name else b"\n".join(map(orjson.dumps, rows))
        Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = lines(bearwire("classify", name))
    assert [(line["id"], max(line["sentiment"], key=line["sentiment"].get)) for line in found] == [
        ("a", "negative"),
        ("b", "positive"),
    ]


def test_a_byte_order_mark_at_the_start_of_a_file_does_not_count() -> None:
    Path("in.jsonl").write_bytes(b'\xef\xbb\xbf{"text":"bad"}\r\n{"text":"good"}\r\n')
    assert [line["id"] for line in lines(bearwire("classify", "in.jsonl"))] == ["1", "2"]


def test_times_of_parquet_finer_or_further_away_than_pythons_reject_single_rows_at_most() -> None:
    times = pa.array([1_772_500_000_123_456_789, -1, 2**62], pa.timestamp("ns"))
    far = pa.array([2**62, 0, None], pa.timestamp("us", tz="UTC"))
    table = pa.table({"text": [b"bad", b"good", b"go\xff"], "published_at": times, "seen": far})
    parquet.write_table(table, "in.parquet")
    with open_source("in.parquet") as source:
        rows = [line.value for chunk in source.chunks(10, 1000) for line in chunk.lines]
    assert orjson.loads(rows[0])["published_at"] == "2026-03-03T01:06:40.123Z"
    assert orjson.loads(rows[0])["seen"] == f"{2**62 // 1000} ms since 1970"
    assert orjson.loads(rows[1])["published_at"] == "1969-12-31T23:59:59.999Z"
    result = bearwire("classify", "in.parquet", "--rejects", "rejects.jsonl")
    assert [line["id"] for line in lines(result)] == ["1", "2"]
    assert orjson.loads(Path("rejects.jsonl").read_bytes())["line"] == 3


def test_a_parquet_file_that_is_damaged_inside_is_one_sentence() -> None:
    parquet.write_table(pa.table({"text": [f"text {number}" for number in range(1000)]}), "in.parquet")
    content = bytearray(Path("in.parquet").read_bytes())
    content[40:2000] = bytes(byte ^ 0xFF for byte in content[40:2000])
    Path("in.parquet").write_bytes(content)
    result = bearwire("classify", "in.parquet")
    assert result.exit_code == 1
    assert result.stderr.startswith("bearwire: in.parquet: ")


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_names_of_columns_are_shown_escaped(name: str) -> None:
    if name.endswith(".csv"):
        Path(name).write_bytes("\x1b[31m\x9b,b\n1,2\n".encode())
    else:
        parquet.write_table(pa.table({"\x1b[31m\x9b": [1]}), name)
    with pytest.raises(SourceError) as caught, open_source(name) as source:
        next(source.chunks(1, 1))
    assert "\\x1b[31m\\x9b" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"text\n" + b"a," * 500_000,
        b"text," + b"a," * 500_000,
        b'text\ngood\n"' + b'","\n' * 500_000,
    ],
    ids=["line", "header", "row of many lines"],
)
def test_a_csv_row_without_end_is_refused_before_it_is_read_whole(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamer.offline.sources, "MAX_LINE_BYTES", 1000)
    Path("in.csv").write_bytes(content)
    tracemalloc.start()
    try:
        said = pytest.raises(SourceError, match=r"in\.csv: line \d+: a row is longer than 1000")
        with said, open_source("in.csv") as source:
            list(source.chunks(10, 1000))
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_many_csv_rows_are_no_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.offline.sources, "MAX_LINE_BYTES", 1000)
    Path("in.csv").write_bytes(b"text,b\n" + b'"good\r\nday",\r\n' * 500 + b"\n" * 3000 + b"x" * 999 + b"\n")
    with open_source("in.csv") as source:
        rows = [line for chunk in source.chunks(10, 1000) for line in chunk.lines]
    assert len(rows) == 501
    assert orjson.loads(rows[0].value) == {"text": "good\r\nday"}


def test_one_column_may_hold_several_fields() -> None:
    Path("in.csv").write_text("headline,id\nprofit plunges,7\n", encoding="utf-8")
    with open_source("in.csv", {"text": "headline", "title": "headline"}) as source:
        ((line,),) = (chunk.lines for chunk in source.chunks(10, 1000))
    assert orjson.loads(line.value) == {"text": "profit plunges", "title": "profit plunges", "id": "7"}


def test_a_byte_order_mark_that_comes_alone_is_no_line() -> None:
    class Slow(io.BytesIO):
        """Gives the mark first, as a pipe does whose writer flushes it."""

        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(3 if self.tell() == 0 else size)

    source = LineSource(Slow(codecs.BOM_UTF8 + b"one\ntwo\n"))
    numbered = [(line.number, line.value) for chunk in source.chunks(10, 1000) for line in chunk.lines]
    assert numbered == [(1, b"one"), (2, b"two")]


def test_parquet_is_read_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.offline.sources, "_BYTES_AT_ONCE", 1 << 20)
    texts = [f"{n:06}" + "x" * 100_000 for n in range(300)]
    table = pa.table({"text": texts, "id": range(300), "a.b": [1.5, None] * 150, "symbols": [["A", "B"]] * 300})
    parquet.write_table(table, "in.parquet", use_dictionary=False, write_batch_size=1)
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with open_source("in.parquet") as source:
            for chunk in source.chunks(10, 1000):
                for line in chunk.lines:
                    row = orjson.loads(line.value)
                    n = line.number - 1
                    assert row.pop("text") == texts[n]
                    assert row == {"id": str(n), "symbols": ["A", "B"]} | ({} if n % 2 else {"a.b": 1.5})
        assert line.number == 300
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 10 << 20


@pytest.mark.parametrize("on_terminal", [True, False])
def test_on_a_terminal_controls_in_json_are_escaped(on_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamer.commands.terminal, "is_on_terminal", lambda: on_terminal)
    source = "no json \u202e\x9b"
    result = bearwire("classify", "--rejects", "-", input=source)
    assert lines(result)[0]["original"] == source
    assert (source.encode() not in result.stdout_bytes) == on_terminal
    assert bearwire("classify", "--rejects", "rejects.jsonl", input=source).exit_code == 0
    assert source.encode() in Path("rejects.jsonl").read_bytes()


def test_output_named_gz_is_compressed() -> None:
    assert bearwire("classify", "-o", "out.jsonl.gz", input='{"text":"bad"}').exit_code == 0
    assert orjson.loads(gzip.decompress(Path("out.jsonl.gz").read_bytes()))["id"] == "1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl.gz", gzip.compress(b'{"text":"bad"}\n' * 9999)[:-20], "not intact gzip"),
        ("in.jsonl.gz", b"plain", "not intact gzip"),
        ("in.csv.gz", b"plain", "not intact gzip"),
        ("in.csv", b"a,b\n1,2\n", "names no column `text`"),
        ("in.csv", b"", "in.csv: is empty"),
        ("in.parquet", b"PAR1 no", "in.parquet: "),
        ("gone.jsonl", None, "gone.jsonl: No such file or directory"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_one_sentence(name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    result = bearwire("classify", name)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_input_is_never_overwritten() -> None:
    Path("in.jsonl").write_text('{"text":"bad"}')
    assert bearwire("classify", "in.jsonl", "-o", "./in.jsonl").exit_code == 2
    assert bearwire("classify", "in.jsonl", "-o", "x", "--rejects", "x").exit_code == 2
    Path("hard.jsonl").hardlink_to("in.jsonl")
    assert bearwire("classify", "in.jsonl", "-o", "hard.jsonl").exit_code == 2
    assert Path("in.jsonl").read_text() == '{"text":"bad"}'


def test_at_most_three_chunks_are_held_at_once() -> None:
    """The source is asked for another chunk only after the output of earlier ones was written."""
    written: list[bytes] = []

    def chunks() -> Any:
        for number in range(20):
            assert number - len(written) <= 3
            yield Chunk([Line(number, b'{"text":"bad"}')], False)

    tally = classify_chunks(
        chunks(), WordScorer(), LIMITS, write=written.append, reject=print, progress=lambda tally: None
    )
    assert tally == Tally(20, 0)


def test_a_source_that_waits_gets_its_answers_without_another_line() -> None:
    """`tail -f | bearwire classify` must not hold back what it knows."""
    written: list[bytes] = []

    def chunks() -> Any:
        yield Chunk([Line(1, b'{"text":"bad"}')], True)
        assert len(written) == 1

    classify_chunks(chunks(), WordScorer(), LIMITS, write=written.append, reject=print, progress=lambda tally: None)


def test_reading_goes_on_while_the_model_works() -> None:
    reading = threading.Event()

    class Waiting(WordScorer):
        def predict(self, texts: Any, routes: Any = None) -> Answer:
            assert reading.wait(10)
            return super().predict(texts, routes)

    def chunks() -> Any:
        yield Chunk([Line(1, b'{"text":"bad"}')], False)
        reading.set()
        yield Chunk([Line(2, b'{"text":"bad"}')], False)

    progress: Callable[[Tally], None] = lambda tally: None  # noqa: E731
    assert classify_chunks(chunks(), Waiting(), LIMITS, write=len, reject=print, progress=progress).scored == 2


PATCHED = """
import sys, streamer.commands.classify
from tests.shell.words import WordScorer
streamer.commands.classify.load_models = lambda settings: WordScorer()
from streamer.cli import main
main(sys.argv[1:])
"""


def command(*arguments: str) -> list[str]:
    python = process_arguments()[0]
    return [python, "-c", PATCHED, *arguments]


def test_a_closed_pipe_is_no_accident() -> None:
    Path("in.jsonl").write_text('{"text":"bad"}\n' * 20_000)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command("classify", "in.jsonl"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(30) == 141
    assert errors == b""


def test_sigterm_leaves_a_whole_file_behind() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command("classify", "-o", "out.gz"), stdin=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"text":"bad"}\n')
        process.stdin.flush()
        while not (Path("out.gz").exists() and Path("out.gz").stat().st_size):
            assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 143
    assert orjson.loads(gzip.decompress(Path("out.gz").read_bytes()))["id"] == "1"


def test_a_pipe_is_answered_line_by_line() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command("classify"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(b'{"text":"bad"}\n')
            process.stdin.flush()
            assert orjson.loads(process.stdout.readline())["id"] == str(number)
        process.stdin.close()
        assert process.wait(30) == 0
