"""The command line, the only place that prints. Modules load torch when a verb runs, never for help."""
