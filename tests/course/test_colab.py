"""A notebook opened alone, as in Colab: what its setup cell fetches and installs, and what it says when it cannot.

Every test runs in an environment without dslib (its own where it installs something) and in an empty folder, with a local bare
repository in place of the address.
Below it lie the packages of this environment, or, after `make colab-test`, those of .venv-colab: Colab's at other versions than ours.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from dslib import UserError, env

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks" / "src").glob("*.py"))
OLDER = ROOT / ".venv-colab"
needs_older = pytest.mark.skipif(not (OLDER / ".ready").exists(), reason="no .venv-colab: make colab-test makes it (3 GB to download)")


def copy_of_the_course(target: Path) -> Path:
    """The repository's files, without environments, runs and history."""
    ignored = shutil.ignore_patterns(".git", ".venv*", "runs", "site", "_build", "node_modules", "*.egg-info", "__pycache__", ".*_cache",
                                     ".ipynb_checkpoints")
    return Path(shutil.copytree(ROOT, target, ignore=ignored))


def stamp(course: Path, repo: str) -> None:
    subprocess.run([sys.executable, course / "tools" / "stamp.py", repo], check=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(a copy of the course that knows its address, the address): what a fork's owner has after `make badges` and a push."""
    folder = tmp_path_factory.mktemp("published")
    course, address = copy_of_the_course(folder / "course"), f"file://{folder}/course.git"
    stamp(course, address)
    git = ["git", "-C", course, "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "course"]):
        subprocess.run([*git, *command], check=True)
    bare = ["git", "-C", folder / "course.git", "-c", "pack.window=0"]           # packed once, not again for every clone
    for command in (["git", "clone", "-q", "--bare", course, folder / "course.git"], [*bare, "repack", "-adq"]):
        subprocess.run(command, check=True)
    return course, address


def environment(folder: Path, below: Path | None) -> Path:
    """A fresh virtual environment's python, with google.colab; below: site-packages that it also sees, and cannot change."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").write_text("")
    if below:
        (packages / "below.pth").write_text(f"{below}\n")       # its own .pth files, our editable dslib, are not read
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment that has everything but dslib: one for all tests that install nothing."""
    return environment(tmp_path_factory.mktemp("light") / "venv", Path(sysconfig.get_path("purelib")))


@pytest.fixture
def fresh_python(tmp_path):
    """The same, of a test's own, to install into."""
    return environment(tmp_path / "light", Path(sysconfig.get_path("purelib")))


def colab_variables(cache: Path, **more) -> dict[str, str]:
    """Environment variables as in Colab, nothing of this repository among them."""
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|DSLIB|VIRTUAL_ENV|JPY|MPLBACKEND", name)}
    return kept | {"COLAB_RELEASE_TAG": "release-colab-test", "DSLIB_TIER": "smoke", "DSLIB_CACHE": str(cache), "TQDM_DISABLE": "1",
                   "ACCELERATE_USE_CPU": "true"} | more


def setup_cell(course: Path) -> str:
    """The setup cell of a chapter, up to what needs torch."""
    notebook = nbformat.read(course / "notebooks" / "00_tour.ipynb", as_version=4)
    source = next(cell.source for cell in notebook.cells if "setup" in cell.metadata.get("tags", []))
    assert "env.start(seed=0)" in source
    return source.replace("env.start(seed=0)", "env.prepare()") + "\nimport sys\nprint(env.__file__, 'torch' in sys.modules)"


def set_up(python: Path, course: Path, folder: Path, wait: bool = True, **variables):
    """Run the setup cell in a folder: the finished process, or with wait=False one that is under way."""
    command = dict(args=[python, "-c", setup_cell(course)], cwd=folder, text=True, env=colab_variables(folder / "cache", **variables))
    return subprocess.run(**command, capture_output=True) if wait else subprocess.Popen(
        **command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def says(done, *words) -> None:
    """The process failed, and its last line has the words."""
    assert done.returncode, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), done.stderr


def run_cells(python: Path, sources: list[str], folder: Path) -> list[str]:
    """Run code cells in a kernel of that environment, in a folder: the text each of them printed. Raises where a cell does."""
    spec = folder / "kernels" / "alone"
    spec.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "alone", "language": "python"}))
    manager = AsyncKernelManager(kernel_name="alone", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder / "kernels")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, km=manager, timeout=300).execute(cwd=str(folder), env=colab_variables(folder / "cache"))
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]


