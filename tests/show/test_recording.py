"""Explorers for pages without a kernel: what is drawn beforehand, and that the committed recordings are the notebooks' own figures."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import ipywidgets
import nbformat
import pytest
from conftest import make_images
from PIL import Image

from dslib import UserError, data
from dslib.show import plots, recording, widgets
from dslib.study import ablations

ROOT = Path(__file__).resolve().parents[2]
RECORDED = sorted((ROOT / "data" / "explorers").glob("*/explorer.json"))
recorded = pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)


def figure_of(shade: float):
    figure = plots.new_figure(1, 1)
    figure.subplots().imshow([[shade, 0.0], [0.0, 1.0]], vmin=0, vmax=1)
    return figure


@pytest.mark.parametrize("control, values", [
    (ipywidgets.IntSlider(3, 1, 4), [1, 2, 3, 4]),
    (ipywidgets.IntSlider(600, 0, 999), [0, 100, 200, 300, 400, 500, 600, 699, 799, 899, 999]),
    (ipywidgets.IntSlider(50, 0, 1000, 50), [0, 50, 200, 300, 400, 500, 600, 700, 800, 900, 1000]),
    (ipywidgets.Dropdown(options=["a", "b"]), ["a", "b"]),
    (ipywidgets.Dropdown(options=[("one", 1), ("two", 2)]), [1, 2]),
    (ipywidgets.SelectionSlider(options=[0, 75, 600], value=75), [0, 75, 600]),
    (ipywidgets.BoundedIntText(7, 0, 9999), [7])])
def test_the_stops_of_a_control(control, values):
    found = recording.stops(control)
    assert found == values and control.value in found and len(found) <= recording.STOPS


def test_every_setting_is_drawn_once_in_order_and_equal_pictures_are_one_file(tmp_path):
    (tmp_path / "old.webp").write_bytes(b"of an earlier recording")
    asked = []

    def redraw(name, level):
        asked.append((name, level))
        if (name, level) == ("b", 2):
            raise ValueError("there is no such level")
        return figure_of(0.2 if name == "a" else 0.8), f"{name} at {level}"

    controls = {"name": ipywidgets.Dropdown(options=["a", "b"], description="letter"), "level": ipywidgets.IntSlider(2, 1, 3)}
    content = json.loads(recording.record(tmp_path, redraw, controls).read_text("utf-8"))
    assert asked == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    assert [one["alt"] for one in content["frames"]] == ["a at 1", "a at 2", "a at 3", "b at 1", "not possible: there is no such level",
                                                         "b at 3"]
    assert [(one["label"], one["start"]) for one in content["controls"]] == [("letter", 0), ("", 1)]
    files = [one.get("file") for one in content["frames"]]
    assert files[0] == files[1] == files[2] and files[3] == files[5] != files[0] and files[4] is None
    assert sorted(p.name for p in tmp_path.glob("*.webp")) == sorted({files[0], files[3]})


def test_too_many_settings_are_refused_before_any_is_drawn(tmp_path):
    controls = {str(i): ipywidgets.IntSlider(0, 0, 10) for i in range(3)}
    with pytest.raises(UserError, match="1331 settings of 0, 1, 2 are too many to record: 160 at most"):
        recording.record(tmp_path, None, controls)


@pytest.mark.parametrize("asked", [True, False])
def test_an_explorer_is_recorded_where_that_is_asked_for(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(plots, "show", lambda *_, **__: None)
    monkeypatch.delenv("DSLIB_EXPLORERS", raising=False)
    if asked:
        monkeypatch.setenv("DSLIB_EXPLORERS", str(tmp_path))
    widgets.explore(lambda level: (figure_of(0.5), f"at {level}"), level=ipywidgets.IntSlider(1, 0, 2))
    assert (tmp_path / "explorer.json").exists() == asked


# ---------------------------------------------------------------------- what is committed

def shown_at_the_start(chapter: str) -> str:
    """The text alternative of the figure that the notebook's own explorer begins with."""
    path = next((ROOT / "notebooks").glob(f"{chapter}_*.ipynb"))
    cell = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code" and ".explore_" in c.source][-1]
    return [o.metadata["image/png"]["alt"] for o in cell.outputs if "image/png" in o.get("data", {})][-1]


