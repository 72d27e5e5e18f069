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
# **Claim.** By the end you will have shown that, given ten cartoon faces with sunglasses, *naive fine-tuning* of a
# diffusion model comes nearer to those ten than honest strangers of the same domain are, on its way to redrawing them, while
# **DomainStudio**, at the same number of steps, keeps more of that distance, and pays with a somewhat lower hit rate. The evidence
# is a committed table of five seeds, and your own shorter run beside it: distances to the ten and between samples, and the
# domain hit rate, all held against what *real, held-out* images score. The controls are the source model, which is diverse but
# wears no sunglasses, the ten images themselves, copied, and plain noise.
#
# | | |
# |---|---|
# | Read / run | 15 min / 5 min on two CPU cores (tier `cpu`), under a minute in the smoke tier |
# | Device | a laptop CPU is enough |
# | Needs | PyTorch; you have heard that diffusion models remove noise |
# | Paper | DomainStudio, [arXiv 2306.14153](https://arxiv.org/abs/2306.14153), §1 of the method |
# | `dslib` files | `data.py`, `train.py`, `sample.py`, `measure/score.py`, `show/page.py` |
# | You will keep | a pipeline folder that plain diffusers opens |
#
# **You will**
# - see the data: one source domain, five target domains, ten training images each;
# - train the naive way and the DomainStudio way from the same start, and draw from both with the same noise;
# - score both beside real images, and read the table without fooling yourself;
# - write the simplest memorisation check there is.

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
target = "sunglasses"      # also: sketches, portraits, adventurers, robots
steps = rt.pick(smoke=2, cpu=240, colab=600)
num_images = rt.pick(smoke=12, cpu=48, colab=200)
inference_steps = rt.pick(smoke=2, cpu=20)

# %% [markdown]
# ## Where we are going
#
# This is the committed result of 600 steps: the same start noise, column by column, through three models. (`make demo` makes
# such a picture in 270 steps.)

# %% tags=["slide"]
from dslib import data, models
from dslib.show import plots

plots.show(env.data_dir() / "results" / "demo" / "samples.png",
           alt="Rows: the ten training images, source, naive fine-tuning, DomainStudio; a column is one noise.")

# %% [markdown]
# Read it by columns. The **source** model never saw the ten images. **finetune** minimises the usual denoising loss on
# the ten and nothing else: look for the headscarf, the turban and the straps of the ten turning up on other people.
# **domainstudio** starts from the same weights and sees the same ten, but is also asked to keep its pictures *as different
# from each other* as the source's are. In its row you should recognise more of the source's people, most of them now with
# sunglasses, some of them rather pale ones.
#
# ## The ten images
#
# The course uses cartoon faces, drawn by a program: nobody's likeness, free licences, and as many *held-out* images of
# each domain as we like, so that "diverse" and "in the domain" can be checked against the truth.

# %%
ten = data.load_domain(target, "ten")
ten.images.shape, ten.images.min().item(), ten.images.max().item()

# %% tags=["slide"]
held_out = data.load_domain(target, "test", 10)
faces = data.load_domain(data.SOURCE, "test", 10)
plots.show(plots.rows({"source domain": faces.images, f"{target}: the ten": ten.images, "held out": held_out.images}),
           alt="Three rows of ten faces: the source domain, the ten training images, ten held-out images of the target domain.")

# %% [markdown]
# Every image carries the labels that drew it, so diversity can be *counted*, not only estimated:

# %%
{factor: ten.labels[0][factor] for factor in ("top", "skinColor", "mouth", "accessories")}