def first_cells(course: Path, chapter: str, folder: Path) -> list[str]:
    """Setup cell and first three code cells of a chapter's notebook, which lies alone in the folder."""
    notebook = nbformat.read(shutil.copy(course / "notebooks" / f"{chapter}.ipynb", folder), as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"][:4]


SLIDER = """
import ipywidgets
from dslib.show import plots, widgets
seen, plots.show = [], lambda figure, alt, **_: seen.append(alt)
slider = ipywidgets.IntSlider(1, 0, 9)
widgets.explore(lambda n: (None, f"figure {n}"), n=slider)
slider.value = 5
print(ipywidgets.__version__, seen)
"""


# ------------------------------------------------------------------------------------------ chapters, alone

def test_every_chapter_begins_alone_in_an_empty_folder(python, published, tmp_path):
    """All chapters in one kernel, to spare the imports: the first of them fetches the course."""
    course, _ = published
    folder = tmp_path / "content"
    folder.mkdir()
    sources = [source for chapter in CHAPTERS for source in first_cells(course, chapter, folder)]
    printed = run_cells(python, [*sources, "print(env.__file__)", SLIDER], folder)
    assert printed[0].startswith("dslib ") and "tier smoke" in printed[0]
    assert printed[-2].strip() == str(folder / "course" / "dslib" / "env.py")
    assert "['figure 1', 'figure 5']" in printed[-1]


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """An environment with Colab's packages, older than ours, and their versions. What setup installs stays for the next chapter."""
    below = next(OLDER.glob("lib/python*/site-packages"))
    python = environment(tmp_path_factory.mktemp("older") / "venv", below)
    named = dict(line.strip().split("==") for line in (ROOT / "tools" / "colab.txt").read_text().splitlines() if "==" in line)
    return python, named


@needs_older
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_begins_alone_in_colab_at_other_versions(chapter, older, published, tmp_path):
    python, named = older
    ask = f"from importlib.metadata import version\nprint(*[version(name) for name in {list(named)}])"
    printed = run_cells(python, [*first_cells(published[0], chapter, tmp_path), ask, SLIDER], tmp_path)
    assert f"torch {named['torch']}" in printed[0].replace("+cu121", "")
    assert [found.split("+")[0] for found in printed[-2].split()] == list(named.values()), "setup has changed what Colab brings"
    assert printed[-1].startswith(named["ipywidgets"]) and "['figure 1', 'figure 5']" in printed[-1]


# --------------------------------------------------------------------------------------- what can go wrong

def test_without_an_address_the_cell_says_what_to_do(python, tmp_path):
    course = copy_of_the_course(tmp_path / "mine")
    stamp(course, "none")
    (empty := tmp_path / "empty").mkdir()
    done = set_up(python, course, empty)
    says(done, "make install", "unzip it as course/")
    assert len(done.stderr.strip().splitlines()) == 1
    course.rename(empty / "course")                              # what it told the reader to do
    assert set_up(python, ROOT, empty).returncode == 0


def test_an_address_that_does_not_answer_is_one_line(python, published, tmp_path):
    course = copy_of_the_course(tmp_path / "mine")
    stamp(course, f"file://{tmp_path}/nowhere.git")
    done = set_up(python, course, tmp_path)
    says(done, "fatal:", "nowhere.git", "not appear to be a git repository")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("new.*")) and not (tmp_path / "course").exists()


