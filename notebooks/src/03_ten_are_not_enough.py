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
# **Claim.** By the end you will have shown that the usual denoising loss on ten images *asks for copies*: its exact
# minimum draws the ten and nothing else. Trained from scratch, a network cannot even draw faces in the time we give
# it. Fine-tuning draws faces from the first step, and then walks towards the ten: the distance to the nearest
# training image falls below what real images of the domain have, and Intra-LPIPS falls with it. The evidence is
# both numbers against the training step, over three seeds. The controls: real held-out images, a second batch of the
# source's samples, and a machine that does nothing but copy.
#
# | | |
# |---|---|
# | Read / run | 40 min / 3 min on two CPU cores; the long study is loaded (11 min to run it) |
# | Device | a laptop CPU is enough |
# | Needs | chapters 00 to 02 |
# | Paper | DomainStudio §1, L_simple alone; Intra-LPIPS is from CDC |
# | `dslib` files | `study/memorisation.py`, `intra_lpips` and `copy_rate` in `metrics.py` |
# | You will keep | a memorisation check that knows what real images score |
#
# **You will**
# - write down the exact minimum of the loss on ten images, and draw with it;
# - train ten images from scratch, and fine-tune the source on them;
# - put the nearest training image beside every sample, and decide how near is too near;
# - measure Intra-LPIPS by hand, and see why higher is not better;
# - follow both over 600 steps and three seeds, and count what is lost.

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
target = "sunglasses"      # also: sketches, portraits, adventurers, robots (the long study then runs anew, 11 min)
saved_at = rt.pick(smoke=[1, 2], cpu=[50, 100, 150])                     # live: both runs are looked at here
num_images = rt.pick(smoke=4, cpu=32)
inference_steps = rt.pick(smoke=2, cpu=20)
num_held_out = rt.pick(smoke=24, cpu=192)                                # real images, six sets as large as the samples
seeds = rt.pick(smoke=[0], cpu=[0, 1, 2])                                # of the long study
steps_at = rt.pick(smoke=[0, 1, 2], cpu=[0, 75, 150, 300, 450, 600])

# %% [markdown]
# ## Where we are going
#
# A committed result, 600 steps (`dslib adapt --target sunglasses --compare_finetune`). Cover the top row and look at
# `finetune`: which hats, hair and mouths have you seen before?

# %%
from dslib import data, models
from dslib.show import plots

plots.show(env.data_dir() / "results" / "demo" / "samples.png",
           alt="Rows: the ten training images, source, naive fine-tuning, DomainStudio; a column is one noise.")

# %% [markdown]
# A part of what you see is *adaptation* (everybody wears sunglasses) and a part is *memory* (the headscarf, the
# turban). The loss does not know the difference. This chapter measures it.
#
# ## The mental model: the loss asks for copies
#
# L_simple is smallest where the predicted clean image is the *mean of all training images that could have led to*
# $x_t$. With only ten images $x^1 \dots x^{10}$ that mean can be written down. Each image counts as much as it
# explains $x_t$:
#
# $$\tilde x_0^\star(x_t, t) = \sum_k w_k\, x^k, \qquad
# w = \mathrm{softmax}_k\!\left(-\frac{\lVert x_t - \sqrt{\bar\alpha_t}\,x^k\rVert^2}{2\,(1-\bar\alpha_t)}\right) \tag{3.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $x^k$ | the training images | (K,3,R,R) | `images` |
# | $w_k$ | how probable it is that $x_t$ is image k, noised | (N,K) | `weight` |
# | $\tilde x_0^\star$ | the best possible guess, for the loss | (N,3,R,R) | `x_0` |
# | $d_k$ | distance of a sample to training image k | (N,K) | `distances` |
# | $d(i,j)$ | distance of two samples, here LPIPS | (N,N) | `distances_within` |
# | $n_g$ | samples whose nearest training image is $g$ | | |
#
# ## The naive version: the perfect student
#
# Twelve lines, no training, a loss that no network can beat. It has the interface of a U-Net, so our sampler takes
# it.

# %%
from types import SimpleNamespace

import torch

from dslib import sample

source = models.load_source()
ten = data.load_domain(target, "ten")
a_bar = source.scheduler.alphas_cumprod


