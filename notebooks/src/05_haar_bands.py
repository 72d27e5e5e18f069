# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["slide"]
# # 5. Where the edges live: Haar bands
#
# **Claim.**
# - Detail and pixels agree only loosely on which faces are alike.
# - Detail knows something of the mouth, the pixels nothing.
# - DomainStudio's sum LH + HL + HH is one pixel of each block against the block's mean.
#
# Controls: the band LL, and noise. Chapters 06 and 08 measure whether a *loss* on detail helps.
#
# | | |
# |---|---|
# | Read / run | 35 min, exercises 35 min more / 1 min |
# | Device | a CPU |
# | Needs | chapters 00, 01 and 04 |
# | Paper | DomainStudio §1: hf(x), L_hf, L_hfmse |
# | `dslib` files | `haar.py`, `losses.py` |
# | You will keep | `haar_step` and `inverse_haar` |
#
# **You will** split pictures into bands and join them again, measure detail, find what its sum is blind to, and weigh a loss on it.

# %% tags=["setup", "nbval-ignore-output"]
# Setup, the same cell in every chapter. FETCH runs only where there is no dslib, as in Colab; `make badges REPO=owner/name` writes it.
FETCH = "echo No dslib in this kernel. Choose the kernel in .venv after make install, or upload the course and unzip it as course/; false"
try:
    from dslib import env
except ImportError:
    import subprocess
    import sys
    if (done := subprocess.getstatusoutput(f"test -d course -o -d ../dslib || ({FETCH})"))[0]:
        raise SystemExit(done[1].splitlines()[0]) from None
    sys.path += ["course", ".."]
    from dslib import env
rt = env.start(seed=0)

# %% tags=["parameters"]
num_images = rt.pick(smoke=10, cpu=200)        # held-out images a domain, ten or more
split = rt.pick(smoke="ten", cpu="test")       # of the target domains; CI takes the ten, which need no drawing
num_chains = rt.pick(smoke=3, cpu=16)          # pictures drawn by the source model, a seed
inference_steps = rt.pick(smoke=2, cpu=20)
seeds = rt.pick(smoke=[0], cpu=[0, 1, 2])

# %% [markdown]
# ## Where we are going
#
# Five faces and five sketches. Below: what LL alone gives back, and what the other three bands do (zero is grey).

# %% tags=["slide"]
import torch

from dslib import data, haar, models
from dslib.show import plots

faces = data.load_domain(data.SOURCE, "test", num_images)
domains = {data.SOURCE: faces.images}
domains |= {name: data.load_domain(name, split, num_images).images for name in (*data.TARGETS, "engraved")}


def coarse_only(x):
    """What LL alone gives back: (N,3,R,R) → (N,3,R,R)."""
    ll, *detail = haar.dwt2(x)
    return haar.idwt2(ll, *[torch.zeros_like(band) for band in detail])


def detail_only(x):
    """What LH, HL and HH alone give back: (N,3,R,R) → (N,3,R,R), around zero."""
    ll, *detail = haar.dwt2(x)
    return haar.idwt2(torch.zeros_like(ll), *detail)


few = torch.cat([domains[data.SOURCE][:5], domains["sketches"][:5]])
plots.show(plots.rows({"picture": few, "from LL": coarse_only(few), "from the rest": detail_only(few)}),
           alt="Five faces and five sketches; below, the same in blocks of 2×2 pixels, and their outlines on grey.")

# %% [markdown]
# The middle row shows who it is, the bottom row where the lines are. Two losses look at the bottom row only:

# %% tags=["slide"]
from dslib.show import diagrams

plots.show(diagrams.method(("hf", "hfmse")), alt="The method, with the two parts lit that look at Haar's details: L_hf and L_hfmse.")

# %% [markdown]
# The two lower rows add up to the picture:

# %% tags=["nbval-check-output"]
bool((coarse_only(few) + detail_only(few) - few).abs().max() < 1e-5)

