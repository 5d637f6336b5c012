r"""Regular expressions of where labels stand in an answer: words, numbers and single letters.

They are written for the `regex` library, whose WORD flag puts `\b` at the word borders of Unicode
(UAX #29), and expect a text as `labels` prepares it: apostrophes and dashes are ASCII.
"""

from __future__ import annotations

import regex

_NUMBER, _LETTER = r"[-+]?\d+(?:[.,]\d+)?", r"\p{L}\p{M}*"
_BEFORE = r"(?:\b|(?<!\w))"
_AFTER = r"(?:\b|(?!\w)|(?=\p{Hangul}))"  # Korean writes its endings onto a foreign word
_ARABIC_PREFIX = r"(?<=\b[وف]?[بك]?ال)"
_HEBREW_PREFIX = r"(?<=\b[והבלמש]{1,2})"
_JAPANESE_ENDING = r"(?:です|でし|だ|で|と|の|が|は|を|も|に)"
_ENDING = r"(?:[的了啊呀吧呢]|です|でした|だ|である|입니다|이다|임|이에요|예요|요|번|ครับ|ค่ะ|\s?हैं?)?"
"""What a single letter may carry and still stand by itself."""
_COPULA = r"(?:is|was|be|are|est|ist|es|é|è|är|er|jest|это|是|为|為)"
_CUE = r"(?:answer|label|option|choice|letter|class|category|choose|pick|select|选择?|選択肢?)"
_OPEN, _CLOSE = r"[(\[{<\"“„«'*`「『]", r"[)\]}>\"”“»'*`」』]"
_OUT_OF = r"(?:/|out\s+of|of|von|sur|su|de|из|中)\s*(?:the\s+)?"
_TO = r"(?:-|to|and|bis|à|до|~|至|到|から)"


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


def _number(label: str) -> str:
    """A number that is no part of another, and no end of a scale: in "4 out of 5" it is 4."""
    whole = r"(?:\.0+)?" if label.lstrip("+-").isdecimal() else ""
    return (
        rf"(?:{_BEFORE}|(?<=\p{{Hangul}}))(?<![-+]|\d[.,:])"
        rf"(?<!\d\s*{_OUT_OF}|out\s+of\s+)(?<!\d\s*{_TO}\s*)(?<!满分\s*)"
        rf"{regex.escape(label)}{whole}"
        rf"(?!\d|[.,:]\d|\s*{_TO}\s*\d|\s*[点점]?\s*[満만][点점]|[\s-]+\w+\s+scale\b){_AFTER}"
    )


def _letter(label: str) -> str:
    """A letter that is set apart as answers do it: "A dog" and "so do I" name neither A nor I."""
    own = f"(?-i:{regex.escape(label)})"
    letter = regex.escape(label)
    if regex.fullmatch(r"\p{Han}\p{M}*", label):  # most of a Chinese word's characters are words
        return rf"(?:(?<!\p{{Han}})|(?<=[是为為])){own}{_ENDING}(?!\p{{Han}})"
    apart = rf"{_ENDING}(?=\s*$|(?![.'-]\w)[^\w\s])"  # "I'm", "i.e." and "A-level" are words
    apart_own = rf"{_ENDING}(?=\s*$|(?![.'-]\w)[^\w\s]|\s+[-:=(\[|>→]|[\p{{Han}}\p{{Hiragana}}])"
    capital = label.isupper() and label != "I"  # in prose, I is the pronoun
    in_prose = f"{own}{_AFTER}" if capital else f"{own}{apart_own}"
    ways = [
        rf"(?<=\A[\W_]*)(?:{letter}{apart}|{own}{apart_own})",
        rf"(?<=(?:(?<!\w)|\\boxed){_OPEN}+){letter}(?={_CLOSE})",
        rf"(?<=[:=>→]\s*{_OPEN}*)(?:{letter}{apart}|{own}{apart_own})",
        rf"(?<=\b(?:{_CUE}|{_COPULA})\s*{_OPEN}*)(?<!\p{{Latin}})(?:{letter}{apart}|{in_prose})",
    ]
    if capital:
        ways += [
            rf"(?<=\A[\W_]*){own}(?=\s+{_COPULA}\b)",
            rf"(?<!\p{{L}}\p{{M}}*|\w'){own}{_ENDING}(?=[^\w\s]*\s*$|[)\"'\]*]*[.,;:!?。](?!\w))",
        ]
    elif label != "I":
        ways.append(rf"{_BEFORE}{own}{_ENDING}(?=[^\w\s]*\s*$|[)\"'\]*]*[.!?。।](?!\w))")
    return "|".join(ways)


_FILLERS = (
    r"a|an|the|be|been|is|as|at\s+all|quite|really|very|exactly|necessarily|seem|appear|look|sound"
    r"|so|that|such|overly|particularly|especially|too|all|clear|clearly|entirely|fully"
    r"|ein|eine|es|un|une|una|é|uma"
)
_NOT = (
    r"not|\w*n't|cannot|no|non|never|neither|nor|nicht|keine?|weder|pas|ni|não|nem|niet|geen|nie"
    r"|inte|ikke|не|ні|ни|δεν|όχι|μη|ليس|ليست|غير|ولا|לא|אינו|אינה|không|bukan|tidak"
)
_NEGATED_BEFORE = regex.compile(
    rf"(?:\b(?:{_NOT})[\s-]+(?:(?:{_FILLERS})\s+){{0,2}}"
    rf"|[不非未](?:是|太|算|够|属于)?|没有|沒有|ไม่(?:ใช่)?\s*){_OPEN}*\Z",
    regex.IGNORECASE | regex.WORD,
)
_NEGATED_AFTER = regex.compile(
    rf"{_CLOSE}*(?:では?(?:な|あり?ませ)|じゃ(?:な|ありませ)|[이가은]?\s*(?:아니|아닌|아닙)|적이지\s*않"
    rf"|\s+(?:नहीं|değil)|\s+(?:is|was)(?:\s+not\b|n't)\s+(?:the\s+)?(?:right|correct|true|answer)"
    rf"|\s+(?:is|was)\s+(?:wrong|incorrect|false)\b)",
    regex.WORD | regex.IGNORECASE,
)


def is_negated(text: str, start: int, end: int) -> bool:
    """Whether a negation governs the label at these places: "not entailment" does not name it."""
    return bool(
        _NEGATED_BEFORE.search(text, max(0, start - 40), start) or _NEGATED_AFTER.match(text, end)
    )
