"""Clips through an image model, frame by frame: no video model, an extension of ours that shows where one would have to begin.

The paper names video as future work. Here the drawing kit draws one person in eight frames, who blinks and turns. Every frame is noised to
step t_0 and denoised by an image model (SDEdit, Meng et al. 2022, arXiv 2108.01073), which knows nothing of the other frames. So what moves
in the result is what the frames and their noise have in common, or not. The true clip is known: ``data.twin`` of every frame.

The kit cannot turn a head. Its face turns: eyes, brows, nose, glasses and mouth slide sideways over a head that stays, the nose furthest.
"""

import io
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import data, ddpm, metrics, sample
from ..base import avatars
from ..base.decoding import decode, read_image
from ..base.errors import UserError, shown
from ..base.finite import check_drawn
from ..base.images import list_images

#: eight frames: the eyes, and how far the face has turned, in the drawing's units (280 a side)
FRAMES = (("default", 0), ("closed", 0), ("default", 0), ("default", 5), ("default", 10), ("closed", 10), ("default", 10), ("default", 5))
BLINKS = ((0, 1), (1, 2), (4, 5), (5, 6))      # pairs of frames between which the eyes alone change
SLIDES = {"eyes": 1.0, "eyebrows": 1.0, "accessories": 1.0, "facialHair": 1.0, "mouth": 1.1, "nose": 1.4}
PLAIN = {"accessoriesProbability": 0}          # glasses would hide a blink
NOISES = ("shared", "fresh", "inverted")
LEVELS = 127.5                                 # of [-1,1] in levels of 255
CHANGED = 2.5 / LEVELS                         # a pixel that differs by more than two levels has changed


@cache
def _style():
    from dicebear import Style
    return Style(avatars.definition(avatars.DRAWN[data.SOURCE][0]))


def turned(svg: str, by: float) -> str:
    """A face's drawing with its parts moved ``by`` units to the right, each by its share of ``SLIDES``."""
    def moved(found: re.Match) -> str:
        return f'translate({float(found[1]) + by * SLIDES[found[3]]:g}{found[2]})" href="#{found[3]}-'
    return re.sub(rf'translate\((-?[\d.]+)([^)"]*)\)" href="#({"|".join(SLIDES)})-', moved, svg)


def draw_clip(index: int, resolution: int = 64) -> Tensor:
    """Person ``index`` in the eight ``FRAMES``: (8,3,R,R) in [-1,1], of a split that no model was trained on, always the same."""
    import resvg_py
    from dicebear import Avatar
    options, frames = avatars.DRAWN[data.SOURCE][1], []
    for eyes, turn in FRAMES:
        wanted = {"seed": f"{data.SOURCE}/clips/{index}", **options, **PLAIN, "eyesVariant": [eyes]}
        svg = turned(Avatar(_style(), wanted).to_json()["svg"], turn)
        png = resvg_py.svg_to_bytes(svg_string=svg, width=resolution, height=resolution, skip_system_fonts=True)
        with Image.open(io.BytesIO(png)) as image:
            frames.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))
    return data.to_float(torch.stack(frames))


def draw_clips(n: int, resolution: int = 64) -> Tensor:
    """The first n people: (n,8,3,R,R) in [-1,1]. Raises UserError for n below 1."""
    if n < 1:
        raise UserError(f"--clips is {n}: ask for at least 1")
    return torch.stack([draw_clip(index, resolution) for index in range(n)])


