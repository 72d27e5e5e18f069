"""onnxruntime-web for the page: one version, three files, checked, and kept after the first download."""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from ..base.errors import UserError, first_line
from ..base.files import as_json, cache_dir, write_atomic

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def registry() -> str:
    """Where npm packages come from here: npm_config_registry, else what npm says. A UserError where neither is there."""
    named = next(filter(None, map(os.environ.get, ("npm_config_registry", "NPM_CONFIG_REGISTRY"))), None)
    if not named and shutil.which("npm"):
        said = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True).stdout.strip()
        named = said if said.startswith("http") else None
    if not named:
        raise UserError(f"{PACKAGE} {VERSION} comes from npm's registry, and nothing here says where that is: install npm, or set "
                        "npm_config_registry to its address")
    return named.rstrip("/")


def download() -> bytes:
    """The package as npm has it. No node is needed. A UserError where it cannot be had or is not the one that was tested."""
    url = f"{registry()}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
    except (OSError, ValueError) as error:
        raise UserError(f"{PACKAGE} {VERSION} could not be fetched from npm's registry ({first_line(error)}): connect once, or set "
                        "npm_config_registry to a registry that is reachable") from None
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY.removeprefix("sha512-"):
        raise UserError(f"{PACKAGE} {VERSION} from npm's registry is not the tested file (its SHA-512 differs): nothing was kept")
    return content


def files(cache: Path | None = None) -> Path:
    """The folder that holds the runtime's FILES and its package.json with the licence; filled at the first call."""
    folder = (cache or cache_dir()) / f"{PACKAGE}-{VERSION}"
    if not all((folder / name).is_file() for name in (*FILES, "package.json")):
        with tarfile.open(fileobj=io.BytesIO(download())) as package:
            for name in FILES:
                write_atomic(folder / name, package.extractfile(f"package/dist/{name}").read())
            about = json.load(package.extractfile("package/package.json"))
        kept = {key: about[key] for key in ("name", "version", "license", "author") if key in about}
        write_atomic(folder / "package.json", as_json(kept).encode())
    return folder
