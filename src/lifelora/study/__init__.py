"""What several finished runs tell together: seeds as one, one run against another, and how a study is written down."""
