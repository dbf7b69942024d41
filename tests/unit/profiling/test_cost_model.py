"""Interpolation, sums and calibration."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coppice_pruner.profiling import Axis, CostModel, LayerCost, Staircase, Table

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

    @given(st.integers(4, 16), st.integers(8, 32), st.integers(4, 16), st.integers(8, 32))
    def test_each_group_alone_at_another_width_is_a_prediction(self, a: int, b: int, c: int, d: int) -> None:
        model, widths = chain(), {"a": a, "b": b}
        want = [model.predict({"a": a, "b": d}), model.predict({"a": c, "b": b})]
        assert model.predict_each(widths, {"b": d, "a": c}) == pytest.approx(want)
        assert model.predict_each(widths, {"a": c}) == pytest.approx(want[1:])

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


class TestLatency:
    def timed(self) -> CostModel:
        """The chain on a machine that draws 2 W in its layers, in batches of 4: 2 seconds for each joule."""
        model = chain()
        layers = tuple(dataclasses.replace(cost, seconds_per_joule=2.0) for cost in model.layers)
        return dataclasses.replace(model, layers=layers, rest_seconds=1.0)

    @given(st.integers(4, 16), st.integers(8, 32))
    def test_it_follows_the_same_tables(self, a: int, b: int) -> None:
        assert self.timed().predict_seconds({"a": a, "b": b}) == pytest.approx(2.0 * want_energy(a, b))

    def test_it_is_scaled_to_the_batch_that_was_measured_apart_from_energy(self) -> None:
        model = self.timed().calibrate({}, 3.0, 0.5)
        assert (model.predict({}), model.predict_seconds({})) == (pytest.approx(3.0), pytest.approx(0.5))

    def test_two_measurements_tell_scale_from_rest(self) -> None:
        true = dataclasses.replace(self.timed(), seconds_scale=0.5, rest_seconds=3.0)
        model = self.timed()
        for widths in ({"a": 16, "b": 32}, {"a": 8, "b": 12}):
            model = model.calibrate(widths, true.predict(widths), true.predict_seconds(widths))
        assert model.predict_seconds({"a": 5, "b": 9}) == pytest.approx(true.predict_seconds({"a": 5, "b": 9}))


class TestMeasuredPoints:
    def test_a_point_is_met_exactly_holds_for_narrower_widths_and_leaves_wider_ones(self) -> None:
        ratio = 7.0 / TABLE.energy(6, 20)
        table = TABLE.with_point(6, 20, 7.0)
        assert table.energy(6, 20) == pytest.approx(7.0)
        assert table.energy(4, 8) == pytest.approx(ratio * TABLE.energy(4, 8))
        for row, column in ((8, 8), (16, 8), (4, 32), (8, 32), (16, 32)):
            assert table.energy(row, column) == pytest.approx(TABLE.energy(row, column))

    @given(st.integers(4, 16), st.integers(8, 32), st.floats(0.1, 1.0))
    def test_a_point_cheaper_than_expected_never_becomes_a_hole_that_no_step_leaves(
        self, row: int, column: int, ratio: float
    ) -> None:
        table = TABLE.with_point(row, column, ratio * TABLE.energy(row, column))
        assert table.energy(4, 8) <= table.energy(row, column) + 1e-9

    def test_a_layer_of_one_width_learns_too(self) -> None:
        tied = Table((4, 16), (16,), ((1.0,), (4.0,)))
        assert tied.with_point(10, 10, 3.0).energy(10, 10) == pytest.approx(3.0)

    def test_earlier_measurements_of_the_whole_model_are_fitted_again(self) -> None:
        model = chain().calibrate({}, 4.0)
        changed = model.with_points({"a": 8, "b": 32}, {"second": 9.0})
        assert changed.predict({}) == pytest.approx(4.0)
        layer = next(cost for cost in changed.layers if cost.layer == "second")
        assert layer.energy({"a": 8, "b": 32}) == pytest.approx(9.0)


def test_steps_of_the_hardware_hold_in_predictions_and_choices_alike() -> None:
    stairs = Staircase(8, (0.0, 1.0))
    table = Table((3,), (4, 8, 16), ((1.0, 2.0, 4.0),), out_steps=stairs)
    model = CostModel((LayerCost("first", Axis(3), Axis(0, {"a": 1}), table),), {"a": 16}, 0.0)
    want = [table.energy(3, width) for width in (4, 8, 9, 12, 16)]
    assert want == pytest.approx([1.0, 2.0, 2.5, 4.0, 4.0])
    assert model.predict_choices({}, "a", (4, 8, 9, 12, 16)) == pytest.approx(want)


def test_a_width_beyond_the_model_it_was_built_from_is_refused() -> None:
    with pytest.raises(ValueError, match="wider than in the model"):
        chain().predict({"a": 17})
