"""Explorers of the method: what networks, losses and bands do with the reader's pictures at a setting (chapters 01 to 06, 09, 10)."""

import math

import torch
from torch import Tensor

from .. import ddpm, losses
from ..base.errors import UserError
from . import explorer, plots, recording

GUESS = r"guess $\tilde x_0$"

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
    explorer.explore(lambda t, schedule: forward_figure(unet, x_0, schedules[schedule], t, prediction_type=prediction_type),
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
    explorer.explore(lambda t, seed, beside: similarity_figure({name: models[name] for name in (first, beside)}, x_0[:4], alphas_cumprod,
                                                               t, seed, prediction_type),
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
    explorer.explore(lambda **weights: weights_figure(norms, weights),
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
    explorer.explore(lambda link, sampler: chain_figure(chains[sampler], link),
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
    explorer.explore(lambda picture, wavelet, level: bands_figure(images[picture], wavelet, level),
                     picture=widgets.Dropdown(options=list(images), description="picture"),
                     wavelet=widgets.Dropdown(options=list(wavelets), description="wavelet"),
                     level=widgets.IntSlider(1, 1, levels, description="level", continuous_update=False))


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
    explorer.explore(lambda prompt, scale: guidance_figure(drawn, prompt, scale),
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
    explorer.explore(lambda prompt, first, second: prompts_figure(drawn, prompt, first, second),
                     prompt=widgets.Dropdown(options=prompts, value=prompts[-1], description="prompt"),
                     first=widgets.Dropdown(options=names, description="model"),
                     second=widgets.Dropdown(options=names, value=names[-1], description="beside it"))
