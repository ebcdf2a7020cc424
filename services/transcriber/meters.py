"""What the transcriber counts for `/metrics`."""

from services.runtime.metrics import Metrics


class Meters:
    """All metrics of this process, made once."""

    def __init__(self, metrics: Metrics) -> None:
        self.audio = metrics.counter("audio_seconds_total", "Seconds of audio that the engine heard")
        self.batch = metrics.histogram("batch_seconds", "Seconds that a batch of windows took on the engine")
        self.unit = metrics.histogram("unit_seconds", "Seconds that a unit was in hand", ("stream", "outcome"))
        self.jobs = metrics.counter("jobs_total", "Jobs that this transcriber brought to their end", ("state",))
        self.waiting = metrics.gauge("batches_waiting", "Batches that wait for a slot of the engine")
        self.engine = metrics.gauge("engine_running", "Whether the engine process is there")
