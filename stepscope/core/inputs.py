"""Reads uploaded or named files of inputs, the same for form and command line, with errors in the user's words."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from .errors import RequestError
from .request import MAX_BATCH, MAX_INPUTS


def read_inputs(name: str, data: bytes, column: str | None = None) -> tuple[str, ...]:
    """The inputs of a .txt (one a line), .csv or .jsonl (from ``column``, or the only one). Raises RequestError."""
    text = _decoded(name, data)
    kind = _kind(name)
    if kind == "txt":
        found = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        rows = _csv(name, text) if kind == "csv" else _jsonl(name, text)
        known = list(rows[0]) if rows else []
        chosen = column or (known[0] if len(known) == 1 else "")
        if chosen not in known:
            missing = f"{name} has no column {column!r}." if column else f"{name} has several columns."
            raise RequestError(
                f"{missing} Its columns: {', '.join(known) or 'none'}.", "Name the one that holds the inputs."
            )
        found = [str(row[chosen]).strip() for row in rows if str(row.get(chosen) or "").strip()]
    if not found:
        raise RequestError(f"{name} holds no input.", "Check the file.")
    if len(found) > MAX_BATCH:
        raise RequestError(
            f"{name} holds {len(found):,} inputs, more than one batch can ({MAX_BATCH}).", "Shorten the file."
        )
    return tuple(found)


def read_pairs(name: str, data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sources and references (none, or one each) of a .tsv without header, a .csv or .jsonl with the columns ``source``
    and, if there is one, ``reference``, or a .txt. Raises RequestError."""
    text = _decoded(name, data)
    if name.lower().endswith(".tsv"):
        parts = [line.split("\t") for line in text.splitlines() if line.strip()]
        pairs = [(row[0].strip(), row[1].strip() if len(row) > 1 else "") for row in parts]
    elif _kind(name) == "txt":
        pairs = [(line.strip(), "") for line in text.splitlines() if line.strip()]
    else:
        rows = _csv(name, text) if _kind(name) == "csv" else _jsonl(name, text)
        if rows and "source" not in rows[0]:
            raise RequestError(f"{name} has no column 'source'. Its columns: {', '.join(rows[0])}.", "Rename one.")
        pairs = [(str(row.get("source") or "").strip(), str(row.get("reference") or "").strip()) for row in rows]
    if not pairs or not all(source for source, _ in pairs):
        raise RequestError(f"{name} holds no input, or an empty one.", "Check the file.")
    if len(pairs) > MAX_INPUTS:
        raise RequestError(f"{name} holds {len(pairs):,} inputs, more than the {MAX_INPUTS:,} that fit.", "Shorten it.")
    if (missing := sum(not reference for _, reference in pairs)) and missing < len(pairs):
        raise RequestError(f"{missing} of the {len(pairs)} inputs of {name} have no reference.", "Give all of them one.")
    return tuple(source for source, _ in pairs), () if missing else tuple(reference for _, reference in pairs)


def first_column(file: Path) -> list[str]:
    """The texts of a file on this machine: lines of a .txt, else the first column. Raises RequestError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}.", "Name a .txt, .tsv, .csv or .jsonl file.") from None
    if file.suffix.lower() == ".tsv":
        found = [line.split("\t")[0].strip() for line in _decoded(file.name, data).splitlines()]
    else:
        kind, text = _kind(file.name), _decoded(file.name, data)
        rows = {"csv": _csv, "jsonl": _jsonl}[kind](file.name, text) if kind != "txt" else []
        found = [str(next(iter(row.values()), "")).strip() for row in rows] if rows else text.splitlines()
    texts = [text for text in found if text.strip()]
    if not texts:
        raise RequestError(f"{file.name} holds no input.", "Check the file.")
    return texts


def columns(name: str, data: bytes) -> list[str]:
    """The columns of a .csv or .jsonl; none for a .txt. Raises RequestError."""
    kind = _kind(name)
    if kind == "txt":
        return []
    text = _decoded(name, data)
    rows = _csv(name, text) if kind == "csv" else _jsonl(name, text)
    return list(rows[0]) if rows else []


def _kind(name: str) -> str:
    kind = name.rpartition(".")[2].lower()
    if kind not in ("txt", "csv", "jsonl"):
        raise RequestError(f"{name} is not a .txt, .csv or .jsonl file.", "Save it as one of these.")
    return kind


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RequestError(f"{name} is not UTF-8 text: line {line} holds another encoding.", "Save it as UTF-8.") from None


def _csv(name: str, text: str) -> list[dict[str, Any]]:
    if "\0" in text:
        raise RequestError(f"{name} holds NUL characters and is no CSV.", "Export it again as CSV.")
    reader = csv.DictReader(io.StringIO(text), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise RequestError(
                    f"{name} is malformed: line {reader.line_num} does not have {len(reader.fieldnames or ())} columns.",
                    "Mend that line; a text with a comma needs quotation marks.",
                )
            rows.append(row)
    except csv.Error as error:
        raise RequestError(f"{name} is malformed near line {reader.line_num}: {error}.", "Mend that line.") from None
    return rows


def _jsonl(name: str, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RequestError(f"{name} is malformed: line {number} is no JSON ({error}).", "Mend that line.") from None
        if not isinstance(row, dict):
            raise RequestError(f"{name} is malformed: line {number} is no JSON object.", "Write one object a line.")
        rows.append(row)
    return rows
