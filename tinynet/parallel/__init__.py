"""One model on several devices: towers, and the places where data crosses between them.

    Split       the model: a whole net cut into towers, one for each device; a Layer like any other
    EachTower   layers of which every tower has a part
    Exchange    stands where the next layer reads all towers' outputs
    FirstTower  layers that the first device has whole

`tinynet.models.towers` cuts AlexNet with them, as in the paper's Fig. 2.
"""

from tinynet.parallel.towers.exchange import Exchange
from tinynet.parallel.towers.split import Split
from tinynet.parallel.towers.stages import EachTower, FirstTower
from tinynet.parallel.towers.tower import Tower

__all__ = ["EachTower", "Exchange", "FirstTower", "Split", "Tower"]
