"""The worker process that uses the GPU, for gpu.py, which starts another one should this one crash or hang."""

import platform
from collections.abc import Sequence
from typing import Any

import gpu_check
import gpu_devices
import gpu_nets
import gpu_peer
import gpu_roofline
import gpu_time
import numpy as np
import worker

import tinynet
from tinynet.backend import device
from tinynet.backend.precision import PRECISIONS, check_precision_on
from tinynet.errors import DeviceError
from tinynet.ops.matmul import matmul

COPIED = 1 << 29  # floats in the copy that measures bandwidth, if so many fit
PRODUCT = 8192  # rows and columns of the matrices that measure cuBLAS
Result = dict[str, Any]


def _not(row: Result) -> bool:
    return "not_run" in row


def usable(precision: str, where: str) -> bool:
    try:
        check_precision_on(where, precision)
    except DeviceError:
        return False
    return True


class GpuWorker:
    """Every method runs on the GPU `where`, as "cuda:0", and gives what JSON can hold. peer_where: PyTorch's device."""

    def describe(self, where: str, peer_where: str) -> Result:
        """What is there; {"missing": text} if the GPU cannot be used."""
        try:
            device.checked_device(where)
        except DeviceError as error:
            return {"missing": str(error)}
        cupy = device.cupy()
        runtime = cupy.cuda.runtime
        versions = {"python": platform.python_version(), "tinynet": tinynet.__version__, "numpy": np.__version__}
        versions["cupy"] = cupy.__version__
        if not (peer := gpu_peer.usable("cpu")):
            versions["torch"] = str(gpu_peer.torch().__version__)
            peer = gpu_peer.usable(peer_where)
        name = runtime.getDeviceProperties(int(where.removeprefix("cuda:")))["name"].decode()
        about = {"gpu": name, "count": runtime.getDeviceCount(), "versions": versions, "no_peer": peer}
        return {**about, "precisions": [each for each in PRECISIONS if usable(each, where)]}

    def check_layers(self, where: str, net: str, batch_size: int, precisions: list[str], seed: int) -> Result:
        with device.on(where):
            rows = gpu_check.check_layers(net, batch_size, precisions, seed, where)
        failed = [f"check {row['layer']} of {net} in {row['precision']}: {row['not_run']}" for row in rows if _not(row)]
        return {"checks": [row for row in rows if not _not(row)], "failed": failed}

    def check_step(self, where: str, net: str, batch_size: int, seed: int) -> Result:
        with device.on(where):
            return {"checks": gpu_check.check_step(net, batch_size, seed, where)}

    def ceilings(self, where: str, peer_where: str, no_peer: str) -> Result:
        """Bandwidth by a copy, and cuBLAS's products, by PyTorch; without it those in fp32 alone, by CuPy."""
        with device.on(where):
            free = device.cupy().cuda.runtime.memGetInfo()[0]
            call, count = gpu_time.copy_call(where, min(COPIED, free // 32))
            ceilings = {"bandwidth": count / gpu_time.typical(call)}
            gpu_nets.release()
            if no_peer:
                a = device.to_device(gpu_nets.numbers((PRODUCT, PRODUCT)), where)
                products = {"fp32": lambda: matmul(a, a)}
            else:
                products = gpu_peer.products(PRODUCT, peer_where)
            with gpu_peer.as_before(not no_peer):
                for precision, product in products.items():
                    ceilings[precision] = 2 * PRODUCT**3 / gpu_time.typical(product)
        return {"ceilings": ceilings}

    def times(
        self,
        where: str,
        peer_where: str,
        what: str,
        net: str,
        batch_size: int,
        precision: str,
        against: Sequence[str],
        repeat: int,
        ceilings: gpu_roofline.Ceilings,
    ) -> Result:
        """what: "steps", "layers" or "recorded", a method of gpu_time.Jobs."""
        jobs = gpu_time.Jobs(where, peer_where, repeat, ceilings)
        with device.on(where), gpu_peer.as_before(bool(against)):
            gpu_nets.release()
            gpu_peer.release()
            rows, failed = getattr(jobs, what)(net, batch_size, precision, against)
        return {"times": rows, "failed": failed}

    def devices(self, batch_size: int, choices: list[list[str]]) -> Result:
        gpu_nets.release()
        return {"devices": gpu_devices.compare(batch_size, choices)}


if __name__ == "__main__":
    worker.serve(GpuWorker())
