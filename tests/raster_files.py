"""Files of the forms that scenes come in, made by other libraries than the package's own, with known numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import rasterio
import spectral.io.envi
from rasterio import Affine

HEIGHT, WIDTH = 12, 20
NM = np.array([423.0333, 500.25, 650.5, 860.0, 1380.125, 1650.0, 2200.75])
FWHM = np.array([6.5, 6.25, 7.0, 8.0, 9.5, 10.0, 11.25])
GOOD = np.array([1, 1, 1, 1, 0, 1, 1], bool)
NORTH_UP = Affine(30, 0, 500_000, 0, -30, 4_200_000)
COS, SIN = 30 * np.cos(np.deg2rad(17.5)), 30 * np.sin(np.deg2rad(17.5))
ROTATED = Affine(COS, -SIN, 500_000, -SIN, -COS, 4_200_000)


def cube(kind: str = "i2", bands: int = 7) -> np.ndarray:
    """(C, H, W): all numbers different, over most of the type's range but without its limits."""
    count = bands * HEIGHT * WIDTH
    order = np.random.default_rng(3).permutation(count).reshape(bands, HEIGHT, WIDTH)
    if kind == "f4":
        return (order * 0.37 - 100).astype("f4")
    info = np.iinfo(kind)
    step = (int(info.max) - int(info.min) - 20) // count
    return (int(info.min) + 10 + order * max(step, 0)).astype(kind)


def write_tiff(path: Path, array: np.ndarray, *, tags: bool = True, **options) -> Path:
    """A GeoTIFF with the wavelengths in each band's own tags."""
    profile = {"driver": "GTiff", "height": array.shape[1], "width": array.shape[2], "count": len(array),
               "dtype": array.dtype.name, "crs": "EPSG:32633", "transform": NORTH_UP, "photometric": "MINISBLACK",
               "alpha": "NO"} | options  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(array)
        for number in range(len(array) if tags else 0):
            file.update_tags(number + 1, wavelength=str(NM[number] / 1000), wavelength_units="Micrometers",
                             fwhm=str(FWHM[number] / 1000), bbl=str(int(GOOD[number])))  # fmt: skip
    return path


def write_envi(path: Path, array: np.ndarray, interleave: str = "bil", **entries) -> Path:
    """An ENVI file; the header's path."""
    about = {
        "wavelength": [repr(float(x)) for x in NM[: len(array)] / 1000],
        "wavelength units": "Micrometers",
        "fwhm": [repr(float(x)) for x in FWHM[: len(array)] / 1000],
        "bbl": [int(x) for x in GOOD[: len(array)]],
        "map info": ["UTM", "1", "1", "500000", "4200000", "30", "30", "33", "North", "WGS-84", "units=Meters"],
    }
    about = {key: value for key, value in (about | entries).items() if value is not None}  # fmt: skip
    spectral.io.envi.save_image(path, array.transpose(1, 2, 0), metadata=about, interleave=interleave, force=True,
                                dtype=array.dtype, ext=".img")  # fmt: skip
    return path


def write_enmap(folder: Path, array: np.ndarray) -> Path:
    """EnMAP's L2A: an image, and metadata that say all about its bands."""
    name = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"
    folder = folder / name
    folder.mkdir()
    write_tiff(folder / f"{name}-SPECTRAL_IMAGE.TIF", array, tags=False, nodata=-32768)
    write_tiff(folder / f"{name}-QL_QUALITY_CLOUD.TIF", array[:1].astype("u1"), tags=False)
    bands = "".join(
        f'<bandID number="{i + 1}"><wavelengthCenterOfBand>{nm}</wavelengthCenterOfBand><FWHMOfBand>{fwhm}</FWHMOfBand>'
        f"<GainOfBand>0.0001</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i, (nm, fwhm) in enumerate(zip(NM, FWHM))
    )
    (folder / f"{name}-METADATA.XML").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><level_X xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        "<base><level>L2A</level></base><specific><backgroundValue>-32768</backgroundValue>"
        f"<bandCharacterisation>{bands}</bandCharacterisation></specific>"
        "<product><productQuality><vnirProductQuality><expectedChannelsList>1, 2, 3, 4</expectedChannelsList>"
        "</vnirProductQuality><swirProductQuality><expectedChannelsList>6, 7</expectedChannelsList>"
        "</swirProductQuality></productQuality></product></level_X>",
        encoding="utf-8",
    )
    return folder


def write_desis(folder: Path, array: np.ndarray) -> Path:
    """DESIS' L2A; its metadata have <band> in another place, too."""
    name = "DESIS-HSI-L2A-DT0468853252_003-20200628T153803-V0210"
    write_tiff(folder / f"{name}-SPECTRAL_IMAGE.tif", array, tags=False, nodata=-32768, interleave="pixel")
    bands = "".join(
        f"<band><bandNumber>{i + 1}</bandNumber><wavelengthWidthOfBand>{fwhm}</wavelengthWidthOfBand>"
        f"<wavelengthCenterOfBand>{nm}</wavelengthCenterOfBand><response>0.1,0.9</response>"
        f"<gainOfBand>0.0001</gainOfBand><offsetOfBand>0.0</offsetOfBand></band>"
        for i, (nm, fwhm) in enumerate(zip(NM, FWHM))
    )
    path = folder / f"{name}-METADATA.xml"
    path.write_text(
        f'<hsi_doc xmlns="urn:x"><base><level>L2A</level></base><specific><interiorOrientation><band>1</band>'
        f"</interiorOrientation><bandCharacterisation>{bands}</bandCharacterisation></specific></hsi_doc>",
        encoding="utf-8",
    )
    return path


