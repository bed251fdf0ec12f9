"""The reproducible companion to Keep It SimPool (ICCV 2023): attention pooling for convnets and transformers

Modules:

- `simpool.advise`: Settings, memory, hours and bandwidth of a DINO run for your number of images and GPUs, each with its reason
- `simpool.attention`: Attention weights of a few queries over many positions, as a function that returns them
- `simpool.attentive`: Attentive poolings that came after SimPool, for frozen tokens: AbMILP, AIM, V-JEPA, CAE, CoCa, SigLIP, CLIP, efficient probing and others
- `simpool.backbones`: timm networks up to their last features, for images of any size, and three toy networks
- `simpool.bam`: Balanced self-attention matching: views of an image agree on which other images of the batch they resemble
- `simpool.checkpoint`: Save a finished network, load a released one, resume a run
- `simpool.cli`: `simpool pretrain | train | knn | evaluate | attend | export | verify | pack | advise | bench | doctor`: the package without a notebook
- `simpool.convert`: What a released checkpoint holds: its weights under our names, which network they belong to, how it was trained
- `simpool.core`: What every other notebook needs: clear errors, seeds, devices, progress bars, safe files, provenance
- `simpool.data.augment`: timm's augmentations of a supervised training: RandAugment, erased rectangles, mixed images, several versions of one image
- `simpool.data.images`: All image sources as one kind of dataset: scenes, class folders, flat folders, published data sets
- `simpool.data.multicrop`: Two global and several local views of each image, as DINO makes them
- `simpool.data.scenes`: Labeled scenes with exact object masks, composed from the bundled photo cut-outs
- `simpool.data.shards`: Millions of images in a few large files, on a disk or on a server, read at random without unpacking
- `simpool.data.transforms`: From PIL images to the input of a network: random crops, colors, blur, normalization
- `simpool.dino`: Self-distillation without labels: DINO's loss, center and temperatures, teacher and head
- `simpool.evaluation.backgrounds`: Does a classifier look at the object or at the background? Eight variants of each picture
- `simpool.evaluation.detection`: Train torchvision's Faster or Mask R-CNN on a network of ours, and score its boxes and masks as COCO does (BAM's COCO row)
- `simpool.evaluation.discovery`: Find the object of an image without any label: one box from features or from an attention map
- `simpool.evaluation.features`: The pooled vector, the attention map or any other features of every image of a dataset, computed once
- `simpool.evaluation.finetune`: Train a whole network further on another data set, with timm's augmentations, averaged weights and layer-wise decay (Table 4)
- `simpool.evaluation.intervals`: How far a mean may be from the truth: 95 % intervals over objects and over repeats
- `simpool.evaluation.knn`: Weighted nearest-neighbor classification: how the papers read features without training anything
- `simpool.evaluation.linear`: A linear classifier on frozen features: every setting from one stream of features, and the exact optimum for twenty strengths of the penalty
- `simpool.evaluation.localization`: How much of an attention map lies on the object, compared with maps that never saw the image
- `simpool.evaluation.probe`: Attentive probes: every pooling on the frozen tokens of a network, with every learning rate, from one stream of tokens
- `simpool.evaluation.retrieval`: Is the right picture found among many? Revisited Oxford and Paris, and copies that were cropped, blurred or compressed
- `simpool.evaluation.segmentation`: Label every pixel by its patch, by neighbors or by a linear classifier: what frozen patch features know
- `simpool.evaluation.suite`: All evaluations of a network in one table, from one pass over the images: `evaluate(model, "photos")`
- `simpool.evaluation.video`: Follow objects through a video by the features of a frozen network, and score the masks as DAVIS does
- `simpool.export`: A network and its attention map as one file that runs without PyTorch: `export_onnx(model, "model.onnx")`
- `simpool.framework`: Algorithm 1 of the paper as one loop: every pooling is a choice of its maps
- `simpool.fused`: The layer as one operation with a hand-written backward pass that saves only its input
- `simpool.kernels`: SimPool on a GPU in Triton: features are read twice forward and twice backward, and only they are saved
- `simpool.loop`: One training loop with deterministic batches, a log, checkpoints and exact resume
- `simpool.maps`: From images to attention maps in one call, and the picture of them
- `simpool.model`: A network with attention pooling in one call: `create_model("vit_small_patch16_224", pool="simpool")`
- `simpool.monitor`: Is a training healthy? A verdict in words, time spent waiting for images, a log that survives, learning curves
- `simpool.optim`: Which parameters decay, DINO's gradient clip, and the LARS optimizer
- `simpool.pools`: Every pooling of the paper behind one interface: features in, one vector per image out, and the attention where there is one
- `simpool.precision`: bfloat16 where it is faster and right: the check before a run relies on it
- `simpool.pretrain`: DINO and BAM pre-training: the self-distillation step, its settings, and one call for a whole run
- `simpool.processes`: Several processes that train one network, with the result of one
- `simpool.reproduce.bench`: How fast the layer, the training step, the views and the neighbors are, as ratios to other implementations
- `simpool.reproduce.cards`: A released network and its model card: the card's k-NN numbers, ours, and the difference
- `simpool.reproduce.cost`: What a network costs: parameters and multiply-accumulates, counted as Table 8 of the paper counts them
- `simpool.reproduce.paper`: Every published number that results here are compared with, once, with its source
- `simpool.reproduce.plots`: One style, one palette, and the figures of the papers
- `simpool.reproduce.results`: Trainings, tables and figures on disk, each with its provenance
- `simpool.reproduce.scratch`: Run an experiment by hand: what it reads and does not find is made small, on the spot
- `simpool.reproduce.sweep`: Trains many small networks that differ in one thing, and tabulates them with seeds and intervals
- `simpool.reproduce.trials`: Many networks side by side: trained, measured in the same way, and kept on disk
- `simpool.schedule`: Learning rate, weight decay, teacher momentum and teacher temperature as arrays of numbers
- `simpool.simpool`: One attention pooling layer at the end of any network: the query is the average, the values are pooled by a power mean
- `simpool.supervised`: Train a classifier, and see where supervised attention looks
- `simpool.watch`: From images in any form to attention maps, once or after every epoch of a training
- `simpool.widget`: Networks, pictures and their maps in JupyterLab, live: `explore("supervised-vit-simpool", "photo.jpg")`"""

