"""Interpolation, sums and calibration."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coppice_pruner.profiling import Axis, CostModel, LayerCost, Table

TABLE = Table((4, 8, 16), (8, 32), ((1.0, 2.0), (3.0, 5.0), (4.0, 9.0)))


def chain(*, rest: float = 0.5) -> CostModel:
    """Image (3) -> a (16) -> b (32) -> classes (10); each layer costs 0.1 + 0.01 * c_in * c_out."""

    def layer(name: str, reads: Axis, writes: Axis, rows: tuple[int, ...], columns: tuple[int, ...]) -> LayerCost:
        joules = tuple(tuple(0.1 + 0.01 * row * column for column in columns) for row in rows)
        return LayerCost(name, reads, writes, Table(rows, columns, joules))

    return CostModel(
        layers=(
            layer("first", Axis(3), Axis(0, {"a": 1}), (3,), (4, 16)),
            layer("second", Axis(0, {"a": 1}), Axis(0, {"b": 1}), (4, 16), (8, 32)),
            # Behind a flatten of 2x2 maps, beside 5 features that are not pruned.
            layer("head", Axis(5, {"b": 4}), Axis(10), (37, 133), (10,)),
        ),
        built_widths={"a": 16, "b": 32},
        rest_joules=rest,
    )


def want_energy(a: int, b: int) -> float:
    return 0.5 + 0.3 + 0.01 * (3 * a + a * b + (5 + 4 * b) * 10)


class TestTable:
    @pytest.mark.parametrize("row", range(3))
    @pytest.mark.parametrize("column", range(2))
    def test_it_is_exact_on_its_points(self, row: int, column: int) -> None:
        assert TABLE.energy(TABLE.in_channels[row], TABLE.out_channels[column]) == TABLE.joules[row][column]

    def test_it_is_bilinear_between_them(self) -> None:
        assert TABLE.energy(6, 20) == pytest.approx((1.0 + 2.0 + 3.0 + 5.0) / 4)
        assert TABLE.energy(10, 32) == pytest.approx(5.0 + 2 / 8 * 4.0)

    def test_it_goes_on_straight_beyond_its_ends_but_not_below_zero(self) -> None:
        assert TABLE.energy(2, 8) == 0.0
        assert TABLE.energy(20, 8) == pytest.approx(4.5)

    @given(st.integers(4, 16), st.integers(8, 32))
    def test_it_stays_between_the_corners_of_its_cell(self, row: int, column: int) -> None:
        assert 1.0 <= TABLE.energy(row, column) <= 9.0


class TestPrediction:
    @given(st.integers(4, 16), st.integers(8, 32))
    def test_layers_and_the_rest_sum_to_the_model(self, a: int, b: int) -> None:
        model, widths = chain(), {"a": a, "b": b}
        assert model.predict(widths) == pytest.approx(want_energy(a, b))
        assert sum(model.layer_energies(widths).values()) + model.rest_joules == pytest.approx(model.predict(widths))

    def test_a_group_left_out_has_the_width_it_was_built_with(self) -> None:
        assert chain().predict({"a": 8}) == pytest.approx(want_energy(8, 32))

    @given(st.integers(4, 16), st.integers(8, 32), st.sampled_from(["a", "b"]))
    def test_choices_are_predictions(self, a: int, b: int, group: str) -> None:
        model, widths, choices = chain(), {"a": a, "b": b}, (8, 10, 16)
        want = [model.predict({**widths, group: choice}) for choice in choices]
        assert model.predict_choices(widths, group, choices) == pytest.approx(want)

    def test_a_group_is_charged_for_the_layers_that_produce_it(self) -> None:
        assert chain().group_energy({"a": 8}, "b") == pytest.approx(0.1 + 0.01 * 8 * 32)


class TestCalibration:
    def test_one_measurement_is_met_exactly(self) -> None:
        assert chain().calibrate({}, 3.0).predict({}) == pytest.approx(3.0)

    def test_two_measurements_tell_scale_from_rest(self) -> None:
        true = CostModel(chain().layers, chain().built_widths, rest_joules=2.0, scale=0.7)
        model = chain()
        for widths in ({"a": 16, "b": 32}, {"a": 8, "b": 12}):
            model = model.calibrate(widths, true.predict(widths))
        assert (model.scale, model.rest_joules) == (pytest.approx(0.7), pytest.approx(2.0))
        assert model.predict({"a": 5, "b": 9}) == pytest.approx(true.predict({"a": 5, "b": 9}))

    def test_measurements_of_one_model_average(self) -> None:
        model = chain(rest=0.0).calibrate({}, 2.0).calibrate({}, 2.2)
        assert model.predict({}) == pytest.approx(2.1, rel=0.01)

    @given(st.lists(st.tuples(st.integers(4, 16), st.integers(8, 32), st.floats(0.01, 50.0)), min_size=1, max_size=4))
    def test_no_part_ever_becomes_negative(self, measured: list[tuple[int, int, float]]) -> None:
        model = chain()
        for a, b, joules in measured:
            model = model.calibrate({"a": a, "b": b}, joules)
        assert model.scale >= 0
        assert model.rest_joules >= 0

    def test_it_does_not_change_the_model_it_is_called_on(self) -> None:
        model = chain()
        model.calibrate({}, 99.0)
        assert model == chain()

    @pytest.mark.parametrize("joules", [0.0, -1.0, float("nan")])
    def test_a_measurement_of_nothing_is_refused(self, joules: float) -> None:
        with pytest.raises(ValueError, match="measured_joules"):
            chain().calibrate({}, joules)


def test_a_checkpoint_brings_back_the_same_model() -> None:
    model = chain().calibrate({"a": 8}, 2.0)
    assert CostModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model
