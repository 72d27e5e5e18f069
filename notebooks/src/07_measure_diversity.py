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
# **Claim.** By the end you will have shown that no single number measures diversity. Nine metrics look at eleven sets
# of pictures that are wrong on purpose. Not one of the nine sees all eleven faults. Some faults score *better* than real
# images. A mixture without one acceptable picture passes as real by Intra-LPIPS and nearest-LPIPS in four of five draws.
# Three metrics that ask different questions see every fault. The evidence is a scorecard over five draws. The control:
# thirty sets of real images, which say what is right, and how far chance alone moves a score.
#
# | | |
# |---|---|
# | Read / run | 45 min / 3 min on two CPU cores |
# | Device | a laptop CPU is enough; nothing is trained |
# | Needs | chapters 00 and 03 (nearest-LPIPS, Intra-LPIPS, the copy rate) |
# | Paper | DomainStudio §3, how the tables are measured; Intra-LPIPS is from CDC |
# | `dslib` files | `metrics.py`, `measure/probes.py` |
# | You will keep | a scorecard that knows what real images score, and an error for every number on it |
#
# **You will**
# - compute LPIPS pair by pair, and then all pairs at once;
# - make eleven sets of pictures that are wrong on purpose, each in its own way;
# - measure them with nine metrics, and see which metric each of them fools;
# - count what can be counted: entropy in bits;
# - find out how many samples are too few, and put an error on a number from one set of samples;
# - change the backbone, and see why two tables cannot be mixed.

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
num_real = rt.pick(smoke=24, cpu=400)                                    # real images: the reference, and of each draw
num_draws = rt.pick(smoke=2, cpu=5)                                      # every set is made anew so many times
timed = rt.pick(smoke=[3], cpu=[4, 8, 16])                               # images, LPIPS of all pairs
sizes = rt.pick(smoke=[11, 24], cpu=[8, 16, 32, 64, 128, 256, 400])      # how few are too few?
repeats = rt.pick(smoke=10, cpu=100)                                     # halves a statistic is taken of
for_domain, for_factors = rt.pick(smoke=(100, 200), cpu=(300, 800))      # images that the two probes are fitted on

# %% [markdown]
# ## Where we are going
#
# A committed result, 600 steps: a picture, and the numbers that were measured on 64 samples a row.

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
# The picture shows ten samples of each model. It cannot tell whether the next ten would show the same faces again,
# how many hats there are in all, whether the backgrounds are as varied as in the domain, or how much of it is luck.
# The numbers claim to know. But each of them answers one question and is deaf to the others: which question? And how
# much would it change with other samples?
#
# To find out we need pictures of which we *know* what is wrong with them. Models do not tell. So this chapter makes
# the samples itself.
#
# ## The mental model: four questions
#
# | question | metric | compares | usual arrow |
# |---|---|---|---|
# | do samples differ from each other? | Intra-LPIPS, (3.2) | samples with samples, group by group | ↑ |
# | are they new? | nearest-LPIPS | samples with the ten | ↑ |
# | are they like real images, as a cloud? | FD, kernel distance | all samples with all real images | ↓ |
# | … is each inside the cloud, is all of it filled? | precision, recall | neighbourhoods | ↑ |
# | do they show the domain? | domain hit | each with a line between two domains | ↑ |
# | how much of the domain's variety? | bits, coverage | how often each value of a factor is read | ↑ |
#
# All but the last two rest on the features of an image classifier. With $f_l$ for what layer $l$ says, normalised
# over its channels at each place, LPIPS is a sum of weighted squares, and so a squared distance of long vectors
# $\varphi$:
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
# | $s$ | any statistic of a set of samples | number | `score` |
#
# ## The naive version
#
# The package compares one pair at a time. So do most scripts: two loops around it.

# %%
import torch

from dslib import metrics

