"""What is drawn: the dashboard and its panes, each a Panel viewer over the process's :class:`~snakemap.live.Live`."""
