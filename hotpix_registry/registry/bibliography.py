"""Works to cite beside a mask, as BibTeX."""

from __future__ import annotations

from collections.abc import Mapping

_GUIDE = """@misc{craig_ccd_guide,
  author = {Craig, Matthew},
  title = {{CCD} Data Reduction Guide},
  howpublished = {\\url{https://www.astropy.org/ccd-reduction-and-photometry-guide/}},
  note = {Chapter ``Identifying hot pixels''}
}
"""

_REGISTRY = """@misc{{hotpix_registry,
  author = {{{{The hotpix-registry maintainers}}}},
  title = {{hotpix-registry: a registry of hot-pixel masks for astronomical cameras}},
  note = {{Version {version}}}
}}
"""

_ASTROPY = """@article{{astropy_2022,
  author = {{{{Astropy Collaboration}} and {{Price-Whelan}}, Adrian M. and others}},
  title = {{The {{Astropy Project}}: Sustaining and Growing a Community-oriented Open-source Project and the
           Latest Major Release (v5.0) of the Core Package}},
  journal = {{The Astrophysical Journal}},
  year = {{2022}},
  volume = {{935}},
  number = {{2}},
  eid = {{167}},
  doi = {{10.3847/1538-4357/ac7c74}},
  note = {{Version {version} was used}}
}}
"""

_CCDPROC = """@misc{{ccdproc_2017,
  author = {{Craig, Matt and Crawford, Steve and Seifert, Michael and Robitaille, Thomas and others}},
  title = {{astropy/ccdproc: v1.3.0.post1}},
  year = {{2017}},
  publisher = {{Zenodo}},
  doi = {{10.5281/zenodo.1069648}},
  note = {{Version {version} was used}}
}}
"""

_NUMPY = """@article{{numpy_2020,
  author = {{Harris, Charles R. and Millman, K. Jarrod and van der Walt, St{{\\'e}}fan J. and others}},
  title = {{Array programming with {{NumPy}}}},
  journal = {{Nature}},
  year = {{2020}},
  volume = {{585}},
  pages = {{357--362}},
  doi = {{10.1038/s41586-020-2649-2}},
  note = {{Version {version} was used}}
}}
"""

_OF = {"hotpix-registry": _REGISTRY, "astropy": _ASTROPY, "ccdproc": _CCDPROC, "numpy": _NUMPY}


def entries(software: Mapping[str, str], *, from_darks: bool) -> str:
    """The works behind a mask: the software by its versions, and the guide where its method was used."""
    used = [entry.format(version=software[name]) for name, entry in _OF.items() if name in software]
    return "\n".join([*([_GUIDE] if from_darks else []), *used])