class Copyist(torch.nn.Module):
    """The exact minimum of L_simple on images (K,3,R,R), told as the noise that it predicts."""

    def __init__(self, images):
        super().__init__()
        self.images = torch.nn.Parameter(images, requires_grad=False)

    def forward(self, x_t, t):
        a, known = a_bar[t], self.images.flatten(1)                                            # one t for the batch
        gap = (x_t.flatten(1)[:, None] - a.sqrt() * known[None]).square().sum(2)               # (N, K)
        weight = torch.softmax(-gap / (2 * (1 - a)), dim=1)                                    # (N, K)
        x_0 = (weight @ known).view_as(x_t)                                                    # (N, 3, R, R)
        return SimpleNamespace(sample=(x_t - a.sqrt() * x_0) / (1 - a).sqrt())

# %%
size = source.unet.config.sample_size
noise = sample.start_noise(num_images, size, seed=rt.seed)
copied = sample.sample(Copyist(ten.images), source.scheduler, noise, inference_steps)
plots.show(plots.rows({"the ten": ten.images, "drawn by the minimum": copied}),
           alt="Top: the ten training images. Bottom: ten samples of the loss's exact minimum; each is one of the ten.")

# %% [markdown]
# Fresh noise goes in, and one of the ten comes out, sharp and complete. So memorisation is no accident of training:
# it is where training *goes*. What saves us is that a network does not get there: it is too smooth, it starts
# elsewhere, and we stop early. DomainStudio's losses (chapters 04 to 06) give it a better reason to stay away.
#
# ## Train twice: from scratch, and from the source
#
# The same ten images, the same noise at every step. One run starts from random weights, the other from the source's.
# After some steps we stop for a moment and draw from *always the same* start noise.

# %% tags=["nbval-ignore-output"]
import time

from tqdm.auto import tqdm

from dslib import train

saved = {"finetune": {0: sample.sample(source.unet, source.scheduler, noise, inference_steps)}, "scratch": {}}
history = {}
for method, kept in saved.items():
    began, history[method] = time.time(), {"simple": []}
    config = train.TrainConfig(method=method, max_train_steps=saved_at[-1], seed=rt.seed)
    for record in tqdm(train.adapt(source, ten.images, config), total=saved_at[-1], desc=method):
        history[method]["simple"].append(float(record.terms["simple"]))
        if record.step in saved_at:
            kept[record.step] = sample.sample(record.averaged(), source.scheduler, noise, inference_steps)
    print(f"{method}: {saved_at[-1]} steps, and samples after {saved_at}, in {time.time() - began:.0f} s")

# %%
last = saved_at[-1]
plots.show(plots.rows({"source": saved["finetune"][0], f"finetune, {last}": saved["finetune"][last],
                       f"scratch, {last}": saved["scratch"][last]}),
           alt="Rows: source, finetune and scratch after the last live step; a column is one start noise.")

# %% [markdown]
# Read it by columns: one noise, three models. **Scratch** has seen ten faces and nothing else, and after these few
# steps it draws noise: its loss is still several times that of the other. **Finetune** starts with all that the source knows about
# faces, so it needs to learn only what is new. Most of its people still are the source's, now with sunglasses; here
# and there one of the ten has already taken over.
#
# ## The loss does not tell

# %%
plots.show(plots.losses(history), alt="Denoising loss of finetune and scratch against the step, log scale.")

# %% [markdown]
# Scratch falls as curves do. Finetune starts low and ends no lower than it began. Its hills are mostly luck: a batch with a $t$
# near 0 has a high loss whatever the model (chapter 06 shows the same hills for a model that never trains). From its curve you
# would say that nothing was learned; the pictures above say otherwise. Neither curve says
# "memorised". We have to look at the samples.
#
# ## The nearest training image beside every sample
#
# You wrote `nearest` in chapter 00: the training image with the smallest pixel difference. **LPIPS** compares what a
# network sees instead: the features of a small image classifier, layer by layer. (Ours is shift-tolerant, so that a
# face two pixels to the left is nearly the same face.)

# %%
from dslib import checks, metrics

nearest = checks.mine("nearest")
shown = saved["finetune"][last]
distances = metrics.lpips_matrix(shown, ten.images)                       # (N, K)
by_lpips, by_pixels = distances.argmin(1), nearest(shown, ten.images)
plots.show(plots.rows({"finetune": shown, "nearest by LPIPS": ten.images[by_lpips],
                       "nearest by pixels": ten.images[by_pixels]},
                      labels=[f"{d:.2f}" for d in distances.min(1).values[:10].tolist()]),
           alt="Samples of finetune, each above the training image nearest by LPIPS and the one nearest by pixels.")

