"""Write a few pictures in the layout of every data set of scale `paper`, as its authors publish it: data/rehearsal.

    python tools/make_rehearsal_data.py

`make repro-all SCALE=rehearsal` does this first. The folders are named after the environment variables of scale
`paper`: data/rehearsal/IMAGENET stands for $IMAGENET. The pictures are scenes on larger canvases, among them what real
data sets have too: gray, CMYK, turned by EXIF, PNG under a wrong name, very small, very large. CIFAR and Flowers are
missing, since torchvision knows the digests of their files.
"""
import argparse
import json
import pickle
import shutil
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from simpool.core import find_stored
from simpool.data.scenes import load_stamps, make_scenes, mask_box
from simpool.evaluation.backgrounds import VARIANTS
from simpool.evaluation.video import scene_clip

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tests"/"golden"))
from tensors import golden_tensor  # noqa: E402

CLASSES = 10 # of ImageNet: with 1000 everything would take hours
SIZES = (500, 375), (375, 500), (500, 333), (400, 300) # width and height of pictures
GROUPS = ("00_dog", "01_bird", "02_wheeled vehicle", "03_reptile", "04_carnivore", "05_insect", "06_musical instrument",
          "07_primate", "08_fish") # of ImageNet-9
CARDS = dict( # released network -> case of tests/golden with its names and shapes
    vits_dino_official_ep100="vit_small16-official-gammaNone-224",
    vits_dino_simpool_ep100="vit_small16-simpool-gamma1.25-224",
    resnet50_dino_simpool_ep100="resnet50-simpool-gamma2.0-128",
    convnext_small_dino_simpool_no_gamma_ep100="convnext_small-simpool-gammaNone-128",
)


class Pictures:
    "Hand out pictures and the masks of their objects, one after the other"
    def __init__(self, n=24, side=375):
        stamps = load_stamps(find_stored(ROOT/"data"/"stamps"/"stamps.npz")) # also where another folder is worked in
        self.scenes, self.n, self.given = make_scenes(stamps, "train", n, side), n, 0

    def next(self, size=None):
        "A picture (PIL image) and its mask (H, W) bool; a scene, continued to the right or below"
        i, (width, height) = self.given % self.n, size or SIZES[self.given % len(SIZES)]
        self.given += 1
        side = min(width, height)
        rest = (0, height - side), (0, width - side)
        image, mask = (np.asarray(Image.fromarray(self.scenes[k][i]).resize((side, side), how)) for k, how in
                       (("image", Image.Resampling.BICUBIC), ("mask", Image.Resampling.NEAREST)))
        return Image.fromarray(np.pad(image, (*rest, (0, 0)), "edge")), np.pad(mask, rest)


def write(path, text):
    "Write a text file and its folders"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save(image, path, **options):
    "Write a picture and its folders; a JPEG whatever its name is, but for masks"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **dict(format="PNG" if path.suffix == ".png" else "JPEG") | options)
    return path


def save_numbers(numbers, path):
    "Write class ids or object numbers as a picture with a palette"
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    save(image, path)


