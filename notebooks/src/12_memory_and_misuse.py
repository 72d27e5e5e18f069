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
# - With an adapted model's weights, a picture, and a hundred strangers of its kind, one can often tell that it was among the ten.
# - After as many steps the losses that stop the copying give away fewer. They do not prevent it, and *anchored* saw the ten half as often.
# - It begins while no sample is a copy yet.
#
# Controls: the source, which saw none of the ten, and strangers. One seed of each model; ten members are few.
#
# | | |
# |---|---|
# | Read / run | 15 min, exercises 25 min more / 2 min on two CPU cores |
# | Device | a CPU |
# | Needs | chapters 03 and 06 |
# | Paper | not DomainStudio's: Carlini et al. 2022 and 2023, Matsumoto et al. 2023 |
# | `dslib` files | `measure/membership.py`, `base/provenance.py` |
# | You will keep | an attack in ten lines, and a card to fill in before you train |
#
# **You will**
# - tell members from strangers by a model's own error;
# - count how many are found when hardly any stranger may be accused;
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
# The source, and three models that saw the same ten for 300 steps: *naive*; *published*, with the paper's losses; *anchored*, our form
# (chapter 06). Half of its batch are anchors, so it saw each of the ten half as often. Every stroke is a picture, placed by the model's
# error at denoising it. Dots are the ten.

# %%
import torch

from dslib import checks, data, metrics, models, sample, train
from dslib.measure import membership
from dslib.show import plots

ten, strangers = data.load_domain(target, "ten").images, data.load_domain(target, "test", num_strangers).images
asked, adapted = torch.cat([ten, strangers]), env.data_dir() / "adapted"
pipes = {"source": models.load_source()} | {name: models.load_source(adapted / name) for name in ("naive", "anchored", "published")}
errors = {name: membership.denoising_errors(pipe.unet, pipe.scheduler, asked, steps_t, noises) for name, pipe in pipes.items()}
seen = 1                                                # of steps_t: the one that the figures show, where most leaks


def split(values):
    """Errors (…, 10 + M) → (those of the ten, those of strangers)."""
    return values[..., :len(ten)], values[..., len(ten):]


# %% tags=["slide"]
plots.show(plots.crowds({name: split(found[seen]) for name, found in errors.items()}, f"error of the answer at t = {steps_t[seen]}",
                        "the ten", "strangers"),
           alt="A line a model: errors of strangers as strokes, the ten as dots: amid them, left of all, at the left edge, mostly left.")

# %% [markdown]
# - **source**: the ten are scattered among the strangers. For a model that has not seen them they are not visibly easier.
# - **naive**: all ten left of every stranger.
# - **anchored**: two left of every stranger, the others at the left edge of the crowd.
# - **published**: seven left of every stranger, three beside the first.
#
# ## The mental model: who has what?
#
# | the attacker has | asks | answer |
# |---|---|---|
# | pictures that the model drew | is one of them a training picture? | chapter 03's copies, if the ten are known |
# | the same, and no picture of the ten | which of these repeat each other? | below, *Without a suspect* |
# | the weights and a suspect picture | was it trained on? | the error, here |
#
# The attack needs no training: noise the picture, let the model answer, and measure.
#
# $$e_t(x) = \frac{1}{K} \sum_{k=1}^K \frac{1}{CR^2} \left\| \text{answer}_\theta(x_t^{(k)}, t) - y^{(k)} \right\|^2,
# \qquad x_t^{(k)} = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon_k \tag{12.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $x$ | a picture that somebody asks about | (C,R,R) | `asked[n]` |
# | $\varepsilon_k$ | noise, the same for all pictures, steps and models; $K$ draws | (C,R,R) | `noises` |
# | answer | ε or $v$, as the model was trained (chapter 02) | (C,R,R) | `unet(x_t, t).sample` |
# | $y^{(k)}$ | the right answer: $\varepsilon_k$, or $v$ of $x$ and $\varepsilon_k$ | (C,R,R) | `ddpm.target` |
# | $e_t(x)$ | the error at one $t$ | scalar | `errors[name][i, n]` |
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
           alt="AUC of four models against t: the source near guessing; the others far above it up to t = 400, and lower towards T.")