def test_something_is_recorded():
    assert {path.parent.name for path in RECORDED} >= {"02b", "05", "06", "08"}


@recorded
def test_a_recording_is_whole_and_light(path):
    content, pictures = json.loads(path.read_text("utf-8")), {p.name for p in path.parent.glob("*.webp")}
    assert content["kind"] in ("frames", "plane", "ablations", "weights")
    used = {one["file"] for one in content.get("frames", []) if "file" in one}
    used |= {"sheet.webp"} if content["kind"] == "ablations" else set()
    assert pictures == used and {p.name for p in path.parent.iterdir()} == used | {"explorer.json"}
    assert sum(p.stat().st_size for p in path.parent.iterdir()) < 4_000_000
    assert "NaN" not in path.read_text("utf-8")


@recorded
def test_a_recording_begins_where_the_notebook_does(path):
    content, alt = json.loads(path.read_text("utf-8")), shown_at_the_start(path.parent.name)
    if content["kind"] == "frames":
        place = 0
        for control in content["controls"]:
            place = place * len(control["values"]) + control["start"]
        assert content["frames"][place]["alt"] == alt
    elif content["kind"] == "plane":
        score = content["start"]["scores"]
        assert alt.endswith(f"copies {score['copies']:.0%} (uniform {score['uniform']:.0%}), on the ring {score['on_ring']:.0%}, "
                            f"turned by {score['turned']:.0f}°.")
    elif content["kind"] == "weights":
        assert widgets.weights_figure(content["norms"], content["start"])[1] == alt
    else:
        point = content["axes"]["λ2, L_img"][0]
        assert alt.startswith(f"λ2, L_img: {point['value']}: " + ", ".join(f"{k} {v:.3g}" for k, v in point["scores"].items()))


def test_the_recorded_grid_is_the_committed_one():
    content = json.loads((ROOT / "data" / "explorers" / "08" / "explorer.json").read_text("utf-8"))
    grid = ablations.load()
    luck = {metric: tuple(ends) for metric, ends in content["luck"].items()}
    again, pictures = widgets.grid_for_the_page(grid, luck)
    assert json.loads(json.dumps(again)) == content and list(pictures) == ["sheet.webp"]
    for metric, (low, high) in luck.items():
        key = next(k for k, title in widgets.METRICS.items() if title == metric)
        groups = [[grid.rows[i][key] for i in ablations.along(grid, axis).values()] for axis in ("seed", "seed, naive")]
        assert (high - low) / 2 == pytest.approx(ablations.margin(groups))
        assert (high + low) / 2 == pytest.approx(sum(groups[0]) / len(groups[0]))


@pytest.mark.parametrize("picture, wavelet, level", [("sketches", "db2", 2), ("avataaars", "coif1", 3), ("robots", "haar", 1)])
def test_recorded_bands_are_the_functions_own(picture, wavelet, level):
    content = json.loads((ROOT / "data" / "explorers" / "05" / "explorer.json").read_text("utf-8"))
    values = [control["values"] for control in content["controls"]]
    place = 0
    for choices, chosen in zip(values, (picture, wavelet, level)):
        place = place * len(choices) + choices.index(chosen)
    image = data.load_domain(picture, "test", 1).images[0]
    assert content["frames"][place]["alt"] == widgets.bands_figure(image, wavelet, level)[1]


def test_a_sheet_holds_the_thumbnails_of_every_row(tmp_path):
    thumbs = data.to_uint8(make_images(6, 16)).reshape(3, 2, 3, 16, 16)
    scored = dict.fromkeys((*widgets.METRICS, "nearest_real"), 0.5)
    rows = [{"axis": "method", "value": name, **scored} for name in ("DomainStudio", "b", "c")]
    grid = SimpleNamespace(rows=rows, thumbs=thumbs, facts={"real": dict.fromkeys(widgets.METRICS, 0.4)})
    content, pictures = widgets.grid_for_the_page(grid, dict.fromkeys(widgets.METRICS.values(), (0.1, 0.9)))
    assert Image.open(io.BytesIO(pictures["sheet.webp"])).size == (32, 48)
    assert content["rows"] == 3 and content["columns"] == 2 and content["default"] == 0
