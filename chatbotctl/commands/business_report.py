"""How a business is shown: as a line of a list, in full, and what an operator should know after a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatbotctl.commands import moments, output

if TYPE_CHECKING:
    from chatbotctl.core.errors import ConfigurationError
    from chatbotctl.core.records.business import Business, KnowledgeFile
    from chatbotctl.core.wiring import Core


def as_listed(business: Business) -> dict[str, object]:
    """One entry of `business list --json`."""
    return {
        "name": business.name,
        "number": business.whatsapp_address,
        "disabled": business.is_disabled,
        "backend": business.backend.value,
        "model": business.model,
        "language": business.language,
    }


def show(core: Core, business: Business, *, as_json: bool) -> None:
    """Print all that is stored about a business; of its credentials only that they are there."""
    from chatbotctl.core.storage import businesses, credentials, knowledge

    with core.database.read() as tx:
        secrets = credentials.listed(tx, business)
        files = knowledge.listed(tx, business)
        threads = businesses.count_conversations(tx, business)
    problem = problem_of(core, business)
    document = {
        **as_listed(business),
        "disabled_reason": business.disabled_reason,
        "base_url": business.base_url,
        "instructions": business.instructions,
        "assistant_id": business.assistant_id,
        "vector_stores": list(business.vector_store_ids),
        "history": business.history.value,
        "apology": business.apology,
        "max_message_chars": business.max_message_chars,
        "slack_layout": business.slack_layout.value if business.slack_layout else None,
        "slack_channel": business.slack_channel,
        "slack_users": list(business.slack_user_ids),
        "credentials": [{"provider": provider, "set_at": moments.iso(at)} for provider, at in secrets],
        "knowledge_files": len(files),
        "threads": threads,
        "problem": problem.message if problem else None,
    }
    if as_json:
        output.json_document(document)
    else:
        _print(core, business, document)


def state(business: Business) -> str:
    """Enabled, or disabled and why."""
    if not business.is_disabled:
        return "enabled"
    return f"disabled: {business.disabled_reason}" if business.disabled_reason else "disabled"


def problem_of(core: Core, business: Business) -> ConfigurationError | None:
    """What is missing before this business can be answered for."""
    from chatbotctl.core.errors import ConfigurationError

    try:
        core.assistant_of(business)
    except ConfigurationError as error:
        return error
    return None


def advise(core: Core, business: Business) -> None:
    """Say what is still to be done for this business, and the command that does it."""
    from chatbotctl.core.records.business import Backend
    from chatbotctl.core.storage import knowledge

    name = business.name
    problem = problem_of(core, business)
    if problem is not None:
        output.note(f"{name} cannot be answered for yet. {problem.message}", style="yellow")
        if problem.hint:
            output.note("Try: " + problem.hint.replace(" NAME ", f" {name} "))
    with core.database.read() as tx:
        files = knowledge.listed(tx, business)
    if business.backend is Backend.KNOWLEDGE and not files:
        output.note(f"{name} has no knowledge yet: every question waits for a person.", style="yellow")
        output.note(f"Try: chatbotctl business knowledge add {name} PATH")
    elif business.backend is Backend.OPENAI and unsynced(files):
        output.note(f"{unsynced(files)} of its knowledge files are not at the AI provider yet.", style="yellow")
        output.note(f"Try: chatbotctl business knowledge sync {name}")
    elif business.backend in (Backend.CHAT, Backend.THREADS) and files:
        output.note(f"The backend {business.backend.value} does not read its {len(files)} knowledge files.")


def unsynced(files: list[KnowledgeFile]) -> int:
    """How many of these files the provider does not have as they are."""
    return sum(not file.is_uploaded for file in files)


def _print(core: Core, business: Business, document: dict[str, object]) -> None:
    settings = core.settings
    limit = business.max_message_chars or settings.limits.max_message_chars
    secrets = ", ".join(sorted(business.own_credentials))
    output.facts(
        {
            "Name": business.name,
            "Number": business.whatsapp_address,
            "State": state(business),
            "Problem": document["problem"],
            "Backend": business.backend.value,
            "Model": business.model or _installs(settings.openai.model),
            "Server": business.base_url or _installs(settings.openai.base_url),
            "Assistant": business.assistant_id,
            "History": business.history.value,
            "Vector stores": ", ".join(business.vector_store_ids),
            "Knowledge files": document["knowledge_files"],
            "Language": business.language,
            "Longest message": f"{limit:,} characters",
            "Apology": "(nothing is sent)" if business.apology == "" else business.apology or "(the install's)",
            "Slack layout": business.slack_layout.value if business.slack_layout else settings.slack.layout,
            "Slack users": ", ".join(business.slack_user_ids),
            "Own credentials": secrets,
            "Threads": document["threads"],
            "Instructions": business.instructions,
        }
    )


def _installs(value: str | None) -> str | None:
    """A value that is not the business's own."""
    return f"{value} (the install's)" if value else None
