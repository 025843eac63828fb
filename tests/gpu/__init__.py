"""What must hold on every device: run on CUDA where there is one (`make test-gpu`), else on the CPU."""
