"""Tokens guessed ahead: they change no text, and leave others their room."""

from __future__ import annotations

import pytest
from tiny_engine import ROWS, make_engine, texts

from models.engine.prompt_lookup import PromptLookup
from models.types import Sampling


@pytest.mark.parametrize("sampling", [Sampling(60), Sampling(60, 0.4, top_p=0.9, seed=7)])
def test_guessing_changes_no_token_and_saves_steps(family, sampling) -> None:
    plain, guessing = make_engine(family), make_engine(family, guesses=9)
    sequences = texts(plain, ROWS, sampling)
    assert texts(guessing, ROWS, sampling) == sequences
    steps = []
    guessing.lm.model.base_model.register_forward_hook(lambda module, args, out: steps.append(1))
    assert [texts(guessing, [row], sampling)[0] for row in ROWS] == sequences
    if sampling.temperature == 0:  # greedy texts of a random model go round in circles
        assert len(steps) < 3 * 60


def test_guesses_follow_what_was_said_and_are_few_where_they_were_wrong() -> None:
    guesses = PromptLookup([1, 2, 3, 4, 5, 6, 9, 1])
    guesses.append([2])  # 1 2, after which came 3 4 5 6 9
    assert guesses.guesses(9) == [3, 4]  # two to try, for nothing was right so far
    assert guesses.guesses(1) == [3]  # and where there is little room, fewer
    guesses.append([3])
    assert guesses.guesses(3) == [4, 5, 6]
    guesses.append([4, 5, 6, 9])
    assert guesses.guesses(7) == [1, 2, 3, 4, 5, 6, 9]
    assert guesses.guesses(1) == [1]
    guesses.append([7])  # which was never said
    assert guesses.guesses(7) == []
    guesses.append([1])  # after which came 2 3
    assert guesses.guesses(7) == [2, 3]


def test_more_tokens_are_looked_up_before_fewer() -> None:
    guesses = PromptLookup([1, 2, 3, 4, 9, 2, 3, 7, 5, 1, 2])
    guesses.append([3])  # after 1 2 3 came 4, and after 2 3 last came 7
    guesses.append([4])
    assert guesses.guesses(2) == [9, 2]


@pytest.mark.parametrize("cycle", [[5], [5, 6], [5, 6, 7]])
def test_what_goes_round_in_few_tokens_is_guessed_to_go_on_round(cycle) -> None:
    guesses = PromptLookup([1, *cycle, *cycle])
    guesses.append([cycle[0]])
    ahead = (cycle * 9)[1:8]
    assert guesses.guesses(6) == ahead[:2]
    guesses.append(ahead[:1])
    assert guesses.guesses(9) == (cycle * 9)[2:9]


def test_guesses_leave_the_rows_of_others_their_room() -> None:
    engine = make_engine("llama", guesses=4)
    fed = []
    engine.lm.model.get_input_embeddings().register_forward_hook(
        lambda module, args, out: fed.append(out.shape[0])
    )
    texts(engine, ROWS, Sampling(60))
    assert max(fed) == len(ROWS) + 4
