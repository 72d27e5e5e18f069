# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["slide"]
# # 12. Memory and misuse: what the weights give away
#
# **Claim.**
# - Whoever has an adapted model's weights, and a picture, can say whether it was among the ten.
# - DomainStudio's losses draw fewer copies. They do not hide who was trained on.
# - It begins before any copy is drawn. Controls: the source, which saw none of them, and strangers.
#
# | | |
# |---|---|
# | Read / run | 15 min, exercises 25 min more / 5 min on two CPU cores |
# | Device | a CPU |
# | Needs | chapters 03 and 06 |
# | Paper | not DomainStudio's: Carlini et al. 2022 and 2023, Matsumoto et al. 2023 |
# | `dslib` files | `measure/membership.py`, `base/provenance.py` |
# | You will keep | an attack in ten lines, and a card to fill in before you train |
#
# **You will**
# - tell members from strangers by a model's own error;
# - ask of how many one can be *sure*;
# - look for copies without knowing a single training picture;
# - mark what a model drew, and see how easily the mark is lost.

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
target = "engraved"                                     # the committed adapted models know no other
num_strangers = rt.pick(smoke=20, cpu=100, colab=400)
noises = rt.pick(smoke=1, cpu=2, colab=8)
steps_t = rt.pick(smoke=[50, 400], cpu=[50, 200, 400, 600, 800])
saved_at = rt.pick(smoke=[1, 2], cpu=[10, 20, 40, 60], colab=[10, 20, 40, 80, 150, 300])
num_images = rt.pick(smoke=8, cpu=48, colab=200)
inference_steps = rt.pick(smoke=2, cpu=15, colab=20)

# %% [markdown]
# ## Where we are going
#
# Four models: the source, and the three that chapter 06 adapted to the same ten. Every stroke is a picture, placed by the model's error at
# denoising it. Dots are the ten.

# %%
import torch

from dslib import checks, data, metrics, models, sample, train
from dslib.measure import membership
from dslib.show import plots

ten, strangers = data.load_domain(target, "ten").images, data.load_domain(target, "test", num_strangers).images
asked, adapted = torch.cat([ten, strangers]), env.data_dir() / "adapted"
pipes = {"source": models.load_source()} | {name: models.load_source(adapted / name) for name in ("naive", "published", "anchored")}
errors = {name: membership.denoising_errors(pipe.unet, pipe.scheduler, asked, steps_t, noises) for name, pipe in pipes.items()}
seen = 1                                                # of steps_t: which one the figures show


def split(values):
    """Errors (…, 10 + M) → (those of the ten, those of strangers)."""
    return values[..., :len(ten)], values[..., len(ten):]


# %% tags=["slide"]
plots.show(plots.crowds({name: split(found[seen]) for name, found in errors.items()}, f"error of the answer at t = {steps_t[seen]}",
                        "the ten", "strangers"),
           alt="A line a model: errors of strangers as strokes, of the ten as dots. Only the source has them in one crowd.")

# %% [markdown]
# - **source**: the ten are scattered among the strangers. They are no easier than others for a model that has not seen them.
# - **naive**: all ten left of every stranger.
# - **published**, **anchored**: nearer to the crowd, and still mostly left of it.
#
# ## The mental model: who has what?
#
# | the attacker has | asks | answer |
# |---|---|---|
# | pictures that the model drew | is one of them a training picture? | chapter 03's copies, if the ten are known |
# | the same, and no picture of the ten | which of these repeat each other? | below, *Without a suspect* |
# | the weights and a suspect picture | was it trained on? | the error, here |
#
# The attack needs no training and no luck: noise the picture, let the model answer, and measure.
#
# $$e(x) = \frac{1}{K} \sum_{k} \left\| \text{answer}_\theta(x_t^{(k)}, t) - \text{answer}^{(k)} \right\|^2,
# \qquad x_t^{(k)} = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon_k \tag{12.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $x$ | a picture that somebody asks about | (C,R,R) | `asked[n]` |
# | $\varepsilon_k$ | noise, the same for all pictures and models | (C,R,R) | `noises` of them |
# | answer | ε or $v$, as the model was trained (chapter 02) | (C,R,R) | `unet(x_t, t).sample` |
# | $e(x)$ | the error at one $t$ | scalar | `errors[name][i, n]` |
#
# ## Exercise: how well are they told apart?
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Take one of the ten and one stranger: how often is the error of the first lower? Write `auc(members, others)` from errors (N,) and (M,):
# the share over all N·M pairs, a tie for a half. 0.5 is guessing.
#
# $$\mathrm{AUC} = \frac{1}{NM} \sum_{n,m} \left( [e_n < e_m] + \tfrac12 [e_n = e_m] \right) \tag{12.2}$$

