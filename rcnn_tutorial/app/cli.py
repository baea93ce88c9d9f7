"""The command `rcnn-tutorial`: its subcommands, and how an error ends it.

What takes long to import is imported by the subcommand that needs it, so that `--help` answers at once.
"""

import sys

import typer

from rcnn_tutorial.app import data, detect_command, evaluate, export, recipes, train, weights

app = typer.Typer(
    name="rcnn-tutorial",
    help="Train an object detector on your own pictures, let it detect, and measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", help=train.HELP)(train.command)
app.command("detect")(detect_command.command)
app.command("evaluate")(evaluate.command)
app.add_typer(data.commands, name="data")
app.command("recipes")(recipes.command)
app.command("weights")(weights.command)
app.command("export")(export.command)


def main() -> None:
    """Run the command. What the user can mend is told in one line on stderr, and ends it with status 1."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"rcnn-tutorial: {error}")
