import typer

app = typer.Typer(no_args_is_help=True)


def decisions() -> None: ...
@app.command()
def x() -> None: ...
