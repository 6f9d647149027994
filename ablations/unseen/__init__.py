"""Another cohort under the heads of a study: asked, run, scored and kept."""
