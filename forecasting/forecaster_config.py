"""Every field of a forecaster and its default: `config.forecaster`."""

from ml_collections import ConfigDict


def forecaster_config() -> ConfigDict:
  """The forecaster (forecaster.md): network, objective, sampler."""
  return ConfigDict(
    {
      "steps": 40_000,  # (paper)
      "optimizer": optimizer_config(2e-4, weight_decay=0.0, b2=0.95),
      "ema_decay": 0.9995,
      "model": model_config(),
      "normalize": normalize_config(),
      # 'pca(k)': forecast the latents' k first principal components;
      # 'vae(k)': the k numbers that an autoencoder makes of every token.
      "compress": "none",
      "vae": vae_config(),
      # Trainings of each forecaster whose samples are pooled.
      "ensemble": 1,
      # Beyond the frames of training (`data.horizon_frames`).
      "horizon": {
        # Or 'pyramid', one slot at a time: of 'flow' with `flow.rolling`. What
        # does not denoise is rolled out whatever this says.
        "mode": "rollout",
        # Noise level of generated context, up to `flow.context_noise`, for the
        # forecasters that are trained with it.
        "context_level": 0.0,
        "steps_per_slot": 4,  # of 'pyramid'
      },
      # Of these fields 'ddpm' heeds noise_multiplicity and context_noise,
      # 'shortcut' heeds shift and context_noise, and no other forecaster any.
      "flow": {
        "prediction": "x0",  # or 'v', 'eps', 'edm' (a correction of z)
        "loss_space": "v",  # or 'x0', 'eps'
        "shift": "auto_slot",  # 'auto_full' or a number
        # Share of noise levels that are drawn as evenly in log-SNR as samplers
        # visit them; `diagnose sampler` says how many calls miss out.
        "even_share": 0.0,
        "noise_multiplicity": 1,
        "context_dropout": 0.1,  # for `sampler.guidance`, which is of 'flow'
        "context_noise": 0.0,
        # Share of draws whose noise rises with lead time, for 'pyramid'.
        "rolling": 0.0,
      },
      "ddpm": {
        "prediction": "v",  # or 'eps', 'x0'
        "levels": 1000,
        "sampler": "ddim",  # or 'ancestral'
        "steps": 50,
        "eta": 0.0,
      },
      "sampler": sampler_config(),
      "regression": {"loss": "mse"},  # or 'smooth_l1'
      # The protocol of DINO-Foresight, instead of the same fields of `model`.
      "masked": {
        "beta": 0.1,  # error beyond which the loss is absolute
        "attention": "factorized",  # or 'full'
        "conditioning": "joint_full",  # or 'joint_asym', 'cross'
      },
      "energy": one_call_config(members=4),
      # As many as make a step cost what one of `energy` costs.
      "best_of_many": one_call_config(members=8),
      # Noise levels of training are drawn with `flow.shift`.
      "shortcut": {
        "steps": 4,  # network calls of one sample, a power of two
        "finest": 64,  # steps of the grid that longer ones agree with
        "weight": 0.5,  # of the loss of agreeing
      },
      # Added to the inputs' covariance, as a share of their mean variance.
      "ridge_latent": {"penalty": 1e-2},
    }
  )


def model_config() -> ConfigDict:
  """The transformer (forecaster.md 7): `architecture.DenoiserConfig`."""
  return ConfigDict(
    {
      "width": 1024,
      "depth": 16,
      "heads": 16,
      # Latent tokens merged per side before the network; 1 keeps the grid.
      "patch": 1,
      "conditioning": "joint_asym",  # or 'joint_full', 'cross'
      "attention": "full",  # or 'factorized'
      "qk_norm": True,
      # Of the initial constant in every token; 4 keeps a token's size from
      # being lost in the norms, where that says much about the future.
      "type_scale": 0.02,
      # 0: no wide head; -1: one as wide as a token where `width` is less.
      "head_width": 0,
      "head_depth": 2,
      "dtype": "default",  # bfloat16 matmuls on accelerators, float32 on CPU
      # What blocks keep for the backward pass: 'none' all, 'dots' products
      # with weights, 'full' their input alone; 'default': 'dots' if `scan`.
      "remat": "default",
      # Blocks compiled once and looped over: 'always', 'never', or 'default',
      # on accelerators. The parameters are the same.
      "scan": "default",
    }
  )


def one_call_config(members: int) -> ConfigDict:
  """`energy` and `best_of_many` (forecaster.md 5.3)."""
  return ConfigDict(
    {
      "noise_dim": 32,  # of the noise that tells samples apart
      "members": members,  # samples of each example in the loss
      # What lies under one norm of the loss: the channels of a 'token', of
      # a 'position' in all slots, or the whole 'clip'.
      "norm": "token",
    }
  )


def vae_config() -> ConfigDict:
  """The autoencoder of `compress`, trained before the forecasters.

  It takes the batches of `train`.
  """
  return ConfigDict(
    {
      "width": 512,  # of two hidden layers on either side
      "steps": 5000,
      # Twice the share of the latents' variance that is taken for noise.
      "kl_weight": 1e-4,
      "optimizer": optimizer_config(1e-3, weight_decay=0.0, b2=0.99),
      "ema_decay": 0.99,
    }
  )


def normalize_config() -> ConfigDict:
  """Scales in which the forecaster works (forecaster.md 4)."""
  return ConfigDict(
    {
      # 'per_channel', 'per_channel_time', 'per_element' or 'none'
      "stats": "per_channel",
      # What is left of the future after a forecast: of persistence, of the
      # damped extrapolation ('residual_linear'), of two regressions trained
      # on different clips beside it ('residual_model'), or 'none'.
      "target_transform": "residual_last",
      "project_ln": False,
    }
  )


def sampler_config() -> ConfigDict:
  """From noise to data: step rule and grid of `flow` (forecaster.md 6).

  Others read `chunk`, and `shortcut` t_max and t_min.
  """
  return ConfigDict(
    {
      "name": "dpmpp_2m",  # 'euler', 'heun', 'ddim', 'ancestral', 'sde'
      "grid": "logsnr",  # 'uniform', 'shifted', 'edm'
      "steps": 16,
      "t_max": 0.998,
      "t_min": 0.005,
      "shift": 1.0,
      "rho": 7.0,
      "eta": 0.0,  # of 'ddim'; refused with others
      "churn": 0.0,  # of 'sde'; refused with others
      "noise_inflation": 1.0,  # of samplers that add noise; refused with others
      "guidance": 0.0,
      # Samples of each example drawn at a time, which bounds memory.
      "chunk": 5,
    }
  )


def optimizer_config(
  learning_rate: float, weight_decay: float, b2: float
) -> ConfigDict:
  """AdamW, linear warm-up, cosine to `end_factor` of the peak."""
  return ConfigDict(
    {
      "learning_rate": learning_rate,
      "warmup_steps": 1000,
      "end_factor": 0.1,
      "b1": 0.9,
      "b2": b2,
      "weight_decay": weight_decay,  # kernels only
      "clip_norm": 1.0,
    }
  )
