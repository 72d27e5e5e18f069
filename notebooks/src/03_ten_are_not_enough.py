# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Ten images are not enough: memorisation
#
# **Claim.**
# - The denoising loss on ten images *asks for copies*: its exact minimum draws the ten and nothing else.
# - Naive fine-tuning walks that way: you will see samples turn into training images.
# - Real held-out images decide how near is too near. Controls: the source, other noise, the true answer, the exact
#   minimum.
#
# | | |
# |---|---|
# | Read / run | 21 min, exercises 30 min more / 2 min, tier `cpu`; one seed |
# | Device | a CPU |
# | Needs | chapters 00 to 02 |
# | Paper | DomainStudio §1, L_simple alone; Intra-LPIPS is from CDC |
# | `dslib` files | `study/memorisation.py`, `intra_lpips` and `copy_rate` in `metrics.py` |
# | You will keep | a memorisation check that knows what real images score |
#
# **You will**
# - draw with the exact minimum of the loss on ten images;
# - fine-tune the source, and watch samples become copies;
# - decide how near is too near;
# - measure Intra-LPIPS, and see why higher is not better.

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
target = "engraved"      # also: gouache; sunglasses, sketches, portraits, adventurers, robots (no true answer)
saved_at = rt.pick(smoke=[1, 2], cpu=[50, 100, 150, 200], colab=[75, 150, 300, 600])      # samples are drawn after these steps
num_images = rt.pick(smoke=4, cpu=24, colab=64)                          # in every row that is compared
inference_steps = rt.pick(smoke=2, cpu=20)
num_held_out = rt.pick(smoke=24, cpu=192, colab=256)                     # real images, in sets as large as the samples

# %% [markdown]
# ## Where we are going
#
# *Engraved* is a domain with a known answer: the source's people in another style. Row 1 is all that we train on. A good model
# turns row 2 into row 3: the same person, the new style.

# %%
from dslib import checks, data, models
from dslib.show import hero, plots

ten = data.load_domain(target, "ten").images
people = data.load_domain(data.SOURCE, "test", 10).images
known = {"true answer": data.twin(people, target)} if target in data.TWINS else {}
plots.show(plots.rows({"the ten": ten, "source's people": people} | known),
           alt="The ten engraved training images; ten other people as the source knows them; the same people, engraved.")

# %% [markdown]
# ## The mental model: the loss asks for copies
#
# L_simple is smallest where the guess is the *mean of all training images that could have led to* $x_t$. With ten
# images $x^1 \dots x^{10}$ it can be written down. Each is weighted by how probably it led to $x_t$:
#
# $$\tilde x_0^\star(x_t, t) = \sum_k w_k\, x^k, \qquad
# w = \mathrm{softmax}_k\!\left(-\frac{\lVert x_t - \sqrt{\bar\alpha_t}\,x^k\rVert^2}{2\,(1-\bar\alpha_t)}\right) \tag{3.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $x^k$ | the training images | (K,3,R,R) | `images` |
# | $w_k$ | how probable it is that $x_t$ is image k, noised | (N,K) | `weight` |
# | $\tilde x_0^\star$ | the best possible guess, for the loss | (N,3,R,R) | `x_0` |
# | $d_k$ | LPIPS distance of a sample to training image k | (N,K) | `distances_to_targets` |
# | $d(i,j)$ | LPIPS distance of two samples | (N,N) | `distances_within` |
# | $n_g$ | samples whose nearest training image is $g$ | | |
#
# ## The naive version: the exact minimum
#
# No training, and a loss that no network can beat. Like our source it answers $v$ (chapter 02).

# %%
from types import SimpleNamespace

import torch

from dslib import sample

source = models.load_source()
a_bar = source.scheduler.alphas_cumprod


