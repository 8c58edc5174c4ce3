"""Room of `casbin`: the rule language, its compiler, the judge, and the tools around them."""
