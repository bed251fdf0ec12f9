"Every pooling, and the three kinds of networks, give in onnxruntime what they give in PyTorch, at three sizes."
import pytest
import torch

from simpool.export import check_onnx, export_program, to_onnx
from simpool.model import create_model
from simpool.pools import create_pool, list_pools
from simpool.simpool import Pool

SIZES = [(64, 64), (48, 120), (61, 77)] # the usual one, a wide one, one that no patch divides


def worst(model, proto):
    "Largest difference of any output at any size"
    rows = check_onnx(model, proto.SerializeToString(), SIZES, batch=3)
    return max(value for row in rows for name, value in row.items() if name != "size")


class AllPools(Pool):
    "Every pooling on the same features: vectors side by side, and maps as if they were heads of one"
    has_attention = wants_map = True

    def __init__(self, dim):
        super().__init__()
        self.pools = torch.nn.ModuleList(create_pool(name, dim) for name in list_pools() if name != "cls")

    def forward(self, x, return_attn=False):
        results = [pool(x, return_attn=True) if pool.has_attention else (pool(x),) for pool in self.pools]
        z = torch.cat([result[0] for result in results], 1)
        return (z, torch.cat([result[1] for result in results if len(result) > 1], 1)) if return_attn else z


@pytest.mark.slow
def test_every_pooling():
    torch.manual_seed(0)
    model = create_model("vit_toy", AllPools, img_size=64, norm_first=True, depth=1).eval()
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 128*(len(list_pools()) - 1))
    assert worst(model, to_onnx(model, tokens=True)) < 2e-5


@pytest.mark.parametrize("options", [
    dict(backbone="convnext_toy", depths=(1, 1, 1, 1)),
    dict(backbone="resnet_toy", num_classes=3, pool_kwargs=dict(num_heads=4, value_min="channel")),
    dict(backbone="vit_toy", depth=1, img_size=(48, 64), norm_first=True, positions="simpool", in_chans=1),
    dict(backbone="vit_toy", depth=1, img_size=64, positions="dino", pool_kwargs=dict(use_beta=True)),
    dict(backbone="vit_toy", depth=1, img_size=64, reg_tokens=2, pool="cls"),
], ids=lambda o: "-".join(map(str, o.values())))
def test_every_kind_of_network(options):
    torch.manual_seed(0)
    model = create_model(**options).eval()
    if hasattr(model.body, "pos_embed"):
        torch.nn.init.normal_(model.body.pos_embed)
    assert worst(model, to_onnx(model, tokens=True)) < 2e-5


def test_network_of_one_size():
    "A network that takes images of its own size only: the sentence says so, and with that size it works"
    model = create_model("vit_toy", depth=1, img_size=64, dynamic_img_size=False, dynamic_img_pad=False).eval()
    with pytest.raises(ValueError, match="fix the size"):
        export_program(model)
    program, x = export_program(model, size=64), torch.randn(3, 3, 64, 64)
    pooled, attn = program.module()(x)
    torch.testing.assert_close(pooled, model(x))
    torch.testing.assert_close(attn, model.attention(x))
