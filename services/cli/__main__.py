"""`desifre`: every command of the command line, put together."""

import typer

from services.cli.commands import client, live, operator


def app() -> typer.Typer:
    """The whole command line."""
    root = typer.Typer(
        name="desifre",
        help="Speech to text on your own machine.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    client.register(root)
    live.register(root)
    operator.register(root)
    return root


def main() -> None:
    """Entry point of the installed program."""
    app()()


if __name__ == "__main__":
    main()
