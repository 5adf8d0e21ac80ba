"""What families are built from: networks, optimisers, flows, energies, denoisers."""
