"""Chromium and a web server on the loopback for the tests that look at pages."""

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest


@contextmanager
def chromium(*flags: str):
    """Chromium driven by Playwright: the system's, else Playwright's own. Skips the test, with the reason, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as started:
        try:
            browser = started.chromium.launch(executable_path=found, args=["--no-sandbox", *flags])
        except sync_api.Error as error:
            pytest.skip(f"no browser that starts: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


class Quiet(SimpleHTTPRequestHandler):
    """A file server that writes no line a request."""

    def log_message(self, *_):
        pass


@contextmanager
def served_folder(folder):
    """A folder on a loopback port: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
