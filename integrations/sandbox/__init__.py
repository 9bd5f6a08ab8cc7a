"""Local stand-ins for Wave, Zendesk and Jira, spoken to over real HTTP on loopback."""