# %% [markdown] tags=["slide"]
# ## The mental model
#
# Cut the picture into blocks of 2×2 pixels. Each becomes four numbers:
#
# $$\begin{pmatrix}a & b\\ c & d\end{pmatrix} \quad\longrightarrow\quad
# \begin{aligned} LL &= (a+b+c+d)/2 & LH &= (-a+b-c+d)/2\\ HL &= (-a-b+c+d)/2 & HH &= (a-b-c+d)/2 \end{aligned} \tag{5.1}$$
#
# The filters are $L=(1,1)/\sqrt2$, a sum, and $H=(-1,1)/\sqrt2$, a difference. The first letter is for the height.
#
# | symbol | answers to | shape | code |
# |---|---|---|---|
# | $LL$ | brightness: twice the block's mean | (N,3,R/2,R/2) | `ll` |
# | $LH$ | brighter on the right: *vertical* edges | (N,3,R/2,R/2) | `lh` |
# | $HL$ | brighter below: *horizontal* edges | (N,3,R/2,R/2) | `hl` |
# | $HH$ | one diagonal against the other | (N,3,R/2,R/2) | `hh` |
# | $\mathrm{hf}(x)$ | $LH+HL+HH$, what the losses use | (N,3,R/2,R/2) | `high_frequency(x)` |
#
# ## The naive version
#
# Block by block:

# %%
L, H = torch.tensor([1.0, 1.0]) / 2 ** 0.5, torch.tensor([-1.0, 1.0]) / 2 ** 0.5
filters = {"LL": torch.outer(L, L), "LH": torch.outer(L, H), "HL": torch.outer(H, L), "HH": torch.outer(H, H)}


