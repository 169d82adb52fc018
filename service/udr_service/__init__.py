"""udr as a service: nearest demonstrations and prompts over REST."""
