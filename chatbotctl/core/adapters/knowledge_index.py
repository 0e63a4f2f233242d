"""Finds the passages that answer a question: BM25 (bm25s) ranks, and the share of the question covered decides.

Built and asked by knowledge_base.py. BM25's own scores cannot say "nothing fits", least of all over five passages, so
every word of a question gets a weight, every passage covers it by 0 to 1, and a passage answers when it covers enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

from chatbotctl.core.adapters.knowledge_passages import Passage
from chatbotctl.core.adapters.knowledge_words import Spelling, Words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The numbers below were chosen with questions about two small businesses, those of test_knowledge_base.py: the rates
# asserted there are the way to judge a change.
#: Share of the question that a passage has to cover to be an answer.
_ENOUGH = 0.44
#: What a word counts for standing in a passage at all; the rest is BM25's, by how often and in how long a passage.
_PRESENCE = 0.5
#: What a corrected spelling or a word for the same thing counts, compared with the word itself.
_CORRECTED, _SAME_THING = 0.85, 0.7
#: What a cue ("how much") weighs, compared with a word that is written.
_CUE = 0.5
#: What a word weighs that no passage has, compared with a rare one: people wrap questions in words of their own.
_UNKNOWN, _UNKNOWN_PAIR = 0.8, 0.2
#: A second passage answers too when it covers this share of the question that the best one leaves open ...
_ANOTHER_PART = 0.2
#: ... or when it scores nearly as high.
_NEAR_TIE = 0.96
#: How much a title that the question covers counts, compared with the question that the passage covers.
_TITLE_SHARE = 0.3
#: What a covered question counts in place of a covered title, for a passage whose title says nothing of it.
_UNTITLED = 0.3
#: What "today" or a number weighs, compared with other words.
_VAGUE = 0.4
#: Passages whose titles are compared.
_LIKELY = 20
#: How many times a passage's titles are counted.
_TITLES = 3
#: Words are weighed as if there were this many more passages: among five, every word looks common.
_SMOOTHING = 10
#: Different words of a question that are looked at: a pasted novel must not take seconds.
_MOST_WORDS = 60
#: BM25's usual constants: how soon repetition stops counting, and how much length counts.
_K1, _B = 1.2, 0.5


@dataclass(frozen=True, slots=True)
class _Term:
    """One thing a question says: how much it weighs, and how well each passage covers it (0 to 1)."""

    weight: float
    cover: NDArray[np.float64]
    #: The stems it may stand as, and what each counts.
    spellings: Mapping[str, float]


class KnowledgeIndex:
    """The passages of one business, ready to be asked. Read-only once built."""

    def __init__(self, passages: Sequence[Passage], words: Words) -> None:
        self._words = words
        stems = [(passage, _stems(passage, words)) for passage in passages]
        self._passages = [passage for passage, found in stems if found]
        self._frequency = Counter(stem for _, found in stems for stem in set(found))
        known = [*words.known_words()]
        self._known = {words.stem(word) for word in known} | self._frequency.keys()
        self._spelling = Spelling([*known, *(word for one in self._passages for word in words.split(_text(one)))])
        self._titles = [[set(found) for title in one.titles if (found := words.stems(title))] for one in self._passages]
        self._bm25 = _bm25([found for _, found in stems if found])

    def __len__(self) -> int:
        return len(self._passages)

    def find(self, question: str) -> list[Passage]:
        """The passage that answers `question`; two when each answers a part or both fit alike; none when none does."""
        terms = self._terms(question) if self._passages else []
        total = sum(term.weight for term in terms)
        if not total:
            return []
        shares = sum((term.weight * term.cover for term in terms[1:]), start=terms[0].weight * terms[0].cover) / total
        likely = sorted(range(len(self._passages)), key=lambda place: -float(shares[place]))[:_LIKELY]
        asked = {stem: share for term in terms for stem, share in term.spellings.items()}
        scores = {place: self._score(place, float(shares[place]), asked) for place in likely}
        best, *others = sorted(likely, key=lambda place: -scores[place])
        left_open = [term for term in terms if not term.cover[best]]
        for other in others[:3]:
            named = [term for term in left_open if self._is_in_title(term, other)]
            added = sum(term.weight * float(term.cover[other]) for term in named) / total
            is_part = added >= _ANOTHER_PART and shares[best] + added >= _ENOUGH
            is_tie = scores[best] >= _ENOUGH and scores[other] >= _NEAR_TIE * scores[best]
            if is_part or is_tie:
                return [self._passages[best], self._passages[other]]
        return [self._passages[best]] if scores[best] >= _ENOUGH else []

    def _is_in_title(self, term: _Term, place: int) -> bool:
        """Whether a passage's title has the word itself: what is only like it is no reason for a second answer."""
        return any(
            share > _SAME_THING and stem in stems
            for stems in self._titles[place]
            for stem, share in term.spellings.items()
        )

    def _score(self, place: int, share: float, asked: Mapping[str, float]) -> float:
        """How well a passage fits: how much of the question it covers, and how much of its title the question covers.

        A title is to be met in full, "Do you deliver?" by "do you deliver to Maple Street"; its passage's text is not.
        """
        if not share:
            return 0.0
        covered = _UNTITLED * share if self._titles[place] else share
        for stems in self._titles[place]:
            weights = {stem: self._weight(self._frequency[stem]) for stem in stems}
            covered = max(
                covered, sum(asked.get(stem, 0.0) * weight for stem, weight in weights.items()) / sum(weights.values())
            )
        return (1 - _TITLE_SHARE) * share + _TITLE_SHARE * covered

    def _terms(self, question: str) -> list[_Term]:
        words = [word for word in dict.fromkeys(self._words.split(question)) if not self._words.is_stop(word)]
        terms = [self._term(word) for word in words[:_MOST_WORDS]]
        for stem in self._words.cues(question):
            cue = self._covering(dict.fromkeys([stem, *self._words.same_as(stem)], _SAME_THING))
            if cue is not None:
                terms.append(_Term(cue.weight * _CUE, cue.cover, cue.spellings))
        return terms

    def _term(self, word: str) -> _Term:
        """A written word: as it stands, as what it means, or else as what it was meant to be."""
        stem = self._words.stem(word)
        spellings = {stem: 1.0, **dict.fromkeys(self._words.same_as(stem), _SAME_THING)}
        is_vague = self._words.is_vague(word)
        if stem not in self._known:
            for meant in self._spelling.corrections(word):
                if self._words.is_stop(meant):
                    continue
                is_vague = is_vague or self._words.is_vague(meant)
                right = self._words.stem(meant)
                spellings[right] = _CORRECTED
                for same in self._words.same_as(right):
                    spellings.setdefault(same, _CORRECTED * _SAME_THING)
        share = _VAGUE if is_vague else 1.0
        term = self._covering(spellings)
        if term is not None:
            return _Term(share * term.weight, term.cover, term.spellings)
        import numpy as np

        share *= _UNKNOWN_PAIR if self._words.is_pair(word) else _UNKNOWN
        return _Term(share * self._weight(0), np.zeros(len(self._passages)), {})

    def _covering(self, spellings: Mapping[str, float]) -> _Term | None:
        """How the passages cover a word in any of its spellings (stem -> what it counts); None: none has one."""
        found = {stem: share for stem, share in spellings.items() if stem in self._frequency}
        if not found:
            return None
        import numpy as np

        covers = [share * self._cover(stem) for stem, share in found.items()]
        best = max(found, key=lambda stem: found[stem])
        return _Term(self._weight(self._frequency[best]), 1 - np.prod([1 - cover for cover in covers], axis=0), found)

    def _cover(self, stem: str) -> NDArray[np.float64]:
        """How each passage covers a stem: BM25's score without its rareness, which is the term's weight here."""
        scores: NDArray[np.float64] = self._bm25.get_scores([stem]).astype(float)
        rareness = log(1 + (len(self._passages) - self._frequency[stem] + 0.5) / (self._frequency[stem] + 0.5))
        return (scores > 0) * _PRESENCE + (1 - _PRESENCE) * scores / rareness

    def _weight(self, frequency: int) -> float:
        """How much a word tells that stands in `frequency` passages (BM25's idf, smoothed)."""
        return log(1 + (len(self._passages) + _SMOOTHING - frequency + 0.5) / (frequency + 0.5))


def _stems(passage: Passage, words: Words) -> list[str]:
    titles = [stem for title in passage.titles for stem in words.stems(title)]
    return titles * _TITLES + words.stems("\n".join([*passage.path, passage.body]))


def _text(passage: Passage) -> str:
    return "\n".join([*passage.titles, *passage.path, passage.body])


def _bm25(stems: Sequence[Sequence[str]]) -> Any:
    """BM25 over the passages' stems; None without any."""
    if not stems:
        return None
    import logging

    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when it is imported
    index = bm25s.BM25(method="lucene", k1=_K1, b=_B)
    index.index([list(found) for found in stems], show_progress=False)
    return index
