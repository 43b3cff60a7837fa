"""The dashboard of the run that goes on. Copy it to leave a part out, or to add one of your own."""

from snakemap.doors import Dashboard, page


def arranged(dashboard: Dashboard) -> None:
    """Put the parts in their places."""
    dashboard.arrange(
        left={
            "Runs": dashboard.runs,
            "Files": dashboard.files,
            "Tree": dashboard.tree,
            "Actions": dashboard.actions,
        },
        center=[
            dashboard.toolbar,
            dashboard.color_limits,
            dashboard.maps,
            *dashboard.more("center"),
            dashboard.time_bar,
        ],
        right=[
            dashboard.frame,
            dashboard.histogram,
            *dashboard.more("right"),
            dashboard.run_again,
        ],
        bottom=[dashboard.summary, *dashboard.more("bottom")],
    )


page("dashboard", arranged)
