"""What is computed: pipelines, workloads, formats and the numbers that go in."""
