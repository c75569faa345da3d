"""What a backend promises, and the types that cross that border. All may import it; read `adapter` first."""
