"""The main job as a person does it: press Run, watch, read the result, pass the link on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from stepscope.core import events as ev
from stepscope.core.presets import preset
from stepscope.core.request import RunRequest, Search
from stepscope.runs.store import Store
from tests.stored_runs import store_run

POINTS = "(document.querySelector('.stepscope-chart')?.data?.[0]?.y?.length ?? 0)"
SLOW = RunRequest(
    "random:t5-small", ("A rather long way to go", "and back"), techniques=(), repetitions=1,
    search=Search(max_new_tokens=150, exact_tokens=True),
)  # fmt: skip


def run_button(page: Page):  # type: ignore[no-untyped-def]
    return page.get_by_role("button", name=re.compile(r"^(Run|Queue)$"))


def press_run(page: Page) -> str:
    """Presses Run on a settled page and returns the new run's id."""
    before = page.url
    run_button(page).click()
    page.wait_for_url(lambda url: "run=" in url and url != before)
    return page.url.split("run=")[1]


def badge(page: Page, word: str):  # type: ignore[no-untyped-def]
    return (
        page.get_by_test_id("stMarkdownBadge")
        .filter(has_text=re.compile(f"^{word}$"))
        .or_(page.get_by_text(word, exact=True))
        .first
    )


def test_a_newcomer_presses_run_and_watches_it_decode(open_page: Callable[..., Page], store: Store) -> None:
    page = open_page()
    expect(page.get_by_role("heading", name="What makes this T5 fast, here, on your input?")).to_be_visible()
    run_id = press_run(page)
    page.wait_for_function(f"{POINTS} > 0")
    expect(badge(page, "done")).to_be_visible()
    expect(page.get_by_text("identical to the reference's")).to_be_visible()
    result = store.result(run_id)
    assert result.scored and result.agreement is not None and result.agreement.equal_share == 1.0
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text(result.texts[0]).first).to_be_visible()
    values = page.get_by_test_id("stMetricValue").all_inner_texts()
    assert len(values) == 6 and all(re.match(r"^[\d.,]+ ?(µs|ms|s|MB|GB)?$", value.strip()) for value in values), values
    assert page.evaluate(POINTS) == len(result.live_steps) - 1
    expect(main.get_by_text(f"/?run={run_id}")).to_be_visible()


def test_the_chart_stays_itself_while_it_grows_and_others_may_watch(open_page: Callable[..., Page], store: Store) -> None:
    page = open_page(f"/?run={store_run(store, request=SLOW)}")
    expect(badge(page, "done")).to_be_visible()
    run_id = press_run(page)
    page.wait_for_function(f"{POINTS} > 5")
    page.evaluate("window.first = document.querySelector('.stepscope-chart'); 0")
    page.evaluate("window.stepscopePlotly.then(p => p.relayout(window.first, {'xaxis.range': [0.1, 0.4]}))")
    other = open_page(f"/?run={run_id}")
    other.wait_for_function(f"{POINTS} > 5")
    seen = page.evaluate(POINTS)
    page.wait_for_function(f"{POINTS} > {seen}")
    assert page.evaluate("window.first === document.querySelector('.stepscope-chart') && window.first.isConnected")
    assert page.evaluate("window.first.layout.xaxis.range") == [0.1, 0.4]
    other.reload()
    other.wait_for_function(f"{POINTS} > 5")
    other.get_by_role("button", name="Cancel").click()
    expect(badge(other, "cancelled")).to_be_visible()
    expect(badge(page, "cancelled")).to_be_visible()
    row = store.run(run_id)
    assert row is not None and row.status is ev.RunStatus.CANCELLED


def test_a_link_fills_the_form_and_a_phone_shows_the_result_first(open_page: Callable[..., Page], store: Store) -> None:
    request = replace(SLOW, search=Search(5, 33, True), techniques=preset("all_exact").techniques, threads=1)
    path = f"/?run={store_run(store, request=request)}"
    page = open_page(path)
    expect(page.get_by_label("Text, one input per line")).to_have_value("A rather long way to go\nand back")
    expect(page.get_by_role("spinbutton", name="Beams")).to_have_value("5")
    expect(page.get_by_role("spinbutton", name="Max new tokens")).to_have_value("33")
    expect(page.get_by_role("checkbox", name="Exactly that many tokens")).to_be_checked()
    phone = open_page(path, 390, 844, "dark")
    expect(badge(phone, "done")).to_be_visible()
    phone.wait_for_function(
        """() => {
          const form = [...document.querySelectorAll('button')].find(b => /^(Run|Queue)$/.test(b.innerText.trim()));
          const result = document.querySelector('.st-key-result');
          return form && result && result.getBoundingClientRect().y < form.getBoundingClientRect().y;
        }"""
    )
    assert phone.evaluate("document.scrollingElement.scrollWidth") <= 390, "it scrolls sideways"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("   ", "There is no input"),
        ("x" * 100_000, "100,000 characters"),
        ("a\u0001b", "control character"),
    ],
)
def test_bad_input_is_told_in_words_and_nothing_is_lost(open_page: Callable[..., Page], text: str, words: str) -> None:
    page = open_page()
    area = page.get_by_label("Text, one input per line")
    area.fill(text)
    run_button(page).click()
    expect(page.get_by_test_id("stAlert").get_by_text(words)).to_be_visible()
    expect(area).to_have_value(text)
    assert "run=" not in page.url


def test_emoji_and_right_to_left_text_are_ordinary_input(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_label("Text, one input per line").fill("👩‍👩‍👧 <b>&amp; $x$ שלום עולם")
    press_run(page)
    expect(badge(page, "done")).to_be_visible()
    expect(page.get_by_text("👩‍👩‍👧 <b>&amp; $x$ שלום עולם", exact=True).first).to_be_visible()


@pytest.mark.parametrize("path", ["/history", "/techniques", "/machine"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_other_pages_open(open_page: Callable[..., Page], path: str, width: int) -> None:
    page = open_page(path, width)
    expect(page.get_by_role("heading", name=path[1:].capitalize(), exact=True)).to_be_visible()
    page.wait_for_timeout(500)
    assert page.get_by_test_id("stException").count() == 0
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width, "it scrolls sideways"


def test_history_finds_opens_and_deletes(open_page: Callable[..., Page], store: Store) -> None:
    request = replace(SLOW, inputs=("zanzibar",))
    run_id = store_run(store, request=request)
    page = open_page("/history?q=zanzibar")
    expect(page.get_by_text("1 run.", exact=False)).to_be_visible()
    page.get_by_test_id("stDataFrame").click(position={"x": 20, "y": 52})
    page.get_by_role("button", name="Delete (1 ticked)").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("No run matches.")).to_be_visible()
    assert store.run(run_id) is None
