"""The report of a comparison as one HTML file that needs nothing else: verdicts, figures, outputs, method."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

from stepscope.core.comparison import CONTROL
from stepscope.runs.comparison_document import QUALITY_HEAD, quality_rows, words
from stepscope.runs.comparison_store import ComparisonRow

from . import compare_charts, format

_PLOTLY = Path(__file__).resolve().parents[2] / "static" / "plotly-basic.min.js"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } 
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd; }
.note { color: #555; } .banner { background: #fff4d6; padding: .5rem .8rem; border-radius: 6px; margin: .4rem 0; }
.scroll { overflow-x: auto; } h2 { margin-top: 2rem; }
"""
METHOD = (
    "Every variant ran in fresh processes, interleaved in rounds with another one first in each. A process loads the "
    "model, repeats until a repetition is no longer faster than all before it, and then times silent repetitions; memory is "
    "sampled in another repetition. The unit of the statistics is the process. A ratio is the geometric mean over rounds of "
    "baseline time / variant time, its interval Student's t over the rounds' logarithms, simultaneous at 95 % over all "
    f"variants (Bonferroni). {CONTROL} is the baseline once more: what it differs from itself is noise, and no smaller "
    "difference, nor one below 1 %, is called one. Quality differences: paired bootstrap over the inputs."
)


def report(row: ComparisonRow) -> str:
    """UTF-8 text of the file."""
    spec, result = row.spec, row.result
    moment = format.moment(row.created_ns).strftime("%Y-%m-%d %H:%M")
    parts = [
        f"<h1>StepScope: {html.escape(spec.model)}, {len(spec.variants)} stacks</h1>",
        f'<p class="note">{moment}, {html.escape(str(row.machine.get("processor", "")))}, '
        f"{row.machine.get('usable_cores', '?')} cores; {len(spec.inputs)} inputs, {spec.search.num_beams} beam(s), "
        f"{'exactly' if spec.search.exact_tokens else 'at most'} {spec.search.max_new_tokens} tokens; comparison {row.id}, "
        f"{row.status.value}.</p>",
        *(f'<p class="banner">{html.escape(words)}</p>' for words in result.banners),
        _verdicts(row),
        f'<p class="note">Noise of the machine: {html.escape(result.grade)}.</p>',
    ]  # fmt: skip
    figures = compare_charts.all_figures(spec, result)
    for at, (title, _) in enumerate(figures):
        parts.append(f'<h2>{html.escape(title)}</h2><div id="figure{at}"></div>')
    if scores := quality_rows(result):
        parts.append(f"<h2>Quality against the references</h2>{_table(QUALITY_HEAD, scores)}")
    parts.append(f"<h2>Method</h2><p>{html.escape(METHOD)}</p><h2>Outputs</h2>{_outputs(row)}")
    data = json.dumps([figure for _, figure in figures]).replace("</", "<\\/")
    script = (
        f"const figures = {data};\nfigures.forEach((f, i) => Plotly.newPlot('figure' + i, f.data, "
        "{...f.layout, autosize: true}, {responsive: true, displaylogo: false}));"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>StepScope comparison {row.id}</title><style>{_STYLE}</style></head><body>{''.join(parts)}"
        f"<script>{_PLOTLY.read_text(encoding='utf-8')}</script><script>{script}</script></body></html>"
    )


def _verdicts(row: ComparisonRow) -> str:
    cells = [
        (v.name, words(v), format.duration(v.summary.total_ns), format.duration(v.summary.itl_p50_ns),
         format.size(v.summary.peak_rss_bytes)) for v in row.result.variants
    ]  # fmt: skip
    return _table(("variant", "verdict", "generation", "ITL p50", "peak memory"), cells)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _outputs(row: ComparisonRow) -> str:
    lines = []
    for at, source in enumerate(row.spec.inputs[:50]):
        lines.append(f"<h3>{html.escape(source)}</h3><table>")
        if row.spec.references:
            lines.append(f"<tr><td>reference</td><td>{html.escape(row.spec.references[at])}</td></tr>")
        lines += [
            f"<tr><td>{html.escape(found.name)}</td><td>{html.escape(found.texts[at])}</td></tr>"
            for found in row.result.variants
            if at < len(found.texts)
        ]
        lines.append("</table>")
    return "".join(lines)
