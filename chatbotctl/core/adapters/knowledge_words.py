"""The words of a text as the offline assistant compares them: folded, stemmed, without stop words.

Called by knowledge_base.py for passages and questions alike. Knows which words customers use for the same thing
(English), and finds what a mistyped word was meant to be. Does no ranking.
"""

from __future__ import annotations

import threading
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import regex


def word_set(words: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(words.split())


#: Scripts that put no spaces between words, or hang endings on them: compared by pairs of characters.
_UNSPACED = (
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}"
    r"\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}ー]"
)
_WORD = regex.compile(rf"(?P<pairs>{_UNSPACED}+)|[\p{{L}}\p{{N}}\p{{M}}--{_UNSPACED}]+", regex.VERSION1)
_UNSPACED_RUN = regex.compile(_UNSPACED + "+")
_HIRAGANA = regex.compile(r"\p{Script=Hiragana}+")
_JOINED = regex.compile(r"(?<=[\p{L}\p{N}])[-‐‑](?=[\p{L}\p{N}])")
_APOSTROPHE = regex.compile(r"(?<=\p{L})['’ʼ](?=\p{L})")
_POSSESSIVE = regex.compile(r"(?<=\p{L})['’ʼ]s\b")
_ACCENTS = regex.compile(r"[\u0300-\u036f]")

#: Snowball's names by ISO 639 code. Everything else is stemmed as English.
_LANGUAGES = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french",
    "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian",
    "lt": "lithuanian", "nb": "norwegian", "ne": "nepali", "nl": "dutch", "nn": "norwegian", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish",
}  # fmt: skip

#: What people write around a question in a chat, and what every business does ("do you sell ...").
_CHAT_WORDS = word_set(
    "accept actually also anyone anything ask available bring carry checking cool could couldnt currently dear "
    "dont etc exactly fine get getting give going gonna good got great guess guys happen hello hey hi hope id "
    "idea im info information ive kind know let like long looking lot love make makes may maybe me method methods "
    "might mind much must need offer ok okay one option options please pls plz possible provide question quick r "
    "really regarding right saw say sell serve shall shop sir somebody someone something sometimes somewhere "
    "sorry still store stuff sure take tell thank thanks thats there thing things think time times u ur us use "
    "usually via wanna want wanted way ways well whats whens wheres wonder wondering would wouldnt yes yet"
)

#: Words for the same thing. A question's word also counts, somewhat less, where another of its group stands.
_SAME = (
    "hours open opening opened close closing closed schedule",
    "price prices pricing cost costs fee charge expensive cheap rate discount",
    "pay payment paying card cash credit debit visa mastercard amex paypal",
    "address location located directions street find map",
    "deliver delivery delivering shipping ship courier",
    "pickup preorder ahead collect collection pick takeaway takeout",
    "refund return money complain complaint wrong broken damaged missing replace",
    "book booking reserve reservation appointment",
    "cancel cancellation cancelled change reschedule modify postpone",
    "job jobs work hire hiring vacancy vacancies career careers recruit recruiting employment apply application",
    "class classes course courses workshop workshops lesson lessons teach learn",
    "contact phone telephone call email mail",
    "dog dogs pet pets puppy cat cats",
    "wifi internet wlan",
    "near nearby far distance",
    "parking park car cars garage",
    "bike bikes bicycle bicycles",
    "allergy allergies allergic allergen allergens intolerance intolerant ingredient ingredients contain contains",
    "vegan vegetarian veggie",
    "gift present voucher vouchers coupon certificate",
    "catering cater caterer",
    "holiday holidays christmas easter",
    "menu food eat",
    "bus tram train metro subway",
    "kids kid children child childcare babysitter",
    "invoice bill receipt",
    "trial try test sample",
    "pause freeze suspend",
    "contract membership subscription",
    "lost lose forgot forgotten found",
    "rent rental hire hired borrow",
)
#: Words and phrases that tell what is asked for without naming it.
_CUES = (
    (r"\bhow (?:much|expensive)\b", "price"),
    (r"\bwhere\b(?! (?:can i (?:leave|put)|(?:is |are )?(?:my|our)))|\bhow do (?:i|we) (?:get|find)\b", "address"),
    (r"\b(?:bring|send|drop) (?:it|them|this|these|my order|the order|food)\b", "deliver"),
    (r"\b(?:when|what time|how late|how early|until when)\b", "hours"),
    (r"\bwhat (?:do|can) (?:you|u|i|we) (?:sell|offer|have|serve|make|get)\b", "menu"),
)
#: Days and the like say "opening hours" when nothing else in the question does.
_DAYS = word_set(
    "today tomorrow tonight now weekend weekends weekday weekdays early late morning evening "
    "monday mondays tuesday tuesdays wednesday wednesdays thursday thursdays friday fridays saturday saturdays sunday "
    "sundays"
)


