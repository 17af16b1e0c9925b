"""The tasks: what a run asks its scorers. A task is one class beside these and one line here."""

from lifelora.run.context import Context
from lifelora.run.tasks.base import Task
from lifelora.run.tasks.ctr import Ctr
from lifelora.run.tasks.next_item import NextItem

TASKS: dict[str, type[Task]] = {"ctr": Ctr, "next-item": NextItem}


def task_of(context: Context) -> Task:
    """The task of a run's recipe."""
    return TASKS[context.recipe.task](context)


__all__ = ["TASKS", "Task", "task_of"]
