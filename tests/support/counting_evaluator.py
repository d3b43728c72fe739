"""An evaluator that counts the images that go through the model."""

from hf_paint.evaluation.evaluator import Evaluator


class CountingEvaluator(Evaluator):
    """Counts the images of every evaluation, and is otherwise an `Evaluator`."""

    num_images = 0

    def _gather(self, tower, task, split, function, indices=None):
        self.num_images += len(task.images[split]) if indices is None else len(indices)
        return super()._gather(tower, task, split, function, indices)
