"""The provenance of a mask as W3C PROV-JSON: what it was made of, by which act, by whom, with what.

Entities are the mask, its inputs by sha256, recipe, profile, and the dates and revocations that it had;
activities its build and what later gave and took dates; agents are people and software.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from hotpix_registry.catalogue.queries import Assignment, RevocationPast, Transaction
from hotpix_registry.domain import canonical_json, digest
from hotpix_registry.instants import iso

Attributes = dict[str, Any]


class _Document:
    """A PROV-JSON document as it is written."""

    def __init__(self, registry_id: str) -> None:
        self._parts: dict[str, dict[str, Any]] = {
            "prefix": {
                "hotpix": "urn:hotpix-registry:",
                "registry": f"urn:hotpix-registry:{registry_id}:",
                "sha256": "urn:sha256:",
                "person": "urn:hotpix-registry:person:",
                "software": "urn:hotpix-registry:software:",
            }
        }

    def add(self, part: str, name: str, attributes: Attributes) -> str:
        known = {key: value for key, value in attributes.items() if value is not None}
        self._parts.setdefault(part, {})[name] = known
        return name

    def relate(self, relation: str, **ends: Any) -> None:
        """A relation between what was added, by PROV's names for its ends."""
        of_relation = self._parts.setdefault(relation, {})
        of_relation[f"_:{relation}{len(of_relation) + 1}"] = {
            f"prov:{end}": value for end, value in ends.items() if value is not None
        }

    def act(self, name: str, kind: str, act: Transaction) -> str:
        """An activity at a transaction, with the person and the software behind it."""
        at = iso(act.at_us)
        about = {"hotpix:tx": act.tx, "hotpix:action": act.action, "hotpix:reason": act.reason}
        times = {"prov:startTime": at, "prov:endTime": at}
        activity = self.add("activity", name, _of(kind) | times | about | {"hotpix:host": act.host})
        person = self.add(
            "agent",
            f"person:{_local(act.actor)}",
            {"prov:type": _name("prov:Person"), "prov:label": act.actor},
        )
        software = self.software(*act.software.rpartition(" ")[::2])
        self.relate("wasAssociatedWith", activity=activity, agent=person)
        self.relate("wasAssociatedWith", activity=activity, agent=software)
        self.relate("actedOnBehalfOf", delegate=software, responsible=person, activity=activity)
        return activity

    def software(self, name: str, version: str) -> str:
        known = {"prov:type": _name("prov:SoftwareAgent"), "prov:label": f"{name} {version}".strip()}
        return self.add("agent", f"software:{_local(f'{name}-{version}')}", known)

    def as_dict(self) -> dict[str, Any]:
        return self._parts


