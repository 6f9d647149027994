"""Evidence: figures and tables from a TrialTable; knows no torch and no MLflow."""