print("\n".join(f"{name:<10} " + "  ".join(f"t={t} {value:.3f}" for t, value in zip(steps_t, line[0])) for name, line in told.items()))

# %% [markdown]
# - If the ten were like the strangers, an AUC would lie within 0.5 ± 0.1 in two cases of three. The source stays about there.
# - The three others are far above it up to $t = 400$. At $t = 800$ only the naive one clearly is: little of a picture is left there.
# - One simple attack at one $t$ is a *lower* bound. A better one (several $t$, more noises, models trained for comparison) may find more.
#
# ## Exercise: found, at how many false alarms?
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# An AUC is an average. Whoever accuses must not accuse strangers. Accuse every picture whose error is below $\tau$; choose $\tau$ as
# large as you can while at most a share α of the strangers is accused. Write `caught(members, others, false_alarms=0.01)`: the share of
# members that are found.
#
# $$\mathrm{caught}(\alpha) = \frac1N \sum_n [e_n < \tau], \qquad \tau = \max\left\{ s : \frac1M \sum_m [e_m < s] \le \alpha \right\}
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
one = 1 / len(strangers)                                # one false alarm
lines = ["| model | " + " | ".join(f"t = {t}" for t in steps_t) + " |", "|---" * (len(steps_t) + 1) + "|"]
for name, found in errors.items():
    cells = [" / ".join(f"{10 * float(caught(*split(line), alarms)):.0f}" for alarms in (0, one)) for line in found]
    lines.append(f"| {name} | " + " | ".join(cells) + " |")
plots.table(f"Found of the ten, with none / one of {len(strangers)} strangers accused:\n\n" + "\n".join(lines))

# %% [markdown]
# - At $t = 200$, with one stranger accused, the naive and the published model give all ten away, the anchored one four. With none: ten,
#   seven and two.
# - Four of ten may be 12 to 74 % of such pictures (95 %). The threshold was set on the strangers that it is counted on; on new ones about
#   2 % would be accused.
# - **A hit is no proof.** Ask of 10 000 pictures, and a hundred or two of strangers are accused, for ten that are members.
# - **No hit is no acquittal.** Six of the anchored model's ten were not found.
#
# ## Does the source help, as a yardstick?
#
# Some pictures are easy for every model, which blurs the comparison. Watson et al. (2022) take off the error of a model that has not seen
# the picture. Here the source's, as a difference and as a ratio:

# %%
base = errors["source"]
for name in ("naive", "published", "anchored"):
    ways = {"as it is": errors[name], "minus the source's": errors[name] - base, "divided by the source's": errors[name] / base}
    print(f"{name:<10} " + "   ".join(f"{way}: {float(auc(*split(found[seen]))):.3f}" for way, found in ways.items()))

# %% [markdown]
# Neither helps. A likely reason: the source knows no engravings, so its error says little about how hard an *engraving* is. The usual
# yardstick would be a model adapted to ten other engravings; we have not tried it.
#
# ## When does it begin?
#
# Adapt anew, and ask at every stop. At the end: samples, and the share of them that are copies (chapter 03).

# %% tags=["nbval-ignore-output"]
from tqdm.auto import tqdm

noise = sample.start_noise(num_images, pipes["source"].unet.config.sample_size, seed=11)
real_to_ten = metrics.nearest_lpips(strangers, ten)


def drawn(unet):
    return sample.sample(unet, pipes["source"].scheduler, noise, inference_steps, "dpmsolver")


