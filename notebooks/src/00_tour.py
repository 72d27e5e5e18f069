# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["slide"]
# # 0. Ten images in, new people out: a tour
#
# **Claim.** Ten engraved faces, 300 steps, five seeds:
# - *Naive fine-tuning* redraws the ten: a third of its samples are copies, of real images one in twenty.
# - With **DomainStudio**'s pairwise terms the model copies less. Large weights, *anchored* on source pictures,
#   bring that down to real images' share.
# - Early stopping, with the source drawing first, copies as little and is nearly free.
#
# | | |
# |---|---|
# | Read / run | 14 min, exercises 10 min more / 5 min on two CPU cores, one in the smoke tier |
# | Device | a laptop CPU |
# | Needs | PyTorch; diffusion models remove noise |
# | Paper | DomainStudio, [arXiv 2306.14153](https://arxiv.org/abs/2306.14153), §1 |
# | `dslib` files | `data.py`, `train.py`, `sample.py`, `measure/score.py` |
# | You will keep | a folder that diffusers opens |
#
# **You will** adapt one model in two ways, score both beside controls, and write a memorisation check.

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
target = "engraved"        # also gouache, of which the true answers are known too; sunglasses, sketches, portraits, adventurers, robots
steps = rt.pick(smoke=2, cpu=100, colab=120)
num_images = rt.pick(smoke=12, cpu=24, colab=200)
inference_steps = rt.pick(smoke=2, cpu=20)
num_anchors = rt.pick(smoke=10, cpu=50)                     # pictures of the source that the pairwise terms compare

# %% [markdown]
# ## Where we are going
#
# Every column of this committed result begins with the same noise:

# %% tags=["slide"]
from dslib import data, models
from dslib.show import plots
from dslib.study import claim

runs = env.data_dir() / "results" / "regime"
plots.show(claim.figure(runs, "engraved", [("naive", None), ("published", None), ("anchored", None)], step=300),
           alt="Rows: the ten, source, true answer, naive fine-tuning, DomainStudio, anchored; red frames mark copies.")

# %% [markdown]
# - **Naive fine-tuning** only learns to denoise the ten. Column 3 loses her long hair, column 4 her scarf.
# - **DomainStudio**, as published, also keeps which of the *ten* resemble each other. It copies less, but loses both, too.
# - **Anchored**, our extension, asks this of the source's own pictures. The long hair is back.
#
# None reaches the true answer: all smudge faces.
#
# ## The ten images
#
# A program draws these faces: nobody's likeness, endless *held-out* images. A filter engraves them: every true answer is known.

# %% tags=["slide"]
ten = data.load_domain(target, "ten")
held_out = data.load_domain(target, "test", 10)
faces = data.load_domain(data.SOURCE, "test", 10)
plots.show(plots.rows({"source domain": faces.images, "the ten": ten.images, "held out": held_out.images}),
           alt="Three rows of ten faces: the source domain, the ten training images, ten held-out images of the target domain.")
ten.images.shape, ten.images.min().item(), ten.images.max().item()

# %% [markdown]
# Images carry labels, so diversity can be *counted*:

# %%
{factor: ten.labels[0][factor] for factor in ("top", "skinColor", "mouth", "clothes")}

# %% [markdown] tags=["slide"]
# ## The source model
#
# A diffusers pipeline, trained on many source faces, takes noise away:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon \qquad\qquad
# \tilde x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon_\theta(x_t, t)}{\sqrt{\bar\alpha_t}} \tag{0.1}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0$ | clean images | (N,3,64,64), in [-1, 1] |
# | $t$, $\bar\alpha_t$ | step, and the share of the picture left there | (N,), (T,) |
# | $\varepsilon$, $\varepsilon_\theta$ | the noise, and its prediction | (N,3,64,64) |
# | $\tilde x_0$ | the clean image that this implies | (N,3,64,64) |
#
# DPM-Solver draws in twenty steps and adds no fresh noise: the same start always gives the same picture.

# %%
from dslib import sample

source = models.load_source()
noise = sample.start_noise(num_images, source.unet.config.sample_size, seed=0)
source_samples = sample.sample(source.unet, source.scheduler, noise, inference_steps, "dpmsolver", progress="source")
plots.show(plots.grid(source_samples[:20], 10, "source model"), alt="Twenty faces drawn by the source model.")

# %% [markdown]
# ## The whole method on one page
#
# The frozen model says who resembles whom. The adapted one must keep that while it learns the ten.

# %% tags=["slide"]
from dslib.show import diagrams

