"""Chapter 02b's explorer: the method in the plane, trained again when a slider is let go."""

import base64
import functools

from torch import Tensor, nn

from ..show import recording, widgets
from . import plane, plots_plane

METHODS = ("naive", "DomainStudio", "anchored")


def explorer(source: nn.Module, noise: Tensor, anchors: Tensor):
    """A redraw function for :func:`dslib.widgets.explore`; no setting is trained twice."""
    twins = plane.sample(source, noise)

    @functools.lru_cache(maxsize=32)
    def trained(method: str, lambda_img: float, steps: int, shots: int, arc: int):
        ten = plane.ring(shots, plane.RADIUS, 0, arc)
        drawn = plane.batches(ten, steps, 0, anchors if method == "anchored" else None)
        return ten, plane.adapted(source, drawn, 0.0 if method == "naive" else lambda_img)

    def redraw(method: str, lambda_img: float, steps: int, shots: int, arc: int, until: int):
        ten, model = trained(method, 0.0 if method == "naive" else lambda_img, steps, shots, arc)
        x = plane.sample(model, noise, source=source, until=until)
        found = plane.scores(x, ten, twins)
        words = (f"copies {found['copies']:.0%} (uniform {plane.chance(ten):.0%}), "
                 f"on the ring {found['on_ring']:.0%}, turned by {found['turned']:.0f}°")
        figure = plots_plane.clouds({"source": twins, method: x}, twins, words, ten)
        return figure, (f"{method}, λ = {lambda_img}, {steps} steps, {shots} points on {arc}°, "
                        f"source until t = {until}: {words}.")
    return redraw


def packed(x: Tensor) -> str:
    """A tensor's numbers as little-endian float32, in base64."""
    return base64.b64encode(x.detach().cpu().numpy().astype("<f4").tobytes()).decode()


def for_the_page(source: nn.Module, noise: Tensor, anchors: Tensor, steps: int) -> dict:
    """What docs/static/plane.js needs to train in the page, and what the run it begins with scores here."""
    twins, ten = plane.sample(source, noise), plane.ring(10, plane.RADIUS, 0)
    x = plane.sample(plane.adapted(source, plane.batches(ten, steps, 0), 0.3), noise)
    return {"kind": "plane", "weights": [packed(p) for p in source.parameters()], "twins": packed(twins), "anchors": packed(anchors),
            "start": {"steps": steps, "scores": plane.scores(x, ten, twins) | {"uniform": plane.chance(ten)}}}


def explore_plane(source: nn.Module, noise: Tensor, anchors: Tensor, steps: int = 300) -> None:
    """Sliders over λ, steps, shots, the points' arc, and where the source stops sampling."""
    import ipywidgets as w
    if target := recording.folder():
        recording.keep(target, for_the_page(source, noise, anchors, steps))

    def slider(name: str, value: int, low: int, high: int, by: int = 1):
        return w.IntSlider(value, low, high, by, description=name, continuous_update=False)

    widgets.explore(explorer(source, noise, anchors),
                    method=w.Dropdown(options=METHODS, value="DomainStudio", description="method"),
                    lambda_img=w.FloatSlider(0.3, min=0, max=3, step=0.1, description="λ",
                                             continuous_update=False),
                    steps=slider("steps", steps, 0, 1500), shots=slider("shots", 10, 1, 50),
                    arc=slider("arc", 360, 10, 360, 10),
                    until=slider("source until t", 1000, 0, 1000, 50))
