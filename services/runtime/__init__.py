"""What every process needs: settings, logs, lifecycle, health, metrics, the bus, the object store, the job records."""
