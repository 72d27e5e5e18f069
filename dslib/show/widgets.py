"""Sliders over the course's figures: one redraw function each, a static figure where no widgets can run."""

import math

import torch
from torch import Tensor

from .. import data, ddpm, losses, metrics
from ..base.errors import UserError
from ..measure import membership
from ..measure.score import SCORES
from . import plots, recording

GUESS = r"guess $\tilde x_0$"


def explore(redraw, **controls):
    """Show ``redraw(**values)``, a (figure, alt) pair, and draw it again when a control is let go.

    controls: ipywidgets. Impossible values are reported in place and the next move works again. The figure is also
    drawn once as an ordinary output, so that a reader without a kernel sees it; where a page is recorded, every setting is drawn.
    """
    try:
        import ipywidgets as widgets
        from IPython.display import clear_output, display
    except ImportError:
        widgets = None
    start = {name: control.value for name, control in controls.items()}
    plots.show(*redraw(**start))
    if widgets is None:
        return
    if (target := recording.folder()) and recording.few(controls) and not hasattr(redraw, "recorded"):
        recording.record(target, redraw, controls)
    screen = widgets.Output()

    def update(_=None):
        with screen:
            clear_output(wait=True)
            try:
                plots.show(*redraw(**{name: control.value for name, control in controls.items()}), live=True)
            except Exception as error:              # a slider must survive whatever value it was given
                print(f"not possible: {error}")

    for control in controls.values():
        control.observe(update, names="value")
    display(widgets.VBox([widgets.HBox(list(controls.values())), screen]))


def forward_figure(unet, x_0: Tensor, alphas_cumprod: Tensor, t: int, seed: int = 0, prediction_type: str = "epsilon"):
    """Faces (N,3,R,R) noised to step t and the model's guess of each: (figure, alt). prediction_type: of the network, ε or v."""
    steps = torch.full((len(x_0),), t)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
    x_t = ddpm.q_sample(x_0, steps, eps, alphas_cumprod)
    with torch.no_grad():
        guess = ddpm.guess(unet(x_t, steps).sample, x_t, steps, alphas_cumprod, prediction_type).x_0
    a = float(alphas_cumprod[t])
    figure = plots.rows({"$x_0$": x_0, "$x_t$": x_t, GUESS: guess}, columns=len(x_0))
    plots.headline(figure, f"t = {t}, share of the picture left {a:.4f}, signal-to-noise {a / (1 - a):.3g}")
    return figure, f"Faces, the same noised to step {t}, and the model's guesses of the clean faces."


def explore_forward(unet, x_0: Tensor, schedules: dict[str, Tensor], prediction_type: str = "epsilon") -> None:
    """Slider over t, menu of schedules (name → alphas_cumprod). x_0: a few faces (N,3,R,R)."""
    import ipywidgets as widgets
    last = len(next(iter(schedules.values()))) - 1
    explore(lambda t, schedule: forward_figure(unet, x_0, schedules[schedule], t, prediction_type=prediction_type),
            t=widgets.IntSlider(300, 0, last, description="t", continuous_update=False),
            schedule=widgets.Dropdown(options=list(schedules), description="schedule"))


def similarity_figure(models: dict, x_0: Tensor, alphas_cumprod: Tensor, t: int, seed: int = 0, prediction_type: str = "epsilon"):
    """Similarity matrices of the guesses x̃_0 of images (N,3,R,R) at one step, one matrix a model: (figure, alt)."""
    steps = torch.full((len(x_0),), t, device=x_0.device)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed)).to(x_0.device)
    x_t = ddpm.q_sample(x_0, steps, eps, alphas_cumprod)
    matrices = {}
    with torch.no_grad():
        for name, unet in models.items():
            guess = ddpm.guess(unet(x_t, steps).sample, x_t, steps, alphas_cumprod, prediction_type).x_0
            matrices[name] = losses.cosine_matrix(guess).cpu()
    figure = plots.heatmaps(matrices, -0.5, 1.0)             # the same colours at every t
    plots.headline(figure, f"t = {t}, noise of seed {seed}")
    return figure, f"Cosine similarities of {len(x_0)} guesses at step {t} for {', '.join(models)}."


