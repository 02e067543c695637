"""ImageNette-160 (fast.ai): ten classes of ImageNet, shortest side 160 pixels, from the official archive, md5 checked."""

import torch

from bench.data import archive, image_folder

URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz"
MD5 = "e793b78cc4c9e9a4ccc0c1155377a412"  # "160px" in pytorch/vision 051ba34, torchvision/datasets/imagenette.py


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool, None]:
    """RGB images resized to `image_size` squares without keeping their aspect, as the authors do; val is the test split.

    The authors resize the normalised tensor; here PIL resizes the bytes, with antialiasing.
    """
    tensors, _ = image_folder.decode(archive.official(spec, URL, MD5), spec, test="val", square=False)
    return tensors, True, None