# %% [markdown] tags=["slide"]
# ## The source model
#
# An ordinary diffusers pipeline, trained on many of the source domain's faces. A diffusion model knows how to take noise
# away. Chapter 01 derives what the following lines say; here they only fix the names.
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon \qquad\qquad
# \tilde x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon_\theta(x_t, t)}{\sqrt{\bar\alpha_t}} \tag{0.1}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0$ | clean images | (N,3,64,64), in [-1, 1] |
# | $t$, $\bar\alpha_t$ | step, and the share of the picture left there: from 1 (clean) to 0 (noise) | (N,), (T,) |
# | $\varepsilon$, $\varepsilon_\theta$ | the noise, and the model's prediction of it | (N,3,64,64) |
# | $\tilde x_0$ | the clean image which that prediction implies: every DomainStudio term acts on it | (N,3,64,64) |
#
# Drawing starts from pure noise and takes it away in a few steps. We use DPM-Solver, which adds no fresh noise on the way, so
# that the same start always gives the same picture (chapter 02 compares samplers).

# %%
from dslib import sample

source = models.load_source()
noise = sample.start_noise(num_images, source.unet.config.sample_size, seed=0)
source_samples = sample.sample(source.unet, source.scheduler, noise, inference_steps, "dpmsolver", progress="source")
plots.show(plots.grid(source_samples[:20], 10, "source model"), alt="Twenty faces drawn by the source model.")

# %% [markdown]
# ## Train twice: the whole method in one cell
#
# `train.adapt` is a generator: every step yields its loss terms, so you can watch, plot or stop whenever you like.
# Both runs start from the same weights, see the same ten images, and draw the same noise at every step. `averaged()` is the
# running average of the weights (EMA), which draws cleaner pictures than the last step's.

# %% tags=["nbval-ignore-output"]
from tqdm.auto import tqdm

from dslib import train