def naive_bands(image):
    """One picture (C,H,W) → name → band (C,H/2,W/2)."""
    channels, height, width = image.shape
    bands = {name: torch.zeros(channels, height // 2, width // 2) for name in filters}
    for i in range(0, height, 2):
        for j in range(0, width, 2):
            block = image[:, i:i + 2, j:j + 2]                                      # (C, 2, 2)
            for name, kernel in filters.items():
                bands[name][:, i // 2, j // 2] = (block * kernel).sum(dim=(1, 2))   # (C,)
    return bands


naive = naive_bands(faces.images[0])
{name: tuple(band.shape) for name, band in naive.items()}

# %% [markdown]
# Which edge goes to which band? A square, and the same one pixel further right and down:

# %% tags=["slide"]
card = torch.full((3, 32, 32), -1.0)
card[:, 5:22, 5:22] = 1
moved = card.roll((1, 1), (1, 2))
cards = {"a square": card, "moved": moved}
plots.show(plots.bands({name: (x, *naive_bands(x).values()) for name, x in cards.items()}),
           alt="A white square: LH shows its left edge, HL its top edge; after a move by one pixel, right and bottom.")

# %% [markdown]
# An edge between two blocks is in *no* band: above, right and bottom; after the move, left and top.
#
# ## Exercise: one Haar step
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `haar_step(x)` without a loop. Four slices like `x[..., 0::2, 0::2]` are $a$, $b$, $c$ and $d$ of all blocks at once.

# %%
def haar_step(x):
    """Your code here: (…,H,W) → (ll, lh, hl, hh), each (…,H/2,W/2)."""
    return None

# %%
from dslib import checks

haar_step = checks.mine("haar_step")

# %% [markdown]
# <details><summary>Hint</summary>
#
# $b$ is the right-hand neighbour of $a$, so `b = x[..., 0::2, 1::2]`: the *last* index counts along the width.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("haar")` in a new cell.
# </details>
#
# ## Now import it
#
# The library's is `haar.dwt2`. Yours agrees with the loop, and with PyWavelets up to names and signs:

# %% tags=["nbval-check-output"]
import pywt

ll, lh, hl, hh = haar_step(faces.images)
cA, (cH, cV, cD) = pywt.dwt2(faces.images.numpy(), "haar")
for words, ours, theirs in (("ll =  cA", ll, cA), ("hl = -cH", hl, -cH), ("lh = -cV", lh, -cV), ("hh =  cD", hh, cD)):
    print(words, bool((ours - torch.from_numpy(theirs)).abs().max() < 1e-5))
print("loop    ", all((naive[name] - band[0]).abs().max() < 1e-5 for name, band in zip(naive, (ll, lh, hl, hh))))

# %% [markdown]
# ## Exercise: put it together again
#
# *Difficulty ●●○ · importance ●●○ · 15 minutes*
#
# Write `inverse_haar(ll, lh, hl, hh)`. The filters are perpendicular and have length one. So the matrix from
# $(a,b,c,d)$ to the bands is inverted by its transpose.

# %%
def inverse_haar(ll, lh, hl, hh):
    """Your code here: four bands (…,H/2,W/2) → (…,H,W)."""
    return None

# %%
inverse_haar = checks.mine("inverse_haar")

# %% [markdown]
# <details><summary>Hint</summary>
#
# $a$ occurs with + in LL and HH and with − in LH and HL, so $a=(LL-LH-HL+HH)/2$.
# Make an empty tensor of twice the size and fill `x[..., 0::2, 0::2] = …`.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("inverse_haar")`
# </details>
#
# Nothing is lost, and the squares add up. So a band's *energy*, its summed squares, is a share of the picture's:

# %% tags=["nbval-check-output"]
bands = haar_step(faces.images)
whole, split_up = faces.images.square().sum(), sum(band.square().sum() for band in bands)
print("rebuilt:    ", bool((inverse_haar(*bands) - faces.images).abs().max() < 1e-5))
print("energy kept:", bool(abs(split_up / whole - 1) < 1e-4))

# %% [markdown]
# ## Several levels
#
# LL can be split again. Level 2 holds edges twice as wide, level 3 four times:

# %% tags=["nbval-check-output"]
def levels(x, how_many=3):
    """(N,3,R,R) → [(lh, hl, hh) of level 1, of level 2, …] and the LL that is left, (N,3,R/2^k,R/2^k)."""
    details = []
    for _ in range(how_many):
        x, *detail = haar_step(x)
        details.append(detail)
    return details, x


details, rest = levels(faces.images)
theirs = pywt.wavedec2(faces.images.numpy(), "haar", level=3)                    # coarsest first
print("left:", tuple(rest.shape[1:]), bool((rest - torch.from_numpy(theirs[0])).abs().max() < 1e-4))
for k, detail in enumerate(details, start=1):
    hh, diagonal = detail[2], torch.from_numpy(theirs[-k][2])
    print(f"level {k}:", tuple(hh.shape[1:]), bool((hh - diagonal).abs().max() < 1e-4))

# %% [markdown]
# ## Who has how much detail?
#
# Where does a picture's variance lie?

# %%
def shares(x):
    """Where the variance of pictures (N,3,R,R) lies: name of the part → share, adding up to one."""
    details, rest = levels(x - x.mean(dim=(2, 3), keepdim=True))
    parts = {f"level {k}": detail for k, detail in enumerate(details, start=1)} | {"8×8 rest": [rest]}
    energy = {name: sum(float(band.square().sum()) for band in part) for name, part in parts.items()}
    return {name: value / sum(energy.values()) for name, value in energy.items()}


by_domain = {name: shares(images) for name, images in domains.items()}
for name, share in by_domain.items():
    print(f"{name:<12}" + "".join(f"  {part} {value:6.1%}" for part, value in share.items()))
plots.show(plots.shares(by_domain, "share of the variance"),
           alt="Stacked bars for seven domains: most of the variance is in the 8×8 rest, the smallest part in level 1.")

# %% [markdown]
# Most of it is coarse, except in the engravings. In domains drawn with black lines, level 1 holds two to three times the source's share.
#
# ## The signature figure
#
# Not the share but the amount: mean squares of level 1, with one standard error.

# %% tags=["slide"]
def band_squares(x):
    """Mean square of lh, hl and hh of each picture: (N,3,R,R) → (N,3)."""
    return torch.stack([band.square().mean(dim=(1, 2, 3)) for band in haar.dwt2(x)[1:]], dim=1)


chosen = {"face": faces.images[1], "sketch": domains["sketches"][1]}
energies = {name: band_squares(images) for name, images in domains.items()}
plots.show(plots.bands({name: (x, *haar.dwt2(x)) for name, x in chosen.items()}, energies),
           alt="A face and a sketch with LL, LH, HL, HH; bars of the bands' mean squares, highest for sketches.")

# %%
total = {name: float(values.sum(dim=1).mean()) for name, values in energies.items()}
for name, value in total.items():
    print(f"{name:<12} LH+HL+HH, mean squares added: {value:.3f}, {value / total[data.SOURCE]:.1f} times the source's")

# %% [markdown]
# *Sketches*, *engravings* and *portraits* have more than three times the source's detail. A model adapted to them must draw more detail
# than its source ever did: L_hfmse is for that.
#
# ## When do edges appear?
#
# The source model draws. How far is each part of its guess $\tilde x_0$ from the finished picture? Divided by the part's variance,
# **1 means no better than the average picture**.

# %%
from dslib import sample

source = models.load_source().to("cpu")      # this chapter is light enough for any machine
names = ["8×8 rest", "level 3", "level 2", "level 1"]


def parts(x):
    """Pictures (N,3,R,R) → the four parts, coarse to fine, each (N,…) flat."""
    details, rest = levels(x)
    return [rest.flatten(1)] + [torch.cat([band.flatten(1) for band in detail], dim=1) for detail in reversed(details)]


def chain_errors(seed):
    """Links of a chain, and each part's error against the finished picture: (4, links)."""
    noise = sample.start_noise(num_chains, source.unet.config.sample_size, seed)
    links = list(sample.chain(source.unet, source.scheduler, noise, inference_steps))
    finished = parts(links[-1].x_0)
    spread = [(part - part.mean(0)).square().mean() for part in finished]
    errors = [[float((part - f).square().mean() / s) for part, f, s in zip(parts(link.x_0), finished, spread)]
              for link in links]
    return links, torch.tensor(errors).T

# %% tags=["slide"]
runs = [chain_errors(seed) for seed in seeds]
walked = torch.tensor([link.t for link in runs[0][0]])
errors = torch.stack([found for _, found in runs])                               # (seeds, 4, links)
figure = plots.curves(walked, {name: errors[:, k] for k, name in enumerate(names)}, "step t", "error / variance", log=True,
                      thresholds={"half known": 0.5, "no better than the average picture": 1.0})
figure.axes[0].set_ylim(0.005, None)
figure.axes[0].invert_xaxis()
plots.show(figure, alt="Error of four parts of the guess, coarse to fine, against t, log scale, falling to the right.")

# %%
for k, name in enumerate(names):
    below = walked[errors[:, k].mean(0) < 0.5]
    print(f"{name}: half known from t = {int(below[0]) if len(below) else 'none'} on")
links = runs[0][0]
shown = [links[round(i)] for i in torch.linspace(0, len(links) - 1, min(10, len(links))).tolist()]
guesses = torch.cat([link.x_0[:1] for link in shown])
plots.show(plots.rows({"guess": guesses, "its detail": detail_only(guesses)}, labels=[f"t={link.t}" for link in shown]),
           alt="One chain: the guess of the clean picture from t=999 to the end, above the detail of each guess.")

# %% [markdown] tags=["slide"]
# Coarse parts come first. White noise has the same strength at every level, a face has least at the finest: there noise hides it longest.
#
# At the left, level 1 is above 1: nothing of the finished detail is known. So losses on detail can teach only at smaller $t$.
# At the right all curves plunge: the last guess is compared with itself.
#
# ## The surprise in the sum
#
# DomainStudio adds the three bands up:
#
# $$LH + HL + HH = \tfrac12(-a-b-c+3d) = 2d - LL. \tag{5.2}$$
#
# That is **one pixel of every block against the block's mean** (ledger row 5). A flat region gives zero:

# %% tags=["nbval-check-output", "ledger-5"]
ll = haar.dwt2(faces.images)[0]
d = faces.images[..., 1::2, 1::2]
flat = torch.full((1, 3, 8, 8), 0.7)
print("hf = 2d - LL:", bool((haar.high_frequency(faces.images) - (2 * d - ll)).abs().max() < 1e-5))
print("flat gives 0:", bool(haar.high_frequency(flat).abs().max() < 1e-6))

# %% [markdown]
# It ignores more. Diagonal stripes, and their mirror image:

# %% tags=["slide"]
i, j = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
stripes = torch.cos(2 * torch.pi / 16 * (i - j)).expand(1, 3, 32, 32)
pair = {"stripes": stripes, "mirrored": stripes.flip(-1)}
plots.show(plots.bands({name: (x[0], *(band[0] for band in haar.dwt2(x))) for name, x in pair.items()}),
           alt="Diagonal stripes: LH and HL have opposite signs in the first row, the same sign in the second.")
for name, x in pair.items():
    three, summed = haar.dwt2(x)[1:], haar.high_frequency(x)
    energy = sum(float(band.square().mean()) for band in three)
    print(f"{name:<9} energy of the three bands {energy:.4f}, of their sum {float(summed.square().mean()):.4f}")

# %% [markdown]
# In the sum, LH and HL cancel above and add up below. So it is nearly blind to soft stripes along one diagonal. Thin lines and hard edges
# suffer less: HH carries them.
#
# Which diagonal it misses, and which pixel of a block it shows, depends on the signs in the sum:

# %%
import torch.nn.functional as F


def with_signs(x, *signs):
    """A sum of lh, hl, hh with other signs: (N,3,R,R) → (N,3,R/2,R/2)."""
    return sum(sign * band for sign, band in zip(signs, haar.dwt2(x)[1:]))


def power(y):
    """Mean square of each picture: (N,…) → (N,)."""
    return y.square().flatten(1).mean(dim=1)


x, hf = faces.images, haar.high_frequency(faces.images)
others = {"mirrored": haar.high_frequency(x.flip(-1)).flip(-1), "upside down": haar.high_frequency(x.flip(-2)).flip(-2),
          "PyWavelets' signs": with_signs(x, -1, -1, 1)}
for name, other in others.items():
    change = power(other) / power(hf) - 1
    alike = F.cosine_similarity(hf.flatten(1), other.flatten(1)).mean()
    print(f"{name:<18} a face's energy changes {change.abs().mean():.0%} on average, at most {change.abs().max():.0%}; "
          f"cosine with ours {alike:+.2f}")
a = x[..., 0::2, 0::2]
print("PyWavelets' sum is 2a - LL:", bool((others["PyWavelets' signs"] - (2 * a - ll)).abs().max() < 1e-5))

# %% [markdown]
# A symmetric measure would give a cosine of one, the sum gives about zero. Under PyWavelets' signs it points the *other way*.
#
# Do similarities of faces notice? Control: **stacked bands**, the three side by side.

# %%
from dslib import losses


def stacked(x):
    """LH, HL and HH side by side: (N,3,R,R) → (N,9,R/2,R/2)."""
    return torch.cat(haar.dwt2(x)[1:], dim=1)


def against(view, change):
    """Similarities of faces seen by ``view``, before and after a change: largest difference, and correlation."""
    both = torch.stack([losses.drop_diagonal(losses.cosine_matrix(view(x))).flatten()
                        for x in (faces.images, change(faces.images))])
    return float((both[0] - both[1]).abs().max()), float(torch.corrcoef(both)[0, 1])


changes = {"mirrored": lambda x: x.flip(-1), "moved by a pixel": lambda x: x.roll(1, -1)}
for name, change in changes.items():
    for view in (haar.high_frequency, stacked):
        largest, correlation = against(view, change)
        print(f"{name:<17} {view.__name__:<15} largest change of a similarity {largest:.3f}, "
              f"correlation before/after {correlation:.3f}")

# %% [markdown]
# A mirror turns the signs of whole stacked bands: no similarity changes. In the sum similarities move, but hardly their pattern: what
# it misses, it misses in every face, and L_hf compares only faces with faces. L_hfmse compares pixels: there the blind diagonal counts. A
# move by one pixel changes both: the block grid again.
#
# ## Does detail say anything that pixels do not?
#
# If L_hf only repeated L_img, nobody would need it. So compare all pairs of held-out faces. Their labels tell
# how often a pair with the same mouth (or background) is more similar than a pair with different ones. Chance is 0.5.

# %%
x = faces.images
views = {"pixels": x, "LL": haar.dwt2(x)[0], "hf, the sum": haar.high_frequency(x), "hf, stacked": stacked(x),
         "noise": torch.randn(x.shape, generator=torch.Generator().manual_seed(rt.seed))}

# %% tags=["slide"]
def picks_out(similarity, factor):
    """How often a pair that shares a factor is more similar than one that does not. 0.5 is chance, 1 is always."""
    same = torch.tensor([[one[factor] == other[factor] for other in faces.labels] for one in faces.labels])
    same = losses.drop_diagonal(same).flatten()
    rank, n = similarity.argsort().argsort().double(), int(same.sum())
    return float((rank[same].mean() - (n - 1) / 2) / (len(same) - n))


def tell(views):
    """Print what every view's similarities agree with and know; return their correlations, (views, views)."""
    similar = {name: losses.drop_diagonal(losses.cosine_matrix(view)).flatten() for name, view in views.items()}
    agree = torch.corrcoef(torch.stack(list(similar.values())))
    pixels, hf = (list(views).index(name) for name in ("pixels", "hf, the sum"))
    print("             correlation with        picks out the same\n             pixels  hf, the sum     mouth  background")
    for k, (name, values) in enumerate(similar.items()):
        print(f"{name:<12} {agree[k, pixels]:6.2f} {agree[k, hf]:8.2f} {picks_out(values, 'mouth'):14.2f}"
              f" {picks_out(values, 'backgroundColor'):9.2f}")
    return agree


agree = tell(views)

# %% [markdown]
# - **LL repeats the pixels**.
# - **hf does not**: it knows more about the mouth, less about the background.
# - **The sum agrees with the stack** (other filters: appendix).
# - **Noise** knows nothing.
#
# ## What the loss sees
#
# $\mathcal L_{hf} = \sum_i D_{KL}\big(p_i(\mathrm{hf}(\tilde x_0^{ada})) \,\|\, p_i(\mathrm{hf}(\tilde x_0^{sou}))\big)$ is (4.1) on
# details: `pairwise_kl` of the two models' hf.
#
# The source model guesses ten faces, noised to $t = 200$. We spoil its guesses and ask the losses. For scale, the last row puts each face
# in its neighbour's place.

# %%
from dslib.checks import whole

q_sample, predict_x0 = checks.mine("q_sample", "predict_x0")
a_bar, net = source.scheduler.alphas_cumprod, whole.frozen(source)      # the source answers v; net answers the noise


def guess(x_0, t, seed=0):
    """x̃_0 of the source model for images (N,3,R,R) noised to one step t: (N,3,R,R)."""
    steps = torch.full((len(x_0),), int(t))
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1000 * seed + int(t)))
    x_t = q_sample(x_0, steps, eps, a_bar)
    with torch.no_grad():
        return predict_x0(x_t, steps, net(x_t, steps).sample, a_bar)


believed = guess(faces.images[:10], 200)
ll, *detail = haar.dwt2(believed)
noise = torch.randn(believed.shape, generator=torch.Generator().manual_seed(rt.seed))
cast = torch.rand(10, 3, 1, 1, generator=torch.Generator().manual_seed(rt.seed)) - 0.5
spoiled = {f"noise of {strength}": believed + strength * noise for strength in (0.05, 0.2, 0.5)}
spoiled |= {"blurred, 3×3": F.avg_pool2d(believed, 3, 1, 1, count_include_pad=False),
            "a colour cast each": believed + cast,
            "the neighbour's detail": haar.idwt2(ll, *[band.roll(1, 0) for band in detail]),
            "the neighbour": believed.roll(1, 0)}

# %%
reference = {"L_img": believed, "on LL": ll, "L_hf": haar.high_frequency(believed)}
print(f"{'':<24}" + "".join(f"{name:>10}" for name in reference))
for name, x in spoiled.items():
    kl = [losses.pairwise_kl(x, believed), losses.pairwise_kl(haar.dwt2(x)[0], ll), losses.hf_pairwise_kl(x, believed)]
    print(f"{name:<24}" + "".join(f"{abs(float(value)):10.4f}" for value in kl))

# %% [markdown] tags=["slide"]
# - **A colour cast** costs nothing in L_hf: it changes no edge.
# - **Another face's detail** costs next to nothing in L_img, in L_hf as much as exchanging the faces.
# - **Noise** raises L_hf first: it is small beside LL, large beside the details.
# - **Blurring** costs little in L_hf, a twelfth of another face's detail: most edges shrink alike, and a cosine sees no shrinking.
#
# So L_hf keeps *whose* detail it is, not how sharp it is.
#
# ## The weight of L_hfmse
#
# L_hfmse compares the guess's detail with the true picture's, in the paper without a weight over $t$:
#
# $$\mathcal L_{hfmse} = \mathrm{mean}\,\big(\mathrm{hf}(\tilde x_0) - \mathrm{hf}(x_0)\big)^2
# \qquad\text{ours:}\quad \mathrm{mean}\;\bar\alpha_t\big(\mathrm{hf}(\tilde x_0) - \mathrm{hf}(x_0)\big)^2 \tag{5.3}$$
#
# If a model predicts ε (ours predicts $v$), its squared error is $(1-\bar\alpha_t)/\bar\alpha_t$ times as large in $\tilde x_0$
# (chapter 01). The weight leaves $(1-\bar\alpha_t)\,|\mathrm{hf}(\varepsilon-\varepsilon_\theta)|^2$: not magnified.
#
# ## Exercise: weigh each image
#
# *Difficulty ●●○ · importance ●●● · 10 minutes*
#
# Write `weighted_hf_mse(adapted, target, alphas_cumprod_t)`. The last argument is $\bar\alpha_t$, one number an image.

# %%
def weighted_hf_mse(adapted, target, alphas_cumprod_t):
    """Your code here: (N,3,R,R), (N,3,R,R), (N,) → scalar."""
    return None

# %%
weighted_hf_mse = checks.mine("weighted_hf_mse")

# %% [markdown]
# <details><summary>Hint</summary>
#
# hf is `lh + hl + hh` of your `haar_step`. Weigh the squares, image by image, then take the mean over everything.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("weighted_hf_mse")`
# </details>
#
# Both forms, for the source's guesses of its own domain (ledger row 9). Control: a flat guess.

# %%
steps = torch.linspace(0, 999, rt.pick(smoke=4, cpu=21)).long()
some = faces.images[:num_chains]


def hf_errors(seed):
    """L_hfmse at every step, unweighted and weighted: (2, len(steps))."""
    found = []
    for t in steps:
        guessed, weight = guess(some, t, seed), a_bar[t].expand(len(some))
        found.append([float(losses.hf_mse(guessed, some)), float(weighted_hf_mse(guessed, some, weight))])
    return torch.tensor(found).T


measured = torch.stack([hf_errors(seed) for seed in seeds])                      # (seeds, 2, len(steps))
without = float(haar.high_frequency(some).square().mean())
compared = {"as published": measured[:, 0], "weighted by alpha-bar": measured[:, 1],
            "a flat guess": torch.full_like(measured[:, 0], without)}
figure = plots.curves(steps, compared, "step t", "error of the guess's detail")
figure.axes[0].set_yscale("log")
plots.show(figure, alt="Error of the guess's detail against t, log scale: as published, weighted, of a flat guess.")

# %% tags=["ledger-9"]
late = steps >= 900
share = {name: float(values[:, late].sum() / values.sum()) for name, values in list(compared.items())[:2]}
for name, value in share.items():
    print(f"{name:<22} {value:5.1%} of the loss, summed over all steps, comes from t of 900 and more, {late.float().mean():.1%} of them")
worse = steps[measured[:, 0].mean(0) > without]
print("unweighted, worse than a flat guess from t =", int(worse[0]) if len(worse) else "none")

# %% [markdown]
# Near $T$ the detail cannot be known: the guess is no better than a flat one, and the published loss is highest. It charges
# what no network can learn. The steps from $t = 900$ on, 2 of the 21 measured, hold 18.1 % of it: nearly twice an even share, 9.5 %. The
# weight takes these steps away, and the middle ones in part: at $t = 500$, $\bar\alpha_t$ is below a tenth.
#
# ## Did it come out as expected?

# %%
_ = checks.check_expected("05", rt, finest_share_source=by_domain[data.SOURCE]["level 1"],
                          sketch_detail_ratio=total["sketches"] / total[data.SOURCE],
                          hf_against_pixels=float(agree[2, 0]),
                          published_late_share=share["as published"],
                          weighted_late_share=share["weighted by alpha-bar"])

# %% [markdown]
# ## Play
#
# Each setting has its own colour scale. To compare sizes, read the numbers in the title.

# %%
from dslib.show import widgets

widgets.explore_bands({name: images[0] for name, images in domains.items()})

# %% [markdown]
# ## Appendix: a convolution, and other filters
#
# The usual way to write a Haar step:

# %% tags=["nbval-check-output"]
kernels = torch.stack(list(filters.values()))[:, None].repeat(3, 1, 1, 1)        # (12, 1, 2, 2): four filters a colour


def by_convolution(x):
    """(N,3,H,W) → (N,3,4,H/2,W/2), the bands in the order LL, LH, HL, HH."""
    return F.conv2d(x, kernels, stride=2, groups=3).unflatten(1, (3, 4))


bool((by_convolution(faces.images) - torch.stack(haar_step(faces.images), dim=2)).abs().max() < 1e-5)

# %% tags=["nbval-ignore-output", "ledger-8"]
import time


def rebuilt_every_time(x):
    """Four layers made anew, as the authors' code has them: (N,3,H,W) → four bands."""
    layers = [torch.nn.Conv2d(3, 3, 2, stride=2, groups=3, bias=False).requires_grad_(False) for _ in filters]
    for layer, kernel in zip(layers, filters.values()):
        layer.weight.copy_(kernel.expand(3, 1, 2, 2))
    return [layer(x) for layer in layers]


def milliseconds(fn, x, repeats=30):
    """Median time of a call."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        fn(x)
        took.append(1000 * (time.perf_counter() - began))
    return sorted(took)[repeats // 2]


batch = faces.images[:10]
sliced = milliseconds(haar.dwt2, batch)
for fn in (haar.dwt2, by_convolution, rebuilt_every_time):
    print(f"{fn.__name__:<20} {milliseconds(fn, batch) / sliced:5.1f} times the slices")

# %% [markdown]
# The authors' code builds its layers anew at every call (ledger row 8). That costs several times as much as slices.
#
# Is Haar special? The same table for other filters:

# %%
def fourier_high_pass(x):
    """Frequencies of at least a quarter cycle a pixel, in either direction: (N,3,R,R) → (N,3,R,R)."""
    high = torch.fft.fftfreq(x.shape[-1]).abs() >= 0.25
    return torch.fft.ifft2(torch.fft.fft2(x) * (high[:, None] | high[None, :])).real


def laplacian(x):
    """Four times a pixel minus its four neighbours: (N,3,R,R) → (N,3,R,R)."""
    kernel = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def wavelet(x, name):
    """The three detail bands of a PyWavelets wavelet, side by side: (N,3,R,R) → (N,9,R/2,R/2)."""
    return torch.cat([torch.from_numpy(band) for band in pywt.dwt2(x.numpy(), name, mode="periodization")[1]], dim=1)


x = faces.images
others = {"db2": wavelet(x, "db2"), "bior1.3": wavelet(x, "bior1.3"), "Fourier": fourier_high_pass(x), "Laplacian": laplacian(x)}
_ = tell({name: views[name] for name in ("pixels", "hf, the sum")} | others)

# %% [markdown]
# No: each agrees better with hf than the pixels do, and knows the mouth about as well.
#
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | `UserError: the Haar transform needs even height and width` | an odd side | crop or resize by a pixel |
# | bands differ from PyWavelets' | other signs and order | hl = −cH, lh = −cV |
# | an edge is missing | it falls between two blocks | `pywt.swt2`: every shift |
# | L_hf is constant and its gradient zero | two images a batch | three or more |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (5.1) | `haar.dwt2` | `test_haar.py::test_band_agrees_with_pywavelets_up_to_the_documented_sign` |
# | (5.2) | `haar.high_frequency` | `test_haar.py::test_high_frequency_is_one_pixel_against_the_mean` |
# | (5.3) | `losses.hf_mse(…, weight)` | `test_losses.py::test_hf_mse_weight_against_loop` |
#
# ## Paper, authors' code, ours
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | hf = LH + HL + HH | the sum | the sum | the sum, or stacked (row 5) |
# | wavelet filters | – | four layers built at every call | slices (row 8) |
# | weight of L_hfmse over t | none | none | ᾱ_t, or `hfmse_weighting="none"` (row 9) |
#
# ## Check yourself
#
# 1. A picture gets twice the contrast. What happens to its bands, to L_hf and to L_hfmse?
#    <details><summary>Answer</summary>LH, HL and HH double. L_hf compares cosines, so it stays; L_hfmse does not.</details>
# 2. Could a pairwise loss on LL replace L_img?
#    <details><summary>Answer</summary>Nearly: the correlation is 1.00, with a quarter of the numbers.</details>
# 3. Open: which domain would you expect to gain most from L_hfmse? Which number says so?
# 4. Project: adapt to `sketches` with hf stacked, not summed, three seeds each. Do chapter 07's scores change beyond the spread?

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("05")

# %% [markdown]
# ## In this notebook we have
#
# split pictures into Haar bands, seen what their sum shows and hides, and weighed the loss on it.
#
# **Next:** chapter 06 puts all the losses together.
#
# **Read on:** [PyWavelets](https://pywavelets.readthedocs.io/) · [SWAGAN](https://arxiv.org/abs/2102.06108) ·
# [Wavelet Diffusion](https://arxiv.org/abs/2211.16152) ·
# [Diffusion is spectral autoregression](https://sander.ai/2024/09/02/spectral-autoregression.html)
