"""Writes a benchmark's table into README.md between its two markers, so that no figure there is typed by hand."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def write(name: str, lines: list[str]) -> None:
    """Replaces what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``. Raises ValueError when they are not there."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not begin or not end:
        raise ValueError(f"README.md has no markers for {name}")
    README.write_text("".join((before, begin, "\n\n", "\n".join(lines), "\n\n", end, after)), encoding="utf-8")
