"""How models lie on disk: directories with weights and a vocabulary."""
