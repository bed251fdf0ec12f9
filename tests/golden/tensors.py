"Tensors made from their name alone, so that golden files need not hold weights"
import math
import zlib

import numpy as np
import torch


def golden_tensor(name, shape, seed=0, scale=None):
    "N(0, 1) times `scale`; without it by the parameter's name: matrices 1.4/sqrt(fan in), norms near 1, others near 0"
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode()))
    noise = rng.standard_normal(tuple(shape)).astype(np.float32)
    small = np.float32(0.05)*noise
    if scale is not None:
        value = noise*np.float32(scale)
    elif name.endswith(("running_var", "weight_g")):
        value = 1 + np.abs(small)
    elif len(shape) >= 2 and not name.endswith(("pos_embed", "cls_token")):
        value = noise*np.float32(1.4/math.sqrt(np.prod(shape[1:])))
    elif name.endswith("weight"):
        value = 1 + small
    else:
        value = small
    return torch.from_numpy(np.ascontiguousarray(value))


def fill(module, seed=0):
    "Give every parameter and buffer of `module` its golden value, in place"
    module.load_state_dict({k: golden_tensor(k, v.shape, seed).to(v.dtype) for k, v in module.state_dict().items()})
    return module