ten = data.load_domain(target, "ten")
held_out = data.load_domain(target, "test", num_real * (1 + num_draws))
net = metrics.load_backbone("st-alex")


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
# The diagonal is zero, and two different faces of this domain are 0.25 to 0.46 apart. A number like 0.3 says nothing by
# itself. It says something beside other numbers from the same network, at the same image size.
#
# ## Exercise: all pairs at once
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# The loop sends every picture through the network again for every pair. But (7.1) says that the network is needed
# once a picture: after that, LPIPS is a distance between rows. And a square is
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
# `a.square().sum(1)[:, None]` is a column, `b.square().sum(1)[None]` a row: their sum is a matrix. The product of all
# rows with all rows is `a @ b.T`. `(a[:, None] - b[None])` would be right too, but it holds N·M·D numbers at once.
# </details>
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
# The library's `lpips_matrix` takes the features in slices where they do not fit into memory. What is the product
# worth? Both ways on the same images:

# %% tags=["nbval-ignore-output"]
import time


def seconds(fn, images):
    """Shortest of three calls."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        fn(images)
        took.append(time.perf_counter() - began)
    return min(took)


for n in timed:
    loop, product = (seconds(fn, held_out.images[:n]) for fn in (pair_by_pair, metrics.lpips_matrix))
    print(f"{n:3d} images, {n * (n - 1) // 2:4d} pairs: the loop takes {loop / product:5.1f} times as long as the product")

# %% [markdown]
# The loop takes many times as long. How many depends on the machine and on what else it is doing (the run that you see
# here shared its two cores), so do not read the digits. What depends on nothing: for $n$ pictures the loop sends
# $n(n-1)$ through the network, the product sends $n$.
#
# ## Pictures of which we know what is wrong
#
# Every set has the same number of images. **Real** images of the domain, held out, are what a perfect generator would
# draw. The others each have one fault:
#
# | set | fault |
# |---|---|
# | the ten, copied | memorised: nothing but the training images |
# | the ten, moved | memorised, with a push of up to three pixels |
# | half copied | half of the samples memorised, half real |
# | five faces, moved | collapsed: five *real* faces again and again |
# | one skin colour | one factor lost, all others as they should be |
# | one hair style | another factor lost |
# | source | not adapted: real faces of the source domain |
# | half source | half adapted |
# | blurred | a mean over 3×3 pixels |
# | noise | no pictures at all |
# | a tenth noise | one sample in ten spoiled |
#
# Each set is made several times, from other images and other dice.

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
SETS = ["the ten, copied", "the ten, moved", "half copied", "five faces, moved", "one skin colour", "one hair style",
        "source", "half source", "blurred", "noise", "a tenth noise"]


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
# Some faults are plain: noise, blur, eyes where sunglasses should be. Others are not. Cover the names on the left: would
# you have noticed that the row *one skin colour* has only one, or that half of *half copied* are training images? And
# this is a row of ten. Nobody looks at a thousand samples this way.
#
# ## Clouds of features
#
# FD takes both sets of pooled features for two Gaussian clouds, with means $\mu$, $\nu$ and covariances $\Sigma$,
# $\Gamma$, and measures how far one would have to be carried to become the other:
#
# $$\mathrm{FD} = \lVert \mu - \nu \rVert^2 + \mathrm{tr}\big(\Sigma + \Gamma - 2\,(\Sigma\Gamma)^{1/2}\big) \tag{7.3}$$
#
# With InceptionV3's features this is FID. Ours are AlexNet's, so our numbers are no FIDs; `dslib fidelity A B --feature_extractor
# inception-v3-compat` prints those of two folders, where Inception's weights can be fetched. The root of a
# 1152×1152 matrix takes a while. Where there are fewer images than features, the singular values of a small matrix
# do: with centred features $A$ (N,1152) and $B$ (M,1152),
#
# $$\mathrm{tr}\,(\Sigma\Gamma)^{1/2} = \frac{\lVert A B^\top \rVert_*}{\sqrt{(N-1)(M-1)}},
# \qquad \lVert\cdot\rVert_* \text{ the sum of the singular values} \tag{7.4}$$
#
# The kernel distance (KID, in InceptionV3's world) leaves out each sample's comparison with itself, and that makes it
# *unbiased*: two sets of the same kind score zero on average, however small they are.
#
# $$\mathrm{KD} = \operatorname*{mean}_{i \ne j} k(a_i, a_j) + \operatorname*{mean}_{i \ne j} k(b_i, b_j)
# - 2 \operatorname*{mean}_{i, j} k(a_i, b_j), \qquad k(a, b) = \big(\tfrac{a \cdot b}{1152} + 1\big)^3 \tag{7.5}$$
#
# Precision and recall draw a ball around every image, as far as its third neighbour of the same set. Then they count:
#
# $$\text{precision} = \text{share of samples in a real image's ball}, \qquad
# \text{recall} = \text{share of real images in a sample's ball} \tag{7.6}$$
#
# ## Exercise: count in bits
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# The last two metrics do not compare pictures: they read them. A linear probe, fitted on drawn faces whose labels we
# know, says which background, skin, clothes and glasses a picture shows. How widely are the answers spread? If value
# $v$ was read in a share $p_v$ of the samples, the **entropy** is
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
# <details><summary>Solution</summary>
#
# `checks.solution("entropy_bits")` in a new cell.
# </details>
#
# The library's `factors.spread` does this, and adds **coverage**: how much of the real images has a value that the
# samples show at all. How far can the probe be trusted? It was graded on drawn faces that it had not seen:

# %%
probe = probes.factor_probe(target, n=for_factors, trust=rt.pick(smoke=0.5, cpu=0.8))
for factor, accuracy in probe.accuracy.items():
    print(f"{factor:<16} {len(probe.classes[factor]):2d} values, read right in {accuracy:.0%} of fresh faces")
print("not read reliably, and left out:", ", ".join(sorted({f for one in labels for f in one} - set(probe.classes))))

# %% [markdown]
# Four factors are read well enough. Hair style, `top` in the labels, is not among them: the probe can say nothing about
# it. Remember that when you come to the set with one hair style.
#
# ## Measure once, score often
#
# Networks are slow, arithmetic is not. `measure` asks the networks once for everything that the scores need, and
# `score` picks rows. The last ten images are always the training images, so distances to them are the last columns.

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
    """Nine numbers for the images with these indices (n,)."""
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
# *bits* is the entropy added over the factors that the probe reads, *coverage* the mean over them. FD, KD, precision
# and recall compare with the reference: other real images, which are in no set. Two of the library's functions got a
# quicker or thriftier form here. `quick_frechet_distance` is (7.4). `metrics.kernel_distance` takes only as many
# reference images as there are samples; ours above takes all of them. Same numbers, where they should be?

# %% tags=["nbval-check-output"]
first = torch.arange(num_images)
quick, full = (fd(known.pooled[first], known.pooled) for fd in (metrics.quick_frechet_distance, metrics.frechet_distance))
print("FD:", bool(abs(quick / full - 1) < 1e-4))
as_many = known.pooled[num_images:][:num_images]
print("KD:", bool(abs(kernel_distance(known.pooled[first], as_many) - metrics.kernel_distance(known.pooled[first], as_many)) < 1e-9))

# %% [markdown]
# Real images come first, in as many sets as there are: they tell what is right, and by how much a set of this size
# varies by chance. Then the faulty sets.

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
measured = []                                                            # a draw each: what was measured, and the sets' indices
for draw in tqdm(range(num_draws), desc="measuring faulty sets"):
    drawn, index = make_sets(draw)
    measured.append((measure(drawn), index))
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
# Read the first row first. Thirty sets of 64 *real* images score 0.305 ± 0.011 by Intra-LPIPS, and 0.208 ± 0.042 by FD:
# chance alone moves FD by a fifth. And no perfect score is zero or one. Real images have an FD of 0.2 to other real
# images, their precision is 0.92, and half a per cent of them are not taken for their own domain.
#
# ## The signature figure: who is fooled by what
#
# The mean scores, by the yardstick of the first row. Purple with "▼": in *every* draw the score is worse than that of
# any set of real images: the fault was seen. Orange with "▲": in every draw it is what the arrow in papers calls
# *better*, beyond all real images. White with "=": in at least one draw, real images could have scored this. The
# colour's depth is that of the draw most like real images. A faulty set should be purple from left to right.

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
for metric in METRICS:
    alike = [name for name in SETS if abs(places[name][metric]) <= 1]
    above = [name for name in SETS if places[name][metric] > 1]
    print(f"{metric:<14} does not see: {'; '.join(alike) or '–'}")
    if above:
        print(f"{'':<14} likes better than real: {'; '.join(above)}")

# %% [markdown]
# Read it by columns. No column is purple all the way down.
#
# - **Intra-LPIPS** sees copies, collapse and the one hair style. Source, half source, blur and a tenth of noise lie at the
#   upper end of real images or above it, on the side that the arrow likes. Pure noise scores lowest but for the copies:
#   to this network, all noise looks alike. But one noise among nine faces is far from each of them, and lifts the mean.
# - **nearest-LPIPS** sees copies, and that is all it was made for. Four faults it calls better than real: source, blurred,
#   noise, a tenth noise. Far from the ten may also be far from the domain.
# - **FD** is not fooled by copies here: they score 1.28, six times as high as real images. But so do the blurred faces,
#   with the same 1.28. FD says *how far*, not *what is wrong*. It misses two sets: one skin colour and half source.
# - **KD** is much like FD, but at 64 images it also misses half copied and one hair style.
# - **Precision** likes the copies best: 1.000. They lie in the middle of the cloud. **Recall** is its other half: it falls
#   to 0.08, because ten pictures cannot fill a cloud.
# - The **domain hit** tells the source and the half source, and the ten when they are moved. *Noise* it takes for
#   sunglasses every time. A line has two sides, and everything lies on one of them.
# - **Bits and coverage** see the one skin colour. They miss the one hair style, which the probe does not read.
#
# Now by rows. *One skin colour* is told by counting alone, *half source* by the domain hit alone. Every other row has at
# least two witnesses.
#
# How many metrics does it take? Two ways to read a score: by the arrow (only worse is wrong), or beside real images
# (either side is wrong).

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
# No pair is enough. Three are: FD, the domain hit, and one that counts. One asks about the cloud, one about the domain,
# one about variety. Both ways of reading give the same trios.
#
# Intra-LPIPS and nearest-LPIPS are in neither. That is no reason to drop them: they are the ones that say *copies*. And
# these are eleven faults at 64 images a set. A twelfth fault may slip through the three.
#
# Here is one that slips through the other two. We looked for it with the sliders of the last section:

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
# There is not one acceptable picture in these sets. Copies pull both scores down, source and blurred faces push them up,
# and the means come out as real images'. In four of five draws both lie within the band; in the fifth, Intra-LPIPS is
# above it. FD, KD, precision and the domain hit tell every draw.
#
# A mean can be right for wrong reasons. That is why chapter 03 also *counted* copies, and put the nearest training image
# beside every sample.
#
# ## How few samples are too few?
#
# The same scores of *real* images, against how many there are, and beside them a set in which every second image is
# copied. Bands run from the lowest to the highest draw. Draws share no real image.

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
# Three kinds of behaviour:
#
# - **Intra-LPIPS** of real images stays where it is, between 0.30 and 0.31 from 16 images on. It is noisy: ± 0.022 at 16,
#   ± 0.006 at 400. The orange line has no point at 8: in at least one draw no two samples shared a nearest training image.
# - **FD** falls and falls: 1.45 for eight real images, 0.06 for 400. With few images it is mostly *bias*. Eight real images
#   score worse than 64 faces of the source (0.62, in the table above). An FD means nothing without its number of images,
#   and two of them can be compared only if the numbers are the same.
# - **KD** has no such trend: it stays around zero, within its spread. But the spread at 8 is many times what there is to
#   see, and it takes 256 images until all half copied draws lie beyond all real ones.
#
# So how few are too few? It depends on the question. nearest-LPIPS tells half copied from real with 8 images, Intra-LPIPS
# with 16, FD for good from 64 on, KD with 256.
#
# ## Exercise: an error from one set of samples
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# We could make as many draws as we liked. Usually there is one set of samples and one number. How much would it change
# with other samples? Take the number of a random *half* of them, many times, and look how it varies:
#
# $$\mathrm{SE}(s) \approx \operatorname*{std}_{h}\; s(\text{half } h), \qquad h \text{ drawn without replacement} \tag{7.8}$$
#
# No factor is needed. A half varies more than the whole, by √2 for a mean; but halves of the same set share images,
# and vary less among themselves than fresh ones would, by the same √2. (The bootstrap, which draws *with*
# replacement, is no good here: a sample drawn twice would look like a collapsed model.)
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
# <details><summary>Solution</summary>
#
# `checks.solution("half_sample_error")` in a new cell.
# </details>
#
# Does it work? For real images we know the answer: the spread over sets that share nothing. Beside it, the error
# guessed from the first set of each draw alone.

# %%
from functools import partial

for n in (num_images // 2, num_images, 2 * num_images):
    for name, statistic in STATISTICS.items():
        found = torch.tensor([statistic(m, part) for m in blocks for part in sets_of(n)])
        guessed = torch.tensor([metrics.half_sample_error(partial(statistic, m), n, repeats) for m in blocks])
        print(f"{n:4d} images, {name:<13} true {found.std():.4f} over {len(found):2d} sets; guessed {guessed.mean():.4f} "
              f"({guessed.min():.4f} to {guessed.max():.4f}), {guessed.mean() / found.std():.1f} times as much")

# %% [markdown]
# For **nearest-LPIPS** it works: 0.8 to 0.9 times the truth, from a single set. It is a mean over samples, and for those
# the rule was made.
#
# For the others it is too cautious. Intra-LPIPS: 1.6 times. FD and KD: about twice. The rule expects a spread that falls
# as $1/\sqrt n$. FD's falls faster: 0.087, 0.042, 0.021, half for each doubling, so halves of a set say too much. In
# Intra-LPIPS, groups get smaller in a half, and some vanish.
#
# So take an error from halves for what it is: an upper estimate. A difference of several such errors will hold with other
# samples. It says nothing about other *training* seeds; those have to be run.
#
# ## Another backbone, another size: another number
#
# The same images, seen by another network or enlarged. CDC's script uses VGG at 256×256.

# %%
m, index = measured[0]
shown, n = ("real", "the ten, moved", "source", "blurred", "noise"), num_images // 2
few = torch.cat([images[index[name][:n]] for name in shown] + [ten.images])
for backbone, size in (("st-alex", 64), ("st-alex", 128), ("st-vgg", 64)):
    print(f"{backbone} at {size}×{size}")
    seen = Measured(metrics.lpips_matrix(F.interpolate(few, size=size, mode="bilinear"), backbone=backbone), None, None, None)
    for k, name in enumerate(shown):
        chosen = torch.arange(k * n, (k + 1) * n)
        error = metrics.half_sample_error(lambda half, seen=seen, chosen=chosen: intra(seen, chosen[half]), n, repeats)
        nearest = distances(seen, chosen)[0].min(1).values.mean()
        print(f"  {name:<18} Intra-LPIPS {intra(seen, chosen):.3f} ± {error:.3f}, nearest-LPIPS {nearest:.3f}")

# %% [markdown]
# The same 32 real images score 0.289, 0.460 and 0.427. Neither instrument is wrong. But one table must not hold two.
#
# Worse: the *order* does not hold. AlexNet at 64×64 finds the source more diverse than real images, 0.404 against 0.289.
# At 128×128 the two do not differ by more than their errors. VGG finds the source, if anything, less diverse: 0.370
# against 0.427. So a claim "more diverse than" belongs to an instrument too. The paper's 0.604 for `FFHQ → Sunglasses` is a
# third one: VGG at 256×256, on photographs.
#
# And at most 50 random members of a group, as in CDC's script?

# %%
to_ten, within = distances(blocks[0], torch.arange(num_real))
for most in (None, 50, 10):
    found = [metrics.intra_from_distances(to_ten, within, most, seed) for seed in range(5)]
    values = torch.tensor([f.mean for f in found])
    print(f"{'all' if most is None else f'at most {most}':<11} members: Intra-LPIPS {values.mean():.4f}, "
          f"{values.min():.4f} to {values.max():.4f} over five seeds; groups of {min(found[0].sizes)} to {max(found[0].sizes)}")

# %% [markdown]
# The limit of 50 changes nothing that matters: 0.3127 instead of 0.3130. A limit of 10 adds the luck of the draw. The
# sizes of the groups are the larger surprise. One training image is the nearest to 133 of 400 real images, another to 2,
# and in the mean over groups both count the same. That is one reason why Intra-LPIPS is noisy.
#
# ## The course's own results, beside real images
#
# Now that we know what a number is worth: the committed table (`make results`), 64 samples a row, mean ± standard deviation over
# training seeds. "Told" names what lies outside the band of thirty sets of real images, or, for FD, above twice the real row's.

# %%
from dslib.study import tables

table = tables.load_table(env.data_dir() / "results" / "table.csv")
COLUMNS = {"Intra-LPIPS": "intra_lpips", "nearest-LPIPS": "nearest_lpips", "domain hit": "domain_hit"}
for row in (row for row in table if row["target"] == target):
    if row["images"].startswith("real"):
        real_fd = row["fd"]
    told = [metric for metric, key in COLUMNS.items() if abs(metrics.against_real(row[key], *band[metric])) > 1]
    told += ["FD"] if row["fd"] > 2 * real_fd else []
    cells = [f"{metric} {row[key]:.3f} ± {row[f'{key}_std'] or 0:.3f}" for metric, key in (COLUMNS | {"FD": "fd"}).items()]
    print(f"{row['images']:<15} {row['steps']} steps, {row['seeds']} seeds: " + ", ".join(cells))
    print(f"{'':<15} told from real images by: {', '.join(told) or 'none of the four'}")

# %%
for name in dict.fromkeys(row["target"] for row in table):
    real_row, *others = [row for row in table if row["target"] == name]
    for row in others:
        intra_off, near_off = (row[key] - real_row[key] for key in ("intra_lpips", "nearest_lpips"))
        print(f"{name:<12} {row['images']:<13} {row['steps']} steps, {row['seeds']} seeds: off real by Intra-LPIPS {intra_off:+.3f}, "
              f"nearest-LPIPS {near_off:+.3f}; FD × {row['fd'] / real_row['fd']:5.1f}; domain hit {row['domain_hit']:.0%}")

# %% [markdown]
# Two scores call DomainStudio's samples real after 600 steps: Intra-LPIPS and nearest-LPIPS. Naive fine-tuning's fail the second by being
# too near the ten (0.234, where real images reach down to 0.239). But FD and the domain hit tell both from real images, and by much: an FD
# seven times the real one. Adapted models do not draw like the artist yet, and no amount of diversity hides that.
#
# And the spread: ± 0.02 in Intra-LPIPS over five seeds, where the two methods are 0.015 apart. With three seeds DomainStudio was the nearer
# one to real images (0.301 against 0.298); with five its mean is 0.311, and naive fine-tuning's 0.295. Two more runs have turned the
# order round. In Intra-LPIPS nobody has won.
#
# On the other domains, three seeds or five and half the steps, naive fine-tuning is nearer to real images in FD and hits throughout,
# on `adventurers` by less in FD than the seeds differ.
#
# ## Did it come out as expected?

# %%
real = means["real, held out"]
_ = checks.check_expected("07", rt, real_intra=real["Intra-LPIPS"], real_nearest=real["nearest-LPIPS"],
                          blurred_fd=means["blurred"]["FD"], one_skin_bits=means["one skin colour"]["bits"],
                          nothing_good_intra=sum(found["Intra-LPIPS"] for found in worst) / num_draws)

# %% [markdown]
# ## Play
#
# Mix your own model. The sliders set how much of each kind goes in; the strips show where each score lies beside real
# images (grey). Nothing is measured anew: only indices move. Can you find a mixture that is clearly bad, and that
# Intra-LPIPS and nearest-LPIPS both call real? One that only a single metric tells?

# %%
from dslib.show import widgets

kinds = {"real": index["real"], "copied": index["the ten, copied"]} | {name: index[name] for name in ("source", "blurred", "noise")}
widgets.explore_mixture(images, kinds, lambda chosen: score(m, chosen), band, real=75, source=15, blurred=10)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | `UserError: no target has two of the … samples` | fewer samples than training images | more samples |
# | `UserError: precision and recall look at 3 neighbours` | sets of three images or fewer | more samples |
# | FD is better in the run with more samples | its bias shrinks with their number | as many samples in every row |
# | KD is negative | it is unbiased, so it lies on both sides of zero | read it as zero, with its error |
# | noise is "100 % sunglasses" | a probe has two sides, and noise lies on one | read FD or precision beside it |
# | `UserError: no factor of … can be read` | too few images, or `trust` too high | more images for the probe |
# | numbers unlike another table's | another backbone, size or number of images | compare only rows of one table |
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
# | (7.8) | `metrics.half_sample_error` | `test_metrics.py::test_half_sample_error_is_the_standard_error_of_a_mean` |
#
# ## Paper, authors' code, ours
#
# | point | paper | reference code | here |
# |---|---|---|---|
# | backbone and size of LPIPS | LPIPS | CDC's script: VGG at 256×256 | shift-tolerant AlexNet at 64×64 |
# | members of a group | all of 1000 samples | at most 50, chosen at random | all; `most=50` for theirs |
# | pairs | – | a loop, pictures read from disk | one matrix product |
# | samples | 1000 | – | 64 a set; a thousand in chapter 08 |
# | the ± | over the groups | over the groups | over draws, or from halves |
# | direction of Intra-LPIPS | higher is better | – | as real images of the domain |
# | cloud | FID | – | FD of pooled AlexNet features: no FID |
# | variety counted | – | – | factors read by a probe, in bits |
#
# ## Check yourself
#
# 1. A paper reports a higher Intra-LPIPS than the best method before. What else do you want to see?
#    <details><summary>Answer</summary>Real held-out images by the same script; something that asks about the domain or the
#    cloud; the number of samples and an error. Blur, or one noise in ten, raises the score as well.</details>
# 2. Why does Intra-LPIPS of pure noise lie near zero, though no two noises share a pixel?
#    <details><summary>Answer</summary>LPIPS compares features of a classifier, here averaged so that small shifts do not
#    count. To it, noise is one texture.</details>
# 3. Two models have an FD of 0.5 and 0.9; the first was measured with 400 samples, the second with 32. Which is better?
#    <details><summary>Answer</summary>Nobody can tell: real images themselves score 0.06 and 0.41 at these numbers. Measure
#    both with 32.</details>
# 4. The domain hit is 100 % and nearest-LPIPS is that of real images. What may still be wrong?
#    <details><summary>Answer</summary>Variety: a whole factor may be missing. The set with one skin colour scores just
#    so. Add a metric that counts.</details>
# 5. Open: with hair style read well, how many bits would the set with one hair style lose? What would you have to change in
#    `factors.factor_probe` to read it?
# 6. Project: take your own adapted model (chapter 06), 64 samples and three training seeds, and put its row on the scorecard.
#    Which is larger, the error from halves or the spread over seeds?

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("07")

# %% [markdown]
# ## In this notebook we have
#
# - computed LPIPS pair by pair, and as one matrix product;
# - made eleven faulty sets, and seen each metric miss some of them;
# - counted variety in bits, where a probe can read it;
# - found three metrics that together see all eleven, and a mixture that passes two others with nothing good in it;
# - measured how many samples each metric needs, and put an error on one set of samples;
# - changed the backbone and the size, and seen that the order of two sets need not hold.
#
# **Next:** chapter 08, ablations: what each choice is worth, measured with these tools.
#
# **Read on:** [LPIPS](https://arxiv.org/abs/1801.03924) · [CDC](https://arxiv.org/abs/2104.06820), Intra-LPIPS ·
# [KID](https://arxiv.org/abs/1801.01401) · [Improved precision and recall](https://arxiv.org/abs/1904.06991) ·
# [Effectively unbiased FID](https://arxiv.org/abs/1911.07023), on the bias · [DomainStudio](https://arxiv.org/abs/2306.14153)
