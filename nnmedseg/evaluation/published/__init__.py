"""How each paper scores itself, to compare a network with the numbers that were published.

The papers differ in the threshold, in what an empty mask counts, and in whether images are pooled
or averaged, so that their tables cannot be compared with each other. The project's own metrics are
in ``nnmedseg.evaluation.metrics``.

======================  ==========================================================================
``pooled``              RoSPER-Net and ASC-Seg: all pixels of all images in one confusion matrix
``condseg``             ConDSeg: means over images, an empty prediction has precision 1
``promise``             ProMISe: opened masks at a quarter of the size, eight metrics
``heteromedseg``        HeteroMedSeg's binary data sets: means over images, two kinds of HD95
``synapse``             HeteroMedSeg on Synapse: Dice and HD95 of volumes in voxels, and how slices
                        become the network's input
======================  ==========================================================================
"""