# AUTOGENERATED! DO NOT EDIT! File to edit: ../nbs/90_api.ipynb.

# %% auto #0
__all__ = []

# %% ../nbs/90_api.ipynb #47d874bd
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__version__ = "0.1.0"

# %% ../nbs/90_api.ipynb #8a8e6dbb
_HOME = dict(
    SimPool="simpool",
    create_pool="pools",
    list_pools="pools",
    register_pool="pools",
    create_model="model",
    load_checkpoint="checkpoint",
    attention_maps="watch",
    show_attention="maps",
    explore="widget",
    knn_classify="evaluation.knn",
    pretrain="pretrain",
    train_supervised="supervised",
    DINOHead="dino",
    DINOLoss="dino",
    BAMLoss="bam",
    cosine_schedule="schedule",
    LARS="optim",
)
__all__ = list(_HOME)

# %% ../nbs/90_api.ipynb #0927293e
def __getattr__(name):
    "Import a public name from its module when it is first used"
    if name not in _HOME:
        raise AttributeError(f"module 'simpool' has no attribute {name!r}")
    return getattr(import_module(f"simpool.{_HOME[name]}"), name)

def __dir__():
    "List the names of the package, with those that are not imported yet"
    return sorted([*globals(), *_HOME])

# %% ../nbs/90_api.ipynb #61fb1fb8
_FASTER = {"simpool": "fused", "fused": "kernels"} # module -> faster form of the layer, which builds on it

class _Package(ModuleType):
    "Keep public names for the objects they name, and load the faster forms of the layer with it"
    def __setattr__(self, name, value):
        if name in _HOME and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)
        if name in _FASTER and (name == "simpool" or find_spec("triton")):
            try:
                import_module(f"simpool.{_FASTER[name]}")
            except AttributeError as e: # Python's import system would pass over it in silence
                raise ImportError(f"simpool.{_FASTER[name]} cannot be imported: {e}") from e

sys.modules[__name__].__class__ = _Package
