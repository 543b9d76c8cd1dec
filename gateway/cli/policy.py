import typer

app = typer.Typer(no_args_is_help=True)


def policy() -> None: ...
@app.command()
def x() -> None: ...
