"""Doors: which there are, that whoever reads numbers is one, that nothing is read twice, and what all of them accept."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from ctmem import checks
from ctmem.config import TINY, MatchConfig
from ctmem.data.areas import crops, split_areas
from ctmem.data.mat_tree import read_mat_tree, write_mat_tree
from ctmem.data.samples import UnpairedPatches, degrade_scene
from ctmem.data.scenes import synthetic
from ctmem.diffusion.encoding import encode_image
from ctmem.diffusion.problem import residual_std
from ctmem.diffusion.samplers import sample
from ctmem.diffusion.schedule import Schedule
from ctmem.diffusion.subspace import Subspace, fit
from ctmem.evaluation import metrics
from ctmem.evaluation.tables import compare
from ctmem.explorers.recording import record
from ctmem.holes import fill_holes
from ctmem.inference import encode, super_resolve
from ctmem.match import align, matching, patches
from ctmem.match import dmb as stage
from ctmem.match.texture_library import TextureLibrary
from ctmem.model import Model, build_networks, load_model
from ctmem.networks.component_prior import ComponentPrior
from ctmem.networks.kernel_net import KernelNet
from ctmem.networks.residual_cnn import ResidualCNN
from ctmem.observe import optics, responses
from ctmem.observe.camera import Camera
from ctmem.observe.estimate import estimate_camera, estimate_fwhm, estimate_snr_db
from ctmem.observe.kernel import PsfKernel, impulse_response, train_kernel
from ctmem.prior import component_prior
from ctmem.tiling.answering import Recipe, Spread, answer, deviation
from ctmem.tiling.references import prepare_reference

PACKAGE = Path(checks.__file__).parent
READERS = {"as_image", "as_srf", "as_psf", "check_finite"}  # what reads numbers through
DOORS = [
    "data.areas.crops",
    "data.areas.split_areas",
    "data.mat_tree.read_mat_tree",
    "data.mat_tree.write_mat_tree",
    "data.samples.Degraded.cut",
    "data.samples.UnpairedPatches.__init__",
    "data.samples.degrade_scene",
    "diffusion.encoding.encode_image",
    "diffusion.problem.residual_std",
    "diffusion.samplers.sample",
    "diffusion.subspace.Subspace.encode",
    "diffusion.subspace.fit",
    "evaluation.metrics.cc",
    "evaluation.metrics.ergas",
    "evaluation.metrics.evaluate",
    "evaluation.metrics.psnr_per_band",
    "evaluation.metrics.rmse",
    "evaluation.metrics.sam_map",
    "evaluation.metrics.ssim",
    "evaluation.metrics.uiqi",
    "evaluation.tables.compare",
    "explorers.degradation.DegradationExplorer.__init__",
    "explorers.match.MatchExplorer.__init__",
    "explorers.recording.record",
    "holes.fill_holes",
    "inference.encode",
    "inference.super_resolve",
    "match.align.gradient_magnitude",
    "match.align.match_radiometry",
    "match.align.prepare_query",
    "match.align.prepare_reference",
    "match.dmb.dmb",
    "match.dmb.prepare",
    "match.dmb.texture",
    "match.matching.cut_match",
    "match.matching.match",
    "match.matching.similarity_map",
    "match.patches.fold",
    "match.patches.unfold",
    "match.texture_library.TextureLibrary.build",
    "match.texture_library.TextureLibrary.texture",
    "model.build_networks",
    "model.load_model",
    "networks.kernel_net.KernelNet.forward",
    "networks.residual_cnn.ResidualCNN.forward",
    "networks.tcmm.TCMM.condition",
    "observe.camera.Camera.adjoint",
    "observe.camera.Camera.back_project",
    "observe.camera.Camera.observe",
    "observe.camera.Camera.see",
    "observe.estimate.estimate_camera",
    "observe.estimate.estimate_fwhm",
    "observe.estimate.estimate_snr_db",
    "observe.kernel.impulse_response",
    "observe.kernel.train_kernel",
    "observe.optics.add_noise",
    "observe.optics.blur",
    "observe.optics.blur_down",
    "observe.optics.blur_on_grid",
    "observe.optics.gaussian_psf",
    "observe.optics.upsample",
    "observe.responses.apply_srf",
    "observe.responses.band_edges",
    "observe.responses.box_srf",
    "observe.responses.srf_matrix",
    "prior.component_prior",
    "tiling.answering.answer",
    "tiling.answering.deviation",
    "tiling.references.prepare_reference",
]


# --- which there are ---


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function and method of a module, by its dotted name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if isinstance(node, ast.FunctionDef):
                yield within + node.name, node
            yield from functions(node, f"{within}{node.name}.")


def is_door(function: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "door" for mark in function.decorator_list)


def called(function: ast.FunctionDef) -> list[ast.Call]:
    return [node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]


def reads_through(call: ast.Call) -> bool:
    """Whether a call reads the numbers of an image: `as_image(…, finite=False)` does not."""
    options = {option.arg: option.value for option in call.keywords}
    lets_pass = "finite" in options and ast.unparse(options["finite"]) == "False"
    return call.func.id in READERS and not lets_pass


def test_these_are_all_doors():
    for path in modules():
        importlib.import_module(".".join(("ctmem", *path.relative_to(PACKAGE).with_suffix("").parts)))
    found = {name for name in checks.DOORS if name.startswith("ctmem.")}
    found.discard("ctmem.checks.half")  # the example of a docstring, where that was run in the same session
    assert sorted(found) == [f"ctmem.{name}" for name in DOORS]
    assert sorted(DOORS) == DOORS


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_whoever_reads_numbers_is_a_door_or_the_helper_of_one(path):
    if path.name == "checks.py":
        return
    for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
        if any(map(reads_through, called(function))) and not is_door(function):
            last = name.rpartition(".")[2]
            assert last == "__post_init__" or (last.startswith("_") and not last.startswith("__")), (path.name, name)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_function_that_only_hands_on_is_no_door(path):
    """If it were, the door behind it would trust what nobody has read."""
    for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if is_door(function) and len(body) == 1 and isinstance(body[0], ast.Return):
            found = {call.func.id for call in called(function)}
            assert found & READERS, (path.name, name)


# --- nothing is read twice ---


class Scans(TorchFunctionMode):
    """Counts how often each tensor is read through for NaN; keeps them alive, so that no memory is used twice."""

    def __init__(self):
        super().__init__()
        self.counts, self.kept = Counter(), []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in ("isfinite", "isnan", "isinf", "aminmax"):
            self.kept.append(args[0])
            self.counts[args[0].data_ptr(), args[0].numel()] += 1
        return function(*args, **(kwargs or {}))


CAMERA = Camera.gaussian(scale=4).for_wavelengths(synthetic(0).wavelengths_nm)
SMALL = dataclasses.replace(
    TINY,
    timesteps=20,
    cnn_width=8,
    match=dataclasses.replace(TINY.match, top_k=4, hard_k=2),
    denoiser=dataclasses.replace(TINY.denoiser, width=8, state=2, cim_blocks=1),
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def model() -> Model:
    """Random weights whose last layer is not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = build_networks(SMALL)
        torch.nn.init.normal_(networks["denoiser"].fusion[-1].weight, std=0.05)
    return Model(SMALL, **{part: net.eval().requires_grad_(False) for part, net in networks.items()}, card={})


