"""One run of the main job: from a cohort of patients to predictions on patients never seen."""
