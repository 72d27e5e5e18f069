"""Sliders over the course's figures: one redraw function each, a static figure where no widgets can run."""

import torch
from torch import Tensor

from . import ddpm, plots


def explore(redraw, **controls):
    """Show ``redraw(**values)``, a (figure, alt) pair, and draw it again when a control is let go.

    controls: ipywidgets. Impossible values are reported in place and the next move works again. The figure is also
    drawn once as an ordinary output, so that a reader without a kernel sees it.
    """
    try:
        import ipywidgets as widgets
        from IPython.display import clear_output, display
    except ImportError:
        widgets = None
    start = {name: control.value for name, control in controls.items()}
    plots.show(*redraw(**start))
    if widgets is None:
        return
    screen = widgets.Output()

    def update(_=None):
        with screen:
            clear_output(wait=True)
            try:
                plots.show(*redraw(**{name: control.value for name, control in controls.items()}))
            except Exception as error:              # a slider must survive whatever value it was given
                print(f"not possible: {error}")

    for control in controls.values():
        control.observe(update, names="value")
    display(widgets.VBox([widgets.HBox(list(controls.values())), screen]))


def forward_figure(unet, x_0: Tensor, alphas_cumprod: Tensor, t: int, seed: int = 0):
    """Faces (N,3,R,R) noised to step t and the model's guess of each: (figure, alt)."""
    steps = torch.full((len(x_0),), t)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
    x_t = ddpm.q_sample(x_0, steps, eps, alphas_cumprod)
    with torch.no_grad():
        guess = ddpm.predict_x0(x_t, steps, unet(x_t, steps).sample, alphas_cumprod)
    a = float(alphas_cumprod[t])
    figure = plots.rows({"x_0": x_0, "x_t": x_t, "guess": guess}, columns=len(x_0))
    figure.suptitle(f"t = {t}, share of the picture left {a:.4f}, signal-to-noise {a / (1 - a):.3g}", fontsize=9)
    return figure, f"Faces, the same noised to step {t}, and the model's guesses of the clean faces."


def explore_forward(unet, x_0: Tensor, schedules: dict[str, Tensor]) -> None:
    """Slider over t, menu of schedules (name → alphas_cumprod). x_0: a few faces (N,3,R,R)."""
    import ipywidgets as widgets
    last = len(next(iter(schedules.values()))) - 1
    explore(lambda t, schedule: forward_figure(unet, x_0, schedules[schedule], t),
            t=widgets.IntSlider(300, 0, last, description="t", continuous_update=False),
            schedule=widgets.Dropdown(options=list(schedules), description="schedule"))
