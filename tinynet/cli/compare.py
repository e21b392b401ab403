"""`tinynet compare`: runs side by side."""

import shutil
from statistics import median
from typing import Any

from tinynet.cli.runs import RunLog, read_run
from tinynet.cli.screen import fail, reason, warn
from tinynet.cli.table import CsvOutput, table
from tinynet.training.progress import say, say_result

NUMBER = (int, float)


def compare(given: dict[str, Any]) -> int:
    """The exit code: 1 if a run could not be read, or not whole; the others are compared."""
    runs, code = [], 0
    for path in given["runs"]:
        try:
            runs.append(read_run(path))
        except OSError as error:
            code = fail(reason(error))
    for run in runs:
        if run.problem:
            code = 1
            warn(f"{run.name}: {run.problem}")
    if not runs:
        return code
    names, differing = [run.name for run in runs], differences(runs)
    if "csv" in given:
        output = CsvOutput(given["csv"])
        columns = ["run", *differing, *MEASURED]
        output.row(*columns)
        for run in runs:
            output.row(run.name, *(run.settings().get(key, "") for key in differing), *exact(run))
        output.end()
    else:
        rows = [["run", *differing, *MEASURED]]
        rows += [[run.name, *(run.settings().get(key, "-") for key in differing), *shown(run)] for run in runs]
        say_result(table(rows, shutil.get_terminal_size().columns))
        if not differing and len(runs) > 1:
            say_result("their settings are the same")
    if len({run.pictures() for run in runs if run.start}) > 1:
        warn("they did not learn from the same pictures, or were not measured on the same: errors do not compare")
    if "plot" in given:
        from tinynet.plots import compared_curves, save_figure

        save_figure(compared_curves(dict(zip(names, [run.records for run in runs], strict=True))), given["plot"])
        if given.get("csv") != "-":
            say(f"drawn in {given['plot']}")
    return code


# name: (value of a run, its words on the screen)
MEASURED = ("state", "epochs", "best error", "final error", "final loss", "seconds", "images/s")


def differences(runs: list[RunLog]) -> list[str]:
    """The settings in which the runs differ, in the order of the first run's."""
    settings = [run.settings() for run in runs if run.start]
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len({one.get(key) for one in settings}) > 1]


def exact(run: RunLog) -> list[object]:
    """MEASURED of a run; "" for what is not known."""
    errors, losses, rates = (values(run, key) for key in ("val_top1_error", "val_loss", "images_per_second"))
    seconds = values(run, "seconds") + [r["seconds"] for r in run.records[-1:] if isinstance(r.get("seconds"), NUMBER)]
    last = [found[-1] if found else "" for found in (errors, losses, seconds)]
    rate = median(rates) if rates else ""
    return [run.state, len(run.epochs), min(errors, default=""), last[0], last[1], last[2], rate]


def shown(run: RunLog) -> list[str]:
    state, epochs, best, final, loss, seconds, rate = exact(run)
    planned = run.start.get("epochs")
    planned = max(planned, len(run.epochs)) if isinstance(planned, int) else "?"  # a resumed run may have got more
    forms = [(best, "{:.2%}"), (final, "{:.2%}"), (loss, "{:.4f}"), (seconds, "{:,.0f}"), (rate, "{:,.0f}")]
    return [
        str(state),
        f"{epochs} of {planned}",
        *("-" if value == "" else form.format(value) for value, form in forms),
    ]


def values(run: RunLog, key: str) -> list[float]:
    """Of the epochs, those that are numbers."""
    return [record[key] for record in run.epochs if isinstance(record.get(key), NUMBER)]
