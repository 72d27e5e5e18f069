# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Measure diversity, and do not be fooled
#
# **Claim.** No single number measures diversity.
# - Nine metrics look at eleven sets that are wrong on purpose. None sees all faults; some score *better* than real images.
# - A mixture without one acceptable picture passes as real by Intra-LPIPS and nearest-LPIPS, in most draws.
# - Tests of copying disagree on what a copy is.
#
# The evidence: five draws of every set. The control: thirty sets of real images.
#
# | | |
# |---|---|
# | Read / run | 40 min, exercises 40 min more / 2 min on two CPU cores |
# | Device | a laptop CPU; nothing is trained |
# | Needs | chapters 00 and 03 |
# | Paper | DomainStudio §3; Intra-LPIPS is from CDC |
# | `dslib` files | `metrics.py`, `measure/probes.py`, `measure/twin_scores.py` |
# | You will keep | a scorecard beside real images |
#
# **You will**
# - make eleven faulty sets, and see which metric each of them fools;
# - count variety in bits, and ask in five ways for copies;
# - find out how many samples are too few, and put an error on one set.

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
target = "sunglasses"
num_images = rt.pick(smoke=11, cpu=64)                                   # in a set: as many as the course's results have
num_real = rt.pick(smoke=16, cpu=400)                                    # real images: the reference, and of each draw
num_draws = rt.pick(smoke=2, cpu=5)                                      # every set is made anew so many times
many = rt.pick(smoke=16, cpu=200)                                        # in a set that is tested for copies
sizes = rt.pick(smoke=[11, 16], cpu=[8, 16, 32, 64, 128, 256, 400])      # how few are too few?
repeats = rt.pick(smoke=5, cpu=60)                                       # halves a statistic is taken of
for_domain, for_factors = rt.pick(smoke=(60, 120), cpu=(300, 800))       # images that the two probes are fitted on
instruments = rt.pick(smoke=[("st-alex", 64)], cpu=[("st-alex", 64), ("st-alex", 128), ("st-vgg", 64)])      # network, size

# %% [markdown]
# ## Where we are going
#
# A committed run of 600 steps, made with the course's earlier source.

# %%
import json

from dslib import data
from dslib.show import plots

demo = env.data_dir() / "results" / "demo"
plots.show(demo / "samples.png", alt="Rows: the ten training images, source, naive fine-tuning, DomainStudio; a column is one noise.")
print(f"{'':<16} Intra-LPIPS  nearest-LPIPS    FD  domain hit")
for row in json.loads((demo / "metrics.json").read_text("utf-8"))["scores"]:
    print(f"{row['name']:<16} {row['intra_lpips']:11.3f} {row['nearest_lpips']:14.3f} {row['fd']:5.2f} {row['domain_hit']:11.0%}")

# %% [markdown]
# Each number answers one question and is deaf to the others. To find out which, we need pictures of which we *know* what is wrong. So
# this chapter makes the samples itself.
#
# ## The mental model: five questions
#
# | question | metric | compares |
# |---|---|---|
# | do samples differ from each other? | Intra-LPIPS, (3.2) | samples with samples, group by group |
# | are they new? | nearest-LPIPS, copies, gap ratio, C_T | samples with the ten |
# | are they like real images, as a cloud? | FD, kernel distance | all samples with all real images |
# | is each inside the cloud, is all of it filled? | precision, recall | neighbourhoods |
# | do they show the domain? | domain hit | each with a line between two domains |
# | how much of its variety? | bits, coverage | how often each value of a factor is read |
#
# Arrows in papers: ↓ for FD and kernel distance, ↑ for the others.
#
# Most rest on the features of a classifier. With $f_l$ for what layer $l$ says, normalised over its channels at each place, LPIPS is a
# squared distance of long vectors $\varphi$:
#
# $$d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h,w,c} w_{lc}\,\big(f_l(x) - f_l(y)\big)_{hwc}^2
# = \lVert \varphi(x) - \varphi(y) \rVert^2, \qquad
# \varphi_{lhwc} = \sqrt{\tfrac{w_{lc}}{H_l W_l}}\, f_{lhwc} \tag{7.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $\varphi(x)$ | features of a picture, all layers side by side | (N,D) | `lpips_features` |
# | $d(x, y)$ | LPIPS | (N,M) | `lpips_matrix` |
# | $a, b$ | means of the activations over space | (N,1152), (M,1152) | `pooled_features` |
# | $p_v$ | share of the samples in which value $v$ of a factor is read | (values,) | `spread` |
# | $d_1, d_2$ | distances to the nearest and second nearest of the ten | (N,) | `gap_ratio` |
# | $s$ | any statistic of a set of samples | number | `score` |
#
# ## The naive version
#
# The package compares one pair at a time: two loops around it.

# %%
import torch

from dslib import metrics