def in_order(path: Path) -> list:
    """A key that sorts frame2.png before frame10.png."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name.lower()) if part]


def load_clip(folder: str | Path, resolution: int = 64) -> Tensor:
    """The pictures of a folder as frames, numbers in their names in counting order: (F,3,R,R) in [-1,1], centre-cropped to a square.

    Raises UserError for fewer than two frames, for one of another size than the first, and for what no picture can be read from.
    """
    paths = sorted(list_images(Path(folder)), key=in_order)
    if len(paths) < 2:
        raise UserError(f"{shown(folder)} holds one frame, {shown(paths[0].name)}: a clip needs at least 2")
    frames, first = [], None
    for path in paths:
        size = decode(path, resolution).size
        first = first or size
        if size != first:
            raise UserError(f"{shown(path)} is {size[0]}×{size[1]}, the first frame {first[0]}×{first[1]}: "
                            "frames of a clip have one size, export them again")
        frames.append(read_image(path, resolution))
    return torch.stack(frames)


# ------------------------------------------------------ an image model, frame by frame

def clip_noise(how: str, clips: Tensor, seed: int) -> Tensor:
    """ε for clips (n,F,C,R,R), the same shape: ``shared``, one for all frames of a clip, or ``fresh``, another for each.

    The first frame's is the same in both. Raises UserError for another word.
    """
    if how not in NOISES[:2]:
        raise UserError(f"noise {how!r}: use {' or '.join(NOISES[:2])}")
    n, frames, channels, size, _ = clips.shape
    fresh = sample.start_noise(n * frames, size, seed, channels).unflatten(0, (n, frames))
    return fresh if how == "fresh" else fresh[:, :1].expand(clips.shape).contiguous()


def late_steps(scheduler, t_0: int, num_inference_steps: int = 20):
    """A DDIM scheduler of diffusers, and of its ``num_inference_steps`` steps over all of [0,T) those below t_0, largest first.

    Raises UserError where t_0 is outside [1, T] or leaves no step.
    """
    total = scheduler.config.num_train_timesteps
    if not 1 <= t_0 <= total:
        raise UserError(f"--t_0 holds {t_0}: use 1 to {total}")
    steps = sample.sampler(scheduler, "ddim", num_inference_steps)
    late = [int(t) for t in steps.timesteps if t < t_0]
    if not late:
        raise UserError(f"--t_0 holds {t_0}: below it lies none of {num_inference_steps} steps, use {int(steps.timesteps[-1]) + 1} or more")
    return steps, late


def start(source, clips: Tensor, noise: str, seed: int, t_0: int, num_inference_steps: int = 20, batch_size: int = 32) -> Tensor:
    """x_t of clips (n,F,C,R,R) in [-1,1] at the first of :func:`late_steps`, the same shape, on the CPU.

    noise: one of ``NOISES``. ``shared`` and ``fresh``: √ᾱ_t·x_0 + √(1−ᾱ_t)·ε with :func:`clip_noise` (SDEdit). ``inverted``: what the
    source, a pipeline, would draw each frame from (:func:`inverted`), which needs no seed.
    """
    frames = clips.flatten(0, 1)
    if noise == "inverted":
        device = next(source.unet.parameters()).device
        parts = frames.to(device).split(batch_size)
        found = [inverted(source.unet, source.scheduler, x_0, t_0, num_inference_steps).cpu() for x_0 in parts]
        return torch.cat(found).view(clips.shape)
    _, late = late_steps(source.scheduler, t_0, num_inference_steps)
    eps, t = clip_noise(noise, clips, seed).flatten(0, 1), torch.full((len(frames),), late[0])
    return ddpm.q_sample(frames, t, eps, source.scheduler.alphas_cumprod.cpu()).view(clips.shape)


@torch.no_grad()
def inverted(unet, scheduler, x_0: Tensor, t_0: int, num_inference_steps: int = 20) -> Tensor:
    """x_t that this network's own DDIM steps would turn into x_0, nearly (Song et al. 2021, arXiv 2010.02502, §4.3). Both (N,C,R,R).

    The steps of :func:`restyled` upwards, from 0 through :func:`late_steps`. No random noise: frames that are alike stay alike.
    """
    a_bar, kind = scheduler.alphas_cumprod.to(x_0.device), ddpm.prediction_type_of(scheduler)
    _, late = late_steps(scheduler, t_0, num_inference_steps)
    x_t, way = x_0, [0, *reversed(late)]
    for t, above in zip(way, way[1:]):
        guess = ddpm.guess(unet(x_t, t).sample[:, :x_t.shape[1]], x_t, torch.full((len(x_t),), t, device=x_t.device), a_bar, kind)
        x_t = a_bar[above].sqrt() * guess.x_0.clamp(-1, 1) + (1 - a_bar[above]).sqrt() * guess.eps
    return x_t


@torch.no_grad()
def restyled(pipe, x_t: Tensor, t_0: int, num_inference_steps: int = 20, batch_size: int = 32) -> Tensor:
    """Clips (n,F,C,R,R) in [-1,1] that an image model, a pipeline, draws from x_t of :func:`start`, each frame by itself: DDIM, η = 0."""
    device, done = next(pipe.unet.parameters()).device, []
    for x in x_t.flatten(0, 1).split(batch_size):
        steps, late = late_steps(pipe.scheduler, t_0, num_inference_steps)
        x = x.to(device)
        for t in late:
            x = steps.step(pipe.unet(x, t).sample[:, :x.shape[1]], t, x).prev_sample
        done.append(check_drawn(x).clamp(-1, 1).cpu())
    return torch.cat(done).view(x_t.shape)


# ------------------------------------------------------ what flickers, and what is left of the clip

def changes(clips: Tensor) -> Tensor:
    """Δ: every frame less the one before it. (n,F,C,R,R) → (n,F−1,C,R,R)."""
    return clips[:, 1:] - clips[:, :-1]


def moving(*clips: Tensor) -> Tensor:
    """Which pixels change between frames in any of these clips (n,F,C,R,R), by more than two levels: (n,F−1,1,R,R) bool."""
    return torch.stack([(changes(one).abs() > CHANGED).any(2, keepdim=True) for one in clips]).any(0)


def flicker(clips: Tensor, truth: Tensor) -> Tensor:
    """mean abs(Δ out − Δ true) in levels of 255 over all pixels and pairs of frames: (n,), 0 for the true clip.

    A still picture repeated scores mean abs(Δ true), not 0: what should move and does not counts too.
    """
    return LEVELS * (changes(clips) - changes(truth)).abs().flatten(1).mean(1)


def shimmer(clips: Tensor, moves: Tensor) -> Tensor:
    """mean abs(Δ out) in levels of 255 where nothing moves: (n,), 0 for the true clip; NaN for a clip in which every pixel moves.

    moves: :func:`moving` of the drawn and the true clip, (n,F−1,1,R,R).
    """
    still = (~moves).expand_as(changes(clips)).double()
    return LEVELS * (changes(clips).abs() * still).flatten(1).sum(1) / still.flatten(1).sum(1)


def over(clips: Tensor, pairs: tuple[tuple[int, int], ...], where: Tensor) -> list[Tensor]:
    """The change between frames (before, after) at the pixels that count, of every clip: n times (m,), as float64.

    where: (n,len(pairs),1,R,R) bool.
    """
    change = torch.stack([clips[:, after] - clips[:, before] for before, after in pairs], 1).double()
    return [one[mask.expand_as(one)] for one, mask in zip(change, where)]


def follows(mine: list[Tensor], true: list[Tensor]) -> Tensor:
    """Pearson's correlation of changes with the true ones, each n times (m,) by :func:`over`: (n,) in [-1,1]. Chance: 0."""
    centred = [(x - x.mean(), y - y.mean()) for x, y in zip(mine, true)]
    return torch.stack([(x * y).sum() / (x.square().sum() * y.square().sum()).sqrt().clamp(min=1e-12) for x, y in centred])