def test_a_full_disk_is_one_line_and_the_next_try_works(python, published, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nmkdir $5; echo 'fatal: write error: No space left on device' >&2; exit 128\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    done = set_up(python, published[0], tmp_path, PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    says(done, "No space left on device")
    assert set_up(python, published[0], tmp_path).returncode == 0


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root cannot write")
def test_a_folder_that_cannot_be_written_is_one_line(python, published, tmp_path):
    done = set_up(python, published[0], Path("/proc"))
    says(done, "could not create")


def test_a_setup_that_was_killed_leaves_nothing_in_the_way(python, published, tmp_path):
    shutil.copytree(published[0] / "dslib" / "checks", tmp_path / "new.7" / "dslib")         # half a clone
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "setup.lock").write_text("")
    assert set_up(python, published[0], tmp_path).returncode == 0


def test_two_setups_at_once_both_get_the_course(python, published, tmp_path):
    both = [set_up(python, published[0], tmp_path, wait=False) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert f"{tmp_path}/course/dslib/env.py" in out


def test_the_wrong_kernel_in_a_checkout_names_the_right_one(published, tmp_path):
    bare = environment(tmp_path / "bare", None)
    done = subprocess.run([bare, "-c", setup_cell(published[0])], cwd=published[0] / "notebooks", capture_output=True, text=True,
                          env={k: v for k, v in colab_variables(tmp_path).items() if k != "COLAB_RELEASE_TAG"})
    says(done, "UserError", "no torch", ".venv")


def wheel(folder: Path, needs: str = "") -> None:
    """A package of one line, as a wheel in a folder that pip can look into."""
    info = "course_extra-1.0.dist-info"
    files = {"course_extra.py": "there = True\n", f"{info}/METADATA": f"Metadata-Version: 2.1\nName: course-extra\nVersion: 1.0\n{needs}",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    folder.mkdir()
    with zipfile.ZipFile(folder / "course_extra-1.0-py3-none-any.whl", "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
        file.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))


@pytest.fixture
def lacking(published, tmp_path):
    """A course that needs one package more than is installed; pip finds it in ``wheels``, and nothing else anywhere."""
    course = tmp_path / "course"
    shutil.copytree(published[0], course, ignore=shutil.ignore_patterns(".git"))
    pyproject = course / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('dependencies = [\n', 'dependencies = [\n  "course-extra>=1",\n'))
    return course, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull}


def test_only_what_is_missing_is_installed_and_once(fresh_python, lacking, tmp_path):
    course, variables = lacking
    wheel(tmp_path / "wheels")
    both = [set_up(fresh_python, course, tmp_path, wait=False, **variables) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sorted("installing course-extra>=1 (" in out for out, _ in told) == [False, True]
    assert subprocess.run([fresh_python, "-c", "import course_extra, torch.version"]).returncode == 0
    assert "installing" not in set_up(fresh_python, course, tmp_path, **variables).stdout


def test_kaggle_is_given_what_is_missing_too(fresh_python, lacking, tmp_path):
    """Anywhere else the missing is only named."""
    course, variables = lacking
    wheel(tmp_path / "wheels")
    here = {k: v for k, v in colab_variables(tmp_path / "cache", **variables).items() if k != "COLAB_RELEASE_TAG"}
    for kaggle, word in (({}, "choose the kernel in .venv"), ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, "installing course-extra>=1 (")):
        done = subprocess.run([fresh_python, "-c", setup_cell(course)], cwd=tmp_path, text=True, capture_output=True, env=here | kaggle)
        assert done.returncode == 0 and word in done.stdout, done.stdout + done.stderr
    assert subprocess.run([fresh_python, "-c", "import course_extra"]).returncode == 0


def test_a_package_that_wants_another_numpy_is_refused(fresh_python, lacking, tmp_path):
    course, variables = lacking
    wheel(tmp_path / "wheels", "Requires-Dist: numpy>=99\n")
    done = set_up(fresh_python, course, tmp_path, **variables)
    says(done, "UserError", "installing what the course needs failed", "ERROR")
    assert "course-extra" in done.stderr.strip().splitlines()[-1] or "numpy" in done.stderr.strip().splitlines()[-1]