ten = data.load_domain(target, "ten")
held_out = data.load_domain(target, "test", num_real * (1 + num_draws))
net = metrics.load_backbone("st-alex")
metrics.MEMORY = 2**29                                                   # bytes: room for the features of a whole set at once


def pair_by_pair(images):
    """LPIPS of all pairs of (N,3,R,R), through the package's own forward pass: (N,N)."""
    distances = torch.zeros(len(images), len(images))
    with torch.no_grad():
        for i in range(len(images)):
            for j in range(i):
                distances[i, j] = distances[j, i] = net(images[i:i + 1], images[j:j + 1]).item()
    return distances


six = held_out.images[:6]
plots.show(plots.rows({"real faces": six}, columns=6), alt="Six real faces of the domain.")
print(torch.tensor([[round(v, 2) for v in row] for row in pair_by_pair(six).tolist()]))

# %% [markdown]
# A number like 0.3 says something only beside others from the same network, at the same size.
#
# ## Exercise: all pairs at once
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# The loop sends $n(n-1)$ pictures through the network. By (7.1) $n$ are enough, since LPIPS is a distance between rows and
#
# $$\lVert a - b \rVert^2 = \lVert a \rVert^2 + \lVert b \rVert^2 - 2\,a \cdot b \tag{7.2}$$
#
# so that all distances come from one matrix product. Write `lpips_from_features(a, b)` for features (N,D) and (M,D).

# %%
def lpips_from_features(a, b):
    """Your code here: (N,D), (M,D) → squared distances (N,M)."""
    return None

# %%
from dslib import checks

lpips_from_features = checks.mine("lpips_from_features")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `a.square().sum(1)[:, None]` is a column, `b.square().sum(1)[None]` a row; all products are `a @ b.T`.
# </details>
#
# <details><summary>Solution</summary>
#
# `checks.solution("lpips_from_features")` in a new cell.
# </details>
#
# ## Now import it

# %% tags=["nbval-check-output"]
by_hand = lpips_from_features(metrics.lpips_features(six), metrics.lpips_features(six))
print("loop:    ", bool((pair_by_pair(six) - metrics.lpips_matrix(six)).abs().max() < 1e-5))
print("by hand: ", bool((by_hand - metrics.lpips_matrix(six)).abs().max() < 1e-5))
print("features:", tuple(metrics.lpips_features(six).shape))

# %% [markdown]
# ## Pictures of which we know what is wrong
#
# **Real** held-out images are what a perfect generator would draw. Every other set has one fault, listed in `SETS`.

# %%
from collections import Counter

import torch.nn.functional as F

from dslib.measure import probes

people = data.load_domain(data.SOURCE, "test", num_images * num_draws).images
reference, fresh, labels = held_out.images[:num_real], held_out.images[num_real:], held_out.labels[num_real:]


def moved(images, generator, most=3):
    """Each of (N,3,R,R) pushed by up to ``most`` pixels; its border is repeated."""
    size, wide = images.shape[-1], F.pad(images, (most,) * 4, mode="replicate")
    corners = torch.randint(2 * most + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y:y + size, x:x + size] for image, (y, x) in zip(wide, corners)])


def with_one_value(factor, rank):
    """Real images (N,3,R,R) that share a value of a factor, the most frequent one for rank 0."""
    found = probes.values(labels, factor)
    value = Counter(found).most_common()[rank][0]
    index = [i for i, v in enumerate(found) if v == value]
    return fresh[(index * num_images)[:num_images]]                       # where there are too few, some come twice

# %%
SETS = {"the ten, copied": "memorised: nothing but the training images", "the ten, moved": "memorised, with a push of up to three pixels",
        "half copied": "half of the samples memorised, half real", "five faces, moved": "collapsed: five real faces again and again",
        "one skin colour": "one factor lost, all others as they should be", "one hair style": "another factor lost",
        "source": "not adapted: real faces of the source domain", "half source": "half adapted", "blurred": "a mean over 3×3 pixels",
        "noise": "no pictures at all", "a tenth noise": "one sample in ten spoiled"}

