"""Frames and clips are spread over the video; orders and shares depend on (seed, epoch, position) alone."""

import numpy as np
import pytest

from training.dataset.sampling import (
    EvaluationPlan,
    TrainingPlan,
    draws_rng,
    order,
    random_clips,
    sample_rng,
    spread,
    spread_clips,
    spread_each,
)


def test_frames_reach_from_the_first_to_the_last():
    assert spread(100, 5).tolist() == [0, 25, 50, 74, 99]
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert spread(9, 1).tolist() == [4]


@pytest.mark.parametrize("available", [1, 2, 31, 32, 33, 64, 299, 1000])
def test_spread_frames_are_distinct_and_even(available):
    found = spread(available, 32)
    assert len(found) == min(available, 32)
    gaps = np.diff(found)
    ideal = (available - 1) / max(1, len(found) - 1)
    assert (gaps > 0).all()
    assert (abs(gaps - ideal) <= 1).all()


def test_many_videos_at_once_equal_one_by_one():
    counts = np.random.default_rng(0).integers(1, 80, 200)
    owner, position = spread_each(counts, 32)
    for video, count in enumerate(counts):
        assert position[owner == video].tolist() == spread(int(count), 32).tolist()


def test_clips_lie_inside_and_do_not_overlap():
    counts = np.array([7, 8, 16, 17, 100, 31])
    owner, first = spread_clips(counts, 32, 8)
    assert np.bincount(owner, minlength=6).tolist() == [0, 1, 2, 2, 4, 3]
    for video, count in enumerate(counts):
        starts = first[owner == video]
        assert (starts >= 0).all()
        assert (starts + 8 <= count).all()
        assert (np.diff(starts) >= 8).all()
    assert first[owner == 4].tolist() == [0, 31, 61, 92]
    # Fewer frames wanted than a clip has: still one clip, from the middle.
    assert spread_clips(np.array([100]), 4, 8)[1].tolist() == [46]


def test_clips_of_training_start_at_random_in_their_share():
    counts = np.array([7, 8, 16, 17, 100, 31])
    for seed in range(40):
        owner, first = random_clips(counts, 32, 8, np.random.default_rng(seed))
        assert owner.tolist() == spread_clips(counts, 32, 8)[0].tolist(), "as many of each video as in evaluation"
        for video, count in enumerate(counts):
            mine = first[owner == video]
            assert (np.diff(mine) >= 8).all()
            assert (mine >= 0).all()
            assert (mine + 8 <= count).all()
        assert [int(place) // 25 for place in first[owner == 4]] == [0, 1, 2, 3], "one in each quarter"
    many = [random_clips(np.array([100]), 8, 8, np.random.default_rng(seed))[1][0] for seed in range(400)]
    assert min(many) < 5
    assert max(many) > 87


def test_orders_are_permutations_that_differ_by_seed_and_epoch():
    assert sorted(order(50, 1, 2).tolist()) == list(range(50))
    seen = {tuple(order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(seen) == 9


def test_streams_do_not_repeat_one_another():
    draws = [draws_rng(1, 2).random()]
    draws += [sample_rng(1, 2, position).random() for position in range(20)]
    draws += [np.random.default_rng([1, 2, 1]).random()]
    assert len(set(draws)) == 22


@pytest.mark.parametrize("world", [1, 2, 4])
def test_global_batches_are_the_same_for_any_number_of_processes(world):
    plans = [TrainingPlan(50, 8, rank, world) for rank in range(world)]
    assert {len(plan) for plan in plans} == {6}
    for step in range(6):
        joined = [position for plan in plans for position in plan[step]]
        assert joined == list(range(step * 8, step * 8 + 8))
        assert {len(plan[step]) for plan in plans} == {8 // world}
    with pytest.raises(IndexError):
        plans[0][6]


def test_an_epoch_smaller_than_a_batch_is_one_batch():
    plans = [TrainingPlan(3, 8, rank, 4) for rank in range(4)]
    assert [len(plan) for plan in plans] == [1] * 4
    assert sorted(p for plan in plans for p in plan[0]) == [0, 1, 2]
    assert len(TrainingPlan(0, 8)) == 0


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("draws", [0, 1, 5, 50])
def test_evaluation_leaves_nothing_out_and_takes_nothing_twice(draws, world):
    plans = [EvaluationPlan(draws, 8, rank, world) for rank in range(world)]
    assert [p for plan in plans for step in range(len(plan)) for p in plan[step]] == list(range(draws))
    assert all(0 < len(plan[step]) <= 8 for plan in plans for step in range(len(plan)))