class Copyist(torch.nn.Module):
    """The exact minimum of L_simple on images (K,3,R,R), told as the velocity v = √ᾱ·ε − √(1−ᾱ)·x_0."""

    def __init__(self, images):
        super().__init__()
        self.images = torch.nn.Parameter(images, requires_grad=False)

    def forward(self, x_t, t):
        a, known = a_bar[t], self.images.flatten(1)                                            # one t for the batch
        gap = (x_t.flatten(1)[:, None] - a.sqrt() * known[None]).square().sum(2)               # (N, K)
        weight = torch.softmax(-gap / (2 * (1 - a)), dim=1)                                    # (N, K)
        x_0 = (weight @ known).view_as(x_t)                                                    # (N, 3, R, R)
        return SimpleNamespace(sample=(a.sqrt() * x_t - x_0) / (1 - a).sqrt())

# %%
size = source.unet.config.sample_size
noise = sample.start_noise(num_images, size, seed=rt.seed)


def draw(unet, noise=noise):
    return sample.sample(unet, source.scheduler, noise, inference_steps, "dpmsolver")


copies = draw(Copyist(ten))
plots.show(plots.rows({"the ten": ten, "drawn by the exact minimum": copies}),
           alt="Top: the ten training images. Bottom: ten samples of the loss's exact minimum; each is one of the ten.")

# %% [markdown]
# Fresh noise goes in, one of the ten comes out. Memorisation is no accident: it is where training *goes*. A network is
# smoother, starts elsewhere, and stops early.
#
# ## Fine-tune the source
#
# Naive fine-tuning, the ten in every batch, at twice the library's learning rate: copies come sooner than in the README's table. After
# some steps we draw, *always from the same* start noise.

# %% tags=["nbval-ignore-output"]
import time

from tqdm.auto import tqdm

from dslib import train

began, saved, history = time.time(), {0: draw(source.unet)}, []
config = train.TrainConfig(method="finetune", max_train_steps=saved_at[-1], learning_rate=1e-3, seed=rt.seed)
for record in tqdm(train.adapt(source, ten, config), total=saved_at[-1], desc="finetune"):
    history.append(float(record.terms["simple"]))
    if record.step in saved_at:
        saved[record.step] = draw(record.averaged())
print(f"{saved_at[-1]} steps, and samples after {saved_at}, in {time.time() - began:.0f} s")

# %% [markdown]
# ## The loss does not tell

# %%
plots.show(plots.losses({"finetune": {"simple": history}}), alt="Denoising loss of naive fine-tuning against the step, log scale.")

# %% [markdown]
# Thin: each step. Bold: averaged. It falls, as a loss should. Nothing in it says where learning the style ends and memory begins. So
# follow six noises, a column each:

# %%
from dslib import metrics

followed = {f"{step} steps": drawn[:6] for step, drawn in saved.items()}
followed["nearest of the ten"] = ten[metrics.lpips_matrix(saved[saved_at[-1]][:6], ten).argmin(1)]
plots.show(plots.rows(followed, columns=6),
           alt="Six noises, a column each, drawn after each stop; last row: the training image nearest to the last samples.")

# %% [markdown]
# At the first stop, 50 steps, all wear the new style, and some a moustache, fringe or dungarees of the ten. Later whole faces follow.
#
# ## How near is too near? Ask real images
#
# Chapter 00's `nearest` finds the nearest training image by pixels. **LPIPS** compares what a small classifier sees, layer by layer.
# (Ours is shift-tolerant: a face two pixels to the left is nearly the same.)
#
# *Some* training image is always the nearest. Unseen real images are no copies, yet some lie near the ten by chance. Take the
# distance that only 5 % of them fall below. A sample nearer than that is *suspicious*.
#
# ## Exercise: the copy rate
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `copy_rate(nearest_samples, nearest_real, percentile=5)`: the share of samples nearer to a training image than
# that percentile of the real images. Both arguments are distances to the nearest training image, (N,) and (M,).

# %%
def copy_rate(nearest_samples, nearest_real, percentile=5):
    """Your code here: (N,), (M,) → a share between 0 and 1."""
    return None

# %%
copy_rate = checks.mine("copy_rate")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.quantile` wants 0.05, not 5. The mean of a yes-or-no tensor, as floats, is a share.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("copy_rate")` in a new cell.
# </details>

