"""What families are built from: networks, optimiser, ODEs, energies, denoising, quadrature."""
