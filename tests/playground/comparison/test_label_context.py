"""Which of several labels an answer means: stated, joined as a choice, denied, or asked about."""

from __future__ import annotations

import time

import pytest

from playground.comparison.labels import is_valid, label_of, normalised, states_label

SIGNS = ("positive", "negative")
THREE = (*SIGNS, "neutral")
NLI = ("entailment", "neutral", "contradiction")
ANSWERS, TRUTH = ("yes", "no"), ("true", "false")
LETTERS = ("A", "B", "C", "D")
STARS = ("1", "2", "3", "4", "5")
CHINESE = ("正面", "负面")
DESKS = ("IT", "HR", "Finance")


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        (
            "The review has positive sides, but the overall sentiment is negative.",
            SIGNS,
            "negative",
        ),
        ("Although there are positive words, the answer is negative.", SIGNS, "negative"),
        ("Label options: positive, negative\nLabel: negative", SIGNS, "negative"),
        ("The sentiment of this positive start is clearly negative", SIGNS, "negative"),
        ("Good question! The answer is bad.", ("good", "bad"), "bad"),
        ("Options: entailment, neutral, contradiction. Answer: contradiction", NLI, NLI[2]),
        ("A positive start, yet → negative", SIGNS, "negative"),
        ("positive words => negative.", SIGNS, "negative"),
        ("The options are positive and negative. I choose negative.", SIGNS, "negative"),
        ("positive\n\nReview: dull\nSentiment: negative", SIGNS, "positive"),
        ("Review: good\nSentiment: bad", ("good", "bad"), "bad"),
        ("The review mentions positive aspects: many", SIGNS, "positive"),
        ("It is a dull, negative film.\n\nReview: great\nSentiment: positive", SIGNS, "negative"),
        ("B because it rains\n\nQuestion: who?\nAnswer: C", LETTERS, "B"),
        ("4, since it is fun\n\nReview 2: dull\nRating: 1", STARS, "4"),
        ("**Answer:** B", LETTERS, "B"),
        ("The tweet is positive about a negative film", SIGNS, "positive"),
    ],
)
def test_a_label_that_is_stated_counts_before_others(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("Is it positive or negative? It is negative.", SIGNS, "negative"),
        ("Is this review positive or negative?\nnegative", SIGNS, "negative"),
        ("positive or negative: negative", SIGNS, "negative"),
        ("Sentiment (positive or negative): negative", SIGNS, "negative"),
        ("Positive/negative? Negative.", SIGNS, "negative"),
        ("Yes or no? No", ANSWERS, "no"),
        ("Answer (yes/no): no", ANSWERS, "no"),
        ("True/False: False", TRUTH, "false"),
        ("An entailment, a contradiction or neutral? Neutral.", NLI, "neutral"),
        ('"positive", "negative", or "neutral": neutral', THREE, "neutral"),
        ("positif ou négatif ? négatif", ("positif", "négatif"), "négatif"),
        ("正面还是负面？负面", CHINESE, "负面"),
        ("긍정 또는 부정: 부정", ("긍정", "부정"), "부정"),
        ("да или нет? нет", ("да", "нет"), "нет"),
        ("A or B? B", LETTERS, "B"),
        ("It's either A or B. B", LETTERS, "B"),
        ("0 or 1? 1", ("0", "1"), "1"),
        ("positive or negative", SIGNS, None),
        ("positive/negative", SIGNS, None),
        ("not positive or negative, neutral", THREE, "neutral"),
        ("There's no positive or negative sentiment: neutral", THREE, "neutral"),
        ("4/5", STARS, "4"),
        ("Answer with one of: positive, negative.\nnegative", SIGNS, "negative"),
        ("Answer with one of: A, B, C, D. B", LETTERS, "B"),
        ("Answer with one of: entailment, neutral, contradiction.\n\nneutral", NLI, "neutral"),
        ("Answer with one of: 1, 2, 3, 4, 5.\n3", STARS, "3"),
        ("Labels: positive, negative\nnegative", SIGNS, "negative"),
        ("Answer: yes, no doubt", ANSWERS, "yes"),
        ("no, yes", ANSWERS, "no"),
        ("Positive, or rather glowing", SIGNS, "positive"),
        ("Sci/Tech", ("Sci/Tech", "Sports"), "Sci/Tech"),
    ],
)
def test_labels_joined_as_a_choice_are_no_answer(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("It is HR", DESKS, "HR"),
        ("It's Finance", DESKS, "Finance"),
        ("It should be routed to Finance", DESKS, "Finance"),
        ("It is a matter of invoices", DESKS, None),
        *((text, DESKS, "IT") for text in ("it", "IT is right", "Answer: it", "The class is IT")),
        ("It tells us that: UK", ("US", "UK"), "UK"),
        ("Either this or that, TX", ("OR", "TX"), "TX"),
        *((text, ("YES", "NO"), "NO") for text in ("No, it is not", "No it is not", "I'd say no.")),
        ("There is no doubt: yes", ANSWERS, "yes"),
        ("It gives no information, so the answer is yes", ANSWERS, "yes"),
        ("With no rain, yes", ANSWERS, "yes"),
        ("No. 1 reason: yes", ANSWERS, "yes"),
        ("No way", ANSWERS, "no"),
        ("The language is en", ("en", "is", "fr"), "en"),
        ("It is fr", ("it", "is", "fr"), "fr"),
        ("Turn it on", ("on", "off"), "on"),
        ("Positive? No. Negative.", SIGNS, "negative"),
        ("negative?", SIGNS, "negative"),
    ],
)
def test_words_of_grammar_and_questions_count_last(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("No\n\nNegative", SIGNS, "negative"),
        ("No - negative", SIGNS, "negative"),
        ("No—positive", SIGNS, "positive"),
        ("Is it good? No\nnegative", SIGNS, "negative"),
        ("non-positive", SIGNS, None),
        ("Nie jest pozytywny, lecz negatywny", ("pozytywny", "negatywny"), "negatywny"),
        ("Δεν είναι θετικό, είναι αρνητικό", ("θετικό", "αρνητικό"), "αρνητικό"),
        ("non è positivo, è negativo", ("positivo", "negativo"), "negativo"),
        ("pas du tout positif : négatif", ("positif", "négatif"), "négatif"),
        ("keineswegs positiv, sondern negativ", ("positiv", "negativ"), "negativ"),
        ("Rather than positive, negative.", SIGNS, "negative"),
        ("negative instead of positive", SIGNS, "negative"),
        ("This is far from positive. Negative.", SIGNS, "negative"),
        ("It isn't really very positive.", SIGNS, None),
        ("I don't think it is negative, it's positive", SIGNS, "positive"),
        ("Not only positive but glowing", SIGNS, "positive"),
        ("No, it is positive", SIGNS, "positive"),
        ("Not A, but B.", LETTERS, "B"),
        ("A is wrong; B is right", LETTERS, "B"),
    ],
)
def test_a_negation_governs_what_follows_it_in_its_line(answer, labels, label) -> None:
    assert label_of(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *((text, None) for text in ("3½", "3 ½ stars", "3 1/2", "2 3/4 stars", "½", "1,000")),
        *(
            (text, "3")
            for text in ("maximum of 5, 3", "5점 중 3점", "5分制给3分", "满分是5分，3分")
        ),
        *((text, "4") for text in ("5段階評価で4", "満点は5点で、4点", "Out of a maximum of 5: 4")),
        ("1. fun\n2. smart\nSo 5 stars.", "5"),
        ("After 2 hours I give it 1 star", "1"),
        ("I saw 2 films, this one is 4/5", "4"),
        ("The 3 leads earn 4 out of 5", "4"),
        ("主演2人，给4星", "4"),
        *((text, "4") for text in ("4️⃣", "№4", "4,0", "4.0", "It has 2 flaws. I'd rate it 4")),
    ],
)
def test_a_number_with_its_unit_counts_before_other_numbers(answer, label) -> None:
    assert label_of(answer, STARS) == label


