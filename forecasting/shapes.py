"""Axis letters and array types used in every annotation.

| letter  | axis                                                     |
|---------|----------------------------------------------------------|
| B       | clips in a batch                                         |
| S       | samples (futures) drawn per clip                         |
| T Tc Tf | frames of a clip (16), of its context (4), future (12)   |
| H W     | pixels                                                   |
| t tc tf | latent time slots: of a clip, of its context, its future |
| h w     | latent rows and columns                                  |
| N       | latent tokens of one slot, h * w                         |
| C       | latent channels                                          |
| D       | model width                                              |
| Q       | tracks or boxes                                          |
| K       | attention heads                                          |

Coordinates are normalized raster coordinates: (0, 0) is the outer corner of
the top-left pixel and (1, 1) that of the bottom-right one, so resizing a frame
leaves them unchanged. Points are (x, y); boxes are (ymin, xmin, ymax, xmax).
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Key, UInt8

Array = jax.Array | np.ndarray
Batch = Mapping[str, Any]
Params = Mapping[str, Any]
PRNGKey = Key[jax.Array, ""]

Video = UInt8[Array, "*B T H W 3"]
Latents = Float[Array, "B t h w C"]
Context = Float[Array, "B tc h w C"]
Future = Float[Array, "B tf h w C"]
Samples = Float[Array, "B S tf h w C"]
Tracks = Float[Array, "*B T Q 2"]
Boxes = Float[Array, "*B T Q 4"]
Mask = Bool[Array, "*B"]
