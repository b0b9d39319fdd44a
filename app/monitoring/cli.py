"""`xray monitor`: the state of clinics, and the measured false alarms of the tests."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.core.cli_output import AsJson, print_json
from app.settings import Settings
from ml.errors import counted

if TYPE_CHECKING:
    from app.monitoring.views import StateView

monitor_app = typer.Typer(no_args_is_help=True, help="Monitoring of clinics.")


@monitor_app.command("check")
def check(as_json: AsJson = False) -> None:
    """Look for changes at every clinic now, record new alarms, and show all states.

    The server does it every hour.
    """
    from app.migrations import migrated_database
    from app.monitoring.service import check_clinics, clinic_states
    from app.monitoring.views import StateView

    settings = Settings()
    database = migrated_database(settings)
    made = check_clinics(database, settings)
    table = Table("clinic", "state", "images", "missing", "what differs", "reviews")
    with database.sessions() as session:
        states = [StateView.of(state) for state in clinic_states(session)]
        if as_json:
            print_json({"new_alarms": made, "clinics": [_state_values(one) for one in states]})
            return
        for one in states:
            changes = "; ".join(one.changes)
            table.add_row(
                one.clinic, one.state, str(one.images), str(one.missing), changes, one.reviews
            )
    database.close()
    Console().print(table)
    print(f"{counted(made, 'new alarm')} recorded.")


def _state_values(state: "StateView") -> dict[str, object]:
    names = ("clinic", "state", "images", "missing", "changes", "reviews")
    return {name: getattr(state, name) for name in names}


@monitor_app.command("simulate")
def simulate(
    draws: Annotated[int, typer.Option(min=100, help="Blocks of each simulation.")] = 2000,
) -> None:
    """Measure how often a block alarms without a change, and with some changes."""
    from ml.evaluation.monitoring import alarm_rate, simulated_clinic

    usual = simulated_clinic()
    table = Table("clinic", "blocks that alarm", "95 % interval")
    for name, before, after in (
        ("no change", usual, usual),
        (
            "no change, 95 % uncertain",
            simulated_clinic(uncertain=0.95),
            simulated_clinic(uncertain=0.95),
        ),
        (
            "no change, nearly all normal",
            simulated_clinic(uncertain=0.1, healthy=0.97),
            simulated_clinic(uncertain=0.1, healthy=0.97),
        ),
        ("uncertain: 40 % to 60 %", usual, simulated_clinic(uncertain=0.6)),
        ("uncertain: 40 % to 75 %", usual, simulated_clinic(uncertain=0.75)),
        ("normal among the others: 50 % to 25 %", usual, simulated_clinic(healthy=0.25)),
        ("out-of-distribution score: half a deviation", usual, simulated_clinic(ood_shift=0.5)),
    ):
        rate = alarm_rate(before, after, draws=draws)
        table.add_row(name, f"{rate.value:.2%}", f"{rate.low:.2%} to {rate.high:.2%}")
    Console().print(table)
