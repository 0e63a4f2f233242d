"""The Slack app's manifest: what `chatbotctl slack manifest` prints and an operator pastes into "Create an app".

Called by the command only. It asks for the scopes of what adapters/slack_channel.py does now and for no more: every
further scope is one more line that a workspace's administrator has to agree to.
"""

from __future__ import annotations

from urllib.parse import urlsplit

#: Bot scope -> what it is for. A method's own page still names the broad scopes (`channels:manage`, `groups:write`) for
#: invites and topics, while those scopes' pages list neither; so both the broad and the narrow ones are asked for.
#: Public channels are `channels`, private ones `groups`. docs.slack.dev/reference/scopes
SCOPES: dict[str, str] = {
    "channels:join": "conversations.join: back into a public channel that the bot was removed from",
    "channels:manage": "conversations.create and conversations.unarchive, public channels",
    "channels:write.invites": "conversations.invite, public channels",
    "channels:write.topic": "conversations.setTopic, public channels",
    "chat:write": "chat.postMessage, in channels that the bot is in",
    "groups:write": "conversations.create and conversations.unarchive, private channels",
    "groups:write.invites": "conversations.invite, private channels",
    "groups:write.topic": "conversations.setTopic, private channels",
}

#: Characters that Slack takes for the description. docs.slack.dev/reference/app-manifest
DESCRIPTION_LIMIT = 140


def manifest(*, public_url: str | None) -> dict[str, object]:
    """The manifest as JSON-ready data.

    Arguments:
        public_url: where this install is reached, if it is; its host is named in the app's description, so that the
            apps of several installs can be told apart. Slack does not call it.
    """
    host = urlsplit(public_url).hostname if public_url else None
    where = f" Installed at {host}." if host else ""
    return {
        "_metadata": {"major_version": 1},
        "display_information": {
            "name": "chatbotctl",
            "description": f"WhatsApp conversations with your customers, mirrored to Slack.{where}"[:DESCRIPTION_LIMIT],
        },
        "features": {"bot_user": {"display_name": "chatbotctl", "always_online": True}},
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {"org_deploy_enabled": False, "socket_mode_enabled": False, "token_rotation_enabled": False},
    }
