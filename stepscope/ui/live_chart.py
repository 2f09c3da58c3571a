"""Shows a figure without ever remounting it: a v2 component around plotly.js, which the dashboard serves itself.

``st.plotly_chart`` makes a new DOM node for every change of data (Streamlit 1.67), which loses zoom and flickers.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

_JS = """
const kept = new WeakMap();
const load = () => window.stepscopePlotly ??= new Promise((done, failed) => {
  const script = document.createElement('script');
  const page = location.pathname.replace(/[^/]*$/, '');  // every page stands beside app/
  script.src = page + 'app/static/plotly-basic.min.js';
  script.onload = () => done(window.Plotly);
  script.onerror = failed;
  document.head.appendChild(script);
});
const theme = (host, name, fallback) => (getComputedStyle(host).getPropertyValue(name) || fallback).trim();
function themed(host, layout) {
  const text = theme(host, '--st-text-color', '#222'), font = theme(host, '--st-font', 'sans-serif');
  const out = {...layout, autosize: true, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
               font: {color: text, family: font, size: 13}, hoverlabel: {font: {family: font}}};
  for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key))
    out[key] = {gridcolor: 'rgba(128,140,160,.22)', zeroline: false, linecolor: 'rgba(128,140,160,.5)', ...layout[key],
                title: {...layout[key].title, font: {size: 13}}};
  return out;
}
export default function({data, parentElement}) {
  const host = parentElement.querySelector('.stepscope-chart');
  let state = kept.get(host);
  if (!state) { state = {busy: false, next: null, closed: false}; kept.set(host, state); }
  state.closed = false;
  state.next = data.figure;
  const paint = async () => {
    if (state.busy) return;
    state.busy = true;
    try {
      const Plotly = await load();
      while (state.next && !state.closed) {
        const figure = state.next; state.next = null;
        await Plotly.react(host, figure.data, themed(host, figure.layout),
          {responsive: true, displaylogo: false, modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d']});
      }
    } catch (error) {
      host.textContent = `The chart could not be drawn: ${error?.message ?? 'plotly.js did not load'}. Reload the page.`;
    }
    state.busy = false;
    if (state.closed && window.Plotly) window.Plotly.purge(host);
  };
  paint();
  return () => { state.closed = true; if (!state.busy && window.Plotly) window.Plotly.purge(host); };
}
"""
_CSS = ".stepscope-chart { width: 100%; }"
_chart = st.components.v2.component(
    "stepscope_chart", html='<div class="stepscope-chart"></div>', css=_CSS, js=_JS, isolate_styles=False
)


def show(figure: dict[str, Any], key: str) -> None:
    """figure: {"data", "layout"} as plotly.js takes it; the same key keeps the same chart, with its zoom."""
    _chart(data={"figure": figure}, key=key, height=figure["layout"]["height"])


def prepare() -> None:
    """Fetches plotly.js while the visitor still composes, so that the first token need not wait for it."""
    _chart(data={"figure": None}, key="chart_to_come", height=1)
