"""What options are if nobody says otherwise: for each kind of data and net."""

from typing import Any

from tinynet.data.names import PHOTOS

TOWERS = 2  # of the nets that can be split
FEW = 5_000  # photographs, below which the small net is trained: the paper's, of 61 million weights, had 1.2 million
GREY = ("mnist", "fashion-mnist")  # sets of pictures of one channel
# what --data decides unless an option says otherwise
DATA: dict[str, dict[str, Any]] = {
    "shapes": {"epochs": 3, "train_size": 20_000, "val_size": 2_000, "augment": "none"},
    "mnist": {"epochs": 2, "augment": "none"},
    "fashion-mnist": {"epochs": 2, "augment": "none"},
    "cifar-10": {"epochs": 25, "augment": "mirror"},
    PHOTOS: {"epochs": 90, "augment": "paper", "workers": 1},
}
MODELS: dict[str, dict[str, Any]] = {
    "alexnet_mini": {"batch_size": 64, "lr": 0.01, "schedule": "step"},
    "alexnet": {"batch_size": 128, "lr": 0.01, "schedule": "plateau", "preset": "paper"},
}
COMMON: dict[str, Any] = {
    **{"data_dir": None, "train_size": None, "val_size": None, "image_size": None, "preset": None, "num_classes": None},
    **{"momentum": 0.9, "weight_decay": 5e-4, "patience": None, "workers": 0, "seed": 0, "devices": "cpu"},
    "precision": "fp32",
    **{"pretrained": None, "freeze": [], "out": None, "checkpoint_minutes": 10.0, "quiet": False, "tensorboard": False},
    **{"graph": False, "trace": None, "resume": None},
}
IMAGE_SIZES = {"shapes": 32, "mnist": 28, "fashion-mnist": 28, "cifar-10": 32, PHOTOS: 64}  # for alexnet_mini
INPUT_SIZES = {"paper": 227, "torchvision": 224}  # of the presets of alexnet
PRECISIONS = ("fp32", "tf32x3", "tf32", "bf16")  # tinynet.backend.precision's, which would load NumPy
AUGMENT = {
    "none": "the picture, or its centre if it is larger than the net's input",
    "crop": "a random crop, of pictures of the input's own size after padding them by an eighth",
    "mirror": "crop, and half of the pictures mirrored",
    "paper": "mirror, and colour noise (Krizhevsky et al. 2012, section 4.1)",
}
SCHEDULES = {
    "step": "a tenth after 60 and 85 % of the epochs",
    "plateau": "a tenth each time the validation error stops improving, three times (the paper's)",
    "constant": "the same throughout",
}
