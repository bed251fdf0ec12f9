"""Damaged images of every kind that is read, and damaged files of scenes."""
import resource
import struct
from io import BytesIO

import numpy as np
from hunt import damage
from PIL import Image

from simpool.data.images import read_image
from simpool.data.scenes import load_scenes, load_stamps, make_scenes

SIZE = (24, 18)
FORMATS = {
    "rgb.jpg": {}, "progressive.jpg": dict(progressive=True), "gray.jpg": {}, "cmyk.jpg": {}, "upright.jpg": {},
    "rgb.png": {}, "rgba.png": {}, "palette.png": {}, "gray16.png": {}, "bits.png": {}, "rgb.bmp": {},
    "rgb.webp": {}, "lossless.webp": dict(lossless=True), "rgb.tif": {}, "lzw.tiff": dict(compression="tiff_lzw")}
LOSSLESS = "rgb.png", "rgb.bmp", "lossless.webp", "rgb.tif", "lzw.tiff"
MODES = dict(gray="L", cmyk="CMYK", rgba="RGBA", palette="P", bits="1")


PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)


def originals():
    "Bytes of a small picture in every kind of file: name -> bytes"
    picture, files = Image.fromarray(PIXELS), {}
    for name, options in FORMATS.items():
        kind, out = name.split(".")[0], BytesIO()
        if kind == "gray16":
            image = Image.fromarray(np.asarray(picture)[..., 0].astype(np.uint16)*257)
        else:
            image = picture.convert(MODES.get(kind, "RGB"))
        if kind == "upright":
            exif = Image.Exif()
            exif[274] = 6
            options = dict(exif=exif)
        image.save(out, Image.registered_extensions()[f".{name.split('.')[1]}"], **options)
        files[name] = out.getvalue()
    return files


def read(path, whole):
    "Read an image; says what is wrong with it"
    image = read_image(path, upright=True)
    pixels = np.asarray(image)
    if image.mode != "RGB" or pixels.dtype != np.uint8 or pixels.shape != (*image.size[::-1], 3):
        return f"{image.mode}, {pixels.shape}, {pixels.dtype}"
    if whole and image.size != (SIZE[::-1] if path.name.startswith("upright") else SIZE):
        return f"size {image.size}"
    if path.name in LOSSLESS and not np.array_equal(pixels, PIXELS):
        return "other pixels"
    return None


def bombs(files):
    "Headers that claim 60,000 x 60,000 pixels: name -> bytes"
    png, bmp = bytearray(files["rgb.png"]), bytearray(files["rgb.bmp"])
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    return {"bomb.png": bytes(png), "bomb.bmp": bytes(bmp)}


def read_bomb(path):
    "Read what claims to be huge; says so if it was not refused"
    read_image(path)
    return "read, not refused"


def read_scenes(path, whole):
    "Read a damaged file of scenes; says whether other numbers came"
    got = load_scenes(path)
    same = got.keys() == whole.keys() and all(np.array_equal(got[k], whole[k]) for k in whole)
    return None if same else "other numbers than were written"


def hunt(tally, rng, share, here):
    files = originals()
    for name, data in files.items():
        path = here/name
        path.write_bytes(data)
        tally.case(name, lambda path=path: read(path, whole=True))
    for name, data in bombs(files).items():
        (here/name).write_bytes(data)
        tally.case(name, lambda name=name: read_bomb(here/name))
    names = list(files)
    for i in range(round(34_000*share)):
        name = names[i%len(names)]
        data, how = damage(files[name], rng)
        path = here/f"damaged-{name}"
        path.write_bytes(data)
        tally.case(f"{name}, {how}, case {i}", lambda path=path: read(path, whole=False))
    scenes = make_scenes(load_stamps(), "train", 4, 32)
    np.savez_compressed(here/"scenes.npz", **scenes)
    data, whole = (here/"scenes.npz").read_bytes(), load_scenes(here/"scenes.npz")
    for i in range(round(1_000*share)):
        damaged, how = damage(data, rng)
        (here/"damaged.npz").write_bytes(damaged)
        tally.case(f"scenes.npz, {how}, case {i}", lambda: read_scenes(here/"damaged.npz", whole))
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024/1e9
    if gigabytes > 4: # Pillow reads what claims to have up to 179 million pixels
        tally.note("silent wrong result", "memory", f"reading small damaged files took {gigabytes:.1f} GB")
