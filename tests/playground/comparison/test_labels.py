"""Which label an answer names, in many scripts and in the phrasings that answers have."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.comparison.labels import is_valid, label_of, normalised, states_label
from playground.comparison.words import words_of

COLOURS = ("red", "green", "dark green")
LETTERS = ("A", "B", "C", "D")
STARS = ("1", "2", "3", "4", "5")
ROMAN = ("I", "II", "III")
SIGNS = ("positive", "negative")
NLI = ("entailment", "neutral", "contradiction")
CHINESE, JAPANESE = ("正面", "负面"), ("ポジティブ", "ネガティブ")
KOREAN, THAI = ("긍정", "부정"), ("บวก", "ลบ")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("red", "red"),
        (" Green.\n", "green"),
        ("It is dark  green, not red.", "dark green"),
        ("reddish", None),
        ("infrared", None),
        ("Not green but red", "red"),
        ("", None),
    ],
)
def test_an_answers_label_is_the_first_that_it_names(answer, label) -> None:
    assert label_of(answer, COLOURS) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *((text, "A") for text in ("A", "(A)", "A: it broke", "a", "It is A")),
        *((text, "B") for text in (" B.", "B, because")),
        *((text, None) for text in ("A dog", "Bob", "")),
    ],
)
def test_a_letter_must_stand_by_itself(answer, label) -> None:
    assert label_of(answer, ("A", "B")) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("这是正面的评论。", CHINESE, "正面"),
        ("これはポジティブです", JAPANESE, "ポジティブ"),
        ("เป็นบวกครับ", THAI, "บวก"),
        ("긍정입니다", KOREAN, "긍정"),
        ("부정적인 리뷰입니다", KOREAN, "부정"),
        ("정답은 positive입니다", SIGNS, "positive"),
        ("これはいいえです", ("はい", "いいえ"), "いいえ"),
        ("これはいい映画です", ("はい", "いいえ"), None),
        ("التصنيف هو الإيجابي", ("إيجابي", "سلبي"), "إيجابي"),
        ("זה הסיווג החיובי", ("חיובי", "שלילי"), "חיובי"),
        ("לכן זה לא", ("כן", "לא"), "לא"),
        ("是的", ("是", "否"), "是"),
        ("答案是否。", ("是", "否"), "否"),
        ("答案：否", ("是", "否"), "否"),
        ("但是这很好", ("是", "否"), None),
    ],
)
def test_a_script_that_writes_words_together_has_labels_too(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("déçu", ("de\u0301c\u0327u", "content"), "de\u0301c\u0327u"),
        ("e\u0301tonne\u0301.", ("étonné", "déçu"), "étonné"),
        ("don’t know", ("don't know", "know"), "don't know"),
        ("don´t know", ("don't know", "know"), "don't know"),
        ("I don't know", ("don’t know", "know"), "don’t know"),
        ("ＰＯＳＩＴＩＶＥ", SIGNS, "positive"),
        ("pos\u00aditive\u200b", SIGNS, "positive"),
        ("_positive_", SIGNS, "positive"),
        ("STRASSE", ("straße", "weg"), "straße"),
        ("İSTANBUL", ("istanbul", "ankara"), "istanbul"),
        ("ISPARTA", ("ısparta", "ankara"), "ısparta"),
        ("n/a", ("N/A", "known"), "N/A"),
        ("non toxic", ("toxic", "non-toxic"), "non-toxic"),
        ("is-duplicate", ("duplicate", "is_duplicate"), "is_duplicate"),
        ("us", ("US", "us"), "us"),  # labels that differ in case alone keep it
        ("a_b", ("a b", "a_b"), "a_b"),
        ("C++", ("C", "C++", "C#"), "C++"),
        (":(", (":)", ":("), ":("),
        ("👍🏽", ("👍", "👎"), "👍"),
        ("x", ("\u200b", "x"), "x"),
    ],
)
def test_spellings_that_mean_the_same_are_equal(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("not entailment", ("entailment", "not entailment"), "not entailment"),
        ("not entailment", ("entailment", "not_entailment"), "not_entailment"),
        ("It is not an entailment.", ("entailment", "not_entailment"), "not_entailment"),
        ("not entailment", NLI, None),
        ("not_entailment", NLI, None),
        ("It is not an entailment, but neutral.", NLI, "neutral"),
        ("It isn’t entailment: contradiction", NLI, "contradiction"),
        ("neither positive nor negative", SIGNS, None),
        ("positive, not negative", SIGNS, "positive"),
        ("not only positive but great", SIGNS, "positive"),
        ("No, it is positive", SIGNS, "positive"),
        ("non-toxic", ("toxic", "safe"), None),
        ("It is not B.", LETTERS, None),
        ("n'est pas positif", ("positif", "négatif"), None),
        ("nicht positiv", ("positiv", "negativ"), None),
        ("не положительный", ("положительный", "отрицательный"), None),
        ("不正面", CHINESE, None),
        ("不是正面，是负面", CHINESE, "负面"),
        ("不是", ("是", "否"), None),
        ("ไม่ใช่บวก", THAI, None),
        ("ポジティブではありません", JAPANESE, None),
        ("긍정이 아닙니다", KOREAN, None),
        ("सकारात्मक नहीं", ("सकारात्मक", "नकारात्मक"), None),
        ("ليس إيجابي", ("إيجابي", "سلبي"), None),
    ],
)
def test_a_label_that_is_denied_is_not_named(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *((text, "B") for text in ("(B)", "B.", "B)", "**B**", "b)", "“B”", "B\n\nInput: x")),
        *(
            (f"{cue}B", "B")
            for cue in ("Answer: ", "The answer is ", "Label:\n", "答案：", "Option ")
        ),
        *((f"The answer is {text}", "B") for text in ("B.", "**B**", "(b)", "b.", "B because")),
        ("B is correct", "B"),
        ("I choose B, because it rains", "B"),
        ("It belongs to group B.", "B"),
        ("So it must be option B then", "B"),
        ("答案是B。", "B"),
        ("选B因为下雨", "B"),
        ("정답은 B입니다.", "B"),
        ("La réponse est B", "B"),
        ("So it is $\\boxed{B}$ for me", "B"),
        ("reason(s) and so on", None),
        ("A) Paris", "A"),
        ("Vitamin C is missing, so the answer is A", "A"),
        ("A dog barks", None),
        ("a dog", None),
        ("It is a dog, not a cat.", None),
        ("The answer is a dog", None),
        ('A "good" film', None),
        *((text, "B") for text in ("B because it rains", "La opción B es correcta", "Elijo B.")),
        *((text, "B") for text in ("Therefore, B.", "So B", "I'd go with B.", "It rains. B.")),
        *((text, "B") for text in ("I believe B is correct", "La respuesta es la B.")),
        *(
            (text, "B")
            for text in ("It's B.", "It’s B", "I chose B.", "This leaves B.", "We get B")
        ),
        *((text, "B") for text in ("I picked B", "La bonne réponse est donc B.", "答えはB")),
        *((text, None) for text in ("vitamin C", "Take vitamin C, then rest.", "Hepatitis B.")),
        *((text, None) for text in ("Washington, D.C.", "Objective-C.", "C++ is fast", "C#")),
        *((text, None) for text in ("A/B testing", "Michael B. Jordan", "Plan B!", "R&B")),
        ("A-level", None),
        ("a.m.", None),
        ("ABCD", None),
    ],
)
def test_letters_are_found_where_answers_set_them(answer, label) -> None:
    assert label_of(answer, LETTERS) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *((text, "I") for text in ("I", "I.", "(I)", "Answer: I", "The answer is I.")),
        ("II", "II"),
        *(
            (text, None)
            for text in ("I'm sure", "I think so", "So do I.", "i.e. this", "Yes, I am")
        ),
    ],
)
def test_a_pronoun_is_no_label(answer, label) -> None:
    assert label_of(answer, ROMAN) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("คำตอบคือ ข", ("ก", "ข"), "ข"),
        ("答えはイです", ("ア", "イ"), "イ"),
        ("उत्तर ख है।", ("क", "ख"), "ख"),
        ("Ответ: б", ("А", "Б"), "Б"),
        ("maybe b", ("a", "b"), "b"),
        ("a film that ends in b", ("a", "b"), "b"),
    ],
)
def test_letters_of_any_script_are_labels(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *((text, "5") for text in ("5 stars", "Rating: 5/5", "5.0", "별점 5점", "5つ星", "٥ نجوم")),
        *((text, "4") for text in ("4 out of 5", "4/5", "It is a 4.", "4 of the 5 stars")),
        ("On a scale of 1 to 5, I'd say 4.", "4"),
        ("Of 1–5: 3", "3"),
        ("Out of 5 stars, I would give 4", "4"),
        ("On a 5-point scale, 4", "4"),
        ("a 5-star review", "5"),
        ("Choose between 1 and 5: 3", "3"),
        ("5点満点中4点", "4"),
        ("5점 만점에 4점", "4"),
        ("满分5分，我给4分", "4"),
        ("Option 2", "2"),
        *((text, "5") for text in ("+5", "$5$", "$\\boxed{5}$", "It costs $3, but 5")),
        *((text, None) for text in ("4.5", "10", "-1", "1-5", "B2", "1,000")),
        *(
            (text, None)
            for text in ("$5", "5%", "5 %", "€5", "5 €", "5 percent", "5 dollars", "5$")
        ),
    ],
)
def test_a_number_is_the_rating_and_not_its_scale(answer, label) -> None:
    assert label_of(answer, STARS) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("1) It is dull. Rating: 5", STARS, "5"),
        ("1. Dull\n2. Long\n\nMy rating is **4**.", STARS, "4"),
        ("2 hours of 1 joke: the score would be 3", STARS, "3"),
        ("A) Paris B) Rome. The answer is B", LETTERS, "B"),
        ("B\n\nQuestion: Who?\nAnswer: C", LETTERS, "B"),
        ("1 star\n\nReview: good\nRating: 5", STARS, "1"),
        ("The answer is B. Answer: C", LETTERS, "B"),
    ],
)
def test_a_number_or_letter_that_is_stated_counts_before_others(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize("label", ["1", "+1", "1.0"])
@pytest.mark.parametrize("answer", ["1", "+1", "1.0", "+1.0", "It is 1.", "(1.0)"])
def test_a_number_is_one_label_however_it_is_written(answer, label) -> None:
    labels = (label, "0.0")
    assert label_of(answer, labels) == label
    assert label_of("0", labels) == "0.0"
    assert is_valid("+1.00", labels, ended=True)
    assert label_of("11", labels) is None


def test_numbers_that_are_written_differently_are_labels_of_their_own() -> None:
    assert [label_of(text, ("1", "+1")) for text in ("1", "+1")] == ["1", "+1"]
    assert [label_of(text, ("1", "1.0")) for text in ("1", "1.0")] == ["1", "1.0"]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("<think>Is it A? No.</think>\n\nB", "B"),
        ("Is it A? No.\n</think>\nThe answer is B", "B"),
        ("<Thinking>It is A.</thinking> (B)", "B"),
        ("[THINK]It is A.[/THINK]B", "B"),
        ("◁think▷It is A.◁/think▷B", "B"),
        ("B <thought>or A</thought>", None),
        ("<think>\nThe answer is A, since", None),
        ("<p>B</p>", "B"),
    ],
)
def test_thinking_is_no_answer(answer, label) -> None:
    assert label_of(answer, LETTERS) == label
    assert is_valid("<think>\nA?\n</think>\n\nB", LETTERS, ended=True)


@pytest.mark.parametrize("copula", ["It is", "It's", "It’s", "That’s", "It must be", "They're"])
def test_a_short_form_states_a_label_as_the_long_one_does(copula) -> None:
    assert states_label(f"{copula} positive.", SIGNS)
    assert not states_label(f"{copula} not positive.", SIGNS)
    assert not states_label(f"{copula} a positive film.", SIGNS)


def test_a_number_may_have_a_sign() -> None:
    assert [label_of(text, ("-1", "0", "1")) for text in ("-1", "−1", "1")] == ["-1", "-1", "1"]


SCRIPTS = {
    "Latin": (("très bon", "mauvais", "déçu"), "Je pense que le film est {} à mon avis."),
    "Cyrillic": (("хороший", "плохой", "ничей"), "Я думаю, это {} фильм."),
    "Greek": (("θετικό", "αρνητικό", "ουδέτερο"), "Νομίζω ότι είναι {} τελικά."),
    "Arabic": (("إيجابي", "سلبي", "محايد"), "أعتقد أن هذا {} جدا."),
    "Hebrew": (("חיובי", "שלילי", "ניטרלי"), "אני חושב שזה {} מאוד."),
    "Devanagari": (("सकारात्मक", "नकारात्मक", "तटस्थ"), "मुझे लगता है यह {} है।"),
    "Bengali": (("ইতিবাচক", "নেতিবাচক", "নিরপেক্ষ"), "আমার মনে হয় এটি {} মন্তব্য।"),
    "Thai": (("บวก", "ลบ", "เป็นกลาง"), "ฉันคิดว่ารีวิวนี้{}ครับ"),
    "Han": (("正面", "负面", "中立"), "我认为这条评论是{}的。"),
    "Kana": (("ポジティブ", "ネガティブ", "ふつう"), "このレビューは{}だと思います。"),
    "Hangul": (("긍정", "부정", "중립"), "제 생각에 이 리뷰는 {}입니다."),
    "Armenian": (("դրական", "բացասական", "չեզոք"), "Կարծում եմ սա {} է։"),
}
WRAPPERS = ("{}", " {}\n", "{}.", "{}。", "{}!", "“{}”", "'{}'", "«{}»", "「{}」", "**{}**", "_{}_")
FORMS = st.sampled_from(("NFC", "NFD"))


@given(st.sampled_from(sorted(SCRIPTS)), st.data())
def test_each_label_is_found_in_its_own_answer_in_any_script(script, data) -> None:
    labels, sentence = SCRIPTS[script]
    label = data.draw(st.sampled_from(labels))
    wrapped = data.draw(st.sampled_from(WRAPPERS)).format(label)
    answer = sentence.format(wrapped.strip()) if data.draw(st.booleans()) else wrapped
    form, label_form = data.draw(FORMS), data.draw(FORMS)
    spelt = {unicodedata.normalize(label_form, other): other for other in labels}
    found_label = label_of(unicodedata.normalize(form, answer), tuple(spelt))
    assert found_label is not None
    assert spelt[found_label] == label


LETTER_RANGES = {
    "Latin": "bcdéfghjklmñprstüvwxz", "Cyrillic": "бвгджзйклпрстфхцчш", "Greek": "βγδζθκλξπρστφχψώ",
    "Arabic": "بتثجحخدذرزسشصضطظعغفق", "Hebrew": "בגדזחטכמנסעפצקרשת",
    "Thai": "กขคงจชซญดตถทธนบปผฝพภมยรลวสหอ",
    "Devanagari": "कखगघचछजझटठडढतथदधपफबभमयरलवशसह", "Han": "山水火木金土大小上下左右东西南北",
    "Kana": "アカサタナハマヤラワガザダバパ", "Hangul": "가나다라마바사자차카타파하각난달",
}  # fmt: skip


@given(st.sampled_from(sorted(LETTER_RANGES)), st.data())
def test_words_of_any_letters_are_found_alone_and_are_valid(script, data) -> None:
    words = st.text(LETTER_RANGES[script], min_size=2, max_size=8)
    labels = data.draw(st.lists(words, min_size=2, max_size=6, unique_by=normalised))
    label = data.draw(st.sampled_from(labels))
    wrapped = data.draw(st.sampled_from(WRAPPERS)).format(label)
    answer = unicodedata.normalize(data.draw(FORMS), wrapped)
    assert label_of(answer, labels) == label
    assert states_label(answer, labels)


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=9), max_size=5, unique=True))
def test_any_answer_names_a_label_of_its_set_or_none(answer, labels) -> None:
    label = label_of(answer, labels)
    assert label is None or label in labels
    assert not is_valid(answer, labels, ended=False)


def test_a_valid_answer_is_a_label_alone_that_ended() -> None:
    assert is_valid(" Dark  green. ", COLOURS, ended=True)
    assert is_valid("正面。", CHINESE, ended=True)
    assert is_valid("(b)", LETTERS, ended=True)
    assert not is_valid("Dark green", COLOURS, ended=False)
    assert not is_valid("It is red", COLOURS, ended=True)
    assert not is_valid("", COLOURS, ended=True)


def test_texts_are_compared_without_case_and_marks() -> None:
    assert normalised(' "Small  Countries." ') == "small countries"
    assert normalised("Ça\u00a0n’est\u200b “rien”…") == normalised('c\u0327a n\'est "rien"')


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words_of("Don't panic: 今天 ok") == ["don", "t", "panic", "今", "天", "ok"]
    assert words_of("सकारात्मक है") == ["सकारात्मक", "है"]


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("对不起，我不知道", ["对", "错"], None),
        ("对于这个问题，错", ["对", "错"], "错"),
        ("答案是对的。", ["对", "错"], "对"),
        ("好像是差评", ["好", "差"], None),
        ("It is not so good", ["good", "bad"], None),
        ("It is not overly positive. Negative.", ["positive", "negative"], "negative"),
        ("A is not correct. The answer is B.", ["A", "B"], "B"),
        ("A is incorrect; the answer is B", ["A", "B"], "B"),
        ("Positive is not right, negative", ["positive", "negative"], "negative"),
    ],
)
def test_a_label_inside_a_word_or_denied_is_not_named(answer, labels, label) -> None:
    assert label_of(answer, labels) == label
