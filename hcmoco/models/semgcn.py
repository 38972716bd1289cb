"""The skeleton encoder: a semantic graph convolution network over one joint set.

Shape suffixes: B batch, J joints, C channels, N entries of the adjacency.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hcmoco.config import Config
from hcmoco.data.joint_set import JointSet


class SkeletonConfig(Config):
    """Size of the skeleton encoder; the defaults are the paper's."""

    renamed: ClassVar = {"blocks": "num_blocks"}

    width: int = Field(default=128, ge=1, description="channels of the hidden layers")
    num_blocks: int = Field(default=4, ge=0, description="residual blocks of two graph convolutions each")
    init: str | None = Field(
        default=None, min_length=1, description="weights file, in our key names or SemGCN's; null: fresh weights"
    )

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. Without `init` it is what it was before there was such a key."""
        named = super().identity()
        return {key: value for key, value in named.items() if key != "init" or value is not None}


class GraphConv(nn.Module):
    """Semantic graph convolution (Zhao et al., CVPR 2019): one matrix for a joint itself, one for its neighbors,
    learned edge weights.

    The learned weight of each pair (i, j) that is an edge or i = j goes through a softmax over row i, which gives the
    adjacency A; the output is diag(A) X W[0] + offdiag(A) X W[1] + b.
    """

    pairs: Tensor  # int64 [2, N], the entries of the adjacency: rows, columns

    def __init__(self, joint_set: JointSet, inputs: int, outputs: int):
        super().__init__()
        directed = [(i, i) for i in range(len(joint_set))] + [
            pair for a, b in joint_set.edge_indices for pair in ((a, b), (b, a))
        ]
        self.register_buffer("pairs", torch.tensor(sorted(directed)).T.contiguous(), persistent=False)
        self.joints = len(joint_set)
        self.weight = nn.Parameter(torch.empty(2, inputs, outputs))
        self.edges = nn.Parameter(torch.ones(len(directed)))
        self.bias = nn.Parameter(torch.empty(outputs))
        # On the three-dimensional tensor, as published: the bound is 1.414 sqrt(6 / (outputs (inputs + 2))),
        # far below that of each matrix.
        nn.init.xavier_uniform_(self.weight, gain=1.414)
        nn.init.uniform_(self.bias, -(outputs**-0.5), outputs**-0.5)

    def forward(self, x_BJC: Tensor) -> Tensor:
        rows, columns = self.pairs.unbind()
        logits_JJ = self.edges.new_full((self.joints, self.joints), -torch.inf).index_put((rows, columns), self.edges)
        adjacency_JJ = logits_JJ.softmax(dim=1)
        own_J = adjacency_JJ.diagonal()
        neighbors_JJ = adjacency_JJ - torch.diag(own_J)
        return own_J[:, None] * (x_BJC @ self.weight[0]) + neighbors_JJ @ (x_BJC @ self.weight[1]) + self.bias


class GraphLayer(nn.Module):
    """Graph convolution, batch normalization over batch and joints, ReLU."""

    def __init__(self, joint_set: JointSet, inputs: int, outputs: int):
        super().__init__()
        self.conv = GraphConv(joint_set, inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x_BJC: Tensor) -> Tensor:
        y_BJC = self.conv(x_BJC)
        return F.relu(self.norm(y_BJC.flatten(0, 1)).view_as(y_BJC))


class SemGCN(nn.Module):
    """The paper's E_s (section 3.4): normalized 2D keypoints to one feature per joint.

    With 128 channels, 4 blocks and the 16 joints of MPII it has 299,468 parameters.

    Args:
        joint_set: a joint set with a skeleton graph; ValueError without one.
        outputs: channels of the features.
    """

    def __init__(self, joint_set: JointSet, config: SkeletonConfig, outputs: int = 128):
        super().__init__()
        if not joint_set.edges:
            raise ValueError(f"joint set {joint_set.name} has no skeleton graph to convolve over")
        self.joint_set = joint_set
        self.stem = GraphLayer(joint_set, 2, config.width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                GraphLayer(joint_set, config.width, config.width), GraphLayer(joint_set, config.width, config.width)
            )
            for _ in range(config.num_blocks)
        )
        self.head = GraphConv(joint_set, config.width, outputs)

    def forward(self, keypoints_BJ2: Tensor) -> Tensor:
        """[B, J, 2] (row, column), root-relative and scaled to [-1, 1], invisible joints zero -> features [B, J,
        outputs]."""
        x_BJC = self.stem(keypoints_BJ2)
        for block in self.blocks.children():
            x_BJC = x_BJC + block(x_BJC)
        return self.head(x_BJC)
