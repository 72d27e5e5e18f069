# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["slide"]
# # 10. Personalise: this person, in that style
#
# **Claim.** By the end you will have taught one model two new words from ten pictures each, a person and a style. It draws either on
# request. Asked for both in one prompt, it draws only the first; two directions of guidance, added up, bring much of both. The evidence is
# a grid of same-noise pictures, and a probe that reads the person back. The controls: the same model asked for the style alone, the source,
# learning the two one after the other. The ceiling: the same person, really engraved.
#
# | | |
# |---|---|
# | Read / run | 30 min, exercises 20 min more / 5 min on two CPU cores (tier `cpu`) |
# | Device | a laptop CPU is enough |
# | Needs | chapter 09 |
# | Paper | DomainStudio's application at the end of §2; DreamBooth (Ruiz et al. 2023); composed guidance (Liu et al. 2022) |
# | `dslib` files | `text/`: `text_to_image.py`, `prompted.py`, `latent.py` |
# | You will keep | a pipeline with two words of your own, and a count of what became of the person |
#
# **You will**
# - meet a person in ten moods;
# - put three prompts into one pass of the U-Net yourself;
# - learn two words one after the other, and see which suffers;
# - learn them together, with DreamBooth and with DomainStudio, and count;
# - ask for both in one prompt, and by two directions added up.

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
target, class_prompt = "engraved", "a face"
style_prompt, person_prompt, both_prompt = "a face in sks style", "a face of zwx", "a face of zwx in sks style"
steps = rt.pick(smoke=2, cpu=150, colab=300)
num_images = rt.pick(smoke=6, cpu=24, colab=100)
inference_steps = rt.pick(smoke=2, cpu=12, colab=20)
probe_images = rt.pick(smoke=300, cpu=1500, colab=3000)
guidance_scale = 3.0

# %% [markdown]
# ## Ten pictures of somebody
#
# The person is an avatar drawn in the source's own language: always the same skin, hair, beard and glasses, in any mood, any clothes and
# before any background. The style is the ten engravings of chapter 09. A filter makes this style, so the answer is known here: the
# person's own pictures, engraved. No model sees them.

# %%
from dslib import data, env
from dslib.base import avatars
from dslib.show import plots
from dslib.text import latent, prompted

source = latent.load_pipeline(env.data_dir() / "text_to_image")
drawn, ten = data.load_domain(avatars.PERSON, "ten"), data.load_domain(target, "ten").images
person = prompted.identity(drawn.labels)
print("the same in all ten:", person)

# %% tags=["slide"]
real_both = data.twin(data.load_domain(avatars.PERSON, "test", 100 + num_images).images, target)
plots.show(plots.rows({"person": drawn.images, "style": ten, "the answer: this person, in that style": real_both[:10]}),
           alt="Ten drawings of one bearded person with an afro and round glasses, the ten training images of the style, ten true answers.")

# %% [markdown]
# Nobody told the model these words. `identity` compares the labels that drew the ten, and we keep them for the reading alone.
#
# ## Two words
#
# "zwx" will mean the person, "sks" the style. No caption ever used them. Training can take hold of them only if the U-Net tells them apart.
# How differently does it answer two prompts, before any training?

# %%
import torch

from dslib import ddpm

a_bar = source.scheduler.alphas_cumprod.to(source.device)
z_style = latent.encode(source.vae, ten).to(source.device)
generator = torch.Generator().manual_seed(rt.seed)
eps_style = torch.randn(z_style.shape, generator=generator).to(source.device)
z_t = ddpm.q_sample(z_style, torch.full((10,), 500, device=source.device), eps_style, a_bar)


@torch.no_grad()
def apart(*prompts):
    """Mean squared difference between the U-Net's answers to two prompts, ten latents at t = 500."""
    one, other = (source.unet(z_t, 500, text.expand(10, -1, -1)).sample for text in latent.embed(source, prompts).split(1))
    return float((one - other).square().mean())


for pair in ((style_prompt, person_prompt), (style_prompt, "a face in zwx style"), ("a face of sks", person_prompt),
             (class_prompt, f"{class_prompt} with glasses")):
    print(f"{' / '.join(pair):<40} {apart(*pair):.4f}")

# %% [markdown]
# The two *prompts* are about as far apart as a face is from the same face with glasses. Within "in … style" the two words are, too. Behind
# "of" they hardly differ: there it is the phrase that is heard. So the words around a rare word matter. An untrained vector is also short;
# the shipped source has both made as long as the longest of its vocabulary (`latent.lengthen_rare_words`).
#
# ## The naive version: one after the other
#
# DreamBooth teaches a new word. So teach it one, then the other: first the person under "a face of zwx", then the style, starting from the
# model that knows the person.

