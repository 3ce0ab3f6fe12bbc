"""The organs of the Synapse set in the order of its published tables."""

ORGANS = (
    "aorta",
    "gallbladder",
    "left kidney",
    "right kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)
"""Names of the labels 1 to 8; 0 is the background."""
