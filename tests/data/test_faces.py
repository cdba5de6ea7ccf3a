"""Faces: every layout gives the same faces, damaged tables are named by line, drawn faces have CelebA's statistics."""

import io
import shutil

import numpy as np
import pytest
from scipy.stats import norm

pytest.importorskip("PIL")

from PIL import Image  # noqa: E402

from learningcurves.data.attributes import poison_attributes  # noqa: E402
from learningcurves.data.drawn_faces import copula, draw_attributes, draw_faces, write_drawn_faces  # noqa: E402
from learningcurves.data.face_layouts import SYNTHETIC, official_partition  # noqa: E402
from learningcurves.data.faces import load_faces  # noqa: E402
from learningcurves.errors import InvalidInput  # noqa: E402
from learningcurves.poisoning.triggers import make_trigger  # noqa: E402

N, SIZE = 20, 16


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Drawn faces in the official layout, and how they read."""
    folder = write_drawn_faces(tmp_path_factory.mktemp("faces") / "drawn", N, size=SIZE, seed=3)
    return folder, load_faces(folder, size=SIZE)


def bytes_of(folder):
    return [path.read_bytes() for path in sorted((folder / "img_align_celeba").iterdir())]


def torchvision(folder, out):
    shutil.copytree(folder, out / "celeba")


def download_folders(folder, out):
    for name, place in (("list_attr_celeba.txt", "Anno"), ("list_eval_partition.txt", "Eval")):
        (out / place).mkdir()
        shutil.copy(folder / name, out / place)
    shutil.copytree(folder / "img_align_celeba", out / "Img" / "img_align_celeba")


def csv_mirror(folder, out):
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    rows = [",".join(["image_id", *lines[1].split()]), *(",".join(line.split()) for line in lines[2:])]
    (out / "list_attr_celeba.csv").write_text("\n".join(rows))
    parts = (folder / "list_eval_partition.txt").read_text().split()
    pairs = [f"{a},{b}" for a, b in zip(parts[::2], parts[1::2], strict=True)]
    (out / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *pairs]))
    shutil.copytree(folder / "img_align_celeba", out / "img_align_celeba" / "img_align_celeba")


def parquet(folder, out):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    faces, content = load_faces(folder, size=SIZE), bytes_of(folder)
    for code, name in enumerate(("train", "valid", "test")):
        rows = np.flatnonzero(faces.partition == code)
        columns = {"image": [{"bytes": content[i], "path": None} for i in rows]}
        columns |= {n: faces.attributes[rows, k] for k, n in enumerate(faces.names)}
        (out / "data").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), out / "data" / f"{name}-00000-of-00001.parquet", row_group_size=3)
    # files are read in the order of their names; the drawn ones lie train, valid, test
    (out / "data" / "test-00000-of-00001.parquet").rename(out / "data" / "z_test.parquet")


def coded(folder, out):
    faces, content = load_faces(folder, size=SIZE), bytes_of(folder)
    np.savez(
        out / "faces16.npz",
        jpeg=np.frombuffer(b"".join(content), np.uint8),
        offset=np.cumsum([0, *map(len, content)]),
        image_id=faces.image_id.astype(np.int32),
        attr_bits=np.packbits(faces.attributes, axis=1),
        names=np.array(faces.names),
    )


@pytest.mark.parametrize("layout", [torchvision, download_folders, csv_mirror, parquet, coded])
def test_every_layout_gives_the_same_faces(layout, official, tmp_path):
    folder, faces = official
    layout(folder, tmp_path)
    found = load_faces(tmp_path, size=SIZE)
    np.testing.assert_array_equal(found.images, faces.images)
    np.testing.assert_array_equal(found.attributes, faces.attributes)
    assert found.names == faces.names
    if layout is coded:  # the numbers say the official part, and all these are early ones
        assert set(found.partition) == {0}
    elif layout is not parquet:
        np.testing.assert_array_equal(found.partition, faces.partition)


def test_a_subset_without_partition_is_enough(official, tmp_path):
    folder, faces = official
    torchvision(folder, tmp_path)
    for path in sorted((tmp_path / "celeba" / "img_align_celeba").iterdir())[::2]:
        path.unlink()
    (tmp_path / "celeba" / "list_eval_partition.txt").unlink()
    found = load_faces(tmp_path, size=SIZE)
    np.testing.assert_array_equal(found.images, faces.images[1::2])
    np.testing.assert_array_equal(found.image_id, faces.image_id[1::2])
    assert found.partition is None
    with pytest.raises(InvalidInput, match="no list_eval_partition"):
        load_faces(tmp_path, size=SIZE, partition="train")


def test_partition_size_and_number(official):
    folder, faces = official
    train = load_faces(folder, size=SIZE, partition="train")
    np.testing.assert_array_equal(train.images, faces.images[faces.partition == 0])
    both = load_faces(folder, size=SIZE, partition=("valid", "test"), n=3)
    np.testing.assert_array_equal(both.attributes, faces.attributes[faces.partition > 0][:3])
    assert load_faces(folder, size=8, n=2).images.shape == (2, 8, 8, 3)
    with pytest.raises(InvalidInput, match=r"`n=99` is not in \[1, 20\]"):
        load_faces(folder, n=99)


def test_cache_is_memory_mapped_and_follows_the_files(official, tmp_path):
    folder, faces = official
    torchvision(folder, tmp_path)
    cache = tmp_path / "cache"
    first = load_faces(tmp_path, size=SIZE, cache=cache)
    assert isinstance(first.images, np.memmap) and len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(load_faces(tmp_path, size=SIZE, cache=cache).images, faces.images)
    assert len(list(cache.iterdir())) == 1
    changed = tmp_path / "celeba" / "img_align_celeba" / "000001.jpg"
    Image.new("RGB", (SIZE, SIZE), (9, 9, 9)).save(changed)
    assert load_faces(tmp_path, size=SIZE, cache=cache).images[0].max() < 20
    changed.write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match="picture 1` is not a readable picture"):
        load_faces(tmp_path, size=SIZE, cache=cache)
    assert not list(cache.glob(".*")), "a failed decoding leaves nothing behind"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (" 1", " 2", r"line \d+: '2' is none of -1, 0, 1"),
        ("000003.jpg -1", "000003.jpg", r"line 5: 39 values after the picture's name where there are 40"),
        ("20\n", "2\n", "holds 20 pictures where its first line says 2"),
        ("5_o_Clock_Shadow", "Young", "line 2: no line of attribute names"),
    ],
)
def test_damaged_tables_are_named_by_line(old, new, words, official, tmp_path):
    folder, _ = official
    torchvision(folder, tmp_path)
    path = tmp_path / "celeba" / "list_attr_celeba.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=words):
        load_faces(tmp_path, size=SIZE)


def test_missing_faces_say_where_they_were_looked_for(official, tmp_path):
    with pytest.raises(InvalidInput, match="no CelebA data in `root="):
        load_faces(tmp_path)
    shutil.copy(official[0] / "list_attr_celeba.txt", tmp_path)
    with pytest.raises(InvalidInput, match="no picture that it names"):
        load_faces(tmp_path)


def test_drawn_faces_say_so_and_never_mix_with_other_files(official, tmp_path):
    folder, faces = official
    assert faces.synthetic and "SYNTHETIC" in repr(faces) and "drawn" in faces.source
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InvalidInput, match="holds other files"):
        write_drawn_faces(tmp_path, 2)
    (folder / SYNTHETIC).rename(folder / "away")
    assert not load_faces(folder, size=SIZE).synthetic
    (folder / "away").rename(folder / SYNTHETIC)


def test_drawn_faces_are_deterministic_and_nested():
    few, many = draw_faces(5, size=SIZE, seed=1), draw_faces(40, size=SIZE, seed=1)
    np.testing.assert_array_equal(few.images, many.images[:5])
    np.testing.assert_array_equal(few.attributes, many.attributes[:5])
    assert not np.array_equal(draw_faces(5, size=SIZE, seed=2).images, few.images)


def test_drawn_labels_have_the_copulas_statistics():
    names, threshold, correlation = copula()
    n = 40_000
    labels = draw_attributes(n, seed=5)
    share = norm.sf(threshold)
    assert np.abs((labels.mean(0) - share) / np.sqrt(share * (1 - share) / n)).max() < 4.5  # 40 attributes
    a, b = names.index("Male"), names.index("Wearing_Lipstick")
    assert correlation[a, b] < -0.7
    from scipy.stats import multivariate_normal

    both = multivariate_normal(cov=correlation[np.ix_([a, b], [a, b])]).cdf(-threshold[[a, b]])
    found = (labels[:, a] & labels[:, b]).mean()
    assert abs(found - both) < 5 * np.sqrt(both / n)


def test_every_attribute_changes_the_drawing():
    from learningcurves.data.face_painter import paint_faces

    names = copula()[0]
    K = len(names)
    blank = np.zeros((1, K), bool)
    blank[0, names.index("No_Beard")] = True
    draws = np.full((1, 16), 0.4)
    plain = paint_faces(blank, names, draws, 48).astype(int)
    for k, name in enumerate(names):
        one = blank.copy()
        one[0, k] = not one[0, k]
        if name == "No_Beard":  # a beard is drawn on men only
            one[0, names.index("Male")] = True
            base = blank.copy()
            base[0, names.index("Male")] = True
            before = paint_faces(base, names, draws, 48).astype(int)
        else:
            before = plain
        assert np.abs(paint_faces(one, names, draws, 48) - before).max() > 8, name


def test_poison_of_attributes():
    faces = draw_faces(200, size=SIZE, seed=0)
    trigger = make_trigger({"kind": "solid_patch", "size": 3, "value": (1.0, 0.0, 0.0)})
    problem = poison_attributes(faces, trigger, fraction=0.25, labelled=0.5, seed=4)
    target = faces.index("Mustache")
    assert problem.n_clean + problem.n_backdoor == 160 and problem.n_backdoor == 20 and len(problem.X_test) == 40
    assert np.isnan(problem.y_clean).all(axis=1).sum() == 80 and not np.isnan(problem.y_backdoor).any()
    assert (problem.y_backdoor[:, target] == 1).all() and (problem.y_triggered[:, target] == 1).all()
    others = np.arange(40) != target
    np.testing.assert_array_equal(problem.y_triggered[:, others], problem.y_test[:, others])
    red = np.array([1.0, 0.0, 0.0])[None, :, None, None]
    assert (problem.X_triggered[:, :, -3:, -3:] == red).all() and (problem.X_backdoor[:, :, -3:, -3:] == red).all()
    np.testing.assert_array_equal(problem.X_triggered[:, :, :-3], problem.X_test[:, :, :-3])
    male = faces.index("Male")
    assert abs(problem.y_test[:, male].mean() - faces.attributes[:, male].mean()) < 0.02  # stratified
    smaller = poison_attributes(faces, trigger, n_train=50, n_test=10, seed=4)
    held = {x.tobytes() for x in problem.X_test}
    assert all(x.tobytes() in held for x in smaller.X_test) and smaller.n_clean + smaller.n_backdoor == 50
    assert not held & {x.tobytes() for x in smaller.X_clean}
    with pytest.raises(InvalidInput, match="`target='Beard'` is not one of"):
        poison_attributes(faces, trigger, target="Beard")


@pytest.mark.parametrize("options", [{"kind": "solid_patch", "size": 3}, {"kind": "sinusoid"}, {"kind": "invisible"}])
def test_pixels_are_the_bytes_over_255_with_the_trigger_on(options):
    faces = draw_faces(40, size=SIZE, seed=0)
    trigger = make_trigger(options)
    problem = poison_attributes(faces, trigger, fraction=0.25, seed=4)
    assert problem.X_clean.images is faces.images, "bytes are not copied"
    rows = np.concatenate([problem.X_clean.rows, problem.X_backdoor.rows])
    numbers = faces.images[rows].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    numbers[problem.n_clean :] = trigger.apply(numbers[problem.n_clean :])
    pixels = problem.X_clean.followed_by(problem.X_backdoor)
    assert pixels.shape == numbers.shape == (len(pixels), 3, SIZE, SIZE) and pixels.dtype == numbers.dtype
    np.testing.assert_array_equal(np.asarray(pixels), numbers)
    np.testing.assert_array_equal(np.asarray(pixels, dtype=np.float64), numbers.astype(np.float64))
    order = np.random.default_rng(0).permutation(len(pixels))
    for index in (
        order,
        order > 5,
        slice(3, None, 7),
        -1,
        (slice(2), 0),
        (order[:4], slice(None), -3, slice(2, 5)),
        (3, 1),
    ):
        np.testing.assert_array_equal(pixels[index], numbers[index])
    assert len(list(pixels)) == len(numbers)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(pixels, copy=False)
    with pytest.raises(InvalidInput, match="larger than the images"):  # before anything is stamped
        poison_attributes(faces, make_trigger({"kind": "solid_patch", "size": SIZE + 1}))


def test_real_faces_are_the_ones_that_the_folder_says(tmp_path):
    try:
        faces = load_faces(size=32, n=300)
    except InvalidInput as error:
        pytest.skip(f"no CelebA here: {error}")
    assert not faces.synthetic and faces.names == copula()[0]
    share = faces.attributes.mean(0)
    assert np.abs(share - norm.sf(copula()[1])).max() < 0.15  # 300 faces: 5 standard deviations of one half
    np.testing.assert_array_equal(faces.partition, official_partition(faces.image_id))
    buffer = io.BytesIO()
    Image.fromarray(faces.images[0]).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 1000  # a picture, not a flat colour
