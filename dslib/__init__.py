"""DomainStudio (arXiv 2306.14153): the modules here are the paper. Read them in this order::

    ddpm → haar → losses → domainstudio → train → pretrain → models · sample · data · metrics

They import base/ and each other alone. Wings around them import only what is above them here::

    base/      errors, files, device, checkpoints, what is drawn: what every module leans on
    measure/   the scores of a run, trained probes, fidelity
    show/      plots, the explorers of the chapters, the page of a run
    plane/     the method in two dimensions
    text/      text to image: captions, latents, prompts, a person
    gan/       the GANs that the paper compares with: a source, and ways to adapt it
    beyond/    what the paper leaves open: other objectives, wishes, sizes; extensions
    study/     grids of runs, their curves and tables, the cost of a step
    web/       models in a browser: ONNX files, runtime and page
    cli/       the command ``dslib`` and its options
    checks/    self-checks and solutions of the exercises

``env`` and checks/ are the chapters' door. ``python tools/layers.py`` lists who imports whom.
To change: x̃_0 ``ddpm.guess``; a loss or λ ``domainstudio`` (Objective, terms, total); a method
``METHODS`` in train or gan/adapt; a drawn domain ``base/avatars``; a metric ``measure/score``.
"Ledger row N" is a row of the table *paper against published code* in notebooks/README.md.
"""

from .base.errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "__version__"]
