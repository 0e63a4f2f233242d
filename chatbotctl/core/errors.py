"""Every error that chatbotctl raises on purpose; commands and server turn them into exit codes and HTTP answers.

The tree, with each class's `code` (stable: it is the interface) and exit code:

    ChatbotError                      error                     1
    ├── ConfigurationError            configuration             4
    │   ├── SecretKeyError            secret_key                4
    │   └── AssistantNotUsable        assistant_not_usable      4
    ├── NotFoundError                 not_found                 3
    │   ├── BusinessNotFound          business_not_found        3
    │   └── ConversationNotFound      conversation_not_found    3
    ├── ConflictError                 conflict                  6
    │   ├── AlreadyExists             already_exists            6
    │   ├── LeaseLost                 lease_lost                6
    │   └── SchemaMismatch            schema_mismatch           6
    ├── RefusedError                  refused                   7
    │   ├── UnreadableMessage         unreadable_message        7
    │   ├── MessageTooLong            message_too_long          7
    │   ├── BusinessDisabled          business_disabled         7
    │   └── SignatureRefused          bad_signature             7
    ├── StorageUnavailable            storage_unavailable       5
    └── OutsideError                  outside_service           5
        ├── AssistantError            assistant_failed          5
        │   └── ThreadGone            thread_gone               5
        ├── MessengerError            send_failed               5
        ├── MirrorError               slack_failed              5
        └── TranslationError          translation_failed        5

The first line of a class's docstring is its default sentence; an error's `hint`, the next thing to type or look at.
"""

from __future__ import annotations


class ChatbotError(Exception):
    """Something went wrong."""

    #: Stable machine name: the `code` of HTTP errors, JSON output and stored failures.
    code = "error"
    #: Process exit code (docs/errors.md lists them all).
    exit_code = 1

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").partition("\n")[0].strip()
        self.hint = hint
        super().__init__(self.message)


class ConfigurationError(ChatbotError):
    """The configuration is not usable."""

    code, exit_code = "configuration", 4


class SecretKeyError(ConfigurationError):
    """The key that encrypts credentials is missing or does not fit what is stored."""

    code = "secret_key"


class AssistantNotUsable(ConfigurationError):
    """This business has no usable assistant."""

    code = "assistant_not_usable"


class NotFoundError(ChatbotError):
    """There is no such thing."""

    code, exit_code = "not_found", 3


class BusinessNotFound(NotFoundError):
    """No business has this name or number."""

    code = "business_not_found"


class ConversationNotFound(NotFoundError):
    """There is no such conversation."""

    code = "conversation_not_found"


class ConflictError(ChatbotError):
    """That is not possible in the present state."""

    code, exit_code = "conflict", 6


class AlreadyExists(ConflictError):
    """That exists already."""

    code = "already_exists"


class LeaseLost(ConflictError):
    """Another worker has taken this conversation over: nothing of this turn may be written any more."""

    code = "lease_lost"


class SchemaMismatch(ConflictError):
    """The database's schema does not fit this version of chatbotctl."""

    code = "schema_mismatch"


class RefusedError(ChatbotError):
    """That was refused."""

    code, exit_code = "refused", 7


class UnreadableMessage(RefusedError):
    """The message has a missing or unreadable field."""

    code = "unreadable_message"


class MessageTooLong(RefusedError):
    """The message is longer than this business allows."""

    code = "message_too_long"


class BusinessDisabled(RefusedError):
    """This business is disabled."""

    code = "business_disabled"


class SignatureRefused(RefusedError):
    """The request's signature is missing or wrong."""

    code = "bad_signature"


class StorageUnavailable(ChatbotError):
    """The database cannot be reached or did not take the write."""

    code, exit_code = "storage_unavailable", 5


class OutsideError(ChatbotError):
    """An outside service failed.

    Arguments beyond the message:
        reason: the vendor's own code or status as short text, without any message text ("429", "63016", "timeout").
        retryable: a later attempt may succeed.
        unknown_outcome: the service may have done it although no answer came back: look before trying again.
        still_busy: the service is at work on an earlier call of ours: it takes the next one once that has ended.
        retry_after: seconds that the service asked us to wait, if it did.
    """

    code, exit_code = "outside_service", 5

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str = "",
        retryable: bool = False,
        unknown_outcome: bool = False,
        still_busy: bool = False,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.retryable = retryable
        self.unknown_outcome = unknown_outcome
        self.still_busy = still_busy
        self.retry_after = retry_after


class AssistantError(OutsideError):
    """The assistant gave no usable answer."""

    code = "assistant_failed"


class ThreadGone(AssistantError):
    """The AI provider no longer knows this conversation."""

    code = "thread_gone"


class MessengerError(OutsideError):
    """WhatsApp (Twilio) did not take the message."""

    code = "send_failed"


class MirrorError(OutsideError):
    """Slack did not take the post."""

    code = "slack_failed"


class TranslationError(OutsideError):
    """The text could not be translated."""

    code = "translation_failed"


def by_code(code: str | None) -> type[ChatbotError]:
    """The class whose `code` this is; ChatbotError for one that is unknown."""
    waiting = [ChatbotError]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            return kind
        waiting.extend(kind.__subclasses__())
    return ChatbotError