# %%
def make_sets(draw):
    """All images of a draw (P,3,R,R), the ten last, and for each set the indices of its images (N,)."""
    generator = torch.Generator().manual_seed(draw)
    real = fresh[num_real * draw:][:num_images]
    some = {n: torch.randint(n, (num_images,), generator=generator) for n in (10, 5)}
    kinds = {"real": real, "the ten, moved": moved(ten.images[some[10]], generator),
             "five faces, moved": moved(real[some[5]], generator), "one skin colour": with_one_value("skinColor", draw),
             "one hair style": with_one_value("top", draw), "source": people[num_images * draw:][:num_images],
             "blurred": F.avg_pool2d(F.pad(real, (1,) * 4, mode="replicate"), 3, 1),
             "noise": 2 * torch.rand(real.shape, generator=generator) - 1}
    index = {name: num_images * k + torch.arange(num_images) for k, name in enumerate(kinds)}
    index["the ten, copied"] = num_images * len(kinds) + some[10]
    for name, other, count in (("half copied", "the ten, copied", num_images // 2), ("half source", "source", num_images // 2),
                               ("a tenth noise", "noise", max(1, num_images // 10))):
        index[name] = torch.cat([index["real"][count:], index[other][:count]])
    return torch.cat([*kinds.values(), ten.images]), index

# %%
images, index = make_sets(0)
evenly = torch.linspace(0, num_images - 1, 10).long()
plots.show(plots.rows({name: images[index[name][evenly]] for name in ["real", *SETS]}),
           alt="Ten images of each set: real, copies of the ten, collapsed, one factor lost, source, blurred, noise, mixtures.")

# %% [markdown]
# ## Clouds of features
#
# FD takes both sets of pooled features for Gaussian clouds, with means $\mu$, $\nu$ and covariances $\Sigma$, $\Gamma$. How far must one
# be carried to become the other?
#
# $$\mathrm{FD} = \lVert \mu - \nu \rVert^2 + \mathrm{tr}\big(\Sigma + \Gamma - 2\,(\Sigma\Gamma)^{1/2}\big) \tag{7.3}$$
#
# With InceptionV3's features this is FID; ours are AlexNet's. With fewer images than features, centred features $A$ (N,1152) and $B$
# (M,1152) give the last term quickly:
#
# $$\mathrm{tr}\,(\Sigma\Gamma)^{1/2} = \frac{\lVert A B^\top \rVert_*}{\sqrt{(N-1)(M-1)}},
# \qquad \lVert\cdot\rVert_* \text{ the sum of the singular values} \tag{7.4}$$
#
# The kernel distance (InceptionV3's is KID) compares no sample with itself. So it is *unbiased*: two sets of one kind score zero on
# average.
#
# $$\mathrm{KD} = \operatorname*{mean}_{i \ne j} k(a_i, a_j) + \operatorname*{mean}_{i \ne j} k(b_i, b_j)
# - 2 \operatorname*{mean}_{i, j} k(a_i, b_j), \qquad k(a, b) = \big(\tfrac{a \cdot b}{1152} + 1\big)^3 \tag{7.5}$$
#
# Precision and recall draw a ball around every image, as far as its third neighbour of the same set, and count:
#
# $$\text{precision} = \text{share of samples in a real image's ball}, \qquad
# \text{recall} = \text{share of real images in a sample's ball} \tag{7.6}$$
#
# ## Exercise: count in bits
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# The last two metrics read pictures: a linear probe says which background, skin, clothes and glasses each shows. If value $v$ is read in
# a share $p_v$ of the samples, the **entropy** is
#
# $$H = -\sum_v p_v \log_2 p_v \tag{7.7}$$
#
# in bits: 0 if all samples show the same value, 3 if eight values are equally frequent. Write `entropy_bits(counts)`.

# %%
def entropy_bits(counts):
    """Your code here: how often each value was seen, (values,) → bits."""
    return None

# %%
entropy_bits = checks.mine("entropy_bits")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Shares first. A value that nobody has adds nothing, but `0 * log2(0)` is NaN: leave it out.
# </details>
#
# <details><summary>Solution</summary>
#
# `checks.solution("entropy_bits")` in a new cell.
# </details>
#
# `probes.spread` adds **coverage**: the share of real images whose value the samples show at all. How far can the probe be trusted?

# %%
probe = probes.factor_probe(target, n=for_factors, trust=rt.pick(smoke=0.4, cpu=0.8))
for factor, accuracy in probe.accuracy.items():
    print(f"{factor:<16} {len(probe.classes[factor]):2d} values, read right in {accuracy:.0%} of fresh faces")
print("not read reliably, and left out:", ", ".join(sorted({f for one in labels for f in one} - set(probe.classes))))

# %% [markdown]
# Hair style (`top`) is not read well enough.
#
# ## Measure once, score often
#
# `measure` asks the networks once for all that the scores need; `score` picks rows. The last ten images are the training images.

# %%
from typing import NamedTuple

in_domain = probes.domain_probe(target, n=for_domain)


class Measured(NamedTuple):
    """None where a thing is not needed."""
    within: torch.Tensor | None      # LPIPS (P,P)
    pooled: torch.Tensor | None      # (P,1152)
    read: dict | None                # factor → (P,) which value
    hit: torch.Tensor | None         # (P,) bool: of the target domain?


def measure(images):
    """Images (P,3,R,R), the training images last."""
    return Measured(metrics.lpips_matrix(images), metrics.pooled_features(images), probe.read(images), in_domain(images))


known = Measured(None, metrics.pooled_features(reference), probe.read(reference), None)

# %%
def distances(m, index):
    """LPIPS of the images with these indices (n,): to the ten (n,10), and to each other (n,n)."""
    return m.within[index][:, -len(ten.images):], m.within[index][:, index]


def kernel_distance(a, b):
    """(7.5) for (N,D) and (M,D), as many of each as there are."""
    def mean_of(x, y, pairs):
        k = (x @ y.T / x.shape[1] + 1) ** 3
        return (k.sum() - (k.diagonal().sum() if x is y else 0)) / pairs
    n, m = len(a), len(b)
    return float(mean_of(a, a, n * (n - 1)) + mean_of(b, b, m * (m - 1)) - 2 * mean_of(a, b, n * m))

# %%
def score(m, index):
    """Nine numbers for the images with these indices (n,); bits: entropy added over the factors that the probe reads."""
    to_ten, within = distances(m, index)
    pooled = m.pooled[index]
    precision, recall = metrics.precision_recall(pooled, known.pooled)
    read = [probes.spread(m.read[f][index], known.read[f], len(values)) for f, values in probe.classes.items()]
    return {"Intra-LPIPS": metrics.intra_from_distances(to_ten, within).mean,
            "nearest-LPIPS": float(to_ten.min(1).values.mean()),
            "FD": metrics.quick_frechet_distance(pooled, known.pooled),
            "1000 KD": 1000 * kernel_distance(pooled, known.pooled),
            "precision": precision, "recall": recall, "domain hit": float(m.hit[index].float().mean()),
            "bits": sum(s.entropy for s in read), "coverage": sum(s.coverage for s in read) / len(read)}

# %% [markdown]
# FD, KD, precision and recall compare with real images that are in no set. Are our quick forms the library's numbers?

# %% tags=["nbval-check-output"]
first = torch.arange(num_images)
quick, full = (fd(known.pooled[first], known.pooled) for fd in (metrics.quick_frechet_distance, metrics.frechet_distance))
print("FD:", bool(abs(quick / full - 1) < 1e-4))
one, other = known.pooled[:num_real // 2], known.pooled[num_real // 2:]
print("KD:", bool(abs(kernel_distance(one, other) - metrics.kernel_distance(one, other)) < 1e-5))

# %% [markdown]
# Real images come first.

# %% tags=["nbval-ignore-output"]
from tqdm.auto import tqdm

blocks = [measure(torch.cat([real, ten.images])) for real in tqdm(fresh.split(num_real), desc="measuring real images")]


def sets_of(n):
    """Indices of a block's real images, n at a time, so that sets share nothing."""
    return [part for part in torch.arange(num_real).split(n) if len(part) == n]


scores = {"real, held out": [score(block, part) for block in blocks for part in sets_of(num_images)]}
METRICS = list(scores["real, held out"][0])
print(f"{len(scores['real, held out'])} sets of {num_images} real images")

# %% tags=["nbval-ignore-output"]
draws = [make_sets(draw) for draw in range(num_draws)]                    # images and the sets' indices
measured = [(measure(drawn), index) for drawn, index in tqdm(draws, desc="measuring faulty sets")]
scores |= {name: [score(m, index[name]) for m, index in measured] for name in SETS}

# %%
def over_draws(name, metric):
    """One score of all draws of a set: (draws,)."""
    return torch.tensor([found[metric] for found in scores[name]])


for part in (METRICS[:4], METRICS[4:]):
    print(f"{'mean ± standard deviation':<26}" + "".join(f"{metric:>17}" for metric in part))
    for name in scores:
        found = [over_draws(name, metric) for metric in part]
        print(f"{name:<18} {len(found[0]):2d} sets" + "".join(f"{v.mean():10.3f} ±{v.std():5.3f}" for v in found))
    print()

# %% [markdown]
# Read the first row first: real images have an FD of 0.2 to other real images. And chance alone moves FD by a fifth.
#
# ## The signature figure: who is fooled by what
#
# Mean scores. Purple "▼": in *every* draw worse than any set of real images, so the fault was seen. Orange "▲": in every draw *better*
# than all of them, by the arrow. White "=": real images could have scored this in some draw.

# %%
ARROW = {metric: -1 if metric in ("FD", "1000 KD") else 1 for metric in METRICS}
band = {metric: (float(over_draws("real, held out", metric).min()), float(over_draws("real, held out", metric).max()), ARROW[metric])
        for metric in METRICS}
means = {name: {metric: float(over_draws(name, metric).mean()) for metric in METRICS} for name in scores}


def place(name, metric):
    """Of all draws of a set, the place of the one that is most like real images; 0 if they lie on both sides."""
    found = [metrics.against_real(float(value), *band[metric]) for value in over_draws(name, metric)]
    return min(found, key=abs) if min(found) * max(found) > 0 else 0.0


places = {name: {metric: place(name, metric) for metric in METRICS} for name in scores}
plots.show(plots.scorecard(means, places),
           alt="Twelve sets by nine metrics; purple where a fault is seen, white where not, orange where it looks better than real.")

# %%
def outside(name, metric):
    """In how many draws of a set the score lies where no set of real images does."""
    return sum(abs(metrics.against_real(float(value), *band[metric])) > 1 for value in over_draws(name, metric))


print("not seen in every draw, and in how many it was:")
for metric in METRICS:
    alike = [name for name in SETS if abs(places[name][metric]) <= 1]
    above = [name for name in SETS if places[name][metric] > 1]
    print(f"{metric:<14} {'; '.join(f'{name} {outside(name, metric)}/{num_draws}' for name in alike) or '–'}")
    if above:
        print(f"{'':<14} likes better than real: {'; '.join(above)}")

# %% [markdown]
# No column is all purple.
#
# - **Intra-LPIPS** sees copies and collapse. Source, blur and a tenth of noise lie on the side that the arrow likes.
# - **nearest-LPIPS** sees copies. It likes source, blur and noise: far from the ten may also be far from the domain.
# - **FD** says *how far*, not *what is wrong*: copies and blurred faces score alike. It sees *one skin colour* in four of five draws, not
#   in every one.
# - **Precision** likes the copies best: all ten happen to lie inside, as ten real images would in two cases of five. The draws repeat
#   these ten, so they are no five trials. **Recall** does not like them: ten pictures cannot fill a cloud.
# - The **domain hit** takes *noise* for sunglasses: a line has two sides, and everything lies on one of them.
# - **Bits and coverage** see the one skin colour, not the one hair style, which the probe does not read.
#
# How many metrics does it take? By the arrow, only worse is wrong; beside real images, either side is.

# %%
from itertools import combinations


def smallest(seen):
    """The smallest sets of metrics in which every fault is seen by one; seen: set, metric → bool."""
    for size in range(1, len(METRICS) + 1):
        found = [" + ".join(chosen) for chosen in combinations(METRICS, size)
                 if all(any(seen(name, metric) for metric in chosen) for name in SETS)]
        if found:
            return found
    return ["none: " + "; ".join(name for name in SETS if not any(seen(name, metric) for metric in METRICS)) + " is seen by no metric"]


print("by the arrow:       ", "\n                     ".join(smallest(lambda name, metric: places[name][metric] < -1)))
print("beside real images: ", "\n                     ".join(smallest(lambda name, metric: abs(places[name][metric]) > 1)))

# %% [markdown]
# No pair is enough. Three are: one about the cloud, one about the domain, one that counts. A twelfth fault may slip through them, as this
# one slips through Intra-LPIPS and nearest-LPIPS:

# %%
def nothing_good(index):
    """A sixth of copies, the rest source and blurred, as many of each: not one acceptable picture. (N,)"""
    copies, rest = num_images // 6, (num_images - num_images // 6) // 2
    return torch.cat([index["the ten, copied"][:copies], index["source"][:rest], index["blurred"][:num_images - copies - rest]])


worst = [score(m, nothing_good(index)) for m, index in measured]
print("real images:   " + ", ".join(f"{metric} {band[metric][0]:.3f} to {band[metric][1]:.3f}" for metric in METRICS[:2]))
for draw, found in enumerate(worst):
    told = [metric for metric in METRICS if abs(metrics.against_real(found[metric], *band[metric])) > 1]
    print(f"draw {draw}:        " + ", ".join(f"{metric} {found[metric]:.3f}" for metric in METRICS[:2]) + "; told by " + ", ".join(told))

# %% [markdown]
# Copies pull both scores down, source and blur push them up. A mean can be right for wrong reasons.
#
# ## Copying: five ways to ask
#
# **Copies** (chapter 03) are nearer to one of the ten than 95 % of held-out real images are. The **gap ratio** asks whether a sample is
# much nearer to one training image than to the next:
#
# $$g(x) = \frac{d_1(x)}{d_2(x)}, \qquad \text{memorised if } g < \tfrac13 \tag{7.8}$$
#
# Bonnaire et al. (2025) measure in pixels. So do we, and with √LPIPS, since LPIPS is a square. $C_T$ (Meehan et al. 2020) compares, for
# each of the ten, the samples nearest to it (its cell $\pi$) with held-out real images there. $Z_U(\pi)$ says in standard errors how much
# further the samples are (Mann–Whitney); $P(\pi)$ is the cell's share of real images:
#
# $$C_T = \frac{\sum_\pi P(\pi)\, Z_U(\pi)}{\sum_\pi P(\pi)} \tag{7.9}$$
#
# Below −3 is copying, above 3 is too far away. Bars: 95 % intervals over the draws.

# %%
from dslib.measure import twin_scores
from dslib.study import evidence


def to_the_ten(images):
    """Distances of (N,3,R,R) to the ten, by LPIPS and by pixels: (2,N,10)."""
    return torch.stack([metrics.lpips_matrix(images, ten.images), twin_scores.euclidean(images, ten.images)])


yardstick = to_the_ten(reference)[0]                                     # of real images that are in no set
real_sets = [torch.stack([block.within[:many, -10:], twin_scores.euclidean(part[:many], ten.images)])
             for block, part in zip(blocks, fresh.split(num_real))]
strangers = to_the_ten(people)                                           # the source's faces
generator = torch.Generator().manual_seed(rt.seed)
copies, pushed = (to_the_ten(pictures) for pictures in (ten.images, moved(ten.images.repeat(max(2, many // 10), 1, 1, 1), generator)))


def distances_of(draw):
    """Set → distances of its samples to the ten, (2,N,10)."""
    def some(pool, n):
        return pool[:, torch.randint(pool.shape[1], (n,), generator=generator)]
    sets = {"real": real_sets[draw]}
    for name, n in (("a tenth copied", many // 10), ("half copied", many // 2), ("the ten, copied", many)):
        sets[name] = torch.cat([real_sets[draw][:, n:], some(copies, n)], dim=1)
    return sets | {"the ten, moved": some(pushed, many), "source": strangers[:, torch.randperm(len(people), generator=generator)[:many]]}

# %%
def tests_of(by_lpips, by_pixels):
    """Five answers for samples with these distances to the ten, (N,10) each."""
    nearest = by_lpips.min(1).values
    return {"nearest-LPIPS": float(nearest.mean()), "copies": metrics.copy_rate(nearest, yardstick.min(1).values),
            "gap, LPIPS": twin_scores.gap_share(by_lpips.sqrt()), "gap, pixels": twin_scores.gap_share(by_pixels),
            "C_T": twin_scores.copying_test(by_lpips, yardstick, least=rt.pick(smoke=1, cpu=10))}


asked = [{name: tests_of(*found) for name, found in distances_of(draw).items()} for draw in range(num_draws)]
TESTS = list(asked[0]["real"])
each = {test: {name: [found[name][test] for found in asked] for name in asked[0]} for test in TESTS}
told = {test: {name: evidence.interval(values) for name, values in each[test].items()} for test in TESTS}
usual = {test: (min(each[test]["real"]), max(each[test]["real"])) for test in TESTS} | {"C_T": (-3, 3)}
plots.show(plots.forest(told, usual, each), alt="Five tests of copying, six sets; means and 95 % intervals over draws; grey: real images.")
for name in asked[0]:
    print(f"{name:<16}" + "   ".join(f"{test} {told[test][name][0]:.3f} [{told[test][name][1]:.3f}, {told[test][name][2]:.3f}]"
                                     for test in TESTS))
sizes_of_cells = yardstick.argmin(1).bincount(minlength=10)
print(f"cells of {sizes_of_cells.min()} to {sizes_of_cells.max()} of {len(yardstick)} real images")

# %% [markdown]
# - All five see exact copies. **Pushed** ones escape the gap ratio in pixels nearly all, and about half of them in LPIPS.
# - One sample in **ten** copied: nearest-LPIPS, copies and the gap ratio tell it. $C_T$, which compares whole cells, does not, and even
#   **half** copied it stays above −3 on average.
# - The gap ratio needs no real images, and calls none a copy. The copy rate calls one in twenty so.
#
# ## How few samples are too few?
#
# Scores of *real* images against their number, beside sets half of which are copied. Bands: lowest to highest draw.

# %%
from dslib.env import UserError


def intra(m, index):
    """Intra-LPIPS, NaN where no two samples share a nearest training image."""
    try:
        return metrics.intra_from_distances(*distances(m, index)).mean
    except UserError:
        return float("nan")


STATISTICS = {"Intra-LPIPS": intra,
              "nearest-LPIPS": lambda m, index: float(distances(m, index)[0].min(1).values.mean()),
              "FD": lambda m, index: metrics.quick_frechet_distance(m.pooled[index], known.pooled),
              "1000 KD": lambda m, index: 1000 * kernel_distance(m.pooled[index], known.pooled)}


def against_n(statistic):
    """Real images and half copied ones, (draws, sizes) each."""
    copies = num_real + torch.randint(len(ten.images), (num_real,), generator=torch.Generator().manual_seed(rt.seed))
    real = [[statistic(m, torch.arange(n)) for n in sizes] for m in blocks]
    half = [[statistic(m, torch.cat([torch.arange(n - n // 2), copies[:n // 2]])) for n in sizes] for m in blocks]
    return {"real": torch.tensor(real), "half copied": torch.tensor(half)}

# %%
by_size = {name: against_n(statistic) for name, statistic in STATISTICS.items()}
for name in ("Intra-LPIPS", "FD", "1000 KD"):
    figure = plots.curves(sizes, by_size[name], "images", name, log=name == "FD")
    figure.axes[0].set_xscale("log", base=2)
    figure.axes[0].set_xticks(sizes, sizes)
    plots.show(figure, alt=f"{name} against the number of images, real and half copied, bands over draws.")

# %%
print(f"{'images':<14}" + "".join(f"{n:>8d}" for n in sizes))
for name, found in by_size.items():
    real, half = found["real"], found["half copied"]
    apart = [bool(h.max() < r.min() or h.min() > r.max()) for r, h in zip(real.T, half.T)]
    print(f"{name:<14}" + "".join(f"{v:8.3f}" for v in real.mean(0)) + "   mean of real")
    print(f"{'':<14}" + "".join(f"{v:8.3f}" for v in real.std(0)) + "   standard deviation over the draws")
    print(f"{'':<14}" + "".join(f"{'yes' if a else 'no':>8}" for a in apart) + "   all half copied draws beyond all real ones?")

# %% [markdown]
# - **Intra-LPIPS** of real images stays, but is noisy: ± 0.022 at 16 images, ± 0.006 at 400.
# - **FD** falls from 1.45 for eight real images to 0.06 for 400: mostly *bias*. Compare FDs only at the same number of images.
# - **KD** stays around zero, but its spread at 8 hides all there is to see.
#
# nearest-LPIPS tells half copied from real with 8 images, KD needs 256.
#
# ## Exercise: an error from one set of samples
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# How much would a number change with other samples? Take that of a random *half* of yours, many times:
#
# $$\mathrm{SE}(s) \approx \operatorname*{std}_{h}\; s(\text{half } h), \qquad h \text{ drawn without replacement} \tag{7.10}$$
#
# No factor is needed. A half varies more than the whole, by √2 for a mean; halves of one set vary less than fresh ones would, by the same
# √2.
#
# Write `half_sample_error(statistic, n, repeats)`: `statistic(indices)` gives the number for some indices below n.

# %%
def half_sample_error(statistic, n, repeats=100):
    """Your code here: function of indices, number of samples, number of halves → standard error."""
    return None

# %%
half_sample_error = checks.mine("half_sample_error")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.randperm(n)[:n // 2]` is a half. Collect the statistic of many, and take the standard deviation.
# </details>
#
# <details><summary>Solution</summary>
#
# `checks.solution("half_sample_error")` in a new cell.
# </details>
#
# For real images we know the truth, from sets that share nothing:

# %%
from functools import partial

for n in (num_images // 2, num_images):
    for name, statistic in STATISTICS.items():
        found = torch.tensor([statistic(m, part) for m in blocks for part in sets_of(n)])
        guessed = torch.tensor([metrics.half_sample_error(partial(statistic, m), n, repeats) for m in blocks])
        print(f"{n:4d} images, {name:<13} true {found.std():.4f} over {len(found):2d} sets; guessed {guessed.mean():.4f} "
              f"({guessed.min():.4f} to {guessed.max():.4f}), {guessed.mean() / found.std():.1f} times as much")

# %% [markdown]
# For **nearest-LPIPS**, a mean over samples, halves come near: 0.8 to 0.9 of a truth that is itself known to a tenth. For the others they
# are too large: 1.6 times for Intra-LPIPS, about twice for FD and KD. So halves tell the size of an error and bound nothing. They say
# nothing of other *training* seeds.
#
# ## Another backbone, another size: another number
#
# The same images, seen by another network or enlarged:

# %%
half = num_images // 2
seen = {instrument: {"real": [], "source": []} for instrument in instruments}
for drawn, index in draws:
    few = torch.cat([drawn[index["real"][:half]], drawn[index["source"][:half]], ten.images])
    for (backbone, size), found in seen.items():
        m = Measured(metrics.lpips_matrix(F.interpolate(few, size=size, mode="bilinear"), backbone=backbone), None, None, None)
        found["real"].append(intra(m, torch.arange(half)))
        found["source"].append(intra(m, torch.arange(half, 2 * half)))
for (backbone, size), found in seen.items():
    above = sum(a > b for a, b in zip(found["source"], found["real"]))
    print(f"{backbone} at {size}×{size}   " + "   ".join(f"{name} {torch.tensor(v).mean():.3f} ± {torch.tensor(v).std():.3f}"
                                                      for name, v in found.items())
          + f"   the source is above real images in {above} of {num_draws} draws")

# %% [markdown]
# AlexNet at 64×64 finds the source more diverse than real images in every draw. Enlarged, or with VGG, it does so in some draws only. So
# "more diverse than" belongs to an instrument, and one table must not hold two. The paper's 0.604 for `FFHQ → Sunglasses` is a third: VGG
# at 256×256, on photographs.
#
# ## Did it come out as expected?

# %%
real = means["real, held out"]
_ = checks.check_expected("07", rt, real_intra=real["Intra-LPIPS"], real_nearest=real["nearest-LPIPS"],
                          blurred_fd=means["blurred"]["FD"], one_skin_bits=means["one skin colour"]["bits"],
                          nothing_good_intra=sum(found["Intra-LPIPS"] for found in worst) / num_draws,
                          tenth_copied=told["copies"]["a tenth copied"][0])

# %% [markdown]
# ## Play
#
# Which mixture is bad, and passes as real by Intra-LPIPS and nearest-LPIPS?

# %%
from dslib.show import widgets

m, index = measured[0]
kinds = {"real": index["real"], "copied": index["the ten, copied"]} | {name: index[name] for name in ("source", "blurred", "noise")}
widgets.explore_mixture(images, kinds, lambda chosen: score(m, chosen), band, real=75, source=15, blurred=10)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | `UserError: no target has two of the … samples` | fewer samples than training images | more samples |
# | `UserError: no training image has 20 of …` | $C_T$'s cells are too empty | more samples, or a lower `least` |
# | FD is better with more samples | its bias shrinks | as many in every row |
# | noise is "100 % sunglasses" | a probe has two sides | FD or precision beside it |
# | numbers unlike another table's | backbone, size or number of images | compare within one table |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (7.1) | `metrics.lpips_features` | `test_metrics.py::test_st_lpips_is_the_packages_own` |
# | (7.2) | `metrics.lpips_matrix` | `test_metrics.py::test_two_hundred_random_pairs_are_the_packages_own` |
# | (7.3) | `metrics.frechet_distance` | `test_metrics.py::test_frechet_distance_of_gaussians_is_the_closed_form` |
# | (7.4) | `metrics.quick_frechet_distance` | `test_metrics.py::test_the_quick_frechet_distance_is_the_same_number` |
# | (7.5) | `metrics.kernel_distance` | `test_metrics.py::test_kernel_distance_against_the_formula` |
# | (7.6) | `metrics.precision_recall` | `test_metrics.py::test_precision_and_recall_against_loops` |
# | (7.7) | `checks.entropy_bits` | `test_checks_07.py::test_entropy_by_hand_is_the_librarys` |
# | (7.8) | `twin_scores.gap_ratio` | `test_twin_scores.py::test_gap_ratio_is_the_slow_one` |
# | (7.9) | `twin_scores.copying_test` | `test_twin_scores.py::test_the_copying_test_is_the_slow_one` |
# | (7.10) | `metrics.half_sample_error` | `test_metrics.py::test_half_sample_error_is_the_standard_error_of_a_mean` |
#
# ## Paper, authors' code, ours
#
# | point | paper | reference code | here |
# |---|---|---|---|
# | LPIPS | LPIPS | CDC's script: VGG at 256×256 | shift-tolerant AlexNet at 64×64 |
# | members of a group | all of 1000 samples | at most 50 | all; `most=50` for theirs |
# | samples | 1000 | – | 64 a set |
# | the ± | over the groups | over the groups | over draws, or from halves |
# | cloud | FID | – | FD of pooled AlexNet features |
#
# ## Check yourself
#
# 1. A paper reports a higher Intra-LPIPS than the best method before. What else do you want to see?
#    <details><summary>Answer</summary>Real held-out images by the same script; something about the domain or the cloud; an error.</details>
# 2. Why does Intra-LPIPS of pure noise lie near zero?
#    <details><summary>Answer</summary>To a classifier's features, noise is one texture.</details>
# 3. Two models have an FD of 0.5 (400 samples) and 0.9 (32 samples). Which is better?
#    <details><summary>Answer</summary>Nobody can tell: real images score 0.06 and 0.41 at these numbers.</details>
# 4. The domain hit is 100 % and nearest-LPIPS is that of real images. What may still be wrong?
#    <details><summary>Answer</summary>A whole factor may be missing. Add a metric that counts.</details>
# 5. Open: how many bits would *one hair style* lose, if hair were read well?
# 6. Project: put your own model, three training seeds, on the scorecard. Which is larger, the error from halves or the spread over seeds?

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("07")

# %% [markdown]
# ## In this notebook we have
#
# - made eleven faulty sets, and seen each metric miss some of them;
# - counted variety in bits, and asked in five ways for copies;
# - put an error on one set.
#
# **Next:** chapter 08, what each choice is worth.
#
# **Read on:** [LPIPS](https://arxiv.org/abs/1801.03924) · [CDC](https://arxiv.org/abs/2104.06820), Intra-LPIPS ·
# [KID](https://arxiv.org/abs/1801.01401) · [Meehan et al.](https://arxiv.org/abs/2004.05675), $C_T$ · [Bonnaire et
# al.](https://arxiv.org/abs/2505.17638), the gap ratio