# %%
nearest = checks.mine("nearest")
held_out = data.load_domain(target, "test", num_held_out)
nearest_real = metrics.nearest_lpips(held_out.images, ten)
print(f"real images: mean distance {nearest_real.mean():.3f}, 5 % are below {torch.quantile(nearest_real, 0.05):.3f}")
for step, drawn in saved.items():
    distance, which = metrics.lpips_matrix(drawn, ten).min(1)                            # (N,), (N,)
    print(f"{step:3d} steps: {copy_rate(distance, nearest_real):4.0%} suspicious, mean distance {distance.mean():.3f}; "
          f"pixels choose the same neighbour for {(which == nearest(drawn, ten)).float().mean():.0%}")

# %% [markdown]
# A rate far above 5 % is copying. With 24 samples it is coarse: 12 % are three of them, and sets of 24 real images have up to two (the
# table below). A rate of 0 % is no medal: at step 0 the samples are far from the *domain*. Pixels often choose another neighbour:
# backgrounds decide there.
#
# ## The signature figure: the worst of each stop
#
# For every stop the ten samples *nearest* to a training image, of all 24, nearest first: so columns are not the same noise. Below each,
# small, that training image. A red frame says *suspicious*.

# %%
from dslib.base.statistics import copied


def shown(images):
    """The row of the gallery, sorted by the distance to the ten."""
    distance, which = metrics.lpips_matrix(images, ten).min(1)
    order = distance.argsort()
    near = copied(distance, nearest_real)
    return hero.Shown(images[order], which[order], near[order], f"{near.float().mean():.0%} of all {len(images)}\nsuspicious")


gallery = {"real, held out": shown(held_out.images[:num_images])} | {f"{step} steps": shown(drawn) for step, drawn in saved.items()}
plots.show(hero.figure(ten, gallery), dpi=70,
           alt="The ten; then real images and the samples at each stop, nearest first, each above its nearest training image; "
               "red frames mark those nearer than 95 % of real images are.")

# %% [markdown]
# Read downwards. After 50 steps the style is there, faces grow alike, and some parts are borrowed. Later some samples nearly
# are the small picture. Others put together hair of one and clothes of another of the ten. Real images have near neighbours, too: a frame
# is a suspicion, the picture decides.
#
# ## Exercise: Intra-LPIPS by hand
#
# *Difficulty ●●○ · importance ●●● · 20 minutes*
#
# A model that draws the ten also repeats *itself*. **Intra-LPIPS** sends each sample to its nearest training image,
# takes the mean distance of two samples inside each group, and then the mean over groups:
#
# $$\text{Intra-LPIPS} = \frac{1}{|G|}\sum_{g \in G} \frac{1}{n_g(n_g-1)} \sum_{i \ne j \in g} d(i, j),
# \qquad G = \{\text{groups with } n_g \ge 2\} \tag{3.2}$$
#
# Write `intra_lpips_by_hand(distances_to_targets, distances_within)` from two matrices: samples to training images
# (N,K), and samples to samples (N,N), whose diagonal is zero. At least one group has two members.

# %%
def intra_lpips_by_hand(distances_to_targets, distances_within):
    """Your code here: (N,K), (N,N) → float."""
    return None

# %%
intra_lpips_by_hand = checks.mine("intra_lpips_by_hand")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `member = distances_to_targets.argmin(1) == k` chooses a group, `distances_within[member][:, member]` is its matrix. Its
# sum holds every pair twice and a zero diagonal: divide by n·(n−1). A group of one has no pair: skip it.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("intra_lpips_by_hand")` in a new cell.
# </details>
#
# ## Now import it
#
# The same as the library's, on real images:

# %% tags=["nbval-check-output"]
to_the_ten, within = metrics.lpips_matrix(held_out.images, ten), metrics.lpips_matrix(held_out.images)
by_hand = intra_lpips_by_hand(to_the_ten, within)
bool(abs(by_hand - metrics.intra_lpips(held_out.images, ten).mean) < 1e-4)

# %% [markdown]
# ## Why "higher is better" is wrong
#
# Papers print an arrow beside Intra-LPIPS: ↑. Look at all controls first. Every row has 24 images; the real row is the mean of sets of
# 24. *Source, other noise* shows what luck alone changes. *Noise* is the start noise itself.

