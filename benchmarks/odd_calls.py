"""Odd calls: every public function with one argument at a time that nobody should hand in. Some minutes.

    python benchmarks/odd_calls.py [NAME …]     # parts of names; numbers N and M: every Nth call, from the Mth on

`CALLS` has one valid call of each; each of its arguments in turn is replaced by odd values of all kinds, under limits of
memory and time. Writes results/odd_calls.md; `tests/test_odd_calls.py` runs a share of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import math
import re
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ctmem import course, files, holes, inference, model, prior, teaching
from ctmem.benchmark import cameras as told
from ctmem.benchmark import judge, scores, weights
from ctmem.config import TINY, CameraConfig, DenoiserConfig, MatchConfig, Preset, TrainConfig
from ctmem.data import areas, controls, known_scenes, mat_tree, public, samples, scenes
from ctmem.diffusion import encoding, problem, samplers, schedule, subspace
from ctmem.evaluation import metrics, plots, tables
from ctmem.explorers import band, degradation, diffusion, matched, observation, recording, render, tiles, view
from ctmem.explorers import match as match_explorer
from ctmem.match import agreement, align, detail, dmb, matching, patches, placing, search, texture_library
from ctmem.methods import components, fusion, registry
from ctmem.networks import blur_width, component_prior, kernel_net, mamba, plain_scan, residual_cnn, tcmm, variants
from ctmem.networks.scan import selective
from ctmem.observe import camera as cameras
from ctmem.observe import estimate, kernel, noise, optics, responses
from ctmem.own_scene import files as own_files
from ctmem.raster import checking, opening, raster, writing, xarrays
from ctmem.reading import arrays
from ctmem.reading import numbers as reading
from ctmem.tiling import answering, blur, recipe, references
from ctmem.tiling import plan as plans
from ctmem.tiling import run as runs
from ctmem.tiling import survey as surveys

SECONDS, MEGABYTES = 5, 1000
HOUSE = re.compile(r"^`([A-Za-z_][^`]*)`(?: and `[^`]*`)* must be ")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- one valid call of each -------------------------------------------------------------------------------------------

Calls = dict[str, tuple[Callable[..., Any], dict[str, Any]]]


def soften(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x + 0.5 * x.mean((2, 3), keepdim=True)


def small_model() -> model.Model:
    """Untrained networks, small ones."""
    preset = dataclasses.replace(
        TINY, timesteps=20, cnn_width=8, match=dataclasses.replace(TINY.match, top_k=4, hard_k=2),
        denoiser=dataclasses.replace(TINY.denoiser, width=8, state=2, cim_blocks=1),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = model.build_networks(preset)
    return model.Model(preset, **{part: net.eval().requires_grad_(False) for part, net in networks.items()}, card={})


def settings(config: Any) -> dict[str, Any]:
    """What a class of settings is made of."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _written_again(write: Callable[..., None], root: str, **arguments: Any) -> None:
    """Calls `write` on a folder that is not there."""
    if isinstance(root, str | Path) and "\0" not in str(root) and Path(root).name == "again":
        shutil.rmtree(root, ignore_errors=True)
    write(root=root, **arguments)


def _started(*, dtype: Any = None, no_data: Any = None, **arguments: Any) -> tuple[Any, ...]:
    """What a writer says of the file that it was to write."""
    started = writing.create_raster(dtype=dtype, no_data=no_data, **arguments)
    with contextlib.suppress(KeyboardInterrupt), started as writer:
        raise KeyboardInterrupt
    return writer.layout.dtype, writer.layout.no_data, writer.path


