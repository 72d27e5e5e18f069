"""Explorers of what runs left: samples, scores, errors and weights that are there already (chapters 03, 07, 08, 12 to 14)."""

import torch
from torch import Tensor

from .. import data, metrics
from ..base.errors import UserError
from ..measure import membership
from ..measure.score import SCORES
from . import explorer, plots, recording


def memorisation_figure(samples: Tensor, images: Tensor, distances: Tensor, title: str, columns: int = 10):
    """Samples (N,3,R,R) above the training image (K,3,R,R) nearest to each by distances (N,K): (figure, alt)."""
    near = distances[:columns].min(dim=1)
    figure = plots.rows({"sample": samples, "nearest of the training images": images[near.indices]}, columns,
                        labels=[f"{value:.2f}" for value in near.values.tolist()])
    plots.headline(figure, title)
    return figure, f"{title}: samples above the training image nearest to each; mean distance {float(near.values.mean()):.3f}."


def explore_memorisation(runs: dict[str, dict[int, Tensor]], images: Tensor, columns: int = 10) -> None:
    """Slider over the training step, menus of run and distance. runs[name][step]: samples (N,3,R,R) drawn beforehand.

    images: the training images (K,3,R,R). All distances are measured once, here, so that a move only draws.
    """
    import ipywidgets as widgets
    distances = {}
    for name, saved in runs.items():
        for step, samples in saved.items():
            pixels = torch.cdist(samples[:columns].flatten(1), images.flatten(1)) / images[0].numel() ** 0.5
            distances[name, step] = {"LPIPS": metrics.lpips_matrix(samples[:columns], images), "pixels": pixels}

    def redraw(step: int, run: str, distance: str):
        if step not in runs[run]:
            raise ValueError(f"{run} has samples of the steps {', '.join(map(str, runs[run]))}")
        title = f"{run} after {step} steps, nearest by {distance}"
        return memorisation_figure(runs[run][step], images, distances[run, step][distance], title, columns)

    steps = sorted({step for saved in runs.values() for step in saved})
    explorer.explore(redraw, step=widgets.SelectionSlider(options=steps, value=steps[-1], description="step", continuous_update=False),
                     run=widgets.Dropdown(options=list(runs), description="run"),
                     distance=widgets.Dropdown(options=["LPIPS", "pixels"], description="nearest by"))


SHARES = (0, 10, 30)       # of a pool, where a mixture's every setting is drawn beforehand

def mixture_counts(shares: dict[str, float], n: int) -> dict[str, int]:
    """Whole numbers of images in the proportion of the shares, adding up to exactly n."""
    if min(shares.values()) < 0:
        raise ValueError("a share below zero takes away what is not there")
    if not (total := sum(shares.values())):
        raise ValueError("all shares are zero: a mixture needs something in it")
    exact = {name: n * share / total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:n - sum(counts.values())]:
        counts[name] += 1                                            # the largest remainders get what rounding down has left
    return counts


def mixture_figure(images: Tensor, pools: dict[str, Tensor], score, band: dict[str, tuple], marks: dict, shares: dict[str, float]):
    """Images of several pools mixed, and where their scores lie beside real images: (figure, alt). See :func:`explore_mixture`."""
    counts = mixture_counts(shares, min(len(index) for index in pools.values()))
    index = torch.cat([pools[name][:count] for name, count in counts.items()])
    values = score(index)
    places = {metric: metrics.against_real(value, *band[metric]) for metric, value in values.items()}
    shown = index[torch.linspace(0, len(index) - 1, 10).long()]
    figure = plots.strips(images[shown], values, places, marks)
    mixed = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    apart = [metric for metric, place in places.items() if abs(place) > 1]
    told = f"real images never score so by {', '.join(apart)}" if apart else "no metric tells it from real images"
    plots.headline(figure, f"{mixed}: {told}")
    return figure, f"A mixture of {mixed}; {told}."


def explore_mixture(images: Tensor, pools: dict[str, Tensor], score, band: dict[str, tuple], **start: float) -> None:
    """A slider a pool: how much of it goes into the mixture. Only indices move; nothing is measured anew.

    images (P,3,R,R); pools[name]: indices of that pool's images, as many for each; score: indices (n,) → {metric:
    value}, from features and distances that are known; band[metric]: (lowest, highest, arrow) of real images, see
    :func:`dslib.metrics.against_real`; start: first values of the sliders, 0 to 100.
    """
    import ipywidgets as widgets
    marks = {name: {metric: metrics.against_real(value, *band[metric]) for metric, value in score(index).items()}
             for name, index in pools.items()}

    def redraw(**shares: float):
        return mixture_figure(images, pools, score, band, marks, shares)

    if target := recording.folder():
        redraw.recorded = True                      # with fewer settings: the first pool stays, of the others a few shares
        first, *others = pools
        stops = {name: sorted({*SHARES, start.get(name, 0)}) for name in others}
        recording.record(target, redraw, {first: widgets.IntText(start.get(first, 0), description=first)} | {
            name: widgets.SelectionSlider(options=stops[name], value=start.get(name, 0), description=name) for name in others})
    explorer.explore(redraw, **{name: widgets.IntSlider(start.get(name, 0), 0, 100, description=name,
                     continuous_update=False) for name in pools})


