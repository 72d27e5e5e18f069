"""A slider over a figure: drawn again when it is let go, a static figure where no widgets can run."""

from . import plots, recording


def explore(redraw, **controls):
    """Show ``redraw(**values)``, a (figure, alt) pair, and draw it again when a control is let go.

    controls: ipywidgets. Impossible values are reported in place and the next move works again. The figure is also
    drawn once as an ordinary output, so that a reader without a kernel sees it; where a page is recorded, every setting is drawn.
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
    if (target := recording.folder()) and recording.few(controls) and not hasattr(redraw, "recorded"):
        recording.record(target, redraw, controls)
    screen = widgets.Output()

    def update(_=None):
        with screen:
            clear_output(wait=True)
            try:
                plots.show(*redraw(**{name: control.value for name, control in controls.items()}), live=True)
            except Exception as error:              # a slider must survive whatever value it was given
                print(f"not possible: {error}")

    for control in controls.values():
        control.observe(update, names="value")
    display(widgets.VBox([widgets.HBox(list(controls.values())), screen]))
