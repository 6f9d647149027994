"""Patient-disjoint folds and nested label budgets."""
