"""The service: the registry over HTTP for pipelines, and pages for people."""
