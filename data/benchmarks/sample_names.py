"""What the classes of the demonstration are called: Gene Ontology, Enzyme Commission and SCOP names."""

from __future__ import annotations

EC = {
    "1.-.-.-": "oxidoreductases",
    "1.1.-.-": "oxidoreductases acting on the CH-OH group of donors",
    "1.1.1.-": "oxidoreductases acting on the CH-OH group of donors, with NAD+ or NADP+ as acceptor",
    "2.-.-.-": "transferases",
    "2.7.-.-": "transferases of phosphorus-containing groups",
    "3.-.-.-": "hydrolases",
    "3.4.-.-": "hydrolases acting on peptide bonds",
    "3.4.21.-": "serine endopeptidases",
}
SCOP = {
    "b.1": "Immunoglobulin-like beta-sandwich",
    "b.47": "Trypsin-like serine proteases",
    "c.2": "NAD(P)-binding Rossmann-fold domains",
    "d.162": "LDH C-terminal domain-like",
    "g.3": "Knottins (small inhibitors, toxins, lectins)",
}
GO = {
    "GO:0002376": "immune system process",
    "GO:0002682": "regulation of immune system process",
    "GO:0004175": "endopeptidase activity",
    "GO:0004252": "serine-type endopeptidase activity",
    "GO:0004888": "transmembrane signaling receptor activity",
    "GO:0005102": "signaling receptor binding",
    "GO:0005126": "cytokine receptor binding",
    "GO:0005576": "extracellular region",
    "GO:0005615": "extracellular space",
    "GO:0005886": "plasma membrane",
    "GO:0006082": "organic acid metabolic process",
    "GO:0006091": "generation of precursor metabolites and energy",
    "GO:0006508": "proteolysis",
    "GO:0006810": "transport",
    "GO:0006887": "exocytosis",
    "GO:0006950": "response to stress",
    "GO:0007154": "cell communication",
    "GO:0007165": "signal transduction",
    "GO:0008233": "peptidase activity",
    "GO:0008236": "serine-type peptidase activity",
    "GO:0009605": "response to external stimulus",
    "GO:0016021": "integral component of membrane",
    "GO:0016192": "vesicle-mediated transport",
    "GO:0016614": "oxidoreductase activity, acting on CH-OH group of donors",
    "GO:0016616": "oxidoreductase activity, acting on the CH-OH group of donors, NAD or NADP as acceptor",
    "GO:0016825": "hydrolase activity, acting on acid phosphorus-nitrogen bonds",
    "GO:0017171": "serine hydrolase activity",
    "GO:0019752": "carboxylic acid metabolic process",
    "GO:0022406": "membrane docking",
    "GO:0023052": "signaling",
    "GO:0031224": "intrinsic component of membrane",
    "GO:0032101": "regulation of response to external stimulus",
    "GO:0032501": "multicellular organismal process",
    "GO:0032940": "secretion by cell",
    "GO:0038023": "signaling receptor activity",
    "GO:0043436": "oxoacid metabolic process",
    "GO:0046903": "secretion",
    "GO:0048518": "positive regulation of biological process",
    "GO:0048583": "regulation of response to stimulus",
    "GO:0051179": "localization",
    "GO:0051234": "establishment of localization",
    "GO:0051640": "organelle localization",
    "GO:0051641": "cellular localization",
    "GO:0051716": "cellular response to stimulus",
    "GO:0060089": "molecular transducer activity",
    "GO:0065008": "regulation of biological quality",
    "GO:0070011": "peptidase activity, acting on L-amino acid peptides",
    "GO:0071944": "cell periphery",
    "GO:0080134": "regulation of response to stress",
    "GO:0098772": "molecular function regulator",
    "GO:0098796": "membrane protein complex",
    "GO:0140096": "catalytic activity, acting on a protein",
    "GO:0140352": "export from cell",
}


def class_name(task: str, name: str) -> str:
    """Name of a class of the demonstration, empty where none is on record.

    Examples
    --------
    >>> class_name("go-bp", "GO:0006508"), class_name("ec", "3.4.21.-")
    ('proteolysis', 'serine endopeptidases')
    """
    return {"fold": SCOP, "reaction": EC, "ec": EC}.get(task, GO).get(name, "")
