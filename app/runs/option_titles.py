"""The titles that forms derive from the names of options (`ml.option_fields.option_title`).

They are written nowhere else, so the catalogues find them here.
"""

from ml.texts import msg

DERIVED_TITLES = (
    msg("Against"),
    msg("Base"),
    msg("Batch size"),
    msg("Bundle"),
    msg("Conditional"),
    msg("Critic learning rate"),
    msg("Critic steps"),
    msg("Crop"),
    msg("Data"),
    msg("Dropout"),
    msg("EMA decay"),
    msg("Folder"),
    msg("Generator"),
    msg("Generator learning rate"),
    msg("Images per site"),
    msg("Label smoothing"),
    msg("Learning rate"),
    msg("Network"),
    msg("Optimizer"),
    msg("Patience"),
    msg("Precision"),
    msg("Prevalence"),
    msg("Reference"),
    msg("Run"),
    msg("Samples"),
    msg("Seeds"),
    msg("Sensitivity"),
    msg("Steps"),
    msg("Synthetic"),
    msg("Synthetic share"),
    msg("Training data"),
    msg("Truncation"),
    msg("Weight decay"),
    msg("Width"),
)