def test_fractions_are_one_number_however_they_are_written() -> None:
    labels = ("3", "3.5", "4")
    assert [label_of(text, labels) for text in ("3½", "3 1/2", "3.5", "3½ stars")] == ["3.5"] * 4


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *((text, "B") for text in ("C'est B", "L'option B", "<answer> B </answer>", "A: B")),
        *((text, "B") for text in ("\\boxed{\\text{B}}", "Q: Which city? A: B", "A:\nB")),
        ("A) Paris\nB) Rome\nCorrect: B", "B"),
        ("Option A: no. Option C: no. I pick B", "B"),
        *((f"The answer is {text}B", "B") for text in ("actually ", "most likely ", "clearly (")),
        *((f"B {text} correct", "B") for text in ("would be", "seems", "must be")),
        *((text, "B") for text in ("Đáp án đúng là B", "Jawaban yang benar adalah B")),
        *((text, "B") for text in ("คำตอบคือ B", "الإجابة هي B", "התשובה היא B", "پاسخ B است")),
        *((text, "B") for text in ("Správná odpověď je B", "Răspunsul este B", "답은 B이다")),
        *(
            (text, "B")
            for text in ("Η απάντηση είναι B", "Letra B", "A resposta é a alternativa B")
        ),
        ("The answer is A because it rains", "A"),
        *((text, "A") for text in ("A: it rains", "Option A wins", "The answer is A Paris")),
        *(
            (text, None)
            for text in ("The answer is A dog", "Dr. B. Smith", "Mr. C", "J. D. Salinger")
        ),
    ],
)
def test_letters_stand_in_phrases_of_answers(answer, label) -> None:
    assert label_of(answer, LETTERS) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("[Reasoning] It is dull.\nnegative", "negative"),
        ("[Thinking]: dull.\nnegative", "negative"),
        ("<reasoning> It is dull. negative", "negative"),
        *(
            (f"<{tag}>positive?</{tag}>negative", "negative")
            for tag in ("thinking", "thought", "analysis", "scratchpad", "reflection", "seed:think")
        ),
        ("<|begin_of_thought|>positive?<|end_of_thought|>\nnegative", "negative"),
        *(
            (f"{tag}positive, since", None)
            for tag in ("<think>", "<thought>", "◁think▷", "[THINK]")
        ),
    ],
)
def test_only_tags_of_thinking_hide_what_stands_in_them(answer, label) -> None:
    assert label_of(answer, SIGNS) == label


