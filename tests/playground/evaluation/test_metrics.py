"""Scores and intervals, against figures that are known."""

from __future__ import annotations

import pytest

from playground.evaluation.metrics import (
    holm,
    mcnemar,
    paired_difference,
    rouge_l,
    wilson,
)


def test_rouge_l_is_the_share_of_words_in_common_order() -> None:
    assert rouge_l("police kill the gunman", "police killed the gunman") == 0.75
    assert rouge_l("the gunman kill police", "police killed the gunman") == 0.5
    assert rouge_l("Same words.", "same words") == 1.0
    assert rouge_l("今天天气很好", "今天天气好") == pytest.approx(
        10 / 11
    )  # no spaces between words
    assert rouge_l("", "same words") == rouge_l("other", "same") == 0.0


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = wilson(81, 263)  # Newcombe 1998, Statistics in Medicine 17, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20)[0] == pytest.approx(0, abs=1e-12)


def test_a_difference_is_zero_for_equals_and_sure_where_all_items_differ() -> None:
    scores = [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]] * 10
    assert paired_difference(scores, scores, draws=200) == (0.0, 0.0, 0.0)
    assert paired_difference([[1.0]] * 20, [[0.0]] * 20, draws=200) == (1.0, 1.0, 1.0)


def test_a_difference_has_the_interval_of_its_standard_error() -> None:
    ours, theirs = [[1.0]] * 60 + [[0.0]] * 40, [[0.0]] * 100
    mean, low, high = paired_difference(ours, theirs)
    assert mean == 0.6
    assert low == pytest.approx(0.6 - 1.96 * 0.049, abs=0.015)
    assert high == pytest.approx(0.6 + 1.96 * 0.049, abs=0.015)
    assert (mean, low, high) == paired_difference(ours, theirs)


def test_wordings_widen_the_interval() -> None:
    split = [[1.0, 0.0]] * 50  # one wording works, the other does not
    _, low, high = paired_difference(split, [[0.0, 0.0]] * 50)
    assert (low, high) == (0.0, 1.0)


def test_mcnemar_is_the_sign_test_of_the_items_that_part_them() -> None:
    ours = [True] * 9 + [False] + [True] * 30
    theirs = [False] * 9 + [True] + [True] * 30
    assert mcnemar(ours, theirs) == pytest.approx(2 * 11 / 1024)
    assert mcnemar(ours, ours) == 1.0


def test_holm_raises_each_and_keeps_their_order() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx(
        {"a": 0.06, "b": 0.03, "c": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_many_items_overflow_nothing() -> None:
    ours, theirs = [True] * 700 + [False] * 700, [False] * 700 + [True] * 700
    assert mcnemar(ours, theirs) == pytest.approx(1.0, abs=0.03)
    assert mcnemar([True] * 3000, [False] * 3000) == 0.0


def test_wordings_count_where_each_item_is_asked_in_one_of_them() -> None:
    ours = [[float(n % 2)] for n in range(100)]  # one of two wordings works
    wordings = [[n % 2] for n in range(100)]
    _, low, high = paired_difference(ours, [[0.0]] * 100, wordings)
    assert (low, high) == (0.0, 1.0)
    _, low, high = paired_difference(ours, [[0.0]] * 100)
    assert 0.35 < low < 0.45
    assert 0.55 < high < 0.65
