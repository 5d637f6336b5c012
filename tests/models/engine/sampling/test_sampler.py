"""Logits to the next token: closed forms, and the distribution of many draws."""

from __future__ import annotations

import pytest
import torch
from transformers import MinPLogitsWarper, TopPLogitsWarper

from models.engine.sampling.inverse_cdf import MAX_REJECTIONS, NARROW, rejection_sample
from models.engine.sampling.penalties import SeenTokens
from models.engine.sampling.sampler import sample_tokens, truncated_probabilities
from models.types import Sampling


def draw(probabilities, uniforms, **settings) -> list[int]:
    logits = torch.tensor(probabilities).log().expand(len(uniforms), -1)
    sampling = Sampling(temperature=settings.pop("temperature", 1.0), **settings)
    return sample_tokens(logits, uniforms, [sampling] * len(uniforms))[0].tolist()


def test_greedy_takes_the_likeliest_and_tells_its_log_probability() -> None:
    logits = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]).log()
    ids, logprobs = sample_tokens(logits, [0.0, 0.0], [Sampling()] * 2)
    assert ids.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, torch.tensor([0.6, 0.5]).log())


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    assert draw([0.5, 0.3, 0.2], [0.0, 0.49, 0.51, 0.79, 0.81, 0.999]) == [0, 0, 1, 1, 2, 2]


def test_top_k_keeps_the_k_likeliest() -> None:
    assert draw([0.2, 0.3, 0.5], [0.0, 0.6, 0.63, 0.999], top_k=2) == [2, 2, 1, 1]


def test_the_nucleus_holds_the_token_that_crosses_its_border() -> None:
    # 0.5 is not yet 0.6, so the second token belongs; 0.8 is, so the third does not.
    assert draw([0.5, 0.3, 0.2], [0.0, 0.62, 0.63, 0.999], top_p=0.6) == [0, 0, 1, 1]


def test_temperature_sharpens_before_the_nucleus_is_cut() -> None:
    # At 0.5 the masses 0.6, 0.4 become 0.36 : 0.16, that is 0.69 : 0.31.
    assert draw([0.6, 0.4], [0.69, 0.70], temperature=0.5) == [0, 1]


def test_the_log_probability_is_the_models_whatever_the_sampler_does() -> None:
    logits = torch.tensor([[0.6, 0.4]]).log()
    _, logprobs = sample_tokens(logits, [0.0], [Sampling(temperature=3.0, top_k=1)])
    torch.testing.assert_close(logprobs, torch.tensor([0.6]).log())


def test_a_wide_nucleus_is_not_narrowed() -> None:
    # 10,000 equal tokens: a nucleus of 0.9 holds 9,000 of them, more than are sorted first.
    logits = torch.zeros(1, 10_000)
    ids, _ = sample_tokens(logits, [0.9999], [Sampling(temperature=1.0, top_p=0.9)])
    assert ids.item() in range(8_990, 9_001)  # the lowest of equals come first


@pytest.mark.parametrize("uniform", [0.0, 0.02, 0.03, 0.3, 0.39, 0.41, 0.999])
def test_a_draw_beyond_what_is_sorted_first_is_made_among_all(uniform) -> None:
    # 10,000 tokens, each a little less likely than the one before it; 256 of them are sorted
    # first, then 4,096, then all.
    logits = -torch.arange(10_000.0)[None] / 10_000
    mass = logits[0].double().softmax(-1)
    ids, _ = sample_tokens(logits, [uniform], [Sampling(temperature=1.0)])
    assert ids.item() == int((mass.cumsum(-1) <= uniform).sum())
    wide, _ = sample_tokens(logits, [uniform], [Sampling(temperature=1.0, top_k=9_000)])
    kept = mass[:9_000] / mass[:9_000].sum()
    assert wide.item() == int((kept.cumsum(-1) <= uniform).sum())


def test_of_equals_the_lowest_comes_first() -> None:
    ids, _ = sample_tokens(torch.zeros(1, 200), [0.31], [Sampling(temperature=1.0, top_p=0.5)])
    assert ids.item() == 31


