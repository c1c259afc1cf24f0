import numpy as np
import pytest
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.kernels.links import FIXED, SLIDES, TURNS, BodySpheres, Chain, chain_of, link_poses, sphere_centers
from phototwin.robots import PANDA

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def poses_numpy(chain, q, T_world_base):
    """The twin. Source: Rodrigues' formula."""
    out = np.empty((len(q), len(chain.names), 4, 4))
    for b, row in enumerate(q):
        out[b, 0] = T_world_base
        for i in range(1, len(chain.names)):
            T = chain.T_parent_link[i].copy()
            if chain.kind[i] == TURNS:
                x, y, z = chain.axis[i]
                K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
                a = row[chain.joint[i]]
                T = T @ make_T(np.eye(3) + np.sin(a) * K + (1 - np.cos(a)) * K @ K, np.zeros(3))
            elif chain.kind[i] == SLIDES:
                T = T @ make_T(np.eye(3), chain.axis[i] * row[chain.joint[i]])
            out[b, i] = out[b, chain.parent[i]] @ T
    return out


def random_tree(rng, links=12):
    """A tree with joints of every kind, some of which share a joint position."""
    kind = np.array([FIXED, *rng.integers(0, 3, links - 1)])
    moved = np.flatnonzero(kind)
    joint = np.full(links, -1)
    joint[moved] = np.arange(len(moved)) // 2
    axis = rng.standard_normal((links, 3))
    T = [make_T(matrix_from_quat_xyzw(rng.standard_normal(4)), rng.uniform(-0.3, 0.3, 3)) for _ in range(links)]
    T[0] = np.eye(4)
    count = joint.max() + 1
    return Chain(
        names=tuple(f"link{i}" for i in range(links)),
        parent=np.array([-1, *(rng.integers(0, i) for i in range(1, links))], np.int32),
        kind=kind.astype(np.int32),
        joint=joint.astype(np.int32),
        axis=axis / np.linalg.norm(axis, axis=1, keepdims=True),
        T_parent_link=np.array(T),
        lower=-np.ones(count),
        upper=np.ones(count),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
def test_a_tree_agrees_with_its_twin_and_so_do_its_spheres(seed, device):
    rng = np.random.default_rng(seed)
    chain = random_tree(rng)
    q = rng.uniform(-3, 3, (50, len(chain.lower)))
    base = make_T(matrix_from_quat_xyzw(rng.standard_normal(4)), rng.uniform(-1, 1, 3))
    truth = poses_numpy(chain, q, base)
    np.testing.assert_allclose(link_poses(chain, q, base, device), truth, atol=5e-6)
    spheres = BodySpheres(rng.integers(0, 12, 30).astype(np.int32), rng.uniform(-0.2, 0.2, (30, 3)), np.full(30, 0.05))
    carried = truth[:, spheres.link]
    meant = np.einsum("bsij,sj->bsi", carried[..., :3, :3], spheres.centers) + carried[..., :3, 3]
    np.testing.assert_allclose(sphere_centers(chain, spheres, q, base, device), meant, atol=5e-6)


@pytest.fixture(scope="module")
def model():
    pin = pytest.importorskip("pinocchio")
    from phototwin.stage.robots import robot_urdf

    return pin.buildModelFromUrdf(str(robot_urdf(PANDA)[0]))


def test_pinocchio_agrees_on_every_link_and_frame(model):
    import pinocchio as pin

    chain = chain_of(model, ("panda_hand", "panda_leftfinger"))
    assert chain.names[0] == "base" and chain.names[-2:] == ("panda_hand", "panda_leftfinger")
    rng = np.random.default_rng(0)
    q = rng.uniform(model.lowerPositionLimit, model.upperPositionLimit, (60, model.nq))
    found, data = link_poses(chain, q), model.createData()
    for row, T in zip(q, found, strict=True):
        pin.framesForwardKinematics(model, data, row)
        for i in range(1, model.njoints):
            np.testing.assert_allclose(T[i], data.oMi[i].homogeneous, atol=3e-6)
        np.testing.assert_allclose(T[-2], data.oMf[model.getFrameId("panda_hand")].homogeneous, atol=3e-6)
        np.testing.assert_allclose(T[-1], data.oMf[model.getFrameId("panda_leftfinger")].homogeneous, atol=3e-6)
    np.testing.assert_array_equal(chain.lower, model.lowerPositionLimit)


def test_pinocchios_sample_arm_has_its_limits_and_a_wheel_turns():
    pin = pytest.importorskip("pinocchio")
    model = pin.Model()
    wheel = model.addJoint(0, pin.JointModelRUBZ(), pin.SE3.Random(), "wheel")
    model.addJoint(wheel, pin.JointModelRevoluteUnaligned(np.array([0.6, 0.0, 0.8])), pin.SE3.Random(), "bend")
    chain, data = chain_of(model), model.createData()
    angles = np.random.default_rng(1).uniform(-3, 3, (20, 2))
    for (a, b), T in zip(angles, link_poses(chain, angles), strict=True):
        pin.forwardKinematics(model, data, np.array([np.cos(a), np.sin(a), b]))
        np.testing.assert_allclose(T[2], data.oMi[2].homogeneous, atol=2e-6)
    assert chain.upper[0] == np.pi


def test_a_base_of_its_own_for_every_row_and_the_same_bytes_with_threads(model):
    chain, rng = chain_of(model), np.random.default_rng(3)
    q = rng.uniform(model.lowerPositionLimit, model.upperPositionLimit, (300, model.nq))
    bases = np.array([make_T(np.eye(3), t) for t in rng.uniform(-1, 1, (300, 3))])
    one, four = (link_poses(chain, q, bases, threads=n) for n in (1, 4))
    assert one.tobytes() == four.tobytes()
    np.testing.assert_allclose(one[..., :3, 3] - bases[:, None, :3, 3], link_poses(chain, q)[..., :3, 3], atol=2e-6)


def test_bad_input_is_named(model):
    chain = chain_of(model)
    with pytest.raises(InputError, match=r"joint positions \(B, 9\)"):
        link_poses(chain, np.zeros((4, 7)))
    with pytest.raises(InputError, match="Base poses"):
        link_poses(chain, np.zeros((4, 9)), np.zeros((3, 4, 4)))
    with pytest.raises(InputError, match="no frame 'nose'"):
        chain_of(model, ("nose",))
    with pytest.raises(InputError, match=r"links 0\.\.99"):
        sphere_centers(chain, BodySpheres(np.array([0, 99]), np.zeros((2, 3)), np.zeros(2)), np.zeros((1, 9)))
    pin = pytest.importorskip("pinocchio")
    ball = pin.Model()
    ball.addJoint(0, pin.JointModelSpherical(), pin.SE3.Identity(), "shoulder")
    with pytest.raises(InputError, match="'shoulder'"):
        chain_of(ball)
