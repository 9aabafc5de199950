"""Appends the figures of a run to a text file beside it. Put your service here."""

from occframe.storage import exists, join, read_bytes, write_bytes


class {{Class}}:
    """Fulfils ``occframe.types.Tracker``. What it raises ends the tracking, not the run."""

    def __init__(self, config, context):
        self.file = config.file

    def begin(self, run):
        """run: name, url, seed and config. A run that goes on in its directory gets a new tracker."""
        self.url = join(run.url, self.file)
        self.lines = read_bytes(self.url).decode().splitlines() if exists(self.url) else []

    def figures(self, source, figures, step):
        """source: a pipeline step's name. step: of a training, or None for the results of a finished step."""
        self.lines += [f"{source} {step or '-'} {name} {value:.6g}" for name, value in figures.items()]

    def finish(self, status):
        """status: done, failed or interrupted."""
        write_bytes(self.url, "\n".join([*self.lines, status, ""]).encode())
