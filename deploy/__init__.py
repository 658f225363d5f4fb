"""What operators do: one playbook a verb, and the programs behind them on the controller."""
