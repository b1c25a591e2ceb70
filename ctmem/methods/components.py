"""Methods that sharpen one grey image at a time: the principal components of a scene's spectra, one after the other.

Whatever sharpens photographs sharpens a hyperspectral image that way, whatever its band count: `per_component`. Two
that learn from examples are here as well: `knn` takes them from training ground, `knn-reference` from the reference.
`prior` is `ctmem.prior.component_prior` with the shipped weights. It finishes with back-projection by itself, as far as
the camera's noise lets; `prior-bp` does so to the end.

Source: example-based super-resolution after Freeman, Jones and Pasztor, 2002; the residual factors are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ctmem.checks import Count, Image, fail, typed
from ctmem.data.samples import Degraded
from ctmem.diffusion.subspace import Subspace, fit
from ctmem.holes import fill_holes, split_holes, whole_pixels
from ctmem.match.patches import fold, turned, unfold
from ctmem.methods.registry import Entry, Method, Setting, register_maker
from ctmem.observe.camera import Camera
from ctmem.prior import component_prior

Grey = Callable[[torch.Tensor, Camera], torch.Tensor]  # (N, 1, h, w) → (N, 1, scale·h, scale·w), deviation about 1

CHANNELS = 8  # components that are sharpened; the others are enlarged bicubically
PATCH = 8  # of examples, fine pixels
QUERY_STRIDE = 2  # between the patches that ask
EXAMPLES = 20_000  # kept, at most
NEIGHBOURS = 32  # averaged


@typed
def per_component(grey: Grey, *, channels: Count = CHANNELS, fitted: bool = True) -> Callable[[Setting], Method]:
    """Returns what makes a method of a function on grey images: `register_maker("mine", Entry(per_component(f)))`.

    Each component is enlarged by the function and back-projected; what this adds to the back-projected bicubic one
    counts with a factor per component. The factors are fitted by least squares on the training ground of the `Setting`;
    without any they are 1.

    Args:
        grey: (N, 1, h, w) and the camera → (N, 1, scale·h, scale·w); each image has about mean 0 and deviation 1.
        channels: how many components are sharpened.
        fitted: False: factors of 1 in any case.
    """

    def make(setting: Setting) -> Method:
        factors = _residual_factors(grey, setting.training, channels) if fitted else torch.ones(channels)

        def method(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> torch.Tensor:  # noqa: ARG001  (the form of all methods)
            lr_hsi, holes = split_holes(lr_hsi, "lr_hsi")
            space, base, added = _sharpened(grey, lr_hsi, camera, channels, holes)
            lr_hsi_up = camera.upsample(lr_hsi)
            weights = factors[: space.channels].reshape(1, -1, 1, 1).to(added)
            return lr_hsi_up + space.decode_difference(base + weights * added - space.encode(lr_hsi_up))

        return method

    return make


def _sharpened(
    grey: Grey, lr_hsi: torch.Tensor, camera: Camera, channels: int, holes: torch.Tensor | None = None
) -> tuple[Subspace, torch.Tensor, torch.Tensor]:
    """The subspace of an image, its components back-projected, and what the function adds to these, (1, Z, H, W)."""
    space = fit(whole_pixels(lr_hsi, holes), channels)
    z = space.encode(lr_hsi).transpose(0, 1)
    holes = None if holes is None else holes.expand(len(z), -1, -1, -1)
    base, sharp = (
        camera.back_project(x, z, holes=holes).transpose(0, 1) for x in (camera.upsample(z), grey(z, camera))
    )
    return space, base, sharp - base


def _residual_factors(grey: Grey, training: Sequence[Degraded], channels: int) -> torch.Tensor:
    """The factor of each component, (channels,), that fits what is added to what is missing on training ground."""
    products = torch.zeros(2, channels)
    for one in training:
        lr_hsi, holes = split_holes(one.lr_hsi, "lr_hsi")
        space, base, added = _sharpened(grey, lr_hsi, one.camera, channels, holes)
        missing = (space.encode(split_holes(one.gt, "gt")[0]) - base).masked_fill(one.holes, 0)
        pair = torch.stack([(added * missing).sum((0, 2, 3)), added.square().sum((0, 2, 3))])
        products[:, : space.channels] += pair
    return torch.where(products[1] > 0, products[0] / products[1].clamp_min(1e-12), torch.ones(channels))


# --- nearest neighbours -----------------------------------------------------------------------------------------------


class Examples:
    """Pairs of patches: what the blur shows, and what it took away, both over the contrast of the former.

    Args:
        pairs: (sharp, blurred) grey images (N, 1, H, W), any sizes.
        most: examples kept, drawn at random.
    """

    @typed
    def __init__(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], most: int = EXAMPLES):
        shown = []
        missing = []
        # every image in its eight turns; so many of each that all together are not much more than is kept
        share = max(1, most // (8 * len(pairs)))
        generator = torch.Generator().manual_seed(0)
        for sharp, blurred in pairs:
            for k in range(8):
                low, high = (turned(x, k) for x in (blurred, sharp - blurred))
                low, contrast = _standard(unfold(low, PATCH, 2).flatten(0, 1).flatten(1))
                high = unfold(high, PATCH, 2).flatten(0, 1).flatten(1) / contrast
                kept = torch.randperm(len(low), generator=generator)[:share]
                shown.append(low[kept])
                missing.append(high[kept])
        self.shown = torch.cat(shown)  # (n, P²)
        self.missing = torch.cat(missing)

    @typed
    def detail(self, z_up: Image) -> torch.Tensor:
        """What is missing of upsampled grey images (N, 1, H, W): the mean of the nearest examples', signs free."""
        patches = unfold(z_up, PATCH, QUERY_STRIDE)
        query, contrast = _standard(patches.flatten(0, 1).flatten(1))
        found = torch.cat([self._mean_of_nearest(part) for part in query.split(512)])
        detail = (found * contrast).unflatten(0, patches.shape[:2]).unflatten(2, (1, PATCH, PATCH))
        height, width = z_up.shape[2:]
        return fold(detail, (height, width), QUERY_STRIDE)

    def _mean_of_nearest(self, query: torch.Tensor) -> torch.Tensor:
        """(m, P²) of (m, P²): an example and its negative are equally good, for a component has no sign."""
        likeness = query @ self.shown.T
        best = likeness.abs().topk(min(NEIGHBOURS, len(self.shown)), dim=1).indices
        signs = likeness.gather(1, best).sign()
        return (signs[..., None] * self.missing[best]).mean(1)