# %% tags=["nbval-ignore-output"]
from tqdm.auto import tqdm

from dslib.text import text_to_image

prior = text_to_image.prior_latents(source, class_prompt, n=10 * rt.pick(smoke=1, cpu=4, colab=20))


def learn(pipe, images, prompt, method="dreambooth", subject=None):
    """One run, start to end: a pipeline, ten images and their prompt → the adapted pipeline."""
    config = text_to_image.TextConfig(method=method, max_train_steps=steps, train_batch_size=5, seed=rt.seed)
    stream = text_to_image.adapt(pipe, images, config, prompt, class_prompt, prior, subject)
    for record in tqdm(stream, total=steps, desc=f"{method}, {prompt}"):
        last = record
    return text_to_image.adapted(pipe, last, prompt)


models = {"source": source, "person only": learn(source, drawn.images, person_prompt)}
models["then the style"] = learn(models["person only"], ten, style_prompt)

# %%
from dslib import sample

noise = sample.start_noise(max(8, num_images), source.unet.config.sample_size, seed=rt.seed, channels=source.unet.config.in_channels)


def ask(pipe, prompt, n=5):
    """n pictures of one prompt, the same noise for everyone."""
    return latent.draw(pipe, [prompt] * n, noise[:n], guidance_scale, inference_steps)


rows = {f"{name}: {prompt}": ask(models[name], prompt) for name in ("source", "person only", "then the style")
        for prompt in (person_prompt, style_prompt)}

# %% tags=["slide"]
plots.show(plots.rows(rows), alt="Six rows: the person's and the style's word, before, after the first and after the second training.")

# %% [markdown]
# Read it from above. To the source "zwx" is anybody, and "sks" comes near a style that it knows. After the first training "a face of zwx"
# is the person, afro, glasses, beard and all. "a face in sks style" was not trained on, and yet all five wear glasses now: a leak.
# After the second training the style is there. The person is still to be recognised, but the skin has gone grey and is smeared into the
# beard. Nobody showed the person any more, and all words share one U-Net.
#
# ## Both at once
#
# One cure is to go on showing the person while the style is learned. Prior, style and person are three sets of latents with a prompt
# each; one pass of the U-Net can take all of them:
#
# $$\mathcal L_{personalise} = \mathcal L(P_{style}, P_{sou})
# + \mathbb E\,\|v^{sub} - v_\theta(z^{sub}_t, t, P_{sub})\|^2 \tag{10.1}$$
#
# where $\mathcal L$ is DreamBooth's loss (9.2) or DomainStudio's (9.3). Diversity terms act on the *style* alone: whom the person resembles
# must not be kept, that is the point of a person.
#
# ## Exercise: three prompts in one pass
#
# *Difficulty ●●○ · importance ●●○ · 10 minutes*
#
# Build what the U-Net is given: all noised latents, their steps and their texts, part after part.

# %%
def one_batch(z_0, z_prior, z_subject, t, eps, texts, alphas_cumprod):
    """Your code here: latents (N,C,r,r), t (N,), eps, texts (3,L,width), ᾱ → x_t (3N,C,r,r), t (3N,), text (3N,L,width)."""
    return None

# %%
from dslib import checks

one_batch = checks.mine("one_batch")

# %% [markdown]
# <details><summary>Hint</summary>
#
# `t.repeat(3)` and `texts.repeat_interleave(N, 0)` look alike and are not: print both for two latents.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("one_batch")` in a new cell.
# </details>
#
# ## Now import it
#
# The library's loss with a subject is the sum over the three parts, here taken apart by hand:

# %% tags=["nbval-check-output"]
z_0, z_subject = latent.encode(source.vae, ten[:5]), latent.encode(source.vae, drawn.images[:5])
texts = latent.embed(source, [style_prompt, class_prompt, person_prompt])
generator = torch.Generator().manual_seed(rt.seed)
t, eps = ddpm.sample_timesteps(5, len(a_bar), generator).to(source.device), torch.randn(z_0.shape, generator=generator).to(source.device)
z_0, z_prior, z_subject = (z.to(source.device) for z in (z_0, prior[:5], z_subject))
with torch.no_grad():
    x_t, all_t, all_texts = one_batch(z_0, z_prior, z_subject, t, eps, texts, a_bar)
    wanted = torch.cat([ddpm.target(one, eps, t, a_bar, "v_prediction") for one in (z_0, z_prior, z_subject)])
    by_hand = sum(part.square().mean() for part in (source.unet(x_t, all_t, all_texts).sample - wanted).chunk(3))
    loss, terms = text_to_image.dreambooth_loss(source.unet, None, source.vae, z_0, z_prior, t, eps, texts, a_bar,
                                                text_to_image.TextConfig(method="dreambooth", snr_gamma=0.0), z_subject,
                                                kind="v_prediction")
