"""How a net is cut into towers: which layers each has, and where they exchange what they computed."""

import itertools
from collections.abc import Sequence

from tinynet.layers import Conv2d, Linear, Sequential
from tinynet.layers.layer import Layer
from tinynet.layers.parameter import Parameter
from tinynet.parallel.towers.cut import Parts, part_of
from tinynet.parallel.towers.exchange import Exchange
from tinynet.parallel.towers.tower import Chain, Tower


class EachTower:
    """Layers of which every tower has a part: of the kernels, of the neurons. Names of the whole net's layers."""

    def __init__(self, *names: str):
        self.names = names


class FirstTower(EachTower):
    """Layers that the first device has whole."""


Stage = EachTower | Exchange


def cut_net(net: Sequential, towers: Sequence[Tower], stages: Sequence[Stage]) -> list[Exchange]:
    """Give each tower its chains of layers, and `net` parameters that lie in parts there; the exchanges between the
    chains. Raises ValueError if the stages are not the net's or a layer cannot be cut so."""
    chains = _chains(net, stages)
    exchanges = [stage for stage in stages if isinstance(stage, Exchange)]
    for exchange, (alone, layers) in zip(exchanges, chains[1:], strict=True):
        exchange.connect(layers[0].name, len(towers), alone)
    before = ""
    for alone, layers in chains:
        for tower in towers:
            here = not alone or tower.number == 0
            tower.chains.append(_chain(tower, 1 if alone else len(towers), layers, before) if here else None)
        before = str(layers[-1])
    for name, layer in net.layers.items():
        for key, whole in list(vars(layer).items()):
            if isinstance(whole, Parameter):
                parts = [getattr(tower.layers[name], key) for tower in towers if name in tower.layers]
                setattr(layer, key, Parts(parts, whole.lr_mult, whole.weight_decay_mult))
        vars(layer)["_in_parts"] = True
    return exchanges


def _chains(net: Sequential, stages: Sequence[Stage]) -> list[tuple[bool, list[Layer]]]:
    """[(whether the first tower alone has them, the whole net's layers up to the next exchange)]."""
    names = [name for stage in stages if isinstance(stage, EachTower) for name in stage.names]
    if names != list(net.layers):
        raise ValueError(f"Split: expected stages with the layers {list(net.layers)}, got {names}")
    kinds = [type(stage) for stage in stages]
    if kinds[-2:] != [Exchange, FirstTower] or FirstTower in kinds[:-1] or kinds[0] is Exchange:
        raise ValueError("Split: expected EachTower stages, an Exchange and, at the end, one FirstTower")
    if any(pair == (Exchange, Exchange) for pair in itertools.pairwise(kinds)):
        raise ValueError("Split: expected layers between two exchanges, got none")
    chains: list[tuple[bool, list[Layer]]] = [(False, [])]
    for stage in stages:
        if isinstance(stage, Exchange):
            chains.append((False, []))
        else:
            chains[-1] = isinstance(stage, FirstTower), [*chains[-1][1], *(net.layers[name] for name in stage.names)]
    for _, layers in chains:
        if not isinstance(layers[0], Conv2d | Linear):
            expected = "a Conv2d or Linear at the start and behind each Exchange"
            raise ValueError(f"Split: expected {expected}, got {layers[0]}")
    return chains


def _chain(tower: Tower, T: int, layers: Sequence[Layer], before: str) -> Chain:
    t = tower.number if T > 1 else 0
    chain = Chain({layer.name: part_of(layer, t, T, reads_all=layer is layers[0]) for layer in layers})
    chain.tower, chain.before = tower, before
    return chain.to(tower.device)