def test_an_install_without_data_fetches_it_whole_and_once(python, published, tmp_path):
    course, _ = published
    shutil.copytree(course / "dslib", tmp_path / "site" / "dslib")
    shutil.copy(course / "pyproject.toml", tmp_path / "site")
    code = "from dslib import env; env.prepare(); print(env.data_dir(), (env.data_dir() / 'source' / 'model_index.json').exists())"
    for _ in range(2):
        done = subprocess.run([python, "-c", code], cwd=tmp_path / "site", env=colab_variables(tmp_path / "cache"), capture_output=True,
                              text=True, check=True)
        assert done.stdout.strip() == f"{tmp_path}/cache/course/data True"
    assert not list((tmp_path / "cache").glob("tmp*"))


def test_a_program_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match="fetching failed: no-such-program: No such file"):
        env.run_or_explain(["no-such-program"], "fetching")


# ----------------------------------------------------------------------------------------------- the address

def test_every_place_has_the_address_of_pyproject(tmp_path):
    """Stamping what is stamped already changes nothing: no chapter and no line was forgotten."""
    course = copy_of_the_course(tmp_path / "course")
    stamp(course, env.address() or "none")
    for path in ("pyproject.toml", "README.md", *(f"notebooks/src/{c}.py" for c in CHAPTERS), *(f"notebooks/{c}.ipynb" for c in CHAPTERS)):
        assert (course / path).read_text() == (ROOT / path).read_text(), path


def test_a_forks_address_reaches_every_chapter_and_can_be_taken_out(tmp_path):
    course = copy_of_the_course(tmp_path / "course")
    stamp(course, "none")
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    stamp(course, "someone/fork")
    assert 'Repository = "https://github.com/someone/fork"' in (course / "pyproject.toml").read_text()
    readme = (course / "README.md").read_text()
    assert "git clone https://github.com/someone/fork course" in readme
    for chapter in CHAPTERS:
        link = f"https://colab.research.google.com/github/someone/fork/blob/main/notebooks/{chapter}.ipynb"
        notebook = nbformat.read(course / "notebooks" / f"{chapter}.ipynb", as_version=4)
        assert link in notebook.cells[0].source and link in readme
        title = notebook.cells[0].source
        page = f"https://github.com/someone/fork/blob/main/notebooks/{chapter}.ipynb"
        assert f"(https://kaggle.com/kernels/welcome?src={page})" in title
        assert f"(https://mybinder.org/v2/gh/someone/fork/main?urlpath=lab/tree/notebooks/{chapter}.ipynb)" in title
        assert re.findall(r"\[!\[(\w+)\]", title) == ["Colab", "Kaggle", "Binder"] and title.splitlines()[2].startswith("[![Colab]")
        assert notebook.cells[0].source.startswith("# "), "the title stays first"
        assert "git clone -q --depth=1 https://github.com/someone/fork " in notebook.cells[1].source
        assert notebook.cells[1].outputs, "outputs stay"
    assert readme.count("[![Binder]") == 1 and "[![Kaggle]" not in readme
    stamped = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    stamp(course, "someone/fork")
    assert {path: path.read_bytes() for path in course.rglob("*") if path.is_file()} == stamped, "twice is once"
    subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--no-cache", course / "notebooks" / "src"], check=True)
    stamp(course, "none")
    assert {path: path.read_bytes() for path in course.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("repo", ["", "owner", "owner/name/more", "owner/na me", "'; rm -rf /"])
def test_a_wrong_address_is_refused(repo):
    done = subprocess.run([sys.executable, ROOT / "tools" / "stamp.py", repo], capture_output=True, text=True)
    assert done.returncode and "owner/name" in done.stderr and len(done.stderr.strip().splitlines()) == 1