# %%
def auc(members, others):
    """Your code here: (N,), (M,) → a number in [0,1]."""
    return None

# %%
auc = checks.mine("auc")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `members[:, None] < others` compares every pair at once: (N,M).
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("auc")` in a new cell.
# </details>
#
# ## Who gives them away?

# %% tags=["slide"]
told = {name: torch.tensor([[float(auc(*split(line))) for line in found]]) for name, found in errors.items()}
plots.show(plots.curves(torch.tensor(steps_t), told, "step t at which one asks", "AUC: the ten against strangers",
                        thresholds={"guessing": 0.5}),
           alt="AUC of four models against t: the source near guessing, the three others near one at small t and falling towards T.")
print("\n".join(f"{name:<10} " + "  ".join(f"t={t} {value:.3f}" for t, value in zip(steps_t, line[0])) for name, line in told.items()))

# %% [markdown]
# Ten members are few: by luck alone an AUC is off by ± 0.1 (one standard error). The source's line is about within that, the others are far
# beyond. They fall towards $T$: there every picture is nearly noise, and no model can know it.
#
# ## Exercise: of whom can one be sure?
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# An AUC is an average. An accuser needs to be sure: allow one false alarm in a hundred strangers, and ask how many of the ten are found.
# Write `caught(members, others, false_alarms=0.01)`: accused is whose error lies below a threshold, the largest one that accuses at most
# `false_alarms` of the strangers.
#
# $$\mathrm{caught}(\alpha) = \frac1N \sum_n [e_n < \tau], \qquad \tau = \max\left\{ \tau : \frac1M \sum_m [e_m < \tau] \le \alpha \right\}
# \tag{12.3}$$

# %%
def caught(members, others, false_alarms=0.01):
    """Your code here: (N,), (M,), a share → the share of members found."""
    return None

# %%
caught = checks.mine("caught")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Sort the strangers' errors. If `allowed` of them may lie below the threshold, it is `sorted[allowed]`.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("caught")` in a new cell.
# </details>

# %%
alarms = rt.pick(smoke=0.05, cpu=0.01)
lines = ["| model | " + " | ".join(f"t = {t}" for t in steps_t) + " |", "|---" * (len(steps_t) + 1) + "|"]
for name, found in errors.items():
    lines.append(f"| {name} | " + " | ".join(f"{float(caught(*split(line), alarms)):.0%}" for line in found) + " |")
plots.table(f"Found of the ten, at {alarms:.0%} false alarms:\n\n" + "\n".join(lines))

# %% [markdown]
# At $t = 200$ the naive and the published model give all ten away, without one false alarm in a hundred. The anchored model, which hardly
# copies, gives four away.
#
# ## Is it the picture, or the model?
#
# Some pictures are easy for every model. Take the source's error on the same picture off, as a difference and as a ratio:

# %%
base = errors["source"]
for name in ("naive", "published", "anchored"):
    ways = {"as it is": errors[name], "minus the source's": errors[name] - base, "divided by the source's": errors[name] / base}
    print(f"{name:<10} " + "   ".join(f"{way}: {float(auc(*split(found[seen]))):.3f}" for way, found in ways.items()))

