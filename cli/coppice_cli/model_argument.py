"""The MODEL argument of commands that look at a model without pruning it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from coppice_api.prunejob import ModelSource
    from coppice_pruner.models import LoadedModel

EXIT_REFUSED, EXIT_IMPOSSIBLE, EXIT_INTERRUPTED = 4, 5, 130


@contextlib.contextmanager
def answered(errors: Console) -> Iterator[None]:
    """Turn what the pruner refuses, Ctrl-C and SIGTERM into one sentence and an exit status."""
    try:
        from coppice_pruner.errors import InputRefusedError, PrunerError
        from coppice_pruner.meters import MeasurementImpossibleError
    except ImportError as error:
        errors.print(f"error: {error}; install the extra: pip install 'coppice[pruner]'")
        raise typer.Exit(1) from error
    # SIGTERM like Ctrl-C: what was copied to a temporary directory goes with the command.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        errors.print("interrupted: nothing was written")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except InputRefusedError as error:
        errors.print(f"error: {error}")
        raise typer.Exit(EXIT_REFUSED) from error
    except MeasurementImpossibleError as error:
        errors.print(f"error: {error}")
        raise typer.Exit(EXIT_IMPOSSIBLE) from error
    except PrunerError as error:
        errors.print(f"error: {error}")
        raise typer.Exit(1) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def source_of(model: str) -> ModelSource:
    """Return the model source of a URI, or of a plain directory."""
    from coppice_api.prunejob import ModelSource
    from coppice_pruner.errors import InputRefusedError

    try:
        return ModelSource(uri=model if "://" in model else f"file://{Path(model).resolve()}")
    except ValueError as error:
        raise InputRefusedError(f"MODEL {model}: {str(error).splitlines()[-2].strip()}") from error


def load(
    model: str, *, dataset: str | None, batch_size: int, claim_mounts: dict[str, str], scratch: Path
) -> tuple[LoadedModel, tuple[Tensor, ...]]:
    """Return a model and one batch for it: of a data set, or random in the shapes that the model takes.

    Raises:
        InputRefusedError: If one of them cannot be had.
    """
    from coppice_pruner.data import load as load_dataset
    from coppice_pruner.errors import InputRefusedError
    from coppice_pruner.models.load import load_model
    from coppice_pruner.profiling.inputs import random_inputs
    from coppice_pruner.run.fit import fitted

    loaded = load_model(source_of(model), claim_mounts, scratch)
    if dataset is None:
        if not loaded.inputs:
            raise InputRefusedError(f"MODEL {model} does not say what inputs it takes: name a data set with --dataset")
        return loaded, random_inputs(loaded.inputs, batch_size)
    data = load_dataset(dataset, claim_mounts=claim_mounts, scratch=scratch)
    samples = data.evaluation.take(slice(batch_size))
    if len(samples) < batch_size:
        raise InputRefusedError(f"--batch-size {batch_size}: {dataset} has {len(samples)} evaluation samples")
    return fitted(loaded, data), samples.inputs