# %%
print(f"both distances choose the same image for {(by_lpips == by_pixels).float().mean():.0%} of the samples")
for method in saved:
    found = metrics.lpips_matrix(saved[method][last], ten.images).min(1).values
    print(f"{method:<9} mean distance to the nearest training image {found.mean():.3f}, smallest {found.min():.3f}")

# %% [markdown]
# The number above each sample is its LPIPS to the image below it. Pixels and LPIPS seldom choose the same image (printed
# above). Pixels care most about large areas of colour; LPIPS also cares about shapes, and finds the headscarf under a
# headscarf where pixels do not. Neither is "the" distance.
# Every result of this course names the one it used.
#
# Always look at this figure before you believe a table. But *some* training image is always the nearest. When is it a
# copy?
#
# ## How near is too near? Ask real images
#
# Real images of the domain, which no model has seen, also have a nearest training image, and they copied nobody. Some
# are near by chance. Take the distance that only 5 % of them fall below: a sample nearer than that is *suspicious*,
# and an honest generator has about 5 % of those.
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
held_out = data.load_domain(target, "test", num_held_out)
nearest_real = metrics.nearest_lpips(held_out.images, ten.images)
print(f"real images: mean distance {nearest_real.mean():.3f}, 5 % are below {torch.quantile(nearest_real, 0.05):.3f}")
for step, drawn in saved["finetune"].items():
    rate = copy_rate(metrics.nearest_lpips(drawn, ten.images), nearest_real)
    print(f"finetune, {step:3d} steps: {rate:4.0%} suspicious")

# %% [markdown]
# Compare with the 5 % of real images. A rate far above it is copying; three samples of 32 are 9 %, which sets of 32 *real* images
# reach by chance, so nothing is shown yet. A rate of 0 % is no medal either: the samples
# may be far from the ten because they are far from the *domain*, like the source's at step 0.
#
# ## Exercise: Intra-LPIPS by hand
#
# *Difficulty ●●○ · importance ●●● · 20 minutes*
#
# A model that draws the ten has another symptom: its samples repeat *each other*. **Intra-LPIPS** sends each sample
# to its nearest training image, takes the mean distance between two samples inside each of these groups, and then the
# mean over the groups:
#
# $$\text{Intra-LPIPS} = \frac{1}{|G|}\sum_{g \in G} \frac{1}{n_g(n_g-1)} \sum_{i \ne j \in g} d(i, j),
# \qquad G = \{\text{groups with } n_g \ge 2\} \tag{3.2}$$
#
# Write `intra_lpips_by_hand(distances_to_targets, distances_within)` from two matrices: samples to training images
# (N,K), and samples to samples (N,N), whose diagonal is zero.

# %%
def intra_lpips_by_hand(distances_to_targets, distances_within):
    """Your code here: (N,K), (N,N) → float."""
    return None

# %%
intra_lpips_by_hand = checks.mine("intra_lpips_by_hand")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `member = distances_to_targets.argmin(1) == k` chooses a group; `distances_within[member][:, member]` is its own
# little matrix. Its sum holds every pair twice and the diagonal, which is zero, so divide by n·(n−1). A group of one
# has no pair: skip it.
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
to_the_ten, within = metrics.lpips_matrix(held_out.images, ten.images), metrics.lpips_matrix(held_out.images)
by_hand = intra_lpips_by_hand(to_the_ten, within)
bool(abs(by_hand - metrics.intra_lpips(held_out.images, ten.images).mean) < 1e-4)

# %% [markdown]
# ## Why "higher is better" is wrong
#
# Papers print an arrow beside Intra-LPIPS: ↑. Before you believe it, look at all controls at once. *source, other
# noise* is a second batch of the source's samples: the difference between the two rows is what this many images
# cannot tell apart.

# %%
from dslib.study import memorisation

other_noise = sample.start_noise(num_images, size, seed=1)
compared = {"real, held out": held_out.images, "source": saved["finetune"][0],
            "source, other noise": sample.sample(source.unet, source.scheduler, other_noise, inference_steps),
            "finetune": saved["finetune"][last], "scratch": saved["scratch"][last], "the exact minimum": copied}
