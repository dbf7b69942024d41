"""The page's sections, each of the values it shows; None where there is nothing to show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from coppice_api.prunejob import Quantization
from coppice_pruner.report_page import charts, numbers
from coppice_pruner.report_page.markup import Html, element, join
from coppice_pruner.report_page.page import Fact, Interval, LayerEnergy, ModelRow, ReportPage, Step
from coppice_pruner.report_page.reproduction import manifest_of
from coppice_pruner.report_page.tables import bar, deviation, energy_label, facts, legend, section, table

LARGEST_LAYERS = 20
"""Layers shown one by one; the others are summed up."""
GOOD_PREDICTION = 0.1
"""The cost model measures again where it is further off than this."""


def asked(page: ReportPage) -> Html:
    """What the run was told to do."""
    config = page.config
    objective, algorithm, measurement = config.objective, config.algorithm, config.measurement
    budget = (
        f"perplexity at most {objective.max_perplexity_increase_percent} % higher"
        if objective.max_perplexity_increase_percent is not None
        else f"at most {objective.max_accuracy_drop_points} points of accuracy lost"
    )
    tune = algorithm.fine_tune
    told = [
        Fact("Model", config.model.uri, exact=True),
        Fact("Data", config.dataset.uri, exact=True),
        Fact("Target", f"{objective.energy_reduction_percent} % less energy per inference"),
        Fact("Budget", budget),
        Fact("Latency limit", f"{objective.max_latency_milliseconds} ms a batch")
        if objective.max_latency_milliseconds is not None else None,
        Fact("Allocation", algorithm.allocation.value),
        Fact("Fine-tuning after a step", f"{numbers.plural(tune.epochs, 'epoch')}, {tune.optimizer.value}, "
             f"rate {tune.learning_rate}, batch {tune.batch_size}"),
        Fact("Distillation", "from the dense model" if algorithm.distillation else "none"),
        Fact("Quantization", algorithm.quantization.value) if algorithm.quantization is not Quantization.NONE else None,
        Fact("Runtime", f"{measurement.runtime.value}, for the dense and the pruned model alike"),
        Fact("Measured as", f"batches of {measurement.batch_size}, {measurement.pairs} interleaved pairs of windows, "
             f"{measurement.window_seconds} s each"),
    ]  # fmt: skip
    return section("asked", "What was asked", facts([fact for fact in told if fact is not None]))


def outcome(page: ReportPage) -> Html | None:
    """Dense against pruned."""
    dense, pruned = page.dense, page.pruned
    if dense is None or pruned is None:
        return None
    batch = page.config.measurement.batch_size
    # A run whose meter estimates derives power as it derives energy.
    label = energy_label(page.provenance)
    rows: list[Sequence[str] | None] = [
        *_quality_rows(dense, pruned),
        (
            "Energy per inference",
            label(numbers.joules(dense.energy_joules)),
            label(numbers.joules(pruned.energy_joules, beside=dense.energy_joules)),
            label(numbers.change(
                _relative(pruned.energy_joules, dense.energy_joules) if page.energy_reduction_ratio is None
                # Every pair with equal weight, as everywhere else on the page.
                else -page.energy_reduction_ratio
            )),
        ),
        (
            "Average power while inferring",
            label(numbers.watts(dense.power_watts)),
            label(numbers.watts(pruned.power_watts, beside=dense.power_watts)),
            label(numbers.change(_relative(pruned.power_watts, dense.power_watts))),
        ),
        _single_energy(page, dense, pruned) if batch != 1 else None,
        _times(f"Latency of a batch of {batch}, median", dense.latency_seconds, pruned.latency_seconds),
        _times("Latency of a single inference, median", dense.single_latency_seconds, pruned.single_latency_seconds)
        if batch != 1 else None,
        (
            "Parameters and buffers",
            numbers.size(dense.memory_bytes),
            numbers.size(pruned.memory_bytes, beside=dense.memory_bytes),
            numbers.change(_relative(pruned.memory_bytes, dense.memory_bytes)),
        ),
        (
            "Parameters",
            numbers.count(dense.parameters),
            numbers.count(pruned.parameters),
            numbers.change(_relative(pruned.parameters, dense.parameters)),
        ),
    ]  # fmt: skip
    return section(
        "outcome", "What came out",
        table("The dense and the pruned model as they would be deployed", ("", "Dense", "Pruned", "Change"),
              [row for row in rows if row is not None]),
    )  # fmt: skip


def savings(page: ReportPage) -> Html | None:
    """What was saved by something else than pruning."""
    if not page.savings:
        return None
    label = energy_label(page.provenance)
    rows = [
        (
            item.name, label(numbers.percent(item.energy_reduction_ratio)),
            _interval(item.interval) if item.interval else "not taken", item.note,
        )
        for item in page.savings
    ]  # fmt: skip
    return section(
        "savings", "Saved by other means",
        table("Energy per inference saved by each by itself", ("", "Saved", "95 % interval", "Against"), rows,
              words=(3,)),
        lead="These are never counted as pruning's: the comparison above gives the dense model the same.",
    )  # fmt: skip


def pareto(page: ReportPage) -> Html | None:
    """Every step in one picture and one table."""
    if not page.steps or page.dense is None:
        return None
    dense = page.dense
    provenance = page.provenance.value.lower()
    perplexity = dense.perplexity is not None and page.config.objective.max_perplexity_increase_percent is not None
    reference = dense.perplexity if perplexity else dense.accuracy_ratio
    picture = (
        None if reference is None or not math.isfinite(reference) else _pareto_picture(page, reference, perplexity)
    )
    label = energy_label(page.provenance, listed=True)
    reasons = any(step.reason for step in page.steps)
    counts = any(step.fine_tunings != 1 for step in page.steps)
    rows = [
        (
            str(step.number),
            _verdict(step),
            _quality_text(_quality(step, perplexity), perplexity),
            label(numbers.percent(step.energy_reduction_ratio)) if step.energy_reduction_ratio is not None else "–",
            numbers.percent(step.predicted_reduction_ratio),
            *([str(step.fine_tunings)] if counts else []),
            *([step.reason] if reasons else []),
        )
        for step in page.steps
    ]
    caption = (
        "What each step saved is against the dense model. A step that was taken back before it was measured has a "
        "prediction only"
    )
    if any(step.accepted and step.reason for step in page.steps):
        caption += (
            ". One that was kept for now is outside the accuracy budget: fine-tunings that were left were to bring "
            "it back. What the run ended with is within it"
        )
    columns = (
        "Step", "Result", "Perplexity" if perplexity else "Accuracy", f"Saved, {provenance}", "Saved, predicted",
        *(["Fine-tunings"] if counts else []), *(["Why"] if reasons else []),
    )  # fmt: skip
    return section(
        "steps", "The way there",
        picture,
        table(caption, columns, rows, counted=True, words=(1, 5 + counts)),
    )  # fmt: skip


def layers(page: ReportPage) -> Html | None:
    """Where the energy goes."""
    if not page.layers:
        return None
    label = energy_label(page.provenance, listed=True)
    ordered = sorted(page.layers, key=lambda layer: layer.dense_joules, reverse=True)
    shown, rest = ordered[:LARGEST_LAYERS], ordered[LARGEST_LAYERS:]
    after = all(layer.pruned_joules is not None for layer in page.layers)
    if rest:
        shown.append(
            LayerEnergy(
                f"the other {len(rest)} layers",
                sum(layer.dense_joules for layer in rest),
                sum(layer.pruned_joules or 0.0 for layer in rest) if after else None,
            )
        )
    total = sum(layer.dense_joules for layer in page.layers)
    largest = max(max(layer.dense_joules, layer.pruned_joules or 0.0) for layer in shown) or 1.0

    def row(layer: LayerEnergy) -> tuple[str, ...]:
        bars = join(
            bar("dense", layer.dense_joules / largest),
            bar("pruned", layer.pruned_joules / largest) if layer.pruned_joules is not None else None,
        )
        cells = [layer.name, bars, label(numbers.joules(layer.dense_joules, beside=largest))]
        if after and layer.pruned_joules is not None:
            cells.append(label(numbers.joules(layer.pruned_joules, beside=largest)))
        cells.append(label(numbers.percent(layer.dense_joules / total)) if total > 0 else "–")
        return tuple(cells)

    columns = ("Layer", "", "Dense", *(("Pruned",) if after else ()), "Share of dense")
    key = [(bar("dense", 1.0), "dense"), *([(bar("pruned", 1.0), "pruned")] if after else [])]
    return section(
        "layers", "Energy by layer",
        legend(*key),
        table(f"Energy per inference by layer, {page.provenance.value.lower()}, the largest first", columns,
              [row(layer) for layer in shown], names=True, bars=(1,)),
    )  # fmt: skip


def widths(page: ReportPage) -> Html | None:
    """What is left of each group."""
    if not page.widths:
        return None
    widest = max(max(group.dense, group.pruned) for group in page.widths) or 1
    rows = [
        (
            group.name,
            join(bar("dense", group.dense / widest), bar("pruned", group.pruned / widest)),
            numbers.count(group.dense),
            numbers.count(group.pruned),
            numbers.percent(group.pruned / group.dense, 0) if group.dense else "–",
        )
        for group in page.widths
    ]
    return section(
        "widths", "Widths",
        legend((bar("dense", 1.0), "dense"), (bar("pruned", 1.0), "pruned")),
        table("Channels of each group of coupled layers, in the model's order",
              ("Group", "", "Dense", "Pruned", "Kept"), rows, names=True, bars=(1,)),
    )  # fmt: skip


def predictions(page: ReportPage) -> Html | None:
    """How well the cost model knew."""
    known = [item for item in page.predictions if item.measured_joules > 0]
    if not known:
        return None
    label = energy_label(page.provenance, listed=True)
    errors = [item.predicted_joules / item.measured_joules - 1.0 for item in known]
    full = max(*(abs(error) for error in errors), GOOD_PREDICTION)
    rows = [
        (
            item.name,
            deviation(error, full, far=abs(error) > GOOD_PREDICTION),
            numbers.joules(item.predicted_joules, beside=item.measured_joules),
            label(numbers.joules(item.measured_joules)),
            numbers.change(error),
        )
        for item, error in zip(known, errors, strict=True)
    ]
    typical = statistics.median(abs(error) for error in errors)
    worst = max(errors, key=abs)
    return section(
        "predictions", "How well it was predicted",
        table("The cost model's energy per inference against the meter's", ("", "Too low or too high", "Predicted",
              page.provenance.value, "Error"), rows, bars=(1,)),
        lead=f"The cost model proposed, the meter decided. Its predictions were {numbers.percent(typical)} off in the "
             f"median and {numbers.change(worst)} at worst." + _layer_error(page),
    )  # fmt: skip


def _layer_error(page: ReportPage) -> str:
    error = page.layer_prediction_error_ratio
    if error is None:
        return ""
    return (
        f" Measured again one by one, the layers of the pruned model were {numbers.percent(error)} off its tables in "
        "the median."
    )


def pairs(page: ReportPage) -> Html | None:
    """What the interval is made of."""
    known = [pair for pair in page.pairs if pair.dense_joules > 0 and math.isfinite(pair.pruned_joules)]
    if not known:
        return None
    label = energy_label(page.provenance, listed=True)
    interval, provenance = page.energy_reduction_interval, page.provenance.value.lower()
    rows = [
        (
            str(number),
            label(numbers.joules(pair.dense_joules)),
            label(numbers.joules(pair.pruned_joules, beside=pair.dense_joules)),
            label(numbers.percent(1.0 - pair.pruned_joules / pair.dense_joules)),
        )
        for number, pair in enumerate(known, start=1)
    ]
    said = (
        "Dense and pruned were measured in turn, so that what disturbs one disturbs the other. The interval is a "
        "bootstrap over the pairs"
    )
    claim = (
        f": {_interval(interval)}; it {'excludes' if interval.low > 0 or interval.high < 0 else 'includes'} zero."
        if interval else "."
    )  # fmt: skip
    return section(
        "pairs", "How sure it is",
        element(
            "figure",
            charts.pair_chart(known, page.energy_reduction_ratio, interval, provenance),
            legend(*_pair_legend(page)),
        ),
        table(f"Energy per inference in each pair of windows, {provenance}",
              ("Pair", "Dense", "Pruned", "Saved"), rows, counted=True),
        lead=said + claim,
    )  # fmt: skip


def conditions(page: ReportPage) -> Html | None:
    """The device while it was measured."""
    seen = page.conditions
    if seen is None:
        return None
    found: list[Fact] = []
    if seen.temperature_celsius:
        found.append(Fact("Temperature", _span(seen.temperature_celsius, "°C")))
    if seen.clock_mhz:
        found.append(Fact("Clock", _span(seen.clock_mhz, "MHz")))
    if seen.power_limit_watts is not None:
        found.append(Fact("Power limit", numbers.watts(seen.power_limit_watts)))
    if seen.throttled_windows is not None:
        why = f": {', '.join(seen.throttle_reasons)}" if seen.throttle_reasons else ""
        windows = f"{numbers.plural(seen.throttled_windows, 'window')} rejected and taken again{why}"
        found.append(Fact("Throttling", windows if seen.throttled_windows else f"none{why}"))
    elif seen.throttle_reasons:
        found.append(Fact("Throttling", ", ".join(seen.throttle_reasons)))
    if seen.shared_with is not None:
        others = ", ".join(seen.shared_with) or "no other process seen"
        found.append(Fact("Shared with", others))
    if seen.cross_check_ratio is not None:
        against = f" of {seen.cross_check_source}" if seen.cross_check_source else " of a second source"
        note = f"; {seen.cross_check_note}" if seen.cross_check_note else ""
        found.append(Fact("Cross-check", f"{numbers.digits(seen.cross_check_ratio)} times the energy{against}{note}"))
    found.extend(seen.facts)
    return section("conditions", "The device while it was measured", facts(found)) if found else None


def cost(page: ReportPage) -> Html | None:
    """What the run itself used."""
    spent = page.run_cost
    if spent is None:
        return None
    label = energy_label(page.provenance)
    found: list[tuple[str, str]] = []
    if spent.energy_joules is not None:
        found.append(("Energy of this run", label(numbers.joules(spent.energy_joules))))
    if spent.break_even_inferences is not None:
        found.append(("Paid back after", label(f"{numbers.count(spent.break_even_inferences)} inferences")))
    if spent.duration_seconds is not None:
        found.append(("Time", numbers.duration(spent.duration_seconds)))
    total = sum(spent.phase_seconds.values())
    phases = [
        (name, bar("dense", seconds / total), numbers.duration(seconds), numbers.percent(seconds / total, 0))
        for name, seconds in spent.phase_seconds.items()
        if total > 0
    ]
    times = table("Time by phase", ("Phase", "", "Time", "Share"), phases, bars=(1,)) if phases else None
    return section("cost", "What the run itself cost", facts(found), times) if found or phases else None


def carbon(page: ReportPage) -> Html | None:
    """Grams, where an intensity was given."""
    rate = page.carbon
    if rate is None:
        return None
    label = energy_label(page.provenance)
    found: list[tuple[str, str]] = []
    if page.dense and page.pruned:
        dense, pruned = (rate.grams(row.energy_joules) * 1e6 for row in (page.dense, page.pruned))
        found += [
            ("A million inferences, dense", label(numbers.grams(dense))),
            ("A million inferences, pruned", label(numbers.grams(pruned, beside=dense))),
        ]
    if page.run_cost and page.run_cost.energy_joules is not None:
        found.append(("This run", label(numbers.grams(rate.grams(page.run_cost.energy_joules)))))
    found.append(("Intensity", f"{rate.intensity_grams_per_kilowatt_hour:g} g CO₂e per kWh"))
    found += [(name, value) for name, value in (("Source", rate.source), ("Date", rate.date)) if value]
    effectiveness = rate.power_usage_effectiveness
    found.append(("Power usage effectiveness", "not given: the device alone is counted" if effectiveness is None
                  else f"{effectiveness:g}"))  # fmt: skip
    return section(
        "carbon", "Carbon", facts(found),
        lead="Grams of CO₂ equivalent: energy times one intensity for both models, so their ratio is that of the "
             "energies.",
    )  # fmt: skip


def origin(page: ReportPage) -> Html:
    """What the figures come from."""
    config = page.config
    found = [
        Fact("Energy is", page.provenance.value.lower()),
        Fact("Meter", page.meter) if page.meter else None,
        Fact("Device", page.device) if page.device else None,
        Fact("Seed", str(config.algorithm.seed)),
        Fact("Spec digest", config.spec_digest, exact=True),
        *page.origin,
    ]
    return section("origin", "Where this comes from", facts([fact for fact in found if fact is not None]))


def again(page: ReportPage) -> Html:
    """How to do it again."""
    return section(
        "again", "Do it again",
        element("p", "Save this as ", element("code", "prunejob.yaml"), " and run ",
                element("code", "coppice run -f prunejob.yaml"), "."),
        element("pre", element("code", manifest_of(page.config)), tabindex=0, role="region",
                aria_label="The PruneJob of this run"),
        lead="The same seed gives the same decisions where the measurements agree; joules differ between devices.",
    )  # fmt: skip


def _pareto_picture(page: ReportPage, reference: float, perplexity: bool) -> Html:
    objective = page.config.objective
    if perplexity:
        budget = reference * (1.0 + float(objective.max_perplexity_increase_percent or 0) / 100)
    else:
        budget = reference - float(objective.max_accuracy_drop_points) / 100
    points = tuple(
        charts.ParetoPoint(
            str(step.number), step.predicted_reduction_ratio if saved is None else saved, quality, step.accepted,
            predicted=saved is None, interval=step.interval,
        )
        for step in page.steps
        for saved in (step.energy_reduction_ratio,)
        if (quality := _quality(step, perplexity)) is not None and math.isfinite(quality)
        if math.isfinite(step.predicted_reduction_ratio if saved is None else saved)
    )  # fmt: skip
    final = None
    reached = _quality(page.pruned, perplexity) if page.pruned else None
    saved_ratio = page.energy_reduction_ratio
    if saved_ratio is not None and reached is not None and math.isfinite(saved_ratio) and math.isfinite(reached):
        final = charts.ParetoPoint("", saved_ratio, reached, accepted=True, interval=page.energy_reduction_interval)
    chart = charts.Pareto(
        points, reference, objective.energy_reduction_percent / 100, budget, "perplexity" if perplexity else "accuracy",
        lambda value: _quality_text(value, perplexity),
        lambda value, places: numbers.digits(value) if perplexity else numbers.percent(value, places),
        page.provenance.value.lower(), final,
    )  # fmt: skip
    marks = [
        (charts.mark("start", "dense"), "dense"),
        (charts.mark("accepted", "kept"), "step kept") if any(point.accepted for point in points) else None,
        (charts.mark("rejected", "taken back"), "step taken back")
        if not all(point.accepted for point in points)
        else None,
        (charts.mark("ring", "pruned"), "pruned model, full comparison with its 95 % interval") if final else None,
        (charts.mark("limit", "target and budget"), "target and budget"),
        (charts.mark("zone", "met"), "where both are met"),
    ]
    notes = []
    if any(point.predicted for point in points):
        notes.append("A step that was taken back before its energy was measured stands where it was predicted.")
    if charts.clipped(chart):
        notes.append("↓ marks a step that lies beyond the picture.")
    return element(
        "figure",
        charts.pareto(chart),
        legend(*(item for item in marks if item is not None)),
        element("figcaption", " ".join(notes)) if notes else None,
    )


def _pair_legend(page: ReportPage) -> list[tuple[Html, str]]:
    items = [(charts.mark("start", "pair"), "one pair of windows")]
    if page.energy_reduction_ratio is not None:
        items.append((charts.mark("whole", "all pairs"), "all pairs"))
    if page.energy_reduction_interval is not None:
        items.append((charts.mark("zone", "interval"), "95 % interval"))
    return items


def _verdict(step: Step) -> Html:
    if step.accepted:
        word = "fine-tuned further" if step.again else "kept for now" if step.reason else "kept"
        return element("span", f"● {word}", class_="mark kept")
    return element("span", "✕ taken back", class_="mark back")


def _quality(item: Step | ModelRow, perplexity: bool) -> float | None:
    return item.perplexity if perplexity else item.accuracy_ratio


def _quality_text(value: float | None, perplexity: bool) -> str:
    if value is None:
        return "–"
    return numbers.digits(value, 4) if perplexity else numbers.percent(value, 2)


def _quality_rows(dense: ModelRow, pruned: ModelRow) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    if dense.perplexity is not None and pruned.perplexity is not None:
        change = numbers.change(_relative(pruned.perplexity, dense.perplexity))
        rows.append(
            ("Perplexity", _quality_text(dense.perplexity, True), _quality_text(pruned.perplexity, True), change)
        )
    if dense.accuracy_ratio is not None and pruned.accuracy_ratio is not None:
        change = numbers.points(pruned.accuracy_ratio - dense.accuracy_ratio)
        name = "Accuracy of the next token" if rows else "Accuracy"
        rows.append(
            (name, _quality_text(dense.accuracy_ratio, False), _quality_text(pruned.accuracy_ratio, False), change)
        )
    return rows


def _single_energy(page: ReportPage, dense: ModelRow, pruned: ModelRow) -> Sequence[str] | None:
    if dense.single_energy_joules is None or pruned.single_energy_joules is None:
        return None
    label, interval = energy_label(page.provenance), page.single_energy_reduction_interval
    saved = page.single_energy_reduction_ratio
    change = _relative(pruned.single_energy_joules, dense.single_energy_joules) if saved is None else -saved
    sure = f" ({numbers.change(-interval.high)} to {numbers.change(-interval.low)})" if interval else ""
    return (
        "Energy of a single inference, batch 1",
        label(numbers.joules(dense.single_energy_joules)),
        label(numbers.joules(pruned.single_energy_joules, beside=dense.single_energy_joules)),
        label(f"{numbers.change(change)}{sure}"),
    )


def _times(name: str, dense: float | None, pruned: float | None) -> Sequence[str] | None:
    if dense is None or pruned is None:
        return None
    change = numbers.change(_relative(pruned, dense))
    return (name, numbers.seconds(dense), numbers.seconds(pruned, beside=dense), change)


def _relative(after: float, before: float) -> float:
    return after / before - 1.0 if before else float("nan")


def _interval(interval: Interval) -> str:
    return f"{numbers.percent(interval.low)} to {numbers.percent(interval.high)}"


def _span(ends: tuple[float, float], unit: str) -> str:
    low, high = (f"{end:,.0f}" for end in ends)
    return f"{low}\N{NO-BREAK SPACE}{unit}" if low == high else f"{low} to {high}\N{NO-BREAK SPACE}{unit}"
