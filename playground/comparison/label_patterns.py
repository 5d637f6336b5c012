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
_COPULA = r"(?:is|was|be|are|est|ist|es|é|è|är|er|jest|это|是|为|為|lautet)"
_ANSWER = (
    r"(?:answer|label|rating|score|grade|respuesta|réponse|antwort|resposta|risposta|odpowiedź"
    r"|ответ|答案|答えは?|正解は?|评分|評価|정답[은는]?|평점|별점)"
)
"""Names of the answer: a number or letter beside one counts before any that stands elsewhere."""
_CUE = (
    rf"(?:{_ANSWER}|option|choice|letter|class|category|group|statement|response|choose|chosen?"
    r"|pick(?:ed)?|select(?:ed)?|opción|opção|opzione|lettre|buchstabe|вариант|选择?|選択肢?)"
)
_SAYING = (
    r"(?:say|think|guess|believe|prefer|vote|with|for|get|gives?|means?|leav(?:es?|ing)|have|ends?\s+in"
    r"|so|hence|thus|therefore|then|maybe|perhaps|probably|definitely|certainly|clearly|elijo|escojo"
    r"|escolho|choisis|dirais|donc|scelgo|quindi|nehme|wähle|würde|also|выбираю)"
)
"""Words before a single letter at a clause's end that make it an answer; "vitamin C" has none."""
_ARTICLE = r"(?:\s+(?:la|le|el|die)\b)?"
_REASON = r"(?:because|since|as|weil|da|parce|car|porque|perché|потому|因为)"
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


def plain_number(text: str) -> str:
    """Return a number without a plus sign and decimals that are zeros, any other text as it is."""
    match = regex.fullmatch(r"\+?(-?\d+)(?:\.0+)?|\+(\d.*)", text)
    return next(filter(None, match.groups())) if match else text


def _number(label: str) -> str:
    """A number that is no part of another, no end of a scale ("4 out of 5"), no price or percent.

    The other spellings of `plain_number` are the same number.
    """
    plain = plain_number(label)
    zeros = r"(?:\.0+)?" if plain.lstrip("-").isdecimal() else ""
    sign = "" if plain.startswith("-") else r"\+?"
    number = sign + regex.escape(plain) + zeros
    return (
        rf"(?:{_BEFORE}|(?<=\p{{Hangul}}))(?<![-+]|[€£¥]\s?|\d[.,:]|\w(?=\+))"
        rf"(?<!\d\s*{_OUT_OF}|out\s+of\s+)(?<!\d\s*{_TO}\s*)(?<!满分\s*)"
        rf"(?:(?<!\$\s?){number}(?!\s?\$)|(?<=\$\s?){number}(?=\s?\$))"  # $5$ is mathematics
        rf"(?!\d|[.,:]\d|\s*{_TO}\s*\d|\s*[点점]?\s*[満만][点점]|[\s-]+\w+\s+scale\b)"
        rf"(?!\s*(?:[%‰€£]|(?:percent|dollars?|euros?)\b)){_AFTER}"
    )


def _letter(label: str) -> str:
    """A letter that is set apart as answers do it: "A dog" and "so do I" name neither A nor I."""
    own = f"(?-i:{regex.escape(label)})"
    letter = regex.escape(label)
    if regex.fullmatch(r"\p{Han}\p{M}*", label):  # most of a Chinese word's characters are words
        return rf"(?:(?<!\p{{Han}})|(?<=[是为為])){own}{_ENDING}(?!\p{{Han}})"  # 答案是否。
    mark = r"(?!\+\+|#|[.'&/-]\w)[^\w\s]"  # "I'm", "D.C.", "A-level" and "C++" are words
    apart = rf"{_ENDING}(?=\s*$|{mark})"  # b)
    apart_own = rf"{_ENDING}(?=\s*$|{mark}|\s+[-:=(\[|>→]|[\p{{Han}}\p{{Hiragana}}])"  # B - rain
    capital = label.isupper() and label != "I"  # in prose, I is the pronoun
    in_prose = f"{own}{_AFTER}" if capital else f"{own}{apart_own}"
    ways = [
        rf"(?<=\A[\W_]*)(?:{letter}{apart}|{own}{apart_own})",  # B: it rains
        rf"(?<=(?:(?<!\w)|\\boxed){_OPEN}+){letter}(?={_CLOSE})",  # the (b) one
        rf"(?<=[:=>→]\s*{_OPEN}*)(?:{letter}{apart}|{own}{apart_own})",  # Answer: b.
        rf"(?<=(?:\b(?:{_CUE}|{_COPULA})|'s){_ARTICLE}\s*{_OPEN}*)(?<!\p{{Latin}})"
        rf"(?:{letter}{apart}|{in_prose})",  # The answer is b. | The answer is B because it rains
    ]
    if label != "I":
        ways.append(rf"(?<=\b{_SAYING}{_ARTICLE}\s+){own}{apart}")  # So it is probably b
    if capital:
        ways += [
            rf"(?<=\A[\W_]*|\b{_SAYING}\s+){own}(?=\s+(?:{_COPULA}|{_REASON})\b)",  # B is correct
            rf"(?<=[.,;:!?)]\s+){own}{apart}",  # It rains, B.
        ]
    elif label.lower() == label.upper():  # คำตอบคือ ข
        ways.append(rf"{_BEFORE}{own}{_ENDING}(?=[^\w\s]*\s*$|[)\"'\]*]*[.!?。।](?!\w))")
    return "|".join(ways)


_STATED = regex.compile(
    rf"\b{_ANSWER}\W{{0,4}}(?:(?:(?:would|must|should|can\s+only)\s+)?{_COPULA}\W{{0,4}})?\Z",
    regex.IGNORECASE | regex.WORD,
)
_REST_OF_LINE = regex.compile(r"(?:\s+\p{L}+)?[\W_]*$", regex.MULTILINE)


def is_stated(text: str, start: int, end: int) -> bool:
    """Whether a number or letter stands beside a name of the answer, or is the first line.

    In "1) It is dull. Rating: 5" that is 5, and in "B", after which other questions follow, B.
    """
    is_first = not regex.search(r"[^\W_]", text, endpos=start)
    return bool(
        (is_first and _REST_OF_LINE.match(text, end))
        or _STATED.search(text, max(0, start - 40), start)
    )


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