def calls(folder: Path) -> Calls:
    """Name → (function, arguments) of a valid call; what is written goes to `folder`."""
    nm = scenes.synthetic(0).wavelengths_nm
    m = small_model()
    cam = cameras.Camera.gaussian(scale=4).for_wavelengths(nm)
    x, low, msi = image(1, 7, 12, 20), image(1, 7, 3, 5, seed=1), image(1, 2, 18, 22, seed=2)
    query, fine = image(1, 2, 12, 20, seed=3), image(1, 2, 48, 52, seed=4)
    srf = torch.full((2, 7), 1 / 7)
    seen = cameras.Camera.gaussian(scale=4, srf=srf)
    config = MatchConfig(patch=4, stride=2, top_k=3, hard_k=2)
    found = matching.match(query, msi, patch=4, stride=2, top_k=3)
    prepared = dmb.prepare(x, msi, seen, config, blur=soften)
    library = texture_library.TextureLibrary.build({"a": msi}, soften, config)
    library.save(folder / "library.safetensors")
    space = subspace.fit(x, 4)
    scene = scenes.synthetic(0, height=12, width=16)
    hsi, ref = image(1, 31, 3, 5), image(1, 4, 18, 22, seed=5)
    encoded = inference.encode(m, hsi, ref, camera=cam)[0]
    chain = schedule.Schedule.linear(20)
    degraded = samples.degrade_scene(x, seen)
    run = recording.record(m, hsi, camera=cam, steps=2, draws=2, generator=seeded())
    got = matched.Matched(prepared, config)
    pair = {"pred": image(2, 3, 12, 20), "target": image(2, 3, 12, 20, seed=1)}
    rows = tables.compare({"a": pair["pred"]}, pair["target"], scale=4)
    tables.write_table(rows, folder / "rows.csv")
    np.save(folder / "cube.npy", x[0].permute(1, 2, 0).numpy())
    np.savez(folder / "cubes.npz", cube=x[0].permute(1, 2, 0).numpy(), other=np.ones((3, 4, 5), np.float32))
    opened = opening.open_raster(folder / "cubes.npz", key="cube", axes="HWC")
    tiled = answering.Recipe(
        "bicubic-bp", cam, torch.zeros(7), torch.eye(7)[:, :2], torch.ones(2), torch.zeros(2), torch.zeros(2),
        torch.ones(2), torch.ones(7, dtype=torch.bool), reach=2,
    )  # fmt: skip
    (folder / "numbers.txt").write_text("400 1\n500 2\n600 3\n", encoding="utf-8")
    shipped = files.data_path("weights/tiny/card.json").parent
    sample = {"gt": x[0], "lr_hsi": low[0], "ref_msi": msi[0]}
    mat_tree.write_mat_tree(folder, "train", [sample])
    condition = m.denoiser.condition(encoded.base, encoded.texture)
    tile = tiles.tiles(got, 2, [0, 1])[0]
    holed = (x > 2)[:, :1]
    prior_net = component_prior.ComponentPrior(16, 1, 1)
    oracle = lambda x_t, level, previous: previous
    crop = areas.Box(0, 0, 8, 8)
    tokens = image(1, 6, 4)
    _, axes = plots.grid(1, 1)
    setting = registry.Setting(m, generator=seeded())
    plain = seen.to_dict()
    example = components.Examples([(image(1, 1, 8, 8), image(1, 1, 8, 8, seed=1))])
    asked = problem.DenoisingProblem.of(m.denoiser, encoded.base, encoded.texture)
    cube = scene.cube
    (folder / "responses.csv").write_text("wavelength_nm,response,band\n500,1,a\n520,1,a\n", encoding="utf-8")
    recipe_ = answering.Recipe(
        method="bicubic-bp", camera=seen, mean=torch.full((7,), 0.5), directions=torch.eye(7), std=torch.ones(7),
        noise=torch.zeros(7), damping=torch.full((7,), 0.1), factors=torch.ones(2), good=torch.ones(7) > 0,
        spread=answering.Spread(torch.ones(2), torch.ones(2), torch.ones(7)),
    )  # fmt: skip
    surveyed = SimpleNamespace(
        count=240, mean=x[0].mean((1, 2)).double(), covariance=x[0].flatten(1).cov().double(), good=torch.ones(7) > 0,
        level=1.0, samples=[x],
    )  # fmt: skip
    return {
        # data
        "areas.Box": (areas.Box, {"top": 0, "left": 4, "height": 8, "width": 8}),
        "areas.Box.overlaps": (crop.overlaps, {"other": areas.Box(0, 4, 8, 8), "halo": 1}),
        "areas.Box.coarse": (crop.coarse, {"scale": 4}),
        "areas.split_areas": (areas.split_areas, {"height": 145, "width": 145, "camera": seen, "at_least": 8}),
        "areas.crops": (areas.crops, {"area": crop, "crop": 4, "stride": 4}),
        "controls.uniform": (controls.uniform, {"like": x, "generator": seeded()}),
        "controls.pink": (controls.pink, {"like": x, "generator": seeded()}),
        "controls.blobs": (controls.blobs, {"like": x, "generator": seeded()}),
        "controls.permuted": (controls.permuted, {"image": x, "generator": seeded()}),
        "controls.glued_windows": (controls.glued_windows, {"image": x, "generator": seeded()}),
        "controls.negative": (controls.negative, {"image": x, "generator": seeded()}),
        "controls.phase_scrambled": (controls.phase_scrambled, {"image": x, "generator": seeded()}),
        "controls.blurred": (controls.blurred, {"image": x, "generator": seeded()}),
        "controls.shifted": (controls.shifted, {"image": x, "down": 0.5, "across": 1.5}),
        "controls.tilted": (controls.tilted, {"image": x, "degrees": 3.0, "stretch": 1.1}),
        "samples.degrade_scene": (samples.degrade_scene, {"scene": x, "camera": seen, "generator": seeded()}),
        "samples.Degraded.cut": (degraded.cut, {"box": crop}),
        "samples.Degraded.to": (degraded.to, {"device": "cpu"}),
        "samples.UnpairedPatches": (
            samples.UnpairedPatches,
            {"scene": degraded, "boxes": [crop], "references": [msi]},
        ),
        "scenes.load_scene": (scenes.load_scene, {"name": "sentinel2_farmland"}),
        "scenes.synthetic": (
            scenes.synthetic,
            {"seed": 0, "height": 12, "width": 16, "bands": 5, "endmembers": 3, "range_nm": (420.0, 900.0)},
        ),
        "scenes.Scene": (
            scenes.Scene,
            {"name": "a", "cube": x[0].permute(1, 2, 0).numpy(), "wavelengths_nm": nm[:7], "gsd_m": 10.0,
             "bad_bands": (1, 2), "sensor": "a", "licence": "b", "citation": "c", "units": "d"},
        ),
        "known_scenes.describe": (known_scenes.describe, {"name": "chikusei"}),
        "known_scenes.response_for": (known_scenes.response_for, {"wavelengths_nm": np.linspace(420, 900, 40)}),
        "public.verify": (public.verify, {"path": str(folder / "cubes.npz:cube"), "name": "cave"}),
        "files.inspect_file": (
            own_files.inspect_file,
            {"path": str(folder / "cubes.npz"), "references": [], "scale": 2, "method": "bicubic", "psf": 2.0,
             "noise": 40, "sensor": None, "key": "cube", "axes": "HWC", "wavelengths_nm": nm[:7], "no_data": -9999.0,
             "bands": None, "gsd_m": 30.0, "tile": 16, "memory_gb": 3.0},
        ),
        "scenes.read_scene": (
            scenes.read_scene,
            {"path": str(folder / "cubes.npz"), "key": "cube", "wavelengths_nm": nm[:7], "gsd_m": 10.0, "white": 1.0,
             "name": "a", "no_data": -9999.0, "axes": "HWC", "bands": 7},
        ),
        "arrays.read_array": (
            arrays.read_array,
            {"path": str(folder / "cubes.npz"), "key": "cube", "axes": "HWC"},
        ),
        "opening.open_raster": (
            opening.open_raster,
            {"path": str(folder / "cubes.npz"), "key": "cube", "axes": "HWC", "wavelengths_nm": nm[:7],
             "no_data": -9999.0, "bands": (0, 2, 1), "gsd_m": 10.0},
        ),
        "checking.flag_empty_bands": (checking.flag_empty_bands, {"raster": opened}),
        "raster.Bands": (
            raster.Bands,
            {"good": np.ones(7, bool), "wavelengths_nm": nm[:7], "fwhm_nm": nm[:7], "names": tuple("abcdefg")},
        ),
        "raster.Bands.pick": (opened.bands.pick, {"bands": [0, 2]}),
        "raster.Raster.read": (opened.read, {"top": 1, "left": 2, "height": 3, "width": 4, "bands": [0, 2]}),
        "raster.Raster.window": (opened.window, {"top": 1, "left": 2, "height": 3, "width": 4}),
        "raster.Raster.pick": (opened.pick, {"bands": [0, "2"]}),
        "writing.create_raster": (
            _started,
            {"path": str(folder / "new.tif"), "like": opened, "scale": 2, "dtype": "float32", "no_data": -1.0,
             "overwrite": True, "keep": False, "resume": False},
        ),
        "xarrays.to_xarray": (xarrays.to_xarray, {"raster": opened}),
        "xarrays.from_xarray": (xarrays.from_xarray, {"cube": xarrays.to_xarray(opened), "name": "a"}),
        "numbers.read_numbers": (reading.read_numbers, {"path": str(folder / "numbers.txt")}),
        "mat_tree.read_mat_tree": (mat_tree.read_mat_tree, {"root": str(folder), "split": "train"}),
        "mat_tree.write_mat_tree": (
            functools.partial(_written_again, mat_tree.write_mat_tree),
            {"root": str(folder / "again"), "split": "train", "samples": [sample]},
        ),
        "scenes.Scene.crop": (scene.crop, {"top": 0, "left": 0, "height": 4, "width": 4}),
        # tiling
        "plan.plan_tiles": (plans.plan_tiles, {"height": 10, "width": 7, "scale": 4, "tile": 4, "halo": 2}),
        "plan.tile_for": (
            plans.tile_for,
            {"bands": 5, "scale": 3, "halo": 2, "memory_gb": 2.0, "images": 1},
        ),
        "plan.tile_of": (
            plans.tile_of,
            {"bands": 5, "answer": answering.answer, "scale": 3, "halo": 2, "memory_gb": 2.0, "images": 1},
        ),
        "survey.survey": (surveys.survey, {"raster": opened, "at_once": 4000, "progress": print, "warn": False}),
        "run.unfinished": (runs.unfinished, {"out": str(folder / "sr.tif")}),
        "run.sharpen_to": (
            runs.sharpen_to,
            {"out": str(folder / "sr.tif"), "raster": opened, "recipe": tiled, "inputs": {"a": "b"}, "dtype": "float32",
             "overwrite": True, "resume": False, "tile": 8, "halo": 2, "memory_gb": 2.0, "answer": answering.answer,
             "progress": lambda done, total: None},
        ),
        # observe
        "camera.Camera": (
            cameras.Camera,
            {"psf": seen.psf, "scale": 4, "srf": srf, "sensor": "sentinel2a", "snr_db": 30.0,
             "bands": ("B02", "B03")},
        ),
        "camera.Camera.gaussian": (
            cameras.Camera.gaussian,
            {"fwhm_px": 4.0, "scale": 4, "srf": srf, "sensor": "sentinel2a", "snr_db": 30.0, "bands": ("B02", "B03")},
        ),
        "camera.Camera.from_config": (cameras.Camera.from_config, {"config": CameraConfig()}),
        "camera.Camera.for_wavelengths": (seen.for_wavelengths, {"wavelengths_nm": nm}),
        "camera.Camera.to": (seen.to, {"device": "cpu"}),
        "camera.Camera.observe": (seen.observe, {"gt": x, "generator": seeded()}),
        "camera.Camera.see": (seen.see, {"x": x}),
        "camera.Camera.downsample": (seen.downsample, {"x": x}),
        "camera.Camera.adjoint": (seen.adjoint, {"y": low}),
        "camera.Camera.upsample": (seen.upsample, {"x": low}),
        "camera.Camera.blur": (seen.blur, {"x": x}),
        "camera.Camera.back_project": (
            seen.back_project,
            {"pred": x, "lr_hsi": low, "steps": 3, "at_least": 1, "tolerance": 0.1},
        ),
        "camera.Camera.consistent": (seen.consistent, {"pred": x, "lr_hsi": low}),
        "camera.Camera.response": (seen.response, {"name": "camera"}),
        "camera.Camera.same_optics": (seen.same_optics, {"other": cam}),
        "camera.Camera.differences": (seen.differences, {"other": cam}),
        "camera.Camera.from_dict": (cameras.Camera.from_dict, {"plain": plain}),
        "optics.gaussian_psf": (optics.gaussian_psf, {"fwhm_px": 4.0, "size": 12, "scale": 4}),
        "optics.blur": (optics.blur, {"x": x, "psf": torch.full((3, 3), 1 / 9)}),
        "optics.blur_down": (optics.blur_down, {"x": x, "psf": seen.psf, "scale": 4}),
        "optics.upsample": (optics.upsample, {"x": low, "scale": 4}),
        "optics.blur_on_grid": (optics.blur_on_grid, {"x": x, "psf": seen.psf, "scale": 4}),
        "optics.add_noise": (optics.add_noise, {"x": x, "snr_db": 30.0, "generator": seeded()}),
        "optics.adjoint": (optics.adjoint, {"operator": seen.downsample, "like": x}),
        "responses.load_rsr": (responses.load_rsr, {"sensor": "sentinel2a"}),
        "responses.band_edges": (responses.band_edges, {"wavelengths_nm": nm}),
        "responses.srf_matrix": (
            responses.srf_matrix,
            {"wavelengths_nm": nm, "sensor": "sentinel2a", "bands": ("B02", "B03")},
        ),
        "responses.box_srf": (
            responses.box_srf,
            {"wavelengths_nm": nm, "edges_nm": [(450.0, 600.0), (600.0, 900.0)]},
        ),
        "responses.apply_srf": (responses.apply_srf, {"x": x, "srf": srf}),
        "estimate.estimate_camera": (estimate.estimate_camera, {"lr_hsi": x, "ref_msi": fine, "camera": seen}),
        "estimate.estimate_fwhm": (estimate.estimate_fwhm, {"lr_hsi": x, "ref_msi": fine, "camera": seen}),
        "estimate.estimate_snr_db": (estimate.estimate_snr_db, {"lr_hsi": x}),
        "noise.noise_of_bands": (noise.noise_of_bands, {"images": [x]}),
        "answering.answer": (answering.answer, {"recipe": recipe_, "lr": low, "top": 0, "left": 0}),
        "answering.deviation": (answering.deviation, {"recipe": recipe_, "lr": low}),
        "recipe.make_recipe": (
            recipe.make_recipe,
            {"survey": surveyed, "scale": 2, "psf": "auto", "noise": "auto", "method": "bicubic-bp", "seed": 0},
        ),
        "references.prepare_reference": (
            references.prepare_reference,
            {"image": ref, "wavelengths_nm": nm, "name": "a", "sensor": "landsat8", "bands": ("B2", "B3", "B4", "B5"),
             "gsd_m": 10.0, "wanted_gsd_m": 5.0},
        ),
        "references.read_responses": (references.read_responses, {"path": folder / "responses.csv"}),
        "blur.blur_seen": (blur.blur_seen, {"components": [x[:, :3]], "noise": torch.zeros(3)}),
        "blur_width.features": (blur_width.features, {"z": image(2, 1, 9, 8), "noise": torch.zeros(2)}),
        "kernel.PsfKernel": (kernel.PsfKernel, {"scale": 4, "size": 12, "psf": None}),
        "kernel.PsfKernel.forward": (kernel.PsfKernel(4), {"x": x}),
        "kernel.impulse_response": (
            kernel.impulse_response,
            {"camera": seen, "image": x, "blur": soften, "radius": 3},
        ),
        "kernel.validation_l1": (
            kernel.validation_l1,
            {"blur": soften, "sharp": [query], "blurry": [query.flip(2)], "margin": 1},
        ),
        "kernel.train_kernel": (
            functools.partial(kernel.train_kernel, kernel.PsfKernel(4)),
            {"sharp": [query], "blurry": [query.flip(2)], "val_sharp": [query], "val_blurry": [query], "steps": 2,
             "crop": 8, "batch": 1, "margin": 1, "learning_rate": 0.01, "validate_every": 1, "generator": seeded(),
             "on_step": lambda step, loss: None},
        ),
        # match
        "align.gradient_magnitude": (align.gradient_magnitude, {"x": x, "border": "replicate"}),
        "align.fill_holes": (align.fill_holes, {"image": x, "name": "image"}),
        "align.match_radiometry": (align.match_radiometry, {"reference": msi, "query": query}),
        "align.to_standard": (align.to_standard, {"x": x}),
        "align.sharpen": (align.sharpen, {"blurry": x, "blur": soften, "steps": 2}),
        "align.prepare_reference": (
            align.prepare_reference,
            {"ref_msi": msi, "blur": soften, "radiometry": True, "sharpening": 1, "name": "ref_msi"},
        ),
        "align.prepare_query": (
            align.prepare_query,
            {"query": query, "blur": soften, "radiometry": True, "sharpening": 1},
        ),
        "patches.starts": (patches.starts, {"size": 12, "patch": 4, "stride": 2}),
        "patches.grid_shape": (patches.grid_shape, {"height": 12, "width": 20, "patch": 4, "stride": 2}),
        "patches.windows": (patches.windows, {"height": 12, "width": 20, "patch": 4, "stride": 2}),
        "patches.unfold": (patches.unfold, {"image": x, "patch": 4, "stride": 2}),
        "patches.fold": (
            patches.fold,
            {"patches": patches.unfold(x, 4, 4), "size": (12, 20), "stride": 4},
        ),
        "patches.turned": (patches.turned, {"x": x, "k": 3}),
        "patches.turn_back": (patches.turn_back, {"x": x, "k": 3}),
        "search.similarities": (
            search.similarities,
            {"query": image(5, 2, 4, 4), "candidates": image(6, 2, 4, 4, seed=1), "similarity": "zncc"},
        ),
        "matching.match": (
            matching.match,
            {"query": query, "reference": msi, "patch": 4, "stride": 2, "query_stride": 4, "similarity": "zncc",
             "turns": True, "top_k": 3, "or_all": True, "chunk_mb": 16},
        ),
        "matching.cut_match": (matching.cut_match, {"match": found, "image": msi, "rank": 1}),
        "matching.similarity_map": (
            matching.similarity_map,
            {"query_patch": query[0, :, :4, :4], "reference": msi, "stride": 1, "similarity": "zncc"},
        ),
        "dmb.texture": (
            dmb.texture,
            {"match": found, "query": query, "sharp_reference": msi, "blurred_reference": msi.flip(2),
             "temperature": 0.05, "relevel": True, "hard_k": 2, "gradient_border": "replicate", "chunk_mb": 16},
        ),
        "dmb.find": (dmb.find, {"prepared": prepared, "config": config, "chunk_mb": 16}),
        "dmb.hand_over": (
            dmb.hand_over,
            {"match": dmb.find(prepared, config), "prepared": prepared, "config": config, "chunk_mb": 16},
        ),
        "dmb.prepare": (
            dmb.prepare,
            {"lr_hsi_up": x, "ref_msi": msi, "camera": seen, "config": config, "blur": soften},
        ),
        "dmb.dmb": (dmb.dmb, {"lr_hsi_up": x, "ref_msi": msi, "camera": seen, "config": config, "blur": soften}),
        "agreement.vote": (agreement.vote, {"match": found, "temperature": 0.02, "most": 4}),
        "agreement.agree": (
            agreement.agree,
            {"match": dmb.find(prepared, config), "prepared": prepared, "blur": soften, "sharpening": 0, "most": 4},
        ),
        "agreement.lay": (
            agreement.lay,
            {"voted": [[agreement.Placement(0, 0, 1.0, 2.0, 0.5)]] * len(prepared.query), "prepared": prepared,
             "blur": soften, "sharpening": 0},
        ),
        "placing.Ground.of": (placing.Ground.of, {"image": msi, "srf": srf, "camera": seen}),
        "placing.Ground.places": (placing.Ground.of(msi, srf, seen).places, {"lr_hsi": low, "holes": None}),
        "placing.Ground.under": (placing.Ground.of(msi, srf, seen).under, {"lr_hsi": low, "holes": None}),
        "detail.local_detail": (
            detail.local_detail,
            {"blurry": query, "sharp": query.flip(2), "blurred": query.flip(3), "weight": query[:, :1]},
        ),
        "texture_library.TextureLibrary.build": (
            texture_library.TextureLibrary.build,
            {"references": {"a": msi}, "blur": soften, "config": config, "approximate_above": None, "factory": None,
             "nprobe": None},
        ),
        "texture_library.TextureLibrary.texture": (
            library.texture,
            {"lr_hsi_up": x, "camera": seen, "blur": soften, "chunk_mb": 16},
        ),
        "texture_library.TextureLibrary.save": (library.save, {"path": str(folder / "other.safetensors")}),
        "texture_library.TextureLibrary.load": (
            texture_library.TextureLibrary.load,
            {"path": str(folder / "library.safetensors")},
        ),
        # networks
        "mamba.MambaBlock": (mamba.MambaBlock, {"d_model": 8, "d_state": 4, "d_conv": 4, "expand": 2}),
        "mamba.CrossMambaBlock": (mamba.CrossMambaBlock, {"d_model": 8, "d_state": 4, "d_conv": 4, "expand": 2}),
        "plain_scan.PlainScan": (plain_scan.PlainScan, {"d_model": 8, "d_state": 4, "d_conv": 4}),
        "residual_cnn.ResidualCNN": (residual_cnn.ResidualCNN, {"channels": 4, "width": 8, "blocks": 1}),
        "residual_cnn.ResidualCNN.forward": (m.cnn, {"base": image(1, 8, 12, 20)}),
        "component_prior.ComponentPrior": (component_prior.ComponentPrior, {"width": 16, "blocks": 1, "head": 1}),
        "kernel_net.KernelNet": (kernel_net.KernelNet, {"bands": 2, "width": 16, "joint": False, "scale": 4}),
        "kernel_net.KernelNet.forward": (kernel_net.KernelNet(2, 16), {"x": query}),
        "tcmm.TCMM": (
            tcmm.TCMM,
            {"channels": 4, "texture_channels": 16, "config": m.preset.denoiser, "outputs": 4},
        ),
        "tcmm.TCMM.denoise": (
            m.denoiser.denoise,
            {"x_t": encoded.base, "noise_level": torch.tensor([0.5]), "x0_previous": encoded.base,
             "condition": condition},
        ),
        "tcmm.TCMM.forward": (
            m.denoiser,
            {"x_t": encoded.base, "noise_level": torch.tensor([0.5]), "x0_previous": encoded.base,
             "base": encoded.base, "texture": encoded.texture},
        ),
        "tcmm.TCMM.condition": (m.denoiser.condition, {"base": image(1, 8, 12, 20), "texture": image(1, 32, 12, 20)}),
        "selective.selective_scan": (
            selective.selective_scan,
            {"u": tokens, "delta": tokens + 0.1, "A": -image(4, 3, seed=1), "B": image(1, 6, 3), "C": image(1, 6, 3),
             "D": image(4), "backend": "torch"},
        ),
        "selective.backends": (selective.backends, {"device": "cpu"}),
        "variants.as_drawn": (variants.as_drawn, {"preset": TINY}),
        "variants.as_released": (variants.as_released, {"preset": TINY}),
        "variants.corrected": (variants.corrected, {"preset": TINY}),
        # diffusion
        "schedule.Schedule": (
            schedule.Schedule,
            {"signal": chain.signal, "sigma": chain.sigma, "times": chain.times},
        ),
        "schedule.Schedule.from_betas": (schedule.Schedule.from_betas, {"betas": image(5) / 10}),
        "schedule.Schedule.linear": (schedule.Schedule.linear, {"steps": 20, "first": 1e-4, "last": 0.02}),
        "schedule.Schedule.cosine": (schedule.Schedule.cosine, {"steps": 20, "offset": 0.008}),
        "schedule.Schedule.shifted": (schedule.Schedule.shifted, {"steps": 15, "kappa": 1.0, "power": 0.3}),
        "schedule.Schedule.geometric": (schedule.Schedule.geometric, {"steps": 9, "most": 20.0, "least": 0.02}),
        "schedule.Schedule.trailing": (chain.trailing, {"steps": 4, "start": 0.5}),
        "schedule.Schedule.take": (chain.take, {"times": [1, 5, 9]}),
        "schedule.make_schedule": (schedule.make_schedule, {"name": "cosine", "steps": 9}),
        "samplers.sample": (
            samplers.sample,
            {"denoise": oracle, "x0_start": x, "schedule": chain, "steps": 2, "sampler": samplers.sample_ddim,
             "start": 1.0, "prediction": "x0", "generator": seeded(), "callback": lambda *a: None},
        ),
        "subspace.fit": (subspace.fit, {"lr_hsi": x, "channels": 3}),
        "subspace.Subspace.identity": (subspace.Subspace.identity, {"bands": 3, "device": None}),
        "subspace.Subspace.encode": (space.encode, {"x": x}),
        "subspace.Subspace.decode": (space.decode, {"z": image(1, 4, 12, 20)}),
        "subspace.Subspace.decode_difference": (space.decode_difference, {"dz": image(1, 4, 12, 20)}),
        "encoding.encode_image": (
            encoding.encode_image,
            {"lr_hsi": low, "lr_hsi_up": seen.upsample(low), "texture": image(1, 8, 12, 20), "camera": seen,
             "config": TINY.denoiser},
        ),
        "problem.residual_std": (problem.residual_std, {"target": x, "base": x.flip(2)}),
        "problem.DenoisingProblem.of": (
            problem.DenoisingProblem.of,
            {"network": m.denoiser, "base": encoded.base, "texture": encoded.texture, "tile": 32},
        ),
        "problem.DenoisingProblem.draw": (
            asked.draw,
            {"schedule": chain, "steps": 1, "sampler": samplers.sample_ddim, "start": 1.0, "generator": seeded()},
        ),
        # evaluation
        **{f"metrics.{one}": (getattr(metrics, one), dict(pair)) for one in
           ("psnr_per_band", "psnr_db", "sam_map", "sam_deg", "ssim", "cc", "rmse", "uiqi")},
        "metrics.ergas": (metrics.ergas, pair | {"scale": 4}),
        "metrics.evaluate": (metrics.evaluate, pair | {"scale": 4, "metrics": ["psnr_db", "sam_deg"]}),
        "tables.compare": (
            tables.compare,
            {"predictions": {"a": pair["pred"]}, "gt": pair["target"], "scale": 4, "metrics": ["psnr_db"]},
        ),
        "tables.format_table": (tables.format_table, {"rows": rows}),
        "tables.write_table": (tables.write_table, {"rows": rows, "path": str(folder / "t.csv")}),
        "tables.read_table": (tables.read_table, {"path": str(folder / "rows.csv")}),
        "plots.grid": (plots.grid, {"rows": 1, "columns": 2, "size": (3.0, 3.0)}),
        "plots.to_array": (plots.to_array, {"image": x, "name": "image"}),
        "plots.rgb": (plots.rgb, {"image": hsi, "wavelengths_nm": nm, "bands": None, "like": hsi}),
        "plots.show_images": (
            plots.show_images,
            {"images": [x[0, 0].numpy()], "titles": ["a"], "label": "x", "columns": 2, "limits": (0.0, 1.0),
             "cmap": "viridis", "size": 2.0},
        ),
        "plots.plot_spectra": (
            plots.plot_spectra,
            {"wavelengths_nm": nm, "spectra": {"a": hsi[0, :, 0, 0].numpy()}, "ylabel": "radiance"},
        ),
        "plots.error_map": (
            plots.error_map,
            {"preds": {"a": x}, "target": x.flip(2), "label": "RMSE", "size": 2.0},
        ),
        "plots.loss_curve": (
            plots.loss_curve,
            {"curves": {"a": [1.0, 0.5]}, "xlabel": "step", "ylabel": "loss", "log": True},
        ),
        "plots.outline": (
            plots.outline,
            {"ax": axes.flat[0], "corner": (1, 2), "patch": 4, "colour": "red", "text": "a"},
        ),
        # model, inference, methods
        "model.build_networks": (model.build_networks, {"preset": m.preset, "bands": 31}),
        "model.load_model": (model.load_model, {"name": "tiny", "folder": None}),
        "model.load_model of a folder": (model.load_model, {"name": "tiny", "folder": str(shipped)}),
        "files.data_path": (files.data_path, {"name": "weights/tiny/card.json"}),
        "files.load_tensors": (
            files.load_tensors,
            {"path": str(folder / "library.safetensors"), "kind": "texture library"},
        ),
        "config.CameraConfig": (CameraConfig, settings(CameraConfig())),
        "config.MatchConfig": (MatchConfig, settings(MatchConfig())),
        "config.DenoiserConfig": (DenoiserConfig, settings(DenoiserConfig())),
        "config.TrainConfig": (TrainConfig, settings(TrainConfig())),
        "config.Preset": (Preset, settings(TINY)),
        "config.Preset.from_dict": (Preset.from_dict, {"plain": TINY.to_dict()}),
        "holes.fill_holes": (holes.fill_holes, {"image": x, "name": "image"}),
        "holes.open_holes": (holes.open_holes, {"image": x, "holes": holed}),
        "model.Model.to": (m.to, {"device": "cpu"}),
        "prior.component_prior": (
            prior.component_prior,
            {"lr_hsi": low, "camera": seen, "weights": prior_net, "consistency": True},
        ),
        "prior.load_prior": (prior.load_prior, {"folder": None}),
        "inference.super_resolve": (
            inference.super_resolve,
            {"model": m, "lr_hsi": hsi, "ref_msi": ref, "camera": cam, "psf": None, "method": "ctmem", "steps": 2,
             "draws": 2, "sampler": samplers.sample_ddim, "start": 1.0, "consistency": True, "tile": 64,
             "uncertainty": False, "rematch_every": 1, "generator": seeded(), "callback": lambda *a: None},
        ),
        "inference.encode": (inference.encode, {"model": m, "lr_hsi": hsi, "ref_msi": ref, "camera": cam}),
        "inference.draw": (
            inference.draw,
            {"model": m, "encoded": encoded, "steps": 1, "draws": 1, "sampler": samplers.sample_ddim, "start": 1.0,
             "tile": 64, "generator": seeded()},
        ),
        "inference.camera_for": (inference.camera_for, {"model": m, "camera": cam}),
        "inference.blur_of": (inference.blur_of, {"model": m, "camera": cam}),
        "registry.make_method": (registry.make_method, {"method": "bicubic", "setting": setting}),
        "registry.make_spread": (registry.make_spread, {"method": "fusion-bp", "setting": setting, "draws": 2}),
        "registry.bicubic": (registry.make_method("bicubic"), {"lr_hsi": hsi, "ref_msi": None, "camera": cam}),
        "registry.Setting": (registry.Setting, {"model": m, "training": [degraded], "generator": seeded()}),
        "registry.register_method": (
            registry.register_method,
            {"name": "odd-one", "function": lambda a, b, c: a, "uses_reference": False},
        ),
        "registry.from_numpy_pipeline": (registry.from_numpy_pipeline, {"function": lambda a, b, c, d: a}),
        "components.per_component": (
            components.per_component,
            {"grey": lambda a, b: a, "channels": 8, "fitted": True},
        ),
        "components.Examples.detail": (example.detail, {"z_up": image(1, 1, 8, 8)}),
        "fusion.fuse": (fusion.fuse, {"lr_hsi": hsi, "ref_msi": ref, "camera": cam}),
        # benchmark
        "cameras.parse_cameras": (told.parse_cameras, {"cameras": ["x2-fwhm3-snr30", "box"]}),
        "scores.scores": (scores.scores, {"pred": x, "gt": x.flip(2), "scale": 4}),
        "scores.without_truth": (
            scores.without_truth,
            {"pred": x, "lr_hsi": low, "camera": seen, "hr_msi": None, "qnr": False},
        ),
        "scores.resampled_psnr": (scores.resampled_psnr, {"pred": x, "gt": x.flip(2)}),
        "scores.interval": (scores.interval, {"differences": image(1001).double()}),
        "judge.judge": (
            judge.judge,
            {"answer": lambda low, fine: seen.upsample(low), "reference": x[:, :4], "areas": [degraded], "seeds": 1},
        ),
        "weights.find_weights": (weights.find_weights, {"folders": [shipped]}),
        # explorers
        "band.BandExplorer": (
            band.BandExplorer,
            {"cubes": {"a": cube, "b": cube}, "wavelengths_nm": nm, "target": "a", "unit": "radiance"},
        ),
        "band.absolute_error": (band.absolute_error, {"cube": cube, "target": cube, "band": 3}),
        "band.rms_error": (band.rms_error, {"cube": cube, "target": cube}),
        "band.checked_wavelengths": (band.checked_wavelengths, {"wavelengths_nm": nm, "bands": 31}),
        "degradation.DegradationExplorer": (
            degradation.DegradationExplorer,
            {"scene": scene, "camera": None, "wavelengths_nm": nm, "scale": 2, "fwhm": 2.0, "snr_db": 30,
             "sensor": "sentinel2a", "unit": "radiance"},
        ),
        "diffusion.DiffusionExplorer": (
            diffusion.DiffusionExplorer,
            {"run": run, "target": None, "wavelengths_nm": nm, "unit": "radiance"},
        ),
        "match.MatchExplorer": (
            match_explorer.MatchExplorer,
            {"lr_hsi": hsi, "ref_msi": ref, "camera": cam, "blur": soften, "wavelengths_nm": nm,
             "config": dataclasses.replace(MatchConfig(), patch=4), "unit": "radiance"},
        ),
        "observation.observed": (observation.observed, {"gt": x, "camera": seen}),
        "observation.upsampled_psnr_db": (
            observation.upsampled_psnr_db,
            {"lr_hsi": low, "gt": x, "camera": seen},
        ),
        "observation.trimmed": (observation.trimmed, {"x": x, "scale": 4}),
        "observation.enlarged": (observation.enlarged, {"plane": x[0, 0], "scale": 2}),
        "observation.on_fine_grid": (
            observation.on_fine_grid,
            {"coarse": x[0], "scale": 2, "size": (24, 40)},
        ),
        "recording.record": (
            recording.record,
            {"model": m, "lr_hsi": hsi, "ref_msi": None, "camera": cam, "steps": 1, "draws": 1,
             "sampler": samplers.sample_ddim, "start": 1.0, "tile": 64, "generator": seeded()},
        ),
        "recording.Recording.estimate": (run.estimate, {"draw": 0, "position": 1, "bands": [0, 1], "pixel": (1, 2)}),
        "recording.Recording.noisy": (run.noisy, {"draw": 0, "position": 1, "bands": [0, 1], "pixel": (1, 2)}),
        "recording.Recording.decode": (run.decode, {"z": run.x0[0, :1], "bands": [0, 1], "pixel": (1, 2)}),
        "recording.cut": (recording.cut, {"image": x, "bands": [0, 1], "pixel": (1, 2)}),
        "recording.Recording.mean_estimate": (run.mean_estimate, {"position": 1}),
        "recording.measure": (recording.measure, {"run": run, "target": image(1, 31, 12, 20)}),
        "recording.spread": (recording.spread, {"run": run}),
        "render.stretch": (render.stretch, {"plane": cube[..., 0]}),
        "render.quantise": (render.quantise, {"plane": cube[..., 0], "limits": (0.0, 1.0)}),
        "render.colours": (render.colours, {"image": cube[..., :3], "limits": [(0.0, 1.0)] * 3}),
        "render.palette": (render.palette, {"name": "viridis"}),
        "render.nearest_band": (render.nearest_band, {"wavelengths_nm": nm, "wanted_nm": 600.0}),
        "render.bands_of": (render.bands_of, {"name": "true colour", "wavelengths_nm": nm}),
        "render.normalised_difference": (render.normalised_difference, {"a": cube[..., 0], "b": cube[..., 1]}),
        "matched.Matched.at_temperature": (got.at_temperature, {"temperature": 0.1}),
        "matched.Matched.number_at": (got.number_at, {"row": 3, "column": 4}),
        "matched.Matched.takers": (got.takers, {"row": 3, "column": 4}),
        "matched.Matched.plane": (got.plane, {"number": 2}),
        "matched.Matched.apart": (got.apart, {"number": 2, "count": 2}),
        "tiles.composite": (tiles.composite, {"image": msi[0]}),
        "tiles.tiles": (tiles.tiles, {"matched": got, "number": 2, "ranks": [0, 1]}),
        "tiles.captions": (tiles.captions, {"matched": got, "number": 2, "ranks": [0, 1]}),
        "tiles.tiles_html": (tiles.tiles_html, {"tiles": [tile, tile], "columns": 3, "width": 600}),
        "matched.spread": (
            matched.spread,
            {"plane": got.plane(2), "size": (18, 22), "patch": 4, "stride": 2, "most": 32},
        ),
        "render.sample": (render.sample, {"plane": cube[..., 0]}),
        "render.paint": (render.paint, {"numbers": np.ones((3, 4), np.uint8), "colour_map": "viridis"}),
        "view.mark": (view.mark, {"row": 1, "column": 2, "colour": "red", "rows": 1, "columns": 1, "text": "a"}),
        # teaching
        "teaching.claim": (
            teaching.claim,
            {"statement": "two", "value": 2.0, "at_least": 1.0, "at_most": 3.0, "equals": 2.0},
        ),
        "course.check": (course.check, {"number": "02.1", "answer": 2.0}),
        "course.score": (course.score, {}),
        "teaching.progress": (
            teaching.progress,
            {"iterable": [1, 2], "description": "a", "total": 2, "initial": 0, "disable": True},
        ),
    }  # fmt: skip


