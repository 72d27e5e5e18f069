# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. Before diffusion: GANs on the same ten images
#
# **Claim.**
# - A GAN's judge learns ten images by heart in some dozens of steps. Then only they pass.
# - CDC holds it with the loss that you know from chapter 04, on a generator's maps. DomainStudio took it from there.
# - At *equal steps* CDC keeps more people than plain fine-tuning. At *equal hits* CDC cannot be told from stopping early; EWC, its λ
#   chosen on one of the domains, and DCL keep more.
#
# Controls: the source GAN, real images, true answers, six methods with three seeds, and diffusion on the same ten.
#
# | | |
# |---|---|
# | Read / run | 20 min, exercises 25 min more / 2 min on two CPU cores |
# | Device | a CPU |
# | Needs | chapters 03 and 04; 07 for the scores |
# | Paper | DomainStudio §2 and the tables of §5: TGAN, EWC, CDC, DCL |
# | `dslib` files | the folder `gan/`: `tgan.py`, `augment.py`, `freezed.py`, `ewc.py`, `cdc.py`, `dcl.py` |
# | You will keep | CDC in five lines; a baseline that does not diffuse |
#
# **You will**
# - train two players against each other, in a page;
# - see whom the discriminator believes, and why ten images are too few for it;
# - build CDC with chapter 04's `pairwise_kl`;
# - compare six GAN methods with diffusion, at equal hits.

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
steps = rt.pick(smoke=2, cpu=100, colab=200)
saved_at = rt.pick(smoke=[1, 2], cpu=[25, 50, 100], colab=[50, 100, 200])
num_images = rt.pick(smoke=8, cpu=48, colab=128)
num_held_out = rt.pick(smoke=24, cpu=192, colab=256)                     # real images

# %% [markdown]
# ## Where we are going
#
# A *generator* draws a picture from a latent $z$, 128 numbers, in one pass. The same $z$ through the source and through an adapted copy
# makes a pair. The last row is what a perfect adaptation would draw.

# %%
import torch

from dslib import checks, data, metrics
from dslib.gan import draw, folder
from dslib.show import plots

source, ten = folder.load_gan(), data.load_domain(target, "ten").images
device = next(source.parameters()).device
z = draw.latents(num_images, source.generator.latent)
before = draw.draw(source.generator, z)
known = {"true answer": data.twin(before[:10], target)} if target in data.TWINS else {}
plots.show(plots.rows({"the ten": ten, "source GAN": before[:10]} | known),
           alt="The ten training pictures; ten faces that the source GAN draws from ten latents; the same faces, engraved.")

# %% [markdown]
# The source GAN is small, a million weights: some grins and glasses melt. Its [card](../data/gan/README.md) says how far it is from
# StyleGAN2.
#
# ## The mental model: a forger and a judge
#
# The discriminator $D$ gives a picture a score: positive for "real". The generator $G$ wants its pictures scored so.
#
# $$\mathcal L_D = -\log \sigma(D(x)) - \log(1 - \sigma(D(G(z)))), \qquad
# \mathcal L_G = -\log \sigma(D(G(z))) \tag{11.1}$$
#
# The forger's loss is not $\log(1-\sigma(D(G(z))))$, which the judge works against: that one *saturates*, it has no slope where the judge
# is sure.
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $z$ | a latent, standard normal | (N,128) | `z` |
# | $G(z)$ | the picture drawn | (N,3,R,R) | `source.generator(z)` |
# | $D(x)$ | the score of a picture | (N,) | `source.discriminator(x)` |
# | $\sigma(s)$ | the sigmoid: "real", as a probability | (N,) | `torch.sigmoid` |
# | $G^l(z)$ | a layer's maps on the way to the picture | (N,C,r,r) | `generator.trace(z).layers[l]` |
#
# A diffusion model answers "what is under this noise?", a question with a right answer for every picture. $G$ never sees a picture: all it
# knows of the ten comes through $D$. So what $D$ learns decides.
#
# ## Exercise: the two losses
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Write `players_losses(real, fake)` from scores (N,): the pair $(\mathcal L_D, \mathcal L_G)$, means over the batch. Use
# `torch.nn.functional.softplus`: $-\log\sigma(s) = \mathrm{softplus}(-s)$ never overflows.

