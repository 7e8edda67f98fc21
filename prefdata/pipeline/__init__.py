"""Steps, their registry, pipelines as YAML, the plan and the runtime."""
