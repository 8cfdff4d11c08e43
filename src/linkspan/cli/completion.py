"""`linkspan completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    linkspan completion bash > /etc/bash_completion.d/linkspan
    linkspan completion zsh > ~/.zfunc/_linkspan
    linkspan completion fish > ~/.config/fish/completions/linkspan.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    script = found(root, {}, "linkspan", "_LINKSPAN_COMPLETE")
    # The version check of click's bash script would start a bash for every print.
    click.echo(script.source_template % script.source_vars())
