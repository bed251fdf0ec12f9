"""Settings of every type and size: in Python, in the files of parameters, as options of a network."""
import dataclasses
import sys
from functools import partial
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from simpool.data.multicrop import MultiCrop
from simpool.model import create_model
from simpool.pools import create_pool
from simpool.pretrain import BAMConfig, DINOConfig
from simpool.supervised import SupervisedConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import stages  # noqa: E402

ATOMS = (st.none() | st.booleans() | st.integers(-10, 10) | st.integers() | st.floats() | st.text(max_size=6) |
         st.sampled_from(["1e-3", "nan", "inf", "-1", "simpool", "auto", "[]", "null", ".5"]))
ANYTHING = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                        max_size=2), max_leaves=4)
CONFIGS = SupervisedConfig, DINOConfig, BAMConfig, MultiCrop
NUMBERS = (int, float)


def has_type_of(value, default):
    "Tell whether a value can stand where a default is"
    if default is None or value is None:
        return True
    if isinstance(default, (bool, str)):
        return type(value) is type(default)
    if isinstance(default, NUMBERS):
        return isinstance(value, NUMBERS) and not isinstance(value, bool) and abs(value) < float("inf")
    return isinstance(value, (list, tuple)) == isinstance(default, (list, tuple))


def make_config(cls, name, value):
    "Make settings; says whether a value was taken that can be none"
    config = cls(**{name: value})
    default = next(f.default for f in dataclasses.fields(cls) if f.name == name)
    taken = getattr(config, name)
    if default is dataclasses.MISSING or has_type_of(taken, default) and (taken is not None or default is None):
        return None
    return f"{value!r} was taken"


def read_section(stage, scale, names, params):
    "Read the parameters of a stage; says which have another type than the notebook has"
    stages.read_params = lambda file="params.yaml": params[file]
    given = stages.read_parameters(stage, scale, names)
    wrong = [f"{k}={v!r}, not like {names[k]!r}" for k, v in given.items() if not has_type_of(v, names[k])]
    return "; ".join(wrong)


def changed(params, path, value):
    "Copy the files of parameters with one entry changed"
    if not path:
        return value
    copy = dict(params)
    copy[path[0]] = changed(copy.get(path[0]), path[1:], value) if isinstance(copy.get(path[0]), dict) else value
    return copy


def places(stage, params):
    "All sections and parameters of a stage, as paths that begin with the name of the file"
    for where in stage.sections:
        *file, dotted = where.split(":")
        path, here = [*(file or ["params.yaml"]), *dotted.split(".")], params
        for i, name in enumerate(path):
            here = here[name]
            if i:
                yield path[:i+1]
        yield from ([*path, name] for name in (here if isinstance(here, dict) else ()))


def build(function, **options):
    "Call a function that builds something; whatever it takes is right. Networks of a million channels are left out"
    if not any(abs(v) > 1000 for v in options.values() if isinstance(v, NUMBERS)):
        function(**options)


def try_values(tally, rng, n, name, call):
    "Try `n` values of every type"
    @hypothesis.seed(int(rng.integers(2**31)))
    @hypothesis.settings(max_examples=max(1, n), database=None, deadline=None,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(ANYTHING)
    def run(value):
        tally.case(f"{name} = {value!r}", partial(call, value))
    run()


def hunt(tally, rng, share, folder):
    each = max(3, round(30*share))
    for cls in CONFIGS:
        for f in dataclasses.fields(cls):
            if f.name != "crops":
                name = f"{cls.__name__}.{f.name}"
                try_values(tally, rng, each, name, lambda value, cls=cls, f=f: make_config(cls, f.name, value))
    params, scale = {file: stages.read_params(file) for file in ("params.yaml", "studies/params.yaml")}, "mini"
    for stage_name in stages.read_stages(scale):
        stage, names = stages.open_stage(stage_name, scale)
        for path in places(stage, params):
            def call(value, stage=stage, names=names, path=path):
                return read_section(stage, scale, names, changed(params, path, value))
            try_values(tally, rng, each, f"{stage_name} {'.'.join(path)}", call)
    simpool, network = partial(build, create_pool, name="simpool", dim=16), partial(build, create_model)
    for option in ("gamma", "num_heads", "value_min", "qkv_bias", "use_beta", "eps", "norm_eps"):
        call = lambda value, option=option: simpool(**{option: value}) # noqa: E731
        try_values(tally, rng, 3*each, f"SimPool.{option}", call)
    for option in ("backbone", "pool", "gamma", "num_classes", "in_chans", "img_size", "positions", "pool_kwargs"):
        call = lambda value, option=option: network(**dict(backbone="vit_toy") | {option: value}) # noqa: E731
        try_values(tally, rng, each, f"create_model {option}", call)
