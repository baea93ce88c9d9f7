"""The command `rcnn-tutorial`: its subcommands, and how an error ends it.

What takes long to import is imported by the subcommand that needs it, so that `--help` answers at once.
"""

import sys

import typer

from rcnn_tutorial.app import recipes, train

app = typer.Typer(
    name="rcnn-tutorial",
    help="Train an object detector on your own pictures, let it detect, and measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _subcommands() -> None:
    """Be there: without this, typer would leave out the name of a subcommand that is the only one."""


app.command("train", help=train.HELP)(train.command)
app.command("recipes")(recipes.command)


def main() -> None:
    """Run the command. What the user can mend is told in one line on stderr, and ends it with status 1."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"rcnn-tutorial: {error}")