# --- odd values -------------------------------------------------------------------------------------------------------

NEGATIVE = {  # arguments of which a number below zero is one as good as any
    "snr_db", "down", "across", "degrees", "value", "at_least", "at_most", "equals", "answer",
}  # fmt: skip
ZERO = NEGATIVE | {
    "halo", "top", "left", "seed", "steps of back_project", "at_least", "tolerance", "margin", "sharpening", "rank",
    "k", "draw", "position", "row", "column", "number", "band", "s_churn", "offset", "radius", "most of vote",
    "steps of sharpen", "count", "approximate_above", "ranks", "blocks", "initial", "total", "pixel", "bands of estimate",
    "bands of noisy", "bands of decode", "bands of cut", "residual_blocks", "cim_blocks", "te_blocks", "fusion_slope",
    "warmup", "ema", "self_condition", "drop_reference",
}  # fmt: skip
FREE = {
    "digest",
    "licence",
    "citation",
    "units",
    "description",
    "unit",
    "label",
    "text",
    "titles",
    "ylabel",
    "xlabel",
    "statement",
    "name",
    "factory",
    "colour",
    "value",
    "answer",
}
HOLES = {
    "ref_msi",
    "reference",
    "sharp_reference",
    "blurred_reference",
    "cube",
    "plane",
    "image",
    "target",
    "scene",
    "cubes",
}
HOLES |= {"a", "b", "like", "patches"}  # NaN may stand there
HOLES |= {  # their docstrings say that NaN is a hole, which counts for nothing
    "lr_hsi of estimate_camera", "lr_hsi of estimate_fwhm", "lr_hsi of estimate_snr_db", "gt of compare",
    "lr_hsi of MatchExplorer", "z of decode", "image of cut", "gt of scores", "gt of resampled_psnr", "lr_hsi of without_truth", "pred of without_truth",
    "wavelengths_nm of open_raster", "wavelengths_nm of Bands", "fwhm_nm of Bands",  # a band without one
}  # fmt: skip
SHOWN = {  # here a hole is one in the answer, too: NaN must be seen there
    "gt of observe", "x of see", "x of add_noise", "lr_hsi of super_resolve", "lr_hsi of record", "lr_hsi of bicubic",
    "lr_hsi of component_prior", "x_t of denoise", "x0_previous of denoise", "noise_level of denoise", "x_t of forward",
    "x0_previous of forward", "noise_level of forward",
    *(f"{one} of selective_scan" for one in ("u", "delta", "A", "B", "C", "D")),
}  # fmt: skip
ANYTHING = {"answer", "value"}


