"""Sources as people have them. The kind: **a source that diffusers opens is supported with the right numbers, or refused in one line
before any work**. Members: what the network predicts, its channels, labels and size, the length and kind of its noise schedule, the
scheduler's class, zero terminal SNR, and how its weights lie on disk. README's table of sources is walked row by row."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from conftest import make_images, make_source
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

from dslib import data, ddpm, domainstudio, models, sample, train
from dslib.base import sources
from dslib.base.errors import UserError

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
LEVELS = {"layers_per_block": 1, "block_out_channels": (8, 32), "norm_num_groups": 2, "attention_head_dim": 32,
          "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}


def saved(folder, scheduler=None, channels=3, out=None, **unet):
    """A tiny source on disk."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = UNet2DModel(**(LEVELS | {"sample_size": 16, "in_channels": channels, "out_channels": out or channels} | unet))
    folder.mkdir(parents=True, exist_ok=True)
    DDPMPipeline(unet=net, scheduler=DDPMScheduler()).save_pretrained(folder)
    if scheduler is not None:                            # DDPMPipeline would make a DDPMScheduler of it
        shutil.rmtree(folder / "scheduler")
        scheduler.save_pretrained(folder / "scheduler")
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        index["scheduler"] = ["diffusers", type(scheduler).__name__]
        (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def scheduled(name="DDPMScheduler", **settings):
    return lambda folder: saved(folder, getattr(diffusers, name)(**settings))


def rewritten(part, **changes):
    def write(folder):
        path = saved(folder) / part
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
        return folder
    return write


def weights(kind):
    """How the weights lie on disk: fp16 alone, in shards, fp16 in shards, as a pickle."""
    def write(folder):
        unet = DDPMPipeline.from_pretrained(saved(folder)).unet
        shutil.rmtree(folder / "unet")
        if kind == "bin":
            unet.save_pretrained(folder / "unet", safe_serialization=False)
        else:
            half = {"variant": "fp16"} if "fp16" in kind else {}
            small = {"max_shard_size": "40KB"} if "shards" in kind else {}
            (unet.half() if half else unet).save_pretrained(folder / "unet", **half, **small)
        names = [p.name for p in (folder / "unet").glob("*.safetensors")]
        assert all("fp16" in name for name in names) == ("fp16" in kind or kind == "bin")
        assert (len(names) > 1) == ("shards" in kind)
        return folder
    return write


def pipeline_class(name):
    def write(folder):
        path = saved(folder) / "model_index.json"
        path.write_text(path.read_text("utf-8").replace("DDPMPipeline", name), "utf-8")
        return folder
    return write


SOLVERS = ["DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
           "DEISMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
           "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "SASolverScheduler", "LCMScheduler", "TCDScheduler", "DDIMParallelScheduler",
           "DDPMParallelScheduler"]
V = {"prediction_type": "v_prediction"}

#: README's row → its members: name → what writes such a source, and for what is refused the words of the line
ROWS = {
    "predicts ε": {"said": (scheduled(prediction_type="epsilon"),),
                   "not said": (rewritten("scheduler/scheduler_config.json", prediction_type=None),)},
    "predicts v": {"ddpm": (scheduled(**V),), "old name of the pipeline": (pipeline_class("DDIMPipeline"),)},
    "predicts the picture (`sample`)": {
        "ddpm": (scheduled(prediction_type="sample"), "'sample'", "epsilon and v_prediction"),
        "euler": (scheduled("EulerDiscreteScheduler", prediction_type="sample"), "'sample'"),
        "before 0.11": (rewritten("scheduler/scheduler_config.json", prediction_type=None, predict_epsilon=False), "'sample'")},
    "learned variance": {"range": (lambda f: saved(f, DDPMScheduler(variance_type="learned_range"), out=6),),
                         "fixed": (lambda f: saved(f, out=6),), "with v": (lambda f: saved(f, DDPMScheduler(**V), out=6),),
                         "grey": (lambda f: saved(f, channels=1, out=2),),
                         "said, not so": (scheduled(variance_type="learned_range"),)},
    "three channels": {"colour": (saved,)},
    "one channel": {"grey": (lambda f: saved(f, channels=1),)},
    "four channels": {"four": (lambda f: saved(f, channels=4), "4 channels", "RGBA, or latents", "3 (colour) or 1 (grey)"),
                      "two": (lambda f: saved(f, channels=2), "2 channels"),
                      "3 to 5": (lambda f: saved(f, out=5), "turns 3 channels into 5", "3, or 6")},
    "class-conditional": {"classes": (lambda f: saved(f, num_class_embeds=10), "class-conditional", "num_class_embeds: 10"),
                          "timestep": (lambda f: saved(f, class_embed_type="timestep"), "class-conditional", "class_embed_type"),
                          "identity": (lambda f: saved(f, class_embed_type="identity"), "class-conditional")},
    "`sample_size: [64, 64]`": {"list": (lambda f: saved(f, sample_size=[16, 16]),)},
    "no squares, or a size that does not halve": {
        "oblong": (lambda f: saved(f, sample_size=[16, 24]), "16×24", "squares"),
        "silent": (lambda f: saved(f, sample_size=None), "sample_size: None"),
        "odd": (lambda f: saved(f, sample_size=15), "15 pixels", "multiple of 2"),
        "word": (lambda f: saved(f, sample_size="16"), "sample_size"),
        "three": (lambda f: saved(f, sample_size=[16, 16, 16]), "sample_size"), "none": (lambda f: saved(f, sample_size=0), "sample_size")},
    "any number of steps T": {str(T): (scheduled(num_train_timesteps=T),) for T in (2, 10, 250, 4000)},
    "any β schedule": {name: (scheduled(beta_schedule=name),) for name in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")}
    | {"betas": (scheduled(trained_betas=np.linspace(1e-3, 0.1, 100).tolist()),)},
    "scheduler of DDIM, PNDM, DPM-Solver, Euler …": {name: (scheduled(name, **V),) for name in SOLVERS[:7:2]} | {
        "ε, DPM": (scheduled("DPMSolverMultistepScheduler"),),
        "learned, DPM": (scheduled("DPMSolverMultistepScheduler", variance_type="learned"),),
        "Karras, Euler": (scheduled("EulerDiscreteScheduler", use_karras_sigmas=True, timestep_spacing="linspace"),),
        "Karras, DPM": (scheduled("DPMSolverMultistepScheduler", use_karras_sigmas=True, algorithm_type="sde-dpmsolver++"),),
        "DDIM, offset": (scheduled("DDIMScheduler", steps_offset=1, set_alpha_to_one=False, clip_sample=False),),
        "Karras under DDPM's name": (rewritten("scheduler/scheduler_config.json", use_karras_sigmas=True, solver_order=3),),
        "DDIMPipeline": (pipeline_class("DDIMPipeline"),), "PNDMPipeline": (pipeline_class("PNDMPipeline"),)},
    "scheduler of EDM, flow matching, score SDE …": {
        name: (scheduled(name), name, "no β schedule") for name in (
            "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler", "ScoreSdeVeScheduler", "CMStochasticIterativeScheduler",
            "KarrasVeScheduler", "IPNDMScheduler")
        if hasattr(diffusers, name)} | {
        "flow in UniPC": (
            scheduled("UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True), "'flow_prediction'")},
    "zero terminal SNR, predicts v": {name: (scheduled(name, rescale_betas_zero_snr=True, **V),) for name in (
        "DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")} | {
        "trailing": (scheduled("DDIMScheduler", rescale_betas_zero_snr=True, timestep_spacing="trailing", **V),),
        "sigmoid": (scheduled(rescale_betas_zero_snr=True, beta_schedule="sigmoid", **V),),
        "by its betas": (scheduled(trained_betas=[0.1, 0.2, 0.5, 1.0], **V),)},
    "zero terminal SNR, predicts ε": {
        "ddpm": (scheduled(rescale_betas_zero_snr=True), "zero terminal SNR", "predicts v"),
        "euler": (scheduled("EulerDiscreteScheduler", rescale_betas_zero_snr=True), "zero terminal SNR"),
        "by its betas": (scheduled(trained_betas=[0.1, 0.2, 0.5, 1.0]), "zero terminal SNR"),
        "variance": (lambda f: saved(f, DDPMScheduler(rescale_betas_zero_snr=True, **V), out=6), "predicts its variance", "not both"),
        "nothing left before the end": (scheduled(trained_betas=[0.1, 1.0, 1.0], **V), "broken", "betas"),
        "negative": (scheduled(trained_betas=[0.1, -0.2, 0.1]), "broken"), "NaN": (scheduled(trained_betas=[0.1, float("nan")]), "broken")},
    "dropout": {"a third": (lambda f: saved(f, dropout=0.3),)},
    "float16 files alone (`….fp16.safetensors`)": {"one": (weights("fp16"),), "shards": (weights("fp16, shards"),)},
    "sharded files": {"shards": (weights("shards"),)},
    "pickles (`.bin`, `.pt`, `.ckpt`)": {"bin": (weights("bin"), ".bin is a pickle", "refused", "save_pretrained")},
}
TABLE = {cells[0].strip(): cells[1].strip() for cells in (
    line.strip("|").split("|") for line in re.search(r"\| source \| works .*\n\|[-|]+\n((?:\|.*\n)+)", README)[1].splitlines())}
CASES = [pytest.param(row, *case, id=f"{row}: {name}") for row, cases in ROWS.items() for name, case in cases.items()]


def test_the_table_and_the_tests_have_the_same_rows():
    assert list(TABLE) == list(ROWS)
    assert set(TABLE.values()) == {"yes", "no"}


@pytest.mark.parametrize("row, write, words", [p for case in CASES for p in [pytest.param(*case.values[:2], case.values[2:], id=case.id)]
                                               if TABLE[case.values[0]] == "no"])
def test_what_the_table_denies_is_one_line_before_any_work(tmp_path, row, write, words):
    folder = write(tmp_path / "source")
    with pytest.raises(UserError) as caught:
        models.load_source(folder)
    message = str(caught.value)
    assert words and all(word in message for word in words), message
    assert str(folder) in message and "\n" not in message


@pytest.mark.parametrize("row, write", [pytest.param(*case.values[:2], id=case.id) for case in CASES if TABLE[case.values[0]] == "yes"])
def test_what_the_table_promises_trains_draws_and_is_saved(tmp_path, row, write, caplog):
    folder = write(tmp_path / "source")
    pipe = models.load_source(folder)
    assert [r.getMessage() for r in caplog.records] == []
    kept = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    theirs = getattr(diffusers, kept["_class_name"]).from_pretrained(folder / "scheduler")
    torch.testing.assert_close(pipe.scheduler.alphas_cumprod, theirs.alphas_cumprod, atol=1e-6, rtol=1e-4)
    said = kept.get("prediction_type") or "epsilon"
    assert type(pipe.scheduler) is DDPMScheduler and pipe.scheduler.config.prediction_type == said
    channels, config = pipe.unet.config.in_channels, train.TrainConfig(max_train_steps=1, train_batch_size=3)
    images = data.in_channels(make_images(3, 16), channels)
    *_, last = train.adapt(pipe, images, config)
    assert all(torch.isfinite(term) for term in last.terms.values()) and torch.isfinite(last.loss)
    assert ("vlb" in last.terms) == (pipe.unet.config.out_channels == 2 * channels)
    again = models.load_source(models.save_pipeline(last.averaged(), pipe.scheduler, tmp_path / "adapted"))
    assert again.scheduler.config.prediction_type == said
    assert torch.equal(again.scheduler.alphas_cumprod, pipe.scheduler.alphas_cumprod)
    noise = sample.start_noise(2, 16, channels=channels)
    for kind in ("ddpm", "dpmsolver"):
        drawn = sample.sample(again.unet, again.scheduler, noise, 2, kind, source=pipe, source_until=1)
        assert drawn.shape == (2, channels, 16, 16) and torch.isfinite(drawn).all()
    data.write_images(tmp_path, drawn)
    with Image.open(tmp_path / "0000.png") as image:
        assert image.mode == {1: "L", 3: "RGB"}[channels]


# ------------------------------------------------------------------------------------------ the right numbers

class OnePicture(torch.nn.Module):
    """The perfect network for a world of one picture, by the formula alone."""

    def __init__(self, scheduler, picture):
        super().__init__()
        self.config = SimpleNamespace(sample_size=16, in_channels=picture.shape[1], out_channels=picture.shape[1])
        self.a, self.kind, self.picture = scheduler.alphas_cumprod.double(), scheduler.config.prediction_type, picture.double()
        self.one = torch.nn.Parameter(torch.ones(()))

    def forward(self, x_t, t):
        a = self.a[torch.as_tensor(t)].reshape(-1, 1, 1, 1)
        eps = (x_t.double() - a.sqrt() * self.picture) / (1 - a).sqrt()
        answer = eps if self.kind == "epsilon" else a.sqrt() * eps - (1 - a).sqrt() * self.picture
        return SimpleNamespace(sample=answer.float() * self.one)


@pytest.mark.parametrize("kind", list(sample.SCHEDULERS))
@pytest.mark.parametrize("write", [
    scheduled(rescale_betas_zero_snr=True, **V), scheduled("EulerDiscreteScheduler", rescale_betas_zero_snr=True, **V),
    scheduled("DPMSolverMultistepScheduler", use_karras_sigmas=True), scheduled("PNDMScheduler", **V), scheduled(beta_schedule="sigmoid"),
    scheduled(num_train_timesteps=30, beta_start=0.01, beta_end=0.6), scheduled(trained_betas=[0.1, 0.2, 0.5, 1.0], **V)],
    ids=["zero SNR", "zero SNR, Euler", "Karras", "PNDM, v", "sigmoid", "T=30", "zero SNR by betas"])
def test_a_perfect_network_draws_its_picture(tmp_path, kind, write):
    """Every sampler over every turned schedule comes back to the one picture there is: steps, ᾱ and prediction type fit together."""
    scheduler = models.load_source(write(tmp_path)).scheduler
    picture = 0.8 * make_images(1, 16)
    net, steps = OnePicture(scheduler, picture), {1000: 20, 30: 15}.get(len(scheduler.alphas_cumprod), 4)
    drawn = sample.sample(net, scheduler, sample.start_noise(3, 16), steps, kind)
    torch.testing.assert_close(drawn, picture.expand(3, -1, -1, -1), atol=0.02, rtol=0)


def test_ddim_does_not_stop_in_the_noise():
    """Its steps are T // n wide: where that leaves many of T's undone, the number that reaches the picture is named."""
    short = DDPMScheduler(num_train_timesteps=30)
    with pytest.raises(UserError, match="20: ddim would stop 10 of 30 steps early.*use 15, or --scheduler dpmsolver"):
        sample.sampler(short, "ddim", 20)
    for kind, steps in (("ddpm", 20), ("dpmsolver", 20), ("ddim", 15), ("ddim", 30)):
        assert len(sample.sampler(short, kind, steps).timesteps) == steps
    assert len(sample.sampler(models.new_scheduler(), "ddim", 30).timesteps) == 30
    with pytest.raises(UserError, match="--num_inference_steps is 31: use 1 to 30"):
        sample.sampler(short, "ddpm", 31)


def test_anchors_are_drawn_in_few_steps_where_there_are_few(tmp_path):
    pipe = models.load_source(scheduled(num_train_timesteps=8)(tmp_path))
    config = train.TrainConfig(max_train_steps=1, pairwise_on="source", num_anchors=4)
    assert domainstudio.draw_anchors(pipe, 4, config).shape == (4, 1, 3, 16, 16)


def test_on_zero_terminal_snr_the_perfect_network_has_no_loss(tmp_path):
    """Also at T − 1, where x_t is noise alone and ε would be divided by zero."""
    scheduler = models.load_source(scheduled(rescale_betas_zero_snr=True, **V)(tmp_path)).scheduler
    picture, a_bar = 0.8 * make_images(1, 16), scheduler.alphas_cumprod
    assert a_bar[-1] == 0
    net, t = OnePicture(scheduler, picture), torch.tensor([0, 500, 998, 999])
    eps = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    given = picture.expand(4, -1, -1, -1), t, eps, a_bar, scheduler.betas, train.TrainConfig(), "v_prediction"
    loss, terms = domainstudio.domainstudio_loss(net, net, *given)
    assert set(terms) == {"simple", "img", "hf", "hfmse"}
    assert all(abs(float(term.detach())) < 1e-6 for term in terms.values()), terms


def test_the_prediction_type_of_every_scheduler_carries_over():
    for name in SOLVERS:
        for kind in ddpm.PREDICTION_TYPES:
            theirs = getattr(diffusers, name)(prediction_type=kind, num_train_timesteps=50)
            ours = sources.our_scheduler(theirs, "x")
            assert (ours.config.prediction_type, len(ours.betas)) == (kind, 50), name


def test_float16_files_hold_the_same_weights_in_float32(tmp_path):
    plain, half = models.load_source(saved(tmp_path / "a")).unet, models.load_source(weights("fp16")(tmp_path / "b")).unet
    for a, b in zip(plain.parameters(), half.parameters()):
        assert b.dtype == torch.float32 and torch.equal(a.half().float(), b)


def test_of_float16_and_plain_files_the_plain_ones_are_read(tmp_path):
    folder = saved(tmp_path)
    exact = DDPMPipeline.from_pretrained(folder).unet
    make_source().unet.half().save_pretrained(folder / "unet", variant="fp16")
    assert all(torch.equal(a, b) for a, b in zip(exact.parameters(), models.load_source(folder).unet.parameters()))


def test_a_missing_shard_is_named(tmp_path):
    folder = weights("shards")(tmp_path / "source")
    min((folder / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match="could not be opened") as caught:
        models.load_source(folder)
    assert "\n" not in str(caught.value)


def test_hub_weights_that_are_float16_alone_are_asked_for(monkeypatch):
    asked = []

    def hub(name, **options):
        asked.append(options.get("variant"))
        if not asked[-1]:
            raise OSError(f"Error no file named diffusion_pytorch_model.safetensors found in directory {name}.")
        return make_source()

    monkeypatch.setattr(DDPMPipeline, "from_pretrained", hub)
    models.load_source("owner/name")
    assert asked == [None, "fp16"]


def test_hub_weights_that_are_pickles_are_refused_with_the_mend(monkeypatch):
    def hub(name, **options):
        raise OSError("Could not find the necessary `safetensors` weights in {'unet/diffusion_pytorch_model.bin'} (variant=None)")

    monkeypatch.setattr(DDPMPipeline, "from_pretrained", hub)
    with pytest.raises(UserError, match="owner/name.*no safetensors weights, and pickles are refused.*save_pretrained"):
        models.load_source("owner/name")


# ------------------------------------------------------------------------------------------ grey

def test_grey_is_pillows_and_stays_itself():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    colour = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    by_pillow = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L")))
    assert (data.in_channels(colour, 1)[0, 0].int() - by_pillow.int()).abs().max() <= 1
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(data.in_channels(data.in_channels(grey, 3), 1), grey)
    floats = data.to_float(grey)
    torch.testing.assert_close(data.in_channels(data.in_channels(floats, 3), 1), floats, atol=1e-7, rtol=0)
    assert data.in_channels(colour, 3) is colour
    with pytest.raises(UserError, match="2 channels"):
        data.in_channels(colour[:, :2], 1)


def test_colour_pictures_for_a_grey_source_are_refused_with_the_mend(tmp_path):
    pipe = models.load_source(saved(tmp_path, channels=1))
    with pytest.raises(UserError, match=r"are 3×16×16 but the source draws 1×16×16: give data.in_channels\(images, 1\)"):
        train.adapt(pipe, make_images(3, 16), train.TrainConfig(max_train_steps=1))