# %%
def players_losses(real, fake):
    """Your code here: scores (N,), (N,) → (scalar, scalar)."""
    return None

# %%
players_losses = checks.mine("players_losses")

# %% [markdown]
# <details><summary>Hint</summary>
#
# The judge wants high scores on real pictures and low ones on drawn ones; the forger wants high scores on drawn ones.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("players_losses")` in a new cell.
# </details>
#
# ## A GAN in a page
#
# Naive fine-tuning, called TGAN in the tables: both players of the source go on, with the ten as the only real pictures. Every picture is
# judged by a $D$ that has just learned. (The library's `tgan`, below, also averages the weights and holds $D$ smooth near real pictures.)

# %% tags=["nbval-ignore-output"]
import copy
import time

from tqdm.auto import tqdm

held_out = data.load_domain(target, "test", num_held_out).images
pair = copy.deepcopy(source).requires_grad_(True)
players = [torch.optim.Adam(net.parameters(), 2e-3, betas=(0.0, 0.99)) for net in (pair.discriminator, pair.generator)]
draws, scores, saved = torch.Generator().manual_seed(rt.seed), [], {0: before}


@torch.no_grad()
def ask_the_judge(step):
    """Note the mean score of the ten, of real pictures that D never sees, and of drawn ones."""
    asked = {"the ten": ten, "unseen real images": held_out[:24], "drawn": draw.draw(pair.generator, z[:24])}
    scores.append({"step": step} | {name: float(pair.discriminator(x.to(device)).mean()) for name, x in asked.items()})


# %% tags=["nbval-ignore-output"]
began = time.time()
ask_the_judge(0)
for step in tqdm(range(1, steps + 1), desc="two players"):
    real = ten.to(device)
    fake = pair.generator(torch.randn(len(ten), pair.generator.latent, generator=draws).to(device))
    for which, optimizer in enumerate(players):                 # the judge first, then the forger
        shown = fake.detach() if which == 0 else fake
        loss = players_losses(pair.discriminator(real), pair.discriminator(shown))[which]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if step in saved_at or step % 10 == 0:
        ask_the_judge(step)
    if step in saved_at:
        saved[step] = draw.draw(pair.generator, z)
print(f"{steps} steps in {time.time() - began:.0f} s")

# %% [markdown]
# ## Whom does the judge believe?
#
# Three kinds of pictures, all scored by $D$: the ten, real pictures of the domain that it never saw, and what $G$ draws. At step 0 the
# judge is the source's: it believes drawn faces more than engravings.

# %%
plots.show(plots.curves(torch.tensor([s["step"] for s in scores]),
                        {name: torch.tensor([[s[name] for s in scores]]) for name in ("the ten", "unseen real images", "drawn")},
                        "step", "mean score D(x)"),
           alt="The discriminator's mean score of the ten, of unseen real images and of drawn ones, against the training step.")

# %%
plots.show(plots.rows({f"{step} steps": images[:10] for step, images in saved.items()} | {
    "nearest of the ten": ten[metrics.lpips_matrix(saved[saved_at[-1]][:10], ten).argmin(1)]}),
           alt="Ten latents, a column each, at every stop; below them the training image nearest to the last row.")