plots.show(diagrams.method(), alt="The method: one noised batch, a frozen and an adapted model, their guesses, four losses and their sum.")

# %% [markdown]
# ## Adapt twice
#
# Both runs share start weights, images and noise. `averaged()`, the running average of the weights, draws cleaner pictures. The
# paper's form would be `pairwise_on="target"` (chapter 06).

# %% tags=["nbval-ignore-output"]
from tqdm.auto import tqdm

from dslib import train

anchored = {"pairwise_on": "source", "num_anchors": num_anchors, "lambda_img": 1.0, "lambda_hf": 1.0}
METHODS = {"naive": {"method": "finetune"}, "anchored": anchored}
adapted, history, snapshots = {}, {}, {}
for name, settings in METHODS.items():
    seconds, history[name], snapshots[name] = 0.0, {}, {0: source_samples[:8]}
    config = train.TrainConfig(max_train_steps=steps, seed=rt.seed, learning_rate=1e-3, **settings)
    for record in tqdm(train.adapt(source, ten.images, config), total=steps, desc=name):
        for term, value in record.terms.items():
            history[name].setdefault(term, []).append(float(value))
        seconds += record.seconds
        if record.step % max(1, steps // 2) == 0:             # twice on the way, for the slider below
            snapshots[name][record.step] = sample.sample(record.averaged(), source.scheduler, noise[:8], inference_steps, "dpmsolver")
    adapted[name] = record.averaged()
    print(f"{name}: {steps} steps in {seconds:.0f} s")

# %% tags=["slide"]
plots.show(plots.losses(history), alt="Loss terms against the step; naive fine-tuning has one term, the anchored form four.")

# %% [markdown]
# Naive fine-tuning has the first term only:
#
# | curve | says | on |
# |---|---|---|
# | `simple` | denoise | the ten |
# | `img` | keep who resembles whom | source pictures |
# | `hf` | the same for edges and texture | source pictures |
# | `hfmse` | draw edges as sharp as the target's | the ten |
#
# ## Same noise, two models

# %% tags=["slide"]
from dslib.measure.score import evidence_of, row_of, text_table
from dslib.show import hero

samples = {"source": source_samples}
for name, unet in adapted.items():
    samples[name] = sample.sample(unet, source.scheduler, noise, inference_steps, "dpmsolver", progress=name)
copies = ten.images[[i % len(ten.images) for i in range(num_images)]]
evidence = evidence_of(samples | {"the ten, copied": copies, "noise": noise.clamp(-1, 1)}, ten.images, target)
shown = {name: one for name, one in evidence.items() if name not in ("the ten, copied", "noise")}
plots.show(hero.of_evidence(shown, ten.images),
           alt="The ten, source samples, their true answers, then naive and anchored samples, each above its nearest training image.")

# %% [markdown]
# Both borrow moustaches, short hair or dungarees. Anchored people keep a little more hair and colour, and are noisier.
#
# ## Measure, with controls
#
# - **Intra-LPIPS**: perceptual distance between samples with the same nearest training image. Low: repetition.
# - **nearest-LPIPS**: distance to the nearest training image. Near zero: copies.
# - **FD**: Fréchet distance to other real images. Low: the same statistics.
# - **domain hit**: how often a linear probe says "target", not "source".
# - **copies**: share nearer to one of the ten than 95 % of real images.
# - **kept people**: share nearest to their own true answer.
#
# The ± is a spread over groups, not over seeds.

# %% tags=["slide"]
scores = [row_of(name, one) for name, one in evidence.items()]
plots.table(text_table(scores))

# %% [markdown]
# The goal is the **first row, in every column**. One alone misleads: *the ten, copied* beat both models in FD. *Noise* is all in the
# domain: the probe knows only two answers.
#
# `naive` is nearer to the ten than real images are, `anchored` is not.
#
# ### The committed runs
#
# Two dozen samples prove little. Five seeds, and the rivals:

# %% tags=["slide"]
from dslib.study import evidence as told
from dslib.study import regime

rows = regime.load()
plots.table("After 300 steps:\n\n" + told.text(rows, "engraved", told.compare(rows, "engraved", step=300)))
plots.table("At the first stop that was measured and has 90 % hits (naive: 150 steps; pairwise forms: 300, their only one):\n\n"
            + told.text(rows, "engraved", told.compare(rows, "engraved", hit=0.9)))

# %% [markdown]
# - **Naive fine-tuning copies** several times as often as real images do. *published* copies less.
# - **Large weights stop the copying.** *published, lambda 1* has hardly a copy, but the worst FD.
# - **Anchors make them affordable.** *anchored* copies about as often as real images, at a lower FD than that.
# - **A rival is nearly free.** After half the steps naive fine-tuning copies half as often. With *source for t > 500* the source draws the
#   first half of the way (chapter 02b). The two together copy as little as *anchored* and keep more people, at a higher FD. Whether
#   the pairwise forms gain from stopping early was not measured.
#
# Every FD is far above real images'. Paired differences are to *naive*, intervals over seeds only (chapter 08).
#
# ## Exercise: the simplest memorisation check
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `nearest(samples, images)`: for each sample the **index** of the training image with the smallest mean squared pixel difference.
# Shapes: samples (N,3,R,R), images (K,3,R,R), result (N,) integers. `checks.mine` keeps a right one in `my_domainstudio.py` for all
# chapters. Until then, cells use the library's.

# %%
def nearest(samples, images):
    """Your code here: (N,3,R,R), (K,3,R,R) → (N,) indices."""
    return None

# %%
from dslib import checks

nearest = checks.mine("nearest")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `flatten(1)` makes one row a picture, `torch.cdist` compares two such matrices. A distance and its square have the same argmin.
# </details>
# <details><summary>Solution</summary>
#
# Run `checks.solution("nearest")` in a new cell.
# </details>
#
# How often does it agree with LPIPS, which chose the small pictures above?

# %%
for name in METHODS:
    agree = (nearest(samples[name], ten.images) == evidence[name].nearest[1]).float().mean()
    print(f"{name}: squared pixels and LPIPS name the same training image for {agree:.0%} of the samples")

# %% [markdown]
# Pixels see colours and places, LPIPS edges and texture. Copies are near by both.
#
# ## Keep it
#
# An ordinary diffusers folder opens without `dslib`:

# %%
import tempfile
from pathlib import Path

from diffusers import DDPMPipeline

with tempfile.TemporaryDirectory() as folder:
    models.save_pipeline(adapted["anchored"], source.scheduler, Path(folder))
    pipe = DDPMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(batch_size=2, num_inference_steps=inference_steps).images
drawn[0].size, drawn[0].mode

# %%
by_name = {s.name: s for s in scores}
naive, ours = by_name["naive"], by_name["anchored"]
_ = checks.check_expected("00", rt, real_nearest=by_name["real, held out"].nearest_lpips, naive_nearest=naive.nearest_lpips,
                          anchored_nearest=ours.nearest_lpips, naive_hit=naive.domain_hit, anchored_hit=ours.domain_hit)

# %% [markdown]
# ## Play
#
# Eight samples on their way from the source. Where do the methods part?

# %%
from dslib.show import widgets

widgets.explore_memorisation(snapshots, ten.images, 8)

# %% [markdown]
# Your own images:
#
# ```
# dslib adapt --train_data_dir my_ten_images --output_dir runs/mine
# ```
#
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | samples in the old style | pairwise losses too strong | lower `lambda_img`, `lambda_hf`; more steps |
# | samples repeat the ten | many naive steps | fewer, or `pairwise_on="source"` |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (0.1) | `ddpm.q_sample` | `test_ddpm.py::test_q_sample_is_add_noise` |
# | (0.1) | `ddpm.predict_x0` | `test_ddpm.py::test_predict_x0_inverts_q_sample` |
#
# ## Paper, authors' code, ours
#
# Numbered rows are from the course's *[ledger](README.md#the-ledger-paper-against-published-code)* of differences.
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | pairs (row 3) | the batch of the ten | a random three | the batch; `--pairwise_on source` is ours |
# | high-frequency terms (row 4) | always | with learned variance | always |
#
# ## Check yourself
#
# 1. Why is the source's high Intra-LPIPS not the goal?
#    <details><summary>Answer</summary>It measures the diversity of another domain.</details>
# 2. Why does the same noise give similar people in source and adapted model?
#    <details><summary>Answer</summary>DPM-Solver is deterministic and both start from the same weights.</details>
# 3. Open: to which of the two would you rather show ten images of a person who did not agree? Why is that a trick question?

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("00")

# %% [markdown]
# ## In this notebook we have
#
# adapted one model in two ways, scored both, and checked for copies by hand.
#
# **Next:** chapter 01, what noise does to a face.
#
# **Read on:** [DomainStudio](https://arxiv.org/abs/2306.14153) · [DDPM-PA](https://arxiv.org/abs/2211.03264) ·
# [DDPM](https://arxiv.org/abs/2006.11239) · [DDIM](https://arxiv.org/abs/2010.02502) · [CDC](https://arxiv.org/abs/2104.06820), origin of
# the pairwise loss.