scores = {name: memorisation.score(images, ten.images, nearest_real) for name, images in compared.items()}
print(f"{'':<22} nearest-LPIPS  Intra-LPIPS  suspicious  of the ten in use")
for name, s in scores.items():
    intra = "–" if s["intra"] is None else f"{s['intra']:.3f}"
    print(f"{name:<22} {s['nearest']:13.3f}  {intra:>11}  {s['copies']:10.0%}  {s['covered']:17d}")

# %% [markdown]
# - The **exact minimum** has distances of zero everywhere and 100 % suspicious samples. Yet it uses all of the
#   ten, so counting "how many of the ten" would not have caught it.
# - The **source** has a high Intra-LPIPS, and not one of its samples was adapted. Rewarded by the arrow, we would not
#   train at all.
# - **Scratch** shows how odd the number is where pictures are bad: one noise is like the other, so Intra-LPIPS calls it
#   repetition, although nothing at all was learned to be repeated.
# - **Real images** are the only row that says what is right. A generator of this domain should score what they score:
#   below is repetition, or noise, which looks all the same to LPIPS; above is another domain's variety.
#
# So read "how far from the first row", not "how high". Where all methods of a table lie *below* real images, ↑ is right; it
# is a rule for that side only.
#
# ## Memorisation against training steps
#
# The signature figure. 150 steps are short. The study fine-tunes for 600 steps with three seeds, and draws 32 samples
# after 0, 75, 150, 300, 450 and 600 of them. Each seed has its own training noise *and* its own start noise.
#
# It takes about 11 minutes on two cores, so its result is committed as `data/results/03_memorisation.json` and the
# next cell loads it. **Delete that file to run the study again**, here, or in the background with
# `python -m dslib.study memorisation`. The function is `memorisation.memorisation`: train once, stop at the given steps,
# draw, score.

# %% tags=["nbval-ignore-output"]
def memorisation_curve(seed, steps_at):
    """One row a step: mean nearest-LPIPS, Intra-LPIPS, share of suspicious samples."""
    return memorisation.memorisation(source, ten.images, held_out.images, seed, steps_at, num_images, inference_steps)


def run_study():
    return [row for seed in seeds for row in memorisation_curve(seed, steps_at)]


path = env.data_dir() / "results" / f"03_memorisation{'' if target == 'sunglasses' else '_' + target}.json"
rows = run_study() if rt.tier == "smoke" else memorisation.load_or_run(path, run_study)   # smoke leaves it alone
print(f"{len({row['seed'] for row in rows})} seeds, {rows[0]['images']} samples after each of "
      f"{sorted({row['step'] for row in rows})} steps")

# %%
real_sets = [{"seed": i, "step": 0} | memorisation.score(part, ten.images, nearest_real)
             for i, part in enumerate(held_out.images.split(rows[0]["images"]))]
other_batch = [{"seed": 0, "step": 0} | scores["source, other noise"]]


def against_steps(key):
    """Steps, and the fine-tuned models with the two references beside them: name → (seeds or sets, steps)."""
    steps, tuned = memorisation.by_seed(rows, key)
    flat = {"source, other noise": other_batch, "real, held out": real_sets}
    flat = {name: memorisation.by_seed(found, key)[1].expand(-1, len(steps)) for name, found in flat.items()}
    return steps, {"fine-tuned": tuned} | flat

# %%
steps, nearest_curves = against_steps("nearest")
plots.show(plots.curves(steps, nearest_curves, "fine-tuning step", "LPIPS to the nearest training image"),
           alt="Nearest-LPIPS against the step: fine-tuned with a band over seeds; two flat references.")

# %% [markdown]
# Bands run from the lowest to the highest: over three seeds for the fine-tuned models, over six sets of real images
# for the dashed line. The curve starts at the source, which is *farther* from the ten than real images of the domain
# are. At first it falls because the model is learning the domain: right so. Where it meets the dashed line, the
# samples are as near to the ten as real images are. Below that line they are nearer than fresh images of the domain:
# that is memory.

# %%
tuned, real = nearest_curves["fine-tuned"], nearest_curves["real, held out"]
for step, value in zip(steps, tuned.T):
    where = "below" if value.mean() < real.min() else "above" if value.mean() > real.max() else "within"
    print(f"step {step:3d}: {value.mean():.3f} ({value.min():.3f} to {value.max():.3f}), {where} the real images' band")

