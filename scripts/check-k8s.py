"""What scripts/check-k8s.sh finds wrong with the manifests that kustomize built.

    check-k8s.py SCHEMAS BUILT [BINARIES]

Every document is checked strictly against Kubernetes' published schema, or, for the kinds that
operators bring, against the project's own of the fields it uses (SCHEMAS/KIND.json). Then:

* names: what is mentioned (ConfigMap, Secret and its keys, Service, scale target) exists;
* pods: restricted (no root, read-only, no capabilities, no token), limits and probes;
* policies: every namespace denies by default, every pod there is under a policy of its own;
* settings: every variable is one the service knows (with BINARIES).
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import yaml

SERVICES = ["signal", "relay", "peer-linker", "channel-hub", "peerbook", "mesh"]
# Newest first: the oldest is where the fields we use have all arrived.
VERSIONS = ["1.37", "1.32"]
# Made by the operator of the cluster, or by CloudNativePG; see secrets.sh and deploy/README.md.
GIVEN_SECRETS = {"switchyard-tls": {"tls.crt", "tls.key"}}
HOST_NETWORK = {"coturn"}

wrong = []


def pod_templates(documents):
    """(document, pod metadata, pod spec) of everything that makes pods."""
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
            yield document, spec["template"]["metadata"], spec["template"]["spec"]


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def space(document):
    return document["metadata"].get("namespace")


def matches(selector, labels):
    selector = selector or {}
    wanted = {key: [value] for key, value in selector.get("matchLabels", {}).items()}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        wanted[expression["key"]] = expression["values"]
    return all(labels.get(key) in values for key, values in wanted.items())


class Overlay:
    def __init__(self, name, documents, secrets):
        self.name, self.documents, self.secrets = name, documents, secrets
        self.by_id = {}
        for document in documents:
            key = (document["kind"], space(document), document["metadata"]["name"])
            if key in self.by_id:
                self.say(document, "is there twice")
            self.by_id[key] = document

    def say(self, document, what):
        wrong.append(f"{self.name}: {document['kind']} {document['metadata']['name']}: {what}")

    def check(self, schemas):
        for document in self.documents:
            self.check_schema(document, schemas)
        for document, metadata, pod in pod_templates(self.documents):
            self.check_pod(document, metadata, pod)
            self.check_references(document, pod)
            self.check_policies(document, metadata)
        self.check_selectors()

    def check_schema(self, document, schemas):
        own = schemas / f"{document['kind']}.json"
        if own.exists():
            schema = json.loads(own.read_text(encoding="utf-8"))
            for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
                self.say(document, f"{error.json_path}: {error.message}")
            return
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                self.say(document, f"Kubernetes {version}: {error}")

    def check_pod(self, document, metadata, pod):
        security = pod.get("securityContext", {})
        expected = {
            "runs as root": security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0,
            "has no seccomp profile": security.get("seccompProfile") == {"type": "RuntimeDefault"},
            "gets a token": pod.get("automountServiceAccountToken") is False,
            "uses the host's network": not pod.get("hostNetwork") or metadata["labels"]["app.kubernetes.io/name"] in HOST_NETWORK,
        }
        lasting = document["kind"] not in ("Job", "CronJob")
        initial = pod.get("initContainers", [])
        for container in containers(pod):
            name, own = container["name"], container.get("securityContext", {})
            added = own.get("capabilities", {}).get("add", [])
            expected |= {
                f"{name} may gain privileges": own.get("allowPrivilegeEscalation") is False,
                f"{name} may write its root": own.get("readOnlyRootFilesystem") is True,
                f"{name} has capabilities": own.get("capabilities", {}).get("drop") == ["ALL"] and set(added) <= {"NET_BIND_SERVICE"},
                f"{name} asks for no resources": {"cpu", "memory"} <= set(container.get("resources", {}).get("requests", {})),
                f"{name} has no memory limit": "memory" in container.get("resources", {}).get("limits", {}),
                f"{name} is of an image that no overlay names": "/" in container["image"] and ":" in container["image"],
            }
            if lasting and container not in initial:
                for probe in ("readinessProbe", "livenessProbe"):
                    expected[f"{name} has no {probe}"] = probe in container
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
                expected[f"{name}: {probe} asks port {port}"] = port is None or port in ports
            volumes = {volume["name"] for volume in pod.get("volumes", [])}
            claims = document["spec"].get("volumeClaimTemplates", [])
            volumes |= {claim["metadata"]["name"] for claim in claims}
            for mount in container.get("volumeMounts", []):
                expected[f"{name} mounts {mount['name']}"] = mount["name"] in volumes
        for what, fine in expected.items():
            if not fine:
                self.say(document, what)

    def need(self, document, kind, name, keys, optional=False):
        """A ConfigMap or Secret of this name, with these keys."""
        if kind == "Secret":
            found = self.secrets.get((space(document), name)) or GIVEN_SECRETS.get(name)
        else:
            found = self.by_id.get((kind, space(document), name))
            found = found and set(found.get("data", {}))
        if found is None:
            self.say(document, f"there is no {kind} {name}")
        elif not optional and not set(keys) <= found:
            self.say(document, f"{kind} {name} has no {', '.join(set(keys) - found)}")

    def check_references(self, document, pod):
        for container in containers(pod):
            for source in container.get("envFrom", []):
                self.need(document, "ConfigMap", source["configMapRef"]["name"], [])
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {})
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if field in source:
                        ref = source[field]
                        self.need(document, kind, ref["name"], [ref["key"]], ref.get("optional"))
        for volume in pod.get("volumes", []):
            sources = volume.get("projected", {}).get("sources", [volume])
            for source in sources:
                if "secret" in source:
                    secret = source["secret"]
                    keys = [item["key"] for item in secret.get("items", [])]
                    self.need(document, "Secret", secret.get("secretName") or secret["name"], keys)
                if "configMap" in source:
                    self.need(document, "ConfigMap", source["configMap"]["name"], [])
            claim = volume.get("persistentVolumeClaim")
            if claim and ("PersistentVolumeClaim", space(document), claim["claimName"]) not in self.by_id:
                self.say(document, f"there is no claim {claim['claimName']}")

    def check_policies(self, document, metadata):
        if document["metadata"]["name"] in HOST_NETWORK:
            return
        policies = [
            policy["spec"]
            for policy in self.documents
            if policy["kind"] == "NetworkPolicy" and space(policy) == space(document)
        ]
        if not any(not policy["podSelector"] and set(policy["policyTypes"]) == {"Ingress", "Egress"} for policy in policies):
            self.say(document, "its namespace does not deny by default")
        if not any(policy["podSelector"] and matches(policy["podSelector"], metadata["labels"]) for policy in policies):
            self.say(document, "is under no policy of its own")

    def check_selectors(self):
        pods = [(space(document), metadata["labels"]) for document, metadata, _ in pod_templates(self.documents)]
        # CloudNativePG's pods and Services are not written here.
        for document in self.documents:
            if document["kind"] == "Cluster":
                name, labels = document["metadata"]["name"], document["spec"]["inheritedMetadata"]["labels"]
                pods.append((space(document), {**labels, "cnpg.io/cluster": name}))
        for document in self.documents:
            spec = document.get("spec", {})
            selector = {"matchLabels": spec["selector"]} if document["kind"] == "Service" else None
            if document["kind"] in ("PodDisruptionBudget", "Deployment", "StatefulSet", "DaemonSet"):
                selector = spec["selector"]
            if document["kind"] == "NetworkPolicy":
                selector = spec["podSelector"]
                for rule in spec.get("ingress", []) + spec.get("egress", []):
                    for peer in rule.get("from", []) + rule.get("to", []):
                        inside = "podSelector" in peer and "namespaceSelector" not in peer
                        # Where there is no NATS its rule selects nothing, which is meant.
                        nats = matches(peer.get("podSelector"), {"app.kubernetes.io/name": "nats"})
                        if inside and not nats and not any(matches(peer["podSelector"], labels) for _, labels in pods):
                            self.say(document, f"allows pods that do not exist: {peer['podSelector']}")
            if selector is not None and not any(where == space(document) and matches(selector, labels) for where, labels in pods):
                self.say(document, f"selects no pod: {selector}")
            if document["kind"] == "HorizontalPodAutoscaler":
                target = spec["scaleTargetRef"]
                if (target["kind"], space(document), target["name"]) not in self.by_id:
                    self.say(document, f"scales {target['name']}, which does not exist")
            if document["kind"] == "ServiceMonitor":
                found = [s for s in self.documents if s["kind"] == "Service" and matches(spec["selector"], s["metadata"].get("labels", {}))]
                names = {port["name"] for service in found for port in service["spec"]["ports"]}
                if not found or any(endpoint["port"] not in names for endpoint in spec["endpoints"]):
                    self.say(document, "finds no Service with such a port")

    def check_settings(self, known):
        """Every variable of a service's prefix is one it knows."""
        for document, _, pod in pod_templates(self.documents):
            for container in containers(pod):
                service = container.get("command", [""])[0]
                if service not in known:
                    continue
                given = {variable["name"] for variable in container.get("env", [])}
                for source in container.get("envFrom", []):
                    given |= set(self.by_id[("ConfigMap", space(document), source["configMapRef"]["name"])]["data"])
                prefix = service.upper().replace("-", "_") + "_"
                for name in sorted(given):
                    if name.startswith(prefix) and name.removesuffix("_FILE") not in known[service] | {n.removesuffix("_FILE") for n in known[service]}:
                        self.say(document, f"{service} knows no variable {name}")


def settings(binaries):
    known = {}
    for service in SERVICES:
        path = os.path.join(binaries, service)
        text = subprocess.run([path, "--help"], check=True, capture_output=True, text=True).stdout
        # clap breaks lines wherever it likes.
        known[service] = set(re.findall(r"\[env:\s+([A-Z0-9_]+)", text))
    return known


def load(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def main(schemas, built, binaries=""):
    schemas, built = pathlib.Path(schemas), pathlib.Path(built)
    secrets = {}
    for document in load(built / "secrets.yaml"):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)
        secrets[(space(document), document["metadata"]["name"])] = set(document["stringData"])
    known = settings(binaries) if binaries else {}
    counts = []
    for path in sorted(built.glob("*.yaml")):
        if path.name == "secrets.yaml":
            continue
        overlay = Overlay(path.stem, load(path), secrets)
        overlay.check(schemas)
        overlay.check_settings(known)
        counts.append(f"{path.stem}: {len(overlay.documents)} documents")
    print("\n".join(wrong + counts))
    if not known:
        print("variables were not looked up: no binaries given")
    return bool(wrong) or not counts


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
