"""Two kinds. **Whatever a terminal can show, a command ends as it would elsewhere, and its files are UTF-8**: help, summaries, errors,
progress, names that are no UTF-8, under ascii, latin-1, cp1252, koi8-r and LC_ALL=C. **What can be known before the work is said before the
work, and small things go as people expect**: outputs that are folders, files, unwritable, the input itself; ~; a trailing slash; a bare
checkpoint name; a closed pipe. And what was read of a folder, and what was left out, stands in metrics.json and report.html."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source
from PIL import Image

from dslib import data, models
from dslib.base import errors, files
from dslib.cli import commands, options
from dslib.text import text_to_image

SIZE = 32
DSLIB = Path(models.__file__).parent
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def photos(folder, n=3):
    folder.mkdir(parents=True, exist_ok=True)
    data.write_images(folder, make_images(n, 40))
    return folder


def run(*args) -> int:
    return commands.main([str(a) for a in args])


def adapting(source, folder, output, *more):
    return ["adapt", "--source", source, "--train_data_dir", folder, "--output_dir", output, "--max_train_steps", 2, "--num_images", 4,
            "--num_inference_steps", 2, "--method", "finetune", *more]


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def refused(capsys, *words) -> None:
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1 and "Traceback" not in told, told
    assert all(word in told for word in words), told


# ------------------------------------------------------------------------------------------ any terminal

@pytest.fixture(params=["ascii", "latin-1", "cp1252", "koi8-r", "utf-8"])
def terminal(request, monkeypatch):
    """terminal(): from now on stdout and stderr are a terminal of few letters; it returns what gives (stdout, stderr) as written."""
    def begin():
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=request.param, errors="strict") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])

        def written():
            for stream in streams:
                stream.flush()
            return [stream.buffer.getvalue().decode(request.param) for stream in streams]
        return written
    return begin


@pytest.mark.parametrize("command", ["adapt", "adapt-t2i", "sample"])
def test_help_on_any_terminal(terminal, command):
    written = terminal()
    with pytest.raises(SystemExit) as end:
        run(command, "--help")
    assert end.value.code == 0
    out, err = written()
    assert "--help" in out and not err
    if command == "adapt":
        assert "λ2" in out or r"(\u03bb2)" in out


def test_summaries_progress_and_names_on_any_terminal(terminal, source_dir, tmp_path, monkeypatch):
    """A folder and a file left out whose names are no UTF-8, progress bars, the table, the report's place."""
    monkeypatch.setenv("TQDM_DISABLE", "0")
    written = terminal()
    folder = photos(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xce\xbb")))
    (folder / os.fsdecode(b"bild\xff.heic")).write_bytes(HEIC)
    output = tmp_path / "λ-läuft"
    assert run(*adapting(source_dir, folder, output)) == 0
    out, err = written()
    assert "finetune" in out and "Intra-LPIPS" in out and "Report:" in out
    assert r"bild\xff.heic" in err and "Traceback" not in err
    facts = json.loads((output / "metrics.json").read_bytes().decode("utf-8"))
    assert facts["target"] == r"caf\xe9 λ" and r"bild\xff.heic" in facts["training_images"]
    page = (output / "report.html").read_bytes().decode("utf-8")
    assert r"caf\xe9 λ" in page and r"bild\xff.heic" in page
    assert run("evaluate", folder, "--train_data_dir", folder, "--resolution", SIZE, "--output", tmp_path / "e.json") == 0
    assert json.loads((tmp_path / "e.json").read_bytes().decode("utf-8"))["scores"][0]["name"] == r"caf\xe9 λ"


@pytest.mark.parametrize("missing", ["λ", os.fsdecode(b"caf\xe9")], ids=["lambda", "no UTF-8"])
def test_errors_on_any_terminal(terminal, missing, source_dir):
    written = terminal()
    assert run("adapt", "--source", source_dir, "--train_data_dir", missing) == 2
    out, err = written()
    assert "no folder" in err and len(err.splitlines()) == 1


def test_in_the_c_locale_files_are_utf8(source_dir, tmp_path):
    """One real process that takes everything for ascii: what it writes is what any other writes."""
    folder = photos(tmp_path / "schön λ")
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(DSLIB.parent)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHONIO"))} | plain
    command = [sys.executable, "-X", "warn_default_encoding", "-m", "dslib",
               *map(str, adapting(source_dir, folder, tmp_path / "öut", "--checkpointing_steps", 1))]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr.decode("ascii", "replace")
    assert max(done.stdout) < 128 and r"\xd6" not in done.stdout.decode()
    assert not [line for line in done.stderr.decode("ascii", "replace").splitlines() if "EncodingWarning" in line and "dslib" in line]
    assert (tmp_path / "öut" / "report.html").read_bytes().decode("utf-8")
    assert json.loads((tmp_path / "öut" / "checkpoint-2" / "state.json").read_bytes().decode("utf-8"))["step"] == 2


def test_every_text_file_is_opened_as_utf8():
    def says(node, call):
        where = {"open": 3, "read_text": 0, "write_text": 1}[call]
        mode = next((ast.unparse(x) for x in [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]), "'r'")
        return "b" in mode and call == "open" or len(node.args) > where or any(k.arg == "encoding" for k in node.keywords)
    found = []
    for path in [*DSLIB.rglob("*.py"), *(DSLIB.parent / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            owner, _, name = ast.unparse(node.func).rpartition(".") if isinstance(node, ast.Call) else ("", "", "")
            other = owner in ("Image", "os", "webbrowser", "tarfile")
            if name in ("open", "read_text", "write_text") and not other and not says(node, name):
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)[:60]}")
    assert not found


# ------------------------------------------------------------------------------------------ a closed pipe

def through(command, *args):
    """dslib … into a reader that reads one line and goes: (exit code, stderr)."""
    process = subprocess.Popen([sys.executable, "-m", "dslib", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=os.environ | {"PYTHONPATH": str(DSLIB.parent), "PYTHONUNBUFFERED": command})
    process.stdout.close()
    return process.wait(timeout=120), process.stderr.read().decode()


@pytest.mark.parametrize("args, buffered", [(["env"], ""), (["env"], "1"), (["adapt", "--help"], "")])
def test_a_closed_pipe_is_quiet(args, buffered):
    assert through(buffered, *args) == (141, "")


def test_a_closed_pipe_is_no_error_of_files(capsys):
    def work():
        raise BrokenPipeError(32, "Broken pipe")
    assert errors.run(work, "prog") == 141
    assert capsys.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------ outputs

WRONG = {"is a folder": ("{tmp}/folder", "is a folder"), "trailing slash": ("{tmp}/new/", "is a folder"), "empty": ("", "is a folder"),
         "parent is a file": ("{tmp}/file/x.json", "cannot be written"), "exists": ("{tmp}/file", "exists", "--overwrite"),
         "too long": ("{tmp}/" + 300 * "x", "cannot be written")}


@pytest.mark.parametrize("command", ["evaluate", "fidelity", "domains", "table"])
@pytest.mark.parametrize("case", WRONG)
def test_an_output_that_cannot_be_written_is_found_before_the_work(capsys, tmp_path, monkeypatch, command, case):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine", "utf-8")
    monkeypatch.setattr(models, "load_source", lambda *_: pytest.fail("work has begun"))
    monkeypatch.setattr(data, "load_domain", lambda *_: pytest.fail("work has begun"))
    rest = {"evaluate": ["owner/name", "--target", "sunglasses"], "fidelity": ["a", "b"], "domains": [], "table": ["x.json"]}[command]
    path, *words = WRONG[case]
    assert run(command, *rest, "--output", path.format(tmp=tmp_path)) == 2
    refused(capsys, *words)
    assert (tmp_path / "file").read_text("utf-8") == "mine" and not list(tmp_path.rglob("*.part"))


def test_a_folder_that_may_not_be_written_is_found_before_the_work(capsys, tmp_path, monkeypatch):
    """As root everything may be written, so the system's answer is put in its place."""
    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr(Path, "touch", denied)
    monkeypatch.setattr(models, "load_source", lambda *_: pytest.fail("work has begun"))
    assert run("evaluate", "owner/name", "--target", "sunglasses", "--output", tmp_path / "x.json") == 2
    refused(capsys, "x.json", "cannot be written", "Permission denied", "another place")


@pytest.mark.parametrize("case", ["file", "parent is a file", "too long", "not writable"])
def test_an_output_folder_that_cannot_be_is_found_before_training(capsys, tmp_path, source_dir, monkeypatch, case):
    (tmp_path / "file").write_text("mine", "utf-8")
    output = {"file": "file", "parent is a file": "file/out", "too long": 300 * "x", "not writable": "new"}[case]
    if case == "not writable":
        monkeypatch.setattr(Path, "touch", lambda path, *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied", str(path))))
    monkeypatch.setattr(commands, "adapt_one", lambda *_: pytest.fail("training has begun"))
    assert run(*adapting(source_dir, photos(tmp_path / "photos"), tmp_path / output)) == 2
    refused(capsys, "--output_dir")
    assert run("sample", source_dir, "--output_dir", tmp_path / output, "--num_inference_steps", 2) == 2
    refused(capsys, "--output_dir")


@pytest.mark.parametrize("slash", ["", "/", "/."])
@pytest.mark.parametrize("option", ["train_data_dir", "source", "pipeline", "linked"])
def test_an_output_that_is_the_input_is_refused(capsys, tmp_path, source_dir, option, slash):
    """Also with --overwrite: nothing is written over what it is made from."""
    folder, source = photos(tmp_path / "photos"), shutil.copytree(source_dir, tmp_path / "source")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    before = files_of(tmp_path)
    output = {"train_data_dir": folder, "source": source, "pipeline": source, "linked": tmp_path / "link"}[option]
    output = f"{output}{slash}"
    command = ["sample", source, "--output_dir", output] if option == "pipeline" else adapting(source, folder, output)
    assert run(*command, "--overwrite") == 2
    refused(capsys, "itself", "choose another folder")
    assert files_of(tmp_path) == before


def test_an_output_among_pictures_that_are_read_recursively_is_refused(capsys, tmp_path, source_dir):
    folder = photos(tmp_path / "photos")
    assert run(*adapting(source_dir, folder, folder / "out", "--recursive")) == 2
    refused(capsys, "--recursive reads", "outside")
    assert not (folder / "out").exists()


def test_home_is_expanded_where_the_shell_does_not(tmp_path, monkeypatch, source_dir):
    """``--output_dir=~/out``; words that only begin so are left alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ["adapt-t2i", "--target", "portraits", "--output_dir=~/out", "--source=~", "--instance_prompt=~ sks"]
    args = commands.build_parser().parse_args(given)
    options.expand_home(args)
    assert (args.output_dir, args.source, args.instance_prompt) == (str(tmp_path / "out"), str(tmp_path), "~ sks")
    shutil.copytree(source_dir, tmp_path / "model")
    assert run("sample", "~/model", "--output_dir=~/drawn/", "--num_images", 1, "--num_inference_steps", 1) == 0
    assert (tmp_path / "drawn" / "grid.png").is_file()
    assert models.load_source("~/model").unet.config.sample_size == SIZE


# ------------------------------------------------------------------------------------------ checkpoints by their bare name

@pytest.mark.parametrize("name", ["checkpoint-1", "checkpoint-1/", "{out}/checkpoint-1"])
def test_a_bare_checkpoint_name_is_found_in_the_runs_folder(tmp_path, source_dir, monkeypatch, name):
    monkeypatch.setattr(commands, "write_results", lambda *args: None)
    folder, out, again = photos(tmp_path / "photos"), tmp_path / "out", tmp_path / "again"
    assert run(*adapting(source_dir, folder, out, "--checkpointing_steps", 1)) == 0
    shutil.rmtree(out / "checkpoint-2")
    shutil.copytree(out, again)
    for output in (out, again):
        given = name.format(out=output) if output == again else "latest"
        assert run(*adapting(source_dir, folder, output, "--resume_from_checkpoint", given)) == 0
    weights = [(output / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() for output in (out, again)]
    assert weights[0] == weights[1]


def test_a_name_that_is_nowhere_is_said(capsys, tmp_path, source_dir):
    out = tmp_path / "out"
    assert run(*adapting(source_dir, photos(tmp_path / "photos"), out, "--train_batch_size", 3,
                         "--resume_from_checkpoint", "checkpoint-9")) == 2
    refused(capsys, "checkpoint-9", "latest")


def test_within(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("run/a", "a", "b"):
        Path(path).mkdir(parents=True)
    assert files.within("run", "a") == Path("run/a")            # the run's own before one that lies here
    assert files.within("run", "b") == Path("b")
    assert files.within("run", "./run/a") == Path("run/a")
    assert files.within("run", tmp_path / "a") == tmp_path / "a"
    assert files.within(None, "a") == Path("a")


# ------------------------------------------------------------------------------------------ what was read, in the reports

@pytest.fixture
def mixed(tmp_path):
    """Three pictures, a HEIC, a vector page, captions, and two pictures in a subfolder."""
    folder = photos(tmp_path / "mixed")
    Image.new("RGB", (40, 40), "red").save(folder / "a.jpg")
    for name, content in (("IMG_1.HEIC", HEIC), ("b.svg", b"<svg>"), ("a.txt", b"a face")):
        (folder / name).write_bytes(content)
    photos(folder / "more", 2)
    return folder


READ = ("4 images read (3 PNG, 1 JPEG)", "left out: 1 HEIC", "IMG_1.HEIC", "1 vector or page format", "b.svg", "2 in subfolders", "more 2")


def test_adapt_reports_what_it_read_and_what_not(tmp_path, source_dir, mixed):
    assert run(*adapting(source_dir, mixed, tmp_path / "out")) == 0
    told = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))["training_images"]
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert all(word in told and word in page for word in READ), told
    assert "\n" not in told and page.count("<h2>Images that were used</h2>") == 1


def test_evaluate_reports_both_folders(tmp_path, mixed):
    other = photos(tmp_path / "others", 4)
    assert run("evaluate", mixed, "--train_data_dir", other, "--resolution", SIZE, "--output", tmp_path / "e.json") == 0
    facts = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert all(word in facts["sample_images"] for word in READ)
    assert facts["training_images"] == "4 images read (4 PNG)"


def test_evaluate_recursive_reports_the_subfolders_pictures(tmp_path, mixed):
    assert run("evaluate", mixed, "--train_data_dir", mixed, "--resolution", SIZE, "--recursive", "--output", tmp_path / "e.json") == 0
    told = json.loads((tmp_path / "e.json").read_text("utf-8"))["training_images"]
    assert told.startswith("6 images read (5 PNG, 1 JPEG); left out: 1 HEIC") and "subfolders" not in told


def test_a_drawn_domain_is_named(tmp_path, source_dir):
    args = commands.build_parser().parse_args(["adapt", "--target", "sunglasses"])
    images, domain, used = options.training_images(args, SIZE)
    assert (len(images), domain, used) == (10, "sunglasses", "10 images of the drawn domain sunglasses")


def test_adapt_t2i_reports_the_style_and_the_person(tmp_path, mixed, tiny_text_dir):
    person = photos(tmp_path / "person", 2)
    (person / "c.heic").write_bytes(HEIC)
    prompt = ("--subject_data_dir", person, "--subject_prompt", f"a face of {text_to_image.captions.RARE[1]}")
    assert run("adapt-t2i", "--source", tiny_text_dir, "--train_data_dir", mixed, "--output_dir", tmp_path / "out", "--max_train_steps", 1,
               "--num_images", 2, "--num_requests", 0, "--num_prior_images", 4, "--num_inference_steps", 1, "--method", "dreambooth",
               *prompt) == 0
    facts = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert all(word in facts["training_images"] and word in page for word in READ)
    assert facts["subject_images"].startswith("2 images read (2 PNG); left out: 1 HEIC") and "c.heic" in page


# ------------------------------------------------------------------------------------------ other sources on the command line

def test_a_grey_source_from_end_to_end(tmp_path):
    """Training images made grey, scores of grey against grey, pictures of mode L."""
    from diffusers import UNet2DModel
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = make_source(SIZE).unet.config
        unet = UNet2DModel.from_config(config, in_channels=1, out_channels=1)
    source, out = models.save_pipeline(unet, models.new_scheduler(), tmp_path / "grey"), tmp_path / "out"
    assert run(*adapting(source, photos(tmp_path / "photos"), out, "--method", "domainstudio", "--pairwise_space", "features")) == 0
    assert models.load_source(out).unet.config.in_channels == 1
    assert run("sample", out, "--num_images", 2, "--num_inference_steps", 1) == 0
    with Image.open(out / "samples" / "0000.png") as image:
        assert image.mode == "L"
    assert run("evaluate", out, "--target", "sketches", "--num_images", 4, "--num_inference_steps", 1, "--output", tmp_path / "e.json") == 0
    row = json.loads((tmp_path / "e.json").read_text("utf-8"))["scores"][-1]
    assert row["nearest_lpips"] > 0 and row["fd"] > 0


@pytest.mark.parametrize("changes, words", [
    ({"sample_size": 64}, ["add --resolution 64"]), ({"in_channels": 1, "out_channels": 1}, ["1 channels"]),
    ({"out_channels": 6}, ["3 channels into 6"])])
def test_pretraining_goes_on_from_a_source_that_fits_or_says_so(capsys, tmp_path, monkeypatch, changes, words):
    from diffusers import UNet2DModel
    monkeypatch.setattr(data, "draw_domain", lambda *_, **__: pytest.fail("work has begun"))
    unet = UNet2DModel.from_config(make_source(SIZE).unet.config, **changes)
    source = models.save_pipeline(unet, models.new_scheduler(), tmp_path / "source")
    assert run("pretrain", "--source", source, "--resolution", SIZE, "--output_dir", tmp_path / "out") == 2
    refused(capsys, *words)
    assert not (tmp_path / "out").exists()
