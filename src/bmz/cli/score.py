"""``bmz score``."""

from __future__ import annotations

import click

from bmz.cli import completing
from bmz.cli.options import json_option
from bmz.cli.words import as_path, dataset_option

EPILOG = """\b
Exit status: 0 every mask was scored, 1 some were not, 2 wrong usage, 3 none were."""


@click.command(epilog=EPILOG)
@click.argument(
    "predicted",
    shell_complete=completing.files,
    help="A label mask (or x.zarr/labels/NAME), a folder of them, or a quoted pattern.",
)
@click.argument(
    "truth",
    shell_complete=completing.files,
    help="The true mask, or a folder or pattern of masks with the same names.",
)
@click.option(
    "--iou",
    "ious",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="Overlap from which two objects are the same; may be given again. [default: 0.5 to 0.95]",
)
@click.option(
    "--components/--no-components",
    default=None,
    help="Number the connected pieces of a mask that only tells objects from background; or "
    "take its values as numbers of objects. [default: refuse such a mask]",
)
@dataset_option
@json_option
@click.pass_context
def score(
    ctx: click.Context,
    /,
    *,
    predicted: str,
    truth: str,
    ious: tuple[float, ...],
    components: bool | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Say how well PREDICTED label masks agree with TRUTH, object by object.

    F1, precision, recall, AP = TP / (TP + FP + FN) and panoptic quality at each overlap, and
    which objects are split, merged, missed or false.
    """
    from bmz.app.score import score as score_masks  # here, so that --help never loads NumPy
    from bmz.cli.output import print_table, say
    from bmz.cli.progress import progress_bars
    from bmz.report import compare_text
    from bmz.results.compare import IOUS

    with progress_bars() as listener:
        thresholds = ious or IOUS
        summary = score_masks(
            as_path(predicted),
            as_path(truth),
            ious=thresholds,
            components=components,
            dataset=dataset,
            listener=listener,
        )
    if as_json:
        click.echo(compare_text.score_json(summary))
    elif summary.scored:
        if len(summary.outcomes) > 1:
            print_table(compare_text.PAIR_HEADINGS, compare_text.pair_table(summary))
            click.echo()
        print_table(compare_text.HEADINGS, compare_text.score_table(summary))
    say(compare_text.score_lines(summary), answers=not as_json)
    ctx.exit(summary.exit_status)
