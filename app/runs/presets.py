"""Which preset the options of a run come from."""

from app.runs.run_types import RUN_TYPES
from app.runs.tables import Run
from ml.option_fields import option_values

# What people change within a preset.
_SIZES = frozenset({"size", "labels", "steps", "seed", "batch_size", "evaluation_interval"})


def preset_of(run: Run) -> str:
    """The name of the preset, with a word where further options were changed; empty if unknown."""
    run_type = RUN_TYPES.get(run.run_type)
    if run_type is None or not run_type.presets:
        return ""
    changed = {
        name: sum(
            run.options.get(option, value) != value
            for option, value in option_values(preset).items()
            if option not in _SIZES
        )
        for name, preset in run_type.presets.items()
    }
    nearest = min(changed, key=lambda name: changed[name])
    return nearest if changed[nearest] == 0 else f"{nearest}, changed"