NUMBER = itertools.count()


class Odd:
    """An object of no use."""


def kind_of(value: Any, name: str) -> str:
    """What sort of argument a valid value is."""
    if name in ("path", "folder"):
        return "path"
    if name == "device":
        return "device"
    if isinstance(value, torch.Tensor | np.ndarray):
        floats = value.is_floating_point() if isinstance(value, torch.Tensor) else value.dtype.kind == "f"
        return "image" if floats and value.ndim >= 2 else "vector"
    for kind, name_of in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (Mapping, "dict")):
        if isinstance(value, kind):
            return name_of
    if isinstance(value, list | tuple):
        return "list"
    if inspect.isfunction(value) or inspect.isbuiltin(value) or inspect.ismethod(value) or value is float:
        return "function"
    return "none" if value is None else "object"


def odd_values(value: Any, kind: str, name: str) -> Iterator[tuple[str, Any, str, Any]]:
    """(label, odd value, what an answer to it would be, the value that must give the same answer).

    `same`: right if it equals the answer to that value; `any`: right; `silent`: nonsense was accepted.
    """
    yield "object()", Odd(), "silent", None
    yield "bytes", b"x", "silent", None
    if kind != "function":
        yield "a function", (lambda *_: None), "silent", None
    if kind != "none":
        yield "None", None, "none", None
    if kind in ("int", "float"):
        for label, odd in (("''", ""), ("'1'", "1"), ("True", True), ("np.True_", np.True_), ("[]", []), ("{}", {})):
            yield label, odd, "silent", None
        yield "nan", math.nan, "silent", None
        yield "a pair", (value, value), "pair", None
        yield "-1", -1, "negative", None
        yield "0", 0, "zero", None
        yield "10**30", 10**30, "any", None
        yield "10**9", 10**9, "any", None
        yield "a tensor", torch.tensor(value), "same", value
    if kind == "int":
        yield "1.5", 1.5, "silent", None
        yield "inf", math.inf, "silent", None
        yield "np.int64", np.int64(value), "same", value
        if 0 <= value < 256:
            yield "np.uint8", np.uint8(value), "same", value
        yield "np.float32", np.float32(value), "silent", None
    if kind == "float":
        yield "inf", math.inf, "infinite", None
        yield "np.float32", np.float32(value), "same", float(np.float32(value))
        yield "np.float64", np.float64(value), "same", value
        yield "1e308", 1e308, "any", None
        yield "1j", 1j, "silent", None
    if kind == "bool":
        for label, odd in (("'yes'", "yes"), ("2", 2), ("0.5", 0.5), ("[]", []), ("''", "")):
            yield label, odd, "silent", None
        yield "np.bool_", np.bool_(value), "same", value
    if kind in ("str", "path", "device"):
        for label, odd in (("1", 1), ("True", True), ("[]", []), ("a list", ["x"]), ("a NUL", "a\0b")):
            yield label, odd, "silent" if label != "a NUL" else "text", None
        yield "''", "", "text", None
        yield "unknown", f"nowhere{next(NUMBER)}/none", "text", None
        yield "np.str_", np.str_(value) if value else "", "any", None
    if kind == "path" and value:
        yield "a Path", Path(value), "same", value
        yield "1.5", 1.5, "silent", None
    if kind == "list":
        for label, odd in (("text", "psnr_db"), ("1", 1), ("{}", {}), ("[object()]", [Odd()]), ("[None]", [None])):
            yield label, odd, "silent", None
        yield "[]", [], "empty", None
        yield "[nan]", [math.nan] * len(value), "silent", None
        if value and all(type(item) is int for item in value):
            yield "[-1]", type(value)([-1] * len(value)), "negative", None
            yield "[10**9]", type(value)([10**9] * len(value)), "any", None
            yield "[10**30]", type(value)([10**30] * len(value)), "any", None
        yield "a generator", (item for item in value), "same", value
        yield "the other kind", tuple(value) if isinstance(value, list) else list(value), "same", value
    if kind == "dict":
        for label, odd in (("[]", []), ("1", 1), ("'x'", "x"), ("{1: 2}", {1: 2}), ("{'x': None}", {"x": None})):
            yield label, odd, "silent", None
        yield "{}", {}, "silent", None
        for key in list(value)[:8]:
            yield f"without {key}", {k: v for k, v in value.items() if k != key}, "any", None
            yield f"{key} is an object", value | {key: Odd()}, "silent", None
        yield "one more", value | {"no such key": 1}, "any", None
    if kind == "function":
        for label, odd in (("1", 1), ("'f'", "f"), ("[]", [])):
            yield label, odd, "silent", None
    if kind in ("object", "none"):
        for label, odd in (("1.5", 1.5), ("'x'", "no such thing"), ("[object()]", [Odd()]), ("{'a': 1}", {"a": 1})):
            yield label, odd, "silent", None
    if kind in ("image", "vector"):
        yield from odd_tensors(value, kind)


