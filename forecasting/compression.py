"""Statistics of the training latents, with what compresses them.

An autoencoder (`latents/vae.py`) is trained by the loop that trains all else,
in a folder of its own under the workdir, so a run that is killed meanwhile goes
on where it was, to the same bits. When trained it is written beside the store;
its name holds a digest of all it depends on besides the latents, so that runs
with other settings, which may share the store, train another.
"""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from forecasting.forecaster import objective, registry
from forecasting.latents import normalize, pca, pipeline, scales, vae
from forecasting.latents.store import LatentStore
from forecasting.shapes import Batch, Params, PRNGKey
from forecasting.training import checkpoint, distributed, loop, mesh
from forecasting.training.steps import Trainee

_NAME = "vae"


def statistics(
  config: ConfigDict, store: LatentStore, workdir: Path
) -> normalize.LatentStats | scales.Scales:
  """Returns what the config's transforms read of the training latents.

  Args:
    config: of the run.
    store: of the training split.
    workdir: of the run.

  Raises:
    ValueError: more components than the latents have channels.
  """
  stats = normalize.compute_stats(store)
  if not registry.needs_scales(config.forecaster):
    return stats
  kind, components = registry.compression(config.forecaster.compress)
  if kind == "none":
    return scales.compute_scales(store)
  linear = pca.compute_pca(store, stats, components)
  if kind == "pca":
    return scales.compute_scales(store, linear, f"pca-{components}")
  name = f"vae-{components}-{_digest(config)}"
  codec = _trained(config, store, linear, workdir, name)
  return scales.compute_scales(store, codec, name)


def vae_trainee(
  settings: ConfigDict, linear: pca.Pca, num_context_slots: int
) -> Trainee:
  """Returns the training of an autoencoder.

  Args:
    settings: `config.forecaster.vae`.
    linear: its linear part.
    num_context_slots: latent slots of the context.
  """

  linear = jax.tree.map(jnp.asarray, linear)

  def init(key: PRNGKey) -> Params:
    return vae.init_weights(linear, settings.width, settings.kl_weight, key)

  def loss(params: Params, batch: Batch, key: PRNGKey):
    future = batch["clip"][:, num_context_slots:]
    latents = jnp.concatenate([batch["context"], future], axis=1)
    shape = (*latents.shape[1:-1], linear.shape[1])
    keys = objective.example_keys(batch, key)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    terms = vae.losses(vae.Vae(linear, params), latents, noise)
    lost, divergence = (jnp.mean(term) for term in terms)
    scalars = {"unexplained": lost, "divergence": divergence}
    return lost + settings.kl_weight * divergence, scalars

  return Trainee(
    name=_NAME,
    init=init,
    loss=loss,
    optimizer=settings.optimizer,
    steps=settings.steps,
    ema_decay=settings.ema_decay,
  )


def _digest(config: ConfigDict) -> str:
  """Returns a digest of what an autoencoder depends on besides its latents."""
  settings = {
    "vae": config.forecaster.vae.to_dict(),
    "seed": config.seed,
    "batch_size": config.train.batch_size,
  }
  text = json.dumps(settings, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _trained(
  config: ConfigDict,
  store: LatentStore,
  linear: pca.Pca,
  workdir: Path,
  name: str,
) -> vae.Vae:
  """Reads the autoencoder of a config, training it if there is none."""
  file = f"{name}.safetensors"
  try:
    return vae.from_tensors(normalize.load_tensors(store, len(store), file))
  except (FileNotFoundError, normalize.StatsError, TypeError):
    pass
  train, folder = config.train, workdir / name
  batches = pipeline.train_batches(
    store, train.batch_size, config.seed, ("context", "clip")
  )
  slots = store.manifest.context_shape[0]
  loop.fit(
    [vae_trainee(config.forecaster.vae, linear, slots)],
    batches,
    workdir=folder,
    seed=config.seed,
    mesh=mesh.make_mesh(train.fsdp),
    log_every=train.log_every,
    checkpoint_every=train.checkpoint_every,
    keep=train.keep,
  )
  distributed.wait_for_all("the autoencoder is on disk")
  _, params = checkpoint.restore_ema(folder, [_NAME])
  codec = vae.Vae(linear, params[_NAME])
  normalize.save_tensors(vae.to_tensors(codec), store, len(store), file)
  return codec
