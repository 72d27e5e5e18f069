"""What the paper leaves open, each as something that runs: other objectives, other wishes, other sizes. Extensions, not the paper."""
