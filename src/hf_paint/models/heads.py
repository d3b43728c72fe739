"""Zero-shot heads: frozen linear classifiers built from text embeddings (Radford et al., 2021, Section 3.1.4)."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.losses import cross_entropy, masked_cross_entropy


class ZeroShotHead(nn.Module):
    """A frozen classifier with one text embedding per class, stored as buffers.

    Args:
        weight: shape (num_classes, embed_dim), rows of unit length.
        logit_scale: shape (), logit scale after exponentiation (100 for OpenAI's models).

    Example:
        >>> head = ZeroShotHead(torch.eye(2), torch.tensor(100.0))
        >>> head(torch.tensor([[3.0, 0.0]]))
        tensor([[100.,   0.]])
    """

    weight: Tensor
    logit_scale: Tensor

    def __init__(self, weight: Tensor, logit_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("logit_scale", logit_scale)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the weight and logit scale."""
        return fingerprint_weights(self.state_dict())

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return logits (batch, num_classes) for un-normalised image embeddings (batch, embed_dim)."""
        image_embeds = functional.normalize(image_embeds, dim=-1)
        return self.logit_scale * image_embeds @ self.weight.T  # (batch, embed_dim) @ (embed_dim, num_classes)

    def loss(self, image_embeds: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy, in nats, of image embeddings (batch, embed_dim) with labels.

        Labels are (batch,), or (batch, max_classes) for images with several classes (see `losses.cross_entropy`).
        Trainers call only this method, so subclasses can choose which classes an image is compared with.
        """
        return cross_entropy(self(image_embeds), labels, label_smoothing=label_smoothing)

    def compare(self, image_embeds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits to evaluate, (batch, num_columns), and the correct column or columns of each image."""
        return self(image_embeds), labels


class GroupedHead(ZeroShotHead):
    """A head with one or more rows per class; the logit of a class is the maximum over its rows.

    Args:
        weight: shape (num_rows, embed_dim), rows of unit length.
        logit_scale: shape (), logit scale after exponentiation.
        members: shape (num_classes, max_rows), row indices of each class, padded by repeating one of them.

    Example:
        >>> head = GroupedHead(torch.eye(3), torch.tensor(100.0), torch.tensor([[0, 2], [1, 1]]))
        >>> head(torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([[100.,   0.]])
    """

    members: Tensor

    def __init__(self, weight: Tensor, logit_scale: Tensor, members: Tensor) -> None:
        super().__init__(weight, logit_scale)
        self.register_buffer("members", members)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return logits (batch, num_classes) for un-normalised image embeddings (batch, embed_dim)."""
        return super().forward(image_embeds)[:, self.members].amax(dim=-1)  # over (batch, num_classes, max_rows)


class CandidateHead(ZeroShotHead):
    """A head for multiple choice, which compares each image only with the candidates of its own question.

    Labels are integers of shape (batch, 1 + max_candidates): first the position of the answer among the candidates,
    then the row indices of the candidates, padded with -1.

    Example:
        >>> head = CandidateHead(torch.eye(3), torch.tensor(100.0))
        >>> head.compare(torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[1, 2, 1, -1]]))
        (tensor([[  0., 100., -inf]]), tensor([1]))
    """

    def compare(self, image_embeds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (batch, max_candidates), padded with minus infinity, and the answers' positions (batch,)."""
        candidates, image_embeds = labels[:, 1:], functional.normalize(image_embeds, dim=-1).unsqueeze(-1)
        # (batch, max_candidates, embed_dim) @ (batch, embed_dim, 1)
        logits = self.logit_scale * (self.weight[candidates.clamp(min=0)] @ image_embeds).squeeze(-1)
        return logits.masked_fill(candidates < 0, -torch.inf), labels[:, 0]

    def loss(self, image_embeds: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of image embeddings (batch, embed_dim), each against its own candidates."""
        logits, positions = self.compare(image_embeds, labels)
        return masked_cross_entropy(logits, positions, labels[:, 1:] < 0, label_smoothing=label_smoothing)


def member_rows(groups: Sequence[Sequence[Hashable]], names: Sequence[Hashable]) -> Tensor:
    """Return the row indices of each class, shape (num_classes, max_rows), in a head with one row per name.

    Example:
        >>> member_rows([["bike", "tandem"], ["car"]], ["car", "bike", "tandem"])
        tensor([[1, 2],
                [0, 0]])
    """
    row, longest = {name: index for index, name in enumerate(names)}, max(map(len, groups))
    return torch.tensor([[row[name] for name in [*group, *[group[0]] * (longest - len(group))]] for group in groups])


class JointHead(ZeroShotHead):
    """The heads of several tasks, concatenated. Labels count through the classes of all tasks in order.

    The logits cover all classes, but the loss compares an image only with the classes of its own task.

    Args:
        heads: Heads of the tasks, all built from the same model.

    Raises:
        InputError: If the heads have different logit scales.

    Example:
        >>> joint = JointHead([ZeroShotHead(torch.eye(2), torch.tensor(100.0)) for task in ("first", "second")])
        >>> image_embeds = torch.tensor([[3.0, 0.0]])  # just like class 0 of each task
        >>> joint(image_embeds)
        tensor([[100.,   0., 100.,   0.]])
        >>> joint.loss(image_embeds, torch.tensor([2]))
        tensor(0.)
    """

    task_ids: Tensor

    def __init__(self, heads: Sequence[ZeroShotHead]) -> None:
        scale = heads[0].logit_scale
        if not all(torch.equal(head.logit_scale, scale) for head in heads):
            raise InputError("The heads have different logit scales. Build all of them from the same model.")
        super().__init__(torch.cat([head.weight for head in heads]), scale)
        sizes = torch.tensor([len(head.weight) for head in heads])
        self.register_buffer("task_ids", torch.arange(len(heads)).repeat_interleave(sizes))  # (num_classes,)

    def loss(self, image_embeds: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of a batch, with a softmax over the classes of each image's task."""
        first = labels if labels.dim() == 1 else labels[:, 0]  # all classes of an image belong to one task
        others = self.task_ids != self.task_ids[first].unsqueeze(1)  # (batch, num_classes)
        return masked_cross_entropy(self(image_embeds), labels, others, label_smoothing=label_smoothing)
