"""Train an AlexNet. Without options: a small one on pictures that the program draws, so that no file is needed. With
--data FOLDER, a folder of class folders of your photographs: the paper's net. It is `tinynet train`, with the paper's
net for every folder of photographs; `--evaluate` is `tinynet evaluate`.
"""

import sys

from tinynet.cli import train_alexnet as main

if __name__ == "__main__":
    sys.exit(main())
