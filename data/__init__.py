"""Proteins on the disk: corpora, benchmarks of the downstream tasks, and the files they are read from."""

from typing import TYPE_CHECKING

from protclip.lazy import attach

if TYPE_CHECKING:
    from protclip.data.benchmarks.benchmark_file import Benchmark as Benchmark
    from protclip.data.benchmarks.build_benchmark import build_benchmark as build_benchmark
    from protclip.data.benchmarks.fetch import fetch_benchmark as fetch_benchmark
    from protclip.data.benchmarks.sample import sample_benchmark as sample_benchmark
    from protclip.data.corpus.build import build_corpus as build_corpus
    from protclip.data.corpus.build import sample_corpus_dir as sample_corpus_dir
    from protclip.data.corpus.cath import find_cath as find_cath
    from protclip.data.corpus.releases import fetch_cath as fetch_cath
    from protclip.data.corpus.store import Corpus as Corpus
    from protclip.data.files.fasta import read_fasta as read_fasta
    from protclip.data.files.vector_file import VectorFile as VectorFile

__getattr__, __dir__, __all__ = attach(__name__)
