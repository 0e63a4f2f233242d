"""The offline assistant: answers from the business's own knowledge files, without a key and without a network.

Implements ports.Assistant: passages (knowledge_passages.py) are compared by their words (knowledge_words.py) and ranked
(knowledge_index.py). It only ever says what a passage says; a question that no passage covers is left to a person.
Reads files through the callables it is given; does no I/O of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from cachetools import LRUCache

from chatbotctl.core.adapters.knowledge_index import KnowledgeIndex
from chatbotctl.core.adapters.knowledge_passages import Passage, passages_in
from chatbotctl.core.adapters.knowledge_words import Words, word_set
from chatbotctl.core.adapters.thread_handles import LOCAL_PREFIX, local_handle, require_handle
from chatbotctl.core.errors import AssistantError, StorageUnavailable
from chatbotctl.core.records.assistant import Answer, Question
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Line

#: What customers read when no passage answers.
DONT_KNOW = (
    "I'm sorry, I don't know the answer to that. I have passed your message on, and a person from our team will look "
    "at it and get back to you here."
)
#: What customers read when they greet, with and without examples of what can be asked.
GREETING = "Hello! 👋 How can I help you?"
GREETING_EXAMPLES = "You can ask me, for example:"
#: What customers read when they thank or say good-bye.
WELCOME = "You're welcome! Just write to us if there is anything else."

_NO_PASSAGE = "No passage of the knowledge files answers this."
_NO_KNOWLEDGE = "There are no knowledge files to answer from."

_GREETINGS = word_set(
    "hi hii hiya hello helo hey heya hallo hola ola oi salut bonjour bonsoir ciao buongiorno salve hej merhaba salam "
    "namaste morning afternoon evening buenos buenas dias tardes noches guten tag morgen bom boa dia tarde "
    "привет здравствуйте مرحبا 你好 您好 こん んに にち ちは 안녕 녕하 하세 세요"
)
_THANKS = word_set(
    "thanks thank thankyou thx thnx ty tysm cheers appreciated great perfect awesome cool nice ok okay okey alright "
    "bye goodbye gracias merci danke obrigado obrigada grazie bedankt tack спасибо شكرا 谢谢 謝謝"
)
_POLITE = word_set(
    "good day there all everyone you so very much a lot many for your help team sir madam see got it that"
)

#: Businesses whose index stays in memory.
_INDEXES = 256
#: Things that a greeting names as examples.
_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What is kept of one business: its index, what the index was built from, and examples of what it answers."""

    built_from: tuple[str, str | None]
    words: Words
    index: KnowledgeIndex
    examples: tuple[str, ...]


class KnowledgeBase:
    """Answers from knowledge files. Safe to call from many threads; an index is built once per version of the files."""

    def __init__(
        self,
        *,
        files_of: Callable[[Business], Sequence[tuple[str, str]]],
        version_of: Callable[[Business], str],
    ) -> None:
        """Arguments.

        files_of: a business's knowledge files as (file name, text).
        version_of: a cheap key that changes when any of these files does; asked on every question.
        Both may raise OSError or StorageUnavailable.
        """
        self._files_of = files_of
        self._version_of = version_of
        self._kept: LRUCache[int, _Knowledge] = LRUCache(maxsize=_INDEXES)
        self._lock = threading.Lock()

    def check(self, *, business: Business) -> None:
        """Always fine: without any file it says that it does not know, and a person looks."""

    def start_thread(
        self,
        *,
        business: Business,  # noqa: ARG002 (the port asks for it)
        customer_hash: str,  # noqa: ARG002
        transcript: Sequence[Line],  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> str:
        """A made-up handle: nothing of a conversation is kept here."""
        return local_handle()

    def look_back(self, *, question: Question) -> Answer | None:
        """Nothing: no conversation is kept here."""

    def ask(self, *, question: Question) -> Answer:
        """Answer with the passage that covers the question, or say that a person will look."""
        require_handle(question.ai_thread, LOCAL_PREFIX)
        try:
            knowledge = self._knowledge_of(question.business)
        except (OSError, StorageUnavailable) as exc:
            raise AssistantError(
                "The knowledge files cannot be read.", reason="knowledge_unreadable", retryable=True
            ) from exc
        courtesy = _courtesy(question.text, knowledge)
        if courtesy is not None:
            return Answer(text=courtesy)
        if not len(knowledge.index):
            return Answer(text=DONT_KNOW, needs_human=_NO_KNOWLEDGE)
        passages = knowledge.index.find(question.text)
        if not passages:
            return Answer(text=DONT_KNOW, needs_human=_NO_PASSAGE)
        if len(passages) == 1:
            return Answer(text=passages[0].body)
        return Answer(text="\n\n".join(_titled(passage) for passage in passages))

    def _knowledge_of(self, business: Business) -> _Knowledge:
        built_from = (self._version_of(business), business.language)
        with self._lock:
            kept = self._kept.get(business.id)
        if kept is not None and kept.built_from == built_from:
            return kept
        # Outside of the lock: two threads may build the same index, but none waits for another business's.
        words = Words(business.language)
        files = [passages_in(text) for _, text in self._files_of(business)]
        index = KnowledgeIndex([passage for file in files for passage in file], words)
        knowledge = _Knowledge(built_from, words, index, _examples(files))
        with self._lock:
            self._kept[business.id] = knowledge
        return knowledge


def _courtesy(text: str, knowledge: _Knowledge) -> str | None:
    """The reply to a bare greeting, thanks, or a message without any word; None when something is asked."""
    words = knowledge.words.split(text)
    if not all(word in _GREETINGS or word in _THANKS or word in _POLITE for word in words):
        return None
    if any(word in _THANKS for word in words) and not any(word in _GREETINGS for word in words):
        return WELCOME
    if not knowledge.examples:
        return GREETING
    return "\n".join([f"{GREETING} {GREETING_EXAMPLES}", *(f"- {example}" for example in knowledge.examples)])


def _examples(files: Sequence[Sequence[Passage]]) -> tuple[str, ...]:
    """A few titles, taken from the files in turn, so that they show what there is to ask."""
    titles = [[passage.titles[0] for passage in file if passage.titles] for file in files]
    in_turn = [title for row in zip_longest(*titles) for title in row if title]
    return tuple(dict.fromkeys(in_turn))[:_EXAMPLES]


def _titled(passage: Passage) -> str:
    """A passage beside another one: its title tells which part of the question it answers."""
    return f"**{passage.titles[0]}**\n{passage.body}" if passage.titles else passage.body
