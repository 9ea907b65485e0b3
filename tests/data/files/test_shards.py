"""Shards: every item in exactly one of them, whatever the cut, and equal to reading the whole."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from protclip.data.corpus.store import Corpus, write_corpus
from protclip.data.files.fasta import read_fasta, read_fasta_span
from protclip.data.files.members import members
from protclip.data.files.spans import FileList, Span, corpus_rows, is_corpus, parse_shard
from protclip.errors import ConfigError, DataError
from protclip.structure import Protein


def plain(records):
    """Records with errors as text, without the place, which differs between a file and its stretch."""
    return [(id, found if isinstance(found, str) else found.message) for id, found in records]


def fasta_text(rng: np.random.Generator, records: int, end: str) -> str:
    lines = []
    for i in range(records):
        lines.append(f">item{i} {'some > words' * int(rng.integers(3))}")
        sequence = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), int(rng.integers(1, 90))))
        width = int(rng.integers(5, 40))
        lines += [sequence[k : k + width] for k in range(0, len(sequence), width)]
        if rng.random() < 0.1:
            lines.append("M1")  # a bad record
        if rng.random() < 0.2:
            lines.append("")
    return end.join(lines) + (end if rng.random() < 0.5 else "")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("seed", range(8))
def test_every_fasta_record_is_in_one_shard(tmp_path, seed, end):
    rng = np.random.default_rng(seed)
    for k in range(3):
        (tmp_path / f"{k}.fasta").write_bytes(fasta_text(rng, int(rng.integers(1, 12)), end).encode())
    files = sorted(tmp_path.iterdir())
    whole = [row for path in files for row in plain(read_fasta(path, on_error="yield"))]
    for count in (1, 2, 3, 7, 50, 3000):
        shards = [FileList(tmp_path, files).shard(n + 1, count) for n in range(count)]
        found = [row for shard in shards for span in shard.spans for row in plain(read_fasta_span(span))]
        assert found == whole


def test_compressed_and_old_mac_files_belong_to_their_first_byte(tmp_path):
    text = "".join(f">r{i}\nMKV\n" for i in range(20))
    (tmp_path / "a.fasta.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "b.fasta").write_bytes(text.replace("\n", "\r").encode())
    for path in sorted(tmp_path.iterdir()):
        spans = [shard.spans[0] for shard in (FileList(path, [path]).shard(n, 3) for n in (1, 2, 3))]
        assert [len(list(read_fasta_span(span))) for span in spans] == [20, 0, 0]


def archives(tmp_path: Path, rng: np.random.Generator) -> dict[str, Path]:
    entries = [(f"deep/f{i}.pdb", rng.bytes(int(rng.integers(0, 3000)))) for i in range(30)]
    paths = {}
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tar.xz", "w:xz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            tar.add(tmp_path, "deep", recursive=False)
            for entry, data in entries:
                info = tarfile.TarInfo(entry)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link.pdb")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        paths[name] = tmp_path / name
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/", "")
        for entry, data in entries:
            archive.writestr(entry, data)
    return {**paths, "a.zip": tmp_path / "a.zip", "entries": entries}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_every_member_is_in_one_shard(tmp_path, name):
    made = archives(tmp_path, np.random.default_rng(1))
    expected = made["entries"]
    for count in (1, 3, 11, 400):
        files = FileList(made[name], [made[name]])
        shards = [files.shard(n + 1, count) for n in range(count)]
        assert [row for shard in shards for span in shard.spans for row in members(span)] == expected


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_damaged_archives_are_refused(tmp_path, name):
    path = archives(tmp_path, np.random.default_rng(2))[name]
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(DataError, match="damaged"):
        list(members(Span.whole(path)))


def test_every_protein_of_a_corpus_is_in_one_shard(tmp_path):
    ca = np.cumsum(np.full((5, 3), 2.0), 0)
    path = tmp_path / "c.h5"
    write_corpus(path, (Protein.from_ca(f"p{i}", "GAVLI", ca) for i in range(37)))
    assert is_corpus(path)
    with Corpus.open(path) as corpus:
        for count in (1, 2, 5, 40, 1000):
            shards = [FileList(path, [path]).shard(n + 1, count) for n in range(count)]
            rows = [i for s in shards for span in s.spans for r in corpus_rows(corpus, span) for i in r]
            assert rows == list(range(37))


def test_shards_are_alike_in_size_and_name_their_cut(tmp_path):
    for i in range(100):
        (tmp_path / f"{i:03d}").write_bytes(bytes(int(np.random.default_rng(i).integers(0, 200))))
    files = FileList(tmp_path, sorted(tmp_path.iterdir()))
    sizes = [sum(s.stop - s.start for s in files.shard(n, 7).spans) for n in range(1, 8)]
    assert max(sizes) - min(sizes) <= 1
    names = {str(files.shard(n, 7)) for n in range(1, 8)}
    assert len(names) == 7
    (tmp_path / "050").write_bytes(bytes(999))
    changed = FileList(tmp_path, sorted(tmp_path.iterdir()))
    assert str(changed.shard(7, 7)) not in names


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/3", "1/2/3"])
def test_bad_shards_are_refused(text):
    with pytest.raises(ConfigError):
        parse_shard(text)


def test_no_files_and_missing_files(tmp_path):
    with pytest.raises(DataError, match="no files"):
        FileList(tmp_path, [])
    with pytest.raises(DataError, match="cannot be read"):
        FileList(tmp_path, [tmp_path / "gone"])