METRICS = {key: SCORES[key].title for key in ("intra", "nearest", "fd", "hit")}

def along(grid, axis: str) -> dict[str, int]:
    """Where the points of an axis are: value → row, in the order of ``AXES``. Raises UserError for an axis that is not there."""
    points = {row["value"]: i for i, row in enumerate(grid.rows) if row["axis"] == axis}
    if not points:
        raise UserError(f"no axis {axis!r}: use one of {', '.join(dict.fromkeys(row['axis'] for row in grid.rows))}")
    return points


def ablation_figure(grid, luck: dict[str, tuple[float, float]], axis: str, place: int):
    """A point of the grid of ablations: its samples beside the default's, its scores among those of its axis: (figure, alt)."""
    points = along(grid, axis)
    names = list(points)
    chosen = names[min(place, len(names) - 1)]
    values = {name: {METRICS[key]: grid.rows[i][key] for key in METRICS} for name, i in points.items()}
    real = {METRICS[key]: grid.rows[points[chosen]]["nearest_real"] if key == "nearest" else grid.facts["real"][key] for key in METRICS}
    default = along(grid, "method")["DomainStudio"]
    thumbs = {"the default": data.to_float(grid.thumbs[default]), f"{axis}: {chosen}": data.to_float(grid.thumbs[points[chosen]])}
    words = ", ".join(f"{metric} {value:.3g}" for metric, value in values[chosen].items())
    figure = plots.ablation(values, real, luck, chosen, thumbs)
    plots.headline(figure, f"{axis}: {chosen} (dashed: real images; band: what another seed of the default may give)")
    return figure, f"{axis}: {chosen}: {words}; the samples beside the default's, and the scores along the axis."


def grid_for_the_page(grid, luck: dict[str, tuple[float, float]]) -> tuple[dict, dict[str, bytes]]:
    """What docs/static/explorers.js draws the grid from: (numbers, pictures); a line of the sheet is a row of the grid."""
    axes = {}
    for axis in dict.fromkeys(row["axis"] for row in grid.rows):
        axes[axis] = [{"value": value, "row": i, "scores": {METRICS[key]: grid.rows[i][key] for key in METRICS},
                       "real": {METRICS[key]: grid.rows[i]["nearest_real"] if key == "nearest" else grid.facts["real"][key]
                                for key in METRICS}} for value, i in along(grid, axis).items()]
    sheet = plots.tile(data.to_float(grid.thumbs.flatten(0, 1)), grid.thumbs.shape[1], gap=0)
    return {"kind": "ablations", "axes": axes, "luck": luck, "default": along(grid, "method")["DomainStudio"],
            "rows": len(grid.rows), "columns": grid.thumbs.shape[1]}, {"sheet.webp": recording.sheet(sheet)}


def explore_ablations(grid, luck: dict[str, tuple[float, float]], recompute=None) -> None:
    """Menu of axes, slider along the axis. recompute(axis, value): what a button does with the point that is shown, if given."""
    import ipywidgets as widgets
    axes = list(dict.fromkeys(row["axis"] for row in grid.rows))
    longest = max(len(along(grid, axis)) for axis in axes)
    axis = widgets.Dropdown(options=axes, value="λ2, L_img", description="axis")
    place = widgets.IntSlider(0, 0, longest - 1, description="setting", continuous_update=False)

    def redraw(axis: str, place: int):
        return ablation_figure(grid, luck, axis, place)

    if target := recording.folder():
        recording.keep(target, *grid_for_the_page(grid, luck))
        redraw.recorded = True                      # by its numbers: the page draws them itself
    explorer.explore(redraw, axis=axis, place=place)
    if recompute is None:
        return
    from IPython.display import display
    button, screen = widgets.Button(description="recompute this point", layout={"width": "14em"}), widgets.Output()

    def pressed(_):
        names, button.disabled = list(along(grid, axis.value)), True
        with screen:
            try:
                recompute(axis.value, names[min(place.value, len(names) - 1)])
            except Exception as error:              # the button must survive what a run does
                print(f"not possible: {error}")
        button.disabled = False

    button.on_click(pressed)
    display(widgets.VBox([button, screen]))