def provenance(
    details: Mapping[str, Any],
    registry_id: str,
    built: Transaction,
    dates: Sequence[Assignment],
    revocations: Sequence[RevocationPast],
    acts: Mapping[int, Transaction],
) -> dict[str, Any]:
    """The document of one mask.

    Parameters
    ----------
    details
        as `Registry.show` returns them
    dates
        every interval that the mask ever held
    acts
        transaction → who did it, of all that `dates` and `revocations` name
    """
    document = _Document(registry_id)
    mask = document.add(
        "entity",
        f"sha256:{details['sha256']}",
        _of("mask")
        | {"prov:label": f"mask {details['mask_id']}, version {details['version']} of {details['series']}"}
        | {
            f"hotpix:{key}": details[key]
            for key in ("mask_id", "version", "camera", "series", "status", "rule", "algorithm_version")
        }
        | {f"hotpix:{key}": details[key] for key in ("build_key", "flagged", "pixels", "limit_e_per_s")},
    )
    build = document.act(f"registry:build-{built.tx}-{details['mask_id']}", "build", built)
    document.relate("wasGeneratedBy", entity=mask, activity=build, time=iso(built.at_us))
    for name, version in details["software"].items():
        document.relate("wasAssociatedWith", activity=build, agent=document.software(name, version))
    _add_ingredients(document, details, mask, build)
    for number, row in enumerate(dates, 1):
        held = document.add(
            "entity",
            f"registry:dates-{row.id}",
            _of("dates")
            | {"prov:label": f"interval {number} of mask {details['mask_id']}"}
            # an end that is open is left out
            | {
                "hotpix:valid_from": _time(row.validity.start_us),
                "hotpix:valid_to": _time(row.validity.end_us),
            },
        )
        given = document.act(f"registry:certification-{row.id}", "certification", acts[row.opened_tx])
        document.relate("used", activity=given, entity=mask)
        document.relate("wasGeneratedBy", entity=held, activity=given, time=iso(acts[row.opened_tx].at_us))
        document.relate("wasDerivedFrom", generatedEntity=held, usedEntity=mask, activity=given)
        if row.closed_tx is not None:
            taken = document.act(f"registry:withdrawal-{row.id}", "withdrawal", acts[row.closed_tx])
            at = iso(acts[row.closed_tx].at_us)
            document.relate("wasInvalidatedBy", entity=held, activity=taken, time=at)
    for past in revocations:
        verdict = document.add(
            "entity", f"registry:verdict-{past.id}", _of("revocation") | {"hotpix:reason": past.reason}
        )
        revoking = document.act(f"registry:revocation-{past.id}", "revocation", acts[past.opened_tx])
        at = iso(acts[past.opened_tx].at_us)
        document.relate("used", activity=revoking, entity=mask)
        document.relate("wasGeneratedBy", entity=verdict, activity=revoking, time=at)
        if past.closed_tx is None:
            document.relate("wasInvalidatedBy", entity=mask, activity=revoking, time=at)
            continue
        lifting = document.act(f"registry:lifting-{past.id}", "lifting", acts[past.closed_tx])
        document.relate(
            "wasInvalidatedBy", entity=verdict, activity=lifting, time=iso(acts[past.closed_tx].at_us)
        )
    return document.as_dict()


def _add_ingredients(document: _Document, details: Mapping[str, Any], mask: str, build: str) -> None:
    inputs = [_of_frame(one) for one in details["inputs"]]
    inputs += [(one["sha256"], one["role"], _of("mask")) for one in details["report"].get("masks", ())]
    recipe, profile = details["recipe"], details["profile"]
    inputs.append((digest(recipe), "recipe", _of("recipe") | {"prov:value": canonical_json(recipe)}))
    about = {"prov:label": f"profile of camera {details['camera']}", "prov:value": canonical_json(profile)}
    inputs.append((details["profile_digest"], "profile", _of("profile") | about))
    for sha256, role, attributes in inputs:
        entity = document.add("entity", f"sha256:{sha256}", attributes)
        document.relate("used", activity=build, entity=entity, role=role)
        document.relate("wasDerivedFrom", generatedEntity=mask, usedEntity=entity, activity=build)


def _of_frame(one: Mapping[str, Any]) -> tuple[str, str, Attributes]:
    attributes = _of("frame") | {
        "prov:label": PurePath(one["path"].replace("\\", "/")).name,  # where it lay is nobody's business
        "hotpix:kind": one["kind"],
        "hotpix:exptime_s": one["exptime_s"],
        "hotpix:ccd_temp_c": one["ccd_temp_c"],
        "hotpix:start": one["start"] and {"$": one["start"], "type": "xsd:dateTime"},
    }
    return one["sha256"], one["role"], attributes


def _of(kind: str) -> Attributes:
    return {"prov:type": _name(f"hotpix:{kind}")}


def _name(qualified: str) -> dict[str, str]:
    return {"$": qualified, "type": "prov:QUALIFIED_NAME"}


def _time(instant_us: int | None) -> dict[str, str] | None:
    text = iso(instant_us)
    return None if text is None else {"$": text, "type": "xsd:dateTime"}


def _local(text: str) -> str:
    """A text as the local part of a qualified name."""
    return quote(text, safe="")