def test_kinds_of_dashes_and_of_numbers_are_equal_texts() -> None:
    assert normalised("1914—1918") == normalised("1914–1918") == "1914-1918"
    assert normalised("1,0") == normalised("1.0") == "1"
    assert normalised("1,000") == "1,000"
    assert normalised("3½") == normalised("3 1/2") == "3.5"


def test_a_backtick_inside_a_word_is_an_apostrophe() -> None:
    assert label_of("I don`t know", ("don't know", "know")) == "don't know"
    assert label_of("`know`", ("don't know", "know")) == "know"


def test_an_answer_that_weighs_its_labels_is_not_a_label_alone() -> None:
    assert not is_valid("positive or negative: negative", SIGNS, ended=True)
    assert states_label("Sentiment (positive or negative): negative", SIGNS)
    assert not states_label("positive or negative", SIGNS)


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("5" + " " * 8000 + "5", tuple(map(str, range(100)))),
        ("positive " * 8000, SIGNS),
        ("positive or " * 8000, SIGNS),
        ("5 " * 4000, STARS),
        ("B. " * 4000, LETTERS),
        ("-" * 20_000 + "B", LETTERS),
        ("no " * 8000, ANSWERS),
    ],
)
def test_long_answers_are_read_in_less_than_a_second(answer, labels) -> None:
    before = time.perf_counter()
    label_of(answer, labels)
    assert time.perf_counter() - before < 1
