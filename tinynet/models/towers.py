"""AlexNet's two towers on two devices: Krizhevsky, Sutskever, Hinton 2012, Fig. 2."""

from collections.abc import Sequence

from tinynet.backend.device import checked_device
from tinynet.layers import Sequential
from tinynet.parallel import EachTower, Exchange, FirstTower, Split


def split(net: Sequential, devices: Sequence[str]) -> Split:
    """`net`, whose layers have the names of AlexNet's, cut into one tower for each device.

    Every tower sees the picture; of each layer it has its share of the kernels or neurons.
    """
    return Split(
        net,
        devices,
        EachTower("conv1", "relu1", "lrn1", "pool1"),
        EachTower("conv2", "relu2", "lrn2", "pool2"),  # reads its own tower's maps alone
        Exchange(),  # conv3 reads the maps of all towers
        EachTower("conv3", "relu3"),
        EachTower("conv4", "relu4"),  # its own alone, again
        EachTower("conv5", "relu5", "pool5", "flatten"),
        Exchange(),  # fc6 reads all
        EachTower("fc6", "relu6", "drop6"),
        Exchange(),  # fc7 reads all
        EachTower("fc7", "relu7", "drop7"),
        Exchange(),  # fc8 reads all, on the first device
        FirstTower("fc8"),
    )


def on_devices(net: Sequential, towers: int, devices: Sequence[str] | None) -> Sequential | Split:
    """`net` on the CPU for devices=None, on one device, or split over as many as it has towers.

    Raises ValueError for another number of devices, and what `checked_device` does.
    """
    if devices is None:
        return net
    devices = tuple(checked_device(device) for device in devices)
    if len(devices) == 1:
        return net.to(devices[0])
    if len(devices) != towers or towers == 1:
        fits = "one device" if towers == 1 else f"one device, or {towers}, one for each tower"
        raise ValueError(f"expected {fits}, got {len(devices)}: {', '.join(devices) or 'none'}")
    return split(net, devices)