@pytest.mark.parametrize("kind", ["none", "reference", "list", "library", "another camera", "several draws"])
def test_super_resolution_reads_every_tensor_at_most_once(model, kind):
    lr_hsi, first, second = random(1, 31, 6, 8), random(1, 4, 20, 30, seed=1), random(1, 4, 25, 19, seed=2)
    library = TextureLibrary.build({"first": first, "second": second}, model.kernel, SMALL.match)
    reference = {"none": None, "list": [first, second], "library": library}.get(kind, first)
    camera = dataclasses.replace(Camera.gaussian(7.0, 4), srf=CAMERA.srf) if kind == "another camera" else CAMERA
    options = {"draws": 3, "steps": 2, "uncertainty": True} if kind == "several draws" else {}
    with warnings.catch_warnings(), Scans() as scans:
        warnings.simplefilter("ignore", RuntimeWarning)
        super_resolve(model, lr_hsi, reference, camera=camera, generator=seeded(), **options)
    assert scans.counts[lr_hsi.data_ptr(), lr_hsi.numel()] == 1  # it is read
    assert max(scans.counts.values()) == 1
    pixels = 24 * 32
    large = sum(count for (_, size), count in scans.counts.items() if size >= pixels)
    assert large <= {"none": 2, "library": 6, "list": 16}.get(
        kind, 9
    )  # and little else, such as what a sampler returns


