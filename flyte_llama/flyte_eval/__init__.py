"""FlyteEval: does a model write Flyte code that runs?

    mine_items(documents, observer, …)         → items      functions of held-out documents, each proven by its mutants
    answer_items(model, tokenizer, items, …)   → answers    the code that a model writes in place of the masked part
    grade_answers(items, answers, observer)    → grades     the level that each answer reaches, the lowest first:
                                                            nothing, parses, imports, compiles, runs, outputs, graph

In stored tables a level is called `rung`.

Code from outside this package, originals and answers alike, runs only in the sandbox.
"""

from flyte_llama.flyte_eval.answering import answer_items, read_answers, write_answers
from flyte_llama.flyte_eval.grading import Grade, grade_answers, read_grades, write_grades
from flyte_llama.flyte_eval.items import Item, read_items, write_items
from flyte_llama.flyte_eval.mining import mine_items, small_set
from flyte_llama.flyte_eval.observing import LEVELS, open_observer

__all__ = [
    "LEVELS",
    "Grade",
    "Item",
    "answer_items",
    "grade_answers",
    "mine_items",
    "open_observer",
    "read_answers",
    "read_grades",
    "read_items",
    "small_set",
    "write_answers",
    "write_grades",
    "write_items",
]