def odd_tensors(value: Any, kind: str) -> Iterator[tuple[str, Any, str, Any]]:
    """The part of `odd_values` for tensors and arrays."""
    x = torch.as_tensor(value)
    for label, odd in (("1.5", 1.5), ("'x'", "x"), ("[]", []), ("{}", {}), ("[[[]]]", [[[]]])):
        yield label, odd, "silent", None
    yield "a list", x.tolist(), "same", value
    if not x.is_floating_point():
        return
    as_given = (lambda t: t) if isinstance(value, torch.Tensor) else (lambda t: t.numpy())
    yield "float16", as_given(x.half()), "close", as_given(x.half().float())
    yield "float64", as_given(x.double()), "close", value
    if isinstance(value, torch.Tensor):
        yield "bfloat16", x.bfloat16(), "close", x.bfloat16().float()
        yield "sparse", x.to_sparse(), "silent", None
        yield "meta", x.to("meta"), "silent", None
        if kind == "image":
            yield "quantised", torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "silent", None
        yield "requires grad", x.clone().requires_grad_(), "close", value
        yield "complex", x.to(torch.complex64), "silent", None
        yield "an array", x.numpy(), "close", value
        yield "float64 array", x.double().numpy(), "close", value
    yield "big-endian", x.numpy().astype(">f4"), "close", value
    yield "negative stride", np.ascontiguousarray(x.numpy()[..., ::-1])[..., ::-1], "close", value
    yield "masked", np.ma.masked_array(x.numpy(), np.zeros(x.shape, bool)), "close", value
    yield "text array", np.full(x.shape, "a"), "silent", None
    yield "object array", x.detach().numpy().astype(object), "any" if x.ndim == 1 else "silent", None
    yield "int64", as_given((255 * x).long()), "whole", None
    yield "uint8", as_given((255 * x.abs()).to(torch.uint8)), "whole", None
    yield "bool", as_given(x > 0.5), "mask", None
    yield "one axis fewer", as_given(x[0]), "rank", None
    yield "two axes more", as_given(x[None, None]), "silent", None
    yield "empty", as_given(x[:0]), "silent", None
    yield "empty at its end", as_given(x[..., :0]), "silent", None
    yield "not contiguous", as_given(x.mT.contiguous().mT if x.ndim > 1 else x), "close", value
    yield "NaN", as_given(torch.full_like(x, math.nan)), "nan", None
    yield (
        "one NaN",
        as_given(torch.where(torch.arange(x.numel()).reshape(x.shape) == min(3, x.numel() - 1), math.nan, x)),
        "nan",
        None,
    )
    yield "inf", as_given(torch.full_like(x, math.inf)), "nan", None
    yield "0 … 255", as_given(255 * x), "any", None