PRISMA_VNIR = np.array([1000.0, 700.0, 500.0, 0.0])  # from long to short, one that is not there
PRISMA_SWIR = np.array([950.0, 1600.0, 2400.0])


def write_prisma(path: Path, *, corners: str = "centres", **attributes) -> tuple[np.ndarray, np.ndarray]:
    """PRISMA's L2D: two cubes (rows, bands, columns) of whole numbers, each with a minimum and a maximum."""
    vnir = cube("u2", 4).transpose(1, 0, 2).copy()
    swir = (cube("u2", 3) // 2).transpose(1, 0, 2).copy()
    vnir[:2], swir[:2] = 0, 0  # outside the swath
    swir[5, :, 5] = 0  # dark water
    half = 0 if corners == "centres" else 15
    with h5py.File(path, "w") as file:
        fields = file.create_group("HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields")
        fields.create_dataset("VNIR_Cube", data=vnir, chunks=(4, 4, 20), compression="gzip")
        fields.create_dataset("SWIR_Cube", data=swir)
        file.create_dataset("HDFEOS/SWATHS/PRS_L2D_PCO/Data Fields/Cube", data=np.zeros((72, 120), "u2"))
        told = {
            "List_Cw_Vnir": PRISMA_VNIR.astype("f4"), "List_Fwhm_Vnir": np.array([10, 11, 12, 0], "f4"),
            "List_Cw_Vnir_Flags": np.array([1, 1, 1, 0], "i4"), "List_Cw_Swir": PRISMA_SWIR.astype("f4"),
            "List_Fwhm_Swir": np.array([13, 14, 15], "f4"), "List_Cw_Swir_Flags": np.ones(3, "i4"),
            "L2ScaleVnirMin": np.float32(0.0), "L2ScaleVnirMax": np.float32(1.25), "L2ScaleSwirMin": np.float32(0.125),
            "L2ScaleSwirMax": np.float32(0.75), "Epsg_Code": np.int64(32633), "Product_ID": np.bytes_("PRS_L2D_STD"),
            "Product_ULcorner_easting": 500_015.0 - half, "Product_ULcorner_northing": 4_199_985.0 + half,
            "Product_LRcorner_easting": 500_015.0 + 30 * (WIDTH - 1) + half,
            "Product_LRcorner_northing": 4_199_985.0 - 30 * (HEIGHT - 1) - half,
        } | attributes  # fmt: skip
        for name, value in told.items():
            if value is not None:
                file.attrs[name] = value
    return vnir, swir


def write_emit(path: Path, array: np.ndarray) -> Path:
    """EMIT's L2A: a cube (rows, columns, bands) in the sensor's geometry."""
    with h5py.File(path, "w") as file:
        item = file.create_dataset("reflectance", data=array.transpose(1, 2, 0), chunks=(5, 8, 7), compression="gzip",
                                   fillvalue=np.float32(-9999))  # fmt: skip
        item.attrs["_FillValue"] = np.array([-9999], "f4")
        group = file.create_group("sensor_band_parameters")
        group["wavelengths"], group["fwhm"] = NM.astype("f4"), FWHM.astype("f4")
        group["good_wavelengths"] = GOOD.astype("u1")
        place = file.create_group("location")
        place["lat"] = np.zeros((HEIGHT, WIDTH))
        place["glt_x"] = np.zeros((30, 31), "i4")
        file.attrs["geotransform"] = np.array([-115.9, 5e-4, 0, 33.4, 0, -5e-4])
    return path


def write_safe(folder: Path, array: np.ndarray, ending: str = ".tif") -> Path:
    """A folder of Sentinel-2's L2A with four bands of 10 m, and one of 20 m."""
    folder = folder / "S2B_MSIL2A_20230101T101329_N0509_R022_T33UUU_20230101T133459.SAFE"
    images = folder / "GRANULE" / "L2A_T33UUU_A030409_20230101T101328" / "IMG_DATA"
    (images / "R10m").mkdir(parents=True)
    (images / "R20m").mkdir()
    options = (
        {} if ending == ".tif" else {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "YCBCR420": "NO"}
    )
    for number, name in enumerate(("B02", "B03", "B04", "B08")):
        path = images / "R10m" / f"T33UUU_20230101T101329_{name}_10m{ending}"
        with rasterio.open(path, "w", **{"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 1, "dtype": "uint16",
                                         "crs": "EPSG:32633", "transform": Affine(10, 0, 3e5, 0, -10, 5e6)} | options) as file:  # fmt: skip
            file.write(array[number], 1)
    write_tiff(images / "R20m" / "T33UUU_20230101T101329_B02_20m.tif", array[:1, ::2, ::2], tags=False)
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{n}">{-1000 - n}</BOA_ADD_OFFSET>' for n in range(13))
    (folder / "MTD_MSIL2A.xml").write_text(
        '<?xml version="1.0"?><n1:Level-2A_User_Product xmlns:n1="https://psd-15.sentinel2.eo.esa.int/x"><n1:General_Info>'
        "<SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME><BOA_QUANTIFICATION_VALUE unit='none'>10000"
        f"</BOA_QUANTIFICATION_VALUE>{offsets}</n1:General_Info></n1:Level-2A_User_Product>",
        encoding="utf-8",
    )
    return folder
