"""Looks into an ONNX file without the `onnx` package: which other files it makes a runtime read.

An ONNX file is a protobuf message (onnx.proto3 in github.com/onnx/onnx; wire format:
protobuf.dev/programming-guides/encoding). A tensor may say that its data is in another file, by any path; a
runtime that follows it reads whatever the path names. A node EPContext names a file that is compiled already. Only
the few fields that lead to either are walked; tensor data is skipped over.

Protobuf cuts a tag to 32 bits, so that there are many ways to write one field. Tags and lengths must be written in the
shortest, as every writer of ONNX does: what is walked here is then what a runtime sees.
"""

from __future__ import annotations

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 64

FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {4: "op_type", 5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
    "StringStringEntryProto": {},
}
KEY, VALUE = 1, 2
EXTERNAL_OPERATOR = b"EPContext"


class OnnxError(ValueError):
    """The bytes are not an ONNX model, or not one that may be run."""


def external_files(model: bytes) -> set[str]:
    """The file names (as written, relative to the model) in which tensors of the model keep their data.

    Raises OnnxError where the bytes do not follow protobuf's wire format, write a tag or length longer than it need be,
    hold no graph, or hold a node EPContext.
    """
    found: set[str] = set()
    view = memoryview(model)
    if not any(field == 7 for field, _, _ in _fields(view, 0, len(view))):
        raise OnnxError("it has no graph")
    _walk(view, 0, len(view), "ModelProto", found, 0)
    return found


def _walk(view: memoryview, start: int, end: int, message: str, found: set[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise OnnxError(f"graphs are nested more than {MAX_DEPTH} deep")
    children = FIELDS[message]
    for field, first, last in _fields(view, start, end):
        child = children.get(field)
        if child == "StringStringEntryProto":
            entry = {f: bytes(view[a:b]) for f, a, b in _fields(view, first, last)}
            if entry.get(KEY) == b"location":
                found.add(entry.get(VALUE, b"").decode("utf-8", "replace"))
        elif child == "op_type":
            if view[first:last] == EXTERNAL_OPERATOR:
                raise OnnxError("it has a node EPContext, which runs what another file holds")
        elif child is not None:
            _walk(view, first, last, child, found, depth + 1)


def _fields(view: memoryview, at: int, end: int) -> list[tuple[int, int, int]]:
    """(field number, start, end) of each length-delimited field of the message that lies in [at, end)."""
    fields = []
    while at < end:
        tag, at = _shortest_varint(view, at, end)
        if tag >= 1 << 32:
            raise OnnxError(f"it has the tag {tag}, which is beyond 32 bits")
        wire = tag & 7
        if wire == VARINT:
            _, at = _varint(view, at, end)
        elif wire == FIXED64:
            at += 8
        elif wire == FIXED32:
            at += 4
        elif wire == LENGTH_DELIMITED:
            length, at = _shortest_varint(view, at, end)
            fields.append((tag >> 3, at, at + length))
            at += length
        else:
            raise OnnxError(f"unknown protobuf wire type {wire}")
    if at != end:
        raise OnnxError("it ends in the middle of a field")
    return fields


def _shortest_varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value, after = _varint(view, at, end)
    if after - at > max(1, -(-value.bit_length() // 7)):
        raise OnnxError(f"it writes the number {value} in {after - at} bytes, more than it takes")
    return value, after


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise OnnxError("it ends in the middle of a number")