# %%
from dslib.study import memorisation

last = saved_at[-1]
compared = {"source": saved[0], "source, other noise": draw(source.unet, sample.start_noise(num_images, size, seed=1)),
            f"finetune, {last} steps": saved[last], "the exact minimum": copies, "noise": noise.clamp(-1, 1)}
if target in data.TWINS:
    compared["true answer"] = data.twin(saved[0], target)                    # the source's samples, by the other hand
scores = {name: memorisation.score(images, ten, nearest_real) for name, images in compared.items()}
real_sets = [memorisation.score(part, ten, nearest_real) for part in held_out.images.split(num_images) if len(part) == num_images]
scores["real, held out"] = {key: sum(s[key] or 0 for s in real_sets) / len(real_sets) for key in ("nearest", "intra", "copies", "covered")}
print(f"{num_images} images a row{'':<10} nearest-LPIPS  Intra-LPIPS  suspicious  of the ten in use")
for name, s in scores.items():
    intra = "–" if s["intra"] is None else f"{s['intra']:.3f}"
    print(f"{name:<26} {s['nearest']:13.3f}  {intra:>11}  {s['copies']:10.0%}  {s['covered']:17.1f}")
for key in ("nearest", "intra", "copies"):
    values = [s[key] or 0.0 for s in real_sets]
    print(f"{len(real_sets)} sets of real images, {key}: {min(values):.3f} to {max(values):.3f}")

# %% [markdown]
# - The **exact minimum** is all copies. Yet it uses most of the ten: counting them would not have caught it.
# - The **source** was never adapted, and scores highest. By the arrow, we would not train at all.
# - **Noise** scores low, though nothing is repeated: to LPIPS one noise is like another.
# - **Real images** say what is right; the **true answer** lies in their range, or near its end. Read "how far from these", not "how high".
#
# ## Memorisation against training steps

# %%
steps, curve = list(saved), [memorisation.score(images, ten, nearest_real) for images in saved.values()]


def against_steps(key):
    """Named lines for ``plots.curves``: one training run, and the sets of real images as a band."""
    real = torch.tensor([[s[key] or 0.0] for s in real_sets]).expand(-1, len(steps))
    return {"fine-tuned": torch.tensor([[s[key] or 0.0 for s in curve]]), "real, held out": real}


for key, label in {"nearest": "LPIPS to the nearest training image", "copies": "share of suspicious samples"}.items():
    plots.show(plots.curves(torch.tensor(steps), against_steps(key), "fine-tuning step", label),
               alt=f"{label} against the step: the fine-tuned model, and a flat band over sets of real images.")
for step, s in zip(steps, curve):
    real = [r["nearest"] for r in real_sets]
    where = "below" if s["nearest"] < min(real) else "above" if s["nearest"] > max(real) else "within"
    print(f"step {step:3d}: nearest-LPIPS {s['nearest']:.3f}, {where} the real sets' band {min(real):.3f} to {max(real):.3f}")

# %% [markdown]
# The first curve starts *above* the band: the source is another domain. It falls because the domain is learned. Below the
# band, samples are nearer to the ten than fresh images are. Their mean falls below first, as faces grow alike; single copies follow.
# Report both. (Band: lowest to highest of the sets of real images.)
#
# Here every image is seen once a step, 200 times in all. The paper trains 3000 to 5000 steps with batches of 24 to 48: each of its ten is
# seen thousands of times.
#
# ## What is lost, counted
#
# Our faces are drawn by a program, so we know every choice. How many values of each factor do the ten hold?

# %%
labels_of_ten = data.load_domain(target, "ten").labels
print(f"{'':<16} in the ten   in {len(held_out.labels)} held-out   held-out images whose value the ten have")
factors = ("top", "hair", "head", "hairColor", "skinColor", "mouth", "backgroundColor")
for factor in [f for f in factors if any(f in label for label in held_out.labels)]:
    values = {label[factor] for label in labels_of_ten if factor in label}
    present = [label[factor] for label in held_out.labels if factor in label]
    share = sum(value in values for value in present) / len(present)
    print(f"{factor:<16} {len(values):10d}   {len(set(present)):15d}   {share:10.0%}")

