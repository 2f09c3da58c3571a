"""A comparison as a person makes one: from a file to its verdict, its report and the stack that is taken home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Page, expect

from stepscope.core.comparison import Variant
from stepscope.core.request import Search
from stepscope.core.spec_files import to_toml
from tests.comparisons import spec


def test_two_stacks_are_compared_from_compose_to_report(open_page: Callable[..., Page], tmp_path: Path) -> None:
    asked = replace(
        spec("plain", "dropping"), processes=2, max_processes=2, inputs=("one two", "three"), prefix="",
        search=Search(max_new_tokens=32, exact_tokens=True),
    )  # fmt: skip
    asked = replace(asked, variants=(asked.variants[0], Variant("dropping", "null", ("drop_finished_rows",))))
    (tmp_path / "mine.toml").write_text(to_toml(asked), encoding="utf-8")
    page = open_page("/compare")
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_visible()
    page.get_by_text("Add stacks").click()
    page.get_by_role("tab", name="File").click()
    page.locator("input[type=file]").last.set_input_files(tmp_path / "mine.toml")
    page.get_by_role("button", name="Fill the form").click()
    expect(page.get_by_text("dropping", exact=True).first).to_be_visible()
    expect(page.get_by_text("About", exact=False).first).to_be_visible()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url("**comparison=*")
    expect(page.get_by_text("the baseline", exact=False).first).to_be_visible()
    expect(page.get_by_text("Noise of the machine", exact=False)).to_be_visible()
    page.wait_for_function("document.querySelectorAll('.stepscope-chart .main-svg').length >= 5")
    with page.expect_download() as found:
        page.get_by_role("button", name="Report").click()
    found.value.save_as(tmp_path / "report.html")
    other = page.context.new_page()
    other.goto((tmp_path / "report.html").as_uri())
    other.wait_for_function("document.querySelectorAll('.main-svg').length >= 5")
    expect(other.get_by_role("heading", name="Method")).to_be_visible()
    other.close()
    link = page.url
    again = open_page(link.split(str(page.url.split("/compare")[0]))[1], width=390, height=844, scheme="dark")
    expect(again.get_by_text("the baseline", exact=False).first).to_be_visible()
    assert again.evaluate("document.documentElement.scrollWidth") <= 390
    listed = open_page("/compare")
    listed.get_by_role("link", name="plain, dropping").first.click()
    listed.wait_for_url("**comparison=*")  # the address is the link that a person copies
