"""FlyteEval: does a model write Flyte code that runs?

    find_candidates(documents)                 → candidates functions of held-out documents; nothing is run
    prove_items(candidates, observer, …)       → items      those that their mutants prove; `mine_items` does both
    answer_items(model, tokenizer, items, …)   → answers    the code that a model writes in place of the masked part
    grade_answers(items, answers, observer)    → grades     the level that each answer reaches, the lowest first:
                                                            nothing, parses, imports, compiles, runs, outputs, graph

In stored tables a level is called `rung`.

Code from outside this package, originals and answers alike, runs only in the sandbox.
"""

from flyte_llama.flyte_eval.answering import answer_items, read_answers, write_answers
from flyte_llama.flyte_eval.candidates import find_candidates
from flyte_llama.flyte_eval.grading import Grade, grade_answers, read_grades, write_grades
from flyte_llama.flyte_eval.item_cache import describe_machine, mining_key, read_mined, write_mined
from flyte_llama.flyte_eval.items import Item, read_items, write_items
from flyte_llama.flyte_eval.mining import MiningResult, mine_items, prove_items, small_set
from flyte_llama.flyte_eval.observing import LEVELS, can_hide, open_observer

__all__ = [
    "LEVELS",
    "Grade",
    "Item",
    "MiningResult",
    "answer_items",
    "can_hide",
    "describe_machine",
    "find_candidates",
    "grade_answers",
    "mine_items",
    "mining_key",
    "open_observer",
    "prove_items",
    "read_answers",
    "read_grades",
    "read_items",
    "read_mined",
    "small_set",
    "write_answers",
    "write_grades",
    "write_items",
    "write_mined",
]