bool((loss - by_hand).abs() < 1e-4)

# %% [markdown]
# ## Run
#
# Person and style together, once without and once with DomainStudio's terms:

# %% tags=["nbval-ignore-output"]
subject = text_to_image.Subject(drawn.images, person_prompt)
models["together, dreambooth"] = learn(source, ten, style_prompt, "dreambooth", subject)
models["together, domainstudio"] = learn(source, ten, style_prompt, "domainstudio", subject)

# %% [markdown]
# The signature figure: the same noise, three prompts, every model. The third prompt, "a face of zwx in sks style", was never trained on.

# %% tags=["slide"]
prompts = {"style": style_prompt, "person": person_prompt, "both": both_prompt}
names = [name for name in models if name != "person only"]
pictures = prompted.person_sheet({name: models[name] for name in names}, list(prompts.values()), 3, guidance_scale, inference_steps)
print("three columns each:", ", ".join(prompts.values()))
plots.show(plots.rows(pictures, 9), alt="Rows: models; three columns each for the style's word, the person's word, and both at once.")

# %% [markdown]
# Three columns each: the style, the person, both. Style and person are learned in every row below the source. Learned together, the
# person's skin is brown, as it should be. **But the last three columns are the person once more**, with a little hatching on the background
# and paler clothes. DomainStudio's terms change little here.
#
# ## Count the person
#
# ## Exercise: how much of the person is there?
#
# *Difficulty ●○○ · importance ●●● · 10 minutes*
#
# Of every picture a probe reads some attributes. The person's share is the part of these readings that is right:
#
# $$s = \frac{1}{N\,|A|}\sum_{a \in A}\sum_{i=1}^{N}\big[\,\mathrm{read}_a(x_i) = \mathrm{person}_a\,\big] \tag{10.2}$$

# %%
def recognised(read, person):
    """Your code here: {attribute: [word of every picture]} and {attribute: the person's word} → a number in [0, 1]."""
    return None

# %%
recognised = checks.mine("recognised")

# %% [markdown]
# <details><summary>Hint</summary>
#
# Go through the person's attributes, not through those that were read: a probe may also read the background, which is nobody's.
# </details>
# <details><summary>Solution</summary>
#
# `checks.solution("recognised")` in a new cell.
# </details>
#
# Two languages need two probes: one fitted on the source's drawings, for "a face of zwx", and one fitted on the style's, for anything
# with "sks". Not every attribute can be read in both; the share counts those that can.

# %% tags=["nbval-ignore-output"]
from dslib.text import grading_t2i

readers = {"source": grading_t2i.attribute_probe(n=probe_images), "style": prompted.probe(target, n=probe_images)}
drawings = {(name, key): ask(models[name], prompt, num_images) for name in names for key, prompt in prompts.items()}
drawings["real person", "person"] = data.load_domain(avatars.PERSON, "test", 100).images
drawings["real style", "style"] = data.load_domain(target, "test", 100).images
drawings["real person in the style", "both"] = real_both[:100]

# %%
def read(name, key):
    """The person's attributes in one model's answer to one prompt, by the probe of its language."""
    language = "source" if key == "person" or name == "source" else "style"
    return prompted.recognised(drawings[name, key], person, readers[language])


found = {asked: read(*asked) for asked in drawings}
common = sorted(set.intersection(*map(set, found.values())))
shares = {asked: sum(one[name] for name in common) / len(common) for asked, one in found.items()}
print("read by both probes:", ", ".join(common))
print(f"{'the person is there in …':<26}" + "".join(f"{key:>10}" for key in prompts))
for name in names:
    print(f"{name:<26}" + "".join(f"{shares[name, key]:>10.0%}" for key in prompts))
print(f"{'real pictures':<26}{shares['real style', 'style']:>10.0%}{shares['real person', 'person']:>10.0%}"
      f"{shares['real person in the style', 'both']:>10.0%}")