# %% [markdown]
# - **The judge knows the ten by heart.** Before training, the ten and unseen pictures of their domain score alike. Some dozens of steps
#   later the ten are "real", and the unseen are still less real than forgeries.
# - So the forger learns the ten, not the domain: hair and moustaches of the ten come through, whoever was there before.
# - The more latents end in the same picture, the nearer the generator is to its *collapse*.
#
# ## CDC: keep who resembles whom
#
# Ojha et al. (2021) ask the adapted generator to keep the *relations* of the source's pictures: for every latent, a softmax over its
# cosine similarities to the others, as in chapter 04.
#
# $$\mathcal L_{dist} = \frac{1}{N(N-1)} \sum_i \mathrm{KL}\left(p_i^{ada} \,\|\, p_i^{sou}\right), \qquad
# p_i = \mathrm{softmax}_{j\ne i}\; \cos(G^l(z_i), G^l(z_j)) \tag{11.2}$$
#
# $p_i^{ada}$ is of the adapted generator's maps, $p_i^{sou}$ of the frozen source's.
# This is chapter 04's loss of other things, divided by $N(N-1)$. What DomainStudio took from it, and what it changed:
#
# | | CDC | DomainStudio |
# |---|---|---|
# | compared are | maps $G^l(z_i)$ on the way to a picture | guesses $\tilde x_0$ of noised pictures |
# | how | softmax over cosines, KL(adapted ‖ source) | the same |
# | of whom | any latents | the ten (published), the source's pictures (anchored) |
# | the style comes from | a judge | the denoising loss on the ten |
# | detail | – | the same loss on wavelet bands, and $\mathcal L_{hfmse}$ |
#
# A second idea of CDC's: only near ten fixed latents must a picture pass as a whole. Elsewhere $D$ judges patches, so that a person need
# not be one of the ten. (These latents are called anchors, too. Chapter 04's anchors are the source's pictures.)
#
# ## Exercise: CDC's loss
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# Write `cdc_loss(adapted, source, z, layer)` with your `pairwise_kl` from chapter 04: both generators draw the latents z (N,128), and the
# maps of one layer are compared. The source gets no gradient. Result: the mean over the N(N−1) entries, that is the sum divided by them.

# %%
pairwise_kl = checks.mine("pairwise_kl")


def cdc_loss(adapted, source, z, layer):
    """Your code here: two generators, (N,latent), a layer's number → scalar ≥ 0."""
    return None