def test_a_metric_reads_each_image_once_however_many_are_asked_for():
    pred, target = random(2, 3, 12, 20), random(2, 3, 12, 20, seed=1)
    with Scans() as scans:
        metrics.evaluate(pred, target, scale=4)
    assert scans.counts[pred.data_ptr(), pred.numel()] == scans.counts[target.data_ptr(), target.numel()] == 1


# --- what all of them accept ---

X = random(1, 7, 12, 20)
LOW = random(1, 7, 3, 5, seed=1)
MSI = random(1, 2, 18, 22, seed=2)
FINE = random(1, 2, 48, 52, seed=4)
SRF = torch.full((2, 7), 1 / 7)
SEEN = Camera.gaussian(scale=4, srf=SRF)
PSF = SEEN.psf
MATCH = MatchConfig(patch=4, stride=2, top_k=3, hard_k=2)
QUERY = random(1, 2, 12, 20, seed=3)
FOUND = matching.match(QUERY, MSI, patch=4, stride=2, top_k=3)
SPACE = fit(X, 4)
TALL = {"pred": random(2, 3, 12, 20), "target": random(2, 3, 12, 20, seed=1)}


def soften(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x + 0.5 * x.mean((2, 3), keepdim=True)


def network(kind: type, *args: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(*args)


PRIOR = network(ComponentPrior, 16, 1, 1)
RECIPE = Recipe(
    method="bicubic-bp", camera=SEEN, mean=torch.full((7,), 0.5), directions=torch.eye(7), std=torch.ones(7),
    noise=torch.zeros(7), damping=torch.full((7,), 0.1), factors=torch.ones(2), good=torch.ones(7, dtype=torch.bool),
    spread=Spread(torch.ones(2), torch.ones(2), torch.ones(7)),
)  # fmt: skip
NM = np.arange(400.0, 1001, 20)


def written(folder: Path, **images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """A tree of one sample, written and read again."""
    count = sum(1 for _ in folder.iterdir())
    write_mat_tree(folder / str(count), "train", [{role: image[0] for role, image in images.items()}])
    return list(read_mat_tree(folder / str(count), "train"))


def trained(x: torch.Tensor, y: torch.Tensor) -> dict:
    options = {"steps": 2, "crop": None, "batch": 1, "generator": seeded()}
    return train_kernel(PsfKernel(4), [x], [y], val_sharp=[QUERY], val_blurry=[QUERY], **options)


# door → (what is called, its images by the names that errors call them); m: the model, f: an empty folder
TAKES_IMAGES = {
    "data.mat_tree.write_mat_tree": (
        lambda m, f, a, b, c: written(f, gt=a, lr_hsi=b, ref_msi=c),
        {"samples[0]['gt']": X, "samples[0]['lr_hsi']": LOW, "samples[0]['ref_msi']": MSI},
    ),
    "data.samples.UnpairedPatches.__init__": (
        lambda m, f, r: UnpairedPatches(degrade_scene(X, SEEN), [crops(split_areas(72, 88, SEEN)["train"], 8, 8)[0]], [r])[0],
        {"references[0]": MSI},
    ),
    "data.samples.degrade_scene": (lambda m, f, x: degrade_scene(x, SEEN), {"scene": X}),
    "diffusion.encoding.encode_image": (
        lambda m, f, a, b, c: encode_image(a, b, c, SEEN, TINY.denoiser),
        {"lr_hsi": LOW, "lr_hsi_up": SEEN.upsample(LOW), "texture": random(1, 8, 12, 20)},
    ),
    "diffusion.problem.residual_std": (lambda m, f, a, b: residual_std(a, b), {"target": X, "base": X.flip(2)}),
    "diffusion.samplers.sample": (
        lambda m, f, x: sample(lambda x_t, level, previous: previous, x, Schedule.linear(20), steps=2, generator=seeded()),
        {"x0_start": X},
    ),
    "diffusion.subspace.Subspace.encode": (lambda m, f, x: SPACE.encode(x), {"x": X}),
    "diffusion.subspace.fit": (lambda m, f, x: fit(x, 3).std, {"lr_hsi": X}),
    "evaluation.metrics.cc": (lambda m, f, a, b: metrics.cc(a, b), TALL),
    "evaluation.metrics.ergas": (lambda m, f, a, b: metrics.ergas(a, b, scale=4), TALL),
    "evaluation.metrics.evaluate": (lambda m, f, a, b: metrics.evaluate(a, b, scale=4), TALL),
    "evaluation.metrics.psnr_per_band": (lambda m, f, a, b: metrics.psnr_per_band(a, b), TALL),
    "evaluation.metrics.psnr_db": (lambda m, f, a, b: metrics.psnr_db(a, b), TALL),
    "evaluation.metrics.rmse": (lambda m, f, a, b: metrics.rmse(a, b), TALL),
    "evaluation.metrics.sam_map": (lambda m, f, a, b: metrics.sam_map(a, b), TALL),
    "evaluation.metrics.sam_deg": (lambda m, f, a, b: metrics.sam_deg(a, b), TALL),
    "evaluation.metrics.ssim": (lambda m, f, a, b: metrics.ssim(a, b), TALL),
    "evaluation.metrics.uiqi": (lambda m, f, a, b: metrics.uiqi(a, b), TALL),
    "evaluation.tables.compare": (
        lambda m, f, a, b: compare({"a": a}, b, scale=4),
        {"predictions['a']": TALL["pred"], "gt": TALL["target"]},
    ),
    "explorers.recording.record": (
        lambda m, f, x: record(m, x, steps=2, draws=2, generator=seeded()),
        {"lr_hsi": random(1, 31, 3, 5)},
    ),
    "holes.fill_holes": (lambda m, f, x: fill_holes(x), {"image": X}),
    "inference.encode": (
        lambda m, f, x, r: encode(m, x, r, camera=CAMERA),
        {"lr_hsi": random(1, 31, 3, 5), "ref_msi": random(1, 4, 18, 22)},
    ),
    "inference.super_resolve": (
        lambda m, f, x, r: super_resolve(m, x, r, camera=CAMERA, steps=2, generator=seeded()),
        {"lr_hsi": random(1, 31, 3, 5), "ref_msi": random(1, 4, 18, 22)},
    ),
    "match.align.gradient_magnitude": (lambda m, f, x: align.gradient_magnitude(x), {"x": X}),
    "match.align.match_radiometry": (
        lambda m, f, a, b: align.match_radiometry(a, b),
        {"reference": MSI, "query": QUERY},
    ),
    "match.align.prepare_query": (lambda m, f, x: align.prepare_query(x, soften), {"query": QUERY}),
    "match.align.prepare_reference": (lambda m, f, x: align.prepare_reference(x, soften), {"ref_msi": MSI}),
    "match.dmb.dmb": (
        lambda m, f, x, r: stage.dmb(x, r, SEEN, MATCH, blur=soften)[0],
        {"lr_hsi_up": X, "ref_msi": MSI},
    ),
    "match.dmb.prepare": (
        lambda m, f, x, r: stage.prepare(x, r, SEEN, MATCH, blur=soften),
        {"lr_hsi_up": X, "ref_msi": MSI},
    ),
    "match.dmb.texture": (
        lambda m, f, q, s, b: stage.texture(FOUND, q, s, b, hard_k=2),
        {"query": QUERY, "sharp_reference": MSI, "blurred_reference": MSI.flip(2)},
    ),
    "match.texture_library.TextureLibrary.build": (
        lambda m, f, r: TextureLibrary.build({"a": r}, soften, MATCH).blurred,
        {"references['a']": MSI},
    ),
    "match.texture_library.TextureLibrary.texture": (
        lambda m, f, x: TextureLibrary.build({"a": MSI}, soften, MATCH).texture(x, SEEN, blur=soften)[0],
        {"lr_hsi_up": X},
    ),
    "match.matching.cut_match": (lambda m, f, x: matching.cut_match(FOUND, x), {"image": MSI}),
    "match.matching.match": (
        lambda m, f, q, r: matching.match(q, r, patch=4, stride=3).scores,
        {"query": QUERY, "reference": MSI},
    ),
    "match.matching.similarity_map": (
        lambda m, f, q, r: matching.similarity_map(q[0, :, :4, :4], r),
        {"query_patch": QUERY, "reference": MSI},
    ),
    "match.patches.unfold": (lambda m, f, x: patches.unfold(x, 4, 3), {"image": X}),
    "networks.kernel_net.KernelNet.forward": (lambda m, f, x: network(KernelNet, 2, 16)(x), {"x": X}),
    "networks.residual_cnn.ResidualCNN.forward": (lambda m, f, x: network(ResidualCNN, 7, 8, 1)(x), {"base": X}),
    "networks.tcmm.TCMM.condition": (
        lambda m, f, a, b: m.denoiser.condition(a, b),
        {"base": random(1, 8, 12, 20), "texture": random(1, 32, 12, 20)},
    ),
    "observe.camera.Camera.adjoint": (lambda m, f, y: SEEN.adjoint(y), {"y": LOW}),
    "observe.camera.Camera.back_project": (lambda m, f, a, b: SEEN.back_project(a, b), {"pred": X, "lr_hsi": LOW}),
    "observe.camera.Camera.blur": (lambda m, f, x: SEEN.blur(x), {"x": X}),
    "observe.camera.Camera.downsample": (lambda m, f, x: SEEN.downsample(x), {"x": X}),
    "observe.camera.Camera.observe": (lambda m, f, x: SEEN.observe(x), {"gt": X}),
    "observe.camera.Camera.see": (lambda m, f, x: SEEN.see(x), {"x": X}),
    "observe.camera.Camera.upsample": (lambda m, f, x: SEEN.upsample(x), {"x": X}),
    "observe.estimate.estimate_camera": (
        lambda m, f, x, r: estimate_camera(x, r, camera=SEEN).psf,
        {"lr_hsi": X, "ref_msi": FINE},
    ),
    "observe.estimate.estimate_fwhm": (
        lambda m, f, x, r: torch.tensor(estimate_fwhm(x, r, camera=SEEN)),
        {"lr_hsi": X, "ref_msi": FINE},
    ),
    "observe.estimate.estimate_snr_db": (lambda m, f, x: torch.tensor(estimate_snr_db(x)), {"lr_hsi": X}),
    "observe.kernel.impulse_response": (
        lambda m, f, x: impulse_response(SEEN, x, radius=3),
        {"image": X},
    ),
    "observe.kernel.PsfKernel.forward": (lambda m, f, x: PsfKernel(4)(x), {"x": X}),
    "observe.kernel.train_kernel": (lambda m, f, a, b: trained(a, b), {"sharp": QUERY, "blurry": QUERY.flip(2)}),
    "observe.optics.add_noise": (lambda m, f, x: optics.add_noise(x, 30, generator=seeded()), {"x": X}),
    "observe.optics.blur": (lambda m, f, x: optics.blur(x, torch.full((3, 3), 1 / 9)), {"x": X}),
    "observe.optics.blur_down": (lambda m, f, x: optics.blur_down(x, PSF, 4), {"x": X}),
    "observe.optics.blur_on_grid": (lambda m, f, x: optics.blur_on_grid(x, PSF, 4), {"x": X}),
    "observe.optics.upsample": (lambda m, f, x: optics.upsample(x, 2), {"x": X}),
    "observe.responses.apply_srf": (lambda m, f, x: responses.apply_srf(x, SRF), {"x": X}),
    "prior.component_prior": (
        lambda m, f, x: component_prior(x, camera=SEEN, weights=PRIOR),
        {"lr_hsi": LOW},
    ),
    "tiling.answering.answer": (lambda m, f, x: answer(RECIPE, x), {"lr": LOW}),
    "tiling.answering.deviation": (lambda m, f, x: deviation(RECIPE, x), {"lr": LOW}),
    "tiling.references.prepare_reference": (
        lambda m, f, x: prepare_reference(x, NM, sensor="landsat8", gsd_m=5, wanted_gsd_m=5).image,
        {"image": random(1, 4, 12, 20)},
    ),
}  # fmt: skip
TAKES_NONE = [
    "data.areas.crops",
    "data.areas.split_areas",
    "data.mat_tree.read_mat_tree",
    "data.samples.Degraded.cut",
    "match.patches.fold",
    "model.build_networks",
    "model.load_model",
    "observe.optics.gaussian_psf",
    "observe.responses.band_edges",
    "observe.responses.box_srf",
    "observe.responses.srf_matrix",
]
ELSEWHERE = ["explorers.degradation.DegradationExplorer.__init__", "explorers.match.MatchExplorer.__init__"]
every_door = pytest.mark.parametrize("door", TAKES_IMAGES)


def numbers(result: object) -> Iterator[torch.Tensor]:
    """All floating-point numbers in what a door returned, as tensors, in order."""
    if isinstance(result, torch.Tensor | np.ndarray):
        found = torch.as_tensor(result)
        if found.is_floating_point():
            yield found
    elif isinstance(result, float):
        yield torch.tensor(result, dtype=torch.float64)
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from numbers(value)
    elif isinstance(result, list | tuple):
        for value in result:
            yield from numbers(value)
    elif dataclasses.is_dataclass(result):
        yield from numbers([getattr(result, field.name) for field in dataclasses.fields(result)])


def test_every_door_is_in_one_of_the_lists():
    assert sorted({*DOORS} - TAKES_IMAGES.keys()) == sorted(TAKES_NONE + ELSEWHERE)


BAD = {
    "whole numbers": lambda x: (255 * x).to(torch.int64),
    "bytes": lambda x: (255 * x).numpy().astype(np.uint8),
    "truth values": lambda x: x > 0.5,
    "complex numbers": lambda x: x.to(torch.complex64),
    "a complex array": lambda x: x.numpy().astype(np.complex128),
}


@pytest.mark.parametrize("kind", BAD)
@every_door
def test_images_of_other_numbers_are_a_type_error_that_names_the_argument(model, tmp_path, door, kind):
    call, images = TAKES_IMAGES[door]
    for name in images:
        spoiled = [BAD[kind](image) if other == name else image for other, image in images.items()]
        with pytest.raises(TypeError) as error:
            call(model, tmp_path, *spoiled)
        assert str(error.value).startswith(f"`{name}` must be a floating-point tensor "), str(error.value)


KINDS = {
    "float16": (lambda x: x.half(), torch.float16),
    "bfloat16": (lambda x: x.bfloat16(), torch.bfloat16),
    "float64": (lambda x: x.double(), torch.float64),
    "float16 array": (lambda x: x.half().numpy(), torch.float16),
    "float32 array": (lambda x: x.numpy(), torch.float32),
    "float64 array": (lambda x: x.double().numpy(), torch.float64),
}


@pytest.mark.parametrize("kind", KINDS)
@every_door
def test_images_of_any_precision_give_the_answer_of_single_precision(model, tmp_path, door, kind):
    """Of the very numbers that are given: half precision is rounded before, not on the way."""
    change, precision = KINDS[kind]
    call, images = TAKES_IMAGES[door]
    given = call(model, tmp_path, *(change(image) for image in images.values()))
    plain = call(model, tmp_path, *(image.to(precision).float() for image in images.values()))
    found, wanted = list(numbers(given)), list(numbers(plain))
    assert found and len(found) == len(wanted)
    for one, other in zip(found, wanted):
        if precision == torch.float64:  # which operators keep
            torch.testing.assert_close(one.double(), other.double(), atol=1e-4, rtol=1e-3)
        else:
            assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("whole", [np.int64, np.int32, np.uint8])
def test_whole_numbers_may_be_numpys(model, whole):
    lr_hsi = random(1, 31, 3, 5)
    numbers_of = {"steps": 2, "draws": 2, "tile": 16}
    one, other = (
        super_resolve(model, lr_hsi, generator=seeded(), **{name: kind(value) for name, value in numbers_of.items()})
        for kind in (int, whole)
    )
    assert torch.equal(one, other)
    assert torch.equal(optics.blur_down(X, PSF, whole(4)), SEEN.downsample(X))
    assert torch.equal(optics.upsample(X, whole(2)), optics.upsample(X, 2))
    assert torch.equal(optics.gaussian_psf(4.0, size=whole(12), scale=whole(4)), PSF)
    assert Camera(PSF, whole(4)).to_dict() == dataclasses.replace(SEEN, srf=None, sensor=None).to_dict()
    assert split_areas(whole(145), whole(145), SEEN) == split_areas(145, 145, SEEN)
    options = {"patch": 4, "stride": 2, "top_k": 3, "query_stride": 4}
    again = matching.match(QUERY, MSI, **{name: whole(value) for name, value in options.items()})
    assert torch.equal(again.windows, FOUND.windows)
    assert torch.equal(patches.unfold(X, whole(4), whole(3)), patches.unfold(X, 4, 3))
    assert metrics.ergas(**TALL, scale=whole(4)).tolist() == metrics.ergas(**TALL, scale=4).tolist()
    assert fit(X, whole(3)).channels == 3


@pytest.fixture(params=["double", "meta", "both"])
def other_defaults(request):
    """A program that has set torch's defaults, and what is usual afterwards."""
    generator = seeded()  # made while all is usual: a program has its own on the CPU
    try:
        if request.param != "meta":
            torch.set_default_dtype(torch.float64)
        if request.param != "double":
            torch.set_default_device("meta")
        yield generator
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def usual() -> dict[str, object]:
    """What is computed with the usual defaults of torch."""
    shipped = load_model("tiny")
    lr_hsi, ref_msi = random(1, 31, 6, 8), random(1, 4, 30, 21, seed=1)
    library = TextureLibrary.build({"a": ref_msi}, shipped.kernel, MATCH)
    images = {"lr_hsi": lr_hsi, "ref_msi": ref_msi, "texture": library.sharp[0]}
    return images | {"answer": computed(images, seeded())}


def computed(images: dict[str, torch.Tensor], generator: torch.Generator) -> list[torch.Tensor]:
    """Weights, their camera, a response, answers, a library and metrics, in whatever surroundings."""
    model = load_model("tiny")
    camera = model.camera.for_wavelengths(synthetic(0).wavelengths_nm)
    pred, std = super_resolve(
        model, images["lr_hsi"], images["ref_msi"], camera=camera, steps=2, draws=2, uncertainty=True,
        generator=generator,
    )  # fmt: skip
    library = TextureLibrary.build({"a": images["ref_msi"]}, model.kernel, MATCH)
    texture, _ = library.texture(pred, camera, blur=model.kernel)
    low = camera.observe(pred)
    scores = metrics.evaluate(pred, pred.flip(2), scale=4)
    space = Subspace.identity(3, torch.device("cpu"))
    found = [pred, std, texture, low, camera.see(pred), camera.psf, camera.srf, camera.blur(low), camera.upsample(low)]
    found += [metrics.psnr_db(pred, pred.flip(2)), metrics.sam_deg(pred, pred.flip(2)), space.encode(pred[:, :3])]
    found += [camera.adjoint(low), camera.back_project(pred, low)]
    found += [p for network in (model.kernel, model.cnn, model.denoiser) for p in network.parameters()]
    return [*found, *(float(value) for value in scores.values()), *camera.fwhm_px]


USUAL = usual()


def test_the_defaults_that_a_program_sets_for_torch_change_nothing(other_defaults):
    found = computed(USUAL, other_defaults)
    assert len(found) == len(USUAL["answer"])
    for one, other in zip(found, USUAL["answer"]):
        if isinstance(one, float):
            assert one == other
        else:
            assert (one.dtype, one.device) == (other.dtype, other.device)
            assert torch.equal(one, other)
