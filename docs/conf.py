"""Sphinx settings of the course's site. ``make site`` stages the pages (tools/build_site.py) and builds them with these."""

import base64
import hashlib
import json
from pathlib import Path

from docutils import nodes

ROOT = Path(__file__).resolve().parent.parent

project = "DomainStudio, built step by step"
author = copyright = "the authors of the course; text and figures CC BY 4.0"
extensions = ["myst_nb", "autoapi.extension"]
exclude_patterns = ["_*"]

nb_execution_mode = "off"                           # outputs are those that are committed
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
myst_number_code_blocks = []

autoapi_dirs = [str(ROOT / "dslib")]                # read, not imported: the site needs no torch
autoapi_root = "api"
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_ignore = ["*/__main__.py"]
autoapi_add_toctree_entry = False

html_theme = "furo"
html_title = "DomainStudio, step by step"
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = [(name, {"defer": "defer"}) for name in ("quiz.js", "explorers.js", "plane.js")]
html_copy_source = html_show_sourcelink = False
mathjax_path = "mathjax/tex-chtml.js"               # served from the site: copied by tools/build_site.py


def alts_of(notebook: Path) -> dict[str, str]:
    """File name that myst-nb gives a picture (a hash of its bytes) → the alt text that ``plots.show`` gave it."""
    outputs = [o for cell in json.loads(notebook.read_text("utf-8"))["cells"] for o in cell.get("outputs", [])]
    return {hashlib.sha256(base64.b64decode(o["data"]["image/png"])).hexdigest() + ".png":
            o["metadata"].get("image/png", {}).get("alt") or "".join(o["data"].get("text/plain", ""))
            for o in outputs if "image/png" in o.get("data", {})}


def keep_alts(app, doctree) -> None:
    """myst-nb drops the alt texts of outputs: put them back."""
    notebook = Path(app.srcdir, f"{app.env.docname}.ipynb")
    alts = alts_of(notebook) if notebook.exists() else {}
    for image in doctree.findall(nodes.image):
        image["alt"] = image.get("alt") or alts.get(Path(image["uri"]).name, "")


def setup(app) -> None:
    app.connect("doctree-read", keep_alts)