# %% [markdown]
# The difference makes the attack *worse*. Training has lowered everybody's error, most for those who were hard before. The ratio does less
# harm, and gains nothing. The plain error was good enough here.
#
# ## When does it begin?
#
# Adapt anew, and ask at every stop. Beside it: the share of samples that are copies (chapter 03), from the same noises.

# %% tags=["nbval-ignore-output"]
from tqdm.auto import tqdm

noise = sample.start_noise(num_images, pipes["source"].unet.config.sample_size, seed=11)
real_to_ten = metrics.nearest_lpips(strangers, ten)


def drawn(unet):
    return sample.sample(unet, pipes["source"].scheduler, noise, inference_steps, "dpmsolver")


ways = {"naive": {"method": "finetune"}, "anchored": {"pairwise_on": "source", "num_anchors": 20, "lambda_img": 1.0, "lambda_hf": 1.0}}
history = {name: {0: float(auc(*split(base[seen])))} for name in ways}
for name, settings in ways.items():
    config = train.TrainConfig(max_train_steps=saved_at[-1], seed=rt.seed, **settings)
    for record in tqdm(train.adapt(pipes["source"], ten, config), total=saved_at[-1], desc=name):
        if record.step in saved_at:
            unet = record.averaged()
            found = membership.denoising_errors(unet, pipes["source"].scheduler, asked, [steps_t[seen]], noises)
            history[name][record.step] = float(auc(*split(found[0])))
    copies = metrics.copy_rate(metrics.nearest_lpips(drawn(unet), ten), real_to_ten)
    print(f"{name}: after {saved_at[-1]} steps {copies:.0%} of the samples are copies")

# %% tags=["slide"]
chance = ((len(ten) + len(strangers) + 1) / (12 * len(ten) * len(strangers)))**0.5          # standard error of an AUC that is guessed
plots.show(plots.curves(torch.tensor([0, *saved_at]), {name: torch.tensor([list(found.values())]) for name, found in history.items()},
                        "training steps", "AUC: the ten against strangers",
                        thresholds={"guessing": 0.5, "95 % of guesses lie below": 0.5 + 1.64 * chance}),
           alt="AUC against the training step: both lines rise from near guessing, the naive one faster.")

# %% [markdown]
# One seed. No sample is a copy yet, and the ten begin to part from the strangers; with the anchored losses more slowly.
#
# ## Without a suspect
#
# Now the attacker has no picture, only what the model draws. Copies crowd: they repeat each other. Rank samples by the distance to their
# nearest *fellow*, and look at the first. The ten are used only to judge the guess.

