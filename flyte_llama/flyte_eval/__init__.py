"""FlyteEval: does a model write Flyte code that runs?

    mine(documents, observer)            → items      held-out functions that their own mutants prove
    answer(model, tokenizer, items, …)   → answers    what a model writes in their place
    grade(items, answers, observer)      → grades     the rung that each reached: parses … runs, outputs, graph

Code that was not read by us, originals and answers alike, runs in the sandbox only.
"""

from flyte_llama.flyte_eval.answering import Answer, answer, read_answers, write_answers
from flyte_llama.flyte_eval.grading import Grade, grade, read_grades, write_grades
from flyte_llama.flyte_eval.items import Item, Mutant, read_items, write_items
from flyte_llama.flyte_eval.mine import Mined, mine
from flyte_llama.flyte_eval.observing import Observer, observer
from flyte_llama.flyte_eval.rungs import RUNGS
from flyte_llama.flyte_eval.small import small_set

__all__ = [
    "RUNGS",
    "Answer",
    "Grade",
    "Item",
    "Mined",
    "Mutant",
    "Observer",
    "answer",
    "grade",
    "mine",
    "observer",
    "read_answers",
    "read_grades",
    "read_items",
    "small_set",
    "write_answers",
    "write_grades",
    "write_items",
]
