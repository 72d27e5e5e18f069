"""What a run of ``dslib adapt`` leaves behind, whatever it trained: scores in the terminal, pictures, metrics.json and report.html."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import shown

if TYPE_CHECKING:                # whoever asks for help does not wait for torch
    from torch import Tensor


def write_scores(args, samples: "dict[str, Tensor]", histories: dict, images: "Tensor", domain: str | None, name: str, output: Path,
                 done: dict, drawing: dict, remark: str = "") -> None:
    """Score every set of samples, drawn from the same noise, and write the report.

    images: the training images; domain: their name, if they are drawn ones. done: the run's step, identity, images in words, config;
    drawing: how the samples were drawn, for metrics.json. remark: a sentence on top of the page.
    """
    from ..measure.score import evidence_of, row_of, text_table
    from ..show import card, hero
    from ..show.page import write_report
    print("scoring …", file=sys.stderr)
    evidence = evidence_of(samples, images, domain, args.backbone)
    scores = [row_of(key, one) for key, one in evidence.items()]
    facts = {"target": name, "source": args.source or "shipped", "train_data_dir": args.train_data_dir and shown(args.train_data_dir),
             "backbone": args.backbone, "num_images": args.num_images, "seed": args.seed} | drawing | done
    lead = f"{len(images)} training images, {done['step']} steps, seed {args.seed}.{remark}"
    where = write_report(output, f"{name}: {' and '.join(histories)}", lead, images, samples, scores, histories, facts,
                         hero.of_evidence(evidence, images))
    for method in histories:
        beside = method != facts["config"]["method"]
        card.adapted(output / method if beside else output, "gan" if drawing["scheduler"] == "gan" else "diffusion", facts, scores, domain,
                     len(images), method if beside else None)
    print(text_table(scores))
    print(f"\nReport:   {where}")
