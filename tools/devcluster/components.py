"""The arguments of every program of the control plane. Pure: paths and ports in, argument lists out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Ports:
    """Free ports on the loopback interface."""

    etcd_client: int
    etcd_peer: int
    api_server: int
    prometheus: int


@dataclass(frozen=True)
class Component:
    """One program to run."""

    name: str
    argv: tuple[str, ...]
    restart: bool = False
    """Start it again when it ends by itself."""
    needs: str = ""
    """A file that must be there before it is started."""


def etcd(program: Path, directory: Path, ports: Ports) -> Component:
    """Etcd without fsync: the data of a development cluster is worth nothing after it."""
    client = f"http://127.0.0.1:{ports.etcd_client}"
    peer = f"http://127.0.0.1:{ports.etcd_peer}"
    return Component(
        "etcd",
        (
            str(program),
            f"--data-dir={directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ),
    )


def api_server(program: Path, directory: Path, ports: Ports) -> Component:
    """The API server: token file, RBAC, service accounts; it signs its own serving certificate."""
    key = directory / "service-account.key"
    return Component(
        "kube-apiserver",
        (
            str(program),
            f"--etcd-servers=http://127.0.0.1:{ports.etcd_client}",
            "--bind-address=127.0.0.1",
            # Endpoints refuse loopback addresses, so nothing is advertised and nothing reconciled.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            # A node has no name that resolves; kubectl logs goes to its address.
            "--kubelet-preferred-address-types=InternalIP",
            f"--secure-port={ports.api_server}",
            f"--cert-dir={directory / 'certificates'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--profiling=false",
        ),
    )


def controller_manager(program: Path, directory: Path, lost_after_seconds: int) -> Component:
    """All controllers.

    Args:
        program: kube-controller-manager.
        directory: The cluster's.
        lost_after_seconds: How long a node may say nothing.
    """
    return Component(
        "kube-controller-manager",
        (
            str(program),
            f"--kubeconfig={directory / 'kubeconfig'}",
            f"--service-account-private-key-file={directory / 'service-account.key'}",
            f"--root-ca-file={directory / 'certificates' / 'apiserver.crt'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={lost_after_seconds}s",
        ),
        restart=True,
    )


def scheduler(program: Path, directory: Path) -> Component:
    """The scheduler."""
    return Component(
        "kube-scheduler",
        (
            str(program),
            f"--kubeconfig={directory / 'kubeconfig'}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ),
        restart=True,
    )


def process_node(directory: Path, position: int, gpus: int, python_path: tuple[Path, ...]) -> Component:
    """A node that runs pods as local processes."""
    name = f"node-{position}"
    return Component(
        name,
        (
            sys.executable,
            "-m",
            "devcluster.node",
            f"--kubeconfig={directory / 'kubeconfig'}",
            f"--directory={directory}",
            f"--name={name}",
            f"--gpus={gpus}",
            *(f"--python-path={item}" for item in python_path),
        ),
        restart=True,
    )


def prometheus(program: Path, directory: Path, ports: Ports) -> Component:
    """Prometheus on the configuration the caller gave, or `scrape_annotated_pods`."""
    return Component(
        "prometheus",
        (
            str(program),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{ports.prometheus}",
            "--storage.tsdb.retention.time=1d",
        ),
        # It reads the certificate once; without it there would be no discovery for good.
        needs=str(directory / "certificates" / "apiserver.crt"),
    )


def kubeconfig(ports: Ports, directory: Path, token: str) -> str:
    """Return a kubeconfig of the cluster administrator."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "devcluster",
                    "cluster": {
                        "server": f"https://127.0.0.1:{ports.api_server}",
                        "certificate-authority": str(directory / "certificates" / "apiserver.crt"),
                    },
                }
            ],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "devcluster",
                    "context": {"cluster": "devcluster", "user": "admin", "namespace": "default"},
                }
            ],
            "current-context": "devcluster",
        },
        sort_keys=False,
    )


def scrape_annotated_pods(
    ports: Ports, directory: Path, token: str, interval: str, *, targets: Sequence[str] = (), rules: Sequence[Path] = ()
) -> str:
    """Return a Prometheus configuration that scrapes pods by the customary prometheus.io annotations.

    Args:
        ports: Of the cluster.
        directory: Of the cluster.
        token: Of its administrator.
        interval: Between scrapes, and between evaluations.
        targets: host:port of what is scraped besides; labels that these give themselves are kept.
        rules: Rule files to evaluate.
    """
    source = "__meta_kubernetes_pod_annotation_prometheus_io_"
    relabel: list[dict[str, Any]] = [
        {"source_labels": [f"{source}scrape"], "regex": "true", "action": "keep"},
        {
            "source_labels": ["__meta_kubernetes_pod_phase"],
            "regex": "Pending|Succeeded|Failed",
            "action": "drop",
        },
        {
            "source_labels": ["__meta_kubernetes_pod_ip", f"{source}port"],
            "separator": ":",
            "target_label": "__address__",
        },
        {"source_labels": [f"{source}path"], "regex": "(.+)", "target_label": "__metrics_path__"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    return yaml.safe_dump(
        {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                *(
                    [
                        {
                            "job_name": "beside",
                            "honor_labels": True,
                            "static_configs": [{"targets": list(targets)}],
                        }
                    ]
                    if targets
                    else []
                ),
                {
                    "job_name": "pods",
                    "kubernetes_sd_configs": [
                        {
                            "role": "pod",
                            "api_server": f"https://127.0.0.1:{ports.api_server}",
                            "tls_config": {"ca_file": str(directory / "certificates" / "apiserver.crt")},
                            "authorization": {"credentials": token},
                        }
                    ],
                    "relabel_configs": relabel,
                },
            ],
        },
        sort_keys=False,
    )