# --- what became of a call --------------------------------------------------------------------------------------------


OWN = {*vars(TINY), *vars(MatchConfig()), *vars(DenoiserConfig())}  # settings, named as such
OWN |= {"camera", "config", "preset", "psf", "scale", "srf", "sensor", "box"}  # what a method's own object has


class TooLongError(Exception):
    """A call took more than its time."""


def numbers(result: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """All numbers in what a call returned, as float64 tensors, in order."""
    if isinstance(result, torch.Tensor | np.ndarray):
        if isinstance(result, torch.Tensor) or result.dtype.kind in "fiub":
            found = (
                result
                if isinstance(result, torch.Tensor)
                else torch.from_numpy(result.astype(result.dtype.newbyteorder("=")))
            )
            yield found.detach().double()
    elif isinstance(result, bool | int | float):
        yield torch.tensor(float(result), dtype=torch.float64)
    elif depth < 4:
        if isinstance(result, Mapping):
            result = list(result.values())
        elif dataclasses.is_dataclass(result) and not isinstance(result, type):
            result = [getattr(result, field.name) for field in dataclasses.fields(result)]
        if isinstance(result, list | tuple):
            for item in result:
                yield from numbers(item, depth + 1)


def equal(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two answers are the same numbers."""
    first, second = list(numbers(one)), list(numbers(other))
    alike = len(first) == len(second) and all(a.shape == b.shape for a, b in zip(first, second))
    return alike and all(
        torch.allclose(a, b, atol=tolerance, rtol=tolerance, equal_nan=True) for a, b in zip(first, second)
    )


def fresh(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with generators that begin again."""
    return {name: seeded() if isinstance(one, torch.Generator) else one for name, one in arguments.items()}


def answer(function: Callable[..., Any], arguments: dict[str, Any], seconds: int = SECONDS) -> Any:
    """What a call returns, within its time."""

    def stop(*_: Any) -> None:
        raise TooLongError

    for kind in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(kind, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor: other programs count for nothing,
    signal.alarm(10 * seconds)  # and of the clock, for what waits
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(**fresh(arguments))
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def meaning(kind: str, argument: str, name: str, optional: bool, label: str) -> str:
    """Whether an answer to an odd value of this kind is right, the same as another's, or silent nonsense."""
    short, inner = argument, f"{argument} of {name.rpartition('.')[2]}"
    if (
        argument in ANYTHING
        or (
            argument == "no_data" and label in ("nan", "a pair", "-1", "0", "inf", "[]")
        )  # any numbers may stand for it
        or (
            name == "config.CameraConfig" and kind == "silent" and label == "1.5" and optional
        )  # a width, a ratio in dB
        or argument == "iterable"  # of whatever it is
        or (name.startswith(("files.", "recipe.")) and argument in ("psf", "noise"))  # decibels, also as text
        or (name == "files.inspect_file" and argument == "references" and label == "[nan]")  # none of them
        or (name == "files.inspect_file" and argument == "wavelengths_nm")  # NaN: of a band that has none
        or (name == "references.prepare_reference" and argument == "wavelengths_nm")
        or (name.startswith(("answering.", "blur_width.", "blur.")) and argument in ("lr", "z", "components"))  # holes
        or (
            name.startswith(("patches.turn", "observation.trimmed", "observation.enlarged", "plots.to_array"))
            and argument in ("x", "plane", "image")
        )
    ):
        return "any"
    return {
        "none": "any" if optional else "silent",
        "negative": "any" if {short, inner} & NEGATIVE else "silent",
        "zero": "any" if {short, inner} & ZERO else "silent",
        "infinite": "silent",
        "pair": "any" if argument == "fwhm_px" else "silent",
        "text": "any"
        if argument in FREE or inner == "sensor of Scene" or name.endswith(("save", "write_table", "write_mat_tree"))
        else "silent",
        "empty": "any"  # none of them is right; `folders` are those besides the shipped one, `ranks` the tiles besides the query's
        if argument in ("titles", "training", "rows", "bad_bands", "folders", "iterable", "ranks", "references")
        else "silent",
        "mask": "any" if name.startswith(("plots", "band", "render", "matched.spread")) else "silent",
        "whole": "any"
        if argument in ("wavelengths_nm", "fwhm_nm") or name.startswith(("plots", "band", "render", "matched.spread"))
        else "silent",
        "rank": "any"
        if name.startswith(
            (
                "plots",
                "controls",
                "band",
                "render",
                "recording",
                "patches",
                "metrics",
                "observation",
                "degradation",
                "diffusion",
                "match.",
            )
        )
        else "silent",
        "nan": "shown"
        if inner in SHOWN
        else "any"
        if {short, inner} & HOLES or name.startswith(("controls", "plots", "render", "observation.on", "band"))
        else "silent",
    }.get(kind, kind)


def outcome(
    name: str, function: Callable[..., Any], arguments: dict[str, Any], argument: str, odd: tuple
) -> tuple[str, str]:
    """(right, clear, raw, silent, wrong, memory or time; what was seen) of one odd call."""
    label, value, kind, alike = odd
    parameters = inspect.signature(function).parameters
    optional = argument in parameters and (
        parameters[argument].default is None or "None" in str(parameters[argument].annotation)
    )
    try:
        found = answer(function, arguments | {argument: value})
    except TooLongError:
        return "time", f"more than {SECONDS} s"
    except MemoryError:
        return "memory", "MemoryError"
    except AssertionError as error:
        return ("right", "") if name.startswith("teaching") else ("raw", repr(error))
    except Exception as error:
        text = str(error)
        if "allocate memory" in text or "bad_alloc" in text:
            return "memory", text[:100]
        match = HOUSE.match(text)
        if match is None or not isinstance(error, (TypeError, ValueError, OSError, KeyError, ImportError)):
            return "raw", f"{type(error).__name__}: {text[:150]}"
        own = {one for one in re.split(r"[^A-Za-z_0-9]+", match[1]) if one}
        inside = {key for one in arguments.values() if isinstance(one, Mapping) for key in one}
        known = own & {*arguments, *parameters, *inside, *OWN}
        return ("clear", text) if known else ("inner name", text[:150])
    what = meaning(kind, argument, name, optional, label)
    if what == "shown":
        seen = any(not one.isfinite().all() for one in numbers(found))
        return ("right", "") if seen else ("silent", "a NaN that is not seen in the answer")
    if what == "silent":
        return "silent", repr(found)[:80]
    if what in ("same", "close"):
        try:
            wanted = answer(function, arguments | {argument: alike})
        except Exception as error:
            return "right", f"the plain one: {error}"[:80]
        return (
            ("right", "")
            if equal(found, wanted, 0.01 if name == "selective.selective_scan" else 1e-3)
            else ("wrong", "another answer than of the plain value")
        )
    return "right", ""


GOOD = ("right", "clear")


def survey(
    names: list[str] | None = None,
    share: int = 1,
    first: int = 0,
    *,
    say: bool = False,
    skip: tuple[str, ...] = (),
) -> dict[tuple[str, str, str], tuple[str, str]]:
    """(name, argument, label) → what became of the call; `share`: every so manieth of them, from number `first` on."""
    results, number = {}, 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, (function, arguments) in calls(Path(folder)).items():
            if (names and not any(one in name for one in names)) or any(one in name for one in skip):
                continue
            answer(function, arguments, 600)  # the valid call
            for argument, value in arguments.items():
                if argument == "path":
                    answer(function, arguments, 600)
                for odd in odd_values(value, kind_of(value, argument), argument):
                    number += 1
                    if number % share == first % share:
                        found = results[name, argument, odd[0]] = outcome(name, function, arguments, argument, odd)
                        if say and found[0] not in GOOD:
                            print(found[0], name, argument, odd[0], found[1], sep=" | ", flush=True)
    return results


def limit_memory() -> None:
    """Lets this process have `MEGABYTES` more than it has."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Makes all calls, prints what went wrong, writes the counts."""
    import machine

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for function, arguments in calls(Path(folder)).values():  # what is loaded only once
            answer(function, arguments, 600)
    limit_memory()
    names, share = (  # of numbers: the share, and the first
        [one for one in sys.argv[1:] if not one.isdigit()],
        [int(one) for one in sys.argv[1:] if one.isdigit()],
    )
    found = survey(names or None, *share, say=True)
    bad = {key: one for key, one in found.items() if one[0] not in GOOD}
    counts = Counter(kind for kind, _ in found.values())
    print(len(found), dict(counts))
    if names:
        return
    kinds = ("right", "clear", "raw", "inner name", "silent", "wrong", "memory", "time")
    rows = [[kind, str(counts[kind])] for kind in kinds]
    listed = "\n".join(f"- {one[0]}: {' · '.join(key)}: {one[1]}" for key, one in bad.items()) or "None."
    said = (
        f"{len(found)} calls of {len({key[0] for key in found})} public functions and classes, one argument at a time "
        f"replaced by a value that nobody should hand in, within {MEGABYTES} MB and {SECONDS} s each"
        f"{f'; every {share[0]}th call of the survey' if share else ''}."
    )
    counted = machine.table(["what became of it", "calls"], rows)
    text = ["# Odd calls", machine.describe(), said, counted, f"## What is not right or clear\n\n{listed}"]
    machine.write("odd_calls", "\n\n".join(text))


if __name__ == "__main__":
    main()
