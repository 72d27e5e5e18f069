# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["slide"]
# # 4. Keep who resembles whom: the pairwise similarity loss
#
# **Claim.** By the end you will have shown that naive fine-tuning changes *which pictures resemble each other*, and that the
# pairwise similarity loss $\mathcal L_{img}$ holds that pattern in place. The evidence is the distance between the
# similarity
# matrices of the adapted and of the source model, on images and noise that training never used. The controls: a loss with
# the same
# formula but *shuffled pairs*, which must not hold it, and no loss at all. One training run each; spreads are over noises.
#
# | | |
# |---|---|
# | Read / run | 45 min / 4 min on two CPU cores (tier `cpu`) |
# | Device | a laptop CPU is enough |
# | Needs | chapters 01 ($\tilde x_0$), 02 (the loop) and 03 (LPIPS); softmax and KL divergence |
# | Paper | DomainStudio §1: $p_i$, $\mathcal L_{img}$ |
# | `dslib` files | `losses.py` |
# | You will keep | `pairwise_kl`, the loss that gives the method its name in the first paper (DDPM-PA) |
#
# **You will**
# - look at similarity matrices as pictures, for four models and any $t$;
# - write the softmax without the diagonal, and the KL divergence, first by loops;
# - see the loss's gradient as a picture, in both directions of the KL;
# - find four situations in which the loss is blind;
# - train with the loss, without it, and with shuffled pairs.

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
steps = rt.pick(smoke=2, cpu=120, colab=300)
seeds = rt.pick(smoke=[0], cpu=[0, 1, 2])      # of the noise that the matrices are measured with
lambda_img = 0.1
shown_t = 600          # 0 to 999

# %% [markdown]
# ## Where we are going
#
# Ten faces, noised to the same $t$, and the source model's guess of each. The matrix says how alike each two guesses are.
# This
# pattern is what the loss protects.

# %% tags=["slide"]
import torch
import torch.nn.functional as F

from dslib import checks, data, losses, models
from dslib.show import plots

q_sample, predict_x0 = checks.mine("q_sample", "predict_x0")
source = models.load_source()
device, a_bar = source.device, source.scheduler.alphas_cumprod.to(source.device)
faces = data.load_domain(data.SOURCE, "test", 10).images.to(device)


def guesses(unet, x_0, t, seed=0):
    """x̃_0 of images (N,3,R,R), all noised to the same step t with the noise of a seed: (N,3,R,R)."""
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    steps_of = torch.full((len(x_0),), t, device=device)
    x_t = q_sample(x_0, steps_of, eps, a_bar)
    with torch.no_grad():
        return predict_x0(x_t, steps_of, unet(x_t, steps_of).sample, a_bar)

believed = guesses(source.unet, faces, shown_t)
plots.show(plots.rows({"x_0": faces.cpu(), f"guess at t={shown_t}": believed.cpu()}),
           alt="Ten source faces, and below each the source model's guess of it from a noisy picture at the shown step.")
plots.show(plots.heatmaps({"source model": losses.cosine_matrix(believed).cpu()}),
           alt="Ten by ten matrix of cosine similarities between the guesses, diagonal greyed.")

# %% [markdown] tags=["slide"]
# Find the brightest entry and look up its two pictures: both on a pale ground. Cosine similarity of raw pixels is
# crude: it mostly sees large areas of colour. It is also cheap, needs no other network, and is what the paper uses. The
# numbers spread over more than half of [−1, 1] only because the course's faces have backgrounds of many colours; on
# white, all of them crowd together and the loss has little to hold on to.
#
# ## The mental model
#
# Each image looks at the others and asks "how much are you like me?" A softmax turns the answers into a distribution. The
# loss
# asks that the distribution stay what it was under the source model.
#
# $$p_i = \mathrm{softmax}_{j\ne i}\; \cos(\tilde x_0^i, \tilde x_0^j), \qquad
# \mathcal L_{img} = \sum_i \mathrm{KL}\left(p_i^{ada} \,\|\, p_i^{sou}\right) \tag{4.1}$$
#
# | symbol | meaning | shape | code |
# |---|---|---|---|
# | $\tilde x_0^i$ | guess of clean image $i$, from one shared $x_t$ | (N,3,R,R) | `predict_x0(...)` |
# | $\cos$ | cosine similarity of flattened images | (N,N) | `losses.cosine_matrix` |
# | $p_i$ | how image $i$ divides its attention | (N,N−1) | `losses.pairwise_log_probs` (logarithms) |
# | $\mathcal L_{img}$ | how far the pattern has moved | scalar | `losses.pairwise_kl` |
#
# Both models see the same $x_t$, the same $t$ and the same $\varepsilon$; only the weights differ.
#
# ## The naive version
#
# By loops, exactly as the formulas read:

# %%
def pairwise_kl_by_loops(adapted, source_images):
    """(N,…), (N,…) → scalar: for every image a distribution over the others, compared between two models."""
    def attention(x, i):
        others = [torch.dot(x[i].flatten(), x[j].flatten()) / (x[i].norm() * x[j].norm()) for j in range(len(x)) if j != i]
        return torch.softmax(torch.stack(others), dim=0)          # (N-1,)

    total = 0.0
    for i in range(len(adapted)):
        p, q = attention(adapted, i), attention(source_images, i)
        total = total + sum(p[k] * torch.log(p[k] / q[k]) for k in range(len(p)))
    return total


other = guesses(source.unet, faces, shown_t, seed=1)
print(f"same guesses twice: {float(pairwise_kl_by_loops(believed, believed)):.6f}")
print(f"same faces, other noise: {float(pairwise_kl_by_loops(other, believed)):.6f}")

# %% [markdown]
# Zero when nothing has changed. Another noise alone already makes ten times what naive training will change below: that is why
# both models must see the *same* $x_t$.
#
# ## Exercise: the softmax without the diagonal
#
# *Difficulty ●●○ · importance ●●● · 15 minutes*
#
# Write `pairwise_log_probs(x)`: for each image the log-softmax over its cosine similarities to the *others*. (N,…) →
# (N,N−1). No loops.

# %%
def pairwise_log_probs(x):
    """Your code here: (N,…) → (N,N−1), logarithms."""
    return None

# %%
pairwise_log_probs = checks.mine("pairwise_log_probs")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Normalise the flattened images, multiply by the transpose, then remove the diagonal: `square.flatten()[1:].view(n-1,
# n+1)[:, :-1]`
# puts every diagonal entry into the last column, where it is cut off; `.reshape(n, n-1)` makes rows of it again. A boolean
# mask works too.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("pairwise_log_probs")` in a new cell.
# </details>
#
# ## Exercise: the KL divergence
#
# *Difficulty ●●○ · importance ●●● · 10 minutes*
#
# Write `pairwise_kl(adapted, source)`: $\sum_i \mathrm{KL}(p_i^{ada} \| p_i^{sou})$. Mind the direction, mind the sum,
# and let no
# gradient into the source.

# %%
def pairwise_kl(adapted, source):
    """Your code here: (N,…), (N,…) → scalar. You may use pairwise_log_probs."""
    return None

# %%
pairwise_kl = checks.mine("pairwise_kl")