ways = {"naive": {"method": "finetune"}, "anchored": {"pairwise_on": "source", "num_anchors": 20, "lambda_img": 1.0, "lambda_hf": 1.0}}
history, young = {name: {0: float(auc(*split(base[seen])))} for name in ways}, {"the ten": ten}
for name, settings in ways.items():
    config = train.TrainConfig(max_train_steps=saved_at[-1], seed=rt.seed, **settings)
    for record in tqdm(train.adapt(pipes["source"], ten, config), total=saved_at[-1], desc=name):
        if record.step in saved_at:
            unet = record.averaged()
            found = membership.denoising_errors(unet, pipes["source"].scheduler, asked, [steps_t[seen]], noises)
            history[name][record.step] = float(auc(*split(found[0])))
    young[f"{name}, {saved_at[-1]} steps"] = samples = drawn(unet)
    copies = metrics.copy_rate(metrics.nearest_lpips(samples, ten), real_to_ten)
    print(f"{name}: after {saved_at[-1]} steps {copies:.0%} of {num_images} samples are copies")

# %% tags=["slide"]
lines = {"source": torch.full((1, len(saved_at) + 1), history["naive"][0])}
lines |= {name: torch.tensor([list(found.values())]) for name, found in history.items()}
limit = 0.5 + 1.64 * membership.chance(len(ten), len(strangers))
plots.show(plots.curves(torch.tensor([0, *saved_at]), lines, "training steps", f"AUC at t = {steps_t[seen]}",
                        thresholds={"95 % of AUCs lie below, were the ten like strangers": limit}),
           alt="AUC against the training step: both lines rise from the source's, the naive one faster.")
plots.show(plots.rows(young), alt="The ten; below, samples of the naive and of the anchored model after few steps, from the same noises.")

# %% [markdown]
# One seed. None of 48 samples is a copy (so fewer than about 6 %), and the ten have begun to part: from 0.54 to 0.74 for naive
# fine-tuning, to 0.68 anchored. After 10 or 20 steps nothing can be told. The samples are rough engravings by then, of people who are
# none of the ten.
#
# ## Without a suspect
#
# Now the attacker has no picture, only what the model draws. Copies crowd: they repeat each other. Rank samples by the distance to their
# nearest *fellow*, and look at the first. The ten are used only to judge the guess.

# %%
from dslib.show import hero

