"""`chatbotctl slack ...`: what connecting a Slack workspace takes."""

from __future__ import annotations

import typer

from chatbotctl.commands import output
from chatbotctl.commands.session import session_of

slack_app = typer.Typer(
    no_args_is_help=True, help="Connecting a Slack workspace.\n\nExample: chatbotctl slack manifest > manifest.json"
)


@slack_app.command()
def manifest(ctx: typer.Context) -> None:
    """Print the manifest of the Slack app: paste it at api.slack.com/apps, "Create New App", "From a manifest".

    Example: chatbotctl slack manifest > manifest.json
    """
    from chatbotctl.core.upkeep import slack_manifest

    public_url = session_of(ctx).loaded().settings.server.public_url
    output.json_document(slack_manifest.manifest(public_url=public_url))