def imagenet(folder, pictures):
    "ImageNet-1k: two training and two validation images per class"
    names = []
    for c in range(CLASSES):
        wnid = f"n{1440764 + 2963*c:08d}"
        for i in range(2):
            names.append(save(pictures.next()[0], folder/"train"/wnid/f"{wnid}_{10*i + c}.JPEG"))
            save(pictures.next()[0], folder/"val"/wnid/f"ILSVRC2012_val_{2*c + i + 1:08d}.JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6 # lies on its side
    image = pictures.next((500, 375))[0]
    save(image.convert("L"), names[0])
    save(image.convert("CMYK"), names[2])
    save(image, names[4], exif=exif)
    save(image, names[6], format="PNG")
    save(pictures.next((75, 60))[0], names[8])
    save(pictures.next((2592, 1944))[0], names[10])
    return names


def simclr(folder, names):
    "SimCLR's lists of the images that have labels: here one image of every second class, and one of every class"
    write(folder/"1percent.txt", "".join(f"{f.name}\n" for f in names[::4]))
    write(folder/"10percent.txt", "".join(f"{f.name}\n" for f in names[::2]))


def revisited(folder, pictures):
    "Revisited Oxford and Paris: two queries among six pictures; Oxford's truth in lists, Paris's in arrays"
    for name, kind in (("roxford5k", list), ("rparis6k", partial(np.array, dtype=int))):
        queries, database = [f"all_souls_{i:06d}" for i in (13, 26)], [f"oxford_{i:06d}" for i in range(6)]
        for n in (*queries, *database):
            save(pictures.next((1024, 768))[0], folder/name/"jpg"/f"{n}.jpg")
        gnd = [dict(bbx=[136.5, 34.1, 648.5, 700.0], easy=kind([0]), hard=kind([1, 2]), junk=kind([3])),
               dict(bbx=[10.0, 20.0, 500.0, 400.0], easy=kind([4, 5]), hard=kind([2]), junk=kind([]))]
        facts = dict(gnd=gnd, imlist=database, qimlist=queries)
        (folder/name/f"gnd_{name}.pkl").write_bytes(pickle.dumps(facts, protocol=2))


def copydays(folder, pictures):
    "Copydays: three originals, and strong changes of two of them"
    for block in range(2000, 2003):
        image = pictures.next((1024, 768))[0]
        save(image, folder/"original"/f"{block}00.jpg")
        if block > 2000:
            save(image.crop((200, 100, 900, 600)).convert("L"), folder/"strong"/f"{block}01.jpg")


def voc(folder, pictures):
    "PASCAL VOC 2007 and 2012: boxes, and for 2012 pixels with classes and with numbers of objects"
    for year, names in ((2007, ["000005", "000007"]), (2012, [f"2007_{i:06d}" for i in (32, 39, 63, 68)])):
        place = folder/f"VOC{year}"
        for i, name in enumerate(names):
            image, mask = pictures.next()
            x0, y0, x1, y1 = mask_box(mask)
            box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
            one = f"<object><name>chair</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
            save(image, place/"JPEGImages"/f"{name}.jpg")
            write(place/"Annotations"/f"{name}.xml", f"<annotation><filename>{name}.jpg</filename>{one}</annotation>")
            if year == 2012:
                border = mask ^ np.roll(mask, 3, 0)
                for kind, number in (("Class", 20 - i), ("Object", 1)):
                    save_numbers(np.where(border, 255, mask*number), place/f"Segmentation{kind}"/f"{name}.png")
        write(place/"ImageSets"/"Main"/"trainval.txt", "\n".join(names) + "\n")
        for split, part in (("train", names[:2]), ("val", names[2:])):
            write(place/"ImageSets"/"Segmentation"/f"{split}.txt", "\n".join(part) + "\n")


def coco(folder, pictures):
    "COCO train2014 with LOST's list; one picture is gray, one has no object, one a crowd only"
    images, annotations, names = [], [], []
    for i, crowd in enumerate((0, 0, None, 1)):
        name, (image, mask) = f"COCO_train2014_{9 + 16*i:012d}.jpg", pictures.next((640, 480))
        save(image.convert("L") if i == 1 else image, folder/"train2014"/name)
        images.append(dict(id=9 + 16*i, file_name=name))
        names.append(f"train2014/{name}")
        x0, y0, x1, y1 = mask_box(mask)
        if crowd is not None:
            box = [x0 + .25, y0 + .5, x1 - x0 - .5, y1 - y0 - .25]
            annotations.append(dict(image_id=9 + 16*i, bbox=box, iscrowd=crowd, category_id=18))
    write(folder/"annotations"/"instances_train2014.json", json.dumps(dict(images=images, annotations=annotations)))
    write(folder/"coco_20k_filenames.txt", "\n".join(names) + "\n")
    for split, n in (("train2017", 4), ("val2017", 2)):
        write(folder/"annotations"/f"instances_{split}.json", json.dumps(instances(folder/split, pictures, n)))


def instances(folder, pictures, n):
    "Objects of COCO 2017, with outlines; the first picture has none"
    images, annotations = [], []
    for i in range(n):
        name, (image, mask) = f"{i + 9:012d}.jpg", pictures.next((640, 480))
        save(image, folder/name)
        images.append(dict(id=i + 9, file_name=name, width=image.width, height=image.height))
        x0, y0, x1, y1 = (float(v) for v in mask_box(mask))
        outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        if i:
            side = x1 - x0, y1 - y0
            annotations.append(dict(id=i, image_id=i + 9, category_id=18 + i % 2, iscrowd=0, bbox=[x0, y0, *side],
                                    area=side[0]*side[1], segmentation=outline))
    categories = [dict(id=18, name="dog"), dict(id=19, name="horse")]
    return dict(images=images, annotations=annotations, categories=categories)


def imagenet_9(folder, pictures):
    "ImageNet-9: eight variants of one picture per group, and the group of each class, -1 for none"
    for variant in VARIANTS:
        for group in GROUPS:
            save(pictures.next((224, 224))[0], folder/variant/"val"/group/f"fg_n02085620_{variant}.JPEG")
    table = {str(c): c if c < len(GROUPS) else -1 for c in range(CLASSES)}
    write(folder/"in_to_in9.json", json.dumps(table))


def davis(folder, pictures):
    "DAVIS-2017: two videos of three frames, the second with two objects"
    sides = {"bike-packing": (910, 480), "blackswan": (854, 480)}
    for i, (name, size) in enumerate(sides.items()):
        for t, (image, mask) in enumerate(zip(*scene_clip(i, 3, 480))):
            number = np.where(mask > 0, 1 + i*(np.arange(480) > 240), 0)
            image, number = (Image.fromarray(x.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
                             for x in (image, number))
            save(image, folder/"JPEGImages"/"480p"/name/f"{t:05d}.jpg")
            save_numbers(np.asarray(number), folder/"Annotations"/"480p"/name/f"{t:05d}.png")
    write(folder/"ImageSets"/"2017"/"val.txt", "\n".join(sides) + "\n")


def cub(folder, pictures):
    "CUB-200-2011: one training and three test images"
    lines = dict(images=[], train_test_split=[], bounding_boxes=[])
    for i in range(1, 5):
        name, (image, mask) = f"001.Black_footed_Albatross/Black_Footed_Albatross_{i:04d}_796{i}.jpg", pictures.next()
        x0, y0, x1, y1 = mask_box(mask)
        save(image, folder/"images"/name)
        lines["images"].append(f"{i} {name}")
        lines["train_test_split"].append(f"{i} {int(i == 1)}")
        lines["bounding_boxes"].append(f"{i} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}")
    for name, rows in lines.items():
        write(folder/f"{name}.txt", "\n".join(rows) + "\n")


def ilsvrc(folder, pictures):
    "ImageNet from Kaggle: validation images with boxes, one of them with two"
    rows = ["ImageId,PredictionString"]
    for i in range(1, 4):
        image, mask = pictures.next()
        name, box = f"ILSVRC2012_val_{i:08d}", "n03995372 {} {} {} {} ".format(*mask_box(mask))
        save(image, folder/"ILSVRC"/"Data"/"CLS-LOC"/"val"/f"{name}.JPEG")
        rows.append(f"{name},{box*(1 + (i == 2))}")
    write(folder/"LOC_val_solution.csv", "\n".join(rows) + "\n")


def further(folder, pictures):
    "Food-101 and Oxford-IIIT Pet: two classes each"
    food, pets = folder/"food-101", folder/"oxford-iiit-pet"
    for split in ("train", "test"):
        names = {c: [f"{c}/{split}{i}" for i in range(4)] for c in ("apple_pie", "waffles")}
        write(food/"meta"/f"{split}.json", json.dumps(names))
        for name in sum(names.values(), []):
            save(pictures.next((512, 384))[0], food/"images"/f"{name}.jpg")
    for split, first in (("trainval", 1), ("test", 5)):
        breeds = (1, "Abyssinian"), (2, "beagle")
        names = [(f"{breed}_{i}", c) for c, breed in breeds for i in range(first, first + 4)]
        write(pets/"annotations"/f"{split}.txt", "".join(f"{name} {c} 1 1\n" for name, c in names))
        for name, _ in names:
            save(pictures.next()[0], pets/"images"/f"{name}.jpg")


def hub(folder):
    "Checkpoints with the names and shapes of released networks, their weights made up"
    cases = json.loads((ROOT/"tests"/"golden"/"index.json").read_text())
    folder.mkdir(parents=True)
    for name, case in CARDS.items():
        state = {f"backbone.{key}": golden_tensor(key, shape) for key, shape in cases[case]["keys"].items()}
        torch.save(dict(teacher=state, epoch=100, args=Namespace(arch=cases[case]["arch"])), folder/f"{name}.pth")


FOLDERS = dict( # environment variable of scale `paper` -> function that fills its folder
    REVISITED=revisited, COPYDAYS=copydays, VOC=voc, COCO=coco, IN9=imagenet_9, DAVIS=davis, CUB=cub, ILSVRC=ilsvrc,
    DATASETS=further)


def make_all(folder):
    "Write every data set below a folder"
    pictures = Pictures()
    names = imagenet(folder/"IMAGENET", pictures)
    simclr(folder/"SIMCLR", names)
    for name, make in FOLDERS.items():
        make(folder/name, pictures)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = ROOT/"data"/"rehearsal"
    done = folder/"made_by.txt" # written last
    if done.exists() and done.read_text() == Path(__file__).read_text():
        return
    shutil.rmtree(folder, ignore_errors=True)
    make_all(folder)
    hub(folder/"billpsomas")
    write(done, Path(__file__).read_text())
    print(f"{len(list(folder.rglob('*.*')))} files in {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
