"""What the containers of docker-compose.yml are given at their start."""
