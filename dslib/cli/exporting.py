"""``dslib export``: models as a page that any web server can hold."""

from pathlib import Path

from ..base.errors import UserError
from .options import prepare_output


def cmd_export(args) -> None:
    from ..web import export, onnx_file
    onnx_file.check_packages()
    titles = args.title or [Path(folder).name or str(folder) for folder in args.pipelines]
    if len(titles) != len(args.pipelines):
        raise UserError(f"{len(titles)} of --title for {len(args.pipelines)} models: give one a model, in their order")
    if len(set(map(export.slug, titles))) < len(titles):
        raise UserError("two models have the same name: tell them apart with --title, one a model")
    out = Path(args.output_dir)
    for folder in args.pipelines:
        if Path(folder).resolve() == out.resolve():
            raise UserError(f"--output_dir {out} is the model itself: choose another folder")
        export.load(folder)                                   # a wrong folder is found before minutes are spent on a right one
    prepare_output(out, args.overwrite, run=False)
    places = [{"folder": folder, "title": title} for folder, title in zip(args.pipelines, titles, strict=True)]
    for title, found in export.export(places, out, args.float32, args.page_title).items():
        step, image = max(found["answers"]), found["image"]
        print(f"{title}: differs from PyTorch by at most {step:.2g} in a step, {image:.2g} after {found['steps']}")
    print(f"\nPage: {out}/index.html  (look at it with: python3 -m http.server -d {out})")


def add_commands(command) -> None:
    """export; command(name, function, text, options) makes a parser."""
    command("export", cmd_export, "Write models as ONNX files, and a web page that draws with them in the browser.", export_options)


def export_options(export) -> None:
    export.add_argument("pipelines", nargs="+", help="run folders; the source first, if it is among them")
    export.add_argument("--output_dir", required=True, help="a new folder for the page")
    export.add_argument("--title", action="append", help="a model's name on the page, once a model; default: its folder's")
    export.add_argument("--page_title", default="Try it", help="the page's own title")
    export.add_argument("--float32", action="store_true", help="keep float32 weights; twice as many bytes")
    export.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