def amount(mine: list[Tensor], true: list[Tensor]) -> Tensor:
    """How much of the true change is there: ⟨Δ out, Δ true⟩ / ⟨Δ true, Δ true⟩, (n,). 1: all of it; 0: none, or another."""
    return torch.stack([(x * y).sum() / y.square().sum() for x, y in zip(mine, true)])


def features(clips: Tensor) -> Tensor:
    """LPIPS features of every frame, so that LPIPS is a squared distance: (n,F,D)."""
    return metrics.lpips_features(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])


def apart(a: Tensor, b: Tensor) -> Tensor:
    """LPIPS of features (…,D), one by one: (…)."""
    return (a - b).square().sum(-1)


class Known(NamedTuple):
    """Clips whose true answers are known: made once by :func:`know`."""
    inputs: Tensor      # (n,F,3,R,R) in [-1,1]
    truth: Tensor       # (n,F,3,R,R) in [-1,1]
    moves: Tensor       # (n,F−1,1,R,R) bool
    anybody: Tensor     # (2n,F,D): features of the true frames, then of the inputs
    blinks: tuple[tuple[int, int], ...]     # pairs of frames between which only eyes change; () where that is not known


def know(inputs: Tensor, target: str, blinks: tuple[tuple[int, int], ...] = BLINKS) -> Known:
    """Clips (n,F,3,R,R) in [-1,1] with their true ones in a domain of ``data.TWINS``. Raises UserError where in a clip nothing moves."""
    truth = data.twin(inputs.flatten(0, 1), target).view(inputs.shape)
    moves = moving(inputs, truth)
    if not bool(moves.flatten(1).any(1).all()):
        raise UserError("nothing moves in a clip: its frames are all alike, take others")
    return Known(inputs, truth, moves, torch.cat([features(truth), features(inputs)]), blinks)


def scores(clips: Tensor, known: Known, probe) -> list[dict[str, float]]:
    """One dict a clip of clips (n,F,3,R,R) in [-1,1]. probe: images → (N,) bool, in the domain?

    flicker, shimmer: in levels of 255. jump: LPIPS of neighbouring frames less that of the true ones. right: LPIPS to the true frame.
    own: share of frames whose nearest picture, of the frames of that number in all n clips, drawn or true, shows their own person (chance
    1/n). hit: share in the domain. follows, amount: of what moves. blink: :func:`amount` at the eyes, NaN where no blinks are known.
    """
    n, frames = clips.shape[:2]
    mine, true, truth = features(clips), known.anybody[:n], known.truth
    jump = (apart(mine[:, 1:], mine[:, :-1]) - apart(true[:, 1:], true[:, :-1])).mean(1)
    nearest = torch.stack([torch.cdist(mine[:, f], known.anybody[:, f]).argmin(1) % n for f in range(frames)], 1)
    pairs = tuple((f, f + 1) for f in range(frames - 1))
    moved = [over(of, pairs, known.moves) for of in (clips, truth)]
    eyes = [over(of, known.blinks, known.moves[:, [before for before, _ in known.blinks]]) for of in (clips, truth) if known.blinks]
    found = {"flicker": flicker(clips, truth), "shimmer": shimmer(clips, known.moves), "jump": jump, "right": apart(mine, true).mean(1),
             "own": (nearest == torch.arange(n)[:, None]).double().mean(1),
             "hit": probe(clips.flatten(0, 1)).view(n, frames).double().mean(1),
             "follows": follows(*moved), "amount": amount(*moved), "blink": amount(*eyes) if eyes else torch.full((n,), torch.nan)}
    return [{name: float(values[i]) for name, values in found.items()} for i in range(n)]
