"""Values of trials: functions of number and history."""

import math
import statistics

import pytest
from pydantic import ValidationError

from hcmoco_ray.experiments.sweep.config import Dimension
from hcmoco_ray.experiments.sweep.suggest import Tried, choose, draw

SPACE = {
    "a": Dimension(loguniform=(0.01, 100)),
    "b": Dimension(uniform=(-1, 3)),
    "c": Dimension(integers=(2, 4)),
    "d": Dimension(choice=("x", "y", True)),
}


def test_draws_are_a_function_of_seed_and_number():
    assert draw(SPACE, 1, 5) == draw(SPACE, 1, 5)
    assert draw(SPACE, 1, 5) != draw(SPACE, 1, 6)
    assert draw(SPACE, 1, 5) != draw(SPACE, 2, 5)
    # A key's values do not depend on which other keys vary.
    assert draw({"b": SPACE["b"]}, 1, 5)["b"] == draw(SPACE, 1, 5)["b"]


def test_draws_fill_their_ranges():
    drawn = [draw(SPACE, 0, number) for number in range(400)]
    # The median of a log-uniform value on [0.01, 100] is 1, of a uniform one on [-1, 3] 1; 400 draws tell them within
    # some 10 %.
    assert abs(math.log10(statistics.median(each["a"] for each in drawn))) < 0.3
    assert abs(statistics.median(each["b"] for each in drawn) - 1) < 0.3
    assert min(each["a"] for each in drawn) < 0.02
    assert max(each["a"] for each in drawn) > 50
    assert all(0.01 <= each["a"] <= 100 and -1 <= each["b"] <= 3 for each in drawn)
    assert {each["c"] for each in drawn} == {2, 3, 4}
    assert {str(each["d"]) for each in drawn} == {"x", "y", "True"}


def history(count: int) -> list[Tried]:
    """Trials whose score is best at a = 10 and where d is y."""
    values = [draw(SPACE, 0, number) for number in range(count)]
    return [Tried(each, -abs(math.log10(each["a"]) - 1) - (each["d"] != "y")) for each in values]


def test_the_first_are_drawn():
    assert choose(SPACE, 0, 9, history(5), 6) == draw(SPACE, 0, 9)
    under_way = [Tried(draw(SPACE, 0, 7), None, finished=False), Tried(draw(SPACE, 0, 8), None)]
    assert choose(SPACE, 0, 9, [*history(5), *under_way], 6) == draw(SPACE, 0, 9)


def test_later_ones_are_where_it_was_good():
    chosen = [choose(SPACE, 0, number, history(40), 6) for number in range(100, 120)]
    drawn = [draw(SPACE, 0, number) for number in range(100, 120)]

    def away(some):
        return statistics.mean(abs(math.log10(each["a"]) - 1) for each in some)

    assert away(chosen) < 0.6 * away(drawn)
    assert sum(each["d"] == "y" for each in chosen) >= 14
    assert all(0.01 <= each["a"] <= 100 and each["c"] in (2, 3, 4) and isinstance(each["c"], int) for each in chosen)


def test_a_choice_depends_on_the_history_alone():
    assert choose(SPACE, 0, 50, history(12), 6) == choose(SPACE, 0, 50, history(12), 6)
    assert choose(SPACE, 0, 50, history(12), 6) != choose(SPACE, 0, 51, history(12), 6)


def test_where_trials_failed_or_are_under_way_nothing_is_known_to_be_good():
    space = {"a": Dimension(uniform=(0, 1))}
    tried = [Tried({"a": (number + 0.5) / 20}, abs(number - 9.5)) for number in range(20)]  # as good at either end
    bad = [*tried, *(Tried({"a": number / 100}, None, finished=number % 2 == 0) for number in range(20))]

    def low(some):
        return sum(choose(space, 0, number, some, 6)["a"] < 0.3 for number in range(20))

    assert low(tried) >= 5
    assert low(bad) <= 0.5 * low(tried)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give one of"),
        ({"uniform": (0, 1), "choice": (1,)}, "uniform and choice"),
        ({"uniform": (1, 1)}, "below the second"),
        ({"loguniform": (0, 1)}, "above 0"),
        ({"uniform": (0, math.inf)}, "finite"),
        ({"choice": ()}, "at least 1"),
        ({"normal": (0, 1)}, "not permitted"),
    ],
)
def test_a_dimension_is_one_thing(values, message):
    with pytest.raises(ValidationError, match=message):
        Dimension(**values)


def test_values_have_four_digits_and_stay_inside():
    assert Dimension(uniform=(0, 1)).tidy(0.123456) == 0.1235
    assert Dimension(loguniform=(0.00012344, 1)).tidy(0.0001) == 0.00012344
    assert Dimension(loguniform=(0.1, 0.99999)).tidy(0.99998) == 0.99999
    assert Dimension(integers=(1, 5)).tidy(7.2) == 5