# %% [markdown]
# <details><summary>Hint</summary>
#
# $\mathrm{KL}(p\|q) = \sum p\,(\log p - \log q)$. With logarithms in hand, `F.kl_div(log_q, log_p, log_target=True,
# reduction="sum")` is KL(p‖q): its arguments are the wrong way round for most readers, and it
# takes the *mean* over all entries unless told otherwise. The authors' code was caught by both (ledger rows 1 and 2).
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("pairwise_kl")` in a new cell.
# </details>
#
# ## Now import it
#
# It agrees with the loops, and with PyTorch's, once the arguments are turned round:

# %% tags=["nbval-check-output"]
ours = pairwise_kl(other, believed)
torchs = F.kl_div(pairwise_log_probs(believed), pairwise_log_probs(other), log_target=True, reduction="sum")
loops = pairwise_kl_by_loops(other, believed)
bool((ours - loops).abs() < 1e-5), bool((ours - torchs).abs() < 1e-5)

# %% [markdown]
# ## Two directions
#
# KL is not symmetric. Let the adapted model *collapse*: pull every guess towards their average, from not at all (0) to
# completely (1), and
# watch the loss in the paper's direction and in the direction of the authors' code.

# %% tags=["ledger-1", "slide"]
collapse = torch.linspace(0, 0.98, 25)
average = believed.mean(0, keepdim=True)
pulled = [(1 - c) * believed + c * average for c in collapse]
directions = {f"KL({name})": torch.stack([losses.pairwise_kl(x, believed, direction=name) for x in pulled])[None].cpu()
              for name in ("ada||sou", "sou||ada")}
plots.show(plots.curves(collapse, directions, "collapse towards the average picture", "sum of KL over ten images"),
           alt="Both directions of the KL rise together as the guesses collapse towards their average, and then level off.")
print({name: f"{float(values[0, -1]):.3f}" for name, values in directions.items()})

# %% [markdown]
# Both directions notice the collapse, and they hardly differ. Cosines lie in [−1, 1], so no probability is more than $e^2
# \approx 7.4$ times
# another, and distributions that mild look alike from either side. What does differ is the *scale*: the authors' mean over
# $N(N-1)$ entries makes the same loss $N(N-1)$ times smaller, and their weights larger.
#
# ## Exercise: whose weight is it?
#
# *Difficulty ●○○ · importance ●●○ · 5 minutes*
#
# The authors' code multiplies the *mean* over the $n(n-1)$ entries of $n = 3$ images by 4. Which λ of the paper, which
# multiplies
# the *sum*, pulls as hard on the same three images? Write `authors_weight(weight, n)`.

# %%
def authors_weight(weight, n=3):
    """Your code here: a number."""
    return None

# %% tags=["ledger-2"]
authors_weight = checks.mine("authors_weight")
print(f"the authors' 4, in the paper's units: {authors_weight(4, 3):.3f}")

# %% [markdown]
# That is inside the paper's range for $\lambda_2$ (our `lambda_img`), [0.1, 1], so the *weights* of paper and code agree, once
# converted (ledger rows 2 and 3). Direction and number of images still differ.
#
# ## The gradient is a picture
#
# What does the loss tell each guess to do? The gradient with respect to a picture is a picture. Here the adapted guesses
# are half
# collapsed; red asks for less, blue for more.

# %% tags=["slide"]
def gradient(direction):
    """∂L_img/∂x̃_0 at half-collapsed guesses: (N,3,R,R)."""
    x = (0.5 * believed + 0.5 * average).requires_grad_()
    losses.pairwise_kl(x, believed, direction=direction).backward()
    return x.grad


gradients = {name: gradient(name) for name in ("ada||sou", "sou||ada")}
plots.show(plots.signed_rows({"added by the collapse": (average - believed).cpu()} | {name: g.cpu() for name, g in gradients.items()}),
           alt="Signed pictures: what the collapse added to each face, and the gradient in both directions of the KL.")
alike = F.cosine_similarity(*(g.flatten(1) for g in gradients.values()))
print(f"cosine of the two directions' gradients: {alike.mean():.3f}, lowest {alike.min():.3f}")
undo = F.cosine_similarity(gradients["ada||sou"].flatten(1), (average - believed).flatten(1))
print(f"cosine of the gradient with what the collapse added: {undo.mean():.3f}, from {undo.min():.2f} to {undo.max():.2f}")
lengths = gradients["ada||sou"].flatten(1).norm(dim=1)
by_length = torch.corrcoef(torch.stack([lengths, 1 / (0.5 * believed + 0.5 * average).flatten(1).norm(dim=1)]))[0, 1]
print(f"correlation of a gradient's length with 1 / the picture's length: {by_length:.2f}")

# %% [markdown]
# The first row is the average minus the face: red where the collapse added light, blue where it took some away. A
# gradient that points the same way asks, after the minus sign of gradient descent, to undo it. The cosine says that it
# does, in part, and for some faces hardly. The two directions of the KL ask for the same thing, and both ask it in broad areas,
# background and head, and of some faces far more than of others: a cosine's gradient is divided by the picture's length, so
# pale guesses, near grey, are pushed hardest. Strands of hair hardly move a cosine. That gap is what chapter 05's
# high-frequency loss is for.
#
# ## When the loss is blind
#
# The loss compares *relations*. Anything that keeps the relations is free:

# %% tags=["slide"]
permutation = torch.randperm(believed[0].numel(), generator=torch.Generator().manual_seed(0)).to(device)
unchanged = {
    "negatives": -believed,
    "all mirrored": believed.flip(-1),
    "all pixels scrambled alike": believed.flatten(1)[:, permutation].view_as(believed),
    "each with another contrast": believed * torch.linspace(0.2, 3, 10, device=device).view(-1, 1, 1, 1),
}
bar = believed.clone()
bar[..., 24:32, 14:50] = -0.9                                                    # where sunglasses sit
noticed = {"the same dark bar on all": bar, "each made brighter or darker": believed + torch.linspace(
    -0.5, 0.5, 10, device=device).view(-1, 1, 1, 1), "one pair swapped": believed[[1, 0, *range(2, 10)]]}
for name, x in (unchanged | noticed).items():
    print(f"{name:<30} L_img = {abs(float(pairwise_kl(x, believed))):.6f}")
pair = float(pairwise_kl(torch.randn_like(believed[:2]), believed[:2]))
print(f"{'a batch of two, pure noise':<30} L_img = {abs(pair):.6f}")

# %% [markdown]
# - **Negatives, mirror images, scrambled pixels** all score zero. The loss says nothing about *what* is drawn: that is
# the denoising
#   loss's work.
# - **A batch of two** has one pair, hence a distribution with one entry, which is always 1. The loss is then exactly zero
# whatever the model does.
#   The authors compare three images; `dslib` compares the whole batch.
# - **Contrast** is free: the picture's length drops out of a cosine. **Brightness** is not: adding a constant turns all
#   cosines.
# - **The same dark bar on all faces**, as sunglasses are, costs a little: a cosine notices what all have in common.
# - **One pair swapped** is seen: image 1 now resembles the others as image 2 did.
# - **Identical images** are not free (see the collapse above), but no way leads out: a cosine of 1 is a maximum, so the gradient
#   is zero there. The loss can prevent a collapse; it cannot repair one.
#
# And it depends on $t$. The same comparison between the source and a model whose weights were jittered a little, along $t$:

# %% tags=["slide"]
import copy

jittered = copy.deepcopy(source.unet)
generator = torch.Generator().manual_seed(rt.seed)
with torch.no_grad():
    for p in jittered.parameters():
        p.add_(0.02 * p.std(correction=0) * torch.randn(p.shape, generator=generator).to(device))

along = torch.arange(50, 1000, rt.pick(smoke=450, cpu=100))
by_seed = [[float(pairwise_kl(guesses(jittered, faces, t, s), guesses(source.unet, faces, t, s))) for t in along.tolist()]
           for s in seeds]
plots.show(plots.curves(along, {"source against its jittered copy": torch.tensor(by_seed)}, "step t", "L_img of ten images"),
           alt="The pairwise loss between the source and a slightly jittered copy against t: near zero at small t, larger further on.")

# %% [markdown]
# At small $t$ both models simply see the face: the guesses agree and the loss has nothing to say. With growing $t$ the
# guesses are more and more the model's own invention, and the loss speaks about that invention: most of all at 650 and
# 750. Near $t = T$ it falls silent again. There each guess is mostly its own magnified remainder of the noise $x_t$ (chapter
# 01), the same for both models: ten unrelated noises, whose cosines are near zero whatever the models believe.
#
# ## Train with it, without it, and with shuffled pairs
#
# The same loop as everywhere, `train.fit`, with an objective written out here. `order` says whose source row each adapted
# row is compared with:
# the identity is the method, a fixed shuffle is the negative control. It asks each image to resemble others as *some other*
# image did.

# %%
from tqdm.auto import tqdm

from dslib import train

ten = data.load_domain(target, "ten").images
config = train.TrainConfig(method="finetune", max_train_steps=steps, seed=rt.seed)


def objective(weight, order):
    """L_simple + weight · L_img, with the source's images taken in another order."""
    def loss(net, x_0, t, eps):
        x_t = q_sample(x_0, t, eps, a_bar)
        predicted = net(x_t, t).sample
        with torch.no_grad():
            frozen = predict_x0(x_t, t, source.unet(x_t, t).sample, a_bar)
        simple = (predicted - eps).square().mean()
        img = pairwise_kl(predict_x0(x_t, t, predicted, a_bar), frozen[order[:len(frozen)]])
        return simple + weight * img, {"simple": simple, "img": img}
    return loss

# %% tags=["slide"]
same, shuffled = torch.arange(10), torch.tensor([3, 7, 0, 9, 1, 8, 2, 5, 4, 6])     # the second leaves nobody in place
runs = {"naive": (0.0, same), "pairwise": (lambda_img, same), "shuffled pairs": (lambda_img, shuffled)}
adapted, history = {"source": source.unet}, {}
for name, (weight, order) in runs.items():
    history[name] = {"simple": [], "img": []}
    fitting = train.fit(copy.deepcopy(source.unet), ten, config, objective(weight, order), source.scheduler.alphas_cumprod)
    for record in tqdm(fitting, total=steps, desc=name):
        for term, value in record.terms.items():
            history[name][term].append(float(value))
    adapted[name] = record.averaged()
plots.show(plots.losses(history), alt="L_simple and L_img against the step for naive, pairwise and shuffled training.")

# %% [markdown]
# The naive run also *reports* $\mathcal L_{img}$; its weight is zero, so nothing pushes it down, and after 120 steps it is
# several times the second run's. The third run is asked for a pattern that fits nobody: its loss stays where it began,
# and its denoising loss pays for the attempt.
#
# ## The signature figure
#
# Held-out target images, noised with noise that no run has seen, through all four models.

# %% tags=["slide"]
held_out = data.load_domain(target, "test", 10).images.to(device)
matrices = {name: losses.cosine_matrix(guesses(unet, held_out, shown_t, seed=100)).cpu() for name, unet in adapted.items()}
plots.show(plots.heatmaps(matrices), alt="Cosine matrices of ten guesses for source, naive, pairwise and shuffled models.", dpi=80)


def drift(unet, t, seed):
    """Mean absolute change of the cosine similarities against the source's, off the diagonal; and L_img itself."""
    ours, reference = guesses(unet, held_out, t, 100 + seed), guesses(source.unet, held_out, t, 100 + seed)
    change = losses.drop_diagonal(losses.cosine_matrix(ours) - losses.cosine_matrix(reference)).abs().mean()
    return float(change), float(pairwise_kl(ours, reference))


moved = {name: torch.tensor([[drift(unet, t, s) for t in (400, 600, 800)] for s in seeds]) for name, unet in adapted.items()
         if name != "source"}                                                            # (seeds, 3, 2)
for name, values in moved.items():
    at = "   ".join(f"t={t}: {float(values[:, k, 0].mean()):.3f} ± {float(values[:, k, 0].std(correction=0)):.3f}"
                    for k, t in enumerate((400, 600, 800)))
    print(f"{name:<15} change of the cosines  {at}")

# %% [markdown]
# By eye the first three matrices are alike, so trust the numbers. Without the loss the cosines move away from the
# source's, the more the noisier the picture. With it they stay closer at $t = 600$ and much closer at 800; at 400, where
# all models still see the face, there is nothing to hold. The spread is over three noises, not over training runs. With
# *shuffled* pairs they move most of all: everybody is asked to resemble the wrong neighbours, and the nearest to complying
# is to make all pictures equally alike.
#
# Does it matter to the pictures? The same noise through all four:

# %% tags=["slide"]
from dslib import sample

noise = sample.start_noise(10, source.unet.config.sample_size, seed=5)
drawn = {name: sample.sample(unet, source.scheduler, noise, rt.pick(smoke=2, cpu=20)) for name, unet in adapted.items()}
plots.show(plots.rows({"the ten": ten} | drawn),
           alt="The ten training images, then ten samples from the same noise for source, naive, pairwise and shuffled.")

# %%
from dslib import metrics
from dslib.measure import probes

apart = {name: metrics.lpips_matrix(x) for name, x in drawn.items()}
in_domain = probes.domain_probe(target, source.unet.config.sample_size)
for name, matrix in apart.items():
    kept = losses.drop_diagonal(matrix)
    same_as_source = torch.corrcoef(torch.stack([kept.flatten(), losses.drop_diagonal(apart["source"]).flatten()]))[0, 1]
    print(f"{name:<15} mean LPIPS between samples {kept.mean():.3f}   domain hit {in_domain(drawn[name]).float().mean():4.0%}   "
          f"correlation of the distances with the source's {same_as_source:.2f}")

# %% [markdown]
# The shuffled row shows the compromise: ten times nearly the same person. It is the *right* pairs that keep the others
# apart. Naive fine-tuning loses some of the spread between samples (mean LPIPS), the pairwise run less of it. Part of that is missing
# adaptation: compare the domain hits, and count the sunglasses. One training seed and ten samples cannot separate the two; the
# README's table tries. The
# last column is
# a negative result: *who* is near to whom among finished samples follows the source no better with the loss than without
# it. The loss acts on the guesses of single steps and on pixels; twenty steps later, in LPIPS, on ten samples of one
# training
# seed, its pattern can no longer be seen. What remains is the spread.

# %%
_ = checks.check_expected("04", rt, naive_change=float(moved["naive"][:, 1, 0].mean()),
                          pairwise_change=float(moved["pairwise"][:, 1, 0].mean()),
                          shuffled_change=float(moved["shuffled pairs"][:, 1, 0].mean()))

# %% [markdown]
# ## Play
#
# Any $t$, any noise, the source and one of the others beside it (two of the four, because each costs a pass a redraw). Watch the
# matrices agree at small $t$, whatever the model, and part further on.

# %%
from dslib.show import widgets

widgets.explore_similarity(adapted, held_out, a_bar)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | loss is `inf` or `nan` | diagonal masked with −∞, or an image that is all zero | drop the diagonal before the softmax |
# | loss falls to zero, pictures unchanged | λ too large: not adapting at all is its minimum | lower `lambda_img`, look at the domain hit |
# | loss is exactly zero from the start | a batch of two, or source and adapted are the same object | three or more images; copy the model |
# | memory doubles | the source runs with gradients | `torch.no_grad()` around the frozen model |
# | loss is tiny and nothing happens | `F.kl_div`'s default mean | `reduction="sum"`, or convert the weight |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (4.1) | `losses.pairwise_log_probs` | `test_losses.py::test_log_probs_against_double_loop` |
# | (4.1) | `losses.pairwise_kl` | `test_losses.py::test_pairwise_kl_against_double_loop` |
#
# ## Paper, authors' code, ours
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | direction (row 1) | KL(ada ‖ sou) | KL(sou ‖ ada) | paper; `direction="sou||ada"` for theirs |
# | scale (row 2) | sum over i | mean over N(N−1) entries | sum; `reduction="mean"` for theirs |
# | images compared (row 3) | the batch | a random three, fails below three | the batch; `--pairwise_variant authors` for theirs |
# | weight over t | none | none | `dslib adapt` scales the gradient by √ᾱ_t (chapter 06); here: none |
#
# Row 3 in numbers, the loss of three images beside the loss of all ten:

# %% tags=["ledger-3"]
three = losses.pairwise_kl(guesses(adapted["naive"], held_out, shown_t)[:3], guesses(source.unet, held_out, shown_t)[:3],
                           direction="sou||ada", reduction="mean")
everyone = losses.pairwise_kl(guesses(adapted["naive"], held_out, shown_t), guesses(source.unet, held_out, shown_t))
print(f"authors' variant, three images: {float(three):.6f}, times their weight 4: {4 * float(three):.6f}")
print(f"the paper's, ten images: {float(everyone):.6f}, times λ = {lambda_img}: {lambda_img * float(everyone):.6f}")

# %% [markdown]
# On these faces our term, with the λ of this chapter, is smaller than theirs; with the converted weight of the exercise it would be
# larger.
#
# ## Check yourself
#
# 1. Why not compare $\varepsilon$ directly, or $x_t$?
#    <details><summary>Answer</summary>$x_t$ is the same for both models, and $\varepsilon$ is almost all noise: two
#    noises in thousands of dimensions
#    are orthogonal whatever the pictures. $\tilde x_0$ is where the pictures are.</details>
# 2. Why does the loss not simply forbid adaptation?
#    <details><summary>Answer</summary>It does resist: the same dark bar on all faces has a price (above), because a cosine
#    notices what all have in common. But L_simple gains more by the glasses, and every face pays alike, so the pattern bends
#    little. With a large λ it does forbid adaptation (see "What can go wrong").</details>
# 3. In a batch every image has its own $t$. What does that do to the matrix?
#    <details><summary>Answer</summary>It compares sharp guesses with blurred ones. The source does the same with the same
#    t, so the comparison is
#    fair, but the matrix mixes noise levels with likeness.</details>
# 4. What temperature would you give the softmax, and what would a small one do?
#    <details><summary>Answer</summary>Dividing the cosines by 0.1 makes each image attend to its nearest neighbour almost
#    alone: stronger
#    gradients, from fewer pairs. The paper uses 1.</details>
# 5. Project: replace pixels by LPIPS features in `cosine_matrix`. Does the pattern mean more? What does a step cost then?

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("04")

# %% [markdown]
# ## In this notebook we have
#
# - seen similarity matrices of guesses for four models and any t;
# - written and checked the softmax without the diagonal and the KL divergence;
# - compared both directions and both scalings, and converted the authors' weight;
# - found what the loss cannot see;
# - trained with it, without it, and with shuffled pairs.
#
# **Next:** chapter 05 looks at what these broad strokes leave out, edges and texture, through the Haar wavelet.
#
# **Read on:** [DDPM-PA](https://arxiv.org/abs/2211.03264) · [CDC](https://arxiv.org/abs/2104.06820), where the idea of
# cross-domain
# correspondence comes from
