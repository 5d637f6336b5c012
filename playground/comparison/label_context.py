"""What stands around a label in an answer: whether it is stated, denied, or one of a choice.

Texts are expected as `labels` prepares them: apostrophes and dashes are ASCII, and there is one
space between words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import regex

from playground.comparison.label_patterns import is_set_apart
from playground.comparison.label_words import (
    ADVERBS,
    CHOOSING,
    CLOSE,
    COPULA,
    NAMES,
    OPEN,
    OR,
    SUBJECTS,
)

Match = tuple[int, int, str]
"""Start, end and label."""
_WINDOW = 60
"""Number of characters before a label that are looked at."""
_NAMED = regex.compile(
    rf"(?:\b|(?<='))(?:{NAMES}\W{{0,4}}(?:(?:(?:would|must|should|can\s+only)\s+)?{COPULA}\W{{0,4}})?"
    rf"|(?:{NAMES}|{SUBJECTS})(?:\s(?:of|for|in)\s[^\n.,:;!?]{{1,30}}?)?(?:\s?(?:[:=]|->|→)|\b{COPULA}|\s{COPULA})"
    rf"\W{{0,4}}|{CHOOSING}\W{{1,2}}){ADVERBS}?(?:an?\s)?[\W_]{{0,2}}\Z",
    regex.IGNORECASE | regex.WORD,
)
"""Before a label: a name of the answer, perhaps with a copula, or a word of choosing."""
_POINTED = regex.compile(rf"(?:[:→]|[-=]>)[\s*_]*{OPEN}*\Z")
"""Before a label: a colon or an arrow."""
_UNIT = regex.compile(
    r"\s?/\s?\d|\s(?:out\sof|von|sur|из)\s\d|\s?[⭐★☆星分점点]"
    r"|[\s-](?:stars?|sterne?n?|étoiles?|estrellas?|stelle|estrelas?|gwiazd\w*|звезд\w*)\b",
    regex.IGNORECASE,
)
"""After a number: a unit or a scale, as of "5 stars" and "4/5"."""
_LINE_END = r"(?!\s?:)[\W_]{0,20}$"
_ENDS_LINE = regex.compile(_LINE_END, regex.MULTILINE)
_ENDS_LINE_OF_NUMBER = regex.compile(rf"(?:\s\p{{L}}+)?{_LINE_END}", regex.MULTILINE)
_FUNCTION_WORD = regex.compile(
    r"it|us|me|he|we|my|or|in|is|so|to|at|on|as|am|be|by|do|go|if|of", regex.IGNORECASE
)
"""Words of grammar that are abbreviations in capitals, such as IT, US and OR."""
_ASKED = regex.compile(rf"{CLOSE}*\s?[?？]")
_IN_RUNNING_TEXT = regex.compile(r"\s?'?\p{L}")

_NEXT_EXAMPLE = regex.compile(
    r"\n\W{0,4}(?:input|question|q|review|text|sentence|premise|passage|instruction|example|tweet)"
    r"\s?\d*\W{0,2}:",
    regex.IGNORECASE,
)
"""A line with which an example of a prompt begins."""


def next_example(text: str) -> int:
    """Return where an answer goes on with another example, which its labels belong to then."""
    match = _NEXT_EXAMPLE.search(text)
    return match.start() if match else len(text)


def rank(text: str, start: int, end: int, label: str) -> int | None:
    """Return how firmly an answer states the label at these places; 0 is most firmly.

    0 is alone in the first line or beside a name of the answer, 1 is after a colon at its line's
    end or a number with a unit, 2 is anywhere, 3 is before a question mark, or a word of grammar
    in running text. None is no label: "it" for IT.
    """
    ends_line = _ENDS_LINE_OF_NUMBER if is_set_apart(label) else _ENDS_LINE
    ends = ends_line.match(text, end)
    before = max(0, start - _WINDOW)
    if ends and not regex.search(r"[^\W_]", text, endpos=start):
        return 0
    if _NAMED.search(text, before, start):
        return 0
    if ends and _POINTED.search(text, before, start):
        return 1
    if text[start:end].strip("+-").isdecimal() and _UNIT.match(text, end):
        return 1
    if _ASKED.match(text, end):
        return 3
    if not _IN_RUNNING_TEXT.match(text, end):
        return 2
    return _rank_in_running_text(text, start, end, label)


def _rank_in_running_text(text: str, start: int, end: int, label: str) -> int | None:
    """Return the rank of a label before another word, where words of grammar are no labels."""
    word = text[start:end]
    is_short = len(label) <= 3 and label.isupper() and not is_set_apart(label)
    if _FUNCTION_WORD.fullmatch(word):
        if is_short:
            return 2 if word.isupper() else None
        return 3
    after_word = regex.match(r"\p{L}\s", text, pos=max(0, start - 2), endpos=start)
    is_determiner = word.casefold() == "no" and after_word
    return 3 if is_determiner or (is_short and not word.isupper()) else 2


_JOINT = regex.compile(
    rf"{CLOSE}{{0,3}}(?:(?P<scale>\s?(?:/|\bof\b)\s?)|,?\s?{OR}\s?|\||(?P<comma>,\s?))(?:(?:an?|the)\s)?{OPEN}{{0,3}}",
    regex.IGNORECASE | regex.WORD,
)


def choices(text: str, matches: Sequence[Match], count: int) -> set[Match]:
    """Return the labels that are joined as a choice: "X or Y", "X/Y", "X, Y or Z".

    A slash between numbers is a scale, as in "4/5". All `count` labels in a row are a choice
    without "or" if they stand after a colon: "Answer with one of: X, Y."
    """
    joined: set[Match] = set()
    chain: list[Match] = []
    is_choice = False
    for match in sorted(matches):
        joint = _JOINT.fullmatch(text, chain[-1][1], match[0]) if chain else None
        if joint and joint["scale"] and text[match[0] : match[1]].isdecimal():
            joint = None
        if not joint or (is_choice and joint["comma"]):
            joined |= _distinct(chain) if is_choice or _is_list(text, chain, count) else set()
            chain, is_choice = [], False
        chain.append(match)
        is_choice |= bool(joint and not joint["comma"])
    return joined | (_distinct(chain) if is_choice or _is_list(text, chain, count) else set())


def _is_list(text: str, chain: Sequence[Match], count: int) -> bool:
    """Whether a chain has all labels, from a colon to a mark or the end of the line."""
    if not chain or len({label for _, _, label in chain}) < count:
        return False
    start, end = chain[0][0], chain[-1][1]
    after_colon = _POINTED.search(text, max(0, start - _WINDOW), start)
    return bool(after_colon and regex.match(r"\Z|\n|[^\w,\s]", text, pos=end))


def _distinct(chain: Iterable[Match]) -> set[Match]:
    """Return a chain of labels if they are not all the same."""
    links = set(chain)
    return links if len({label for _, _, label in links}) > 1 else set()


_FILLERS = (
    rf"a|an|the|{COPULA}|at\s+all|really|exactly|necessarily|seem|appear|look|sound|so|that|such"
    r"|overly|especially|too|all|any|clear|entirely|fully|du\s+tout|etwa|nada|(?!only)\p{L}+ly|quite|very"
    r"|ein|eine|un|une|una|uma"
)
_NOT = (
    r"not|\w*n't|cannot|no|non|never|neither|nor|nicht|keine?|keineswegs|weder|pas|ni|não|nem|niet"
    r"|geen|nie|inte|ikke|не|ні|ни|δεν|όχι|μη|ليس|ليست|غير|ولا|لا|לא|אינו|אינה|không|bukan|tidak"
    r"|rather\s+than|instead\s+of|far\s+from|hardly"
)
_OPINION = (
    r"(?:not|\w*n't|cannot)\s(?:think|believe|say|call|consider|find|mean)(?:\s(?:it|this|that))?"
)
"""A negation of what someone thinks, which governs what comes after: "I don't think it is"."""
_NEGATED_BEFORE = regex.compile(
    rf"(?:\b(?:(?:{_NOT})[^\S\n]|non-|{_OPINION}[^\S\n])(?:(?:{_FILLERS})[^\S\n]){{0,3}}"
    rf"|[不非未](?:是|太|算|够|属于)?|没有|沒有|ไม่(?:ใช่)?\s?){OPEN}*\Z",
    regex.IGNORECASE | regex.WORD,
)
_NEGATED_AFTER = regex.compile(
    rf"{CLOSE}*(?:では?(?:な|あり?ませ)|じゃ(?:な|ありませ)|[이가은]?\s?(?:아니|아닌|아닙)|적이지\s?않"
    rf"|\s(?:नहीं|değil)|\s(?:is|was)(?:\snot\b|n't)\s(?:the\s)?(?:right|correct|true|answer)"
    rf"|\s(?:is|was)\s(?:wrong|incorrect|false)\b)",
    regex.WORD | regex.IGNORECASE,
)


def is_negated(text: str, start: int, end: int) -> bool:
    """Whether a negation governs the label at these places: "not entailment" does not name it."""
    before = max(0, start - _WINDOW)
    return bool(_NEGATED_BEFORE.search(text, before, start) or _NEGATED_AFTER.match(text, end))
