"""Tables and figures from saved results: report, leaderboard, curves, robustness, ablation, efficiency, features, heat maps."""
