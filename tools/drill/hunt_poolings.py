"""Every pooling against itself in float64: output, attention and gradient, in all sizes, layouts and types.

How far float32 may be off depends on the case: numbers far from zero lose digits, and a cluster may win by a hair.
So the input is also changed in float64, by a millionth (bfloat16: by its rounding; poolings that compare distances: by
more), and the error may be twice what this changes (bfloat16: four times, since it rounds after every operation). Where
there is a LayerNorm, whose gradient is about 1/std, a gradient may be zero by cancellation, so errors are set against
that.
"""
import copy
from functools import partial

import torch

from simpool.fused import fused
from simpool.pools import create_pool, list_pools
from simpool.simpool import VALUE_MIN, SimPool


def features(rng, dim, map_only, map_never, shift):
    "Draw tokens or a map, contiguous or not, scaled, shifted, with ties, or with one position"
    b, n = int(rng.integers(1, 4)), int(rng.integers(1, 8))
    x = torch.randn(b, n, n, dim, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
    x = x*10**rng.uniform(-2, 1.5) + shift*rng.choice([0, 0, 1, 10])
    if rng.random() < .2:
        x = x.relu()
    x = x.permute(0, 3, 1, 2) # a map, channels last
    x = x if rng.random() < .5 else x.contiguous()
    return x if map_only or rng.random() < .3 and not map_never else x.flatten(2).mT


def make_pool(rng, name, dim):
    "Make a pooling, SimPool with all of its options; says which"
    if name != "simpool":
        return create_pool(name, dim), name
    heads = int(rng.choice([1, 1, 2, 4]))
    options = dict(gamma=(None, 1.25, 2., .7, 3., 6.)[rng.integers(6)], value_min=VALUE_MIN[rng.integers(3)],
                   qkv_bias=bool(rng.integers(2)), use_beta=bool(rng.integers(2)))
    pool = SimPool(dim, heads, **options)
    for p in pool.norm_patches.parameters():
        if rng.random() < .5:
            torch.nn.init.normal_(p, 1, .5)
    return pool, f"simpool {heads} {options}"


def results(call, x):
    "Output, attention if there is one, and gradient of x"
    x = x.detach().clone().requires_grad_()
    out = call(x)
    out = out if isinstance(out, (tuple, list)) else (out,)
    loss = sum((t*torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in out)
    loss.backward()
    return [t.detach().double() for t in (*out, x.grad)]


def distances(some, others, floors):
    "Largest relative differences"
    return [((a - b).abs().max()/(b.abs().max() + f)).item() for a, b, f in zip(some, others, floors, strict=True)]


def compare(pool, call, x):
    "Compare a pooling with itself in float64; says what is off"
    exact = copy.deepcopy(pool).double()
    reference = exact.reference if isinstance(exact, SimPool) and call.func is fused else exact
    options = {} if reference is not exact or not call.keywords else call.keywords
    reference = partial(reference, **options) if options else reference
    got, right = results(call, x), results(reference, x.double())
    noise, half = torch.Generator().manual_seed(0), x.dtype == torch.bfloat16
    size = 2**-6 if half else 2**-14 if pool.pool_name in ("kmeans", "otk") else 2**-20
    changed = [x.double()*(1 + size*torch.randn(x.shape, generator=noise, dtype=torch.float64)) for _ in range(3)]
    floors = [1e-3*x.abs().max().item()]*len(right)
    if any(isinstance(m, torch.nn.LayerNorm) for m in pool.modules()):
        floors = [1e-2]*(len(right) - 1) + [.1/(x.double().std(correction=0).item() + 1e-3)]
    spread = [distances(results(reference, c), right, floors) for c in changed]
    for i, error in enumerate(distances(got, right, floors)):
        allowed = max(.1 if half else 1e-3, (4 if half else 2)*max(s[i] for s in spread))
        if not error < allowed:
            return f"result {i} is off by {error:.1e}, allowed {allowed:.1e}"
    return None


def one_case(rng, name, i):
    "Draw a case: its description and a function that tries it"
    torch.manual_seed(i)
    dim = int(rng.choice([8, 16, 64]))
    pool, words = make_pool(rng, name, dim)
    pool = pool.eval()
    x = features(rng, dim, pool.wants_map, name == "cls", shift=name not in ("kmeans", "otk")) # squares lose digits
    if name == "simpool" and rng.random() < .4:
        return f"fused {words} {tuple(x.shape)}, case {i}", partial(compare, pool, partial(fused, pool), tokens_of(x))
    call = partial(pool, return_attn=True) if pool.has_attention and rng.random() < .5 else partial(pool)
    if rng.random() < .15 and (name in ("gap", "max") or name == "simpool" and (pool.gamma or 1) >= 1): # u^-.3 is steep
        x = x.bfloat16()
        pool_call = partial(pool.bfloat16(), **call.keywords)
        return f"{words} bfloat16 {tuple(x.shape)}, case {i}", partial(compare, pool, pool_call, x)
    return f"{words} {tuple(x.shape)}, case {i}", partial(compare, pool, call, x)


def tokens_of(x):
    "Tokens of a map"
    return x.flatten(2).mT if x.ndim == 4 else x


def hunt(tally, rng, share, folder):
    names = list_pools()
    names += ["simpool"]*len(names) # half of the cases
    for i in range(round(7_500*share)):
        tally.case(*one_case(rng, names[i%len(names)], i))
