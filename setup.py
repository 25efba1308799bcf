"""Packaging of the forecasting codebase."""

from setuptools import find_packages, setup

BASE = [
  "absl-py",
  "array-record>=0.5",
  "av>=14",
  "clu>=0.0.12",
  "einops>=0.7",
  "flax>=0.12.8,<0.13",
  "grain>=0.2.12",
  "jax>=0.8",
  "jaxtyping>=0.2.33",
  "matplotlib>=3.8",
  "ml-collections>=1.0",
  "mujoco>=4,<5",
  "numpy>=1.26",
  "optax>=0.2.4",
  "orbax-checkpoint>=0.11.20",
  "pillow>=10",
  "pyarrow>=15",
  "safetensors>=0.4.3",
  "scipy>=1.12",
  "tensorflow-datasets>=4.9.6",
  "tqdm>=4.66",
]

TEST = [
  "beartype>=0.18",
  "hypothesis>=6",
  "ipykernel>=6.29",
  "nbclient>=0.10",
  "pytest>=8",
  "pytest-xdist>=3.6",
]

setup(
  name="forecasting",
  version="0.1.0",
  description=(
    "Forecasting with frozen video models via latent diffusion, in JAX"
  ),
  license="Apache-2.0",
  packages=find_packages(include=["forecasting", "forecasting.*"]),
  package_data={
    "forecasting.backbones": ["released/*"],
    "forecasting.report": ["*.json"],
  },
  python_requires=">=3.11,<3.14",
  install_requires=BASE,
  extras_require={
    "tpu": ["jax[tpu]>=0.8"],
    "cuda": ["jax[cuda12]>=0.8"],
    "data": ["tensorflow-cpu>=2.17"],
    "tensorboard": ["tensorflow-cpu>=2.17", "tensorboard"],
    "test": TEST,
    "parity": [*TEST, "torch>=2.2", "transformers>=4.45"],
    "dev": [*TEST, "pre-commit>=3", "ruff>=0.8"],
  },
)
