"""Who may come in and what they may do: staff sign-in, portal sign-in, permissions, security headers."""