# %%
for name in ("naive", "anchored"):
    samples = drawn(pipes[name].unet)
    fellow = metrics.lpips_matrix(samples).fill_diagonal_(float("inf")).min(1).values
    order, copies = fellow.argsort(), metrics.nearest_lpips(samples, ten) < real_to_ten.quantile(0.05)
    first = order[:max(2, num_images // 5)]
    print(f"{name:<10} copies among all {copies.float().mean():.0%}, among the most crowded fifth {copies[first].float().mean():.0%}")
    if name == "naive":
        guess = samples[first[:8]]
plots.show(plots.rows({"most crowded": guess, "nearest of the ten": ten[metrics.lpips_matrix(guess, ten).argmin(1)]}, columns=8),
           alt="Eight samples of the naive model that lie nearest to other samples, and below each the training image nearest to it.")

# %% [markdown]
# Of the crowded fifth twice as many are copies as of all. So a search works without a suspect, where there are copies to be found.
#
# ## What hides, and what does not
#
# | measure | hides | does not hide |
# |---|---|---|
# | fewer steps | copies | that some were trained on; see the curve |
# | pairwise losses, anchors | most copies | the ten, from whoever has the weights |
# | publishing pictures, not weights | the error | copies, if there are any |
# | noise on every gradient (differential privacy) | both, by a proof | not tried here: with ten pictures little would be learned |
# | not training on it | everything | |
#
# ## Mark what was drawn
#
# `dslib sample` writes into every picture's file that a model drew it, as IPTC's *digital source type*. Who reads it, and what loses it?

# %%
import tempfile
from pathlib import Path

from PIL import Image

from dslib.base import provenance

with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "real").mkdir()
    data.write_images(Path(folder), guess[:1], made_by="dslib, chapter 12")
    data.write_images(Path(folder) / "real", ten[:1])
    with Image.open(Path(folder) / "0000.png") as picture:
        picture.save(Path(folder) / "copy.png")
        picture.convert("RGB").save(Path(folder) / "sent.jpg")
    files = {"as written": "0000.png", "a real picture": "real/0000.png", "opened and saved": "copy.png", "as a JPEG": "sent.jpg"}
    for name, path in files.items():
        print(f"{name:<18} generated by: {provenance.made_by(Path(folder) / path)}")

# %% [markdown]
# A line in a file helps the honest. It proves nothing, and its absence proves nothing.
#
# ## The card to fill in before you train
#
# | question | answer |
# |---|---|
# | Whose pictures, or whose faces, are the ten? | |
# | Who said yes, for what, until when? Where is it written? | |
# | Who will have the weights? Whoever has them can name the ten (above) | |
# | What will be drawn, who will see it, and how is it marked? | |
# | How can a yes be taken back? Which folders are deleted then? | |
# | What would the person say to the worst picture that could come out? | |
#
# [The guide](README.md#misuse-and-consent) says more. *No answer* to a line means: do not train.
#
# ## Did it come out as expected?

# %%
_ = checks.check_expected("12", rt, source_auc=float(auc(*split(base[seen]))), naive_auc=float(auc(*split(errors["naive"][seen]))),
                          anchored_auc=float(auc(*split(errors["anchored"][seen]))), early_auc=history["naive"][saved_at[0]])

# %% [markdown]
# ## Play
#
# At which $t$ would you ask?

# %%
from dslib.show import widgets

widgets.explore_crowds({name: dict(zip(steps_t, zip(*split(found)))) for name, found in errors.items()})

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | the source has an AUC far from 0.5 | the ten differ from the strangers in kind | draw strangers from the same domain |
# | AUC 1 with three strangers | too few to say so | a hundred; and `caught` says how many it needs |
# | no difference near $T$ | there every picture is noise | ask at small and middling $t$ |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (12.1) | `membership.denoising_errors` | `test_membership.py::test_errors_against_a_loop_over_images_steps_and_noises` |
# | (12.2) | `membership.auc` | `test_membership.py::test_auc_counts_pairs_and_halves_ties` |
# | (12.3) | `membership.caught` | `test_membership.py::test_caught_keeps_to_the_false_alarms_that_are_allowed` |
#
# ## Paper, authors' code, ours
#
# | point | papers | here |
# |---|---|---|
# | models | CIFAR, LAION: thousands to billions of pictures | ten |
# | attack | the loss at a $t$ (Matsumoto); shadow models (Carlini) | the loss at a $t$, and the source as a yardstick |
# | extraction | a million samples, cliques of near-duplicates | dozens, nearest fellows |
# | DomainStudio | says nothing of it | no model is meant to protect anybody |
#
# ## Check yourself
#
# 1. No sample is a copy. Is the training set safe?
#    <details><summary>Answer</summary>No. The weights tell members from strangers all the same.</details>
# 2. Why ask about a hundred strangers, and not ten?
#    <details><summary>Answer</summary>To allow one false alarm in a hundred, one needs a hundred.</details>
# 3. What does the source's line show?
#    <details><summary>Answer</summary>That the ten are no easier than others for a model that has not seen them.</details>
#
# Five questions with answers that say why:

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("12")

# %% [markdown]
# ## In this notebook we have
#
# - told the ten from strangers by a model's own error, and been sure of most;
# - seen that this begins long before copies;
# - found copies without knowing a training picture;
# - marked a picture, and lost the mark.
#
# **You now have** an attack to run on your own model before you publish it, and a card to fill in first.
#
# This is the last chapter. Back to the start: `00_tour.ipynb`.