for name in ("naive", "anchored"):
    samples = drawn(pipes[name].unet)
    fellow = metrics.lpips_matrix(samples).fill_diagonal_(float("inf")).min(1).values
    first, copies = fellow.argsort()[:max(2, num_images // 5)], metrics.nearest_lpips(samples, ten) < real_to_ten.quantile(0.05)
    print(f"{name:<10} copies: {int(copies.sum())} of all {len(samples)}, {int(copies[first].sum())} of the {len(first)} most crowded")
    if name == "naive":
        crowded, near = samples[first], metrics.lpips_matrix(samples[first], ten).argmin(1)
        shown = hero.figure(ten, {"most crowded": hero.Shown(crowded, near, copies[first])})
plots.show(shown, alt="The ten; nine samples of the naive model nearest to other samples, copies framed, and the nearest of the ten.")

# %% [markdown]
# Six of the nine most crowded count as copies, and fifteen of all 48: crowding is a hint, in one model. Of real strangers 5 % would count.
# Look closely: some are mixtures, the bun of one and the clothes of another. The anchored model has no copies to find.
#
# ## What hides, and what does not
#
# | measure | hides | does not hide |
# |---|---|---|
# | fewer steps | copies; at first the ten, too | the ten after some dozens of steps; and the style is not learned yet |
# | pairwise losses, anchors | most copies, some of the ten | the others; nobody promised it |
# | giving pictures away, not weights | from this attack | copies; attacks on pictures alone were not tried |
# | clip each picture's gradient and add noise (DP-SGD) | both, as far as its ε says; per picture, not per person | not tried |
# | not training on it | all that this training could give away | what the source had seen |
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
    data.write_images(Path(folder), crowded[:1], made_by="dslib, chapter 12")
    data.write_images(Path(folder) / "real", ten[:1])
    (Path(folder) / "forged").mkdir()
    data.write_images(Path(folder) / "forged", ten[:1], made_by="whoever writes it")
    with Image.open(Path(folder) / "0000.png") as picture:
        picture.save(Path(folder) / "copy.png")
        picture.convert("RGB").save(Path(folder) / "sent.jpg")
    files = {"as written": "0000.png", "a real picture": "real/0000.png", "opened and saved": "copy.png", "as a JPEG": "sent.jpg",
             "real, and marked": "forged/0000.png"}
    for name, path in files.items():
        print(f"{name:<18} generated by: {provenance.made_by(Path(folder) / path) or '(the file does not say)'}")

# %% [markdown]
# A line in a file helps the honest. Pillow drops it unless told otherwise, and anybody can write it into a real picture: neither the mark
# nor its absence proves anything.
#
# ## The card to fill in before you train
#
# | question | answer |
# |---|---|
# | Whose pictures, or whose faces, are the ten? Who else can be recognised? Is anybody under age? | |
# | Who said yes, for what, until when? Where is it written? What does the pictures' licence allow? | |
# | Who will have the weights? They can test whether a picture was among the ten (above) | |
# | What will be drawn, who will see it, and how is it marked? | |
# | How can a yes be taken back? What can then *not* be undone, such as weights given away? Was that said before? | |
# | Has the person seen such pictures, bad ones too? | |
#
# [The guide](README.md#misuse-and-consent) says more. A line without an answer means: do not train.
#
# ## Did it come out as expected?

# %%
_ = checks.check_expected("12", rt, source_auc=float(auc(*split(base[seen]))), naive_auc=float(auc(*split(errors["naive"][seen]))),
                          anchored_auc=float(auc(*split(errors["anchored"][seen]))),
                          naive_rise=history["naive"][saved_at[-1]] - history["naive"][0])

# %% [markdown]
# ## Play
#
# At which $t$ would you ask? The slider begins in the middle.

# %%
from dslib.show import widgets

widgets.explore_crowds({name: dict(zip(steps_t, zip(*split(found)))) for name, found in errors.items()})

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | the source has an AUC far from 0.5 | the ten differ from the strangers in kind | draw strangers from the same domain |
# | AUC 1 with three strangers | too few to say so | a hundred; `caught` says how many it needs at least |
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
# | trained on | thousands to billions of pictures | ten |
# | attack | the loss at a $t$ (Matsumoto et al. 2023); models with and without a picture (Carlini et al. 2022) | the loss at a $t$ |
# | extraction | up to 175 million samples, groups of near-duplicates (Carlini et al. 2023) | dozens, nearest fellows |
# | DomainStudio | says nothing of it | its models were not built to protect anybody |
#
# ## Check yourself
#
# 1. No sample is a copy. Is the training set safe?
#    <details><summary>Answer</summary>No. From the weights some, or all, may still be told from strangers.</details>
# 2. Why ask about a hundred strangers, and not ten?
#    <details><summary>Answer</summary>Of ten, one in ten is the least share to be seen. For 1 % take a hundred at least.</details>
# 3. What does the source's line show?
#    <details><summary>Answer</summary>That the ten are not visibly easier than others for a model that has not seen them.</details>
#
# Five questions with answers that say why:

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("12")

# %% [markdown]
# ## In this notebook we have
#
# - found 10, 10 and 4 of the ten by the errors of three models, with one of a hundred strangers accused;
# - seen the ten part from strangers while no sample is a copy;
# - found copies without knowing a training picture;
# - marked a picture, lost the mark, and forged it.
#
# **You now have** an attack to run before you publish a model: `dslib leaks runs/mine --train_data_dir … --unseen_data_dir …`. It can show
# a leak, never that there is none. And a card to fill in first.
#
# Next: what the paper leaves open, cheaper and larger: `13_cheaper_and_larger.ipynb`.
