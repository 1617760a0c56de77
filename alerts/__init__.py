"""From closed panes to alerts: baselines, spike detection, the life of an alert, sinks."""
