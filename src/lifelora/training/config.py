"""How a module is trained: batches, epochs, precision, and which weights are kept. Knows no loop."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from lifelora.training.optimiser import Optimisation


class TrainingConfig(Optimisation):
    """How a module is trained."""

    batch_size: PositiveInt = 256
    """Rows per optimiser step, over all processes and micro-batches together."""
    accumulation: PositiveInt = 1
    """Micro-batches per step and process; the gradient stays the exact mean over the batch."""
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    """End (and let the schedule end, unless ``schedule_epochs`` says where) after so many steps, if the epochs have more."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    evaluations_per_epoch: PositiveInt = 1
    patience: PositiveInt | None = None
    """Stop after so many evaluations in a row without a gain; None never stops early."""
    select: Annotated[str, Field(pattern=r"^-?\w+$")] = "auc"
    """The validation metric that chooses the weights: the highest; with a minus in front ("-log_loss") the lowest."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingConfig":
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"accumulation = {self.accumulation} splits a batch into more parts than its batch_size = "
                f"{self.batch_size} rows; choose accumulation <= batch_size"
            )
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise ValueError(
                f"schedule_epochs = {self.schedule_epochs} ends before the training, which has epochs = "
                f"{self.epochs}; choose schedule_epochs >= epochs"
            )
        return self
