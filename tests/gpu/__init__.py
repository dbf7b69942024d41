"""What only a real NVIDIA GPU can show. Skipped where there is none; `make test-gpu` on a machine that has one."""
