"""The doctor: does a model answer as it should, whatever the family? One line a check, with the number it rests on.

`examine` asks any model; `forwards` holds what rmbench runs to one sequence alone, to padding on the other side and to
the checkpoint's own class; `texts` looks at what template and tokenizer make of a conversation.
"""

from rmbench.doctor.findings import CHECKS, Diagnosis, Finding

__all__ = ["CHECKS", "Diagnosis", "Finding"]