# %%
_, intra_curves = against_steps("intra")
plots.show(plots.curves(steps, intra_curves, "fine-tuning step", "Intra-LPIPS"),
           alt="Intra-LPIPS against the step: fine-tuned with a band over seeds; two flat references.")

# %% [markdown]
# Intra-LPIPS tells the same story: it begins at the upper edge of what real images score, even rises a little at first, and at
# the end lies below their band. An arrow "↑" would have chosen one of the first models, whose samples are still far from the
# domain.

# %%
_, copy_curves = against_steps("copies")
plots.show(plots.curves(steps, copy_curves, "fine-tuning step", "share of suspicious samples"),
           alt="Share of suspicious samples against the step: fine-tuned with a band over seeds; two flat references.")
print(f"suspicious at step {steps[-1]}: {copy_curves['fine-tuned'][:, -1].mean():.0%}; real images: "
      f"{copy_curves['real, held out'].mean():.0%}")

# %% [markdown]
# The share of suspicious samples stays near zero for the first 150 steps and then climbs past the real images' 5 %. The mean
# distance can look healthy while some of the samples are copies already: report both. A rate of so few samples is coarse: our own
# run further up, the same training drawn from another start noise, has another rate at step 150.
#
# With ten images in a batch of ten, every image has been seen once a step: 600 times at the right end. The paper
# trains 3000 to 5000 steps with batches of 24 to 48, so each of its ten images is seen thousands of times. Follow the
# curve to the right in your mind, and you see why the authors need a loss that holds on to diversity.
#
# ## What is lost, counted
#
# Our faces are drawn by a program, so we know every choice that was made. How many values of each factor do the ten
# hold at all?

# %%
print(f"{'':<16} in the ten   in {len(held_out.labels)} held-out   held-out images whose value the ten have")
factors = ("top", "hair", "head", "hairColor", "skinColor", "mouth", "backgroundColor")
for factor in [f for f in factors if any(f in label for label in held_out.labels)]:
    values = {label[factor] for label in ten.labels if factor in label}
    known = [label[factor] for label in held_out.labels if factor in label]
    share = sum(value in values for value in known) / len(known)
    print(f"{factor:<16} {len(values):10d}   {len(set(known)):15d}   {share:10.0%}")

# %% [markdown]
# That is the ceiling of a copyist. No more hair styles (`top`), no more background colours than the ten have; three
# quarters of the domain's heads are not in them. A good adaptation must take these from the *source*, which has seen
# them all. What fine-tuning forgets, nothing in the ten can bring back.
#
# One factor can be read off a picture without any network: the background, one of 14 colours. Take the top left
# corner and find the nearest colour of the palette. Real images, whose truth we know, are the control of this little
# instrument.

# %%
from dslib.base import avatars