# %% [markdown]
# A model that only copies cannot cover more than this. A good adaptation takes the rest from the *source*, which has seen them all. What
# fine-tuning forgets, nothing in the ten can bring back.

# %%
_ = checks.check_expected(
    "03", rt, real_nearest=float(nearest_real.mean()), finetune_nearest=curve[-1]["nearest"],
    minimum_nearest=scores["the exact minimum"]["nearest"], suspicious_at_the_end=curve[-1]["copies"])

# %% [markdown]
# ## Play
#
# Move the step: the same ten noises, each sample above its nearest training image. In which column does a person of
# the source turn into one of the ten? Switch to `pixels` and see the neighbour change.

# %%
from dslib.show import widgets

widgets.explore_memorisation({"finetune": saved, "the exact minimum": {last: copies}}, ten)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | after 50 steps still the source's faces | averaged weights lag behind | more steps, or sample `record.model` |
# | `UserError: no target has two of the … samples` | too few for Intra-LPIPS | more samples than training images |
# | "5 % of the real images are copies!" | that is how the threshold is defined | compare with 5 %, not with 0 % |
# | 0 % suspicious, bad pictures | far from the domain | read the domain hit beside it (chapter 07) |
# | numbers unlike a paper's | another backbone, resolution or number of samples | compare rows of one table |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (3.1) | `Copyist`, in this notebook | `test_chapters.py::test_no_other_guess_beats_the_copyist` |
# | (3.2) | `metrics.intra_lpips` | `test_metrics.py::test_intra_lpips_against_loops` |
#
# ## Paper, authors' code, ours
#
# | point | paper | reference code | here |
# |---|---|---|---|
# | backbone of Intra-LPIPS | LPIPS | CDC's script: VGG at 256×256 | shift-tolerant AlexNet at 64×64 |
# | members of a group | all of 1000 samples | at most 50, at random | all |
# | direction | higher is better | – | as real images |
# | how often each of the ten is seen | thousands of times | – | once a step |
# | nearest training image | – | – | below every sample; a threshold from real images |
#
# ## Check yourself
#
# 1. The exact minimum is known and costs nothing. Why train networks at all?
#    <details><summary>Answer</summary>A network misses that minimum. Between the training images it draws something new:
#    on thousands of images that is generalisation.</details>
# 2. Two methods have the Intra-LPIPS of real images. One has nearest-LPIPS far below real images, the other equal. Which one
#    would you use?
#    <details><summary>Answer</summary>The second. The first may draw variations around the ten.</details>
# 3. Why do the real images come in sets as large as the samples?
#    <details><summary>Answer</summary>Their band shows how much so few images vary by chance.</details>
# 4. A sample is a mirror image of a training image. What do pixels say, and LPIPS?
#    <details><summary>Answer</summary>Try <code>metrics.lpips_matrix(ten.flip(-1), ten)</code>. On photographs both may miss
#    it: add the flipped ten.</details>
# 5. Open: what would happen to the rate of an honest generator with 100 training images instead of ten?
# 6. Project: `memorisation.memorisation(…, method="domainstudio")` follows DomainStudio over steps. Where does its curve
#    meet the band? Use three seeds.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("03")

# %% [markdown]
# ## In this notebook we have
#
# - drawn with the exact minimum of the loss, and got the ten back;
# - fine-tuned the source, and watched samples become copies and mixtures of the ten;
# - asked real images how near is too near;
# - written `copy_rate` and Intra-LPIPS.
#
# **Next:** chapter 04 builds the loss that holds on to the source's diversity: who resembles whom.
#
# **Read on:** [CDC](https://arxiv.org/abs/2104.06820), Intra-LPIPS · [LPIPS](https://arxiv.org/abs/1801.03924) ·
# [DomainStudio](https://arxiv.org/abs/2306.14153) · [Extracting training data from diffusion
# models](https://arxiv.org/abs/2301.13188)