@pytest.mark.parametrize("vocabulary", [65_536, 9_999])
def test_a_draw_from_all_goes_through_the_tokens_in_the_order_of_their_ids(vocabulary) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(1, vocabulary)
    reach = (logits[0].double() / 0.7).softmax(-1).cumsum(-1)
    edges = [0.0, *reach[torch.randint(vocabulary, (40,))].tolist()]
    for uniform in (edge + off for edge in edges for off in (1e-6, 0.011, 0.21)):
        if uniform < 1:
            ids, _ = sample_tokens(logits, [uniform], [Sampling(temperature=0.7)])
            above = float(reach[ids.item()])
            below = float(reach[ids.item() - 1]) if ids.item() else 0.0
            assert below - 1e-6 <= uniform <= above + 1e-6


def test_a_draw_below_bounds_is_the_one_that_all_logits_would_give() -> None:
    torch.manual_seed(0)
    logits, candidates = 2 * torch.randn(24), []
    most = logits + 2 * torch.rand(24)

    def logit(id: int) -> float:
        candidates.append(id)
        return float(logits[id])

    count = 20_000
    draws = torch.tensor(
        [
            rejection_sample(most[None], logit, lambda: logits[None], n / count, 1.5)
            for n in range(count)
        ]
    )
    frequencies, true = draws.bincount(minlength=24) / count, (logits / 1.5).softmax(-1)
    assert ((frequencies - true).abs() < 4.5 * (true * (1 - true) / count).sqrt() + 1e-4).all()
    assert len(candidates) > 1.5 * count  # many were refused
    again = [
        rejection_sample(most[None], logit, lambda: logits[None], n / count, 1.5)
        for n in range(100)
    ]
    assert again == draws[:100].tolist()


def test_a_draw_below_bounds_that_say_little_asks_for_all_logits() -> None:
    torch.manual_seed(0)
    logits, candidates, count = torch.randn(500), [], 4_000
    most = logits + torch.linspace(9, 7, 500)

    def logit(id: int) -> float:
        candidates.append(id)
        return float(logits[id])

    draws = [
        rejection_sample(most[None], logit, lambda: logits[None], n / count, 2.0)
        for n in range(count)
    ]
    assert count < len(candidates) <= MAX_REJECTIONS * count
    groups = torch.tensor(draws) // 100
    frequencies, true = groups.bincount() / count, (logits / 2).softmax(-1).view(5, 100).sum(1)
    assert ((frequencies - true).abs() < 4.5 * (true * (1 - true) / count).sqrt()).all()


@pytest.mark.parametrize("masked", [slice(0, 1), slice(0, 640), slice(100, 4_095)])
def test_a_token_that_cannot_be_said_is_not_drawn_and_harms_none(masked) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 4_096)
    logits[0, masked] = -torch.inf
    uniforms = [n / 50 for n in range(50)]
    for sampling in (Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.9)):
        ids, logprobs = sample_tokens(logits.expand(50, -1), uniforms, [sampling] * 50)
        assert logits[0, ids].isfinite().all()
        torch.testing.assert_close(logprobs, logits[0].double().log_softmax(-1)[ids].float())
    assert len(set(ids.tolist())) > 10 or masked.stop == 4_095


def test_more_candidates_are_sorted_where_those_left_out_may_be_as_likely() -> None:
    logits = torch.zeros(1, 4_000)
    for top_k in (NARROW, 4_000, 5_000):
        ids, _ = sample_tokens(logits, [0.50001], [Sampling(temperature=1.0, top_k=top_k)])
        assert ids.item() == min(top_k, 4_000) // 2


