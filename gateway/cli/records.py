import typer

app = typer.Typer(no_args_is_help=True)


def records() -> None: ...
@app.command()
def x() -> None: ...