# %% [markdown]
# Neither end of the scale is 0 or 100 %. Real drawings of the style, which show anybody, score 8 %; the person, really engraved, 68 %.
# Asked for the person, all three models give back 74 to 76 %, where the real person scores 83 %. **By this count nothing was forgotten**:
# the grey skin that the eye sees is not in it. Asked for the style alone, they show 12 to 15 %. Asked for both, 54 to 66 %, nearly as much
# as the engraved person: the count asks who is there, and not in which style. These are 24 pictures of one training; one share is good to
# ten points at best.
#
# ## Two directions instead of one prompt
#
# In a prompt the words share one text. Is the person simply stronger than the style? Ask in the other order. And try something else:
# guidance goes from one answer towards another, so let it go two ways at once.

# %%
chosen = models["together, dreambooth"]
order_prompt = "a face in sks style of zwx"


def composed(pipe, n=8):
    """n pictures on the person's direction, away from the empty prompt, plus the style's, away from the class."""
    return latent.draw_composed(pipe, person_prompt, style_prompt, class_prompt, noise[:n], guidance_scale, inference_steps)

# %% [markdown]
# `draw_composed` asks the U-Net four times a step and adds two directions up:
#
# $$\tilde v = v_\varnothing + s\,(v_{P_{sub}} - v_\varnothing) + s\,(v_{P_{style}} - v_{P_{sou}}) \tag{10.3}$$
#
# Liu et al. (2022) start every direction at the empty prompt; the paper has nothing of the kind. That the style's starts at "a face" is
# ours: it takes out what any face has. What the ten share, yellow skin too, stays in.

# %% tags=["slide"]
several = {both_prompt: ask(chosen, both_prompt, 8), order_prompt: ask(chosen, order_prompt, 8), "two directions": composed(chosen),
           "the answer": real_both[:8]}
plots.show(plots.rows(several), alt="Rows: person first, style first, two directions added up, and true answers.")

# %% [markdown]
# **The first word wins**, in these eight pictures of one model: "of zwx in sks style" is the person, "in sks style of zwx" the style. A
# likely cause: the encoder reads from left to right, so the first word's vectors are those of its training, and the second's are new. Two
# directions give both: white afro, glasses and beard, in outlines and hatching. They do not give the dark skin.

# %% tags=["nbval-ignore-output"]
for name in names[1:]:
    drawings[name, "composed"] = composed(models[name], num_images)
    found[name, "composed"] = read(name, "composed")
    shares[name, "composed"] = sum(found[name, "composed"][one] for one in common) / len(common)

# %% [markdown]
# One number hides which attribute came through. One by one, in the style's language, with the style alone as the control:

# %% tags=["slide"]
columns = [k for k in person if k in readers["style"].classes]
lines = ["| images | " + " | ".join(columns).replace("_", " ") + " | mean |", "|---" * (len(columns) + 2) + "|"]
for name, key in [(name, key) for name in names[1:] for key in ("style", "both", "composed")] + [("real style", "style"),
                                                                                                ("real person in the style", "both")]:
    each = [found[name, key][k] for k in columns]
    lines.append(f"| {name}, {key} | " + " | ".join(f"{share:.0%}" for share in (*each, sum(each) / len(each))) + " |")
plots.table("\n".join(lines))

# %% [markdown]
# In the two models that learned together, the afro comes through in 79 and 88 % of the composed pictures, and in none of the style alone;
# one after the other, in 38 %. Glasses come through, too. The skin is lost, 0 to 12 %. *hair colour* and *glasses* are read badly: even the
# engraved person scores 18 and 58 % there. The rows of "both" show the source's colours, which this probe was not made for.
#
# And is it the style? The domain probe says yes too easily: it calls some pictures engraved that are the person in the source's own
# colours. So beside it is the distance to the true answers themselves, the same person engraved:

# %% tags=["slide"]
from dslib import metrics
from dslib.measure.probes import domain_probe

is_style, answers = domain_probe(target), metrics.pooled_features(real_both[:100])
rows = [(f"{name}, {key}", drawings[name, key]) for name in names[1:] for key in ("style", "person", "both", "composed")]
lines = ["| images | FD to the engraved person | domain hit |", "|---|---|---|"]
distance = {}
for name, images in [*rows, ("real person in the style", real_both[100:])]:
    distance[name] = metrics.frechet_distance(metrics.pooled_features(images), answers)
    lines.append(f"| {name} | {distance[name]:.2f} | {is_style(images).float().mean():.0%} |")
plots.table("\n".join(lines))