def test_draws_have_the_distribution_they_should() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 50)
    uniforms = ((torch.arange(20_000) + 0.5) / 20_000).tolist()
    sampling = Sampling(temperature=0.8, top_k=20)
    ids, _ = sample_tokens(logits.expand(20_000, -1), uniforms, [sampling] * 20_000)
    expected = (logits[0] / 0.8).masked_fill(logits[0] < logits[0].topk(20).values[-1], -torch.inf)
    frequencies = torch.bincount(ids, minlength=50) / 20_000
    torch.testing.assert_close(frequencies, expected.softmax(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=7),
        Sampling(temperature=1.3, top_p=0.9),
        Sampling(temperature=0.5, top_p=0.5, top_k=40),
        Sampling(temperature=2.0, top_p=0.99),
        Sampling(temperature=1.0, top_p=0.5, top_k=1000),  # more than there are tokens
        Sampling(temperature=0.9, min_p=0.2),
        Sampling(temperature=1.5, min_p=0.05, top_p=0.8),
        Sampling(temperature=1.5, min_p=0.05, top_k=5),
        Sampling(temperature=1.5, min_p=1.0),
    ],
)
def test_after_the_sampler_a_token_is_as_likely_as_it_is_drawn(sampling) -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(1, 200)
    top = logits.sort(-1, descending=True).values
    probabilities = truncated_probabilities(top, logits, logits.logsumexp(-1), sampling)[0]
    order = logits[0].argsort(descending=True)
    draws = 4000
    ids, _ = sample_tokens(
        logits.expand(draws, -1), [n / draws for n in range(draws)], [sampling] * draws
    )
    drawn = ids.bincount(minlength=200)[order] / draws
    assert probabilities.tolist() == pytest.approx(drawn.tolist(), abs=2 / draws)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-4)


def test_min_p_keeps_what_has_that_share_of_the_likeliest_ones_probability() -> None:
    # At temperature 1 a tenth of 0.5 is 0.05: the last token is dropped, and 0.25 is 0.25 / 0.95.
    assert draw([0.5, 0.25, 0.2, 0.05 - 1e-6], [0.5, 0.53, 0.79, 0.999], min_p=0.1) == [0, 1, 2, 2]


def test_min_p_keeps_what_transformers_keeps() -> None:
    torch.manual_seed(3)
    logits = 2 * torch.randn(1, 300)
    top = logits.sort(-1, descending=True).values
    theirs = MinPLogitsWarper(0.07)(None, TopPLogitsWarper(0.95)(None, logits / 1.4))
    ours = truncated_probabilities(
        top, logits, logits.logsumexp(-1), Sampling(temperature=1.4, top_p=0.95, min_p=0.07)
    )
    torch.testing.assert_close(ours, theirs.softmax(-1).sort(-1, descending=True).values)


def test_a_wide_nucleus_under_min_p_is_not_narrowed() -> None:
    logits = torch.arange(10_000)[None].flip(-1) / 5_000  # the least is e⁻² of the likeliest
    for min_p, last in ((0.5, 3_465), (0.2, 8_047)):  # ln 2 and ln 5 times 5,000
        ids, _ = sample_tokens(logits, [1 - 1e-9], [Sampling(temperature=1.0, min_p=min_p)])
        assert ids.item() == last


def test_penalties_change_what_was_said_and_not_what_is_told() -> None:
    logits = torch.tensor([[3.0, 2.9, -1.0, -1.1]])
    seen = {0: SeenTokens(torch.tensor([0, 2]), torch.tensor([2.0, 0.0]))}

    def likeliest(row, **penalties) -> int:
        ids, logprobs = sample_tokens(row, [0.0], [Sampling(**penalties)], seen=seen)
        assert logprobs[0] == row.log_softmax(-1)[0, ids[0]]
        return ids.item()

    assert likeliest(logits) == 0
    assert likeliest(logits, repetition_penalty=1.1) == 1
    assert likeliest(logits, presence_penalty=0.11) == 1
    assert likeliest(logits, frequency_penalty=0.06) == 1  # it is there twice
    assert likeliest(logits, frequency_penalty=0.04) == 0
    unlikely = logits[:, [1, 3, 2, 0]] - 4  # -1.1, -5.1, -5.0, -1.0
    assert likeliest(unlikely, repetition_penalty=1.2) == 3


def test_a_greedy_sampler_is_sure() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    probabilities = truncated_probabilities(logits, logits, logits.logsumexp(-1), Sampling())
    assert probabilities.tolist() == [[1.0, 0.0, 0.0]]
