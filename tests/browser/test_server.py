"""What the dashboard's process must never do: hold a runtime, answer strangers, leave workers behind."""

from __future__ import annotations

import base64
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser

from .server import Dashboard

MIB = 1 << 20


def visit(browser: Browser, dashboard: Dashboard) -> None:
    """As its first visitor, by a deep link; waits for the blank worker, so that there is something to leave behind."""
    page = browser.new_page()
    page.goto(f"{dashboard.url}/machine")
    page.get_by_role("heading", name="Machine", exact=True).wait_for()
    page.get_by_role("banner").get_by_role("link", name="History").wait_for()
    assert page.get_by_test_id("stSidebarNav").count() == 0, "the page table is not app.py's"
    deadline = time.monotonic() + 30
    while not dashboard.workers():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    page.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_is_left_however_the_dashboard_ends(browser: Browser, tmp_path: Path, number: signal.Signals) -> None:
    dashboard = Dashboard(tmp_path)
    visit(browser, dashboard)
    workers = dashboard.workers()
    status = dashboard.end(number)
    assert number is signal.SIGKILL or status in (0, -number, 128 + number, 1), status
    _, left = psutil.wait_procs(workers, timeout=10)
    assert not left


def test_the_dashboard_is_small_and_holds_no_runtime(browser: Browser, dashboard: Dashboard) -> None:
    page = browser.new_page()
    for path in ("/", "/history", "/techniques", "/machine"):
        page.goto(dashboard.url + path)
        page.get_by_test_id("stMain").wait_for()
        page.wait_for_timeout(1500)
    page.close()
    process = psutil.Process(dashboard.process.pid)
    assert process.memory_info().rss < 300 * MIB
    loaded = {Path(part.path).name for part in process.memory_maps()}
    assert not [name for name in loaded if "torch" in name or "onnxruntime" in name or "openvino" in name]


def answer(dashboard: Dashboard, path: str, *headers: str) -> int:
    """HTTP status of a bare request with exactly these headers."""
    with socket.create_connection(("127.0.0.1", dashboard.port), 10) as connection:
        connection.sendall(("\r\n".join((f"GET {path} HTTP/1.1", *headers)) + "\r\n\r\n").encode())
        return int(connection.recv(64).split()[1])


def websocket(dashboard: Dashboard, host: str, origin: str) -> int:
    key = base64.b64encode(os.urandom(16)).decode()
    return answer(
        dashboard, "/_stcore/stream", f"Host: {host}", f"Origin: {origin}", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
    )  # fmt: skip


def test_foreign_hosts_and_origins_are_refused(dashboard: Dashboard) -> None:
    own = f"127.0.0.1:{dashboard.port}"
    assert websocket(dashboard, own, f"http://{own}") == 101
    assert websocket(dashboard, own, "http://evil.example") == 403
    assert websocket(dashboard, f"evil.example:{dashboard.port}", f"http://evil.example:{dashboard.port}") >= 400
    assert answer(dashboard, "/", f"Host: {own}", "Connection: close") == 200
    assert answer(dashboard, "/", "Host: evil.example", "Connection: close") == 403
    assert answer(dashboard, "/", f"Host: {own}", "Origin: http://evil.example", "Connection: close") == 403
    assert answer(dashboard, "/", f"Host: {own}", f"Origin: http://{own}", "Connection: close") == 200
