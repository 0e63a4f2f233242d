"""Typer's own first example: the least that a command line made with it can start in."""

import typer

app = typer.Typer()


@app.command()
def main(name: str) -> None:
    """Say hello to NAME."""
    typer.echo(f"Hello {name}")


if __name__ == "__main__":
    app()
