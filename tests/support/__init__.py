"""What several tests share: ways to call, servers for odd answers, small transports."""
