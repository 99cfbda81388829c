"""ZoeDepth's heads: relative depth, then metres by the bins of one domain or of several.

B batch, C channels of the fused maps, F features of the relative head, H×W the output's size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.model.families.zoedepth.bins import (
    BinRule,
    ConditionalLogBinomial,
    PixelMLP,
    depth_from_bins,
)
from dptcli.model.families.zoedepth.config import NUM_REFINEMENTS, Domain, ZoeDepthConfig
from dptcli.model.families.zoedepth.patch_transformer import DomainClassifier, PatchTransformer
from dptcli.model.heads import Head
from dptcli.model.layers import GrowBilinear

SEED_HIDDEN_SIZE = 256  # fixed in the reference where there is one domain,
PROJECTOR_HIDDEN_SIZE = 128  # and this one too
ROUTED_ATTRACTORS = 16  # with several domains, the reference always takes as many at each step


class RelativeHead(Head):
    """Relative depth, and the features that it comes from, at twice the fused map's size."""

    def __init__(self, config: ZoeDepthConfig) -> None:
        super().__init__()
        channels, num_features = config.fusion_hidden_size, config.num_relative_features
        self.index = config.head_in_index
        self.projection: nn.Conv2d | None = None
        if config.add_projection:
            self.projection = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv1 = nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1)
        self.grow = GrowBilinear()
        self.conv2 = nn.Conv2d(channels // 2, num_features, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(num_features, 1, kernel_size=1)

    def tail(self) -> tuple[nn.Conv2d | None, Sequence[nn.Module]]:
        return self.conv1, [self.conv2, self.conv3]

    def forward(self, fused: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fused maps (B, C, h, w) -> relative depth (B, 2h, 2w), features (B, F, 2h, 2w)."""
        x = fused[self.index]
        if self.projection is not None:
            x = F.relu(self.projection(x))
        x = self.grow(self.conv1(x))
        features = F.relu(self.conv2(x))
        return F.relu(self.conv3(features)).squeeze(1), features


class MetricHead(Head):
    """Metres by the bins of a single domain."""

    def __init__(self, config: ZoeDepthConfig) -> None:
        super().__init__()
        (domain,) = config.domains
        channels, embedding = config.bottleneck_features, config.bin_embedding_dim
        self.rule = rule_of(config, domain)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=1)
        self.seed_bin_regressor = PixelMLP(channels, hidden=SEED_HIDDEN_SIZE, out=domain.num_bins)
        self.seed_projector = PixelMLP(channels, hidden=PROJECTOR_HIDDEN_SIZE, out=embedding)
        self.projectors = nn.ModuleList(
            PixelMLP(config.fusion_hidden_size, hidden=PROJECTOR_HIDDEN_SIZE, out=embedding)
            for _ in range(NUM_REFINEMENTS)
        )
        self.attractors = attractor_layers(config, config.num_attractors)
        self.conditional_log_binomial = ConditionalLogBinomial(
            config,
            channels=config.num_relative_features + 1,
            num_bins=domain.num_bins,
            shrink=2,
        )

    def forward(
        self,
        bottleneck: Tensor,
        blocks: Sequence[Tensor],
        features: Tensor,
        relative_depth: Tensor,
    ) -> tuple[Tensor, None]:
        """Depth (B, H, W) in metres; there is no domain to choose.

        bottleneck: the coarsest map before fusion (B, C, h, w); blocks: fused maps; features
        (B, F, H, W) and relative_depth (B, H, W): the relative head's.
        """
        depth_m = depth_from_bins(
            self.conv2(bottleneck),
            blocks,
            torch.cat((features, relative_depth.unsqueeze(1)), dim=1),
            rule=self.rule,
            seed=self.seed_bin_regressor,
            seed_projector=self.seed_projector,
            projectors=self.projectors,
            attractors=self.attractors,
            weigh=self.conditional_log_binomial,
        )
        return depth_m, None


class RoutedMetricHead(Head):
    """Metres by the bins of the domain that a small transformer chooses for each image."""

    def __init__(self, config: ZoeDepthConfig) -> None:
        super().__init__()
        channels, embedding = config.bottleneck_features, config.bin_embedding_dim
        hidden, width = embedding // 2, config.patch_transformer_hidden_size or 0
        domains = {domain.name: domain for domain in config.domains}
        self.rules = {name: rule_of(config, domain) for name, domain in domains.items()}
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=1)
        self.patch_transformer = PatchTransformer(config)
        self.mlp_classifier = DomainClassifier(width, num_domains=len(domains))
        self.seed_bin_regressors = nn.ModuleDict(
            {
                name: PixelMLP(channels, hidden=hidden, out=domain.num_bins)
                for name, domain in domains.items()
            }
        )
        self.seed_projector = PixelMLP(channels, hidden=hidden, out=embedding)
        self.projectors = nn.ModuleList(
            PixelMLP(config.fusion_hidden_size, hidden=hidden, out=embedding)
            for _ in range(NUM_REFINEMENTS)
        )
        self.attractors = nn.ModuleDict(
            {
                name: attractor_layers(config, [ROUTED_ATTRACTORS] * NUM_REFINEMENTS)
                for name in domains
            }
        )
        self.conditional_log_binomial = nn.ModuleDict(
            {
                name: ConditionalLogBinomial(
                    config,
                    channels=config.num_relative_features,
                    num_bins=domain.num_bins,
                    shrink=4,
                )
                for name, domain in domains.items()
            }
        )

    def forward(
        self,
        bottleneck: Tensor,
        blocks: Sequence[Tensor],
        features: Tensor,
        relative_depth: Tensor,  # noqa: ARG002  # as MetricHead's, which uses it
    ) -> tuple[Tensor, Tensor]:
        """Depth (B, H, W) in metres and the domains' scores (B, domains); see MetricHead.

        Each image goes its own way. The reference lets the batch vote, so that an image's depth
        depends on its neighbours; with one image at a time both agree.
        """
        x = self.conv2(bottleneck)
        domain_logits = self.mlp_classifier(self.patch_transformer(x)[:, 0])
        chosen = domain_logits.argmax(dim=-1)
        depth_m = features.new_empty((len(features), *features.shape[-2:]))
        for index, name in enumerate(self.rules):
            rows = (chosen == index).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            depth_m[rows] = depth_from_bins(
                x[rows],
                [block[rows] for block in blocks],
                features[rows],
                rule=self.rules[name],
                seed=self.seed_bin_regressors[name],
                seed_projector=self.seed_projector,
                projectors=self.projectors,
                attractors=self.attractors.get_submodule(name).children(),
                weigh=self.conditional_log_binomial[name],
            )
        return depth_m, domain_logits


def rule_of(config: ZoeDepthConfig, domain: Domain) -> BinRule:
    """The rule that a configuration gives to a domain."""
    return BinRule(
        domain=domain,
        normed=config.bin_centers_type == "normed",
        takes_mean=config.attractor_kind == "mean",
    )


def attractor_layers(config: ZoeDepthConfig, num_attractors: Sequence[int]) -> nn.ModuleList:
    """One layer of attractors for each refinement."""
    channels = config.bin_embedding_dim
    points = rule_of(config, config.domains[0]).points_per_attractor
    return nn.ModuleList(
        PixelMLP(channels, hidden=channels, out=points * number) for number in num_attractors
    )
