r"""Regular expressions of where labels stand in an answer: words, numbers and single letters.

They are written for the `regex` library, whose WORD flag puts `\b` at the word borders of Unicode
(UAX #29), and expect a text as `labels` prepares it: apostrophes and dashes are ASCII.
"""

from __future__ import annotations

import regex

from playground.comparison.label_words import (
    ADVERBS,
    ARTICLE,
    CLOSE,
    COPULA,
    CUE,
    OPEN,
    REASON,
    RIGHT,
    SAYING,
)

_NUMBER, _LETTER = r"[-+]?\d+(?:[.,]\d+)?", r"\p{L}\p{M}*"
_BEFORE = r"(?:\b|(?<!\w))"
_AFTER = r"(?:\b|(?!\w)|(?=\p{Hangul}))"  # Korean writes its endings onto a foreign word
_ARABIC_PREFIX = r"(?<=\b[وف]?[بك]?ال)"
_HEBREW_PREFIX = r"(?<=\b[והבלמש]{1,2})"
_JAPANESE_ENDING = r"(?:です|でし|だ|で|と|の|が|は|を|も|に)"
_ENDING = r"(?:[的了啊呀吧呢]|です|でした|だ|である|입니다|이다|임|이에요|예요|요|번|ครับ|ค่ะ|\s?हैं?)?"
"""What a single letter may carry and still stand by itself."""
_OUT_OF = r"(?:/|out\sof|of|von|sur|su|de|из|中)\s?(?:(?:the|a\smaximum\sof)\s)?"
_TO = r"(?:-|to|and|bis|à|al?|till|до|~|至|到|から)"
_FULL = r"(?:满分|滿分|満点)"
_SCALE_ENDS = (
    r"(?:[点점]?\s?[満만][点점]|[分点]制|[分点]中|段階|점\s중|üzerinden|में\sसे|[\s-]?\w+\sscale\b)"
)
"""What follows the end of a scale: 5점 중, 5分制, 5-point scale."""


def pattern_of(label: str) -> str:
    """Return the regular expression of a label; what it matches is the label in an answer."""
    if regex.fullmatch(_NUMBER, label):
        return _number(label)
    if regex.fullmatch(_LETTER, label):
        return _letter(label)
    words = list(map(regex.escape, label.split()))
    if words[0].lower() == "not":  # "not an entailment" is not_entailment
        words[0] += r"(?:\s+(?:an?|the))?"
    spelt = r"\s+".join(words)
    before, after = _BEFORE, _AFTER
    if regex.match(r"\p{Arabic}{3}", label):
        before = f"(?:{_BEFORE}|{_ARABIC_PREFIX})"
    elif regex.match(r"\p{Hebrew}{3}", label):
        before = f"(?:{_BEFORE}|{_HEBREW_PREFIX})"
    if regex.search(r"\p{Hangul}{2}$", label):
        after = ""  # a Korean word carries its endings
    elif regex.search(r"\p{Hiragana}$", label):
        after = rf"(?:(?!\p{{Hiragana}})|(?={_JAPANESE_ENDING}))"  # no border shows where it ends
    return f"{before}{spelt}{after}"


def is_set_apart(label: str) -> bool:
    """Whether a label is a number or a single letter: these are only found where they stand out."""
    return bool(regex.fullmatch(rf"{_NUMBER}|{_LETTER}", label))


def loose_pattern_of(label: str) -> str:
    """Return the regular expression of a number or letter wherever it is a word of its own."""
    return rf"(?<![\w.,/$-]){regex.escape(label)}(?![\w%]|[.,-]\w)"


def plain_number(text: str) -> str:
    """Return a number without a plus sign and decimals that are zeros, any other text as it is."""
    match = regex.fullmatch(r"\+?(-?\d+)(?:\.0+|,00?)?|\+(\d.*)", text)
    return next(filter(None, match.groups())) if match else text