# %%
cdc_loss = checks.mine("cdc_loss")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `adapted.trace(z).layers[layer]` are the maps (N,C,r,r). `pairwise_kl` is the *sum* over all entries.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("cdc_loss")` in a new cell.
# </details>
#
# The library's, `cdc.consistency`, gives the same numbers:

# %% tags=["nbval-check-output"]
from dslib.gan import cdc

shaken = copy.deepcopy(source.generator)
with torch.no_grad():
    for weight in shaken.parameters():
        weight.mul_(1.05)
some, layers = z[:6].to(device), len(source.generator.trace(z[:6].to(device)).layers)
mine = [float(cdc_loss(shaken, source.generator, some, layer)) for layer in range(layers)]
theirs = [float(cdc.consistency(shaken.trace(some).layers[layer], source.generator.trace(some).layers[layer])) for layer in range(layers)]
all(abs(a - b) < 1e-6 + 1e-3 * b for a, b in zip(mine, theirs))

# %% [markdown]
# ## The run: TGAN, CDC and DCL
#
# The library's versions, the same number of steps and seed. DCL (Zhao et al. 2022) replaces the softmax over *pairs of latents* by a
# choice: which of the source's pictures has the same latent?
#
# $$\mathcal L_{CL1} = -\log \frac{f(G^l(z_i), G_S^l(z_i))}{\sum_j f(G^l(z_i), G_S^l(z_j))}, \qquad
# f(a, b) = e^{\cos(a, b)/\tau} \tag{11.3}$$
#
# $G_S$ is the source's generator, and $f$ says how alike two maps are; a small $\tau$ makes the choice stricter.

# %%
from dslib.gan import adapt

drawn = {}
for method in ("tgan", "cdc", "dcl"):
    config = adapt.GANConfig(method=method, max_train_steps=steps, seed=rt.seed)
    for record in tqdm(adapt.adapt(source, ten, config), total=steps, desc=method):
        if record.step in saved_at:
            drawn.setdefault(method, {0: before})[record.step] = draw.draw(record.averaged().generator, z)
last = {method: images[steps] for method, images in drawn.items()}

# %% tags=["slide"]
plots.show(plots.rows({"the ten": ten, "source GAN": before[:10]} | known | {name: images[:10] for name, images in last.items()}),
           alt="Each row a model, each column a latent: the source's face, its true answer, and what three methods made of it.")

# %%
from dslib.measure import score

collapsed = {name: why for name, images in last.items() if (why := draw.collapse(images, before))}
found = score.score_all({"source": before} | {name: images for name, images in last.items() if name not in collapsed}, ten, target)
print(score.text_table(found), *collapsed.items(), sep="\n")

# %% [markdown]
# Every column begins with the same latent. None of the three draws clean hatching, and every face melts: the source GAN is small.
#
# - **tgan**: features of the ten in the place of the source's: buns and fringes appear, colours of hair and skin fade to grey.
# - **cdc**: keeps more of hair and background. Its lines are the weakest.
# - **dcl**: darker lines than cdc.
#
# "domain hit" is near 100 % all the same: the probe is content with dark lines and grey colours. So hits are read *beside* the pictures.
#
# ## All methods, beside diffusion
#
# Three training seeds, the protocol of chapter 08: the same ten, real images and probe; 128 samples a run. `python -m dslib.study gans`
# makes the runs. The names in full:
#
# | | |
# |---|---|
# | tgan | plain fine-tuning of both players (transferring GANs) |
# | tgan-diffaug | the same, and the judge sees all pictures coloured, shifted and cut at random (DiffAugment) |
# | freezed | the judge's first layers stay as they were (FreezeD) |
# | ewc | weights that mattered to the source are held back (elastic weight consolidation) |
# | cdc, dcl | relations between pictures are kept: (11.2), (11.3) |
#
# ### At equal steps
#
# After 100 steps each.

# %%
from dslib.study import evidence, regime

results, enough, near = env.data_dir() / "results", 0.8, 0.95
gans = regime.load(results / "gans.csv")
scores = ("hit", "copies", "intra", "nearest", "fd", *(("twin", "kept") if known else ("own",)))
plots.table(evidence.text(gans, target, evidence.compare(gans, target, "tgan", step=100, scores=scores), scores).split("\n\n")[0])
for step in (100, 200):
    told = {key: evidence.spread(evidence.scores_of(gans, target, "tgan", key, step).values(), 3) for key in ("copies", "intra", "fd")}
    print(f"tgan after {step} steps:", told)

# %% [markdown]
# - **tgan** keeps 4 % of the people and copies in 17 % of its pictures. **cdc** keeps 14 %, **ewc** 16 %, with 6 and 2 % copies.
# - But they are not as far: 90 and 92 % of their pictures are in the domain, of tgan's all. A model that has not begun keeps everybody.
#
# ### At equal hits
#
# So each line is read where its run has 80 % of its samples in the domain: on a straight line between the two stops around it. (12, 25, 50,
# 100 and 200 steps were measured.)

# %%
at_hit = evidence.compare(gans, target, "tgan", hit=enough, scores=scores)
plots.table(evidence.text(gans, target, at_hit, scores).split("\n\n")[0])

# %% [markdown]
# - **tgan** is there in 30 steps, and has kept 14 % of the people. **cdc** (15 %) and **dcl** (16 %) keep hardly more.
# - **ewc** keeps most (21 %), with the most diversity. Its λ was chosen on this domain; cdc's and dcl's are those of their papers.
# - **tgan-diffaug** and **freezed** keep the judge back. They come later and keep fewer people, but their FD is lower.
# - *kept people* is a coarse ruler. Of the source's samples, before any training, 22 % are nearest to their own true answer; chance is 1 %.
#
# Now each less TGAN, paired by seed, with 95 % intervals; p is corrected for all differences of the table (Holm).

# %% tags=["slide"]
from dslib.measure.score import SCORES

compared = [line for line in at_hit if line.against]
each = {SCORES[key].title: {line.name: line.against[key].each for line in compared if key in line.against} for key in scores[1:]}
spans = {SCORES[key].title: {line.name: line.against[key][:3] for line in compared if key in line.against} for key in scores[1:]}
plots.show(plots.forest(spans, dict.fromkeys(spans, (0, 0)), each),
           alt=f"Every GAN method less TGAN at {enough:.0%} hits: scores with 95 % intervals, seed by seed.")
for line in compared:
    sure = [f"{SCORES[key].title} {line.against[key].mean:+.3f}" for key in scores[1:] if line.corrected.get(key, 1) < 0.05]
    print(f"{line.name:<14} told from TGAN: {', '.join(sure) or 'nothing'}")

# %% [markdown]
# A filled point is one whose interval leaves out zero. Of 30 differences, with three seeds, one survives the correction: dcl is 0.003
# nearer to the true answers, which nobody can see. The others are hints, to be looked for in other domains.
#
# ### Three domains
#
# *own* is the share of samples nearest, of all 128, to the source's picture of the same latent. It is 100 % for a model that has not
# learned; engraved faces that are perfect, the true answers, have 11 %. So it says who is *still* recognised, and only beside equal hits.

# %% tags=["slide"]
domains = ("engraved", "sunglasses", "portraits")
at_80 = {(domain, method, key): evidence.scores_of(gans, domain, method, key, hit=enough)
         for domain in domains for method in adapt.METHODS for key in ("step", "intra", "own")}
shown = {"steps": ("step", 0), "Intra-LPIPS": ("intra", 3), "own": ("own", 2)}
lines = ["| method | " + " | ".join(f"{domain}: runs | " + " | ".join(shown) for domain in domains) + " |", "|---" * 13 + "|"]
for method in adapt.METHODS:
    cells = [cell for domain in domains for cell in
             (str(len(at_80[domain, method, "step"])),
              *(evidence.spread(at_80[domain, method, key].values(), digits) for key, digits in shown.values()))]
    lines.append(f"| {method} | " + " | ".join(cells) + " |")
reals = [evidence.goal(gans, domain, "intra")[1:] for domain in domains]
lines.append("| real images | " + " | ".join(f"– | – | {low:.3f} to {high:.3f} | –" for low, high in reals) + " |")
plots.table("\n".join(lines))

# %% [markdown]
# *runs* says how many of three came to 80 % within 200 steps. All pairs of the same domain and seed together, each method less TGAN:

# %%
for method in list(adapt.METHODS)[1:]:
    said = []
    for key in ("intra", "own"):
        less = [d for domain in domains if at_80[domain, method, key]
                for d in evidence.paired(at_80[domain, method, key], at_80[domain, "tgan", key]).each]
        middle, low, high = evidence.interval(less)
        said.append(f"{SCORES[key].title} {middle:+.3f} [{low:+.3f}, {high:+.3f}], higher in {sum(d > 0 for d in less)} of {len(less)}")
    print(f"{method:<14}", *said, sep="  ")

# %% [markdown]
# - **cdc**: above TGAN in four pairs of eight, a coin's toss; by its interval it may keep a tenth more people, or fewer. And its runs
#   differ: 88 ± 78 steps in sunglasses.
# - **ewc**: more people in every pair, more diversity in seven of eight. **dcl**: both in eight of nine.
# - **freezed** and **tgan-diffaug**: below TGAN nearly everywhere. tgan-diffaug never has 80 % of portraits.
#
# So here CDC goes TGAN's way, later: what it shows at equal steps is mostly its slowness. Its authors adapt a StyleGAN2 for thousands of
# steps, where stopping in time is harder.
#
# ### Beside diffusion
#
# Now at 95 % hits, which the first measured stop of most diffusion runs lies above. "published, lambda 1" is the paper's loss with
# anchored's weights, chapter 08's control. The diffusion source is another one, so the people and their true answers are others as well.

# %%
trained = [row for row in gans if row["step"]]
scratch = [row for row in regime.load(results / "scratch.csv") if row["step"]]          # its real sets are the same as the others'
diffusion = [row for row in [*regime.load(), *scratch] if row["until"] is None]
chosen = ("tgan", "ewc", "cdc", "dcl", "scratch", "naive", "published", "published, lambda 1", "anchored")
both = [row for row in trained + diffusion if row["method"] in chosen or not row["step"]]
beside = evidence.compare(both, target, hit=near, scores=scores)
plots.table(evidence.text(both, target, beside, scores).split("\n\n")[0])
for kind, rows in (("GAN", gans), ("diffusion", regime.load())):
    for row in rows:
        if row["target"] == target and row["method"] in ("source samples", score.TRUE):
            values = ", ".join(f"{SCORES[key].title} {row[key]:.2f}" for key in ("intra", "fd", *(("kept",) if known else ())))
            print(f"{kind:<10} {row['method']:<16} {values}")

# %% [markdown]
# The same in three domains: a cell is copies / Intra-LPIPS / own, with the number of runs that come to 95 %.

# %%
lines = ["| method | " + " | ".join(domains) + " |", "|---" * 4 + "|"]
for method in chosen:
    cells = []
    for domain in domains:
        at_95 = {key: evidence.scores_of(both, domain, method, key, hit=near) for key in ("copies", "intra", "own")}
        told = [evidence.spread(found.values(), digits) for found, digits in zip(at_95.values(), (2, 3, 2))]
        cells.append(f"{' / '.join(told)} ({len(at_95['own'])})" if at_95["own"] else "–")
    lines.append(f"| {method} | " + " | ".join(cells) + " |")
plots.table("\n".join(lines))

# %% [markdown]
# - **Copies.** This early, GANs copy less than naive diffusion: 7 against 17 % in engraved, 1 against 47 % in sunglasses. Later, in
#   engraved, tgan has 17 % after 100 steps and 2 % after 200: its pictures crowd together away from the ten. Few copies are no diversity.
#   anchored has 4 % in engraved and 2 % in portraits.
# - **Diversity.** anchored and *published, lambda 1* are ahead in engraved; in portraits anchored is level with ewc's one run. In
#   sunglasses it never has 95 % hits, and the GANs lead.
# - **People.** By *kept people* diffusion leads in engraved (15 to 20 % against 8 to 14 %). By *own* tgan has more than naive in engraved
#   and sunglasses. Two sources have drawn two sets of people: neither score says which *kind* of model forgets more.
# - **FD** in engraved: GANs 1.7 to 1.9, diffusion 2.3 and more at its first stop. Naive diffusion comes to 1.7 after 300 steps, with 33 %
#   copies (chapter 08). No model wins every column.
# - **scratch**, diffusion without a source, after 300 steps: in engraved the style is there (two runs of three), the diversity is not. The
#   other domains it does not reach.
#
# Read with care: the diffusion runs are at 96 to 100 % hits, the GANs' at 95, and some cells hold one or two runs.
#
# ## A latent, and a start noise
#
# Walk from one latent to another, in seven steps, through the source GAN; and from one start noise to another through the diffusion source.
# Below: how far each picture is from the one before (LPIPS).

# %%
from dslib import models, sample


def walk(a, b, n=7):
    """n points from a to b, (n,…), all as long as normal noise is: √(1−s)·a + √s·b."""
    s = torch.linspace(0, 1, n).view(-1, *[1] * a.dim())
    return (1 - s).sqrt() * a + s.sqrt() * b


ddpm_source = models.load_source()
noise = sample.start_noise(2, 64, seed=3)
paths = {"GAN": draw.draw(source.generator, walk(z[0], z[1])),
         "diffusion": sample.sample(ddpm_source.unet, ddpm_source.scheduler, walk(noise[0], noise[1]), rt.pick(smoke=2, cpu=20), "ddim")}
for name, path in paths.items():
    strides = metrics.lpips_matrix(path[:-1], path[1:]).diagonal()
    print(f"{name:<10} strides {' '.join(f'{d:.2f}' for d in strides)}; longest / mean {strides.max() / strides.mean():.2f}")
plots.show(plots.rows(paths, columns=7), alt="Two rows of seven faces: from one latent to another, and from one noise to another.")

# %% [markdown]
# - **GAN**: a picture is a function of 128 numbers, drawn in one pass.
# - **diffusion**: start noise has 12 288 numbers, one for each pixel and colour. The sampler is deterministic (chapter 02), so this is a
#   function as well, of many passes.
# - On this pair both are whole faces all the way, and both change by leaps here and hardly there. A latent is no smoother than noise.
#
# ### And the reverse
#
# Where does a *given* picture lie? Four faces that neither source has seen. The GAN: the nearest of many drawings. The diffusion source:
# noise the picture up to a step $t$, and guess it back.

# %%
from dslib import ddpm

strangers = data.load_domain(data.SOURCE, "test", 4).images
many = draw.draw(source.generator, draw.latents(rt.pick(smoke=64, cpu=1000), source.generator.latent, seed=1))
found_in = {f"nearest of {len(many)}": many[metrics.lpips_matrix(strangers, many).argmin(1)]}
a_bar, kind = ddpm_source.scheduler.alphas_cumprod, ddpm.prediction_type_of(ddpm_source.scheduler)
for step in (200, 400, 600):
    t = torch.full((len(strangers),), step)
    x_t = ddpm.q_sample(strangers, t, sample.start_noise(len(strangers), 64, seed=4), a_bar)
    with torch.no_grad():
        answer = ddpm_source.unet(x_t.to(device), t.to(device)).sample.cpu()
    found_in[f"guess at t={step}"] = ddpm.guess(answer, x_t, t, a_bar, kind).x_0.clamp(-1, 1)
print("  ".join(f"{name}: LPIPS {metrics.lpips_matrix(strangers, images).diagonal().mean():.3f}" for name, images in found_in.items()))
plots.show(plots.rows({"unseen faces": strangers} | found_in, columns=4),
           alt="Four unseen faces; the nearest that the GAN draws; the diffusion source's guesses after more and more noise.")

# %% [markdown]
# The nearest of a thousand drawings is somebody else. (A longer search, *GAN inversion*, comes nearer; it costs an optimisation for each
# picture.) A diffusion model takes any picture as it is, and the noise says how much of it is left: at $t=600$ its guess is farther off
# than the GAN's nearest. So DomainStudio can ask about *given* pictures at every $t$. CDC asks about its own drawings.
#
# ## Controls
#
# A generator that draws one picture has no diversity. It is called *collapsed*, and no score of it means anything.

# %%
one_picture = before[:1].expand(len(before), -1, -1, -1)
print("collapsed:", draw.collapse(one_picture, before))

# %%
by_name = {s.name: s for s in found}
_ = checks.check_expected("11", rt, tgan_nearest=by_name["tgan"].nearest_lpips, cdc_nearest=by_name["cdc"].nearest_lpips,
                          tgan_hit=by_name["tgan"].domain_hit, cdc_hit=by_name["cdc"].domain_hit)

# %% [markdown]
# ## Play
#
# Follow eight latents through the steps of each method.

# %%
from dslib.show import widgets

widgets.explore_memorisation(drawn, ten, 8)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | all latents give one picture | the generator has collapsed | `draw.collapse` says so; fewer steps, DiffAugment |
# | $\mathcal L_D$ falls to zero | the judge knows the ten by heart | stop earlier; freeze its first layers (FreezeD) |
# | NaN after some hundred steps | both players overshoot | a smaller rate, R1 more often |
# | `--source data/gan` with a diffusion method | the two kinds of source do not mix | the message names the methods that fit |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (11.1) | `checks.players_losses` | `test_checks_11.py::test_the_players_losses_are_the_librarys` |
# | (11.2) | `cdc.consistency` | `test_gan_losses.py::test_consistency_is_the_mean_kl_of_similarities_from_the_adapted_to_the_source` |
# | (11.3) | `dcl.generator_contrast` | `test_gan_losses.py::test_the_contrasts_are_those_of_the_paper` |
#
# ## Paper, authors' code, ours
#
# | point | papers | their code | here |
# |---|---|---|---|
# | source | StyleGAN2, 256 pixels, photographs | the same | a million weights, 64 pixels, drawings |
# | direction of CDC's KL | adapted from source | source from adapted | the paper's |
# | layer compared | random | another for each image | one for all, another each step |
# | DCL's losses | (11.3), and one in $D$ | never published | from the formulas |
#
# More stand at the top of `dslib/gan/cdc.py`, `dcl.py`, `ewc.py`, `loop.py` and `networks.py`.
#
# ## Check yourself
#
# 1. Why does a GAN's generator not need to see the ten to copy them?
#    <details><summary>Answer</summary>$D$ has seen them. Its gradient pulls every picture to what it takes for real.</details>
# 2. What are CDC's anchors for, and what is judged elsewhere?
#    <details><summary>Answer</summary>Near ten fixed latents a picture must pass as a whole; elsewhere only its patches must.</details>
# 3. What did DomainStudio have to replace in (11.2)?
#    <details><summary>Answer</summary>Maps by guesses x̃_0. A diffusion model draws in many passes, and no one pass's maps are the
#    picture.</details>
#
# Five questions with answers that say why:

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("11")

# %% [markdown]
# ## In this notebook we have
#
# - trained two players, and seen whom the judge believes;
# - written CDC's loss with chapter 04's `pairwise_kl`;
# - compared six GAN methods at equal hits, and beside diffusion;
# - walked through latents and through noise.
#
# **You now have** the table that the paper's begins with, on your own machine: `dslib adapt --method cdc --target engraved`.
#
# Next: what a model gives away of the ten: `12_memory_and_misuse.ipynb`.