def explore_similarity(models: dict, x_0: Tensor, alphas_cumprod: Tensor, prediction_type: str = "epsilon") -> None:
    """Slider over t, another noise by its seed: the first model, the source, and one of the others beside it.

    models: name → U-Net; x_0: a few images (N,3,R,R). Two models at a time, because each costs a forward pass a redraw.
    """
    import ipywidgets as widgets
    first, *others = models
    explore(lambda t, seed, beside: similarity_figure({name: models[name] for name in (first, beside)}, x_0[:4], alphas_cumprod, t, seed,
                                                      prediction_type),
            t=widgets.IntSlider(600, 0, len(alphas_cumprod) - 1, description="t", continuous_update=False),
            seed=widgets.BoundedIntText(0, 0, 9999, description="noise seed"),
            beside=widgets.Dropdown(options=others or [first], value=(others or [first])[-1], description="beside it"))


def weights_figure(norms: dict[str, dict[str, float]], weights: dict[str, float]):
    """Share of each term in the summed length of all gradients, one bar a range of t: (figure, alt)."""
    if not all(0 <= weight < math.inf for weight in weights.values()):
        raise ValueError("a weight is a finite number; below zero it would push the term up")
    if unknown := set(weights) - {term for lengths in norms.values() for term in lengths}:
        raise ValueError(f"no term is called {', '.join(sorted(unknown))}")
    pulls = {where: {term: weights.get(term, 1.0) * norm for term, norm in lengths.items()} for where, lengths in norms.items()}
    shares = {where: {term: pull / (sum(pulled.values()) or 1.0) for term, pull in pulled.items()} for where, pulled in pulls.items()}
    figure = plots.shares(shares, "share of the summed gradient lengths")
    return figure, "; ".join(f"{where}: " + ", ".join(f"{term} {v:.0%}" for term, v in share.items()) for where, share in shares.items())


def explore_weights(norms: dict[str, dict[str, float]], **start: float) -> None:
    """Sliders over the weights. norms: range of t → term → gradient norm without its λ; start: first value of a slider."""
    import ipywidgets as widgets
    terms = {term for lengths in norms.values() for term in lengths} - {"simple"}
    if unknown := set(start) - terms:
        raise UserError(f"no term is called {', '.join(sorted(unknown))}: use {', '.join(sorted(terms))}")
    values = {name: value for name, value in ({"img": 0.3, "hf": 0.3, "hfmse": 0.5} | start).items() if name in terms}
    recording.keep(recording.folder(), {"kind": "weights", "norms": norms, "start": values})
    explore(lambda **weights: weights_figure(norms, weights),
            **{name: widgets.FloatSlider(value, min=0, max=4, step=0.01, description=f"λ {name}", continuous_update=False)
               for name, value in values.items()})


def chain_figure(links: list, i: int):
    """Link i of a sampling chain (:class:`dslib.sample.Link`): what is left of the noise, and the guess, (figure, alt)."""
    link = links[min(i, len(links) - 1)]
    figure = plots.rows({"$x_t$": link.x_t, GUESS: link.x_0}, columns=len(link.x_t))
    plots.headline(figure, f"link {min(i, len(links) - 1) + 1} of {len(links)}, which undid step t = {link.t}")
    return figure, f"What is left of the noise after the link at step {link.t}, and the model's guesses of the clean faces there."


