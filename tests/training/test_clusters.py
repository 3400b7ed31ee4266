"""A sweep on a cluster: the lines of conf/search/README.md, on two nodes of Ray on this machine."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY, environment


@pytest.mark.slow
def test_sweep_runs_on_two_nodes_of_ray(cache, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    launcher = ["hydra/launcher=ray", f"+hydra.launcher.ray.init.address='{cluster.address}'"]
    launcher += ["+hydra.launcher.ray.remote.num_cpus=1", "trainer=debug", "logger=none", "model.embedding_dim=4,8"]
    try:
        done = subprocess.run(
            [sys.executable, REPOSITORY / "scripts" / "train.py", "-m", *launcher],
            cwd=tmp_path,
            env=environment(cache),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/*/metrics.json"))) == 2
    assert any(line.startswith("outputs/sweeps/") for line in done.stdout.splitlines())