class Words:
    """The words of one language."""

    def __init__(self, language: str | None) -> None:
        import Stemmer

        code = (language or "en").replace("_", "-").split("-")[0].casefold()
        name = _LANGUAGES.get(code, "english")
        self._stemmer: Any = Stemmer.Stemmer(name)
        self._lock = threading.Lock()  # a stemmer keeps a cache of its own and is not made for threads
        #: Of a folded word.
        self.stop_words = _stop_words(code)
        self._same: dict[str, frozenset[str]] = {}
        self._cues: tuple[tuple[regex.Pattern[str], str], ...] = ()
        if name == "english":
            self._same = _same_stems(self.stem)
            self._cues = tuple((regex.compile(pattern), self.stem(word)) for pattern, word in _CUES)

    def stem(self, word: str) -> str:
        """Of one word as `split` gives it."""
        with self._lock:
            return _folded(self._stemmer.stemWord(word))

    def split(self, text: str) -> list[str]:
        """The words as written, in lower case; hyphenated ones whole; pairs of characters of unspaced scripts."""
        text = unicodedata.normalize("NFKC", text).casefold()
        text = _APOSTROPHE.sub("", _POSSESSIVE.sub("", text))
        text = _JOINED.sub("", text)
        found: list[str] = []
        for match in _WORD.finditer(text):
            word = match.group()
            found.extend(_pairs(word) if match["pairs"] else [word])
        return found

    def stems(self, text: str) -> list[str]:
        """The informative words' stems, in order, those of hyphenated words' parts included."""
        words = self.split(text)
        if _JOINED.search(text):
            words += self.split(_JOINED.sub(" ", text))
        return [self.stem(word) for word in words if not self.is_stop(word)]

    def is_stop(self, word: str) -> bool:
        """Whether the word tells nothing about what is asked."""
        return _folded(word) in self.stop_words or (len(word) == 1 and word.isascii() and word.isalpha())

    def is_pair(self, word: str) -> bool:
        """Whether it is a pair of characters of an unspaced script, not a word."""
        return _UNSPACED_RUN.fullmatch(word) is not None

    def is_vague(self, word: str) -> bool:
        """Whether the word tells little beside others: a number, "today", or Japanese syllables (mostly grammar)."""
        return word in _DAYS or word.isnumeric() or _HIRAGANA.fullmatch(word) is not None

    def same_as(self, stem: str) -> frozenset[str]:
        """Stems of words that customers use for the same thing."""
        return self._same.get(stem, frozenset())

    def cues(self, text: str) -> list[str]:
        """Stems that the question implies: "how much" asks for a price."""
        folded = " ".join(self.split(text))
        return [stem for pattern, stem in self._cues if pattern.search(folded)]

    def known_words(self) -> Iterator[str]:
        """Words that are no typing errors though no passage has them."""
        yield from self.stop_words
        if self._same:
            yield from _DAYS
            for group in _SAME:
                yield from group.split()


class Spelling:
    """Finds the known words that a mistyped one can stand for: one letter wrong, missing, too many, or two swapped.

    Words of a length under 4 are never corrected, and of 4 only by what keeps all letters: "bike" is not "bake".
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._by_rest: defaultdict[str, set[str]] = defaultdict(set)
        for word in set(words):
            if 4 <= len(word) <= 40:
                for rest in _one_less(word):
                    self._by_rest[rest].add(word)

    def corrections(self, word: str) -> list[str]:
        """The known words one slip away that begin with the same letter, in alphabetical order."""
        if not 4 <= len(word) <= 40:
            return []
        near: set[str] = set()
        for rest in _one_less(word):
            near |= self._by_rest.get(rest, set())
        return sorted(other for other in near if other[0] == word[0] and _is_one_slip(word, other))


def _one_less(word: str) -> set[str]:
    return {word, *(word[:index] + word[index + 1 :] for index in range(len(word)))}


def _is_one_slip(word: str, other: str) -> bool:
    if len(word) != len(other):
        return abs(len(word) - len(other)) == 1 and min(len(word), len(other)) >= 4
    different = [index for index, (left, right) in enumerate(zip(word, other, strict=True)) if left != right]
    if len(different) == 1:
        return len(word) >= 5
    if len(different) != 2 or different[1] != different[0] + 1:
        return False
    first, second = different
    return word[first] == other[second] and word[second] == other[first]


def _pairs(run: str) -> list[str]:
    return [run[index : index + 2] for index in range(len(run) - 1)] or [run]


def _folded(word: str) -> str:
    """Without accents: many people leave them out on a phone."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))


@cache
def _stop_words(code: str) -> frozenset[str]:
    from bm25s import stopwords

    lists = {
        "da": stopwords.STOPWORDS_DANISH, "de": stopwords.STOPWORDS_GERMAN, "es": stopwords.STOPWORDS_SPANISH,
        "fr": stopwords.STOPWORDS_FRENCH, "it": stopwords.STOPWORDS_ITALIAN, "ko": stopwords.STOPWORDS_KOREAN,
        "nb": stopwords.STOPWORDS_NORWEGIAN, "nl": stopwords.STOPWORDS_DUTCH, "nn": stopwords.STOPWORDS_NORWEGIAN,
        "no": stopwords.STOPWORDS_NORWEGIAN, "pt": stopwords.STOPWORDS_PORTUGUESE, "ru": stopwords.STOPWORDS_RUSSIAN,
        "sv": stopwords.STOPWORDS_SWEDISH, "tr": stopwords.STOPWORDS_TURKISH, "zh": stopwords.STOPWORDS_CHINESE,
    }  # fmt: skip
    english = {*stopwords.STOPWORDS_EN_PLUS, *_CHAT_WORDS}
    words = lists.get(code, english)
    return frozenset(_folded(_APOSTROPHE.sub("", word.casefold())) for word in words)


def _same_stems(stem: Any) -> dict[str, frozenset[str]]:
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for group in _SAME:
        stems = {stem(word) for word in group.split()}
        for one in stems:
            groups[one] |= stems - {one}
    for day in _DAYS:
        groups[stem(day)] |= {stem("hours"), stem("open")}
    return {one: frozenset(others) for one, others in groups.items()}