def crowds_figure(errors: dict[str, dict[int, tuple[Tensor, Tensor]]], t: int):
    """Every picture's error at step t, a line a model: (figure, alt). errors[model][t]: of the ten (N,), of strangers (M,)."""
    figure = plots.crowds({name: found[t] for name, found in errors.items()}, f"error of the answer at t = {t}", "the ten", "strangers")
    told = ", ".join(f"{name} {membership.auc(*found[t]):.3f}" for name, found in errors.items())
    return figure, f"Errors at t = {t} of the ten and of strangers, a line a model. AUC: {told}."


def explore_crowds(errors: dict[str, dict[int, tuple[Tensor, Tensor]]]) -> None:
    """Slider over the steps t that were asked. errors[model][t]: errors of the ten (N,), of strangers (M,), the same t for each model."""
    import ipywidgets as widgets
    steps = sorted(next(iter(errors.values()))) if errors else []
    if not steps or any(sorted(found) != steps for found in errors.values()):
        raise UserError("every model needs errors at the same steps t, at least one")
    explorer.explore(lambda t: crowds_figure(errors, t),
                     t=widgets.SelectionSlider(options=steps, value=steps[len(steps) // 2], description="t", continuous_update=False))


def weight_figure(levels: list[float], price: float, rate: float, step, start: float = 0.3, every: int = 10):
    """λ on the way of a loss that a run measured, were c and η others: (figure, alt). levels: L̄ after every ``every`` steps; step: as
    ``weights.dual_step``."""
    weights, weight = [], start
    for level in levels:
        for _ in range(every):
            weight = step(weight, level, price, rate)
        weights.append(weight)
    x = torch.arange(every, every * len(levels) + 1, every)
    figure = plots.curves(x, {"λ": torch.tensor([weights]), "loss": torch.tensor([levels])}, "training step", "λ, and the loss it follows",
                          log=True, thresholds={f"price {price:.3g}": price})
    return figure, f"At a price of {price:.3g} and η = {rate:g}, λ ends at {weights[-1]:.3g}; the loss ends at {levels[-1]:.3g}."


def explore_weight(levels: list[float], price: float, step) -> None:
    """Sliders for the price, as a multiple of the right answer's, and for η. levels, step: as :func:`weight_figure`'s."""
    import ipywidgets as widgets
    if not levels:
        raise UserError("no losses to follow: give a run's levels")
    explorer.explore(lambda times, rate: weight_figure(levels, times * price, rate, step),
                     times=widgets.SelectionSlider(options=[0.1, 0.25, 0.5, 1.0, 2.0], value=1.0, description="price ×",
                                                   continuous_update=False),
                     rate=widgets.SelectionSlider(options=[0.01, 0.05, 0.2], value=0.05, description="η", continuous_update=False))


def wish_figure(images: Tensor, pushed: dict[str, dict[float, Tensor]], says: dict[str, dict[float, tuple[float, float]]],
                probe: str, radius: float):
    """Pictures moved by at most a radius to please a probe: (figure, alt). See :func:`explore_wish`."""
    moved, (pleased, judged) = pushed[probe][radius], says[probe][radius]
    change = (4 * (moved - images)).clamp(-1, 1)
    figure = plots.rows({"as drawn": images, f"moved by {radius:g}": moved, "change, 4 times": change}, len(images))
    plots.headline(figure, f"{probe}, radius {radius:g}: the probe sees the wish in {pleased:.0%}, the judge in {judged:.0%}")
    told = f"It sees the wish in {pleased:.0%}, the judge in {judged:.0%}."
    return figure, f"Pictures moved by at most {radius:g} to please the {probe}. {told}"


def explore_wish(images: Tensor, pushed: dict[str, dict[float, Tensor]], says: dict[str, dict[float, tuple[float, float]]]) -> None:
    """Menu of probes, slider over radii. images (N,3,R,R); pushed[probe][radius]: the same moved, (N,3,R,R); says: the shares in which
    the probe and the judge see the wish."""
    import ipywidgets as widgets
    radii = sorted(next(iter(pushed.values()))) if pushed else []
    if not radii or any(sorted(found) != radii for found in (*pushed.values(), *says.values())) or set(pushed) != set(says):
        raise UserError("every probe needs pictures and shares at the same radii, at least one")
    explorer.explore(lambda probe, radius: wish_figure(images, pushed, says, probe, radius),
                     probe=widgets.Dropdown(options=list(pushed), description="probe"),
                     radius=widgets.SelectionSlider(options=radii, value=radii[len(radii) // 2], description="radius",
                                                    continuous_update=False))