adapted, history, snapshots = {}, {}, {}
for method in ("finetune", "domainstudio"):
    seconds, history[method], snapshots[method] = 0.0, {}, {0: source_samples[:8]}
    config = train.TrainConfig(method=method, max_train_steps=steps, seed=rt.seed)
    for record in tqdm(train.adapt(source, ten.images, config), total=steps, desc=method):
        for name, value in record.terms.items():
            history[method].setdefault(name, []).append(float(value))
        seconds += record.seconds
        if record.step % max(1, steps // 4) == 0:             # four times on the way, for the slider below
            snapshots[method][record.step] = sample.sample(record.averaged(), source.scheduler, noise[:8], inference_steps, "dpmsolver")
    adapted[method] = record.averaged()
    print(f"{method}: {steps} steps in {seconds:.0f} s")

# %% tags=["slide"]
plots.show(plots.losses(history), alt="Loss terms against the step; finetune has one term, domainstudio four.")

# %% [markdown]
# Naive fine-tuning has one curve. DomainStudio has four, and chapter 06 derives each:
#
# | curve | says | weight |
# |---|---|---|
# | `simple` | denoise the ten images | 1 |
# | `img` | keep the pattern of who resembles whom, in the predicted clean images | `lambda_img` |
# | `hf` | the same for edges and texture (Haar wavelets, chapter 05) | `lambda_hf` |
# | `hfmse` | draw edges as sharp as the target's | `lambda_hfmse` |
#
# ## Same noise, three models
#
# The signature figure of the course. Each column starts from the same noise.

# %% tags=["slide"]
samples = {"source": source_samples}
for method, unet in adapted.items():
    samples[method] = sample.sample(unet, source.scheduler, noise, inference_steps, "dpmsolver", progress=method)
plots.show(plots.rows({"the ten": ten.images} | samples),
           alt="Four rows: the ten training images, then source, finetune and domainstudio samples from the same noise.")

# %% [markdown]
# Do not trust your eye alone; it likes the picture it hoped for. So we score.
#
# ## Measure, with controls
#
# - **Intra-LPIPS**: assign each sample to the training image nearest to it, then average the perceptual distance inside
#   each group. Low: the samples repeat themselves.
# - **nearest-LPIPS**: distance to the nearest training image. Near zero: copies.
# - **FD**: Fréchet distance of pooled features to other real images of the domain. Low: the same statistics.
# - **domain hit**: how often a linear probe says "target domain" rather than "source".
#
# The first row is the goal and the last two rows are controls: the ten images copied, and plain noise. The ± is the
# spread over the groups, not over seeds.

# %% tags=["slide"]
from dslib.measure.score import score_all, text_table
from dslib.study import tables

copies = ten.images[[i % len(ten.images) for i in range(num_images)]]
controls = {"the ten, copied": copies, "noise": noise.clamp(-1, 1)}
scores = score_all(samples | controls, ten.images, target)
print(text_table(scores))

# %% [markdown]
# How to read the table:
#
# - Nothing here is "higher is better". *Noise* is far from every training image; its domain hit means nothing, because the
#   probe knows only two answers. The *copies* are in the domain and new to nobody. A good method lands near the **first
#   row in every column at once**.
# - Both methods are on their way from the `source` row to the domain. `finetune` walks faster: more sunglasses, and the
#   distance to the ten (nearest-LPIPS) has just fallen *below* that of real images. Stopped here, it has not copied yet, and in this
#   short run it is the one nearer to the first row. Early stopping is a strong rival, if only somebody said when to stop.
# - `domainstudio` is farther from the ten, its samples differ more, and fewer wear sunglasses. That is the method's trade, set
#   by `lambda_img` and `lambda_hf`: keeping all diversity by not adapting at all would be cheating, and the domain hit is how
#   you would notice. Compare the `source` row.
# - FD tells all of them from real images: the source's own flaws are in every row.
#
# One seed, few samples, few steps. What happens when nobody stops in time? The committed runs have five seeds and 600 steps
# (`make results`):

# %% tags=["slide"]
committed = [row for row in tables.load_table(env.data_dir() / "results" / "table.csv") if row["target"] == target]
print(tables.collated_text(committed))

# %% [markdown]
# Now the two part. `finetune` has walked on: its samples are nearer to the ten than real images are. It is redrawing. `domainstudio` has
# kept that distance, and has fewer hits. In Intra-LPIPS one lies just below real images and the other just above, and the spread over five
# seeds is as large as what lies between them: nobody wins there (chapter 08 goes on to 1200 steps, where somebody does).
# The weights were chosen by looking at one of these seeds, so read the difference as what the method *can* do here, not as a law.
#
# The short run in the same terms:

# %%
by_name = {s.name: s for s in scores}
real = by_name["real, held out"]
for method in adapted:
    intra = by_name[method].intra_lpips - real.intra_lpips
    nearest_gap = by_name[method].nearest_lpips - real.nearest_lpips
    print(f"{method:<13} against real images: Intra-LPIPS {intra:+.3f}, nearest-LPIPS {nearest_gap:+.3f}, "
          f"domain hit {by_name[method].domain_hit:.0%}")

# %% [markdown]
# ## Exercise: the simplest memorisation check
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `nearest(samples, images)`: for each sample the **index** of the training image with the smallest mean squared
# pixel difference. Shapes: samples (N,3,R,R), images (K,3,R,R), result (N,) integers. `checks.mine` keeps a right one in
# `my_domainstudio.py` for all chapters, and gives the library's until then.

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
# `torch.cdist` takes two matrices, one row a picture. `flatten(1)` makes such a matrix. The distance and its square have
# the same argmin.
# </details>
# <details><summary>Solution</summary>
#
# Run `checks.solution("nearest")` in a new cell.
# </details>
#
# With it, every sample can be shown beside the image it may have been copied from:

# %% tags=["slide"]
found = nearest(samples["finetune"], ten.images)
pairs = [("finetune", samples["finetune"]), ("nearest of the ten", ten.images[found])]
found = nearest(samples["domainstudio"], ten.images)
pairs += [("domainstudio", samples["domainstudio"]), ("nearest of the ten", ten.images[found])]
plots.show(plots.rows(pairs), alt="Samples of finetune and of domainstudio, each above the training image nearest to it.")

# %% [markdown]
# Where a sample and the image below it agree in hair, mouth *and* background, it is a copy. Where they only share
# a colour, it is not.
#
# ## Keep it
#
# The result is an ordinary diffusers folder. No `dslib` is needed to use it:

# %%
import tempfile
from pathlib import Path

from diffusers import DDPMPipeline

with tempfile.TemporaryDirectory() as folder:
    models.save_pipeline(adapted["domainstudio"], source.scheduler, Path(folder))
    pipe = DDPMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(batch_size=2, num_inference_steps=inference_steps).images
drawn[0].size, drawn[0].mode

# %%
naive, ours = by_name["finetune"], by_name["domainstudio"]
_ = checks.check_expected("00", rt, real_nearest=real.nearest_lpips, naive_nearest=naive.nearest_lpips,
                          kept_by_domainstudio=ours.nearest_lpips - naive.nearest_lpips, domainstudio_hit=ours.domain_hit)

# %% [markdown]
# ## Play
#
# Eight samples on their way from the source, and under each the training image nearest to it. Where do the two methods part?

# %%
from dslib.show import widgets

widgets.explore_memorisation(snapshots, ten.images, 8)

# %% [markdown]
# Change `target` in the parameters cell and run everything again, or use the command line, which calls the same loop:
#
# ```
# dslib adapt --target sketches --compare_finetune
# dslib adapt --train_data_dir my_ten_images --output_dir runs/mine
# dslib sample runs/mine --num_images 16 --scheduler dpmsolver
# ```
#
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | DomainStudio's samples are the source's, no sunglasses | pairwise losses too strong | lower `lambda_img`, `lambda_hf`; more steps |
# | samples repeat each other | that is naive fine-tuning after many steps | fewer steps, or DomainStudio |
# | grainy samples | `hfmse_weighting="none"` (as published): steps near T dominate | the default, ᾱ_t-weighting (chapter 06) |
# | `UserError: … the pairwise losses of domainstudio compare at least 2 images` | a batch of one | three or more images a batch |
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
# Every chapter ends with such a table. Its rows are numbered through the course; together they are the *ledger* of where paper,
# published code and this course differ, and each is shown by a cell somewhere.
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | weight of L_hfmse over t | none | none | ᾱ_t by default, `--hfmse_weighting none` for theirs (ledger row 9) |
# | weight of L_img, L_hf over t | none | none | √ᾱ_t on their gradient, `--pairwise_weighting none` for theirs (chapter 06) |
# | high-frequency terms | always | only if the variance is learned, dropped silently otherwise | always (row 4) |
# | images compared | the batch | a random three of it | the batch; `--pairwise_variant authors` for theirs (rows 1–3) |
# | timesteps of a batch | independent | independent | stratified over [0, T): same expectation, less variance |
#
# ## Check yourself
#
# 1. Why is the source model's Intra-LPIPS not the goal, although it is high?
#    <details><summary>Answer</summary>It measures the diversity of another domain. The goal is what real images of the
#    <em>target</em> domain score.</details>
# 2. The copies are in the domain by every measure. Which column gives them away?
#    <details><summary>Answer</summary>nearest-LPIPS: it is zero, as no honest sample's can be.</details>
# 3. Why does the same noise give the same person in source and DomainStudio?
#    <details><summary>Answer</summary>DPM-Solver is deterministic and the adapted model starts from the source's weights; the
#    pairwise losses hold the relations between pictures in place while the details change.</details>
# 4. Open: which of the two models would you rather show ten images of a person who did not agree? Why is that a trick
#    question?

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("00")

# %% [markdown]
# ## In this notebook we have
#
# - seen the source domain, a target domain and its held-out truth;
# - adapted one model twice, naively and with DomainStudio, from the same start;
# - scored both beside real images and controls;
# - checked for memorisation by hand.
#
# **Next:** chapter 01 takes the forward process apart: what noise does to a face, and why the predicted clean image is
# the quantity to look at.
#
# **Read on:** [DomainStudio](https://arxiv.org/abs/2306.14153) ·
# [DDPM-PA](https://arxiv.org/abs/2211.03264), its unconditional half · [DDPM](https://arxiv.org/abs/2006.11239) ·
# [DDIM](https://arxiv.org/abs/2010.02502) · [CDC](https://arxiv.org/abs/2104.06820), the GAN method that the pairwise loss
# goes back to, and Intra-LPIPS. How to cite: `CITATION.cff`.
