"""Settings that make a run on the simulated world as small as it can be: shared by several folders of tests."""

SMALL = [
    "data.source.users=30",
    "data.source.items=100",
    "data.source.events_per_user=20",
    "evaluation.test_samples=24",
    "evaluation.resamples=100",
    "backbone.width=16",
    "backbone.layers=1",
    "backbone.heads=2",
    "backbone.vocabulary=500",
    "backbone.training.epochs=1",
]