def explore_chain(chains: dict[str, list]) -> None:
    """Slider over the links, menu of samplers. chains: name → list(sample.chain(…)), walked beforehand."""
    import ipywidgets as widgets
    last = max(len(links) for links in chains.values()) - 1
    explore(lambda link, sampler: chain_figure(chains[sampler], link),
            link=widgets.IntSlider(last // 2, 0, last, description="link", continuous_update=False),
            sampler=widgets.Dropdown(options=list(chains), description="sampler"))


def bands_figure(image: Tensor, wavelet: str = "haar", level: int = 1):
    """One picture (3,R,R) and its bands at a level of any wavelet PyWavelets knows, named and signed as ours: (figure, alt)."""
    import pywt
    ll, (horizontal, vertical, diagonal), *_ = pywt.wavedec2(image.detach().cpu().numpy(), wavelet, mode="periodization", level=level)
    parts = [torch.from_numpy(band) for band in (ll, -vertical, -horizontal, diagonal)]
    figure = plots.bands({f"level {level}": (image.detach().cpu(), *parts)})
    energy = [float(band.square().mean()) for band in parts[1:]]
    words = ", ".join(f"{name} {value:.3g}" for name, value in zip(("LH", "HL", "HH"), energy))
    plots.headline(figure, f"{wavelet}, level {level}, mean squares: {words}")
    return figure, f"A picture and its {wavelet} bands at level {level}; mean squares: {words}."


def explore_bands(images: dict[str, Tensor], levels: int = 3,
                  wavelets: tuple[str, ...] = ("haar", "db2", "bior1.3", "bior2.2", "coif1")) -> None:
    """Menus of picture and wavelet, slider over the level. images[name]: one picture (3,R,R) in [-1,1]."""
    import ipywidgets as widgets
    explore(lambda picture, wavelet, level: bands_figure(images[picture], wavelet, level),
            picture=widgets.Dropdown(options=list(images), description="picture"),
            wavelet=widgets.Dropdown(options=list(wavelets), description="wavelet"),
            level=widgets.IntSlider(1, 1, levels, description="level", continuous_update=False))


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
    explore(redraw, step=widgets.SelectionSlider(options=steps, value=steps[-1], description="step", continuous_update=False),
            run=widgets.Dropdown(options=list(runs), description="run"),
            distance=widgets.Dropdown(options=["LPIPS", "pixels"], description="nearest by"))


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


SHARES = (0, 10, 30)       # of a pool, where a mixture's every setting is drawn beforehand


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
    explore(redraw, **{name: widgets.IntSlider(start.get(name, 0), 0, 100, description=name, continuous_update=False) for name in pools})


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
    explore(redraw, axis=axis, place=place)
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
    explore(lambda t: crowds_figure(errors, t),
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
    explore(lambda times, rate: weight_figure(levels, times * price, rate, step),
            times=widgets.SelectionSlider(options=[0.1, 0.25, 0.5, 1.0, 2.0], value=1.0, description="price ×", continuous_update=False),
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
    explore(lambda probe, radius: wish_figure(images, pushed, says, probe, radius),
            probe=widgets.Dropdown(options=list(pushed), description="probe"),
            radius=widgets.SelectionSlider(options=radii, value=radii[len(radii) // 2], description="radius", continuous_update=False))


def guidance_figure(drawn: dict[str, dict[float, Tensor]], prompt: str, scale: float):
    """Pictures of one prompt at one guidance scale, above them those at scale 1: (figure, alt)."""
    pictures = drawn[prompt]
    figure = plots.rows({"scale 1": pictures[1.0], f"scale {scale:g}": pictures[scale]}, len(pictures[scale]))
    return figure, f"{prompt}: the same noise at guidance scale 1 and {scale:g}."


def explore_guidance(drawn: dict[str, dict[float, Tensor]]) -> None:
    """Menu of prompts, slider over guidance scales. drawn[prompt][scale]: images (N,3,R,R) from the same noise; 1.0 is among them."""
    import ipywidgets as widgets
    if not drawn or any(1.0 not in pictures for pictures in drawn.values()):
        raise UserError("every prompt needs pictures at scale 1.0, to compare with")
    scales = sorted(next(iter(drawn.values())))
    explore(lambda prompt, scale: guidance_figure(drawn, prompt, scale),
            prompt=widgets.Dropdown(options=list(drawn), description="prompt"),
            scale=widgets.SelectionSlider(options=scales, value=scales[-1], description="guidance", continuous_update=False))


def prompts_figure(drawn: dict[str, dict[str, Tensor]], prompt: str, first: str, second: str):
    """One prompt through two models, the same noise in a column: (figure, alt)."""
    shown = {name: drawn[name][prompt] for name in dict.fromkeys((first, second))}
    return plots.rows(shown, len(shown[first])), f"{prompt}, drawn by {' and by '.join(shown)} from the same noise."


def explore_prompts(drawn: dict[str, dict[str, Tensor]]) -> None:
    """Menus of prompts and models, two of these beside each other. drawn[model][prompt]: images (N,3,R,R), the same prompts everywhere."""
    import ipywidgets as widgets
    asked = {name: list(pictures) for name, pictures in drawn.items()}
    if not asked or len(set(map(tuple, asked.values()))) > 1:
        raise UserError("every model needs pictures of the same prompts")
    names, prompts = list(asked), next(iter(asked.values()))
    explore(lambda prompt, first, second: prompts_figure(drawn, prompt, first, second),
            prompt=widgets.Dropdown(options=prompts, value=prompts[-1], description="prompt"),
            first=widgets.Dropdown(options=names, description="model"),
            second=widgets.Dropdown(options=names, value=names[-1], description="beside it"))