def _standard(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (n, P²) with mean 0 and deviation 1, and their contrast (n, 1)."""
    centred = patches - patches.mean(1, keepdim=True)
    contrast = centred.square().mean(1, keepdim=True).sqrt().clamp_min(1e-3)
    return centred / contrast, contrast


def _knn(setting: Setting) -> Method:
    """Examples from the principal components of training ground."""
    if not setting.training:
        fail("method", "one that needs no training ground, 'knn-reference' say", "'knn' without any")
    pairs = []
    for one in setting.training:
        lr_hsi, holes = split_holes(one.lr_hsi, "lr_hsi")
        space = fit(whole_pixels(lr_hsi, holes), CHANNELS)
        gt = split_holes(one.gt, "gt")[0]
        lr_hsi_up = one.camera.upsample(lr_hsi)
        pairs.append((space.encode(gt).transpose(0, 1), space.encode(lr_hsi_up).transpose(0, 1)))
    examples = Examples(pairs)
    return per_component(lambda z, camera: _enlarged(z, camera, examples), fitted=False)(setting)


def _knn_reference(setting: Setting) -> Method:
    """Examples from the bands of the reference; without one, bicubic upsampling."""

    def method(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> torch.Tensor:
        if ref_msi is None:
            return camera.upsample(split_holes(lr_hsi, "lr_hsi")[0])
        bands = fill_holes(ref_msi, "ref_msi")[0].transpose(0, 1)
        bands = (bands - bands.mean((2, 3), keepdim=True)) / bands.std((2, 3), keepdim=True).clamp_min(1e-6)
        examples = Examples([(bands, camera.blur(bands))])
        sharpened = per_component(lambda z, camera: _enlarged(z, camera, examples), fitted=False)(setting)
        return sharpened(lr_hsi, ref_msi, camera)

    return method


def _enlarged(z: torch.Tensor, camera: Camera, examples: Examples) -> torch.Tensor:
    """Coarse grey images enlarged bicubically, with the detail of the examples."""
    up = camera.upsample(z)
    return up + examples.detail(up)


def _prior(lr_hsi: torch.Tensor, ref_msi: torch.Tensor | None, camera: Camera) -> torch.Tensor:  # noqa: ARG001  (the form of all methods)
    """The prior from open imagery."""
    return component_prior(lr_hsi, camera=camera)


register_maker("prior", Entry(lambda setting: _prior, uses_reference=False, holes=True))
register_maker("knn", Entry(_knn, uses_reference=False, holes=True))
register_maker(
    "knn-reference", Entry(_knn_reference, blind_to=("negative", "permuted"), holes=True)
)  # either sign, single bands