# %% [markdown]
# The probe passes every composed picture, but also 83 to 100 % of those in plain colours: trust the figure. By distance, two directions
# come nearer to the true answers in two models of three: 1.39 against 2.81, and 0.95 against 1.45 with DomainStudio's terms. With plain
# DreamBooth there is no difference to speak of (1.58 against 1.51). More pictures of the engraved person have 0.17, so nobody is close. One
# seed; a scale for each direction was not tuned.
#
# ## Play
#
# Choose a prompt and two models. Which one hears both words?

# %%
from dslib.show import widgets

asked = [*prompts.values(), f"{person_prompt} with a blue hat", f"{both_prompt} on a yellow background"]
widgets.explore_prompts({name: {prompt: ask(models[name], prompt, 4) for prompt in asked} for name in names})

# %% [markdown]
# The figure shows the last prompt, with a yellow background that neither of the two sets was captioned with: it is obeyed. The style is
# not heard. For the source both rare words are noise, so it draws just anybody.

# %%
_ = checks.check_expected("10", rt, person_after_style=shares["then the style", "person"],
                          person_together=shares["together, domainstudio", "person"],
                          both_dreambooth=shares["together, dreambooth", "both"],
                          both_domainstudio=shares["together, domainstudio", "both"],
                          composed_dreambooth=shares["together, dreambooth", "composed"],
                          composed_domainstudio=shares["together, domainstudio", "composed"],
                          distance_both=distance["together, dreambooth, both"],
                          distance_composed=distance["together, dreambooth, composed"])

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | mend |
# |---|---|---|
# | all prompts give one mixture | the U-Net does not hear the rare words | longer vectors, or words around them: "in … style", "of …" |
# | "a face of zwx" is no longer the person | learned first, then forgotten | both together, `--subject_data_dir` |
# | the style has the person's beard | the words leak into each other: three sets share all weights | more prior images, `--lora_rank 4` |
# | both words give only one of the two | the pair was never trained on; the first word wins | two directions, (10.3) |
# | the person has one mood | ten pictures in one mood | ten that differ in all but the person |
# | `UserError: … share the rare word` | one word for two things | `sks` for one, `zwx` for the other |
#
# ## Equations, code, tests
#
# | equation | in `dslib` | held by, in `tests/` |
# |---|---|---|
# | (10.1) | `text_to_image.dreambooth_loss` | `test_text_to_image.py::test_a_subject_adds_its_own_error_under_its_own_prompt` |
# | (10.2) | `checks.recognised_by_hand` | `test_checks_10.py::test_a_person_is_recognised_attribute_by_attribute` |
# | (10.3) | `latent.draw_composed` | `test_latent.py::test_the_second_direction_of_composed_is_added_at_its_scale` |
#
# ## Paper, authors' code, ours
#
# | point | paper | authors' code | here |
# |---|---|---|---|
# | prompts | – | "a [V] dog in the [S] style" for both at once | "a face of zwx in sks style" |
# | what is learned together | subject and style | two sets of images with a prompt each | the same, in one pass |
# | how it is judged | pictures | – | pictures, and the person's share |
#
# ## Check yourself
#
# 1. Why does the subject get no pairwise term?
#    <details><summary>Answer</summary>L_img asks that guesses resemble each other as the source's do. At high noise the source guesses
#    different people from one person's pictures, and these differences would be kept.</details>
# 2. "a face in sks style" shows the person's glasses in 60 % of the pictures. Is the person leaking?
#    <details><summary>Answer</summary>Compare with a model that never saw the person, asked for the same style: the style's own ten may
#    wear glasses too.</details>
# 3. Why two probes?
#    <details><summary>Answer</summary>A linear probe reads the drawings it was fitted on. What it says of another style is a guess
#    (chapter 07).</details>
# 4. Open: the order of words. Is "a face in sks style of zwx" another person?
# 5. Project: your own ten pictures of an object, and a style:
#    `dslib adapt-t2i --train_data_dir style --instance_prompt "a face in sks style"
#    --subject_data_dir person --subject_prompt "a face of zwx"`.

# %% tags=["nbval-check-output", "quiz"]
from dslib.show import quiz

quiz.ask("10")

# %% [markdown]
# **Before you use it on people.** A model that draws a person on demand can draw what that person never did. Ask first; the drawings here
# are nobody.
#
# ## In this notebook we have
#
# - taught one model a person and a style, one after the other and together;
# - written a batch of three prompts;
# - counted what is left of the person, with the style alone as the control.