colours = avatars.DOMAINS[target][1]["backgroundColor"]
palette = torch.tensor([[int(c[i:i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 127.5 - 1             # (14, 3)


def background(images):
    """Index of the palette's colour nearest to the top left corner, (N,3,R,R) → (N,)."""
    return torch.cdist(images[:, :, 1:4, 1:4].mean((2, 3)), palette).argmin(1)


truth = torch.tensor([colours.index(label["backgroundColor"]) for label in held_out.labels])
print(f"read right on {(background(held_out.images) == truth).float().mean():.0%} of the real images")
of_the_ten = background(ten.images).unique()
for name, images in compared.items():
    found = background(images[:num_images])
    known = torch.isin(found, of_the_ten).float().mean()
    print(f"{name:<22} {len(found.unique()):2d} of {len(palette)} colours; "
          f"{known:4.0%} have one of the ten's {len(of_the_ten)}")

# %% [markdown]
# For the exact minimum it is 100 %, of course. For the fine-tuned model, compare with the source's row: from the same
# noise, did the colours move towards the ten's? Backgrounds are decided at the first, noisiest steps of the chain.
# After 150 training steps they still are mostly the source's. Memory begins with shapes.
# Colours between those of the palette are counted as the nearest one, so small differences mean nothing here.

# %%
_ = checks.check_expected(
    "03", rt, real_nearest=float(nearest_real.mean()), finetune_nearest=scores["finetune"]["nearest"],
    scratch_nearest=scores["scratch"]["nearest"], minimum_nearest=scores["the exact minimum"]["nearest"],
    suspicious_at_the_end=float(copy_curves["fine-tuned"][:, -1].mean()))

# %% [markdown]
# ## Play
#
# Move the step: the same ten start noises, after more and more training, above the training image nearest to each.
# Watch single columns: in which does a person of the source turn into one of the ten, and in which only the glasses
# come? Switch to `pixels` and see how often the neighbour changes. `scratch` has no step 0: it starts from nothing.

# %%
from dslib.show import widgets

widgets.explore_memorisation(saved, ten.images)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | after 50 steps still only the source's faces | averaged weights lag behind | more steps, or sample `record.model` |
# | `UserError: no target has two of the … samples` | too few for Intra-LPIPS | more samples than training images |
# | "5 % of the real images are copies!" | that is the definition of the threshold | compare with 5 %, not with 0 % |
# | 0 % suspicious, and bad pictures | far from the ten because far from the domain | read the domain hit beside it |
# | the curve does not change with your settings | it is loaded | delete `data/results/03_memorisation.json` |
# | numbers unlike a paper's | another backbone, resolution or number of samples | compare only rows of one table |
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
# | members of a group | all of 1000 samples | at most 50, chosen at random, pairs read from disk | all, as one matrix |
# | the ± | over the groups | over the groups | chapter 00: over the groups; here: bands over seeds |
# | direction | higher is better | – | as real images of the domain |
# | how often each of the ten is seen | thousands of times | – | 600 at the right end of the curve |
# | nearest training image | – | – | beside every sample, and a rate with a threshold from real images |
#
# ## Check yourself
#
# 1. The exact minimum of the loss is known and costs nothing. Why do we train networks at all?
#    <details><summary>Answer</summary>Because we do not want that minimum. What we like about a network is that it
#    misses it: between the training images it draws something new. On thousands of images that is generalisation; on
#    ten it soon is not.</details>
# 2. Two methods have the same Intra-LPIPS, equal to real images'. One has nearest-LPIPS far below real images, the
#    other equal to theirs. Which one would you use, and what does the first do?
#    <details><summary>Answer</summary>The second. The first may draw variations around the ten: different from each
#    other, yet always near one of them.</details>
# 3. Why do the real images in the study come in six sets of 32, and not as one of 192?
#    <details><summary>Answer</summary>To be compared with 32 samples. Their band shows how much 32 images vary by
#    chance, and a curve inside it differs from real images in nothing that we can measure.</details>
# 4. A sample is a perfect mirror image of a training image. What do pixels say, and what does LPIPS say?
#    <details><summary>Answer</summary>Try it: <code>metrics.lpips_matrix(ten.images.flip(-1), ten.images)</code>. On these nearly
#    symmetric faces both find the original, and LPIPS calls it a copy. On photographs neither need do so: add the
#    flipped ten to the training images before you look for the nearest.</details>
# 5. Open: the threshold is the 5th percentile of real images. What would happen to the rate with 100 training images
#    instead of ten, and an honest generator? And with a domain in which all images are alike, such as `sketches`?
# 6. Project: `study.memorisation(..., method="domainstudio")` runs the same study for DomainStudio (a step costs
#    about 1.4 times as much). Where does its curve meet the dashed line, if at all? Use three seeds.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("03")

# %% [markdown]
# ## In this notebook we have
#
# - drawn with the exact minimum of the loss, and got the ten back;
# - trained from scratch and from the source, and looked at both from the same noise;
# - put the nearest training image beside every sample, by two distances, and asked real images how near is too near;
# - written and checked `copy_rate` and Intra-LPIPS;
# - followed memorisation over 600 steps and three seeds, beside real images and another batch of the source's
#   samples;
# - counted what the ten cannot hold.
#
# **Next:** chapter 04 builds the loss that holds on to the source's diversity: who resembles whom.
#
# **Read on:** [CDC](https://arxiv.org/abs/2104.06820), Intra-LPIPS · [LPIPS](https://arxiv.org/abs/1801.03924) ·
# [DomainStudio](https://arxiv.org/abs/2306.14153) · [Extracting training data from diffusion
# models](https://arxiv.org/abs/2301.13188), memorisation in large ones.
