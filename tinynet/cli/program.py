"""The program itself: its commands, and how each ends. What a command needs is imported when it runs."""

from collections.abc import Sequence
from typing import Any

import click

import tinynet
from tinynet.cli import parameters
from tinynet.cli.command import Command, Group, in_our_words
from tinynet.cli.screen import PROGRAM, Program, fail, in_one_line, launched, one_line, readable_streams, reason
from tinynet.cli.usage import check_csv, check_precision, checked, completed, settle_devices, wrong
from tinynet.errors import DeviceError, Terminated
from tinynet.training.progress import say

TRAIN = """
Train an AlexNet. Without options: a small one on pictures that the program draws, so that no file is needed. With
--data FOLDER, a folder of class folders of your photographs: the small net if they are few, else the paper's.
"""
TRAIN_ALEXNET = """
Train an AlexNet. Without options: a small one on pictures that the program draws, so that no file is needed. With
--data FOLDER, a folder of class folders of your photographs: the paper's net.
"""
RUNS = """
A run's folder holds config.json, log.jsonl, weights.safetensors, checkpoints/ and pictures of what was learned, renewed
after each epoch; a picture that cannot be written is a warning only. Ctrl-C ends a run with everything kept, and
--resume goes on with it. Exit codes: 0 done, 1 failed, 2 wrong usage; ended with everything kept: 130 by Ctrl-C, 143 by
SIGTERM, 129 by closing the terminal.
"""
EVALUATE = """
How wrong a trained net is on the pictures that its run was validated on, or on those of --data. A run's folder, its
weights or a checkpoint will do; of several the probabilities are averaged.
"""
PREDICT = """
What a trained net says to pictures, or to all pictures in a folder: the likeliest classes. Pictures that cannot be read
are named, and the others are answered; the exit code is 1 then.
"""
SUMMARY = """
The layers of a net: what they give and cost, how much of the picture they see. The net is that of a run or of a weights
file, or what the options say.
"""
COMPARE = """
Runs side by side: in what their settings differ, how far they came, how wrong they are on the validation pictures. A
run that is damaged is named, and compared as far as it can be read.
"""
CHECK = """
What is missing or wrong in a layer's file: one sentence, and a few lines that show it. Its forward is held against the
formula, its backward against differences of its forward, and both against the promises that a net counts on; the lines
of the file run, and no loop or kernel in their place. Without LAYER, all of tinynet's layers.

LAYER is relu or ReLU, tinynet.layers.relu:ReLU, my_layer.py if one layer is in it, or my_layer.py:Tanh. A class of your
own with a name of tinynet's is judged as that one. For any other, say how to make one and what x it takes by --args and
--shape, or in the class itself:

  example = {"features": 3}, (4, 3)

The exit code is 0 if all is right, 1 if not, 2 for wrong usage.
"""
SHORT = """\
Trains, measures and uses AlexNets whose backprop can be read.

  tinynet train                                 a small net on pictures that the program draws, in a minute or two
  tinynet train --data path/to/photographs      a net on your own photographs, in one folder a class
  tinynet evaluate runs/shapes-1                how often a trained net is wrong
  tinynet predict runs/photographs-1 dog.jpg    what it says to a picture
  tinynet summary runs/shapes-1                 the layers of a net, what they give and what they cost
  tinynet compare runs/shapes-1 runs/shapes-2   runs side by side
  tinynet check relu                            what is missing or wrong in a layer's file\
"""


def train(given: dict[str, Any], few_photos: str = "alexnet_mini") -> int:
    checked(given)
    args = None if "resume" in given else completed(given, few_photos)
    from tinynet.cli.train import begin, resume

    return resume(given) if args is None else begin(args)


def train_alexnet_or_evaluate(given: dict[str, Any]) -> int:
    """What examples/train_alexnet.py does: `train`, with the paper's net for photographs, and --evaluate."""
    if "evaluate" in given:
        from tinynet.cli.evaluation import evaluate_beside_training

        return evaluate_beside_training(given)
    if "ten_crop" in given:
        raise wrong(given, "ten_crop", "it beside --evaluate", "in training the centre crop is measured")
    return train(given, few_photos="alexnet")


def evaluate(given: dict[str, Any]) -> int:
    settle_devices(given)
    check_precision(given)
    from tinynet.cli.evaluation import evaluate_runs

    return evaluate_runs(given, given["runs"])


def predict(given: dict[str, Any]) -> int:
    settle_devices(given)
    check_csv(given, given["images"])
    from tinynet.cli.predict import predict as answer

    return answer(given)


def summary(given: dict[str, Any]) -> int:
    from tinynet.cli.summary import show_summary

    return show_summary(given)


def compare(given: dict[str, Any]) -> int:
    check_csv(given, given["runs"])
    if "plot" in given and given["plot"].suffix not in (".png", ".pdf", ".svg"):
        raise wrong(given, "plot", "a file whose name ends with .png, .pdf or .svg")
    from tinynet.cli.compare import compare as compare_runs

    return compare_runs(given)


def check(given: dict[str, Any]) -> int:
    from tinynet.cli.check import check as check_layers

    return check_layers(given)


def commands() -> Group:
    group = Group("tinynet", SHORT)
    click.version_option(tinynet.__version__, message="tinynet %(version)s")(group)
    for command in (
        Command("train", train, parameters.train_params(), "train a net, or go on", TRAIN + RUNS),
        Command("evaluate", evaluate, parameters.evaluate_params(), "measure trained nets", EVALUATE),
        Command("predict", predict, parameters.predict_params(), "ask a net about pictures", PREDICT),
        Command("summary", summary, parameters.summary_params(), "show a net's layers", SUMMARY),
        Command("compare", compare, parameters.compare_params(), "show runs side by side", COMPARE),
        Command("check", check, parameters.check_params(), "what is wrong in a layer's file", CHECK),
    ):
        group.add_command(command)
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """`tinynet` with these words behind it, by default the command line's. Gives the exit code."""
    return run(commands(), "tinynet", launched(), arguments)


def train_alexnet() -> int:
    """examples/train_alexnet.py. Gives the exit code."""
    text = TRAIN_ALEXNET + RUNS
    command = Command("train_alexnet.py", train_alexnet_or_evaluate, parameters.train_alexnet_params(), "", text)
    return run(command, "train_alexnet.py", launched())


def run(command: click.Command, name: str, call: tuple[str, ...], arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and do what it says. Whatever goes wrong is told in at most two lines on stderr."""
    readable_streams()
    PROGRAM.set(Program(name, call))
    try:
        job = command.main(arguments, prog_name=name, standalone_mode=False)
        if not hasattr(job, "work"):  # help and the like; click gives its exit code
            return job if isinstance(job, int) else 0
        PROGRAM.set(Program(job.name, (*call, *job.name.split()[1:])))
        with in_one_line():
            return job.work()
    except click.UsageError as error:
        return wrong_usage(error, name, call)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted", error=True)
        return 130
    except Terminated as end:
        say(str(end), error=True)
        return int(end.code or 0)
    except (OSError, ValueError, FloatingPointError, MemoryError, ImportError, DeviceError) as error:
        return fail(reason(error))


def wrong_usage(error: click.UsageError, name: str, call: tuple[str, ...]) -> int:
    where = PROGRAM.get().name if error.ctx is None else error.ctx.command_path
    show = where.replace(name, "python -m tinynet" if "-m" in call else name, 1)
    say(f"{where}: error: {one_line(in_our_words(error))}", error=True)
    say(f"'{show} --help' lists the {'commands' if where == 'tinynet' else 'options'}", error=True)
    return 2