def _number(label: str) -> str:
    """A number that is no part of another, no end of a scale ("4 out of 5"), no price or percent.

    The other spellings of `plain_number` are the same number.
    """
    plain = plain_number(label)
    zeros = r"(?:\.0+|,00?)?" if plain.lstrip("-").isdecimal() else ""
    sign = "" if plain.startswith("-") else r"\+?"
    number = sign + regex.escape(plain) + zeros
    return (
        rf"(?:{_BEFORE}|(?<=\p{{Hangul}}))(?<![-+]|[€£¥]\s?|\d[.,:]|\w(?=\+))"
        rf"(?<!\d\s?{_OUT_OF}|(?:out|maximum)\sof\s)(?<!\d\s?{_TO}\s?)(?<!{_FULL}[是为はが]?\s?)"
        rf"(?:(?<!\$\s?){number}(?!\s?\$)|(?<=\$\s?){number}(?=\s?\$))"  # $5$ is mathematics
        rf"(?!\d|[.,:]\d|\s?{_TO}\s?\d|\s?{_SCALE_ENDS})"
        rf"(?!\s?(?:[%‰€£]|(?:percent|dollars?|euros?)\b)){_AFTER}"
    )


_TITLE, _MIDDLE = r"(?:Dr|Mr|Mrs|Ms|Prof|St)", r"(?<=\b\p{Lu}\.\s)\p{Lu}\.\s\p{Lu}"


def _letter(label: str) -> str:
    """A letter that is set apart as answers do it: "A dog" and "so do I" name neither A nor I."""
    own = f"(?-i:{regex.escape(label)})"
    letter = regex.escape(label)
    if regex.fullmatch(r"\p{Han}\p{M}*", label):  # most of a Chinese word's characters are words
        return (
            rf"(?:(?<!\p{{Han}})|(?<=[是为為选]))(?<!不选){own}{_ENDING}(?!\p{{Han}})"  # 答案是否。
        )
    mark = r"(?!\+\+|#|[.'&/-]\w)[^\w\s]"  # "I'm", "D.C.", "A-level" and "C++" are words
    apart = rf"{_ENDING}(?=\s*$|{mark})"  # b)
    apart_own = (
        rf"{_ENDING}(?=\s*$|{mark}|\s[-:=(\[|>→\p{{So}}]|[\p{{Han}}\p{{Hiragana}}])"  # B - rain
    )
    initial = r"(?!\p{Lu}\.\s\p{Lu}\.)"  # D. C.
    capital = label.isupper() and label != "I"  # in prose, I is the pronoun
    in_prose = f"{own}{_AFTER}" if capital else f"{own}{apart_own}"
    no_article = _NO_ARTICLE if label == "A" else ""
    before = rf"(?:\s-)?(?:\s{ADVERBS})?{ARTICLE}\s*{OPEN}*)(?<!\p{{Latin}})"
    ways = [
        rf"(?<=\A[\W_]*){initial}(?:{letter}{apart}|{own}{apart_own})",  # B: it rains
        rf"(?<=(?:(?<!\w)|\\\w+){OPEN}+){letter}(?={CLOSE})",  # the (b) one
        rf"(?<=>\s){letter}(?=\s</)",  # <answer> b </answer>
        rf"(?<=[:=>→][\s*_]*{OPEN}*)(?:{letter}{apart}|{own}{apart_own})",  # Answer: b.
        rf"(?<=(?:\b|(?<=')){CUE}{before}(?:{letter}{apart}|{in_prose})",  # Option B wins
        rf"(?<=(?:(?:\b|(?<=')){COPULA}|'s){before}(?:{letter}{apart}|{in_prose}{no_article})",
    ]
    if label != "I":
        ways.append(rf"(?<=\b{SAYING}{ARTICLE}\s){own}{apart}")  # So it is probably b
    if capital:
        ways += [
            rf"(?<=\A[\W_]*|\b{SAYING}\s){own}(?=\s(?:{COPULA}|{REASON})\b)",  # B is correct
            rf"(?<=\A[\W_]*|\b{SAYING}\s|[.,;:!?)]\s){own}(?=\s{RIGHT})",  # A is not. B is correct
            rf"(?<=[.,;:!?)]\s)(?<!\b{_TITLE}\.\s){initial}(?!{_MIDDLE}){own}{apart}",  # So, B.
        ]
    elif label.lower() == label.upper():  # คำตอบคือ ข
        ways.append(rf"{_BEFORE}{own}{_ENDING}(?=[^\w\s]*\s*$|[)\"'\]*]*[.!?。।](?!\w))")
    return "|".join(ways)


_NO_ARTICLE = (
    rf"(?!\s(?!(?:{COPULA}|{REASON}|and|but|not|with|then|over|from|on|in|which|that)\b)"
    r"(?-i:\p{Ll}))"
)
"""A is no article of what comes after it: "is A because", not "is A dog"."""
