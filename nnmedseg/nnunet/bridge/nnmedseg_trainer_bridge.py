"""The only file in the folder that ``nnUNet_extTrainer`` names: nnU-Net finds our trainers here.

nnU-Net imports it as a top-level module and forgets it again, so nothing may be defined here: the
classes keep the modules they come from, and can be pickled.
"""

from nnmedseg.trainers import available_trainers

globals().update({trainer.__name__: trainer for trainer in available_trainers()})
